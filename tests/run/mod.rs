//! `run` and `poll --state` as processes: their pages, signals, locks, and changing configurations.

mod configuration;
mod credentials;
mod lifetime;
mod pins;
mod plugins;
mod poll;
mod receivers;
mod shown;
mod status;

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support;

const FILE_SINK: &str = "[[sink]]\nid = \"lake\"\ntype = \"file\"\npath = \"out/{tenant}.ndjson\"\n";

/// Checks that Prometheus' own tool accepts the metrics.
fn check_metrics(metrics: &str) {
    let mut command = Command::new(support::program("promtool", "prometheus"));
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.is_empty(), "{said}");
}
