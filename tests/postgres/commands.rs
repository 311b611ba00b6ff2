//! `poll --state` and `status` with a state in a database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use host_harness::store::Store;
use host_harness::store::fleet::FleetStore;
use host_harness::store::shards::shard_of;
use serde_json::Value;
use source_host::digest::ShortDigest;
use source_simulator::estate::Estate;

use super::tables::signed;
use super::{all, open, poll};
use crate::support::PATIENCE;
use crate::support::hostile::hostile_bytes;
use crate::support::postgres::Server;
use crate::support::process::{Process, Scene, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_shares_a_database_with_other_collectors_and_status_lists_them() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let scene = Scene::of(Estate::sized(2, 1)).await;
    scene.write(&format!(
        "[collector]\nstate = \"{url}\"\n[[sink]]\nid = \"file\"\ntype = \"file\"\npath = \"events.ndjson\"\n"
    ));
    let run = |arguments: &[&str]| {
        let output = scene.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let events = || {
        let text = std::fs::read_to_string(scene.folder.path().join("events.ndjson")).unwrap_or_default();
        text.lines().count()
    };
    let (status, _, said) = run(&["poll", "collector.toml", "--state", &url]);
    assert_eq!(status, Some(0), "{said}");
    let first = events();
    assert!(first > 4, "{first} events");
    // It took the shards of its tenants alone.
    let superuser = server.superuser(&database).await;
    let taken =
        superuser.query("SELECT shard FROM host_harness.shard WHERE epoch > 0 ORDER BY shard", &[]).await.unwrap();
    let taken: Vec<u16> = taken.iter().map(|row| row.get::<_, i16>(0) as u16).collect();
    let mut own = ["tenant-1", "tenant-2"].map(|tenant| shard_of(tenant, 256));
    own.sort_unstable();
    assert_eq!(taken, own);
    let (status, _, said) = run(&["poll", "collector.toml", "--state", &url]);
    assert_eq!((status, events()), (Some(0), first), "nothing has changed: {said}");
    let (status, _, said) = run(&["poll", "collector.toml", "--state", "postgres://me@127.0.0.1"]);
    assert_eq!(status, Some(2));
    assert!(said.contains("--state: found an address without a database"), "{said}");
    let (status, shown, said) = run(&["status", "collector.toml"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(shown.contains("no collector runs"), "{shown}");

    let store = open(&url).await.unwrap();
    assert_eq!(all(&store, "one").await.len(), 256);
    let (status, _, said) = run(&["poll", "collector.toml", "--state", &url]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("another collector, which shares the state, works on the tenant"), "{said}");
    let (_, shown, _) = run(&["status", "collector.toml"]);
    let line = shown.lines().find(|line| line.starts_with("machine of one")).unwrap_or_default();
    assert!(line.contains("1.0.0") && line.contains(" ago") && line.contains(" 256 "), "{shown}");
    let objects = || -> Vec<Value> {
        let (_, shown, _) = run(&["status", "collector.toml", "--json"]);
        let objects = shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        objects.filter(|object| object["collector"].is_string()).collect()
    };
    let living = objects();
    assert_eq!((living.len(), living[0]["alive"].as_bool()), (1, Some(true)), "{living:?}");
    assert_eq!(living[0]["shards"].as_array().unwrap().len(), 256);
    assert!(living[0]["started"].is_string() && living[0]["last_taken"].is_string(), "{living:?}");
    superuser
        .batch_execute("UPDATE host_harness.collector SET heartbeat = heartbeat - interval '1 minute'")
        .await
        .unwrap();
    let dead = objects();
    assert_eq!((dead[0]["alive"].as_bool(), dead[0]["shards"].as_array().unwrap().len()), (Some(false), 0));
    assert_eq!(dead[0]["left_shards"].as_array().unwrap().len(), 256);
    let (_, shown, _) = run(&["status", "collector.toml"]);
    let line = shown.lines().find(|line| line.starts_with("machine of one")).unwrap_or_default();
    assert!(line.contains("silent for ") && line.contains(" 256 left "), "{line}\n{shown}");
    let (_, shown, _) = run(&["status", "collector.toml", "--tenant", "tenant-1"]);
    assert!(shown.trim_end().lines().last().unwrap().starts_with("tenant-1: shard "), "{shown}");
    FleetStore::leave(&store, &super::member("one").id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_tells_of_events_for_sinks_that_it_lacks_when_it_takes_over_their_shards() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let scene = Scene::of(Estate::sized(2, 1)).await;
    scene.write(&format!("[collector]\nstate = \"{url}\"\n"));
    let store = open(&url).await.unwrap();
    let leases = all(&store, "one").await;
    let shard = shard_of("tenant-1", FleetStore::shards(&store));
    let record = poll(leases[usize::from(shard)], "tenant-1", "tenant-1-scores", "scope", &["x", "y"]);
    store.commit(Arc::new(record)).await.unwrap();
    let mut process = scene.run(&[]);
    process.hears("collecting 2 feeds");
    FleetStore::leave(&store, &super::member("one").id).await.unwrap();
    process.hears("2 events wait for the sink lake, which is not configured any more; they stay until it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_the_page_tell_of_a_database_that_is_away() {
    let server = Server::start("fsync = off");
    let database = server.database().await;
    let scene = Scene::of(Estate::sized(2, 1)).await;
    let url = server.url(&database, &database);
    scene.write(&format!("[collector]\nstate = \"{url}\"\nlisten = \"127.0.0.1:0\"\n"));
    let mut process = scene.run(&[]);
    let address = process.address();
    let answers = async |status: u16| {
        while get(&format!("{address}/readyz"), None).await.0 != status {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answers(200)).await.expect("it is ready");
    let port = server.port;
    let folder = server.crash();
    tokio::time::timeout(PATIENCE, answers(503)).await.expect("it is told");
    let page = get(&address, None).await.1;
    assert!(
        page.contains("this collector cannot renew its leases") && !page.contains("Nothing needs a person"),
        "{page}"
    );
    let _server = Server::again(folder, port);
    tokio::time::timeout(PATIENCE, answers(200)).await.expect("it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_whose_feeds_come_late_describes_all_of_them_to_the_others() {
    let server = Server::shared();
    let database = server.database().await;
    let url = server.url(&database, &database);
    let scene = Scene::of(Estate::sized(2, 1)).await;
    let feed = |id: &str| {
        format!(
            "[[feed]]\nid = \"{id}\"\ntenant = \"{id}\"\nplugin = \"/dev/stdin\"\n\
             [feed.settings]\nmode = \"\"\nkey = \"the-key\"\n"
        )
    };
    scene.write(&format!("[collector]\nstate = \"{url}\"\n{}{}", feed("slow"), feed("slower")));
    let (pipe, input) = scene.piped_input();
    let mut command = scene.command(&["run", "-c", "collector.toml"]);
    command.stdin(input);
    let mut process = Process::start(command);
    let superuser = server.superuser(&database).await;
    // Returns the configuration once so many feeds are described, and another configuration than this one.
    let described = async |count: i32, before: &str| {
        let begun = Instant::now();
        loop {
            let text = "SELECT feeds, configuration FROM host_harness.collector";
            let row = superuser.query_one(text, &[]).await.unwrap();
            let (feeds, configuration): (Vec<i32>, String) = (row.get(0), row.get(1));
            let feeds: i32 = feeds.iter().sum();
            if feeds == count && configuration != before {
                return configuration;
            }
            assert!(begun.elapsed() < PATIENCE, "{feeds} feeds, {configuration}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    process.hears("still checking 2 feeds");
    let first = described(2, &ShortDigest::default().to_string()).await;
    std::fs::write(&pipe, hostile_bytes()).unwrap();
    process.hears("added 2 feeds");
    described(4, &first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_moves_and_is_polled_over_tls_with_the_password_and_the_authority_of_the_configuration() {
    let (authority, signed) = signed(&["localhost"]);
    let settings = "fsync = off\nssl = on\nssl_cert_file = 'own.pem'\nssl_key_file = 'own.key'\n";
    // Without TLS, nobody but the superuser gets in.
    let rules = "hostnossl all super all trust\nhostssl all all all scram-sha-256\n";
    let files = [("own.pem", &*signed[0].0), ("own.key", &*signed[0].1), ("pg_hba.conf", rules)];
    let server = Server::with_files(settings, &files);
    let database = server.database().await;
    let superuser = server.superuser(&database).await;
    superuser.batch_execute(&format!("ALTER ROLE {database} PASSWORD 'hunter2'")).await.unwrap();
    let scene = Scene::of(Estate::sized(2, 1)).await;
    std::fs::write(scene.folder.path().join("authority.pem"), authority).unwrap();
    let url = format!("postgres://{database}@localhost:{}/{database}?sslmode=verify-full", server.port);
    let configure = |more: &str| {
        let sink = "[[sink]]\nid = \"file\"\ntype = \"file\"\npath = \"events.ndjson\"\n";
        scene.write(&format!("[collector]\nstate = \"{url}\"\n{more}\n{sink}"))
    };
    let password = "state_password = { env = \"STATE_PASSWORD\" }\n";
    let run = |arguments: &[&str], password: Option<&str>| {
        let mut command = scene.command(arguments);
        command.env_remove("STATE_PASSWORD").envs(password.map(|password| ("STATE_PASSWORD", password)));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let there = ["migrate", "-c", "collector.toml", "--from", "one.db"];
    let refused = |more: &str, given: Option<&str>, status: i32, words: &str| {
        configure(more);
        let (found, said) = run(&there, given);
        assert_eq!(found, Some(status), "{said}");
        assert!(said.contains(words) && !said.contains("hunter"), "{said}");
    };
    let authority = "state_ca_file = \"authority.pem\"\n";
    let both = format!("{password}{authority}");
    configure(&both);
    let (status, said) = run(&["poll", "collector.toml", "--state", "one.db"], Some("hunter2"));
    assert_eq!(status, Some(0), "{said}");
    refused(password, Some("hunter2"), 1, "the TLS of localhost");
    refused(authority, None, 1, &format!("asks for the password of the role {database}, and found none"));
    refused(&both, None, 2, "STATE_PASSWORD");
    refused(&both, Some("hunter3"), 1, &format!("refused the role {database}"));
    let (status, said) = run(&there, Some("hunter2"));
    assert_eq!(status, Some(0), "{said}");
    let row = superuser.query_one("SELECT count(*) FROM host_harness.scope", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
    let events = || std::fs::read_to_string(scene.folder.path().join("events.ndjson")).unwrap();
    let before = events();
    let (status, said) = run(&["poll", "collector.toml", "--state", &url], Some("hunter2"));
    assert_eq!((status, events()), (Some(0), before.clone()), "{said}");
    let (status, said) = run(&["migrate", "-c", "collector.toml", "--to", "two.db"], Some("hunter2"));
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = run(&["poll", "collector.toml", "--state", "two.db"], Some("hunter2"));
    assert_eq!((status, events()), (Some(0), before), "{said}");
}
