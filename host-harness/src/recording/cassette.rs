//! The format of a recording: settings, context and exchanges in order.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use source_host::cause::{self, Cause};
use source_host::contract::Problem;
use source_host::feed::FeedError;
use source_host::network::TransportError;
use source_host::network::egress::{self, Origins};
use source_host::text::Unread;

/// The version of the format that this host reads.
pub const VERSION: u32 = 1;

/// A recording.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cassette {
    /// A description for readers.
    pub docs: String,
    /// Version of the format; see [`VERSION`].
    pub version: u32,
    /// Settings of the plugin, with placeholders for credentials.
    pub settings: Map<String, Value>,
    /// The circumstances of the poll.
    pub context: RecordedContext,
    /// The exchanges, in order.
    pub exchanges: Vec<RecordedExchange>,
}

/// The arguments of a poll that are not settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedContext {
    /// Id of the feed.
    pub feed: String,
    /// Id of the tenant.
    pub tenant: String,
    /// Time of the poll in Unix milliseconds: the poll was due then, and its last page arrived then.
    pub time_milliseconds: u64,
    /// The states that the previous poll left, by the id of their scope; a scope without one is polled for the first time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, RecordedState>,
}

/// The state of a scope as the plugin wrote it: as JSON, or as text if it is not JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedState {
    /// JSON, which the plugin gets exactly as written.
    Json(Box<RawValue>),
    /// Any text.
    Text(String),
}

impl RecordedState {
    /// Makes a state of these bytes; none if they are not UTF-8, which a cassette cannot hold.
    pub fn of(bytes: &[u8]) -> Option<RecordedState> {
        let text = std::str::from_utf8(bytes).ok()?.to_owned();
        // White space around a value would get lost.
        let json = RawValue::from_string(text.clone()).ok().filter(|json| json.get() == text);
        Some(json.map_or(RecordedState::Text(text), RecordedState::Json))
    }

    /// The bytes that the plugin gets.
    pub fn bytes(&self) -> &[u8] {
        match self {
            RecordedState::Json(json) => json.get().as_bytes(),
            RecordedState::Text(text) => text.as_bytes(),
        }
    }
}

/// A request and its outcome.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedExchange {
    /// The request that must be sent.
    pub request: RecordedRequest,
    /// The outcome.
    #[serde(deserialize_with = "outcome")]
    pub response: RecordedOutcome,
}

/// The outcome of a request.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum RecordedOutcome {
    /// There is a response.
    Answer(RecordedResponse),
    /// There is no response.
    NoAnswer {
        /// The reason.
        no_answer: MissingAnswer,
    },
}

/// A request; absent members are not compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedRequest {
    /// HTTP method.
    pub method: String,
    /// Whole address.
    pub url: String,
    /// The header `authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<String>,
    /// Fields of a form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Map<String, Value>>,
}

/// A response, with its body as JSON, or as text if it is not JSON.
#[derive(Debug, Clone, Serialize)]
pub struct RecordedResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers; names are in lower case.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub headers: Map<String, Value>,
    /// Body as JSON; the plugin gets numbers exactly as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Box<RawValue>>,
    /// Body as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The reason why a request got no answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingAnswer {
    /// There is no address for the name.
    NameNotResolved,
    /// The name leads to this private address.
    AddressProhibited(IpAddr),
    /// The proxy at this address does not connect to the service.
    ProxyFailed(String),
    /// Nothing listens at the address.
    ConnectionRefused,
    /// No answer arrived within this many seconds.
    Timeout(u64),
    /// The certificate is not trusted, for this reason.
    TlsUntrusted(String),
    /// The answer ended early.
    ConnectionBroken,
    /// The body exceeds this many bytes.
    TooLarge(usize),
    /// The answer is not HTTP, for this reason.
    Malformed(String),
}

impl MissingAnswer {
    /// The error of a transport that sends to this host.
    pub fn error(&self, host: &str) -> TransportError {
        match self.clone() {
            MissingAnswer::NameNotResolved => TransportError::NameNotResolved(host.to_owned()),
            MissingAnswer::AddressProhibited(address) => TransportError::AddressProhibited {
                host: host.to_owned(),
                address,
                why: "private",
                remedy: format!("to allow it, write `allow_addresses = [\"{address}\"]` in [network]"),
            },
            MissingAnswer::ProxyFailed(proxy) => {
                TransportError::Proxy { proxy, why: format!("does not connect to {host}") }
            }
            MissingAnswer::ConnectionRefused => TransportError::Refused,
            MissingAnswer::Timeout(seconds) => TransportError::Timeout(seconds),
            MissingAnswer::TlsUntrusted(why) => TransportError::Untrusted(Cause::new(why)),
            MissingAnswer::ConnectionBroken => TransportError::Broken,
            MissingAnswer::TooLarge(bytes) => TransportError::TooLarge(bytes),
            MissingAnswer::Malformed(why) => TransportError::Malformed(Cause::new(why)),
        }
    }
}

/// Reads a response, or the reason why there is none.
fn outcome<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RecordedOutcome, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ResponseMembers {
        status: Option<u16>,
        #[serde(default)]
        headers: Map<String, Value>,
        json: Option<Box<RawValue>>,
        text: Option<String>,
        no_answer: Option<MissingAnswer>,
    }
    let ResponseMembers { status, headers, json, text, no_answer } = ResponseMembers::deserialize(deserializer)?;
    let is_answer = status.is_some() || !headers.is_empty() || json.is_some() || text.is_some();
    match (no_answer, status) {
        (Some(_), _) if is_answer => {
            Err(D::Error::custom("found `no_answer` beside parts of an answer, expected it alone"))
        }
        (Some(no_answer), _) => Ok(RecordedOutcome::NoAnswer { no_answer }),
        (None, None) => Err(D::Error::custom("found neither `status` nor `no_answer`, expected one of them")),
        (None, Some(status)) if !(100..1_000).contains(&status) => {
            Err(D::Error::custom(format!("`status`: found {status}, expected a status of HTTP")))
        }
        (None, Some(_)) if json.is_some() && text.is_some() => {
            Err(D::Error::custom("found both `json` and `text`, expected at most one of them"))
        }
        (None, Some(status)) => Ok(RecordedOutcome::Answer(RecordedResponse { status, headers, json, text })),
    }
}

/// The origins of a cassette's requests, and the addresses that have none.
pub(crate) fn origins(cassette: &Cassette) -> (Origins, Vec<String>) {
    let (mut origins, mut findings) = (Vec::new(), Vec::new());
    for (index, exchange) in cassette.exchanges.iter().enumerate() {
        let url = &exchange.request.url;
        match url::Url::parse(url).ok().and_then(|url| egress::canonical(&url.origin().ascii_serialization())) {
            Some(origin) => origins.push(origin),
            None => findings.push(format!(
                "exchanges[{index}].request.url: found {url:?}, expected an address such as \"https://host.example/path\""
            )),
        }
    }
    (Origins::new(origins).unwrap_or_default(), findings)
}

/// The reason why a text is not a cassette, or why a cassette does not play.
#[derive(Debug, thiserror::Error)]
pub enum CassetteError {
    /// The file cannot be read.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// The text is not a cassette.
    #[error("is not a cassette: line {line}, {place}: {words}")]
    NoCassette {
        /// The line of the text.
        line: usize,
        /// The key.
        place: String,
        /// The fault: found and expected.
        words: String,
    },
    /// This host does not know the version.
    #[error("version: found {0}, expected {expected}", expected = VERSION)]
    Version(u32),
    /// Nothing can be played: the settings that the plugin refuses, and the addresses that are none.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
    /// The places where the plugin does something else than the cassette, or the document beside the cassette, says: each with
    /// what was expected and what was found.
    #[error("{}", .0.join("; "))]
    Mismatch(Vec<String>),
    /// The plugin or the host fails.
    #[error(transparent)]
    Open(FeedError),
    /// The file is the document beside this cassette.
    #[error("is the document beside a recording: name {}, and the document is found", .0.display())]
    Document(PathBuf),
    /// The document beside the cassette is not JSON.
    #[error("is not JSON")]
    NoDocument(#[source] serde_json::Error),
}

impl CassetteError {
    /// Every finding for people, a line each.
    pub fn findings(&self) -> Vec<String> {
        match self {
            CassetteError::Refused(findings) | CassetteError::Mismatch(findings) => findings.clone(),
            other => vec![cause::chain(other)],
        }
    }
}

impl From<FeedError> for CassetteError {
    fn from(error: FeedError) -> CassetteError {
        let words = |Problem { setting, found, expected }: Problem| {
            format!("settings{}: found {found}, expected {expected}", setting.replace('/', "."))
        };
        match error {
            FeedError::Settings(problems) => CassetteError::Refused(problems.into_iter().map(words).collect()),
            other => CassetteError::Open(other),
        }
    }
}

impl Cassette {
    /// Reads the text of a cassette.
    pub fn read(text: &str) -> Result<Cassette, CassetteError> {
        /// Another version may have other keys, so that its number is read first.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        match serde_json::from_str(text) {
            Ok(Versioned { version }) if version != VERSION => return Err(CassetteError::Version(version)),
            _ => {}
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let cassette: Cassette = serde_path_to_error::deserialize(&mut json).map_err(no_cassette)?;
        json.end().map_err(|error| fault("the end", &error))?;
        Ok(cassette)
    }
}

fn no_cassette(error: serde_path_to_error::Error<serde_json::Error>) -> CassetteError {
    fault(&error.path().to_string(), error.inner())
}

fn fault(place: &str, error: &serde_json::Error) -> CassetteError {
    let words = error.to_string();
    let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(words, _)| words);
    let found = ["invalid type: ", "invalid value: "].iter().find_map(|begin| words.strip_prefix(begin));
    let words = found.map_or_else(|| words.to_owned(), |found| format!("found {found}"));
    let is_whole = place == ".";
    let words = if is_whole && !error.is_data() { format!("found text that is not JSON: {words}") } else { words };
    let place = if is_whole { "the whole" } else { place };
    CassetteError::NoCassette { line: error.line(), place: place.to_owned(), words }
}
