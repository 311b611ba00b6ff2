//! The recordings that the program carries: one for each kind of answer that the built-in plugin meets, with the events or the
//! failure that follow.

use serde::Serialize;
use source_host::digest;
use source_host::plugin::Plugin;

use crate::recording::cassette::Cassette;
use crate::recording::replay::{self, Replayed};

/// A recording that the program carries.
#[derive(Debug, Clone, Copy)]
pub struct BundledRecording {
    /// Name of its file, without the ending.
    pub name: &'static str,
    /// Text of the cassette.
    pub cassette: &'static str,
    /// Text of the document beside the cassette: failures, codes, digests and events.
    pub expected: &'static str,
}

/// All recordings, sorted by name.
pub const RECORDINGS: &[BundledRecording] = include!(concat!(env!("OUT_DIR"), "/recordings.rs"));

/// Returns the recording with this name.
pub fn named(name: &str) -> Option<&'static BundledRecording> {
    RECORDINGS.iter().find(|recording| recording.name == name)
}

/// The result of one recording.
#[derive(Debug, Serialize)]
pub struct PlayedRecording {
    /// Name of the recording.
    pub recording: &'static str,
    /// A description for readers.
    pub docs: String,
    /// `collected` if there was data, and the codes of the failure, the outcomes, the notices and the skipped scopes.
    pub outcome: Vec<String>,
    /// Number of events.
    pub events: usize,
    /// SHA-256 of the events as NDJSON.
    pub sha256: String,
    /// Whether failure, codes and events equal the document beside the cassette.
    pub ok: bool,
    /// Every difference, or every reason why the recording does not play.
    pub differences: Vec<String>,
}

impl BundledRecording {
    /// Plays the recording and compares the result with the document beside it.
    pub async fn play(&self, plugin: &Plugin) -> PlayedRecording {
        let cassette = Cassette::read(self.cassette);
        let docs = cassette.as_ref().map(|cassette| cassette.docs.clone()).unwrap_or_default();
        let played = match &cassette {
            Ok(cassette) => replay::play(plugin, cassette).await.map_err(|error| error.findings()),
            Err(error) => Err(error.findings()),
        };
        let (outcome, played, differences) = match played {
            Ok(played) => {
                let compared = played.compare_with(self.expected);
                (outcome(&played), played, compared.err().map(|error| error.findings()).unwrap_or_default())
            }
            Err(findings) => (vec!["does not play".to_owned()], Replayed::default(), findings),
        };
        PlayedRecording {
            recording: self.name,
            docs,
            outcome,
            events: played.events.len(),
            sha256: digest::digest(&played.lines()),
            ok: differences.is_empty(),
            differences,
        }
    }
}

/// Returns the outcome of a poll: `collected` if there was data, and all codes.
pub fn outcome(played: &Replayed) -> Vec<String> {
    let collected = (played.collected > 0).then_some("collected");
    let failures = played.failures.iter().map(|failed| failed.failure.code.as_str());
    let skipped = played.skipped.iter().map(|skipped| skipped.reason.code.as_str());
    let mut outcome = Vec::from_iter(collected.map(str::to_owned));
    for code in failures.chain(played.codes()).chain(skipped) {
        if !outcome.iter().any(|known| known == code) {
            outcome.push(code.to_owned());
        }
    }
    outcome
}

/// Returns a table for people, with a line for each recording, no line wider than so many characters.
pub fn table(all: &[PlayedRecording], width: usize) -> String {
    let head = ["recording".to_owned(), "outcome".to_owned(), "it shows".to_owned()];
    let cells = all.iter().map(|played| {
        let first = played.docs.split(". ").next().unwrap_or_default().trim_end_matches('.');
        let ok = if played.ok { "ok" } else { "no" };
        ([played.recording.to_owned(), played.outcome.join(", "), first.to_owned()], played.events.to_string(), ok)
    });
    let rows: Vec<_> = [(head, "events".to_owned(), "as expected")].into_iter().chain(cells).collect();
    let [names, outcomes] = [0, 1].map(|column| rows.iter().map(|row| row.0[column].len()).max().unwrap_or_default());
    let line = |([name, outcome, shows], events, ok): &([String; 3], String, &str)| {
        // A narrow terminal has the verdict, whatever it cuts off.
        let line = format!("{name:names$}  {ok:11}  {events:>6}  {outcome:outcomes$}  {shows}");
        let is_wide = line.chars().count() > width;
        let cut = if is_wide { line.chars().take(width.saturating_sub(1)).chain(['…']).collect() } else { line };
        cut.trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
