//! Destinations of events. A sink takes batches in order, and says of each whether it is delivered, can be retried, or
//! is refused permanently.

pub mod repeats;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{HeaderName, InvalidHeaderValue};
use source_host::blame::Blame;
use source_host::cause::{self, Cause};
use source_host::credentials::certificates::Authorities;
use source_host::credentials::client_certificate::ClientCertificate;
use source_host::credentials::secret::Secret;
use source_host::credentials::spelling;
use source_host::failures::{HOST_FAILED, SPACE_LOW, STORE_FAILED};
use source_host::network::TransportError;
use source_host::network::client::NetworkError;
use source_host::text;
use tokio::task::JoinError;

use self::file::Aside;
#[cfg(feature = "nats")]
use self::nats::NatsConfig;
use crate::store::{Partition, Queued, StoreError};

pub mod delivery;
pub mod disk;
pub mod file;
pub mod http;
pub mod ledger;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "otlp")]
mod otlp;
mod shares;

/// Standard output, or a test's replacement.
pub type Stdout = Arc<Mutex<dyn Write + Send>>;

/// One `[[sink]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkConfig {
    /// Id of the sink, unique in the configuration.
    pub id: String,
    /// The kind of the sink.
    pub kind: SinkKind,
    /// Bytes of one tenant's events that may wait for the sink; beyond that, the tenant's feeds that use the sink
    /// pause.
    pub max_outbox_bytes: u64,
    /// The file of events that the sink refuses permanently.
    pub dead_letters: PathBuf,
    /// Bytes that should stay free on the disks of the sink's files; `None` derives them from the size of each disk.
    pub min_free_bytes: Option<u64>,
    /// How long the store keeps delivered events, to deliver them again on request, and how many bytes of one tenant.
    pub keep_delivered: Option<(Duration, u64)>,
}

/// The kinds of sink.
#[derive(Debug, Clone, PartialEq)]
pub enum SinkKind {
    /// One event on each line. An event counts as delivered when it is written to the pipe.
    Stdout,
    /// A file of lines.
    File(FileConfig),
    /// Batches over HTTP.
    Http(HttpConfig),
    /// Messages for a stream of NATS.
    #[cfg(feature = "nats")]
    Nats(NatsConfig),
}

/// A sink that appends to files.
#[derive(Debug, Clone, PartialEq)]
pub struct FileConfig {
    /// The path.
    pub path: Template,
    /// Size in bytes at which a file is renamed to the next number: `findings.ndjson.1` is the oldest. If the path ends
    /// in an id, the file `contoso` becomes `contoso.1~`, because `contoso.1` may be another tenant's.
    pub rotate_bytes: u64,
    /// The periods, counted from 1970 in UTC: a file of an earlier one is renamed before the next event.
    pub rotate_every: Option<Duration>,
    /// Number of rotated files that are kept; without it, all are kept.
    pub keep_files: Option<u64>,
}

/// A sink that posts batches.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// The address.
    pub url: Template,
    /// Whether the address came from `{ env }` or `{ file }`: then only its origin is shown.
    pub is_url_secret: bool,
    /// The format of a batch.
    pub preset: Preset,
    /// The token for the header `authorization`.
    pub token: Option<Secret>,
    /// Further headers.
    pub headers: Vec<(::http::HeaderName, Template)>,
    /// Further headers whose values are secrets.
    pub credentials: Vec<(::http::HeaderName, Secret)>,
    /// Whether batches are compressed.
    pub gzip: bool,
    /// Further members of Splunk's envelope, by their names.
    pub envelope: Vec<(&'static str, Template)>,
    /// Trusted authorities of the sink's own, in addition to all others.
    pub authorities: Authorities,
    /// The certificate that a receiver may ask for.
    pub identity: Option<ClientCertificate>,
}

/// The format of a batch, by its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// Vector's `http_server` source, and most others: one event on each line, `authorization: Bearer …`.
    #[default]
    Vector,
    /// Fluent Bit's `http` input: a JSON array, `authorization: Bearer …`.
    FluentBit,
    /// Splunk's HTTP Event Collector: an envelope for each event, `authorization: Splunk …`.
    SplunkHec,
    /// OTLP/HTTP, for the sink type `otlp`: log records of OpenTelemetry, `authorization: Bearer …`.
    #[cfg(feature = "otlp")]
    Otlp(Encoding),
}

/// The encoding of OTLP's messages.
#[cfg(feature = "otlp")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Protobuf.
    #[default]
    Protobuf,
    /// JSON.
    Json,
}

impl Preset {
    /// Returns the preset with a name.
    pub fn named(name: &str) -> Option<Preset> {
        match name {
            "vector" => Some(Preset::Vector),
            "fluent-bit" => Some(Preset::FluentBit),
            "splunk-hec" => Some(Preset::SplunkHec),
            _ => None,
        }
    }
}

/// The text between braces is neither `{tenant}` nor `{feed}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownPlaceholder(pub String);

/// The reason why a sink cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A header's value is invalid.
    #[error("{name}")]
    Header {
        /// Name of the header.
        name: HeaderName,
        /// The reason why the value is invalid.
        #[source]
        error: InvalidHeaderValue,
    },
    /// A secret header's value is invalid; the error does not show it.
    #[error("{0} has characters that no header may have")]
    SecretHeader(HeaderName),
    /// The token is invalid in a header; the error does not show it.
    #[error("the token has characters that no header may have")]
    Token,
    /// TLS cannot be configured with the sink's certificates.
    #[error("sink {sink}")]
    Tls {
        /// Id of the sink.
        sink: String,
        /// The reason.
        #[source]
        error: NetworkError,
    },
    /// The sink's HTTP client cannot be made.
    #[error("sink {sink}")]
    Client {
        /// Id of the sink.
        sink: String,
        /// The error of the HTTP client.
        #[source]
        error: reqwest::Error,
    },
}

/// A text with the placeholders `{tenant}` and `{feed}`.
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
    /// Parses a text.
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

    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same below a folder, unless the text is an absolute path.
    pub fn under(mut self, folder: &Path) -> Template {
        if !Path::new(&self.text).is_absolute() {
            let folder = folder.join("").to_string_lossy().into_owned();
            self.text.insert_str(0, &folder);
            self.parts.insert(0, TemplatePart::Text(folder));
        }
        self
    }

    /// Returns the text with the ids of a tenant and a feed.
    pub fn filled(&self, tenant: &str, feed: &str) -> String {
        let part = |part: &TemplatePart| match part {
            TemplatePart::Text(text) => text.clone(),
            TemplatePart::Tenant => tenant.to_owned(),
            TemplatePart::Feed => feed.to_owned(),
        };
        self.parts.iter().map(part).collect()
    }

    /// Returns the naming of rotated files for such paths.
    pub fn aside(&self) -> Aside {
        match self.parts.last() {
            // Some file systems ignore a dot at the end.
            Some(TemplatePart::Text(end))
                if end.ends_with(|last: char| !"./".contains(last) && !last.is_ascii_digit()) =>
            {
                Aside::Numbered
            }
            _ => Aside::Marked,
        }
    }

    /// Says whether the text is the same for every tenant and feed.
    pub fn is_fixed(&self) -> bool {
        !self.has(&TemplatePart::Tenant) && !self.has(&TemplatePart::Feed)
    }

    fn has(&self, part: &TemplatePart) -> bool {
        self.parts.contains(part)
    }
}

impl FileConfig {
    /// Returns the file of a partition, with a tenant whose events are in it.
    pub fn file_of(&self, partition: &Partition, tenant: &str) -> PathBuf {
        self.path.filled(tenant, partition.feed.as_deref().unwrap_or_default()).into()
    }
}

impl HttpConfig {
    /// Says whether a request carries anything secret.
    pub fn has_credentials(&self) -> bool {
        self.token.is_some() || !self.credentials_of("tenant", "feed").is_empty()
    }

    /// Returns the parts of a request that must not be shown: tokens, values of headers and of the query that look like
    /// tokens, and of an address that is a secret all but its origin.
    pub fn secrets(&self, tenant: &str, feed: &str) -> Vec<Secret> {
        let url = url::Url::parse(&self.url.filled(tenant, feed)).ok();
        let hidden = url.iter().filter(|_| self.is_url_secret).flat_map(hidden_parts);
        self.credentials_of(tenant, feed).into_iter().chain(hidden).map(Secret::new).collect()
    }

    fn credentials_of(&self, tenant: &str, feed: &str) -> Vec<String> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.filled(tenant, feed)));
        let url = url::Url::parse(&self.url.filled(tenant, feed)).ok();
        let query: Vec<_> =
            url.iter().flat_map(url::Url::query_pairs).map(|(name, value)| (name.into(), value.into())).collect();
        let found =
            headers.chain(query).filter(|(name, value)| spelling::is_credential(name, value)).map(|(_, value)| value);
        let given = self.token.iter().chain(self.credentials.iter().map(|(_, secret)| secret));
        let all = given.map(|secret| secret.expose().to_owned()).chain(found);
        // The secret follows the scheme, and an answer may contain it without the scheme.
        let parts = all.flat_map(|value| {
            let after = value.split_once(' ').map(|(_, secret)| secret.to_owned());
            std::iter::once(value).chain(after)
        });
        parts.collect()
    }
}

/// Returns the parts of an address that hide a receiver's token: the path, its segments, and the values of the query.
fn hidden_parts(url: &url::Url) -> Vec<String> {
    let path = url.path().trim_matches('/');
    let paths = std::iter::once(path).chain(path.split('/')).map(str::to_owned);
    paths.chain(url.query_pairs().map(|(_, value)| value.into())).filter(|part: &String| !part.is_empty()).collect()
}

impl SinkKind {
    /// Returns the file of a partition, with a tenant whose events are in it; `None` if the sink is no file.
    pub fn file_of(&self, partition: &Partition, tenant: &str) -> Option<PathBuf> {
        match self {
            SinkKind::File(file) => Some(file.file_of(partition, tenant)),
            SinkKind::Stdout | SinkKind::Http(_) => None,
            #[cfg(feature = "nats")]
            SinkKind::Nats(_) => None,
        }
    }

    /// Says whether the sink talks to others.
    pub fn uses_network(&self) -> bool {
        !matches!(self, SinkKind::Stdout | SinkKind::File(_))
    }

    /// Says whether both write to the same place.
    pub fn clashes(&self, other: &SinkKind) -> bool {
        match (self, other) {
            (SinkKind::Stdout, SinkKind::Stdout) => true,
            (SinkKind::File(left), SinkKind::File(right)) => left.path == right.path,
            _ => false,
        }
    }

    /// Says whether both publish to one stream of NATS: of an event that goes to both, the stream would take the first
    /// message alone, since both have the same id.
    pub fn shares_stream(&self, other: &SinkKind) -> bool {
        #[cfg(feature = "nats")]
        if let (SinkKind::Nats(left), SinkKind::Nats(right)) = (self, other) {
            return left.shares_stream(right);
        }
        let _ = other;
        false
    }

    fn templates(&self) -> Vec<&Template> {
        match self {
            SinkKind::Stdout => Vec::new(),
            SinkKind::File(file) => vec![&file.path],
            SinkKind::Http(http) => {
                let headers = http.headers.iter().map(|(_, value)| value);
                headers.chain(http.envelope.iter().map(|(_, value)| value)).chain([&http.url]).collect()
            }
            #[cfg(feature = "nats")]
            SinkKind::Nats(nats) => vec![nats.subject.template()],
        }
    }
}

impl SinkConfig {
    /// The sink `stdout`, which is used if the configuration names no sink, with its dead letters in a folder.
    pub fn stdout(folder: &Path) -> SinkConfig {
        SinkConfig {
            id: "stdout".to_owned(),
            kind: SinkKind::Stdout,
            max_outbox_bytes: crate::limits::OUTBOX_BYTES,
            dead_letters: folder.join("dead-letters-stdout.ndjson"),
            min_free_bytes: None,
            keep_delivered: None,
        }
    }

    /// Returns the partition of a feed's events: events for different files or with different headers are in different
    /// partitions.
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

/// A problem that keeps a sink from taking events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct SinkTrouble {
    /// Kebab-case code. Two failures of a sink with the same code count as the same failure.
    pub code: String,
    /// The party that can mend the failure.
    pub blame: Blame,
    /// The reason in one sentence.
    pub why: String,
}

/// Code of a file that cannot be written, which the operator can mend.
const FILE_UNWRITABLE: &str = "file-unwritable";

/// Code of a sink whose table makes no valid request, which the operator can mend.
const REQUEST_UNUSABLE: &str = "request-unusable";

impl SinkTrouble {
    /// Makes a problem; its text may come from a receiver.
    pub fn new(code: &str, blame: Blame, why: impl ToString) -> SinkTrouble {
        SinkTrouble { code: code.to_owned(), blame, why: text::plain(&why.to_string()) }
    }

    /// Makes the problem of a file that cannot be written.
    fn of_file(why: impl ToString) -> SinkTrouble {
        SinkTrouble::new(FILE_UNWRITABLE, Blame::Operator, why)
    }

    /// Makes the problem of a disk that is nearly full.
    fn of_low_disk(why: impl ToString) -> SinkTrouble {
        SinkTrouble::new(SPACE_LOW.code, SPACE_LOW.blame, why)
    }

    /// Makes the problem of a table that makes no valid request.
    fn of_table(error: &SinkError) -> SinkTrouble {
        SinkTrouble::new(REQUEST_UNUSABLE, Blame::Operator, cause::chain(error))
    }

    /// Makes the problem of a failure of this program or its machine.
    fn of_host(why: impl ToString) -> SinkTrouble {
        SinkTrouble::new(HOST_FAILED.code, HOST_FAILED.blame, why)
    }

    /// Makes the problem of a receiver that does not answer. The operator can mend the route; the receiver mends
    /// everything else.
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

/// The reason why a sink did not take a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The batch is too large for the sink.
    #[error("{0}")]
    TooLarge(SinkTrouble),
    /// The sink permanently refuses the batch, or an event in it.
    #[error("{0}")]
    Never(SinkTrouble),
    /// The sink took the batch without some of its events, does not say which, and must not get the batch again.
    #[error("{0}")]
    Partly(SinkTrouble),
    /// The sink took some events of the batch and says which.
    #[error("took {} events of a batch", .0.taken.len())]
    Apart(Box<Apart>),
    /// The sink takes no batch at all.
    #[error(transparent)]
    Stalled(#[from] Stall),
}

/// The fate of each event of a batch, by its number; the others stay in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Apart {
    /// The events that the sink has.
    pub taken: BTreeSet<i64>,
    /// The events that the sink permanently refuses.
    pub refused: BTreeMap<i64, SinkTrouble>,
    /// The reason why the sink did not take the others.
    pub stall: Option<Stall>,
    /// A warning of the sink about the events that it took.
    pub warning: Option<SinkTrouble>,
}

/// The reason why a sink takes no events, whatever the events are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stall {
    /// The sink may take events later.
    #[error("{trouble}")]
    Later {
        /// The wait that the sink asks for.
        wait: Option<Duration>,
        /// The problem.
        trouble: SinkTrouble,
    },
    /// The sink is closed and will never take events again.
    #[error(transparent)]
    Closed(SinkClosed),
}

/// The reason why a sink takes no events any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkClosed {
    /// Standard output does not accept bytes any more.
    #[error("standard output: {0}")]
    Stdout(Cause),
    /// The thread that wrote the file is gone, and the file with it.
    #[error("the file's writer was lost")]
    WriterLost,
}

impl SinkClosed {
    /// The kind of the system's error, where there is one.
    pub fn kind(&self) -> io::ErrorKind {
        let error = match self {
            SinkClosed::Stdout(cause) => cause.error().downcast_ref::<io::Error>(),
            SinkClosed::WriterLost => None,
        };
        error.map_or(io::ErrorKind::Other, io::Error::kind)
    }
}

impl From<SinkTrouble> for Stall {
    /// The problem may be mended meanwhile.
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
    /// The thread that writes panicked.
    fn from(error: JoinError) -> Stall {
        SinkTrouble::of_host(error).into()
    }
}

/// The future result of a batch; a sink that took it may have a warning.
pub type DeliveryFuture<'a> = Pin<Box<dyn Future<Output = Result<Option<SinkTrouble>, DeliveryError>> + Send + 'a>>;

/// The writer of one partition.
pub trait Writer: Send {
    /// Takes all events of a batch, in order. After `Ok`, the events are durably delivered.
    fn take<'a>(&'a mut self, batch: &'a [Queued]) -> DeliveryFuture<'a>;
}

/// Writes to a pipe or a terminal.
pub struct Lines {
    output: Stdout,
}

impl Lines {
    /// Makes a writer that shares the output with others.
    pub fn new(output: Stdout) -> Lines {
        Lines { output }
    }
}

impl Writer for Lines {
    fn take<'a>(&'a mut self, batch: &'a [Queued]) -> DeliveryFuture<'a> {
        let (output, lines) = (Arc::clone(&self.output), lines(bodies(batch)));
        Box::pin(async move {
            // A full pipe blocks; the other tasks do not wait for it.
            let write = tokio::task::spawn_blocking(move || {
                let mut output = output.lock();
                output.write_all(&lines).and_then(|()| output.flush())
            });
            match write.await {
                Ok(Ok(())) => Ok(None),
                Ok(Err(error)) => Err(Stall::Closed(SinkClosed::Stdout(Cause::new(error))).into()),
                Err(error) => Err(Stall::from(error).into()),
            }
        })
    }
}

/// The bodies of a batch, in order.
fn bodies(batch: &[Queued]) -> impl Iterator<Item = &Vec<u8>> + Clone {
    batch.iter().map(|event| &event.body)
}

/// Writes events as NDJSON.
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
            let kind = SinkKind::File(FileConfig { path, rotate_bytes: 1, rotate_every: None, keep_files: None });
            SinkConfig { kind, ..SinkConfig::stdout(Path::new(".")) }.partition("t", "f")
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
