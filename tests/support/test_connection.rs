//! A simulated service with a configuration, and its Test Connection report.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use host_harness::check::{self, CheckReport};
use host_harness::config::{self, admission};
use source_host::clock::Clock;
use source_host::network::client::Timeouts;
use source_simulator::answer::EndpointKind;
use source_simulator::estate::Estate;
use source_simulator::{Simulator, hostile, scenario};

use super::{host, now};

/// A simulated service and a configuration for its first tenant.
pub struct Set {
    pub simulator: Simulator,
    /// The configuration.
    pub text: String,
    /// The environment variables.
    pub variables: Vec<(String, String)>,
    pub clock: Clock,
    pub folder: tempfile::TempDir,
    pub patience: Timeouts,
}

impl Set {
    pub async fn new(name: Option<&'static str>) -> Set {
        let simulator = Simulator::start(([127, 0, 0, 1], 0).into(), Estate::default(), name).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, simulator.ca_pem()).unwrap();
        let (text, variables) = simulator.configuration(ca_file.to_str().unwrap());
        // Only the first feed is kept.
        let text = text.split("\n[[feed]]").take(2).collect::<Vec<_>>().join("\n[[feed]]");
        // Some calls are made for some settings only.
        let (begin, line) = match name.and_then(scenario::asks_for) {
            Some(EndpointKind::Search) => ("subscription_id", "subscription_id = \"*\""),
            Some(EndpointKind::Domain) => ("token_url", "token_url = \"contoso.example\""),
            _ => ("", ""),
        };
        let edited = |known: &str| if !begin.is_empty() && known.starts_with(begin) { line } else { known }.to_owned();
        let text = text.lines().map(edited).collect::<Vec<_>>().join("\n");
        let slow = name.and_then(hostile::named).is_some_and(|case| case.code == Some("timeout"));
        let brief = Timeouts { exchange: Duration::from_secs(2), ..Timeouts::default() };
        let patience = if slow { brief } else { Timeouts::default() };
        Set { simulator, text, variables, clock: now(), folder, patience }
    }

    /// Replaces the whole line that begins with a text; an empty replacement removes the line.
    pub fn edit(&mut self, begin: &str, line: &str) {
        assert!(self.text.lines().any(|known| known.starts_with(begin)), "{begin} in {}", self.text);
        let lines = self.text.lines().map(|known| if known.starts_with(begin) { line } else { known });
        self.text = lines.collect::<Vec<_>>().join("\n");
    }

    /// Returns the report of the feed, and the output of the command.
    pub async fn check(&self) -> (CheckReport, String) {
        let environment =
            |name: &str| self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let config = config::parse(Path::new("azure.toml"), &self.text, None, &environment);
        let named = config.named.clone();
        let report = match admission::check(&host(), config, None, &self.clock).await {
            Ok(mut checked) => {
                checked.network = checked.network.with_timeouts(self.patience);
                check::check(&checked, &self.clock).collect::<Vec<_>>().await.remove(0)
            }
            Err(config::StartError::Configuration(problems)) => check::broken(&named, &problems).remove(0),
            Err(error) => panic!("{error}"),
        };
        let words = report.text();
        for (_, secret) in &self.variables {
            assert!(!words.contains(secret) && !report.json().to_string().contains(secret), "a secret in {words}");
        }
        (report, words)
    }
}
