//! The files of events: no two partitions write to one file, and none writes to a file that is not for events.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::reader::ConfigReader;
use super::sinks::ReadSink;
use super::{Config, ConfigPlace, ConfigProblem, SeenFile};
use crate::limits;
use crate::sink::file::Aside;
use crate::sink::{SinkKind, disk};
use crate::store::Partition;

/// The files that are written. Two partitions in one file would cut and rotate it for each other, and some files are
/// not for events. Paths that differ only in case, or in dots at the end of a name, are the same on some file systems.
#[derive(Default)]
pub(super) struct EventFiles {
    /// Files that are not for events, with the reasons.
    reserved: BTreeMap<PathBuf, String>,
    taken: BTreeMap<PathBuf, ClaimedFile>,
    /// Files with several names, by device and inode, each under the first of its names.
    linked: BTreeMap<(u64, u64), PathBuf>,
}

/// A file of events, and its first claimant.
struct ClaimedFile {
    partition: Partition,
    aside: Aside,
    /// Describes whose events go to the file.
    whose: String,
    /// The file as the configuration names it.
    path: String,
    place: ConfigPlace,
}

impl EventFiles {
    pub(super) fn new(state: Option<&Path>, files: &[SeenFile], plugins: &[PathBuf]) -> EventFiles {
        let mut places = EventFiles::default();
        let ends = ["", "-wal", "-shm", "-journal", ".lock"];
        for (state, end) in state.iter().flat_map(|state| ends.map(|end| (state, end))) {
            let mut path = state.as_os_str().to_owned();
            path.push(end);
            let path = places.folded(Path::new(&path));
            places.reserved.insert(path, "the state".to_owned());
        }
        // A folder in place of a file is reported elsewhere.
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

    /// Returns a path in the form that is compared: two names of one file are equal.
    fn folded(&mut self, path: &Path) -> PathBuf {
        let path = followed(path);
        let folded = folded_names(&path);
        match std::fs::metadata(&path) {
            Ok(met) if met.is_file() && met.nlink() > 1 => {
                self.linked.entry((met.dev(), met.ino())).or_insert(folded).clone()
            }
            _ => folded,
        }
    }

    pub(super) fn claim_dead_letters(&mut self, reader: &mut ConfigReader, sinks: &[ReadSink]) {
        for sink in sinks {
            let Some(config) = &sink.config else { continue };
            let path = config.dead_letters.display();
            let whose = format!("the file of dead letters of the sink {:?}", config.id);
            let place = self.folded(&config.dead_letters);
            if let Some(before) = self.reserved.insert(place, whose) {
                let message = format!("its dead letters go to {path}, which is {before}, expected a file of their own");
                reader.problems.push(sink.place.problem(message));
            }
        }
    }

    pub(super) fn claim(
        &mut self,
        reader: &mut ConfigReader,
        place: &ConfigPlace,
        tenant: &str,
        feed: &str,
        sink: &ReadSink,
    ) {
        let Some(config) = &sink.config else { return };
        let SinkKind::File(file) = &config.kind else { return };
        let path = file.path.filled(tenant, feed);
        let taken = ClaimedFile {
            partition: config.partition(tenant, feed),
            aside: file.path.aside(),
            whose: format!("those of the feed {feed:?} for the sink {:?}", config.id),
            path,
            place: place.clone(),
        };
        let place = self.folded(Path::new(&taken.path));
        match self.taken.entry(place) {
            Entry::Vacant(vacant) => drop(vacant.insert(taken)),
            Entry::Occupied(first) if first.get().partition == taken.partition => {}
            Entry::Occupied(first) => {
                let first = first.get();
                let found = match first.path == taken.path {
                    true => format!("where {} go too", first.whose),
                    false => format!(
                        "where {} go too, since {} is the same file, at least on some file systems",
                        first.whose, first.path
                    ),
                };
                reader.problems.push(taken.problem(&found));
            }
        }
    }

    /// Checks the files of events, once all files are known.
    pub(super) fn check(&self, reader: &mut ConfigReader) {
        for (path, taken) in &self.taken {
            let written = Path::new(&taken.path);
            if let Some(unfit) = disk::unfit(written) {
                let message = format!("its events go to {}, {unfit}", written.display());
                reader.problems.push(taken.place.problem(message));
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

    /// Returns the file of events whose rotated files may have this path.
    fn put_aside(&self, path: &Path) -> Option<&ClaimedFile> {
        let name = path.file_name()?.to_str()?;
        [Aside::Numbered, Aside::Marked].into_iter().find_map(|aside| {
            let (live, _) = aside.split(name)?;
            self.taken.get(&path.with_file_name(folded_name(live))).filter(|taken| taken.aside == aside)
        })
    }
}

/// Refuses files of events and dead letters that are this state, or a file beside it. A state that the command line names
/// is not known when the configuration is read.
pub fn keep_off_state(config: &mut Config, state: &Path) {
    let mut files = EventFiles::new(Some(state), &[], &[]);
    let mut problems = Vec::new();
    for feed in &config.feeds {
        for sink in config.sinks.iter().filter(|sink| feed.sinks.contains(&sink.id)) {
            let events = match &sink.kind {
                SinkKind::File(file) => Some(PathBuf::from(file.path.filled(&feed.tenant, &feed.id))),
                SinkKind::Stdout | SinkKind::Http(_) => None,
                #[cfg(feature = "nats")]
                SinkKind::Nats(_) => None,
            };
            for (what, path) in
                events.map(|path| ("events", path)).into_iter().chain([("dead letters", sink.dead_letters.clone())])
            {
                let place = files.folded(&path);
                if let Some(reserved) = files.reserved.get(&place) {
                    let path = path.display();
                    let message = format!("its {what} go to {path}, which is {reserved}, expected a file of their own");
                    let (at, key) = (feed.place.table.clone(), Some("sinks".to_owned()));
                    problems.push(ConfigPlace { at, feed: Some(feed.id.clone()), key }.problem(message));
                }
            }
        }
    }
    config.problems.extend(problems);
}

impl ClaimedFile {
    fn problem(&self, found: &str) -> ConfigProblem {
        self.place.problem(format!("its events go to {}, {found}, expected a file of their own", self.path))
    }
}

/// Writes the names of a path in the form in which file systems of Windows compare them: without case, and without dots
/// and spaces at the end, so that `acme.` is `acme`.
fn folded_names(path: &Path) -> PathBuf {
    let lower = path.to_string_lossy().to_lowercase();
    PathBuf::from(lower.split('/').map(folded_name).collect::<Vec<_>>().join("/"))
}

/// Takes dots and spaces from the end of a name that has more than these.
fn folded_name(name: &str) -> &str {
    match name.trim_end_matches(['.', ' ']) {
        "" => name,
        trimmed => trimmed,
    }
}

/// Follows the symbolic links of a path, as far as it exists.
fn followed(path: &Path) -> PathBuf {
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // A link may lead to a file that does not exist yet. A circle of links leads nowhere.
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

/// Removes `.` and `..` from a path, without the file system.
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
