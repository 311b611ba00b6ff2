//! The tables `[feed_defaults]` and `[[feed]]`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use source_host::credentials::secret::{Secret, Zeroizing};
use source_host::credentials::settings::Settings;
use source_host::credentials::spelling::{self, Trimmed};
use source_host::limits;

use super::reader::{Reader, Table};
use super::sinks::ReadSink;
use super::{
    Environment, FeedConfig, Interval, Named, Problem, REFERENCE, SeenFile, SourcePlace, duration, referenced,
    suggestion,
};
use crate::built_in;
use crate::sink::SinkKind;
use crate::sink::disk;
use crate::sink::file::Aside;
use crate::store::Partition;

pub const FEED: &[&str] = &["id", "tenant", "plugin", "interval", "sinks", "contact", "settings"];
/// Of those, the ones that may stand in `[feed_defaults]` too.
pub const SHARED: &[&str] = &["tenant", "plugin", "interval", "sinks", "contact"];
const CONTACT: &[&str] = &["name", "email"];

/// The longest interval; a schedule beyond a month is a mistake.
const LONG_INTERVAL: Duration = Duration::from_secs(31 * 86_400);

/// Stands where a credential cannot be read.
const UNREADABLE: &str = "unreadable";

/// What is said of a key of the feed that stands below its settings: TOML takes it for one of them.
pub const BELOW_SETTINGS: &str = "belongs to [[feed]]: move it above [feed.settings]";

/// More feeds than this are not listed one by one.
const LISTED: usize = 20;

/// The other parts of one configuration, which its feeds refer to.
pub struct Parts<'a> {
    /// The tables of all its files.
    pub tops: &'a [Table<'a>],
    /// Its sinks.
    pub sinks: &'a [ReadSink],
    /// Its state.
    pub state: &'a Path,
    /// Its first file.
    pub whole: Option<&'a Path>,
    /// The one feed that is asked for.
    pub only: Option<&'a str>,
    /// The variables that it may name.
    pub environment: Environment<'a>,
}

/// The feeds of a configuration, and those that have an id.
pub fn read(
    reader: &mut Reader,
    parts: &Parts<'_>,
    defaults: Option<&mut Table<'_>>,
    files: &mut Vec<SeenFile>,
) -> (Vec<FeedConfig>, Vec<Named>) {
    let defaults = defaults.map(|defaults| {
        reader.known(defaults, FEED);
        if let Some(node) = defaults.child("id") {
            reader.misplaced(&node, "an id belongs to one feed, not to the defaults");
        }
        &*defaults
    });
    let nodes = parts.tops.iter().filter_map(|top| top.child("feed")).collect::<Vec<_>>();
    let mut read = ReadFeeds::default();
    for table in nodes.iter().flat_map(|node| reader.tables(node)).collect::<Vec<_>>() {
        read.take(reader, parts, table, defaults, files);
    }
    read.check_places(reader, parts, files);
    if let Some(file) = parts.whole.filter(|_| reader.complete) {
        read.check_whole(reader, parts, file, nodes.is_empty());
    }
    (read.feeds, read.named)
}

/// What was read of feeds so far.
#[derive(Default)]
struct ReadFeeds {
    feeds: Vec<FeedConfig>,
    named: Vec<Named>,
    /// The place of each id.
    ids: BTreeMap<String, String>,
    /// Sinks that a feed names.
    fed: BTreeSet<String>,
    claims: Vec<Claim>,
    plugins: Vec<PathBuf>,
    /// Whether a feed has no id.
    nameless: bool,
    /// Whether it is not known which sinks a feed names.
    unsure: bool,
}

/// A feed's wish to write to its sinks.
struct Claim {
    place: Problem,
    tenant: String,
    feed: String,
    sinks: Vec<String>,
}

impl ReadFeeds {
    fn take(
        &mut self,
        reader: &mut Reader,
        parts: &Parts<'_>,
        table: Table<'_>,
        defaults: Option<&Table<'_>>,
        files: &mut Vec<SeenFile>,
    ) {
        let problems_before = reader.problems.len();
        let mut table = table.by_id("feed", &self.ids);
        reader.known(&mut table, FEED);
        let merged = table.over(defaults);
        for key in ["id", "tenant"] {
            let table = if key == "id" { &table } else { &merged };
            let settings = table.child("settings").and_then(|node| node.as_table());
            if let Some(node) = settings.and_then(|settings| settings.child(key)).filter(|_| table.child(key).is_none())
            {
                reader.misplaced(&node, BELOW_SETTINGS);
            }
        }
        let id = reader.own_id(&table, &mut self.ids);
        let tenant = reader.id(&merged, "tenant").map(|(tenant, _)| tenant);
        self.nameless |= id.is_none();
        let interval = interval(reader, &merged);
        let before = reader.problems.len();
        let chosen = chosen_sinks(reader, &merged, parts.sinks);
        // Nobody knows what is meant.
        self.unsure |= reader.problems.len() > before;
        self.fed.extend(chosen.iter().cloned());
        let contact = contact(reader, &merged);
        let Some((id, is_second)) = id else { return };
        let plugin = merged.child("plugin").and_then(|node| {
            let path = reader.path(&node, "the name or the path of a plugin")?;
            (node.as_text()? != built_in::NAME).then_some(path)
        });
        self.plugins.extend(plugin.clone());
        if let Some(tenant) = tenant.clone() {
            let place = table.source.problem(table.line, &table.path("sinks"), String::new());
            self.claims.push(Claim { place, tenant, feed: id.clone(), sinks: chosen.clone() });
        }
        if parts.only.is_some_and(|only| only != id) {
            return;
        }
        // One of a second of the same id would be told of the first.
        if !is_second {
            self.named.push(Named { id: id.clone(), file: table.source.file.to_owned(), key: table.key.clone() });
        }
        let mut feed = FeedConfig {
            id,
            tenant: tenant.unwrap_or_default(),
            plugin,
            interval,
            sinks: chosen,
            contact,
            settings: Settings::default(),
            place: SourcePlace { file: table.source.file.to_owned(), line: table.line, settings: BTreeMap::new() },
            sealed: Vec::new(),
            opened: Vec::new(),
            unreadable: Vec::new(),
        };
        let has_settings = settings(reader, &table, defaults, &mut feed, files, parts.environment).is_some();
        // What is wrong already would be found again, in other words.
        if has_settings && reader.problems.len() == problems_before {
            self.feeds.push(feed);
        } else {
            reader.problems.extend(feed.unreadable.into_iter().map(|(_, problem)| problem));
        }
    }

    /// Whether two ways lead into one file. Asked when all files of the configuration are known.
    fn check_places(&mut self, reader: &mut Reader, parts: &Parts<'_>, files: &[SeenFile]) {
        let mut places = EventFiles::new(parts.state, files, &self.plugins);
        places.claim_dead_letters(reader, parts.sinks);
        for Claim { place, tenant, feed, sinks } in &self.claims {
            let chosen = |sink: &&ReadSink| sink.id.as_ref().is_some_and(|id| sinks.contains(id));
            for sink in parts.sinks.iter().filter(chosen) {
                places.claim(reader, place, tenant, feed, sink);
            }
        }
        places.check(reader);
    }

    /// What can be said only where everything could be read: that something is missing.
    fn check_whole(&self, reader: &mut Reader, parts: &Parts<'_>, file: &Path, is_empty: bool) {
        let ReadFeeds { ids, fed, nameless, unsure, .. } = self;
        let problem = |message| Problem { file: file.to_owned(), line: 0, key: String::new(), message };
        if is_empty {
            reader.problems.push(problem("found no [[feed]], expected at least one".to_owned()));
        } else if let Some(only) = parts.only.filter(|only| !nameless && !ids.contains_key(*only)) {
            reader.problems.push(problem(format!("found no feed {only:?}, expected one of: {}", listed(only, ids))));
        }
        let is_told = ids.is_empty() || *nameless || *unsure;
        for sink in parts.sinks.iter().filter(|_| !is_told) {
            if let Some(id) = sink.id.as_ref().filter(|id| !fed.contains(*id)) {
                let message = format!("no feed names the sink {id:?}, expected it in the `sinks` of a feed");
                reader.problems.push(Problem { message, ..sink.place.clone() });
            }
        }
    }
}

/// Files that are written: two ways into one file would cut and rotate it under each other, and some files are not for
/// events. Paths that differ in case alone are the same on some file systems.
#[derive(Default)]
struct EventFiles {
    /// Files that are not for events, and why.
    reserved: BTreeMap<PathBuf, String>,
    taken: BTreeMap<PathBuf, ClaimedFile>,
    /// Files with several names, by device and inode, each under the first of its names that is met.
    linked: BTreeMap<(u64, u64), PathBuf>,
}

/// A file of events, and who was the first to claim it.
struct ClaimedFile {
    partition: Partition,
    aside: Aside,
    /// Says whose events go there.
    whose: String,
    place: Problem,
}

impl EventFiles {
    fn new(state: &Path, files: &[SeenFile], plugins: &[PathBuf]) -> EventFiles {
        let mut places = EventFiles::default();
        for end in ["", "-wal", "-shm", "-journal", ".lock"] {
            let mut path = state.as_os_str().to_owned();
            path.push(end);
            let path = places.folded(Path::new(&path));
            places.reserved.insert(path, "the state".to_owned());
        }
        // A folder there is a mistake of its own.
        for seen in files.iter().filter(|seen| !seen.path.is_dir()) {
            let path = places.folded(&seen.path);
            places.reserved.insert(path, "a file of the configuration".to_owned());
        }
        for plugin in plugins {
            let path = places.folded(plugin);
            places.reserved.insert(path, "a plugin".to_owned());
        }
        places
    }

    /// A path as it is compared: two names of one file are one.
    fn folded(&mut self, path: &Path) -> PathBuf {
        let path = followed(path);
        let folded = PathBuf::from(path.to_string_lossy().to_lowercase());
        match std::fs::metadata(&path) {
            Ok(met) if met.is_file() && met.nlink() > 1 => {
                self.linked.entry((met.dev(), met.ino())).or_insert(folded).clone()
            }
            _ => folded,
        }
    }

    fn claim_dead_letters(&mut self, reader: &mut Reader, sinks: &[ReadSink]) {
        for sink in sinks {
            let Some(config) = &sink.config else { continue };
            let path = config.dead_letters.display();
            let whose = format!("the file of dead letters of the sink {:?}", config.id);
            let place = self.folded(&config.dead_letters);
            if let Some(before) = self.reserved.insert(place, whose) {
                let message = format!("its dead letters go to {path}, which is {before}, expected a file of their own");
                reader.problems.push(Problem { message, ..sink.place.clone() });
            }
        }
    }

    fn claim(&mut self, reader: &mut Reader, place: &Problem, tenant: &str, feed: &str, sink: &ReadSink) {
        let Some(config) = &sink.config else { return };
        let SinkKind::File(file) = &config.kind else { return };
        let path = file.path.filled(tenant, feed);
        let taken = ClaimedFile {
            partition: config.partition(tenant, feed),
            aside: file.path.aside(),
            whose: format!("those of the feed {feed:?} for the sink {:?}", config.id),
            place: Problem { message: path.clone(), ..place.clone() },
        };
        let place = self.folded(Path::new(&path));
        match self.taken.entry(place) {
            Entry::Vacant(vacant) => drop(vacant.insert(taken)),
            Entry::Occupied(first) if first.get().partition == taken.partition => {}
            Entry::Occupied(first) => {
                let found = format!("where {} go too", first.get().whose);
                reader.problems.push(taken.problem(&found));
            }
        }
    }

    /// Finds what is in the way of files of events when all are known.
    fn check(&self, reader: &mut Reader) {
        for (path, taken) in &self.taken {
            let written = Path::new(&taken.place.message);
            if let Some(unfit) = disk::unfit(written) {
                let message = format!("its events go to {}, {unfit}", written.display());
                reader.problems.push(Problem { message, ..taken.place.clone() });
                continue;
            }
            if let Some(reserved) = self.reserved.get(path) {
                reader.problems.push(taken.problem(&format!("which is {reserved}")));
            }
            for above in path.ancestors().skip(1) {
                if let Some(reserved) = self.reserved.get(above) {
                    reader.problems.push(taken.problem(&format!("which lies below {reserved}")));
                }
                if let Some(other) = self.taken.get(above) {
                    reader.problems.push(other.problem(&format!("the folder in which {} go to a file", taken.whose)));
                }
            }
            if let Some(live) = self.put_aside(path) {
                reader.problems.push(
                    taken.problem(&format!("a name that the file of {} may get when it is put aside", live.whose)),
                );
            }
        }
        for (path, reserved) in &self.reserved {
            if let Some(live) = self.put_aside(path) {
                reader
                    .problems
                    .push(live.problem(&format!("which may get the name of {reserved} when it is put aside")));
            }
            for live in path.ancestors().skip(1).filter_map(|above| self.taken.get(above)) {
                reader.problems.push(live.problem(&format!("the folder of {reserved}")));
            }
        }
    }

    /// The file of events that has this path when it is put aside.
    fn put_aside(&self, path: &Path) -> Option<&ClaimedFile> {
        let name = path.file_name()?.to_str()?;
        [Aside::Numbered, Aside::Marked].into_iter().find_map(|aside| {
            let (live, _) = aside.split(name)?;
            self.taken.get(&path.with_file_name(live)).filter(|taken| taken.aside == aside)
        })
    }
}

impl ClaimedFile {
    fn problem(&self, found: &str) -> Problem {
        let message = format!("its events go to {}, {found}, expected a file of their own", self.place.message);
        Problem { message, ..self.place.clone() }
    }
}

/// A path with its symbolic links followed, as far as it is there.
fn followed(path: &Path) -> PathBuf {
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // A link may lead to a file that comes later. Links that lead in a circle end nowhere.
    for _ in 0..limits::LINKS {
        match std::fs::read_link(&path) {
            Ok(target) if !path.exists() => path = path.parent().unwrap_or(&path).join(target),
            _ => break,
        }
    }
    let there = path.ancestors().find_map(|above| Some((above, std::fs::canonicalize(above).ok()?)));
    match there {
        Some((above, found)) => match path.strip_prefix(above) {
            Ok(rest) if !rest.as_os_str().is_empty() => plain(&found.join(rest)),
            _ => found,
        },
        None => plain(&path),
    }
}

/// A path without detours, as far as its text tells.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

fn listed(only: &str, ids: &BTreeMap<String, String>) -> String {
    if ids.len() <= LISTED {
        let list = ids.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let meant = suggestion::name(only, ids.keys().map(String::as_str));
        return list + &meant.map(|meant| format!("; write {meant:?}")).unwrap_or_default();
    }
    let nearest = suggestion::nearest(only, ids.keys().map(String::as_str));
    format!("{} feeds{}", ids.len(), nearest.map(|nearest| format!(", the nearest is {nearest}")).unwrap_or_default())
}

fn interval(reader: &mut Reader, feed: &Table<'_>) -> Option<Interval> {
    let node = feed.child("interval")?;
    let bounded = |text: &str| duration(text).filter(|interval| *interval <= LONG_INTERVAL);
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
            let text = node.as_text().unwrap_or_default();
            Some(Interval { time, written: node.source.problem(node.line, &node.key, text) })
        }
    }
}

/// Ids of the sinks that a feed names; all without any.
fn chosen_sinks(reader: &mut Reader, feed: &Table<'_>, sinks: &[ReadSink]) -> Vec<String> {
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
            // One without an id may be the one that is meant, and was told.
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

/// Name and address in one line.
fn contact(reader: &mut Reader, feed: &Table<'_>) -> Option<String> {
    let expected = "a table: { name = \"Cloud security\", email = \"cloudsec@contoso.example\" }";
    let mut table = feed.child("contact").and_then(|node| reader.table(&node, expected))?;
    reader.known(&mut table, CONTACT);
    let mut text = |key: &str| table.child(key).and_then(|node| reader.text(&node, "a text"));
    match (text("name"), text("email")) {
        (Some(name), Some(email)) => Some(format!("{name} <{email}>")),
        (name, email) => name.or(email),
    }
}

fn settings(
    reader: &mut Reader,
    feed: &Table<'_>,
    defaults: Option<&Table<'_>>,
    config: &mut FeedConfig,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) -> Option<()> {
    let expected = "the table [feed.settings]";
    let given = feed.child("settings");
    let own = given.as_ref().and_then(|node| reader.table(node, expected));
    let shared = defaults.and_then(|defaults| defaults.child("settings"));
    let shared = shared.and_then(|node| reader.table(&node, "the table [feed_defaults.settings]"));
    if given.is_some() && own.is_none() {
        return None;
    }
    let Some(table) = own.or_else(|| shared.clone()).map(|table| table.over(shared.as_ref())) else {
        reader.missing(feed, "settings", expected);
        return None;
    };
    let (mut plain, mut secrets, mut trimmed) = (Map::new(), BTreeMap::new(), Vec::new());
    for node in table.children() {
        config.place.settings.insert(node.name.clone(), (node.source.file.to_owned(), node.line));
        let Some(mut reference) = node.as_table().filter(|table| table.child("env").or(table.child("file")).is_some())
        else {
            plain.insert(node.name.clone(), node.json());
            continue;
        };
        reader.known(&mut reference, REFERENCE);
        let Some(value) = referenced(reader, node, &reference, files, environment) else { continue };
        let is_plain = reference.child("plain").and_then(|node| reader.truth(&node)) == Some(true);
        let value = value.or_else(|message| {
            config.unreadable.push((node.name.clone(), node.source.problem(node.line, &node.key, message)));
            if is_plain { Err(()) } else { Ok(Zeroizing::new(UNREADABLE.to_owned())) }
        });
        let Ok(value) = value else { continue };
        let Trimmed { text, remark } = spelling::trimmed(&value);
        if is_plain {
            config.opened.push(node.name.clone());
            plain.insert(node.name.clone(), Value::from(text));
            continue;
        }
        trimmed.extend(remark.map(|remark| (node.name.clone(), remark)));
        config.sealed.push(node.name.clone());
        secrets.insert(node.name.clone(), Secret::new(text));
    }
    config.settings = Settings::new(plain, secrets).with_trimmed(trimmed);
    Some(())
}
