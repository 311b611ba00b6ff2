//! A collector with many feeds, in a process of its own: the cost of its polls, its memory and its lateness.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use host_harness::limits;
use serde::{Deserialize, Serialize};
use source_host::Transport;

use crate::blocks;
use crate::input;
use crate::process;
use crate::scale::stage::{LONGEST, ORIGIN, Service, Skipping, Stage};

/// Subscriptions of a tenant, each with its own feed.
const FEEDS_OF_TENANT: usize = 20;

/// Controls of each subscription: one, so that the first polls of a hundred thousand take minutes.
const CONTROLS: u32 = 1;

/// Polls of which the processor time is the mean.
const POLLS: u64 = 2_000;

/// The figures of a collector with many feeds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scaled {
    /// Microseconds of processor time a poll in which nothing changed, without the service's.
    pub poll: f64,
    /// Elapsed microseconds of the transaction of such a poll.
    pub transaction: f64,
    /// Resident bytes while all feeds wait, each polled once.
    pub resident: f64,
    /// The 99th percentile of the lateness of the feeds' last polls, in milliseconds.
    pub lateness: f64,
}

/// The bytes that a poll in flight takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InFlight {
    pub resident: f64,
}

/// Polls each feed once, and then measures.
pub async fn scaled(feeds: usize) -> Result<Scaled, String> {
    let mut stage = stage(feeds, CONTROLS).await?;
    stage.drive(feeds as u64).await?;
    stage.rest().await;
    let resident = process::own_resident_bytes()?;
    let (polls, processor, service) = (stage.service.polls(), blocks::time(), stage.service.spent());
    stage.drive(polls + POLLS).await?;
    let (polls, service) = (stage.service.polls() - polls, stage.service.spent() - service);
    let poll = (blocks::time() - processor).saturating_sub(service).as_secs_f64() * 1e6 / polls as f64;
    stage.rest().await;
    let lateness = stage.lateness()?;
    let transaction = stage.transaction().await.map_err(|error| error.to_string())?;
    stage.pipeline.close().await;
    Ok(Scaled { poll, transaction, resident, lateness })
}

/// Holds back the answers to many polls, and measures the memory of these polls.
pub async fn in_flight() -> Result<InFlight, String> {
    let polls = limits::POLLS;
    let mut stage = stage(4 * polls, input::CONTROLS).await?;
    stage.drive(4 * polls as u64).await?;
    stage.rest().await;
    let before = process::own_resident_bytes()?;
    stage.service.is_open.send_replace(false);
    // Feeds of many tenants become due at once.
    stage.clock.skip_to((stage.clock.read)() + INTERVAL_MILLISECONDS);
    let begun = Instant::now();
    while stage.service.waiting.load(Ordering::SeqCst) < polls {
        if begun.elapsed() > LONGEST {
            let waiting = stage.service.waiting.load(Ordering::SeqCst);
            return Err(format!("{waiting} polls wait for an answer after {LONGEST:?}, expected {polls}"));
        }
        stage.collector.start_due();
        let _ = tokio::time::timeout(Duration::from_millis(20), stage.collector.ended()).await;
    }
    let resident = (process::own_resident_bytes()? - before) / polls as f64;
    stage.service.is_open.send_replace(true);
    stage.collector.stop(Duration::from_secs(60)).await;
    stage.pipeline.close().await;
    Ok(InFlight { resident })
}

/// The interval of all feeds.
const INTERVAL_MILLISECONDS: u64 = 3_600_000;

/// Returns a collector with so many feeds, whose subscriptions have so many controls each.
async fn stage(feeds: usize, controls: u32) -> Result<Stage, String> {
    let service = Arc::new(Service::new(controls));
    let transport = Arc::clone(&service) as Arc<dyn Transport>;
    Stage::start(Skipping::new(), &configuration(feeds), (service, transport)).await
}

/// Returns the configuration: 20 feeds of each tenant, each with one subscription.
fn configuration(feeds: usize) -> String {
    let mut text = format!("[network]\nallow = [\"{ORIGIN}\"]\n[feed_defaults]\ninterval = \"1h\"\n");
    for feed in 0..feeds {
        let (tenant, which) = (feed / FEEDS_OF_TENANT + 1, feed % FEEDS_OF_TENANT);
        text += &format!(
            "[[feed]]\nid = \"tenant-{tenant}-{which}\"\ntenant = \"tenant-{tenant}\"\n[feed.settings]\n\
             client_key = \"{tenant:08x}-a991-4c3f-8d27-000000000001\"\nclient_secret = \"the-secret-of-{tenant}\"\n\
             token_url = \"{tenant:08x}-7e4a-4b1d-9c55-000000000001\"\nauthority = \"{ORIGIN}\"\nendpoint = \"{ORIGIN}\"\n\
             audience = \"{ORIGIN}\"\nsubscription_id = \"{tenant:08x}-{which:04x}-4f6b-b1d0-{tenant:012x}\"\n"
        );
    }
    text
}
