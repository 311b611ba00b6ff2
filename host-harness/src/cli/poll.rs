//! `poll`: one poll of each scope, now, with or without a state.

use std::io;
use std::path::Path;
use std::time::Instant;

use host_harness::collector::once::{self, Output};
use host_harness::collector::work::Pipeline;
use host_harness::config::admission::Checked;
use host_harness::config::{self, Config, StateConfig, event_files};
use host_harness::environment;
use host_harness::limits;
use host_harness::run;
use host_harness::run::sharing::Sharing;
use host_harness::sink::{SinkTrouble, Stdout};
use source_host::clock::{self, Clock};
use source_host::plugin::engine::Host;

use crate::cli::output::People;
use crate::cli::{UsageError, check};

/// Polls each scope once, and writes the events.
pub async fn poll(host: &Host, config: Config, plugin: Option<&Path>) -> anyhow::Result<once::Report> {
    let (clock, begun) = (clock::system(), Instant::now());
    let checked = check(host, config, plugin).await?;
    let feeds = once::open(&checked, &clock).await?;
    let output = Output { events: &mut io::stdout(), people: &mut People };
    let mut report = once::poll(&feeds, &clock, output).await?;
    report.failed += checked.left_out.len();
    say!("{}", report.outcome(begun.elapsed()));
    Ok(report)
}

/// Reads the place of a state: a file, or the address of a database. The one that the configuration names comes with the
/// password and the certificates that it has there.
pub fn state(text: &str, config: &Config) -> Result<StateConfig, UsageError> {
    let place = config::place(text, &environment::text).map_err(|words| UsageError(format!("--state: {words}")))?;
    let is_configured = place.file().is_none() && place.to_string() == config.collector.state.to_string();
    Ok(if is_configured { config.collector.state.clone() } else { place })
}

/// Runs one tick of the collector, with `stdout` as the standard output of its sinks. Events that cannot be delivered
/// in time stay in the outbox, and count as a failure.
pub async fn tick(
    host: &Host,
    mut config: Config,
    plugin: Option<&Path>,
    state: &StateConfig,
    clock: &Clock,
    stdout: Stdout,
) -> anyhow::Result<once::Report> {
    if let Some(file) = state.file() {
        event_files::keep_off_state(&mut config, file);
    }
    let (sinks, budgets) = (std::mem::take(&mut config.sinks), config.collector.budgets);
    let checked = check(host, config, plugin).await?;
    let store = run::store(state).await?;
    let sharing = Sharing::join_once(&store, &checked.feeds).await;
    let joined = sharing.joined();
    let (mut sharing, ()) = sharing.or_leave(joined).await?;
    // The polls may take longer than a lease.
    sharing.keep();
    let opened = (store, &sharing.shards);
    let opened = run::pipeline(opened, budgets, &sinks, &checked.network, clock, stdout).await;
    let (sharing, pipeline) = sharing.or_leave(opened).await?;
    let report = once_with(&checked, &pipeline).await;
    sharing.leave().await;
    pipeline.close().await;
    report
}

/// Polls each scope once, and gives the sinks time to take the events.
async fn once_with(checked: &Checked, pipeline: &Pipeline) -> anyhow::Result<once::Report> {
    let feeds = once::open(checked, &pipeline.clock).await?;
    let output = Output { events: &mut io::sink(), people: &mut People };
    let mut report = once::tick(&feeds, pipeline, output).await?;
    report.failed += checked.left_out.len();
    let delivered = tokio::time::timeout(limits::POLL_WAIT, pipeline.deliveries.rest()).await;
    if let Some(why) = pipeline.deliveries.closed() {
        return Err(io::Error::new(why.kind(), why).into());
    }
    if delivered.is_err() {
        for ((sink, tenant), waiting) in pipeline.deliveries.waiting() {
            let (events, seconds) = (waiting.events, limits::POLL_WAIT.as_secs());
            let why = pipeline
                .deliveries
                .trouble(&sink, &tenant)
                .map(|SinkTrouble { code, blame, why }| format!(": {why} ({code}, {blame})"));
            say!(
                "error: sink {sink}: {events} events of tenant {tenant} were not delivered within {seconds} s{}\n  \
                 fix: they stay in {} until the next `poll` or `run` that uses this state",
                why.unwrap_or_default(),
                pipeline.store.place()
            );
            report.waiting += events;
        }
    }
    Ok(report)
}
