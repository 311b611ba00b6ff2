//! The time from the start of the process to the first event of `poll`, against the simulated service.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use crate::blocks::{self, Measured};
use crate::groups::{Stop, Tools};
use crate::process::Process;
use crate::service::Service;
use crate::table::{Goal, Row};

/// The number of starts without a compiled plugin, each of which takes about a second.
const FIRST_STARTS: usize = 5;

/// Returns both rows.
pub fn rows(tools: &Tools, _: &[&'static str]) -> Result<Vec<Row>, Stop> {
    let harness = tools.need(&tools.harness, "host-harness")?.to_owned();
    let row = |name: &str, what: &str, goals, measure| Row {
        name: name.to_owned(),
        what: what.to_owned(),
        unit: "ms",
        beside: "",
        goals,
        records: 0,
        measure,
    };
    let empty_harness = harness.clone();
    let cached = move |pairs: usize| {
        let service = service(&harness)?;
        first_event(&service)?;
        measured((0..pairs).map(|_| first_event(&service)))
    };
    let empty = move |_| {
        let service = service(&empty_harness)?;
        measured((0..FIRST_STARTS).map(|_| {
            let _ = fs::remove_dir_all(service.file("cache"));
            first_event(&service)
        }))
    };
    Ok(vec![
        row(
            "start-cached",
            "start of `poll` to the first event, compiled plugin kept, elapsed",
            vec![Goal::Most(50.0)],
            Box::new(cached),
        ),
        row("start-empty", "the same on a new machine, which compiles the plugin", Vec::new(), Box::new(empty)),
    ])
}

fn service(harness: &std::path::Path) -> Result<Service, String> {
    let service = Service::start(harness, 1, 1)?;
    service.configure(3_600, 1)?;
    Ok(service)
}

fn measured(starts: impl Iterator<Item = Result<f64, String>>) -> Result<Measured, String> {
    Ok(blocks::alone(&starts.collect::<Result<Vec<f64>, String>>()?))
}

/// Returns the milliseconds until the first event of a poll.
fn first_event(service: &Service) -> Result<f64, String> {
    let mut command = service.command("poll")?;
    let begun = Instant::now();
    let mut poll = Process::start(command.stdout(Stdio::piped()))?;
    let mut lines = BufReader::new(poll.0.stdout.take().ok_or("`poll` has no output")?).lines();
    let event = lines.next();
    let took = begun.elapsed();
    lines.for_each(drop);
    poll.ended().map_err(|error| service.explained(&error))?;
    match event {
        Some(Ok(event)) if event.starts_with('{') => Ok(took.as_secs_f64() * 1e3),
        event => Err(service.explained(&format!("found {event:?}, expected an event"))),
    }
}
