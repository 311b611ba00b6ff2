//! Problems of a configuration, and their places.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// A line of a file of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileLine {
    /// The path.
    pub file: PathBuf,
    /// Counted from 1; None for the whole file.
    pub line: Option<NonZeroUsize>,
}

impl FileLine {
    /// A file as a whole.
    pub fn whole(file: &Path) -> FileLine {
        FileLine { file: file.to_owned(), line: None }
    }
}

impl fmt::Display for FileLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        self.line.map_or(Ok(()), |line| write!(formatter, ":{line}"))
    }
}

/// A key of a configuration, with its file and line.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigPlace {
    /// File and line.
    pub at: FileLine,
    /// Id of the feed. `None` for a problem of the whole configuration, of defaults that several feeds share, or of a
    /// feed without a valid id.
    pub feed: Option<String>,
    /// The key with dots; for a feed's problem, relative to the feed. `None` for a whole feed or file.
    pub key: Option<String>,
}

impl ConfigPlace {
    /// A file as a whole.
    pub fn whole(file: &Path) -> ConfigPlace {
        ConfigPlace { at: FileLine::whole(file), feed: None, key: None }
    }

    /// Makes a problem of this place.
    pub fn problem(&self, message: String) -> ConfigProblem {
        ConfigProblem { place: self.clone(), message }
    }
}

/// A problem or an oddity of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigProblem {
    /// The place of the problem.
    pub place: ConfigPlace,
    /// The value that was found and the value that was expected.
    pub message: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigPlace { at, feed, key } = &self.place;
        write!(formatter, "{at}")?;
        if let Some(feed) = feed {
            write!(formatter, ": feed {feed}")?;
        }
        if let Some(key) = key {
            write!(formatter, ": {key}")?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// The problems that were already reported: for a reader, thirty feeds with one fault have one fault.
#[derive(Debug, Default)]
pub struct ReportedProblems {
    /// The place of the first problem with each message.
    places: BTreeMap<String, FileLine>,
}

impl ReportedProblems {
    /// Returns the problems, with a reference to the first place instead of a repeated message.
    pub fn brief(&mut self, problems: &[ConfigProblem]) -> Vec<ConfigProblem> {
        let mut brief = problems.to_vec();
        for problem in &mut brief {
            match self.places.get(&problem.message) {
                Some(place) => problem.message = format!("the same as at {place}"),
                None => drop(self.places.insert(problem.message.clone(), problem.place.at.clone())),
            }
        }
        brief
    }
}

/// Removes duplicates: a problem among the defaults is found again with each feed.
pub(crate) fn once_each(problems: Vec<ConfigProblem>) -> Vec<ConfigProblem> {
    let mut seen = BTreeSet::new();
    problems.into_iter().filter(|problem| seen.insert(problem.clone())).collect()
}
