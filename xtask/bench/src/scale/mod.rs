//! The collector with 10 to 100,000 feeds, and with a million scopes for a day: the cost of a poll, memory and lateness.

mod collector;
mod day;
mod stage;

use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde::de::DeserializeOwned;

use self::collector::{InFlight, Scaled};
use self::day::{Day, Figure};
use crate::blocks::{self, Better, Measured};
use crate::groups::{Stop, Tools};
use crate::service::{Collector, Service};
use crate::table::{Goal, Row, thousands};

/// The numbers of feeds.
pub const SIZES: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];

/// The figures of each size: their names, descriptions and units.
pub const FIGURES: [(&str, &str, &str); 4] = [
    ("poll", "processor time of a poll", "µs"),
    ("transaction", "time of its transaction, elapsed", "µs"),
    ("memory", "resident memory while all feeds wait", "MB"),
    ("lateness", "lateness of last polls, 99th percentile", "ms"),
];

/// Pairs of collectors with 10 and with 10,000 feeds, whatever number of pairs was asked for: each takes about a minute.
const PAIRS: usize = 3;

/// The sizes of that pair.
const FEW: usize = 10;
const MANY: usize = 10_000;

/// Returns all rows of sizes, of waiting feeds and of polls in flight.
pub fn rows(_: &Tools, names: &[&'static str]) -> Result<Vec<Row>, Stop> {
    let is_asked_for = |size: usize| names.iter().any(|name| name.ends_with(&format!("-{size}")));
    let mut rows = Vec::new();
    let mut memory = Vec::new();
    for size in SIZES {
        let needs = is_asked_for(size) || (names.contains(&"scale-idle") && [SIZES[0], SIZES[4]].contains(&size));
        if !needs {
            continue;
        }
        eprintln!("measures a collector with {size} feeds");
        let is_pair = size == MANY && names.contains(&"scale-poll-10000");
        let repetitions = if is_pair { PAIRS } else { 1 };
        let mut pairs = Vec::new();
        let mut all = Vec::new();
        for _ in 0..repetitions {
            let few = if is_pair { Some(of_process::<Scaled>("scaled", FEW)?.poll) } else { None };
            let scaled: Scaled = of_process("scaled", size)?;
            pairs.extend(few.map(|few| [scaled.poll, few]));
            all.push(scaled);
        }
        let figures = |figure: fn(&Scaled) -> f64| blocks::alone(&all.iter().map(figure).collect::<Vec<f64>>());
        let measured = [
            if is_pair { blocks::paired(Better::Smaller, &pairs) } else { figures(|scaled| scaled.poll) },
            figures(|scaled| scaled.transaction),
            figures(|scaled| scaled.resident / 1e6),
            figures(|scaled| scaled.lateness),
        ];
        memory.push((size, measured[2].ours * 1e6));
        rows.extend(FIGURES.iter().zip(measured).map(|(figure, measured)| row_of(size, *figure, measured)));
    }
    if let [(few, of_few), .., (many, of_many)] = memory[..]
        && names.contains(&"scale-idle")
    {
        let bytes = (of_many - of_few) / (many - few) as f64;
        rows.push(row(
            "scale-idle".to_owned(),
            "resident memory of a feed that waits".to_owned(),
            "KiB",
            vec![Goal::Most(2.0)],
            blocks::alone(&[bytes / 1024.0]),
        ));
    }
    if names.contains(&"scale-in-flight") {
        let found: Result<Vec<f64>, String> =
            (0..PAIRS).map(|_| Ok(of_process::<InFlight>("in-flight", 0)?.resident / 1024.0)).collect();
        rows.push(row(
            "scale-in-flight".to_owned(),
            "resident memory of a poll in flight".to_owned(),
            "KiB",
            vec![Goal::Most(256.0)],
            blocks::alone(&found?),
        ));
    }
    Ok(rows)
}

fn row_of(size: usize, (name, what, unit): (&str, &str, &'static str), measured: Measured) -> Row {
    let goals = match (name, size) {
        ("poll", MANY) => vec![Goal::Ratio(1.0 / 1.1)],
        ("memory", 100_000) => vec![Goal::Most(150.0)],
        ("lateness", MANY) => vec![Goal::Most(5_000.0)],
        _ => Vec::new(),
    };
    row(format!("scale-{name}-{size}"), format!("{what}, {size} feeds"), unit, goals, measured)
}

fn row(name: String, what: String, unit: &'static str, goals: Vec<Goal>, measured: Measured) -> Row {
    Row { name, what, unit, beside: "10 feeds", goals, records: 0, measure: Box::new(move |_| Ok(measured)) }
}

/// Returns the rows of a day.
pub fn day_rows(tools: &Tools, names: &[&'static str]) -> Result<Vec<Row>, Stop> {
    let scopes = tools.scopes;
    eprintln!("measures a day of a collector with {scopes} scopes");
    let day: Day = of_process("day", scopes)?;
    let row = |(name, what, unit, figure): &Figure| {
        let measured = blocks::alone(&[figure(&day, scopes as f64)]);
        let what = format!("{what}, {} scopes", thousands(scopes as f64));
        row(format!("day-{name}"), what, unit, Vec::new(), measured)
    };
    Ok(day::FIGURES.iter().map(row).filter(|row| names.contains(&row.name.as_str())).collect())
}

/// Feeds that are polled each second, by the name of their row.
const POLLED: [(&str, usize); 3] = [("resident-10", 10), ("resident-100", 100), ("resident-400", 400)];

/// The time until the memory is looked at, and the number of looks, a second apart.
const WARM: Duration = Duration::from_secs(8);
const LOOKS: usize = 7;

/// Returns the rows of collectors that poll each feed once a second, over TLS.
pub fn polled_rows(tools: &Tools, names: &[&'static str]) -> Result<Vec<Row>, Stop> {
    let harness = tools.need(&tools.harness, "host-harness")?;
    let mut rows = Vec::new();
    for (name, feeds) in POLLED.into_iter().filter(|(name, _)| names.contains(name)) {
        let service = Service::start(harness, feeds, 1)?;
        service.configure(1, host_harness::limits::POLLS)?;
        // Compiles the plugin.
        service.ended(service.command("poll")?.args(["--state", "collector.db"]))?;
        let collector = Collector::start(&service)?;
        sleep(WARM);
        let looks: Result<Vec<f64>, String> = (0..LOOKS)
            .map(|_| {
                sleep(Duration::from_secs(1));
                collector.resident_bytes().map(|bytes| bytes / f64::from(1 << 20))
            })
            .collect();
        collector.ended()?;
        let what = format!("resident memory of the collector, {feeds} feeds polled each second over TLS");
        rows.push(row(name.to_owned(), what, "MiB", Vec::new(), blocks::alone(&looks?)));
    }
    Ok(rows)
}

/// The first argument of a process that is such a collector.
const COLLECTOR: &str = "collector-of";

/// Returns the figures of a collector in a process of its own.
fn of_process<T: DeserializeOwned>(what: &str, number: usize) -> Result<T, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program has no file: {error}"))?;
    let mut command = Command::new(program);
    command.args([COLLECTOR, what, &number.to_string()]).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("failed to start a collector: {error}"))?;
    if !output.status.success() {
        return Err(format!("the collector {what} {number} ended with {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("the collector {what} {number}: {error}"))
}

/// Acts as such a collector, or as the compiler of its plugin, if this process was started as one.
pub fn as_told() -> Option<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (what, number) = match words[..] {
        [source_host::plugin::compiler::COMMAND, ..] => {
            let numbers: Vec<String> = words[1..].iter().map(|word| (*word).to_owned()).collect();
            return Some(ExitCode::from(source_host::plugin::compiler::serve(&numbers)));
        }
        [COLLECTOR, what, number] => (what, number.parse().unwrap_or_default()),
        _ => return None,
    };
    // Before a thread starts, as in `run`.
    host_harness::run::memory::hold_little();
    source_host::plugin::engine::open_page_map();
    Some(match told(what, number) {
        Ok(told) if crate::printed(&told).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    })
}

fn told(what: &str, number: usize) -> Result<String, String> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    match what {
        "day" => serde_json::to_string(&runtime.block_on(day::day(number))?),
        "scaled" => serde_json::to_string(&runtime.block_on(collector::scaled(number))?),
        _ => serde_json::to_string(&runtime.block_on(collector::in_flight())?),
    }
    .map_err(|error| error.to_string())
}
