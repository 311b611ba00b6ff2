//! The memory of feeds that wait. The test counts bytes of the heap, which do not depend on the machine.

use std::process::Command;
use std::sync::Arc;

use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportFuture};
use source_simulator::answer;
use source_simulator::estate::Estate;

use super::scene::{HOUR, NETWORK, Scene, Service, list, subscription};
use crate::support::stage::{Secrets, Stage};
use crate::support::{NOON, allocations, asked};

/// The name of the test, for a process of its own.
const NAME: &str = "collector::memory::a_feed_that_waits_takes_no_more_memory_than_it_did";

/// Subscriptions of a tenant, each with its own feed.
const FEEDS_OF_TENANT: u32 = 20;

/// Feeds of the smaller collector; the larger one has twice as many, so that the tables of both are equally full. Ten
/// thousand feeds fill the tables to the same part.
const FEEDS: u32 = 40;

/// The expected bytes of one feed with one scope. A number that grows by more than a tenth fails the test. One that
/// shrinks by more than a tenth fails it, too: write the new number here, so that the gain is kept.
const EXPECTED: [(&str, i64); 3] = [
    ("before the first poll", 1_224),
    ("after the first poll", 1_839),
    ("after a restart, before the next poll", 1_981),
];

#[tokio::test]
async fn a_feed_that_waits_takes_no_more_memory_than_it_did() {
    if !std::env::args().any(|argument| argument == "--exact") {
        // Other tests of the same process would be counted, too.
        let alone = Command::new(std::env::current_exe().unwrap()).args(["--exact", NAME, "--nocapture"]).output();
        let alone = alone.unwrap();
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
        return;
    }
    // The first collector fills what all collectors of a process share.
    held_by(FEEDS_OF_TENANT).await;
    let (few, many) = (held_by(FEEDS).await, held_by(2 * FEEDS).await);
    let rows: Vec<String> = EXPECTED
        .iter()
        .zip(few.iter().zip(many))
        .map(|((name, expected), (few, many))| {
            let found = (many - few) / i64::from(FEEDS);
            let is_near = (expected * 9 / 10..=expected * 11 / 10).contains(&found);
            format!("{name}: {found} bytes, expected {expected}{}", if is_near { "" } else { "  <- beyond a tenth" })
        })
        .collect();
    let rows = rows.join("\n");
    assert!(!rows.contains("<-"), "{rows}");
}

/// The simulated service, without the list of requests that it received.
struct Forgetful(Arc<Service>);

impl Transport for Forgetful {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let answer::Answer { status, headers, body, .. } = self.0.world.lock().answer(&asked(&request));
        Box::pin(std::future::ready(Ok(IncomingResponse { status, headers, body })))
    }
}

/// Returns the bytes that a collector with this many feeds holds at the moments of [`EXPECTED`].
async fn held_by(feeds: u32) -> [i64; EXPECTED.len()] {
    let scene = Scene::new(Estate::sized(feeds / FEEDS_OF_TENANT, FEEDS_OF_TENANT));
    let tables = (0..feeds).map(|feed| {
        let (tenant, which) = (feed / FEEDS_OF_TENANT, feed % FEEDS_OF_TENANT);
        scene.feed(&format!("tenant-{tenant}-{which}"), tenant as usize, &list(&[subscription(tenant, which)]), "")
    });
    let text = format!("{NETWORK}{}", tables.collect::<String>());
    let (file, secrets) = (scene.file(), Secrets::new());
    let transport: Arc<dyn Transport> = Arc::new(Forgetful(Arc::clone(&scene.service)));
    let empty = allocations::held();
    let mut stage = Stage::start(&file, &text, &secrets, &scene.now, Arc::clone(&transport)).await;
    let before = allocations::held() - empty;
    stage.run_until(NOON + HOUR / 4).await;
    stage.told().await;
    stage.collector.sweep();
    let after = allocations::held() - empty;
    stage.end().await;
    let empty = allocations::held();
    let stage = Stage::start(&file, &text, &secrets, &scene.now, transport).await;
    let again = allocations::held() - empty;
    stage.end().await;
    [before, after, again]
}
