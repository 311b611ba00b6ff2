//! The seam between a plugin's request and the world: requests and answers as plain values.

pub mod address;
pub mod charset;
pub mod client;
pub mod egress;
mod encoding;
pub mod proxy;
pub mod tokens;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, UNIX_EPOCH};

use url::Url;

use crate::blame::Blame;
use crate::cause::Cause;

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

    /// Bytes of its headers, names and values together.
    pub(crate) fn header_bytes(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// How long an answer that refuses for a time asks to wait, 429 or 503; none if it does not say so.
pub(crate) fn asked_wait(response: &IncomingResponse, now: u64) -> Option<Duration> {
    let (_, value) = response.headers.iter().find(|(name, _)| name == "retry-after")?;
    if matches!(response.status, 429 | 503) { retry_after(value, now) } else { None }
}

/// How long a header `Retry-After` asks to wait from `now` on, in Unix milliseconds: in seconds or until a date.
pub fn retry_after(value: &str, now: u64) -> Option<Duration> {
    let value = value.trim();
    let now = UNIX_EPOCH + Duration::from_millis(now);
    let until = |date| httpdate::parse_http_date(date).ok();
    let wait = || Some(until(value)?.duration_since(now).unwrap_or_default());
    value.parse().ok().map(Duration::from_secs).or_else(wait)
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
    /// The text of the body is in a charset that the host does not know, so that it cannot be searched for secrets.
    #[error("the header `content-type`: found the charset {0}, expected UTF-8")]
    Charset(String),
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
    #[error(transparent)]
    Other(Cause),
}

impl TransportError {
    /// Something else: an error, or a sentence.
    pub fn other(cause: impl Into<Box<dyn Error + Send + Sync>>) -> TransportError {
        TransportError::Other(Cause::new(cause))
    }

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
            | TransportError::Charset(_)
            | TransportError::Undecodable(_)
            | TransportError::TooLarge(_)
            | TransportError::HeadersTooLarge(_)
            | TransportError::Other(_) => "transport",
        }
    }

    /// Who can mend it.
    pub fn blame(&self) -> Blame {
        use TransportError::{AddressProhibited, NameNotResolved, Proxy, Untrusted};
        match self {
            // The way is mended where the host runs.
            NameNotResolved(_) | AddressProhibited { .. } | Proxy { .. } | Untrusted(_) => Blame::Operator,
            _ => Blame::Service,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        const NOON: u64 = 1_790_000_000_000;
        let date = |seconds: u64| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(NOON / 1_000 + seconds));
        let past = httpdate::fmt_http_date(UNIX_EPOCH);
        for (value, seconds) in
            [("17", Some(17)), (" 0 ", Some(0)), (&*date(120), Some(120)), (&*past, Some(0)), ("soon", None)]
        {
            assert_eq!(retry_after(value, NOON), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
