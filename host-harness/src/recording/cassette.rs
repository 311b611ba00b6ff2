//! The format of a recording: settings, context and exchanges in order.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use source_host::contract::Problem;
use source_host::feed::FeedError;
use source_host::network::egress::{NotAnOrigin, Origins};
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
    /// Time of the poll in Unix milliseconds, which is also when its last page arrived.
    pub time_milliseconds: u64,
}

/// A request and its response.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedExchange {
    /// The request that must be sent.
    pub request: RecordedRequest,
    /// The response.
    pub response: RecordedResponse,
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
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers; names are in lower case.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub headers: Map<String, Value>,
    /// Body as JSON; the plugin gets numbers exactly as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Box<serde_json::value::RawValue>>,
    /// Body as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The origins of a cassette's requests.
pub(crate) fn origins(cassette: &Cassette) -> Result<Origins, NotAnOrigin> {
    let origins = cassette.exchanges.iter().filter_map(|exchange| url::Url::parse(&exchange.request.url).ok());
    Origins::new(origins.map(|url| url.origin().ascii_serialization()))
}

/// The reason why a text is not a cassette, or why a cassette does not play.
#[derive(Debug, thiserror::Error)]
pub enum CassetteError {
    /// The file cannot be read.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// The text is not a cassette.
    #[error("is no cassette")]
    NoCassette(#[source] serde_json::Error),
    /// This host does not know the version.
    #[error("version: found {0}, expected {expected}", expected = VERSION)]
    Version(u32),
    /// A request has no valid origin.
    #[error(transparent)]
    Origin(#[from] NotAnOrigin),
    /// The plugin refuses the settings.
    #[error("{}", in_lines(.0))]
    Settings(Vec<Problem>),
    /// The plugin or the host fails.
    #[error(transparent)]
    Open(FeedError),
    /// The plugin's request differs from the recorded one: names exchange and field, the expected value and the actual
    /// one.
    #[error("{0}")]
    Mismatch(String),
    /// The document beside the cassette is not JSON.
    #[error("is no JSON")]
    NoDocument(#[source] serde_json::Error),
}

fn in_lines(problems: &[Problem]) -> String {
    let words = problems.iter().map(|Problem { setting, found, expected }| {
        format!("settings{}: found {found}, expected {expected}", setting.replace('/', "."))
    });
    words.collect::<Vec<_>>().join("\n")
}

impl From<FeedError> for CassetteError {
    fn from(error: FeedError) -> CassetteError {
        match error {
            FeedError::Settings(problems) => CassetteError::Settings(problems),
            other => CassetteError::Open(other),
        }
    }
}

impl Cassette {
    /// Reads the text of a cassette.
    pub fn read(text: &str) -> Result<Cassette, CassetteError> {
        let cassette: Cassette = serde_json::from_str(text).map_err(CassetteError::NoCassette)?;
        match cassette.version {
            VERSION => Ok(cassette),
            other => Err(CassetteError::Version(other)),
        }
    }
}
