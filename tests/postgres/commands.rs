//! `poll --state` and `status` with a state in a database.

use std::sync::Arc;

use host_harness::store::Store;
use host_harness::store::fleet::FleetStore;
use host_harness::store::shards::shard_of;
use serde_json::Value;
use source_simulator::estate::Estate;

use super::{all, open, poll};
use crate::support::postgres::Server;
use crate::support::process::Scene;

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
