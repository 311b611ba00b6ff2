//! The table `[feed.settings]`: plain values for the plugin, and secrets kept apart.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use source_host::credentials::secret::{Secret, Zeroizing};
use source_host::credentials::settings::{Oddity, Settings};
use source_host::credentials::spelling::{self, Trimmed};

use super::reader::{ConfigReader, Table};
use super::reference::{REFERENCE, referenced, warn_of_mode};
use super::{Environment, FeedConfig, SeenFile};

/// The substitute for a credential that cannot be read.
const UNREADABLE: &str = "unreadable";

/// Merges the settings of a feed with the defaults; `None` if the feed has no settings, which is reported.
pub(super) fn table<'a>(
    reader: &mut ConfigReader,
    feed: &Table<'a>,
    defaults: Option<&Table<'a>>,
) -> Option<Table<'a>> {
    let expected = "the table [feed.settings]";
    let given = feed.child("settings");
    let own = given.as_ref().and_then(|node| reader.table(node, expected));
    let shared = defaults.and_then(|defaults| defaults.child("settings"));
    let shared = shared.and_then(|node| reader.table(&node, "the table [feed_defaults.settings]"));
    if given.is_some() && own.is_none() {
        return None;
    }
    let table = own.or_else(|| shared.clone()).map(|table| table.over(shared.as_ref()));
    if table.is_none() {
        reader.missing(feed, "settings", expected);
    }
    table
}

/// Reads the settings of a feed into its configuration.
pub(super) fn read(
    reader: &mut ConfigReader,
    table: &Table<'_>,
    config: &mut FeedConfig,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) {
    let (mut plain, mut secrets, mut trimmed) = (Map::new(), BTreeMap::new(), Vec::new());
    for node in table.children() {
        config.place.settings.insert(node.name.clone(), node.at());
        let Some(mut reference) = node.as_table().filter(|table| table.child("env").or(table.child("file")).is_some())
        else {
            plain.insert(node.name.clone(), node.json());
            continue;
        };
        reader.known(&mut reference, REFERENCE);
        let Some(value) = referenced(reader, node, &reference, files, environment) else { continue };
        let is_plain = reference.child("plain").and_then(|node| reader.truth(&node)) == Some(true);
        if !is_plain && value.is_ok() {
            warn_of_mode(reader, node, &reference);
        }
        let value = value.or_else(|message| {
            config.unreadable.push((node.name.clone(), node.place().problem(message)));
            if is_plain { Err(()) } else { Ok(Zeroizing::new(UNREADABLE.to_owned())) }
        });
        let Ok(value) = value else { continue };
        let Trimmed { text, remark } = spelling::trimmed(&value);
        if is_plain {
            config.opened.push(node.name.clone());
            plain.insert(node.name.clone(), Value::from(text));
            continue;
        }
        trimmed.extend(remark.map(|remark| Oddity::of(&node.name, remark)));
        config.sealed.push(node.name.clone());
        secrets.insert(node.name.clone(), Secret::new(text));
    }
    config.settings = Settings::new(plain, secrets).with_trimmed(trimmed);
}
