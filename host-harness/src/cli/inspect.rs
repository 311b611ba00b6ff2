//! `inspect`: a plugin, and the requests that may leave.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use host_harness::audit::inspect::{self, Sheet};
use host_harness::built_in;
use host_harness::collector::once;
use host_harness::config::Pins;
use host_harness::config::admission::LeftOut;
use source_host::cause;
use source_host::clock;
use source_host::limits::Limits;
use source_host::plugin::Plugin;
use source_host::plugin::engine::Host;
use source_host::text;

use crate::cli::{UsageError, check, load, tell_left_out};

/// Shows a plugin, and with a configuration the requests that may leave.
pub async fn inspect(host: &Host, file: Option<PathBuf>, config: Option<&Path>, as_json: bool) -> anyhow::Result<u8> {
    if let Some(file) =
        file.as_deref().filter(|file| file.is_dir() || file.extension().is_some_and(|end| end == "toml"))
    {
        let words = "found a configuration, expected a component; a configuration goes behind -c";
        return Err(UsageError(format!("{}: {words}", file.display())).into());
    }
    let mut out = io::stdout();
    let Some(config) = config else {
        let plugin = built_in::load(host, file.as_deref()).map_err(|error| UsageError(cause::chain(&error)))?;
        let (about, description) = (plugin.about(), plugin.description().await?);
        match as_json {
            true => writeln!(out, "{}", inspect::json(about, &description, None)?)?,
            false => out.write_all(text::plain_lines(&inspect::text(about, &description, None)).as_bytes())?,
        }
        return Ok(0);
    };
    let mut config = load(config, None);
    // A reviewer needs the page of a plugin that differs from its pins.
    let pins = config.feeds.iter_mut().map(|feed| (feed.id.clone(), std::mem::take(&mut feed.pins)));
    let pins: BTreeMap<String, Pins> = pins.collect();
    let checked = check(host, config, file.as_deref()).await?;
    let differing = checked.feeds.iter().filter_map(|feed| LeftOut::of_pins(feed, pins.get(&*feed.id)?));
    let differing: Vec<LeftOut> = differing.collect();
    tell_left_out(&differing);
    // Each plugin is shown with the feeds that run it.
    let mut pages: Vec<(Plugin, Vec<Sheet>)> = Vec::new();
    for ready in once::open(&checked, &clock::system()).await? {
        let (plugin, sheet) = (&ready.admitted.plugin, Sheet::of(&ready, &Limits::default()).await);
        match pages.iter_mut().find(|(known, _)| known.about().sha256 == plugin.about().sha256) {
            Some((_, sheets)) => sheets.push(sheet),
            None => pages.push((plugin.clone(), vec![sheet])),
        }
    }
    for (plugin, sheets) in &pages {
        let (about, description) = (plugin.about(), plugin.description().await?);
        match as_json {
            true => writeln!(out, "{}", inspect::json(about, &description, Some(sheets))?)?,
            false => out.write_all(text::plain_lines(&inspect::text(about, &description, Some(sheets))).as_bytes())?,
        }
    }
    Ok(if checked.left_out.is_empty() && differing.is_empty() { 0 } else { 3 })
}
