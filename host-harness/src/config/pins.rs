//! The digests that a feed's plugin and plan must have: whoever reviewed a page of `inspect` pins the digests on it.

use super::reader::{ConfigReader, Table};
use super::{ConfigPlace, ConfigProblem};
use crate::admitted::AdmittedFeed;

/// Key of the plugin's digest; `[feed_defaults]` may have it, too.
pub const PLUGIN: &str = "plugin_sha256";
/// Key of the plan's digest.
pub const PLAN: &str = "plan_sha256";

/// The pinned digests of a feed's plugin and plan.
#[derive(Debug, Clone, Default)]
pub struct Pins {
    /// Digest of the component.
    pub plugin: Option<Box<Pin>>,
    /// Digest of the plan.
    pub plan: Option<Box<Pin>>,
}

/// A pinned digest.
#[derive(Debug, Clone)]
pub struct Pin {
    /// The digest in lower-case hexadecimal.
    pub sha256: String,
    /// The place in the configuration.
    pub place: ConfigPlace,
}

impl Pins {
    /// The pins of a feed, whose table is `merged` with the defaults.
    pub(super) fn read(reader: &mut ConfigReader, feed: &Table<'_>, merged: &Table<'_>) -> Pins {
        Pins { plugin: pin(reader, merged, PLUGIN), plan: pin(reader, feed, PLAN) }
    }

    /// Returns the problem of a plugin whose digest differs from the pin.
    pub fn plugin_problem(&self, found: &str) -> Option<ConfigProblem> {
        let pin = self.plugin.as_ref().filter(|pin| pin.sha256 != found)?;
        Some(pin.problem("a plugin", PLUGIN, found))
    }

    /// Returns the problem of a plan whose digest differs from the pin.
    pub fn plan_problem(&self, found: &str) -> Option<ConfigProblem> {
        let pin = self.plan.as_ref().filter(|pin| pin.sha256 != found)?;
        Some(pin.problem("a plan", PLAN, found))
    }

    /// Returns the problems of an admitted feed whose digests differ from the pins.
    pub fn problems(&self, feed: &AdmittedFeed) -> Vec<ConfigProblem> {
        let plan = feed.plan_digest().unwrap_or_default();
        self.plugin_problem(feed.plugin_digest()).into_iter().chain(self.plan_problem(&plan)).collect()
    }
}

impl Pin {
    fn problem(&self, what: &str, key: &str, found: &str) -> ConfigProblem {
        let Pin { sha256, place } = self;
        place.problem(format!(
            "found {what} with the SHA-256 {found}, expected {sha256}; see with `inspect -c` what it lets out, and only if \
             that is meant write {key} = \"{found}\""
        ))
    }
}

/// The expected form of a pin.
const EXPECTED: &str = "the 64 hexadecimal digits that `inspect -c` prints";

fn pin(reader: &mut ConfigReader, table: &Table<'_>, key: &str) -> Option<Box<Pin>> {
    let node = table.child(key)?;
    let text = reader.text(&node, EXPECTED)?;
    if is_digest(&text) {
        return Some(Box::new(Pin { sha256: text.to_ascii_lowercase(), place: node.place() }));
    }
    let meant = text.trim().to_ascii_lowercase();
    let meant = meant.strip_prefix("sha256").map_or(meant.as_str(), |rest| rest.trim_start_matches([':', '-', '=']));
    let meant: String = meant.chars().filter(|one| *one != ':' && !one.is_whitespace()).collect();
    let digits = text.chars().all(|one| one.is_ascii_hexdigit()) && !text.is_empty();
    let found = if digits { format!("{} digits", text.len()) } else { node.shown() };
    let meant = if is_digest(&meant) { format!("; write {meant:?}") } else { String::new() };
    reader.problem(&node, format!("found {found}, expected {EXPECTED}{meant}"));
    None
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
