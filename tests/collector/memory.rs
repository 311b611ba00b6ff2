//! The memory of feeds and scopes that wait. The test counts bytes of the heap, which do not depend on the machine.

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

/// Scopes of the smaller one of two feeds; the larger one has twice as many. A million scopes fill the tables to the same
/// part.
const SCOPES: u32 = 122;

/// The expected bytes of one more scope of a feed. Before its first search, a feed knows no scope.
const EXPECTED_OF_SCOPE: [(&str, i64); 2] =
    [("of one more scope, after its first poll", 597), ("of one more scope, after a restart", 591)];

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
    feeds_of_one(FEEDS_OF_TENANT).await;
    let (few, many) = (feeds_of_one(FEEDS).await, feeds_of_one(2 * FEEDS).await);
    let (small, large) = (feed_of(SCOPES).await, feed_of(2 * SCOPES).await);
    let found = |few: i64, many: i64, of: u32| (many - few) / i64::from(of);
    let of_feed = EXPECTED.iter().zip((0..).map(|at| found(few[at], many[at], FEEDS)));
    let of_scope = EXPECTED_OF_SCOPE.iter().zip((1..).map(|at| found(small[at], large[at], SCOPES)));
    let rows: Vec<String> = of_feed
        .chain(of_scope)
        .map(|((name, expected), found)| {
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

/// Returns the bytes that a collector holds with this many feeds, each with one scope.
async fn feeds_of_one(feeds: u32) -> [i64; EXPECTED.len()] {
    let scene = Scene::new(Estate::sized(feeds / FEEDS_OF_TENANT, FEEDS_OF_TENANT));
    let tables = (0..feeds).map(|feed| {
        let (tenant, which) = (feed / FEEDS_OF_TENANT, feed % FEEDS_OF_TENANT);
        scene.feed(&format!("tenant-{tenant}-{which}"), tenant as usize, &list(&[subscription(tenant, which)]), "")
    });
    let text = tables.collect::<String>();
    held_by(&scene, &text).await
}

/// Returns the bytes that a collector holds with one feed that finds this many scopes.
async fn feed_of(scopes: u32) -> [i64; EXPECTED.len()] {
    let scene = Scene::new(Estate::sized(1, scopes));
    let text = scene.feed("all", 0, "\"*\"", "");
    held_by(&scene, &text).await
}

/// Returns the bytes that a collector with these feeds holds at the moments of [`EXPECTED`].
async fn held_by(scene: &Scene, feeds: &str) -> [i64; EXPECTED.len()] {
    let text = format!("{NETWORK}{feeds}");
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
