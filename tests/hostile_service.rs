//! A malicious service: each case ends in its failure, without leaks and losses, and other scopes are collected.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use host_harness::admitted::tenants::Tenants;
use host_harness::config;
use host_harness::config::admission;
use parking_lot::Mutex;
use source_host::contract::{Batch, Discovery, Event, Failure, Reaction};
use source_host::credentials::redact::Search;
use source_host::credentials::secret::Secret;
use source_host::feed::{Feed, Polled};
use source_host::network::client::Timeouts;
use source_simulator::hostile::{Reaction as Expected, ScriptedService, TABLE};
use source_simulator::{Simulator, estate::Estate};

use crate::security::Table;
use crate::support::{NOON, host, noon};

/// Number of cases that run at the same time.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_case_ends_in_its_failure_and_harms_nobody_else() {
    let wrong = Arc::new(Mutex::new(Vec::new()));
    let cases = stream::iter(TABLE.iter().map(|case| {
        let wrong = Arc::clone(&wrong);
        async move {
            let faults = faults(case).await.into_iter().map(|fault| format!("{}: {fault}", case.name));
            wrong.lock().extend(faults);
        }
    }));
    cases.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    let wrong = wrong.lock();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs a case; returns the differences from the table.
async fn faults(case: &'static ScriptedService) -> Vec<String> {
    let simulator = simulator().await;
    let mut faults = Vec::new();
    let good = feed(&simulator, Timeouts::default()).await;
    let scopes = scopes(&good).await.unwrap().scopes;
    let [sound, struck] = scopes.as_slice() else { panic!("two scopes") };
    let before = good.poll(struck, NOON, None).await.batch.unwrap();
    let told = before.events.len();

    simulator.with(|world| world.scenario = Some(case.name));
    // Only a call that waits in vain gets little time.
    let brief = Timeouts { connect: Duration::from_secs(1), exchange: Duration::from_secs(1) };
    let patience = if case.code == Some("timeout") { brief } else { Timeouts::default() };
    let hostile = feed(&simulator, patience).await;
    let Polled { batch, failure, notices } = hostile.poll(struck, NOON + 1, Some(&before.state)).await;
    let beside = hostile.poll(sound, NOON + 1, None).await;

    let found = failure.as_ref().map(|failure| (failure.code.as_str(), failure.reaction));
    let expected = case.code.map(|code| (code, reaction(case)));
    if found != expected {
        faults.push(format!("expected {expected:?}, found {failure:?}"));
    }
    match (case.is_at_the_door(), &beside.failure) {
        (false, Some(failure)) => faults.push(format!("the scope beside it failed: {failure:?}")),
        (true, None) => faults.push("it strikes everybody, and a scope was collected".to_owned()),
        _ => {}
    }
    let neighbour = self::simulator().await;
    let neighbour = feed(&neighbour, Timeouts::default()).await;
    if neighbour.poll(&self::scopes(&neighbour).await.unwrap().scopes[0], NOON, None).await.failure.is_some() {
        faults.push("a feed beside it failed".to_owned());
    }

    let batch = batch.unwrap_or_else(|| panic!("{}: a failure with a state is told", case.name));
    faults.extend(leaked(&simulator, format!("{failure:?} {notices:?}").into_bytes(), &batch));
    if case.code.is_some() && batch.events.len() > 1 {
        faults.push(format!("{} events of data that was not complete", batch.events.len()));
    }

    // The earlier state is still valid: nothing vanished, and nothing is new.
    simulator.with(|world| world.scenario = None);
    let again = feed(&simulator, Timeouts::default()).await;
    let after = again.poll(struck, NOON + 2, Some(&batch.state)).await.batch.unwrap();
    let closed = after.events.iter().filter(|event| is_new_or_closed(event)).count();
    if after.events.len() >= told || (case.code.is_some() && closed > 1) {
        faults.push(format!("{} events once all is well, {closed} of them new or closed", after.events.len()));
    }
    faults
}

async fn simulator() -> Simulator {
    Simulator::start(([127, 0, 0, 1], 0).into(), Estate::default(), None).await.unwrap()
}

/// Opens the first feed of a simulated service, with its own connections and tokens.
async fn feed(simulator: &Simulator, patience: Timeouts) -> Feed {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, simulator.ca_pem()).unwrap();
    let (text, variables) = simulator.configuration(ca_file.to_str().unwrap());
    let environment = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let config = config::parse(Path::new("test.toml"), &text, Some("contoso-scores"), &environment);
    let checked = admission::check(&host(), config, None, &noon()).await.unwrap();
    let tenants = Tenants::live(checked.network.with_timeouts(patience));
    checked.feeds[0].open(&tenants, &noon()).await.unwrap()
}

/// Returns both scopes of the feed.
async fn scopes(feed: &Feed) -> Result<Discovery, Failure> {
    feed.sign_in().await?;
    feed.discover().await
}

/// Returns the reaction that the table expects of the plugin.
fn reaction(case: &ScriptedService) -> Reaction {
    match case.reaction {
        Expected::FixPlugin => Reaction::FixPlugin,
        Expected::NoData => Reaction::NoData,
        Expected::TryLater => Reaction::TryLater,
    }
}

/// Searches the words of a failure and the results of a poll for a secret.
fn leaked(simulator: &Simulator, mut given: Vec<u8>, batch: &Batch) -> Option<String> {
    let secrets: Vec<Secret> = simulator.with(|world| {
        let tenants = world.estate.tenants.iter().map(|tenant| tenant.client_secret.as_str());
        tenants.chain(world.tokens()).map(Secret::new).collect()
    });
    for event in &batch.events {
        given.extend_from_slice(&event.body);
    }
    given.extend_from_slice(&batch.state);
    let place = Search::new(&secrets).find(&given)?;
    Some(format!("a secret got out: {:?}", String::from_utf8_lossy(&given[place])))
}

/// Whether an event reports a finding as closed, or as new without a reason.
fn is_new_or_closed(event: &Event) -> bool {
    let event: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
    event["activity_id"] == 1 && event["unmapped"]["change"]["reason"].is_null() || event["activity_id"] == 3
}

/// The table in SECURITY.md.
pub fn table() -> Table {
    let rows = TABLE.iter().map(|case| {
        let end = case.code.map_or("collected".to_owned(), |code| format!("`{code}`"));
        vec![format!("`{}`", case.name), case.what.to_owned(), end]
    });
    Table {
        title: "A service that means harm",
        how: "Each row is a scenario of `host-harness simulate`. In each case no output holds a secret, the earlier state stays, \
              another feed is collected, and so is the other scope of the feed unless the scenario strikes at the connection.",
        columns: &["scenario", "the service sends", "result for the scope"],
        rows: rows.collect(),
    }
}
