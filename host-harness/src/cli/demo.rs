//! `demo`: several tenants of a simulated service.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use host_harness::config;
use host_harness::once;
use host_harness::simulator::{Simulator, estate::Estate};
use host_harness::terminal;

use crate::cli::host;
use crate::cli::poll::poll;

/// More would push the table off the screen.
const EVENTS_SHOWN: usize = 3;

/// Polls every tenant of a simulated service. A pipe gets all events; a terminal gets a few of them, for people.
pub async fn demo(plugin: Option<&Path>) -> anyhow::Result<u8> {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into(), Estate::default(), None).await?;
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, simulator.ca_pem()).context("failed to write the CA")?;
    let (text, variables) = simulator.configuration(&ca_file.to_string_lossy());
    let environment = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let file = Path::new("demo.toml");
    let config = config::parse(file, &text, None, &environment);
    say!("simulated Entra ID and Azure Resource Manager at {}", simulator.url());
    let mut held = Vec::new();
    let for_people = io::stdout().is_terminal();
    let events: &mut (dyn Write + Send) = if for_people { &mut held } else { &mut io::stdout() };
    let report = poll(&host()?, config, plugin, events).await?;
    let shown = if for_people { show(&String::from_utf8_lossy(&held))? } else { 0 };
    say!("\n{}\n{} events of {} subscriptions", once::table(&report, "secure-scores"), report.events, report.good);
    if for_people {
        // Whoever typed `cargo xtask demo` has no program of this name on the path.
        let command = if std::env::var_os("CARGO").is_some() { "cargo xtask" } else { "host-harness" };
        say!("{shown} of them are above, in full; all of them, as NDJSON: {command} demo > findings.ndjson");
    }
    Ok(report.status())
}

/// Prints a few of the events, a member a line; gives their number.
fn show(events: &str) -> io::Result<usize> {
    let mut out = io::stdout();
    let few = terminal::few(events, EVENTS_SHOWN);
    for event in &few {
        writeln!(out, "{}\n", terminal::pretty(event))?;
    }
    out.flush()?;
    Ok(few.len())
}
