//! Where events go. A sink takes batches in order and says of each whether it has it for good, not yet, or never.

pub mod repeats;

use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{HeaderName, InvalidHeaderValue};
use source_host::blame::Blame;
use source_host::cause;
use source_host::credentials::secret::Secret;
use source_host::credentials::spelling;
use source_host::failures::{HOST_FAILED, STORE_FAILED};
use source_host::network::TransportError;
use source_host::text;
use tokio::task::JoinError;

use self::file::Aside;
use crate::store::{Partition, Queued, StoreError};

pub mod delivery;
pub mod disk;
pub mod file;
pub mod http;
pub mod ledger;

/// Standard output, or what stands for it.
pub type Stdout = Arc<Mutex<dyn Write + Send>>;

/// One `[[sink]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkConfig {
    /// Unique in the configuration.
    pub id: String,
    /// What it is.
    pub kind: SinkKind,
    /// What may wait for it from one tenant; beyond, that tenant's feeds that go here pause.
    pub max_outbox_bytes: u64,
    /// Where events go that it will never take.
    pub dead_letters: PathBuf,
}

/// The kinds of sink.
#[derive(Debug, Clone, PartialEq)]
pub enum SinkKind {
    /// One event a line. Written to the pipe is delivered.
    Stdout,
    /// A file of lines.
    File(FileConfig),
    /// Batches over HTTP.
    Http(HttpConfig),
}

/// A sink that appends to files.
#[derive(Debug, Clone, PartialEq)]
pub struct FileConfig {
    /// Which file.
    pub path: Template,
    /// A file that has this size is put aside under the next number: `findings.ndjson.1` is the oldest. The file
    /// `contoso` of a path that ends in an id becomes `contoso.1~`, since `contoso.1` may be another tenant's.
    pub rotate_bytes: u64,
    /// How many files put aside are kept; all without it.
    pub keep_files: Option<u64>,
}

/// A sink that posts batches.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// Where to.
    pub url: Template,
    /// How a batch looks.
    pub preset: Preset,
    /// What the header `authorization` carries.
    pub token: Option<Secret>,
    /// Further headers.
    pub headers: Vec<(::http::HeaderName, Template)>,
    /// Further headers whose values are secrets.
    pub credentials: Vec<(::http::HeaderName, Secret)>,
    /// Whether batches are compressed.
    pub gzip: bool,
}

/// How a batch looks on the way, by who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// Vector's `http_server` source, and most others: one event a line, `authorization: Bearer …`.
    #[default]
    Vector,
    /// Fluent Bit's `http` input: a JSON array, `authorization: Bearer …`.
    FluentBit,
    /// Splunk's HTTP Event Collector: an envelope for each event, `authorization: Splunk …`.
    SplunkHec,
}

impl Preset {
    /// The preset of a name.
    pub fn named(name: &str) -> Option<Preset> {
        match name {
            "vector" => Some(Preset::Vector),
            "fluent-bit" => Some(Preset::FluentBit),
            "splunk-hec" => Some(Preset::SplunkHec),
            _ => None,
        }
    }
}

/// What stands between braces and is neither `{tenant}` nor `{feed}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownPlaceholder(pub String);

/// Why a sink cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A header cannot be sent.
    #[error("{name}")]
    Header {
        /// Its name.
        name: HeaderName,
        /// Why.
        #[source]
        error: InvalidHeaderValue,
    },
    /// A header with a secret value cannot be sent; the value is not shown.
    #[error("{0} has characters that no header may have")]
    SecretHeader(HeaderName),
    /// The token cannot be sent; it is not shown.
    #[error("the token has characters that no header may have")]
    Token,
    /// There is no client for its requests.
    #[error("sink {sink}")]
    Client {
        /// Id of the sink.
        sink: String,
        /// Why.
        #[source]
        error: reqwest::Error,
    },
}

/// A text with `{tenant}` and `{feed}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<TemplatePart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    Tenant,
    Feed,
}

impl Template {
    /// Reads a text.
    pub fn new(text: &str) -> Result<Template, UnknownPlaceholder> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(begin) = rest.find('{') {
            let end = rest[begin..].find('}').map(|end| begin + end + 1);
            let end = end.ok_or_else(|| UnknownPlaceholder(rest[begin..].to_owned()))?;
            parts.push(TemplatePart::Text(rest[..begin].to_owned()));
            parts.push(match &rest[begin..end] {
                "{tenant}" => TemplatePart::Tenant,
                "{feed}" => TemplatePart::Feed,
                unknown => return Err(UnknownPlaceholder(unknown.to_owned())),
            });
            rest = &rest[end..];
        }
        parts.push(TemplatePart::Text(rest.to_owned()));
        Ok(Template { text: text.to_owned(), parts })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same below a folder, unless it is absolute.
    pub fn under(mut self, folder: &Path) -> Template {
        if !Path::new(&self.text).is_absolute() {
            let folder = folder.join("").to_string_lossy().into_owned();
            self.text.insert_str(0, &folder);
            self.parts.insert(0, TemplatePart::Text(folder));
        }
        self
    }

    /// With the ids of a tenant and a feed in their places.
    pub fn filled(&self, tenant: &str, feed: &str) -> String {
        let part = |part: &TemplatePart| match part {
            TemplatePart::Text(text) => text.clone(),
            TemplatePart::Tenant => tenant.to_owned(),
            TemplatePart::Feed => feed.to_owned(),
        };
        self.parts.iter().map(part).collect()
    }

    /// How files with such names are put aside.
    pub fn aside(&self) -> Aside {
        match self.parts.last() {
            Some(TemplatePart::Text(end)) if end.ends_with(|last: char| last != '/' && !last.is_ascii_digit()) => {
                Aside::Numbered
            }
            _ => Aside::Marked,
        }
    }

    /// Whether it is the same for every tenant and feed.
    pub fn is_fixed(&self) -> bool {
        !self.has(&TemplatePart::Tenant) && !self.has(&TemplatePart::Feed)
    }

    fn has(&self, part: &TemplatePart) -> bool {
        self.parts.contains(part)
    }
}

impl HttpConfig {
    /// Whether a request to it carries anything that others must not know.
    pub fn has_credentials(&self) -> bool {
        self.token.is_some() || !self.secrets("tenant", "feed").is_empty()
    }

    /// What must not be shown of a request to it: tokens, and whatever looks like one in headers and in the query.
    pub fn secrets(&self, tenant: &str, feed: &str) -> Vec<Secret> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.filled(tenant, feed)));
        let url = url::Url::parse(&self.url.filled(tenant, feed)).ok();
        let query: Vec<_> =
            url.iter().flat_map(url::Url::query_pairs).map(|(name, value)| (name.into(), value.into())).collect();
        let found =
            headers.chain(query).filter(|(name, value)| spelling::is_credential(name, value)).map(|(_, value)| value);
        let given = self.token.iter().chain(self.credentials.iter().map(|(_, secret)| secret));
        let all = given.map(|secret| secret.expose().to_owned()).chain(found);
        // The secret stands after the scheme, and may come back without it.
        let parts = all.flat_map(|value| {
            let after = value.split_once(' ').map(|(_, secret)| secret.to_owned());
            std::iter::once(value).chain(after)
        });
        parts.map(Secret::new).collect()
    }
}

impl SinkKind {
    /// Whether both write to the same place.
    pub fn clashes(&self, other: &SinkKind) -> bool {
        match (self, other) {
            (SinkKind::Stdout, SinkKind::Stdout) => true,
            (SinkKind::File(left), SinkKind::File(right)) => left.path == right.path,
            _ => false,
        }
    }

    fn templates(&self) -> Vec<&Template> {
        match self {
            SinkKind::Stdout => Vec::new(),
            SinkKind::File(file) => vec![&file.path],
            SinkKind::Http(http) => http.headers.iter().map(|(_, value)| value).chain([&http.url]).collect(),
        }
    }
}

impl SinkConfig {
    /// Standard output, where no sink is named.
    pub fn stdout(state: &Path) -> SinkConfig {
        SinkConfig {
            id: "stdout".to_owned(),
            kind: SinkKind::Stdout,
            max_outbox_bytes: crate::limits::OUTBOX_BYTES,
            dead_letters: state.with_file_name("dead-letters-stdout.ndjson"),
        }
    }

    /// The way of a feed's events: what goes to different files or carries different headers goes apart.
    pub fn partition(&self, tenant: &str, feed: &str) -> Partition {
        let templates = self.kind.templates();
        let by = |part: &TemplatePart| templates.iter().any(|template| template.has(part));
        Partition {
            sink: self.id.clone(),
            tenant: by(&TemplatePart::Tenant).then(|| tenant.to_owned()),
            feed: by(&TemplatePart::Feed).then(|| feed.to_owned()),
        }
    }
}

/// What keeps a sink from taking something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct SinkTrouble {
    /// Kebab-case. Failures of a sink with the same code are the same failure again.
    pub code: String,
    /// Who can mend it.
    pub blame: Blame,
    /// One sentence.
    pub why: String,
}

/// Code of what keeps a sink from taking events where a file cannot be written. The operator can mend it.
const FILE_UNWRITABLE: &str = "file-unwritable";

/// Code where the table of a sink makes no request. The operator can mend it.
const REQUEST_UNUSABLE: &str = "request-unusable";

impl SinkTrouble {
    /// Its words may be a receiver's.
    pub fn new(code: &str, blame: Blame, why: impl ToString) -> SinkTrouble {
        SinkTrouble { code: code.to_owned(), blame, why: text::plain(&why.to_string()) }
    }

    /// A file that cannot be written.
    fn of_file(why: impl ToString) -> SinkTrouble {
        SinkTrouble::new(FILE_UNWRITABLE, Blame::Operator, why)
    }

    /// A table that makes no request.
    fn of_table(error: &SinkError) -> SinkTrouble {
        SinkTrouble::new(REQUEST_UNUSABLE, Blame::Operator, cause::chain(error))
    }

    /// A failure of this program or its machine.
    fn of_host(why: impl ToString) -> SinkTrouble {
        SinkTrouble::new(HOST_FAILED.code, HOST_FAILED.blame, why)
    }

    /// There is no answer. Whatever is not mended where the collector runs, the receiver mends.
    fn unreached(error: &TransportError, why: impl ToString) -> SinkTrouble {
        let blame = if error.blame() == Blame::Operator { Blame::Operator } else { Blame::Receiver };
        SinkTrouble::new(error.code(), blame, why)
    }
}

impl From<StoreError> for SinkTrouble {
    fn from(error: StoreError) -> SinkTrouble {
        SinkTrouble::new(STORE_FAILED.code, error.blame(), error)
    }
}

/// Why a sink did not take a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The batch is too large for it.
    #[error("{0}")]
    TooLarge(SinkTrouble),
    /// It will never take the batch, or an event in it.
    #[error("{0}")]
    Never(SinkTrouble),
    /// It takes no batch at all.
    #[error(transparent)]
    Stalled(#[from] Stall),
}

/// Why nothing goes to a sink, whatever the events are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stall {
    /// It may go later.
    #[error("{trouble}")]
    Later {
        /// How long the sink asks to wait.
        wait: Option<Duration>,
        /// Why.
        trouble: SinkTrouble,
    },
    /// The sink is gone: nothing will ever be taken again.
    #[error("{1}")]
    Closed(io::ErrorKind, String),
}

impl From<SinkTrouble> for Stall {
    /// What may be mended meanwhile.
    fn from(trouble: SinkTrouble) -> Stall {
        Stall::Later { wait: None, trouble }
    }
}

impl From<StoreError> for Stall {
    fn from(error: StoreError) -> Stall {
        SinkTrouble::from(error).into()
    }
}

impl From<JoinError> for Stall {
    /// A thread that writes panicked.
    fn from(error: JoinError) -> Stall {
        SinkTrouble::of_host(error).into()
    }
}

/// What becomes of a batch.
pub type DeliveryFuture<'a> = Pin<Box<dyn Future<Output = Result<(), DeliveryError>> + Send + 'a>>;

/// The open end of one partition.
pub trait Writer: Send {
    /// Takes all events of a batch, in order. When it gives `Ok`, they are where they belong and stay there.
    fn take<'a>(&'a mut self, batch: &'a [Queued]) -> DeliveryFuture<'a>;
}

/// Writes to a pipe or a terminal.
pub struct Lines {
    output: Stdout,
}

impl Lines {
    /// Shares the output with others.
    pub fn new(output: Stdout) -> Lines {
        Lines { output }
    }
}

impl Writer for Lines {
    fn take<'a>(&'a mut self, batch: &'a [Queued]) -> DeliveryFuture<'a> {
        let (output, lines) = (Arc::clone(&self.output), lines(bodies(batch)));
        Box::pin(async move {
            // A full pipe blocks; nobody else has to wait for it.
            let write = tokio::task::spawn_blocking(move || {
                let mut output = output.lock();
                output.write_all(&lines).and_then(|()| output.flush())
            });
            match write.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Stall::Closed(error.kind(), format!("standard output: {error}")).into()),
                Err(error) => Err(Stall::from(error).into()),
            }
        })
    }
}

/// The bodies of a batch, in order.
fn bodies(batch: &[Queued]) -> impl Iterator<Item = &Vec<u8>> + Clone {
    batch.iter().map(|event| &event.body)
}

/// Events as NDJSON.
pub fn lines<'a>(bodies: impl Iterator<Item = &'a Vec<u8>> + Clone) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bodies.clone().map(|body| body.len() + 1).sum());
    for body in bodies {
        lines.extend_from_slice(body);
        lines.push(b'\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_and_says_what_it_does_not_know() {
        let template = Template::new("{tenant}/x-{feed}.ndjson").unwrap().under(Path::new("/data/{odd}"));
        assert_eq!(template.filled("contoso", "prod"), "/data/{odd}/contoso/x-prod.ndjson");
        assert_eq!(Template::new("a{scope}b"), Err(UnknownPlaceholder("{scope}".to_owned())));
        assert_eq!(Template::new("a{tenant"), Err(UnknownPlaceholder("{tenant".to_owned())));
    }

    #[test]
    fn what_goes_to_different_places_goes_different_ways() {
        let sink = |path: &str| {
            let path = Template::new(path).unwrap();
            let kind = SinkKind::File(FileConfig { path, rotate_bytes: 1, keep_files: None });
            SinkConfig { kind, ..SinkConfig::stdout(Path::new("c.db")) }.partition("t", "f")
        };
        let partition = |tenant: Option<&str>, feed: Option<&str>| Partition {
            sink: "stdout".to_owned(),
            tenant: tenant.map(str::to_owned),
            feed: feed.map(str::to_owned),
        };
        assert_eq!(sink("all"), partition(None, None));
        assert_eq!(sink("{tenant}/all"), partition(Some("t"), None));
        assert_eq!(sink("{feed}"), partition(None, Some("f")));
        // A feed may have belonged to another tenant when an event of it was committed.
        assert_eq!(sink("{tenant}/{feed}"), partition(Some("t"), Some("f")));
    }
}
