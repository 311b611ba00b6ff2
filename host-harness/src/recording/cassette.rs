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
    /// What it shows, for readers.
    pub docs: String,
    /// Format; see [`VERSION`].
    pub version: u32,
    /// Settings of the plugin, with placeholders for credentials.
    pub settings: Map<String, Value>,
    /// The world as the poll met it.
    pub context: RecordedContext,
    /// In order.
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
    /// Unix time in milliseconds of the poll, which is also when its last page came.
    pub time_milliseconds: u64,
}

/// A request and what was answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedExchange {
    /// What must be asked.
    pub request: RecordedRequest,
    /// What is answered.
    pub response: RecordedResponse,
}

/// A request; what is absent is not compared.
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

/// A response: its body as JSON, or as text where it is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub headers: Map<String, Value>,
    /// Body as JSON; numbers come to the plugin as they stand here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Box<serde_json::value::RawValue>>,
    /// Body as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Where the requests of a cassette go.
pub(crate) fn origins(cassette: &Cassette) -> Result<Origins, NotAnOrigin> {
    let origins = cassette.exchanges.iter().filter_map(|exchange| url::Url::parse(&exchange.request.url).ok());
    Origins::new(origins.map(|url| url.origin().ascii_serialization()))
}

/// Why a text is no cassette, or a cassette does not play.
#[derive(Debug, thiserror::Error)]
pub enum CassetteError {
    /// The file is not read.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// The text is something else.
    #[error("is no cassette")]
    NoCassette(#[source] serde_json::Error),
    /// A version that is not known here.
    #[error("version: found {0}, expected {expected}", expected = VERSION)]
    Version(u32),
    /// A request goes nowhere.
    #[error(transparent)]
    Origin(#[from] NotAnOrigin),
    /// The plugin refuses the settings.
    #[error("{}", in_lines(.0))]
    Settings(Vec<Problem>),
    /// The plugin breaks down, or the host.
    #[error(transparent)]
    Open(FeedError),
    /// The plugin asks for something else than what is recorded: which exchange and field, what was expected, what was
    /// found.
    #[error("{0}")]
    Mismatch(String),
    /// The document beside the cassette is no JSON.
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
