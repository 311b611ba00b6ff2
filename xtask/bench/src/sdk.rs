//! `poll` and `run` beside Microsoft's own packages for Python, which read the same subscriptions of the simulated service
//! with as many polls in flight, and map them to the same events.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::blocks::{self, Better};
use crate::equality;
use crate::groups::{Stop, Tools};
use crate::process::{Ended, Process};
use crate::service::{Collector, Service};
use crate::table::{Goal, Row};

/// Polls in flight, which is the number of one tenant's in `poll` and by default in `run`.
const IN_FLIGHT: usize = 8;

/// Repetitions: each is a process from its start to its end.
const REPETITIONS: usize = 3;

/// The number of events of a subscription of the simulated service: a score and its controls.
const EVENTS: usize = 15;

/// Members that differ between two polls of the same subscription.
const OF_THE_POLL: [&str; 5] = [
    "metadata.uid",
    "metadata.correlation_uid",
    "time",
    "finding_info.last_seen_time",
    "finding_info.related_events.uid",
];

/// Returns the rows of `poll` and of `run`; the two rows of a command come from one measurement.
pub fn rows(tools: &Tools, names: &[&'static str]) -> Result<Vec<Row>, Stop> {
    let harness = tools.need(&tools.harness, "host-harness")?;
    let python = tools.need(&tools.python, "Python with Microsoft's packages")?;
    let subscriptions = tools.subscriptions;
    let mut rows = Vec::new();
    for (command, ours) in [("poll", polled as Ours), ("run", collected)] {
        if !names.iter().any(|name| name.starts_with(&format!("sdk-{command}"))) {
            continue;
        }
        eprintln!(
            "measures `{command}` and Microsoft's packages in turn, {REPETITIONS} times {subscriptions} subscriptions"
        );
        let service = Service::start(harness, 1, subscriptions)?;
        service.configure(3_600, IN_FLIGHT)?;
        // Compiles the plugin.
        service.ended(&mut service.command("check")?)?;
        let script = tools.peers.join("sdk.py");
        let pairs: Result<Vec<[Ended; 2]>, String> = (0..REPETITIONS)
            .map(|_| {
                let pair = [ours(&service, subscriptions)?, packages(&service, python, &script)?];
                compare(&service)?;
                Ok(pair)
            })
            .collect();
        let pairs = pairs?;
        rows.push(row(command, "processor", &pairs, |one| one.processor.as_secs_f64() * 1e3, subscriptions));
        rows.push(row(command, "memory", &pairs, |one| one.peak_bytes / 1024.0, subscriptions));
    }
    Ok(rows)
}

fn row(command: &str, of: &str, pairs: &[[Ended; 2]], figure: fn(&Ended) -> f64, subscriptions: usize) -> Row {
    let (what, unit, goal) = match of {
        "processor" => ("processor time", "ms", 20.0),
        _ => ("peak memory", "KiB", 10.0),
    };
    let figure = move |one: &Ended| figure(one) / subscriptions as f64;
    let pairs: Vec<[f64; 2]> = pairs.iter().map(|[ours, theirs]| [figure(ours), figure(theirs)]).collect();
    Row {
        name: format!("sdk-{command}-{of}"),
        what: format!("{what} of `{command}` for each of {subscriptions} subscriptions"),
        unit,
        beside: "Microsoft's packages for Python",
        goals: vec![Goal::Ratio(goal)],
        records: 0,
        measure: Box::new(move |_| Ok(blocks::paired(Better::Smaller, &pairs))),
    }
}

type Ours = fn(&Service, usize) -> Result<Ended, String>;

/// The events of ours and of theirs.
const OURS: &str = "events.ndjson";
const THEIRS: &str = "packages.ndjson";

/// Runs `poll`.
fn polled(service: &Service, _: usize) -> Result<Ended, String> {
    service.ended(service.command("poll")?.stdout(file(service, OURS)?))
}

/// Runs the collector from an empty state until it delivered the events of each subscription.
fn collected(service: &Service, subscriptions: usize) -> Result<Ended, String> {
    for name in [OURS, "collector.db", "collector.db-wal", "collector.db-shm"] {
        let _ = fs::remove_file(service.file(name));
    }
    let collector = Collector::start(service)?;
    let most = Duration::from_secs(60 + subscriptions as u64);
    let begun = Instant::now();
    while lines(&service.file(OURS)) < subscriptions * EVENTS {
        if begun.elapsed() > most {
            return Err(service.explained("the collector does not deliver all events"));
        }
        sleep(Duration::from_millis(50));
    }
    collector.ended()
}

/// Runs Microsoft's packages.
fn packages(service: &Service, python: &Path, script: &Path) -> Result<Ended, String> {
    let about = service.file("about.json");
    fs::write(&about, service.about.to_string()).map_err(|error| error.to_string())?;
    let mut command = Command::new(python);
    command.arg(script).arg(about).arg(IN_FLIGHT.to_string()).stdin(Stdio::null());
    Process::start(command.stdout(file(service, THEIRS)?))?.ended()
}

/// Compares the events of both.
fn compare(service: &Service) -> Result<(), String> {
    let events = |name: &str| -> Result<Vec<Value>, String> {
        let text = fs::read_to_string(service.file(name)).map_err(|error| format!("{name}: {error}"))?;
        let events = text.lines().map(|line| serde_json::from_str(line).map_err(|error| format!("{name}: {error}")));
        let mut events: Vec<Value> = events.collect::<Result<_, _>>()?;
        events.sort_by_key(|event| event["finding_info"]["uid"].to_string());
        Ok(events)
    };
    equality::require(&events(OURS)?, &events(THEIRS)?, &OF_THE_POLL)
}

fn file(service: &Service, name: &str) -> Result<File, String> {
    File::create(service.file(name)).map_err(|error| format!("{name}: {error}"))
}

fn lines(file: &Path) -> usize {
    fs::read(file).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}
