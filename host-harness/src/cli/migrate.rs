//! `migrate`: moves a state between a file and a PostgreSQL database.

use std::io::{self, Write};
use std::path::{Path, absolute};
use std::time::Instant;

use anyhow::Context;
use host_harness::config::{self, StateConfig};
use host_harness::environment;
use host_harness::limits;
use host_harness::store::StoreResult;
use host_harness::store::moving::{Movable, Moved, check_source, interrupted, transfer};
use host_harness::store::postgres::moving::PostgresMovable;
use host_harness::store::sqlite::moving::SqliteMovable;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::{PROGRESS, STDOUT, UsageError, load, problems_of};

/// Moves a state, and returns the exit status. The configuration names the place that is not given.
pub async fn migrate(
    config: Option<&Path>,
    from: Option<String>,
    to: Option<String>,
    json: bool,
) -> anyhow::Result<u8> {
    let options = [("--config", config.is_some()), ("--from", from.is_some()), ("--to", to.is_some())];
    let given = |option: &str, text: Option<String>| {
        let place = text.map(|text| config::place(&text, &environment::text)).transpose();
        place.map_err(|words| UsageError(format!("{option}: {words}")))
    };
    let (from, to) = (given("--from", from)?, given("--to", to)?);
    let configured = match config {
        None => None,
        Some(config) => {
            let config = load(config, None);
            if problems_of(&config) {
                return Ok(2);
            }
            Some(config.collector.state)
        }
    };
    let (from, to) = match (from, to, configured) {
        (Some(from), Some(to), None) => (from, to),
        (Some(from), None, Some(to)) | (None, Some(to), Some(from)) => (from, to),
        _ => {
            let found: Vec<&str> = options.iter().filter(|(_, given)| *given).map(|(option, _)| *option).collect();
            let found = if found.is_empty() { "no option".to_owned() } else { found.join(", ") };
            let words = format!("`migrate`: found {found}, expected two of the three `--config`, `--from` and `--to`");
            return Err(UsageError(words).into());
        }
    };
    let (from, to) = (with_whole_path(from)?, with_whole_path(to)?);
    if from.file().is_some() == to.file().is_some() {
        let fix = match from.file() {
            Some(_) => "copy the file while no collector runs",
            None => "use pg_dump and pg_restore",
        };
        let words = format!("found {from} and {to}, expected a file and the address of a database; {fix}");
        return Err(UsageError(format!("`migrate`: {words}")).into());
    }
    let mut source = opened(&from, false).await?;
    if to.file().is_some_and(|file| !file.exists()) {
        check_source(&mut *source).await.map_err(|error| interrupted(error, None))?;
    }
    let mut target = opened(&to, true).await?;
    let doing = PROGRESS.begin(format!("moving the state from {from} to {to}"));
    let told = Mutex::new(Instant::now());
    let tells = |moved, all| {
        let mut told = told.lock();
        // A note that is replaced too soon is shown to nobody.
        if told.elapsed() >= limits::PROGRESS_AFTER * 2 {
            doing.says(format!("{moved} of {all} rows of the state are in {to}"));
            *told = Instant::now();
        }
    };
    let moved = transfer(&mut *source, &mut *target, tells).await?;
    drop(doing);
    source.close().await?;
    target.close().await?;
    let text = if json { object(&from, &to, &moved) + "\n" } else { shown(&moved) };
    let written = io::stdout().write_all(text.as_bytes()).context(STDOUT);
    // The state is there, whoever reads the numbers.
    match moved.was_complete {
        true => say!("the state is in {to} already"),
        false => say!("the state is in {to} now; {from} has an old copy, which no collector uses"),
    }
    written.map(|()| 0)
}

/// Makes the path of a file absolute: the other side remembers it, and whoever reads it there may be in another folder.
fn with_whole_path(place: StateConfig) -> anyhow::Result<StateConfig> {
    Ok(match place {
        StateConfig::File(file) => {
            StateConfig::File(absolute(&file).with_context(|| format!("cannot find the folder of {}", file.display()))?)
        }
        server @ StateConfig::Server(_) => server,
    })
}

async fn opened(place: &StateConfig, is_target: bool) -> StoreResult<Box<dyn Movable>> {
    let opened: StoreResult<Box<dyn Movable>> = match place {
        StateConfig::File(file) => SqliteMovable::open(file, is_target).map(|file| Box::new(file) as _),
        StateConfig::Server(address) => {
            PostgresMovable::open(address, is_target).await.map(|database| Box::new(database) as _)
        }
    };
    opened.map_err(|error| interrupted(error, None))
}

fn shown(moved: &Moved) -> String {
    moved.rows.iter().map(|(part, rows)| format!("{:<17}{rows:>12}\n", part.name())).collect()
}

fn object(from: &StateConfig, to: &StateConfig, moved: &Moved) -> String {
    let rows = moved.rows.iter().map(|(part, rows)| (part.name().replace(' ', "_"), Value::from(*rows)));
    let rows: Map<String, Value> = rows.collect();
    let Moved { was_complete, went_on, .. } = moved;
    json!({
        "from": from.to_string(),
        "to": to.to_string(),
        "already_moved": was_complete,
        "went_on": went_on,
        "rows": rows,
    })
    .to_string()
}
