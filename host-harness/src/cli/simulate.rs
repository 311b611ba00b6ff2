//! `simulate`: the simulated service for any client.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use host_harness::simulator::assertion::Registered;
use host_harness::simulator::day::{self, Moment};
use host_harness::simulator::{Simulator, estate::Estate, scenario};
use host_harness::text;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Usage;

/// Whom the simulated Entra ID trusts besides who knows a secret.
#[derive(Default)]
pub struct Trusted {
    certificate: Option<Registered>,
    token: Option<String>,
}

impl Trusted {
    pub fn read(certificate: Option<&Path>, token: Option<&Path>) -> Result<Trusted, Usage> {
        let read = |file: &Path| text::read(file).map_err(|error| Usage(error.of(file)));
        let certificate = certificate.map(|file| {
            let registered = Registered::read(&read(file)?);
            registered
                .ok_or_else(|| Usage(format!("found no certificate in {}, expected PEM with one", file.display())))
        });
        let token = token.map(read).transpose()?.map(|text| text.trim().to_owned());
        Ok(Trusted { certificate: certificate.transpose()?, token })
    }
}

pub async fn simulate(
    listen: SocketAddr,
    scenario_name: Option<&str>,
    (estate, day): (Estate, Option<Duration>),
    trusted: Trusted,
    as_json: bool,
) -> anyhow::Result<u8> {
    let scenario = match scenario_name {
        None => None,
        Some(name) => match scenario::named(name) {
            Some(known) => Some(known),
            None => {
                let names: Vec<&str> = scenario::names().collect();
                bail!(Usage(format!("found the scenario {name:?}, expected one of: {}", names.join(", "))));
            }
        },
    };
    let morning = if day.is_some() { day::at(&estate, Moment::Morning) } else { estate.clone() };
    let simulator = Simulator::start(listen, morning, scenario).await.context("failed to listen")?;
    simulator.with(|world| {
        world.more_to_come = day.is_some();
        world.certificates.extend(trusted.certificate);
        world.federated.extend(trusted.token);
    });
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, simulator.ca_pem()).context("failed to write the CA")?;
    let ca_file = ca_file.to_string_lossy();
    let mut out = io::stdout();
    if as_json {
        writeln!(out, "{}", simulator.about(&ca_file))?;
    } else {
        let (text, variables) = simulator.configuration(&ca_file);
        say!("# serving at {}; a configuration for it:", simulator.url());
        writeln!(out, "{text}")?;
        for (name, value) in variables {
            writeln!(out, "# export {name}={value}")?;
        }
    }
    out.flush()?;
    let mut terminated = signal(SignalKind::terminate())?;
    let serve = async {
        match day {
            None => simulator.serve().await,
            Some(lasts) => simulator.serve_day(&estate, lasts, |moment| say!("# it is {moment}")).await,
        }
    };
    tokio::select! {
        () = serve => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
        _ = terminated.recv() => {}
    }
    Ok(0)
}
