//! The tables `[feed_defaults]` and `[[feed]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use source_host::credentials::settings::Settings;

use super::event_files::EventFiles;
use super::reader::{ConfigReader, Table};
use super::sinks::ReadSink;
use super::{
    ConfigPlace, Environment, FeedConfig, FileLine, Interval, Pins, SeenFile, SourcePlace, duration, pins, settings,
    suggestion,
};
use crate::built_in;
use crate::limits;

pub const FEED: &[&str] =
    &["id", "tenant", "plugin", pins::PLUGIN, pins::PLAN, "interval", "sinks", "contact", "settings"];
/// Keys of a feed that `[feed_defaults]` may have, too.
pub const SHARED: &[&str] = &["tenant", "plugin", pins::PLUGIN, "interval", "sinks", "contact"];
const CONTACT: &[&str] = &["name", "email"];

/// The advice about a key of the feed that is written below its settings, because TOML takes it for a setting.
pub const BELOW_SETTINGS: &str = "belongs to [[feed]]: move it above [feed.settings]";

/// Longest list of feeds that a message contains.
const LISTED: usize = 20;

/// The rest of the configuration, to which its feeds refer.
pub struct FeedContext<'a> {
    /// The tables of all files.
    pub tops: &'a [Table<'a>],
    /// The sinks.
    pub sinks: &'a [ReadSink],
    /// The file of the state, if it is one.
    pub state: Option<&'a Path>,
    /// The first file.
    pub whole: Option<&'a Path>,
    /// The id of the only feed to read, if one is given.
    pub only: Option<&'a str>,
    /// The variables that references may name.
    pub environment: Environment<'a>,
}

/// Reads the feeds of a configuration. Also returns the ids of all feeds that have one.
pub fn read(
    reader: &mut ConfigReader,
    context: &FeedContext<'_>,
    defaults: Option<&mut Table<'_>>,
    files: &mut Vec<SeenFile>,
) -> (Vec<FeedConfig>, Vec<String>) {
    let defaults = defaults.map(|defaults| {
        reader.known(defaults, FEED);
        if let Some(node) = defaults.child("id") {
            reader.misplaced(&node, "an id belongs to one feed, not to the defaults");
        }
        if let Some(node) = defaults.child(pins::PLAN) {
            reader.misplaced(
                &node,
                "a plan follows from the settings of one feed: it is pinned there, not in the defaults",
            );
        }
        &*defaults
    });
    let nodes = context.tops.iter().filter_map(|top| top.child("feed")).collect::<Vec<_>>();
    let mut read = ReadFeeds::default();
    for table in nodes.iter().flat_map(|node| reader.tables(node)).collect::<Vec<_>>() {
        read.take(reader, context, table, defaults, files);
    }
    read.check_places(reader, context, files);
    read.check_streams(reader, context);
    if let Some(file) = context.whole.filter(|_| reader.complete) {
        read.check_whole(reader, context, file, nodes.is_empty());
    }
    (read.feeds, read.named)
}

/// The feeds that were read so far.
#[derive(Default)]
struct ReadFeeds {
    feeds: Vec<FeedConfig>,
    named: Vec<String>,
    /// The place of each id.
    ids: BTreeMap<String, FileLine>,
    /// Sinks that a feed names.
    fed: BTreeSet<String>,
    claims: Vec<Claim>,
    plugins: Vec<PathBuf>,
    /// Whether a feed has no id.
    nameless: bool,
    /// Whether a feed's list of sinks could not be read.
    unsure: bool,
}

/// A feed's claim to write to its sinks.
struct Claim {
    place: ConfigPlace,
    tenant: String,
    feed: String,
    sinks: Vec<String>,
}

impl ReadFeeds {
    fn take(
        &mut self,
        reader: &mut ConfigReader,
        context: &FeedContext<'_>,
        table: Table<'_>,
        defaults: Option<&Table<'_>>,
        files: &mut Vec<SeenFile>,
    ) {
        let problems_before = reader.problems.len();
        let mut table = table.by_id("feed", &self.ids);
        reader.known(&mut table, FEED);
        let merged = table.over(defaults);
        tell_of_keys_below_settings(reader, &table, &merged, defaults);
        let id = reader.own_id(&table, &mut self.ids);
        let tenant = reader.id(&merged, "tenant").map(|(tenant, _)| tenant);
        self.nameless |= id.is_none();
        let interval = interval(reader, &merged);
        let chosen = self.choose_sinks(reader, &merged, context.sinks);
        let contact = contact(reader, &merged);
        let pins = Pins::read(reader, &table, &merged);
        let Some((id, is_second)) = id else { return };
        let plugin = plugin(reader, &merged);
        self.plugins.extend(plugin.clone());
        if let Some(tenant) = tenant.clone() {
            let place = table.place_of("sinks");
            self.claims.push(Claim { place, tenant, feed: id.clone(), sinks: chosen.clone() });
        }
        if context.only.is_some_and(|only| only != id) {
            return;
        }
        // A problem of a second feed with the same id would be reported for the first one.
        if !is_second {
            self.named.push(id.clone());
        }
        let mut feed = FeedConfig {
            id,
            tenant: tenant.unwrap_or_default(),
            plugin,
            interval,
            sinks: chosen,
            contact,
            pins,
            settings: Settings::default(),
            place: SourcePlace { table: table.at(), settings: BTreeMap::new() },
            sealed: Vec::new(),
            opened: Vec::new(),
            unreadable: Vec::new(),
        };
        let settings = settings::table(reader, &table, defaults);
        if let Some(settings) = &settings {
            settings::read(reader, settings, &mut feed, files, context.environment);
        }
        // Problems of wrong settings would be found a second time by the plugin, in other words.
        if settings.is_some() && reader.problems.len() == problems_before {
            self.feeds.push(feed);
        } else {
            reader.problems.extend(feed.unreadable.into_iter().map(|(_, problem)| problem));
        }
    }

    /// Returns the sinks of a feed, and notes that a feed names them.
    fn choose_sinks(&mut self, reader: &mut ConfigReader, feed: &Table<'_>, sinks: &[ReadSink]) -> Vec<String> {
        let before = reader.problems.len();
        let chosen = chosen_sinks(reader, feed, sinks);
        // The feed's sinks are unknown then.
        self.unsure |= reader.problems.len() > before;
        self.fed.extend(chosen.iter().cloned());
        chosen
    }

    /// Checks that no two partitions write to one file, once all files of the configuration are known.
    fn check_places(&mut self, reader: &mut ConfigReader, context: &FeedContext<'_>, files: &[SeenFile]) {
        let mut places = EventFiles::new(context.state, files, &self.plugins);
        places.claim_dead_letters(reader, context.sinks);
        for Claim { place, tenant, feed, sinks } in &self.claims {
            let chosen = |sink: &&ReadSink| sink.id.as_ref().is_some_and(|id| sinks.contains(id));
            for sink in context.sinks.iter().filter(chosen) {
                places.claim(reader, place, tenant, feed, sink);
            }
        }
        places.check(reader);
    }

    /// Checks that no feed's events go to one stream of NATS by two sinks.
    fn check_streams(&self, reader: &mut ConfigReader, context: &FeedContext<'_>) {
        for (index, sink) in context.sinks.iter().enumerate() {
            let Some(config) = &sink.config else { continue };
            let others = context.sinks[..index].iter().filter_map(|other| other.config.as_ref());
            for other in others.filter(|other| other.kind.shares_stream(&config.kind)) {
                let both = |claim: &&Claim| [&config.id, &other.id].into_iter().all(|id| claim.sinks.contains(id));
                let Some(claim) = self.claims.iter().find(both) else { continue };
                let message = format!(
                    "events of the feed {:?} go to its stream by the sink {:?}, too, and the stream drops the second \
                     message with one id, expected one of them in the `sinks` of the feed, or another stream",
                    claim.feed, other.id
                );
                reader.problems.push(sink.place.problem(message));
            }
        }
    }

    /// Checks that nothing is missing, which is possible only if everything could be read.
    fn check_whole(&self, reader: &mut ConfigReader, context: &FeedContext<'_>, file: &Path, is_empty: bool) {
        let ReadFeeds { ids, fed, nameless, unsure, .. } = self;
        let problem = |message| ConfigPlace::whole(file).problem(message);
        if is_empty {
            reader.problems.push(problem("found no [[feed]], expected at least one".to_owned()));
        } else if let Some(only) = context.only.filter(|only| !nameless && !ids.contains_key(*only)) {
            reader.problems.push(problem(format!("found no feed {only:?}, expected one of: {}", listed(only, ids))));
        }
        let is_told = ids.is_empty() || *nameless || *unsure;
        for sink in context.sinks.iter().filter(|_| !is_told) {
            if let Some(id) = sink.id.as_ref().filter(|id| !fed.contains(*id)) {
                let message = format!("no feed names the sink {id:?}, expected it in the `sinks` of a feed");
                reader.problems.push(sink.place.problem(message));
            }
        }
    }
}

fn listed(only: &str, ids: &BTreeMap<String, FileLine>) -> String {
    if ids.len() <= LISTED {
        let list = ids.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let meant = suggestion::name(only, ids.keys().map(String::as_str));
        return list + &meant.map(|meant| format!("; write {meant:?}")).unwrap_or_default();
    }
    let nearest = suggestion::nearest(only, ids.keys().map(String::as_str));
    format!("{} feeds{}", ids.len(), nearest.map(|nearest| format!(", the nearest is {nearest}")).unwrap_or_default())
}

fn interval(reader: &mut ConfigReader, feed: &Table<'_>) -> Option<Interval> {
    let node = feed.child("interval")?;
    let bounded = |text: &str| duration(text).filter(|interval| *interval <= limits::LONGEST_INTERVAL);
    match node.as_text().and_then(|text| bounded(&text)) {
        None => {
            let text = node.as_text().unwrap_or_else(|| node.shown());
            let meant = suggestion::duration(&text).filter(|meant| bounded(meant).is_some());
            let meant = meant.map(|meant| format!("; write {meant:?}")).unwrap_or_default();
            let expected = "expected a duration from \"1s\" to \"31d\", such as \"1h\"";
            reader.problem(&node, format!("found {}, {expected}{meant}", node.shown()));
            None
        }
        Some(time) => {
            let written = node.as_text().unwrap_or_default();
            Some(Interval { time, written, place: node.place() })
        }
    }
}

/// Returns the ids of the sinks that a feed names; all sinks if it names none.
fn chosen_sinks(reader: &mut ConfigReader, feed: &Table<'_>, sinks: &[ReadSink]) -> Vec<String> {
    let known = || sinks.iter().filter_map(|sink| sink.id.as_deref());
    let Some(node) = feed.child("sinks") else { return known().map(str::to_owned).collect() };
    let mut chosen: Vec<String> = Vec::new();
    let nodes = reader.list(&node);
    if nodes.is_empty() && node.as_list().is_some() {
        let message = "found an empty list, expected the id of a [[sink]]: its events would go nowhere".to_owned();
        reader.problem(&node, message);
    }
    for node in nodes {
        let Some(id) = reader.text(&node, "the id of a sink") else { continue };
        if !known().any(|known| known == id) {
            // A sink without an id may be the intended one, and is already reported.
            if !reader.complete || sinks.iter().any(|sink| sink.id.is_none()) {
                continue;
            }
            let meant = suggestion::name(&id, known()).map(|meant| format!("; write {meant:?}")).unwrap_or_default();
            reader.problem(&node, format!("found {id:?}, expected the id of a [[sink]]{meant}"));
        } else if !chosen.contains(&id) {
            chosen.push(id);
        }
    }
    chosen
}

/// Keys of the feed itself that are written below its settings.
fn tell_of_keys_below_settings(
    reader: &mut ConfigReader,
    feed: &Table<'_>,
    merged: &Table<'_>,
    defaults: Option<&Table<'_>>,
) {
    for (key, table) in [("id", feed), ("tenant", merged)] {
        tell_of_key_below_settings(reader, table, key);
    }
    tell_of_pins_below_settings(reader, feed, defaults);
}

/// Reports pins below the settings: a plugin that accepts any setting would accept them, too, and the pins would not
/// apply.
fn tell_of_pins_below_settings(reader: &mut ConfigReader, table: &Table<'_>, defaults: Option<&Table<'_>>) {
    let settings = [table.child("settings"), defaults.and_then(|defaults| defaults.child("settings"))];
    for settings in settings.iter().flatten().filter_map(|node| node.as_table()) {
        for node in [pins::PLUGIN, pins::PLAN].iter().filter_map(|key| settings.child(key)) {
            reader.misplaced(&node, BELOW_SETTINGS);
        }
    }
}

/// Reports a key of the feed itself that is written below its settings.
fn tell_of_key_below_settings(reader: &mut ConfigReader, feed: &Table<'_>, key: &str) {
    let settings = feed.child("settings").and_then(|node| node.as_table());
    if let Some(node) = settings.and_then(|settings| settings.child(key)).filter(|_| feed.child(key).is_none()) {
        reader.misplaced(&node, BELOW_SETTINGS);
    }
}

/// Returns the file of a plugin; `None` for the built-in one.
fn plugin(reader: &mut ConfigReader, feed: &Table<'_>) -> Option<PathBuf> {
    let node = feed.child("plugin")?;
    let path = reader.path(&node, "the name or the path of a plugin")?;
    (node.as_text()? != built_in::NAME).then_some(path)
}

/// Returns name and address of the contact in one line.
fn contact(reader: &mut ConfigReader, feed: &Table<'_>) -> Option<String> {
    let expected = "a table: { name = \"Cloud security\", email = \"cloudsec@contoso.example\" }";
    let mut table = feed.child("contact").and_then(|node| reader.table(&node, expected))?;
    reader.known(&mut table, CONTACT);
    let mut text = |key: &str| table.child(key).and_then(|node| reader.text(&node, "a string"));
    match (text("name"), text("email")) {
        (Some(name), Some(email)) => Some(format!("{name} <{email}>")),
        (name, email) => name.or(email),
    }
}
