//! Recorded responses: a cassette holds settings, context and exchanges in order, and the plugin runs on it without a
//! network. A request that does not match fails, and so does an exchange that was not used.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use source_host::contract::{Failure, Notice, SkippedScope};
use source_host::credentials::settings::Settings;
use source_host::feed::{Feed, Identity};
use source_host::limits::Limits;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture};
use source_host::plugin::Plugin;
use source_host::{digest, text};

use crate::files;
use crate::recording::cassette::{
    Cassette, CassetteError, RecordedExchange, RecordedOutcome, RecordedRequest, RecordedResponse, RecordedState,
    origins,
};
use crate::recording::comparison;
use crate::terminal;

/// The reason why a cassette did not play, or why the document beside it says something else.
#[derive(Debug, thiserror::Error)]
#[error("{}", file.display())]
pub struct ReplayError {
    /// The file at fault.
    pub file: PathBuf,
    /// The reason.
    #[source]
    pub error: CassetteError,
}

impl ReplayError {
    /// Every finding for people, each with its file.
    pub fn findings(&self) -> Vec<String> {
        self.error.findings().into_iter().map(|finding| format!("{}: {finding}", self.file.display())).collect()
    }

    /// Says whether the file itself is at fault: it cannot be read, or holds something else.
    pub fn is_of_file(&self) -> bool {
        !matches!(self.error, CassetteError::Mismatch(_) | CassetteError::Open(_))
    }
}

/// The plugin's results from a cassette.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Bodies of the events of all scopes, in order.
    pub events: Vec<Vec<u8>>,
    /// All failures, in order.
    pub failures: Vec<ReplayedFailure>,
    /// The notices, and the outcomes of scopes in the same form, in order.
    pub notices: Vec<Notice>,
    /// How many scopes gave data.
    pub collected: usize,
    /// Scopes that were found and not polled.
    pub skipped: Vec<SkippedScope>,
    /// The states that the poll leaves, by the id of their scope.
    pub states: BTreeMap<String, Vec<u8>>,
}

/// A failure, and its scope.
#[derive(Debug, PartialEq, Serialize)]
pub struct ReplayedFailure {
    /// Id of the scope; `None` if the failure concerns no single scope.
    pub scope: Option<String>,
    /// The failure.
    #[serde(flatten)]
    pub failure: Failure,
}

/// Reads a cassette.
pub fn read(file: &Path) -> Result<Cassette, ReplayError> {
    let text = text::read(file).map_err(CassetteError::from);
    let cassette = text.and_then(|text| match (Cassette::read(&text), cassette_of(file)) {
        (Err(CassetteError::NoCassette { .. }), Some(cassette)) => Err(CassetteError::Document(cassette)),
        (read, _) => read,
    });
    cassette.map_err(|error| ReplayError { file: file.to_owned(), error })
}

/// Plays a cassette.
pub async fn replay(plugin: &Plugin, file: &Path) -> Result<Replayed, ReplayError> {
    let cassette = read(file)?;
    play(plugin, &cassette).await.map_err(|error| ReplayError { file: file.to_owned(), error })
}

/// Plays a cassette that is in memory. An error has every finding.
pub async fn play(plugin: &Plugin, cassette: &Cassette) -> Result<Replayed, CassetteError> {
    let recording = Arc::new(ReplayTransport::new(cassette));
    let time = cassette.context.time_milliseconds;
    let (allowed, mut findings) = origins(cassette);
    let identity = Identity {
        tenant: cassette.context.tenant.clone(),
        feed: cassette.context.feed.clone(),
        limits: Limits::default(),
        allowed: Arc::new(allowed),
        transport: Arc::clone(&recording) as Arc<dyn Transport>,
        tokens: Arc::default(),
        clock: Arc::new(move || time),
    };
    let settings = Settings::new(cassette.settings.clone(), Default::default());
    let feed = match Feed::open(plugin.clone(), settings, identity).await {
        Ok(feed) if findings.is_empty() => feed,
        Ok(_) => return Err(CassetteError::Refused(findings)),
        Err(error) if findings.is_empty() => return Err(error.into()),
        Err(error) => {
            findings.extend(CassetteError::from(error).findings());
            return Err(CassetteError::Refused(findings));
        }
    };
    let mut replayed = Replayed::default();
    let mut states = cassette.context.states.clone();
    match feed.discover().await {
        Err(failure) => replayed.failures.push(ReplayedFailure { scope: None, failure }),
        Ok(discovery) => {
            replayed.notices.extend(discovery.notices);
            for scope in &discovery.scopes {
                let state = states.remove(&scope.id);
                let polled = feed.poll(scope, time, state.as_ref().map(RecordedState::bytes)).await;
                replayed.notices.extend(polled.notices);
                if let Some(batch) = polled.batch {
                    replayed.collected += usize::from(polled.failure.is_none() && batch.outcome.is_none());
                    replayed.notices.extend(batch.notices);
                    let outcome = batch.outcome.map(|outcome| Notice { code: outcome.code, message: outcome.cause });
                    replayed.notices.extend(outcome);
                    replayed.events.extend(batch.events.into_iter().map(|event| event.body));
                    replayed.states.insert(scope.id.clone(), batch.state);
                }
                let scope = Some(scope.id.clone());
                replayed.failures.extend(polled.failure.map(|failure| ReplayedFailure { scope, failure }));
            }
            replayed.skipped = discovery.skipped;
            let polled = discovery.scopes.iter().map(|scope| scope.id.as_str()).collect::<Vec<_>>().join(", ");
            findings.extend(states.keys().map(|scope| {
                format!("context.states: found a state of {scope}, expected of scopes that are polled: {polled}")
            }));
        }
    }
    findings.extend(recording.mismatches());
    if findings.is_empty() { Ok(replayed) } else { Err(CassetteError::Mismatch(findings)) }
}

/// The document beside a cassette.
#[derive(Serialize)]
struct ExpectedDocument<'a> {
    failures: &'a [ReplayedFailure],
    #[serde(skip_serializing_if = "<[SkippedScope]>::is_empty")]
    skipped: &'a [SkippedScope],
    codes: Vec<&'a str>,
    sha256: ExpectedDigests<'a>,
    events: Vec<Box<RawValue>>,
}

/// The digests in the document, which see every byte.
#[derive(Serialize)]
struct ExpectedDigests<'a> {
    /// Of the events as NDJSON.
    events: String,
    /// Of each state that the poll leaves, by the id of its scope.
    states: BTreeMap<&'a str, String>,
}

impl Replayed {
    /// The events as NDJSON.
    pub fn lines(&self) -> Vec<u8> {
        self.events.iter().flat_map(|event| event.iter().copied().chain([b'\n'])).collect()
    }

    /// The first failure.
    pub fn failure(&self) -> Option<&Failure> {
        self.failures.first().map(|first| &first.failure)
    }

    /// Codes of the notices and outcomes, in order.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.notices.iter().map(|notice| notice.code.as_str())
    }

    /// The text of the document beside a cassette: failures, scopes that were skipped if there are any, codes, digests, and the
    /// events with a member on a line, numbers and texts spelled as the plugin spells them.
    pub fn expected(&self) -> String {
        let as_written = |event: &Vec<u8>| {
            let text = String::from_utf8_lossy(event);
            RawValue::from_string(text.to_string()).or_else(|_| serde_json::value::to_raw_value(&text))
        };
        let states = self.states.iter().map(|(scope, state)| (scope.as_str(), digest::digest(state)));
        let document = ExpectedDocument {
            failures: &self.failures,
            skipped: &self.skipped,
            codes: self.codes().collect(),
            sha256: ExpectedDigests { events: digest::digest(&self.lines()), states: states.collect() },
            events: self.events.iter().filter_map(|event| as_written(event).ok()).collect(),
        };
        terminal::laid_out(&serde_json::to_string(&document).unwrap_or_default()) + "\n"
    }

    /// Compares the results with the text of a document. An error has every difference.
    pub fn compare_with(&self, expected: &str) -> Result<(), CassetteError> {
        let differences = comparison::differences(expected, &self.expected()).map_err(CassetteError::NoDocument)?;
        if differences.is_empty() { Ok(()) } else { Err(CassetteError::Mismatch(differences)) }
    }

    /// Compares the results with the document beside the cassette.
    pub fn compare(&self, cassette: &Path) -> Result<(), ReplayError> {
        let compared = self.compare_with(&expected(cassette)?);
        compared.map_err(|error| ReplayError { file: expected_file(cassette), error })
    }

    /// Writes the document beside the cassette, and says whether it differs from the one before.
    pub fn write_expected(&self, cassette: &Path) -> std::io::Result<bool> {
        let (file, text) = (expected_file(cassette), self.expected());
        if text::bytes(&file).is_ok_and(|before| before == text.as_bytes()) {
            return Ok(false);
        }
        files::write(&file, text.as_bytes()).map(|()| true)
    }
}

/// Reads the document beside a cassette, which must be JSON.
pub fn expected(cassette: &Path) -> Result<String, ReplayError> {
    let file = expected_file(cassette);
    let is_json = |text: String| match serde_json::from_str(&text) {
        Ok(IgnoredAny) => Ok(text),
        Err(error) => Err(CassetteError::NoDocument(error)),
    };
    text::read(&file).map_err(CassetteError::from).and_then(is_json).map_err(|error| ReplayError { file, error })
}

/// Returns the file of the document: `forbidden.json` has `forbidden.expected.json`.
pub fn expected_file(cassette: &Path) -> PathBuf {
    cassette.with_extension("expected.json")
}

/// Returns the cassette of a document's file, by its name.
pub fn cassette_of(document: &Path) -> Option<PathBuf> {
    let name = document.file_name()?.to_str()?.strip_suffix(".expected.json")?;
    Some(document.with_file_name(format!("{name}.json")))
}

/// The transport that answers from a cassette.
pub(crate) struct ReplayTransport {
    exchanges: Mutex<VecDeque<(usize, RecordedExchange)>>,
    /// Requests that differ from the recorded ones, each difference by itself.
    mismatches: Mutex<Vec<String>>,
}

impl ReplayTransport {
    pub(crate) fn new(cassette: &Cassette) -> ReplayTransport {
        let exchanges = cassette.exchanges.iter().cloned().enumerate().collect();
        ReplayTransport { exchanges: Mutex::new(exchanges), mismatches: Mutex::default() }
    }

    fn answer(&self, request: &OutgoingRequest) -> Result<Result<IncomingResponse, TransportError>, Vec<String>> {
        let next = self.exchanges.lock().pop_front();
        let (index, exchange) =
            next.ok_or_else(|| vec![format!("exchanges: none is left for {} {}", request.method, request.url)])?;
        let differences = differences(&exchange.request, request);
        if !differences.is_empty() {
            let place = |(field, expected, found): (String, String, String)| {
                format!("exchanges[{index}].request.{field}: expected {expected}, found {found}")
            };
            return Err(differences.into_iter().map(place).collect());
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

    /// Returns every place where requests and recording differ, so far.
    pub(crate) fn mismatches(&self) -> Vec<String> {
        let exchanges = self.exchanges.lock();
        let unused = exchanges.iter().map(|(index, exchange)| {
            let RecordedRequest { method, url, .. } = &exchange.request;
            format!("exchanges[{index}]: no request was sent for {method} {url}")
        });
        self.mismatches.lock().iter().cloned().chain(unused).collect()
    }
}

/// Returns each part of a request that differs from the recorded one: field, expected and found.
fn differences(expected: &RecordedRequest, request: &OutgoingRequest) -> Vec<(String, String, String)> {
    const NONE: &str = "none";
    let or_none = |value: Option<&str>| value.unwrap_or(NONE).to_owned();
    let url = url::Url::parse(&expected.url).map_or_else(|_| expected.url.clone(), |url| url.to_string());
    let mut fields = vec![
        ("method".to_owned(), expected.method.clone(), request.method.clone()),
        ("url".to_owned(), url, request.url.to_string()),
    ];
    if let Some(authorization) = &expected.authorization {
        let found = request.headers.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value.as_str());
        fields.push(("authorization".to_owned(), authorization.clone(), or_none(found)));
    }
    if let Some(form) = &expected.form {
        let sent: BTreeMap<String, String> = form_urlencoded::parse(&request.body).into_owned().collect();
        let names: BTreeSet<&str> = form.keys().chain(sent.keys()).map(String::as_str).collect();
        fields.extend(names.into_iter().map(|name| {
            let expected = form.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            let found = sent.get(name).map(String::as_str);
            (format!("form.{name}"), or_none(expected.as_deref()), or_none(found))
        }));
    }
    fields.retain(|(_, expected, found)| expected != found);
    fields
}

impl Transport for ReplayTransport {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let answer = self.answer(&request).unwrap_or_else(|mismatches| {
            let words = mismatches.join("; ");
            self.mismatches.lock().extend(mismatches);
            Err(TransportError::other(words))
        });
        Box::pin(std::future::ready(answer))
    }

    fn replays(&self) -> bool {
        true
    }
}
