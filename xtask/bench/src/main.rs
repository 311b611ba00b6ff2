//! Measures the plugin and prints one table; `cargo xtask bench` builds this program for speed and runs it.

mod blocks;
mod floor;
mod input;
mod native;
#[cfg(feature = "sandbox")]
mod sandbox;
mod table;

use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "benchmark [--only ROW]… [--pairs N] [--json] [--plugin FILE]";

/// The number of pairs. More pairs do not change the medians; fewer than seven give no reliable median.
const PAIRS: usize = 11;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let (mut only, mut pairs, mut json, mut plugin) = (Vec::new(), PAIRS, false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value; {USAGE}"));
        match argument.as_str() {
            "--json" => json = true,
            "--only" => only.push(value()?),
            "--plugin" => plugin = Some(value()?),
            "--pairs" => {
                let text = value()?;
                let number = text.parse().ok().filter(|pairs| *pairs >= 7);
                pairs = number.ok_or_else(|| format!("found {text:?} pairs, expected a number from 7"))?;
            }
            _ => return Err(format!("found {argument:?}, expected {USAGE}")),
        }
    }
    let mut rows = native::rows();
    if let Some(plugin) = &plugin {
        #[cfg(feature = "sandbox")]
        rows.extend(sandbox::rows(plugin.as_ref())?);
        #[cfg(not(feature = "sandbox"))]
        return Err(format!("this build runs no plugin, found {plugin}"));
    }
    if !only.is_empty() {
        let names: Vec<_> = rows.iter().map(|row| row.name.clone()).collect();
        rows.retain(|row| only.iter().any(|only| row.name.starts_with(only.as_str())));
        if rows.is_empty() {
            return Err(format!(
                "found no row {}, expected the beginning of one of: {}",
                only.join(" or "),
                names.join(", ")
            ));
        }
    }
    let figures: Vec<_> = rows.into_iter().map(|row| row.measure(pairs)).collect();
    let text = match json {
        true => serde_json::to_string_pretty(&figures).map_err(|error| error.to_string())? + "\n",
        false => table::table(&figures),
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("failed to print the figures: {error}"))
}
