//! The stream of a sink: made where it is missing, and compared with the configuration where it exists. A stream that
//! somebody else made is never changed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use source_host::blame::Blame;
use source_host::text;

use super::super::SinkTrouble;
use super::link::NatsLink;
use super::subject;
use super::{ApiError, fix, trouble_of};
use crate::limits;

/// Code of a stream that does not exist.
const STREAM_MISSING: &str = "stream-missing";

/// Code of a stream with other settings than those of the configuration.
const STREAM_DIFFERS: &str = "stream-differs";

/// The server's code for a stream that does not exist.
const NOT_FOUND: u64 = 10059;

/// The stream of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsStream {
    /// The name.
    pub name: String,
    /// The settings of a stream that the sink makes; `None` if others make it.
    pub made: Option<StreamSettings>,
}

/// Settings of a stream, of which the written ones are compared with a stream that exists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamSettings {
    /// The subjects that the stream takes; empty for those of the sink.
    pub subjects: Vec<String>,
    /// Number of servers that have each message.
    pub replicas: Option<u64>,
    /// Whether messages are kept in memory, and not in files.
    pub in_memory: Option<bool>,
    /// Time in which the stream recognises a repeated message.
    pub duplicate_window: Option<Duration>,
    /// Bytes of the stream.
    pub max_bytes: Option<u64>,
    /// Time after which the stream drops a message.
    pub max_age: Option<Duration>,
    /// Number of the stream's messages.
    pub max_messages: Option<u64>,
    /// Bytes of one message.
    pub max_message_bytes: Option<u64>,
    /// Whether a full stream drops its oldest messages, and does not refuse new ones.
    pub drops_oldest: Option<bool>,
}

/// The server's answer to a request about a stream.
#[derive(Deserialize)]
struct StreamAnswer {
    error: Option<ApiError>,
    config: Option<Value>,
    /// Whether the request made the stream.
    #[serde(default)]
    did_create: bool,
}

impl NatsStream {
    /// Makes sure that the stream exists and takes messages of a subject. Returns a warning if the settings of the
    /// stream differ from the configuration. `pattern` has the subjects of a stream that is made, and `had_events` says
    /// whether the stream acknowledged events of the sink before.
    pub(super) async fn checked(
        &self,
        link: &NatsLink,
        subject: &str,
        pattern: &str,
        had_events: &AtomicBool,
    ) -> Result<Option<SinkTrouble>, SinkTrouble> {
        let name = &self.name;
        let answer: StreamAnswer = link.ask(&format!("$JS.API.STREAM.INFO.{name}"), Vec::new()).await?;
        let found = match (answer.error, answer.config, &self.made) {
            (None, Some(config), _) => config,
            (Some(error), _, Some(settings)) if error.err_code == NOT_FOUND => {
                self.make(link, &settings.request(name, pattern), had_events).await?
            }
            (Some(error), _, None) if error.err_code == NOT_FOUND => {
                let fix = "fix: make the stream, or write the settings with which the sink makes it: \
                           stream = { name = \"…\", replicas = 3 }";
                let why = format!("the stream {name} does not exist; {fix}");
                return Err(link.trouble(STREAM_MISSING, Blame::Operator, why));
            }
            (Some(error), ..) => {
                let said = link.shown(&error.description);
                let why = format!("cannot look at the stream {name}: {said}{}", fix(error.err_code));
                return Err(link.trouble(&error.code(), trouble_of(error.err_code), why));
            }
            (None, None, _) => {
                let why = format!("answered a question about the stream {name} without its settings");
                return Err(link.trouble("answer-unknown", Blame::Receiver, why));
            }
        };
        unfit(name, subject, &found).map_or(Ok(()), |(code, why)| Err(link.trouble(code, Blame::Operator, why)))?;
        let is_chosen = self.made.as_ref().is_some_and(|settings| settings.in_memory.is_some());
        let risks = risks(&found, is_chosen);
        let differences = self.made.iter().flat_map(|settings| settings.differences(&found));
        let differences: Vec<String> = risks.into_iter().chain(differences).collect();
        let told =
            format!("the stream {name} has other settings, which the sink does not change: {}", differences.join("; "));
        Ok((!differences.is_empty()).then(|| link.trouble(STREAM_DIFFERS, Blame::Operator, told)))
    }

    /// Makes the stream, and returns its settings.
    async fn make(&self, link: &NatsLink, request: &Value, had_events: &AtomicBool) -> Result<Value, SinkTrouble> {
        let name = &self.name;
        let subject = format!("$JS.API.STREAM.CREATE.{name}");
        let answer: StreamAnswer = link.ask(&subject, request.to_string().into_bytes()).await?;
        if let Some(config) = answer.config {
            match answer.did_create {
                // Of several connections, one tells of it.
                true if had_events.swap(false, Ordering::Relaxed) => tracing::warn!(
                    stream = name,
                    code = "stream-lost",
                    fault = Blame::Receiver.word(),
                    "made the stream again: the events that it had are gone; fix: deliver them again with `redeliver`, if \
                     the sink has `keep_delivered`"
                ),
                true => tracing::info!(stream = name, "made the stream"),
                false => {}
            }
            return Ok(config);
        }
        let error = answer.error.unwrap_or_default();
        let why = format!("cannot make the stream {name}: {}{}", link.shown(&error.description), fix(error.err_code));
        Err(link.trouble(&error.code(), trouble_of(error.err_code), why))
    }
}

impl StreamSettings {
    /// Returns the request that makes a stream.
    fn request(&self, name: &str, pattern: &str) -> Value {
        let subjects = match self.subjects.as_slice() {
            [] => vec![pattern.to_owned()],
            subjects => subjects.to_vec(),
        };
        let limit = |limit: Option<u64>| limit.map_or(json!(-1), |limit| json!(limit));
        let mut request = json!({
            "name": name,
            "subjects": subjects,
            "retention": "limits",
            "max_consumers": -1,
            "max_msgs": limit(self.max_messages),
            "max_bytes": limit(self.max_bytes),
            "max_age": nanoseconds(self.max_age.unwrap_or_default()),
            "max_msg_size": limit(self.max_message_bytes),
            "storage": storage(self.in_memory.unwrap_or_default()),
            "discard": discard(self.drops_oldest.unwrap_or_default()),
            "num_replicas": self.replicas.unwrap_or(1),
        });
        if let Some(window) = self.duplicate_window {
            request["duplicate_window"] = json!(nanoseconds(window));
        }
        request
    }

    /// Returns the keys whose values differ from those of a stream, with both values.
    fn differences(&self, found: &Value) -> Vec<String> {
        let span = |span: Option<Duration>| span.map(|span| json!(nanoseconds(span)));
        let rows = [
            ("replicas", "num_replicas", self.replicas.map(Value::from)),
            ("storage", "storage", self.in_memory.map(|memory| storage(memory).into())),
            ("duplicate_window", "duplicate_window", span(self.duplicate_window)),
            ("max_bytes", "max_bytes", self.max_bytes.map(Value::from)),
            ("max_age", "max_age", span(self.max_age)),
            ("max_messages", "max_msgs", self.max_messages.map(Value::from)),
            ("max_message_bytes", "max_msg_size", self.max_message_bytes.map(Value::from)),
            ("discard", "discard", self.drops_oldest.map(|oldest| discard(oldest).into())),
        ];
        let shown = |key: &str, value: &Value| match (key, value.as_u64()) {
            ("duplicate_window" | "max_age", Some(nanoseconds)) => format!("{:?}", Duration::from_nanos(nanoseconds)),
            _ => value.to_string(),
        };
        let differs = rows.into_iter().filter_map(|(key, theirs, wanted)| {
            let (wanted, found) = (wanted?, &found[theirs]);
            let differs = *found != wanted;
            differs.then(|| format!("{key}: found {}, expected {}", shown(key, found), shown(key, &wanted)))
        });
        let mut differences: Vec<String> = differs.collect();
        let taken: BTreeSet<&str> = subjects(found).collect();
        if !self.subjects.is_empty() && self.subjects.iter().map(String::as_str).collect::<BTreeSet<_>>() != taken {
            differences.push(format!("subjects: found {}, expected {:?}", listed(found), self.subjects));
        }
        differences
    }
}

/// The subjects of a stream that exists.
fn subjects(found: &Value) -> impl Iterator<Item = &str> {
    found["subjects"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The beginning of the list of a stream's subjects.
fn listed(found: &Value) -> String {
    let all = format!("{:?}", subjects(found).collect::<Vec<_>>());
    text::cut(&all, limits::REFUSAL_TOLD_BYTES).to_owned()
}

/// Returns the code and the reason why a stream cannot take messages of a subject, if there is one.
fn unfit(name: &str, subject: &str, found: &Value) -> Option<(&'static str, String)> {
    if found["no_ack"] == true {
        let why = format!("the stream {name} has no_ack: found true, expected false; it acknowledges nothing");
        return Some(("stream-no-ack", why));
    }
    if found["sealed"] == true {
        let why = format!("the stream {name} has sealed: found true, expected false; it takes nothing any more");
        return Some(("stream-sealed", why));
    }
    if let Some(origin) = found["mirror"]["name"].as_str() {
        let origin = text::cut(origin, limits::REFUSAL_TOLD_BYTES);
        let why = format!(
            "the stream {name} is a mirror of {origin}, and takes no messages of its own; fix: name {origin} in `stream` \
             of the sink"
        );
        return Some(("stream-mirror", why));
    }
    if subjects(found).any(|filter| subject::takes(filter, subject)) {
        return None;
    }
    let why = format!(
        "the stream {name} has subjects: found {}, expected one that takes {subject}; fix: add it to the stream, or change \
         `subject` of the sink",
        listed(found)
    );
    Some(("stream-subjects", why))
}

/// Returns the reasons why a stream may lose messages that it acknowledged, beside its limits. `is_chosen` says whether
/// the configuration has the storage.
fn risks(found: &Value, is_chosen: bool) -> Vec<String> {
    let mut risks = Vec::new();
    if found["retention"] == "interest" {
        let why = "expected \"limits\": the stream drops events that no consumer waits for";
        risks.push(format!("retention: found \"interest\", {why}"));
    }
    let of_subject = found["max_msgs_per_subject"].as_u64().filter(|most| (1..limits::SUBJECT_MESSAGES).contains(most));
    if let Some(most) = of_subject.filter(|_| found["discard_new_per_subject"] != true) {
        let why = "expected -1: the stream drops older events of a subject";
        risks.push(format!("max_msgs_per_subject: found {most}, {why}"));
    }
    if found["persist_mode"] == "async" {
        let why = "expected \"default\": the stream acknowledges events before it has written them";
        risks.push(format!("persist_mode: found \"async\", {why}"));
    }
    if found["storage"] == "memory" && !is_chosen {
        let why = "expected \"file\": the events are gone when the servers stop";
        risks.push(format!("storage: found \"memory\", {why}"));
    }
    risks
}

fn storage(in_memory: bool) -> &'static str {
    if in_memory { "memory" } else { "file" }
}

fn discard(oldest: bool) -> &'static str {
    if oldest { "old" } else { "new" }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> StreamSettings {
        StreamSettings {
            replicas: Some(3),
            in_memory: Some(false),
            duplicate_window: Some(Duration::from_secs(600)),
            max_bytes: Some(1_000),
            ..StreamSettings::default()
        }
    }

    #[test]
    fn a_stream_is_asked_for_as_configured_and_refuses_new_messages_when_it_is_full() {
        let request = settings().request("FINDINGS", "findings.*");
        assert_eq!(request["subjects"], json!(["findings.*"]));
        assert_eq!((&request["num_replicas"], &request["storage"]), (&json!(3), &json!("file")));
        assert_eq!((&request["discard"], &request["duplicate_window"]), (&json!("new"), &json!(600_000_000_000_u64)));
        assert_eq!((&request["max_bytes"], &request["max_msgs"]), (&json!(1_000), &json!(-1)));
        assert_eq!(settings().differences(&request), Vec::<String>::new());
        // The server has its own default for the window.
        assert_eq!(StreamSettings::default().request("F", "f").get("duplicate_window"), None);
    }

    #[test]
    fn each_written_setting_of_another_stream_is_named() {
        let found = json!({
            "subjects": ["other.>"], "num_replicas": 1, "storage": "memory", "duplicate_window": 120_000_000_000_u64,
            "max_bytes": -1, "max_age": 0, "max_msgs": -1, "max_msg_size": 7, "discard": "old",
        });
        let wanted =
            StreamSettings { subjects: vec!["findings.>".to_owned()], drops_oldest: Some(false), ..settings() };
        assert_eq!(
            wanted.differences(&found),
            [
                "replicas: found 1, expected 3",
                "storage: found \"memory\", expected \"file\"",
                "duplicate_window: found 120s, expected 600s",
                "max_bytes: found -1, expected 1000",
                "discard: found \"old\", expected \"new\"",
                "subjects: found [\"other.>\"], expected [\"findings.>\"]",
            ]
        );
        assert_eq!(StreamSettings::default().differences(&found), Vec::<String>::new());
    }

    #[test]
    fn a_stream_that_cannot_take_the_subject_is_told_of() {
        let found = |more: Value| {
            let mut found = json!({ "subjects": ["findings.>"] });
            found.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            found
        };
        assert_eq!(unfit("F", "findings.a", &found(json!({}))), None);
        for (subject, more, code, words) in [
            ("other.a", json!({}), "stream-subjects", "expected one that takes other.a"),
            ("findings.a", json!({ "no_ack": true }), "stream-no-ack", "acknowledges nothing"),
            ("findings.a", json!({ "sealed": true }), "stream-sealed", "sealed"),
            ("findings.a", json!({ "mirror": { "name": "ALL" } }), "stream-mirror", "name ALL in `stream`"),
        ] {
            let (found, why) = unfit("F", subject, &found(more)).unwrap();
            assert!(found == code && why.contains(words), "{found}: {why}");
        }
    }

    #[test]
    fn a_stream_that_may_lose_events_is_told_of() {
        for (found, expected) in [
            (json!({ "retention": "interest" }), "retention: found \"interest\""),
            (json!({ "max_msgs_per_subject": 1 }), "max_msgs_per_subject: found 1, expected -1"),
            (json!({ "persist_mode": "async" }), "persist_mode: found \"async\""),
            (json!({ "storage": "memory" }), "storage: found \"memory\", expected \"file\""),
        ] {
            let risks = risks(&found, false);
            assert!(risks.len() == 1 && risks[0].starts_with(expected), "{risks:?}");
        }
        let harmless = json!({
            "retention": "workqueue", "max_msgs_per_subject": -1, "persist_mode": "default", "storage": "file",
        });
        assert_eq!(risks(&harmless, false), Vec::<String>::new());
        assert_eq!(risks(&json!({ "storage": "memory" }), true), Vec::<String>::new());
        assert_eq!(risks(&json!({ "max_msgs_per_subject": 500 }), true), Vec::<String>::new());
        let refuses = json!({ "max_msgs_per_subject": 1, "discard_new_per_subject": true });
        assert_eq!(risks(&refuses, true), Vec::<String>::new());
    }
}
