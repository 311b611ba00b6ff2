//! The state that one poll leaves for the next: the last seen version of every finding, and the outcome of the
//! collection.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::contract::Failure;
use crate::diagnoses::STATE_UNREADABLE;
use crate::json::write::{Json, object};
use crate::number;
use crate::service_error;

/// The format of this version, with which the state begins: `{"format":1,…`.
const FORMAT: u32 = 1;

/// The state of one scope.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    format: u32,
    /// Names of the event kinds that were collected before: a finding of such a kind that is not in the state is new.
    pub kinds: Vec<String>,
    /// When data was last collected, in Unix milliseconds.
    pub collected: Option<u64>,
    /// When the last snapshot was, in Unix milliseconds.
    pub snapshot: Option<u64>,
    /// The outcome without data; `None` if data was collected.
    pub outcome: Option<Outcome>,
    /// Findings by uid.
    pub findings: BTreeMap<String, KnownFinding>,
}

/// An outcome without data, and its cause.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Code of the failure.
    pub code: String,
    /// Since when, in Unix milliseconds.
    pub since: u64,
}

/// The last seen version of a finding; numbers keep their spelling.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownFinding {
    /// Name of the event kind.
    pub kind: String,
    /// Resource id with the service's spelling.
    pub id: String,
    /// Last segment of the id.
    pub name: String,
    /// Resource type.
    pub resource_type: String,
    /// The finding's name for people.
    pub title: String,
    /// `score.max`.
    #[serde(default)]
    pub max: Option<String>,
    /// `score.current`.
    #[serde(default)]
    pub current: Option<String>,
    /// `score.percentage`.
    #[serde(default)]
    pub percentage: Option<String>,
    /// `healthyResourceCount`.
    #[serde(default)]
    pub healthy: Option<String>,
    /// `unhealthyResourceCount`.
    #[serde(default)]
    pub unhealthy: Option<String>,
    /// `notApplicableResourceCount`.
    #[serde(default)]
    pub not_applicable: Option<String>,
    /// When the finding was first seen, in Unix milliseconds like all times.
    pub first_seen: u64,
    /// When the finding last changed.
    pub changed: u64,
    /// When the finding was last seen.
    pub last_seen: u64,
    /// Number of consecutive complete polls without the finding.
    #[serde(default)]
    pub absences: u8,
    /// When the finding was closed.
    #[serde(default)]
    pub closed: Option<u64>,
}

impl State {
    /// The state before the first poll.
    pub fn empty() -> State {
        State {
            format: FORMAT,
            kinds: Vec::new(),
            collected: None,
            snapshot: None,
            outcome: None,
            findings: BTreeMap::new(),
        }
    }

    /// Returns the same state without its findings.
    pub fn without_findings(&self) -> State {
        let State { format, ref kinds, collected, snapshot, ref outcome, findings: _ } = *self;
        State { format, kinds: kinds.clone(), collected, snapshot, outcome: outcome.clone(), findings: BTreeMap::new() }
    }

    /// Reads the state of an earlier poll. An unreadable state is a failure, never a fresh start.
    pub fn read(bytes: &[u8]) -> Result<State, Failure> {
        let read = std::str::from_utf8(bytes).ok().and_then(|text| serde_json::from_str::<State>(text).ok());
        let state = match read.filter(|state| state.format == FORMAT) {
            Some(state) => state,
            None => State::read_exactly(bytes)?,
        };
        match state.findings.iter().find(|(_, kept)| kept.numbers().any(|number| !number::is_number(number))) {
            None => Ok(state),
            Some((uid, _)) => {
                Err(STATE_UNREADABLE.failure(&format!("the figure of {} is not a number", service_error::shown(uid))))
            }
        }
    }

    /// Reads a state for its fault.
    fn read_exactly(bytes: &[u8]) -> Result<State, Failure> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        // The reader's error quotes the state, which may contain any text.
        let unreadable = |what: &str, error: serde_json::Error| {
            STATE_UNREADABLE.failure(&format!("{what}{}", service_error::shown(&error.to_string())))
        };
        let format =
            serde_json::from_slice::<Format>(bytes).map_err(|error| unreadable("it names no format: ", error))?.format;
        if format != FORMAT {
            return Err(STATE_UNREADABLE.failure(&format!("found format {format}, expected {FORMAT}")));
        }
        serde_json::from_slice(bytes).map_err(|error| unreadable("", error))
    }

    /// Returns the state with times after `now` corrected, which a clock that was ahead wrote. The times keep their
    /// order and end at `now`, because findings that were seen together are compared together. The next poll reports
    /// everything again.
    pub fn brought_back(mut self, now: u64) -> State {
        self.snapshot = self.snapshot.filter(|snapshot| *snapshot <= now);
        let ahead: BTreeSet<u64> = self.times().map(|time| *time).filter(|time| *time > now).collect();
        for time in self.times() {
            let later = ahead.range(time.saturating_add(1)..).count() as u64;
            *time = (*time).min(now.saturating_sub(later));
        }
        self
    }

    /// Returns all times except that of the snapshot.
    fn times(&mut self) -> impl Iterator<Item = &mut u64> {
        let outcome = self.outcome.iter_mut().map(|outcome| &mut outcome.since);
        let of_findings = self.findings.values_mut().flat_map(|kept| {
            let KnownFinding { first_seen, changed, last_seen, closed, .. } = kept;
            [first_seen, changed, last_seen].into_iter().chain(closed)
        });
        self.collected.iter_mut().chain(outcome).chain(of_findings)
    }

    /// Serializes the state for the next poll.
    pub fn bytes(&self) -> Vec<u8> {
        /// The usual size of a finding in the state, in bytes.
        const USUAL_BYTES: usize = 1 << 10;
        let mut out = Vec::with_capacity((self.findings.len() + 1) * USUAL_BYTES);
        object(&mut out, |state| {
            state.member("format", &u64::from(self.format));
            state.member("kinds", self.kinds.as_slice());
            state.optional("collected", self.collected.as_ref());
            state.optional("snapshot", self.snapshot.as_ref());
            state.optional("outcome", self.outcome.as_ref());
            state.object("findings", |findings| {
                self.findings.iter().for_each(|(uid, kept)| findings.found(uid, kept));
            });
        });
        out
    }
}

impl Json for Outcome {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |outcome| {
            outcome.member("code", &self.code);
            outcome.member("since", &self.since);
        });
    }
}

impl Json for KnownFinding {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |kept| {
            kept.member("kind", &self.kind);
            kept.member("id", &self.id);
            kept.member("name", &self.name);
            kept.member("resource_type", &self.resource_type);
            kept.member("title", &self.title);
            kept.optional("max", self.max.as_ref());
            kept.optional("current", self.current.as_ref());
            kept.optional("percentage", self.percentage.as_ref());
            kept.optional("healthy", self.healthy.as_ref());
            kept.optional("unhealthy", self.unhealthy.as_ref());
            kept.optional("not_applicable", self.not_applicable.as_ref());
            kept.member("first_seen", &self.first_seen);
            kept.member("changed", &self.changed);
            kept.member("last_seen", &self.last_seen);
            kept.optional("absences", Some(&self.absences).filter(|absences| **absences > 0));
            kept.optional("closed", self.closed.as_ref());
        });
    }
}

impl KnownFinding {
    fn numbers(&self) -> impl Iterator<Item = &str> {
        let KnownFinding { max, current, percentage, healthy, unhealthy, not_applicable, .. } = self;
        [max, current, percentage, healthy, unhealthy, not_applicable].into_iter().flatten().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_opens_with_its_format_and_comes_back() {
        let state = State::empty();
        assert!(state.bytes().starts_with(b"{\"format\":1,"));
        assert_eq!(State::read(&state.bytes()), Ok(state));
    }

    #[test]
    fn a_state_leaves_out_what_is_nothing() {
        let kept = r#"{"kind":"k","id":"i","name":"n","resource_type":"t","title":"t","first_seen":1,"changed":2,"last_seen":3}"#;
        let text = format!(r#"{{"format":1,"kinds":[],"findings":{{"i":{kept}}}}}"#);
        assert_eq!(String::from_utf8(State::read(text.as_bytes()).unwrap().bytes()).unwrap(), text);
    }

    #[test]
    fn a_state_that_cannot_be_read_is_a_failure() {
        for (bytes, cause) in [
            (&b""[..], "it names no format"),
            (b"{}", "it names no format"),
            (b"{\"format\":2}", "found format 2, expected 1"),
            (b"{\"format\":1}", "missing field"),
            (b"{\"format\":1,\"kinds\":[],\"findings\":{},\"extra\":1}", "unknown field"),
            (b"\xff", "it names no format"),
            (b"{\"format\":1,\"kinds\":[],\"findings\":{},\"e\x7f\\nx\":1}", "unknown field `ex`"),
        ] {
            let failure = State::read(bytes).unwrap_err();
            assert_eq!(failure.code, "state-unreadable");
            assert!(failure.cause.contains(cause), "{}", failure.cause);
        }
    }

    #[test]
    fn times_of_a_clock_that_was_ahead_are_brought_back_in_their_order() {
        let kept = |first_seen: u64, changed: u64, last_seen: u64| {
            format!(
                r#"{{"kind":"k","id":"i","name":"n","resource_type":"t","title":"t","first_seen":{first_seen},"changed":{changed},"last_seen":{last_seen}}}"#
            )
        };
        let at = |now: u64, snapshot: u64, kept: &str| {
            let text = format!(
                r#"{{"format":1,"kinds":[],"collected":902,"snapshot":{snapshot},"outcome":{{"code":"c","since":901}},"findings":{{"i":{kept}}}}}"#
            );
            let state = State::read(text.as_bytes()).unwrap().brought_back(now);
            String::from_utf8(state.bytes()).unwrap()
        };
        let back = at(100, 902, &kept(50, 900, 902));
        let expected = format!(
            r#"{{"format":1,"kinds":[],"collected":100,"outcome":{{"code":"c","since":99}},"findings":{{"i":{}}}}}"#,
            kept(50, 98, 100)
        );
        assert_eq!(back, expected);
        let same = at(902, 902, &kept(50, 900, 902));
        assert!(same.contains(r#""collected":902,"snapshot":902"#) && same.contains(&kept(50, 900, 902)), "{same}");
        assert!(at(1, 0, &kept(900, 901, 903)).contains(&kept(0, 0, 1)), "never before the beginning");
    }

    #[test]
    fn a_state_whose_numbers_are_none_is_a_failure() {
        let with = |current: &str| {
            let kept = format!(
                r#"{{"kind":"k","id":"i","name":"n","resource_type":"t","title":"t","current":"{current}","first_seen":1,"changed":1,"last_seen":1}}"#
            );
            State::read(format!(r#"{{"format":1,"kinds":[],"findings":{{"i":{kept}}}}}"#).as_bytes())
        };
        assert!(with("1.50").is_ok());
        let failure = with("é1e-1").unwrap_err();
        assert!(failure.cause.ends_with("the figure of i is not a number"), "{}", failure.cause);
    }
}
