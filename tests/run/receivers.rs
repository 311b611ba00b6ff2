//! Receivers that refuse, or are down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::check_metrics;
use crate::support::process::{Scene, get, lines};
use crate::support::receiver::{Receiver, Reply};

/// Returns a configuration with a page, and with a sink that posts to a receiver.
fn posting(receiver: &Receiver, more: &str) -> String {
    let listen = "[collector]\nlisten = \"127.0.0.1:0\"\n";
    format!("{listen}[[sink]]\nid = \"siem\"\ntype = \"http\"\nurl = \"{}/{{tenant}}\"\n{more}", receiver.url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_refuses_every_event_is_one_warning() {
    let scene = Scene::new().await;
    let receiver = Receiver::start(|number, _| Reply::Status(400, format!("{{\"request\": {number}}}"))).await;
    scene.write(&posting(&receiver, ""));
    let mut process = scene.run(&[]);
    let address = process.address();
    let letters = scene.folder.path().join("dead-letters-siem.ndjson");
    lines(&letters, 30);
    let page = get(&address, None).await.1;
    for part in ["15 dead letters", "dead-letters-siem.ndjson", "answered 400 Bad Request", "receiver can mend it"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let metrics = get(&format!("{address}/metrics?by=feed"), None).await.1;
    check_metrics(&metrics);
    let line = "collector_sink_dead_letters_total{sink=\"siem\",tenant=\"tenant-1\"} 15";
    assert!(metrics.lines().any(|known| known == line), "{line} in {metrics}");
    scene.write(&posting(&receiver, "gzip = false\n"));
    process.hears("loaded the configuration");
    let said: Vec<&String> = process.heard.iter().filter(|line| line.contains("refused for good")).collect();
    let [said] = said[..] else { panic!("{said:#?}") };
    for part in ["WARN", "sink=\"siem\"", "code=\"answered-400\"", "fault=\"receiver\"", "dead-letters-siem.ndjson"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_is_one_warning_for_all_tenants_and_attempts() {
    let scene = Scene::new().await;
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let receiver = Receiver::start(move |number, _| match up.load(Ordering::SeqCst) {
        true => Reply::Status(200, String::new()),
        false => Reply::Status(503, format!("try {number} another time")),
    })
    .await;
    // The outbox is full with the first event, so that both tenants pause.
    scene.write(&posting(&receiver, "max_outbox_bytes = 1\n[feed_defaults]\ninterval = \"1s\"\n"));
    let mut process = scene.run(&[]);
    let address = process.address();
    receiver.until(6).await;
    let page = get(&address, None).await.1;
    for part in ["answered-503", "tried again ", "outbox full", "when siem takes events", "receiver can mend it"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let metrics = get(&format!("{address}/metrics?by=feed"), None).await.1;
    assert!(metrics.lines().any(|line| line == "collector_sink_full_outboxes{sink=\"siem\"} 2"), "{metrics}");
    is_up.store(true, Ordering::SeqCst);
    process.hears("the outbox has room again");
    process.hears("delivers again");
    for words in ["a delivery failed", "the outbox is full"] {
        let said: Vec<&String> = process.heard.iter().filter(|line| line.contains(words)).collect();
        let [said] = said[..] else { panic!("{words}: {said:#?}") };
        assert!(said.contains("WARN") && said.contains("fault=\"receiver\""), "{said}");
    }
}
