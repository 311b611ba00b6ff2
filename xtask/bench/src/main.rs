//! Measures the plugin and the collector beside other programs, and prints one table; `cargo xtask bench` builds this
//! program for speed and runs it.

#![cfg_attr(
    not(feature = "sandbox"),
    allow(dead_code, reason = "the rows that need the engine use it, and `--native` leaves these out")
)]

mod blocks;
#[cfg(feature = "sandbox")]
mod client;
mod document;
mod equality;
mod floor;
mod groups;
mod input;
mod mapping;
mod native;
mod plot;
mod process;
#[cfg(feature = "sandbox")]
mod sandbox;
#[cfg(feature = "sandbox")]
mod scale;
#[cfg(feature = "sandbox")]
mod sdk;
#[cfg(feature = "sandbox")]
mod service;
#[cfg(feature = "sandbox")]
mod start;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::groups::{Stop, Tools};
use crate::table::Figures;

const USAGE: &str = "benchmark [--only ROW]… [--pairs N] [--subscriptions N] [--scopes N] [--json] [--compare] [--plugin FILE] \
                     [--harness FILE] [--peers FOLDER] [--vrl FILE] [--jq FILE] [--python FILE] \
                     [--tenzir FILE] [--write] [--from FILE] [--built TEXT]";

/// The number of pairs. More pairs do not change the medians; fewer than seven give no reliable median.
const PAIRS: usize = 11;

/// The least number of scopes: of so many, some are polled a second time within the day.
const SCOPES: usize = 20;

fn main() -> ExitCode {
    #[cfg(feature = "sandbox")]
    if let Some(status) = client::as_told().or_else(scale::as_told) {
        return status;
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether every row that was asked for has its figures, or a good reason to be left out.
fn run() -> Result<bool, String> {
    let (mut only, mut pairs, mut tools) = (Vec::new(), PAIRS, Tools::none());
    let mut from: Option<String> = None;
    let (mut json, mut compare, mut write, mut built) = (false, false, false, "in an unknown way".to_owned());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value; {USAGE}"));
        let mut number = |what: &str, least: usize| {
            let text = value()?;
            let number = text.parse().ok().filter(|number| *number >= least);
            number.ok_or_else(|| format!("found {text:?} {what}, expected a number from {least}"))
        };
        match argument.as_str() {
            "--json" => json = true,
            "--compare" => compare = true,
            "--write" => write = true,
            "--from" => from = Some(value()?),
            "--built" => built = value()?,
            "--pairs" => pairs = number("pairs", 7)?,
            "--subscriptions" => tools.subscriptions = number("subscriptions", 1)?,
            "--scopes" => tools.scopes = number("scopes", SCOPES)?,
            "--only" => only.push(value()?),
            "--plugin" => tools.plugin = Some(file(value()?)?),
            "--harness" => tools.harness = Some(file(value()?)?),
            "--peers" => tools.peers = file(value()?)?,
            "--vrl" => tools.vrl = Some(file(value()?)?),
            "--jq" => tools.jq = Some(file(value()?)?),
            "--python" => tools.python = Some(file(value()?)?),
            "--tenzir" => tools.tenzir = Some(file(value()?)?),
            _ => return Err(format!("found {argument:?}, expected {USAGE}")),
        }
    }
    let groups = groups::asked_for(&only)?;
    if compare {
        return compared(&tools);
    }
    let (figures, complete) = match from {
        Some(file) => (document::figures(Path::new(&file))?, true),
        None => measured(groups, &tools, pairs, &machine(&built)),
    };
    let text = match json {
        true => serde_json::to_string_pretty(&figures).map_err(|error| error.to_string())? + "\n",
        false => table::table(&figures.iter().collect::<Vec<_>>()),
    };
    printed(&text)?;
    if write {
        document::write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs"), figures)?;
    }
    Ok(complete)
}

/// Returns the whole path of a file that an argument names, since programs run in folders of their own. A name alone may be a
/// program in `PATH`.
fn file(named: String) -> Result<PathBuf, String> {
    if Path::new(&named).components().count() == 1 {
        return Ok(PathBuf::from(named));
    }
    std::path::absolute(&named).map_err(|error| format!("{named:?}: {error}"))
}

/// Measures the rows, and returns their figures, and whether each row has figures or a good reason to be left out.
fn measured(
    groups: Vec<(&groups::Group, Vec<&'static str>)>,
    tools: &Tools,
    pairs: usize,
    machine: &str,
) -> (Vec<Figures>, bool) {
    let (mut figures, mut complete) = (Vec::new(), true);
    for (group, names) in groups {
        let rows = match (group.rows)(tools, &names) {
            Ok(rows) => rows,
            Err(Stop::Absent(why)) => {
                eprintln!("left out: {}: {why}", names.join(", "));
                continue;
            }
            Err(Stop::Error(why)) => {
                eprintln!("error: {}: {why}", names.join(", "));
                complete = false;
                continue;
            }
        };
        for row in rows.into_iter().filter(|row| names.contains(&row.name.as_str())) {
            let name = row.name.clone();
            eprintln!("measures {name}");
            match row.measured(pairs, machine) {
                Ok(measured) => figures.push(measured),
                Err(why) => {
                    eprintln!("error: {name}: {why}");
                    complete = false;
                }
            }
        }
    }
    (figures, complete)
}

/// Describes the machine, and how the programs were built.
fn machine(built: &str) -> String {
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    format!("{model}, {cores} processors, built {built}")
}

/// Compares the events of each peer that is at hand with the plugin's, and measures nothing.
fn compared(tools: &Tools) -> Result<bool, String> {
    let mut same = true;
    for (name, peer) in mapping::PEERS {
        match peer(tools) {
            Ok(_) => printed(&format!("{name} gives the plugin's events\n"))?,
            Err(Stop::Absent(why)) => printed(&format!("left out: {name}: {why}\n"))?,
            Err(Stop::Error(why)) => {
                same = false;
                printed(&format!("error: {name}: {why}\n"))?
            }
        };
    }
    Ok(same)
}

fn printed(text: &str) -> Result<bool, String> {
    let printed = std::io::stdout().write_all(text.as_bytes());
    printed.map(|()| true).map_err(|error| format!("failed to print: {error}"))
}
