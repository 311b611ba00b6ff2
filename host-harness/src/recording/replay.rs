//! Recorded responses: a cassette holds settings, context and exchanges in order, and the plugin runs on it without a
//! network. A request that does not match fails, and so does an exchange that was not used.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value};
use source_host::contract::Failure;
use source_host::credentials::settings::Settings;
use source_host::feed::{Feed, Identity};
use source_host::limits::Limits;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture};
use source_host::plugin::Plugin;
use source_host::text;

use crate::files;
use crate::recording::cassette::{
    Cassette, CassetteError, RecordedExchange, RecordedRequest, RecordedResponse, origins,
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
    match feed.discover().await {
        Err(failure) => replayed.failure = Some(failure),
        Ok(discovery) => {
            for scope in &discovery.scopes {
                let polled = feed.poll(scope, time, None).await;
                replayed.codes.extend(polled.notices.into_iter().map(|notice| notice.code));
                if let Some(batch) = polled.batch {
                    replayed.codes.extend(batch.notices.into_iter().map(|notice| notice.code));
                    replayed.codes.extend(batch.outcome.map(|outcome| outcome.code));
                    replayed.events.extend(batch.events.into_iter().map(|event| event.body));
                }
                replayed.failure = replayed.failure.or(polled.failure);
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

    /// The document beside a cassette: failure, codes and events in readable form.
    fn document(&self) -> Value {
        let events: Vec<Value> = self.events.iter().filter_map(|event| serde_json::from_slice(event).ok()).collect();
        serde_json::json!({ "failure": self.failure, "codes": self.codes, "events": events })
    }

    /// Compares the results with the document beside the cassette.
    pub fn compare(&self, cassette: &Path) -> Result<(), ReplayError> {
        let file = expected_file(cassette);
        let compared = || -> Result<(), CassetteError> {
            let expected: Value = serde_json::from_str(&text::read(&file)?).map_err(CassetteError::NoDocument)?;
            difference("", &expected, &self.document()).map_or(Ok(()), |words| Err(CassetteError::Mismatch(words)))
        };
        compared().map_err(|error| ReplayError { file: file.clone(), error })
    }

    /// Writes the document beside the cassette.
    pub fn write_expected(&self, cassette: &Path) -> std::io::Result<()> {
        files::write(&expected_file(cassette), format!("{:#}\n", self.document()).as_bytes())
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

    fn answer(&self, request: &OutgoingRequest) -> Result<IncomingResponse, String> {
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
        let RecordedResponse { status, headers, json, text } = exchange.response;
        let headers = headers.into_iter().map(|(name, value)| {
            (name.to_ascii_lowercase(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        });
        let body = json.map(|json| json.get().as_bytes().to_vec()).or(text.map(String::into_bytes)).unwrap_or_default();
        Ok(IncomingResponse { status, headers: headers.collect(), body })
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
        let answer = self.answer(&request).map_err(|mismatch| {
            self.mismatch.lock().get_or_insert(mismatch.clone());
            TransportError::other(mismatch)
        });
        Box::pin(std::future::ready(answer))
    }

    fn replays(&self) -> bool {
        true
    }
}
