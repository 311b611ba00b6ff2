//! The seam between a plugin's request and the world: requests and answers as plain values.

pub mod address;
pub mod client;
pub mod egress;
mod encoding;
pub mod proxy;
pub mod tokens;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use url::Url;

/// A request that was found good, with its real credentials.
#[derive(Clone)]
pub struct OutgoingRequest {
    /// HTTP method.
    pub method: String,
    /// Whole address.
    pub url: Url,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl fmt::Debug for OutgoingRequest {
    /// Headers and body hold credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.url)
    }
}

/// A whole answer, any content encoding removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncomingResponse {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl IncomingResponse {
    /// The body without the byte order mark that it may open with, which readers of JSON skip.
    pub fn unmarked(&self) -> &[u8] {
        self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// There is no address for the name.
    #[error("the name {0} does not resolve")]
    NameNotResolved(String),
    /// The address is one that must not be dialled.
    #[error("{host} is at {address}, which is {why}; {remedy}")]
    AddressProhibited {
        /// Name or literal in the address.
        host: String,
        /// What it resolved to.
        address: std::net::IpAddr,
        /// What kind of address it is.
        why: &'static str,
        /// What mends it.
        remedy: String,
    },
    /// The proxy is not there, or does not do what it is for.
    #[error("the proxy {proxy} {why}")]
    Proxy {
        /// Its address without user and password.
        proxy: String,
        /// What it does not do.
        why: String,
    },
    /// Nobody listens.
    #[error("the connection was refused")]
    Refused,
    /// No connection, or no answer, in time.
    #[error("no answer within {0} s")]
    Timeout(u64),
    /// The answer is no HTTP, or such that two readers would understand it in two ways.
    #[error("the answer is no good HTTP: {0}")]
    Malformed(String),
    /// The body is in an encoding that was not asked for.
    #[error("the header `content-encoding`: found {0}, expected gzip or none")]
    Encoded(String),
    /// The body is none in the encoding that it has by its headers.
    #[error("the body is no good gzip: {0}")]
    Undecodable(String),
    /// The certificate is not trusted.
    #[error("TLS: {0}")]
    Untrusted(String),
    /// The answer ended early.
    #[error("the connection ended before the answer did")]
    Broken,
    /// The body passes the cap.
    #[error("the body passes {0} bytes")]
    TooLarge(usize),
    /// The headers pass the cap.
    #[error("the headers pass {0} bytes or are too many")]
    HeadersTooLarge(usize),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl TransportError {
    /// The kind of error, as the failures of sinks name it.
    pub fn code(&self) -> &'static str {
        match self {
            TransportError::NameNotResolved(_) => "name-not-resolved",
            TransportError::AddressProhibited { .. } => "address-prohibited",
            TransportError::Proxy { .. } => "proxy-failed",
            TransportError::Refused => "connection-refused",
            TransportError::Timeout(_) => "timeout",
            TransportError::Untrusted(_) => "tls-untrusted",
            TransportError::Broken => "connection-broken",
            TransportError::Malformed(_)
            | TransportError::Encoded(_)
            | TransportError::Undecodable(_)
            | TransportError::TooLarge(_)
            | TransportError::HeadersTooLarge(_)
            | TransportError::Other(_) => "transport",
        }
    }

    /// Whether the service may have got the request.
    pub fn may_have_arrived(&self) -> bool {
        use TransportError::{AddressProhibited, NameNotResolved, Proxy, Refused, Untrusted};
        !matches!(self, NameNotResolved(_) | AddressProhibited { .. } | Proxy { .. } | Refused | Untrusted(_))
    }
}

/// What a transport gives in the end.
pub type TransportFuture<'a> = Pin<Box<dyn Future<Output = Result<IncomingResponse, TransportError>> + Send + 'a>>;

/// Carries requests: over the network, from a recording, or from memory.
pub trait Transport: Send + Sync {
    /// Sends one request and reads the whole answer.
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_>;

    /// Whether the answers come from a recording, where credentials have stand-ins: nothing is signed then.
    fn replays(&self) -> bool {
        false
    }
}

/// Carries nothing: for calls that are not to reach anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nowhere;

impl Transport for Nowhere {
    fn send(&self, _: OutgoingRequest) -> TransportFuture<'_> {
        Box::pin(std::future::ready(Err(TransportError::Refused)))
    }
}
