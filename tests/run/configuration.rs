//! Configurations that `run` accepts or refuses, at its start and when they change.

use std::collections::BTreeSet;
use std::fs;

use source_simulator::Simulator;
use source_simulator::estate::Estate;

use super::FILE_SINK;
use crate::support::process::{Scene, get, lines};

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_and_a_signal_take_another_configuration_and_a_bad_one_is_not_taken() {
    let scene = Scene::new().await;
    scene.write(&format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}"));
    let mut process = scene.run(&[]);
    lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
    scene.write("[[sinks]]\n");
    process.signal("HUP");
    let refused = process.hears("is not accepted");
    assert!(refused.contains("collector.toml:1: sinks: unknown key"), "{refused}");
    assert!(refused.contains("fault=\"operator\""), "who wrote it mends it: {refused}");
    scene.write("[[sink]]\nid = \"lake\"\ntype = \"file\"\npath = \"elsewhere/{tenant}.ndjson\"\n");
    process.hears("loaded the configuration of 2 feeds");
    scene.simulator.with(|world| world.estate.tenants[1].subscriptions[0].controls[0].unhealthy += 50);
    scene.write("[[sink]]\nid = \"lake\"\ntype = \"file\"\npath = \"elsewhere/{tenant}.ndjson\"\n[feed_defaults]\ninterval = \"1s\"\n");
    process.signal("HUP");
    let warned = process.heard.len();
    assert!(process.hears("1s is short").contains("fault=\"operator\""));
    process.hears("loaded the configuration of 2 feeds");
    let short = process.heard[warned..].iter().filter(|line| line.contains("1s is short")).count();
    assert_eq!(short, 1, "both feeds have it from the same line");
    let events = lines(&scene.folder.path().join("elsewhere/tenant-2.ndjson"), 2);
    assert!(events.iter().all(|event| event["activity_id"] == 2), "{events:?}");
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_of_a_configuration_is_told_at_once_with_status_2() {
    let scene = Scene::new().await;
    let folder = scene.folder.path().join("conf");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.toml"), scene.text("[[sink]]\nid = \"nobody\"\ntype = \"file\"\npath = \"x\"\n")).unwrap();
    fs::write(
        folder.join("b.toml"),
        "[[sink]]\nid = \"lake\"\ntype = \"stdout\"\n\
         [[feed]]\nid = \"tenant-1-scores\"\ntenant = \"t\"\ninterval = \"soon\"\nsinks = []\n[feed.settings]\n\
         [[feed]]\nid = \"c\"\ntenant = 5\nsinks = [\"lake\"]\nextra = 1\n[feed.settings]\nclient_secret = { env = \"NOBODY\" }\n\
         [[feed]]\nid = \"d\"\ntenant = \"t\"\nsinks = [\"lake\"]\n[feed.settings]\nclient_secret = { file = \"no-such\" }\n\
         [[feed]]\nid = \"e\"\ntenant = \"t\"\nsinks = [\"lake\"]\n[feed.settings]\nclient_key = \"k\"\n",
    )
    .unwrap();
    fs::write(scene.folder.path().join("conf/ca.pem"), scene.simulator.ca_pem()).unwrap();
    let output = scene.command(&["run", "-c", "conf"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8_lossy(&output.stderr);
    for expected in [
        "conf/b.toml:5: feed[0].id: found \"tenant-1-scores\" a second time, the first is at conf/a.toml:",
        "conf/b.toml:7: feed[0].interval: found \"soon\", expected a duration",
        "conf/b.toml:8: feed[0].sinks: found an empty list, expected the id of a [[sink]]",
        "conf/b.toml:12: feed c: tenant: found 5, expected an id",
        "conf/b.toml:14: feed c: extra: unknown key",
        "conf/b.toml:16: feed c: settings.client_secret: found no variable NOBODY",
        "conf/b.toml:22: feed d: settings.client_secret: cannot read conf/no-such",
        "conf/b.toml:28: feed e: settings.client_key: found `k`",
        "feed e: settings.client_secret",
    ] {
        assert!(said.contains(expected), "{expected} in\n{said}");
    }
    assert!(said.lines().all(|line| line.starts_with("error: conf/")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_feeds_on_one_scope_are_a_warning() {
    let scene = Scene::new().await;
    let file = scene.write(FILE_SINK);
    let text = fs::read_to_string(&file).unwrap();
    let again = text[text.find("[[feed]]").unwrap()..].split("[[feed]]").nth(1).unwrap().to_owned();
    fs::write(&file, format!("{text}\n[[feed]]{}", again.replace("tenant-1-scores", "again"))).unwrap();
    let mut process = scene.run(&[]);
    process.hears("polls this scope too");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_with_one_application_sign_in_once_over_connections_of_their_own() {
    const TENANTS: usize = 12;
    let mut scene = Scene::new().await;
    let estate = Estate::sized(1, TENANTS as u32);
    scene.simulator = Simulator::start(([127, 0, 0, 1], 0).into(), estate, None).await.unwrap();
    fs::write(scene.folder.path().join("ca.pem"), scene.simulator.ca_pem()).unwrap();
    let (text, secrets) = scene.simulator.configuration("ca.pem");
    scene.secrets = secrets;
    scene.simulator.with(|world| world.watch());
    // Makes a feed and a tenant of each subscription of the one feed with all subscriptions.
    let (network, feed) = text.split_once("[[feed]]").unwrap();
    let list = &feed[feed.find("subscription_id").unwrap()..].lines().next().unwrap().to_owned();
    let subscriptions: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert_eq!(subscriptions.len(), TENANTS);
    let feeds = subscriptions.iter().enumerate().map(|(number, subscription)| {
        let feed = feed.replace(list, &format!("subscription_id = {subscription:?}"));
        let feed = feed.replace("\"tenant-1-scores\"", &format!("\"scores-{number}\""));
        format!("[[feed]]{}", feed.replace("\"tenant-1\"", &format!("\"customer-{number}\"")))
    });
    let collector = format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}");
    let text = format!("{collector}{network}{}", feeds.collect::<String>());
    fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    let mut process = scene.run(&[]);
    let address = process.address();
    for number in 0..TENANTS {
        lines(&scene.folder.path().join(format!("out/customer-{number}.ndjson")), 15);
    }
    let (sign_ins, visits) = scene.simulator.with(|world| (world.sign_ins().count(), world.visits().to_vec()));
    assert_eq!(sign_ins, 1);
    let connections: BTreeSet<usize> = visits.iter().map(|visit| visit.connection).collect();
    assert!(connections.len() >= TENANTS, "{visits:?}");
    let requests = get(&format!("{address}/metrics?by=feed"), None).await.1;
    let requests = requests.lines().filter(|line| line.starts_with("collector_requests_total"));
    let sent: u64 = requests.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert_eq!(sent, visits.len() as u64);
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_does_not_warn_of_a_question_of_its_own() {
    let scene = Scene::new().await;
    let all =
        |line: &str| if line.starts_with("subscription_id") { "subscription_id = \"*\"\n" } else { line }.to_owned();
    let text: String = scene.text("").split_inclusive('\n').map(all).collect();
    fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    let output = scene.command(&["inspect", "-c", "collector.toml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), ""));
    assert!(String::from_utf8_lossy(&output.stdout).contains("each scope that the service names"));
}
