//! `demo`: a day of several tenants of a simulated service.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use host_harness::collector::once::{self, Report};
use host_harness::config::{self, StateConfig};
use host_harness::environment;
use host_harness::terminal;
use parking_lot::Mutex;
use source_host::clock::{self, Clock};
use source_host::limits;
use source_host::plugin::engine::Host;
use source_simulator::day::{self, Moment};
use source_simulator::{Simulator, estate::Estate};

use crate::cli::poll::tick;

/// More events would push the table off the screen.
const EVENTS_SHOWN: usize = 3;

/// Polls at each moment of a simulated day, as `poll --state` does; the day's evening is now. A pipe gets all events; a
/// terminal gets a few of them in a readable form.
pub async fn demo(host: Host, plugin: Option<&Path>) -> anyhow::Result<u8> {
    let estate = Estate::default();
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into(), estate.clone(), None).await?;
    simulator.with(|world| world.more_to_come = true);
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let (ca_file, state) = (folder.path().join("ca.pem"), StateConfig::File(folder.path().join("demo.db")));
    std::fs::write(&ca_file, simulator.ca_pem()).context("failed to write the CA")?;
    let (text, variables) = simulator.configuration(&ca_file.to_string_lossy());
    let values = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    say!("simulated Entra ID and Azure Resource Manager at {}", simulator.url());
    let for_people = io::stdout().is_terminal();
    // A reader may page through the events for any time, and a delivery does not wait for that.
    let held = Arc::new(Mutex::new(Vec::new()));
    let evening = clock::system();
    let mut reports: Vec<Report> = Vec::new();
    for moment in Moment::ALL {
        simulator.with(|world| world.estate = day::at(&estate, moment));
        let config = config::parse(Path::new("demo.toml"), &text, None, &values);
        let (evening, before) = (Arc::clone(&evening), limits::milliseconds(moment.before_evening()));
        let now: Clock = Arc::new(move || evening().saturating_sub(before));
        let report = tick(&host, config, plugin, &state, &now, held.clone()).await?;
        if !for_people {
            io::stdout().write_all(&taken(&held))?;
        }
        say!("{moment}: {} events of {} subscriptions", report.events, report.good);
        reports.push(report);
        // A plugin that gives nothing in the morning gives nothing later, for the same reason.
        if reports[0].good == 0 {
            break;
        }
    }
    let shown = if for_people { show(&String::from_utf8_lossy(&taken(&held)))? } else { 0 };
    if let [morning, .., evening] = &reports[..] {
        say!("\n{}", once::table(morning, evening, "secure-scores"));
    }
    let sum = |count: fn(&Report) -> usize| reports.iter().map(count).sum();
    let day = Report {
        good: sum(|report| report.good),
        failed: sum(|report| report.failed),
        events: sum(|report| report.events),
        ..Report::default()
    };
    if for_people {
        // A user who typed `cargo xtask demo` has no program of this name on the path.
        let command = if environment::variable("CARGO").is_some() { "cargo xtask" } else { "host-harness" };
        say!(
            "{shown} of the {} events are above, in full; all, as NDJSON: {command} demo > findings.ndjson",
            day.events
        );
    }
    Ok(day.status())
}

/// Takes the events that arrived since the last call.
fn taken(held: &Mutex<Vec<u8>>) -> Vec<u8> {
    std::mem::take(&mut *held.lock())
}

/// Prints a few of the events, with one member on a line, and returns their number.
fn show(events: &str) -> io::Result<usize> {
    let mut out = io::stdout();
    let few = terminal::few(events, EVENTS_SHOWN);
    for event in &few {
        writeln!(out, "{}\n", terminal::pretty(event))?;
    }
    out.flush()?;
    Ok(few.len())
}
