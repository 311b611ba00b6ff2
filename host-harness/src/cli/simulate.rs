//! `simulate`: the simulated service for any client.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use host_harness::config;
use source_host::text;
use source_simulator::assertion::Registered;
use source_simulator::day::{self, Moment};
use source_simulator::{Simulator, SimulatorError, estate::Estate, scenario};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{STDOUT, UsageError};

/// The clients that the simulated Entra ID trusts without a secret.
#[derive(Default)]
pub struct TrustedClients {
    certificate: Option<Registered>,
    token: Option<String>,
}

impl TrustedClients {
    pub fn read(certificate: Option<&Path>, token: Option<&Path>) -> Result<TrustedClients, UsageError> {
        let read = |file: &Path| text::read(file).map_err(|error| UsageError(error.of(file)));
        let certificate = certificate.map(|file| {
            let registered = Registered::read(&read(file)?);
            registered
                .ok_or_else(|| UsageError(format!("found no certificate in {}, expected PEM with one", file.display())))
        });
        let token = token.map(read).transpose()?.map(|text| text.trim().to_owned());
        Ok(TrustedClients { certificate: certificate.transpose()?, token })
    }
}

/// Says whether a scenario lies below HTTP, where only connections with TLS are prepared for it.
fn needs_tls(scenario: &str) -> bool {
    source_simulator::hostile::named(scenario).is_some_and(|case| case.is_raw()) || scenario == "link-http"
}

pub async fn simulate(
    (listen, without_tls): (SocketAddr, bool),
    scenario_name: Option<&str>,
    (estate, day): (Estate, Option<Duration>),
    trusted: TrustedClients,
    as_json: bool,
) -> anyhow::Result<u8> {
    let scenario = match scenario_name {
        None => None,
        Some(name) => match scenario::named(name) {
            Some(known) => Some(known),
            None => {
                let similar = match similar(name).as_slice() {
                    [] => String::new(),
                    [one] => format!("; the nearest is {one}"),
                    several => format!("; the nearest are {}", several.join(", ")),
                };
                let fix = "`host-harness simulate --list` shows all";
                bail!(UsageError(format!("found no scenario {name:?}{similar}; {fix}")));
            }
        },
    };
    let morning = if day.is_some() { day::at(&estate, Moment::Morning) } else { estate.clone() };
    let simulator = if without_tls {
        if let Some(scenario) = scenario.filter(|scenario| needs_tls(scenario)) {
            bail!(UsageError(format!("found --http with the scenario {scenario:?}, expected TLS with this scenario")));
        }
        match Simulator::without_tls(listen, morning, scenario).await {
            Err(error @ SimulatorError::Exposed(_)) => bail!(UsageError(format!("--http with --listen: {error}"))),
            started => started?,
        }
    } else {
        Simulator::start(listen, morning, scenario).await?
    };
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
        writeln!(out, "{}", simulator.about(&ca_file)).context(STDOUT)?;
    } else {
        let (text, variables) = simulator.configuration(&ca_file);
        say!("# serving at {}; a configuration for it:", simulator.url());
        writeln!(out, "{text}").context(STDOUT)?;
        for (name, value) in variables {
            writeln!(out, "# export {name}={value}").context(STDOUT)?;
        }
    }
    out.flush().context(STDOUT)?;
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

/// The scenarios that a name may mean: the nearest first, then other near ones, and those whose names begin with the
/// nearest name or with the given name.
fn similar(written: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = scenario::names().collect();
    let first = config::nearest(written, names.iter().copied());
    let goes_on = |known: &str| {
        written.len() > 3 && known.starts_with(written) || first.is_some_and(|first| known.starts_with(first))
    };
    names.retain(|known| goes_on(known) || config::nearest(written, std::iter::once(*known)).is_some());
    names.sort_by_key(|known| Some(*known) != first);
    names.truncate(SIMILAR);
    names
}

/// Number of names that are suggested in place of an unknown one.
const SIMILAR: usize = 3;

/// Prints all scenarios: a table by group, or for programs one object on each line.
pub fn list(as_json: bool) -> anyhow::Result<u8> {
    let mut text = String::new();
    let width = scenario::names().map(str::len).max().unwrap_or_default();
    for kind in scenario::Kind::ALL {
        if !as_json {
            text += &format!("{}{}\n", if text.is_empty() { "" } else { "\n" }, kind.heading());
        }
        for scenario::ScenarioInfo { name, kind, what } in scenario::all().filter(|about| about.kind == kind) {
            text += &match as_json {
                true => format!("{}\n", serde_json::json!({ "name": name, "kind": kind.name(), "what": what })),
                false => format!("  {name:width$}  {what}\n"),
            };
        }
    }
    io::stdout().write_all(text.as_bytes()).context(STDOUT)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_leads_to_those_that_are_near_and_to_no_others() {
        assert_eq!(similar("forbiden"), ["forbidden"]);
        assert_eq!(similar("gzip-bom")[0], "gzip-bomb");
        assert_eq!((similar("throttle").len(), similar("throttle")[0]), (3, "throttled"));
        for far in ["nope", "", "x", "é", "forbidden-fruit-of-the-vine"] {
            assert_eq!(similar(far), [""; 0], "{far}");
        }
    }
}
