//! `poll --state`: one poll of each scope, with the collector's state.

use serde_json::Value;

use crate::support::process::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_with_a_state_tells_what_is_new_and_then_nothing() {
    let scene = Scene::new().await;
    scene.write("");
    let poll = || {
        let output = scene.command(&["poll", "-c", "collector.toml", "--state", "poll.db"]).output().unwrap();
        let events: Vec<Value> = output
            .stdout
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!scene.folder.path().join("poll.db-wal").exists(), "the file is whole by itself");
        events
    };
    assert_eq!(poll().len(), 30);
    assert_eq!(poll(), Vec::<Value>::new());
    scene.simulator.with(|world| world.estate.tenants[0].subscriptions[0].controls[0].unhealthy += 50);
    let changed = poll();
    assert_eq!(changed.len(), 2, "the control and its score");
    assert_eq!(changed[0]["unmapped"]["change"]["drivers"][0]["uid"], changed[1]["finding_info"]["uid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_cannot_deliver_says_so_and_keeps_the_events() {
    let scene = Scene::new().await;
    scene.write("[[sink]]\nid = \"down\"\ntype = \"http\"\nurl = \"http://127.0.0.1:9/events\"\n");
    let output = scene.command(&["poll", "-c", "collector.toml", "--state", "poll.db"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("sink down: 15 events of tenant tenant-1 were not delivered"), "{said}");
    assert!(said.contains("http://127.0.0.1:9/events cannot be reached: "), "why, too: {said}");
    assert!(said.contains("(connection-refused, receiver)"), "{said}");
    scene.write("[[sink]]\nid = \"down\"\ntype = \"stdout\"\n");
    let output = scene.command(&["poll", "-c", "collector.toml", "--state", "poll.db"]).output().unwrap();
    assert_eq!(output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count(), 30);
}
