//! Recorded responses: a cassette holds settings, context and exchanges in order, and the plugin runs on it without a
//! network. A request that does not match fails, and so does an exchange that was not used.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value};
use source_host::contract::{Failure, SkippedScope};
use source_host::credentials::settings::Settings;
use source_host::feed::{Feed, Identity};
use source_host::limits::Limits;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture};
use source_host::plugin::Plugin;
use source_host::text;

use crate::files;
use crate::recording::cassette::{
    Cassette, CassetteError, RecordedExchange, RecordedOutcome, RecordedRequest, RecordedResponse, RecordedState,
    origins,
};

/// The reason why a cassette did not play.
#[derive(Debug, thiserror::Error)]
#[error("{}", file.display())]
pub struct ReplayError {
    /// The cassette's file.
    pub file: PathBuf,
    /// The reason.
    #[source]
    pub error: CassetteError,
}

/// The plugin's results from a cassette.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Bodies of the events of all scopes, in order.
    pub events: Vec<Vec<u8>>,
    /// The first failure.
    pub failure: Option<Failure>,
    /// Codes of the notices and outcomes, in order.
    pub codes: Vec<String>,
    /// How many scopes gave data.
    pub collected: usize,
    /// Scopes that were found and not polled.
    pub skipped: Vec<SkippedScope>,
    /// The states that the poll leaves, by the id of their scope.
    pub states: BTreeMap<String, Vec<u8>>,
}

/// Reads a cassette.
pub fn read(file: &Path) -> Result<Cassette, ReplayError> {
    let cassette = text::read(file).map_err(CassetteError::from).and_then(|text| Cassette::read(&text));
    cassette.map_err(|error| ReplayError { file: file.to_owned(), error })
}

/// Plays a cassette.
pub async fn replay(plugin: &Plugin, file: &Path) -> Result<Replayed, ReplayError> {
    let cassette = read(file)?;
    play(plugin, &cassette).await.map_err(|error| ReplayError { file: file.to_owned(), error })
}

/// Plays a cassette that is in memory.
pub async fn play(plugin: &Plugin, cassette: &Cassette) -> Result<Replayed, CassetteError> {
    let recording = Arc::new(ReplayTransport::new(cassette));
    let time = cassette.context.time_milliseconds;
    let allowed = Arc::new(origins(cassette)?);
    let identity = Identity {
        tenant: cassette.context.tenant.clone(),
        feed: cassette.context.feed.clone(),
        limits: Limits::default(),
        allowed,
        transport: Arc::clone(&recording) as Arc<dyn Transport>,
        tokens: Arc::default(),
        clock: Arc::new(move || time),
    };
    let settings = Settings::new(cassette.settings.clone(), Default::default());
    let feed = Feed::open(plugin.clone(), settings, identity).await?;
    let mut replayed = Replayed::default();
    let mut states = cassette.context.states.clone();
    match feed.discover().await {
        Err(failure) => replayed.failure = Some(failure),
        Ok(discovery) => {
            replayed.codes.extend(discovery.notices.into_iter().map(|notice| notice.code));
            for scope in &discovery.scopes {
                let state = states.remove(&scope.id);
                let polled = feed.poll(scope, time, state.as_ref().map(RecordedState::bytes)).await;
                replayed.codes.extend(polled.notices.into_iter().map(|notice| notice.code));
                if let Some(batch) = polled.batch {
                    replayed.collected += usize::from(polled.failure.is_none() && batch.outcome.is_none());
                    replayed.codes.extend(batch.notices.into_iter().map(|notice| notice.code));
                    replayed.codes.extend(batch.outcome.map(|outcome| outcome.code));
                    replayed.events.extend(batch.events.into_iter().map(|event| event.body));
                    replayed.states.insert(scope.id.clone(), batch.state);
                }
                replayed.failure = replayed.failure.or(polled.failure);
            }
            replayed.skipped = discovery.skipped;
            if let Some(scope) = states.into_keys().next() {
                let polled = discovery.scopes.iter().map(|scope| scope.id.as_str()).collect::<Vec<_>>().join(", ");
                let words =
                    format!("context.states: found a state of {scope}, expected of scopes that are polled: {polled}");
                return Err(CassetteError::Mismatch(words));
            }
        }
    }
    recording.verdict()?;
    Ok(replayed)
}

impl Replayed {
    /// The events as NDJSON.
    pub fn lines(&self) -> Vec<u8> {
        self.events.iter().flat_map(|event| event.iter().copied().chain([b'\n'])).collect()
    }

    /// The document beside a cassette in readable form: failure, codes and events, and the scopes that were skipped, if there
    /// are any.
    fn document(&self) -> Value {
        let events: Vec<Value> = self.events.iter().filter_map(|event| serde_json::from_slice(event).ok()).collect();
        let mut document = serde_json::json!({ "failure": self.failure, "codes": self.codes, "events": events });
        if !self.skipped.is_empty() {
            let skipped = |one: &SkippedScope| serde_json::json!({ "scope": one.scope, "reason": one.reason });
            document["skipped"] = self.skipped.iter().map(skipped).collect();
        }
        document
    }

    /// The text of the document beside a cassette.
    pub fn expected(&self) -> String {
        format!("{:#}\n", self.document())
    }

    /// Compares the results with the text of a document.
    pub fn compare_with(&self, expected: &str) -> Result<(), CassetteError> {
        let expected: Value = serde_json::from_str(expected).map_err(CassetteError::NoDocument)?;
        difference("", &expected, &self.document()).map_or(Ok(()), |words| Err(CassetteError::Mismatch(words)))
    }

    /// Compares the results with the document beside the cassette.
    pub fn compare(&self, cassette: &Path) -> Result<(), ReplayError> {
        let file = expected_file(cassette);
        let compared = text::read(&file).map_err(CassetteError::from).and_then(|text| self.compare_with(&text));
        compared.map_err(|error| ReplayError { file, error })
    }

    /// Writes the document beside the cassette.
    pub fn write_expected(&self, cassette: &Path) -> std::io::Result<()> {
        files::write(&expected_file(cassette), self.expected().as_bytes())
    }
}

/// Returns the file of the document: `forbidden.json` has `forbidden.expected.json`.
pub fn expected_file(cassette: &Path) -> PathBuf {
    cassette.with_extension("expected.json")
}

/// Returns the first place where two documents differ.
fn difference(place: &str, expected: &Value, actual: &Value) -> Option<String> {
    match (expected, actual) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
            keys.into_iter().find_map(|key| {
                let (left, right) = (left.get(key).unwrap_or(&Value::Null), right.get(key).unwrap_or(&Value::Null));
                difference(&format!("{place}/{key}"), left, right)
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let pairs = left.iter().zip(right).enumerate();
            pairs.into_iter().find_map(|(index, (left, right))| difference(&format!("{place}/{index}"), left, right))
        }
        _ if expected == actual => None,
        _ => Some(format!("{place}: expected {expected}, found {actual}")),
    }
}

/// The transport that answers from a cassette.
pub(crate) struct ReplayTransport {
    exchanges: Mutex<VecDeque<(usize, RecordedExchange)>>,
    mismatch: Mutex<Option<String>>,
}

impl ReplayTransport {
    pub(crate) fn new(cassette: &Cassette) -> ReplayTransport {
        let exchanges = cassette.exchanges.iter().cloned().enumerate().collect();
        ReplayTransport { exchanges: Mutex::new(exchanges), mismatch: Mutex::default() }
    }

    fn answer(&self, request: &OutgoingRequest) -> Result<Result<IncomingResponse, TransportError>, String> {
        let next = self.exchanges.lock().pop_front();
        let (index, exchange) =
            next.ok_or_else(|| format!("no exchange is left for {} {}", request.method, request.url))?;
        let expected = &exchange.request;
        let header = request.headers.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value.clone());
        let mut fields = vec![
            ("method", expected.method.clone(), request.method.clone()),
            (
                "url",
                url::Url::parse(&expected.url).map_or_else(|_| expected.url.clone(), |url| url.to_string()),
                request.url.to_string(),
            ),
        ];
        if let Some(authorization) = &expected.authorization {
            fields.push(("authorization", authorization.clone(), header.unwrap_or_default()));
        }
        if let Some(form) = &expected.form {
            let actual =
                form_urlencoded::parse(&request.body).into_owned().map(|(name, value)| (name, Value::from(value)));
            let actual: Map<String, Value> = actual.collect();
            fields.push(("form", Value::from(form.clone()).to_string(), Value::from(actual).to_string()));
        }
        if let Some((field, expected, actual)) = fields.into_iter().find(|(_, expected, actual)| expected != actual) {
            return Err(format!("exchanges[{index}].request.{field}: expected {expected}, found {actual}"));
        }
        let RecordedResponse { status, headers, json, text } = match exchange.response {
            RecordedOutcome::Answer(response) => response,
            RecordedOutcome::NoAnswer { no_answer } => {
                return Ok(Err(no_answer.error(request.url.host_str().unwrap_or_default())));
            }
        };
        let headers = headers.into_iter().map(|(name, value)| {
            (name.to_ascii_lowercase(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        });
        let body = json.map(|json| json.get().as_bytes().to_vec()).or(text.map(String::into_bytes)).unwrap_or_default();
        Ok(Ok(IncomingResponse { status, headers: headers.collect(), body }))
    }

    /// Returns the fault of the cassette itself, if there is one.
    pub(crate) fn verdict(&self) -> Result<(), CassetteError> {
        if let Some(mismatch) = self.mismatch.lock().take() {
            return Err(CassetteError::Mismatch(mismatch));
        }
        match self.exchanges.lock().front() {
            None => Ok(()),
            Some((index, exchange)) => {
                let RecordedRequest { method, url, .. } = &exchange.request;
                Err(CassetteError::Mismatch(format!("exchanges[{index}]: nobody asked for {method} {url}")))
            }
        }
    }
}

impl Transport for ReplayTransport {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let answer = self.answer(&request).unwrap_or_else(|mismatch| {
            self.mismatch.lock().get_or_insert(mismatch.clone());
            Err(TransportError::other(mismatch))
        });
        Box::pin(std::future::ready(answer))
    }

    fn replays(&self) -> bool {
        true
    }
}
