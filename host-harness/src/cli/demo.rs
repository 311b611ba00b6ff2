//! `demo`: several tenants of a simulated service.

use std::path::Path;

use anyhow::Context;
use host_harness::config;
use host_harness::once;
use host_harness::simulator::{Simulator, estate::Estate};

use crate::cli::host;
use crate::cli::poll::poll;

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
    let report = poll(&host()?, config, plugin).await?;
    say!("\n{}\n{} events of {} subscriptions", once::table(&report, "secure-scores"), report.events, report.good);
    Ok(report.status())
}
