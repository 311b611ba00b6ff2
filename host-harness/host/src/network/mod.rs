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

/// A request that passed the rules, with its real credentials.
#[derive(Clone)]
pub struct OutgoingRequest {
    /// HTTP method.
    pub method: String,
    /// Whole address.
    pub url: Url,
    /// Headers; names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl fmt::Debug for OutgoingRequest {
    /// Hides headers and body, which hold credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.url)
    }
}

/// A whole answer, with any content encoding removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncomingResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers; names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl IncomingResponse {
    /// The body without a leading byte order mark, which readers of JSON skip.
    pub fn unmarked(&self) -> &[u8] {
        self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body)
    }

    /// Total bytes of the names and values of its headers.
    pub(crate) fn header_bytes(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// The wait that an answer with status 429 or 503 asks for; `None` for other answers, or without a header
/// `Retry-After`.
pub(crate) fn asked_wait(response: &IncomingResponse, now: u64) -> Option<Duration> {
    let (_, value) = response.headers.iter().find(|(name, _)| name == "retry-after")?;
    if matches!(response.status, 429 | 503) { retry_after(value, now) } else { None }
}

/// The wait that a header `Retry-After` asks for, in seconds or until a date. `now` is in Unix milliseconds.
pub fn retry_after(value: &str, now: u64) -> Option<Duration> {
    let value = value.trim();
    let now = UNIX_EPOCH + Duration::from_millis(now);
    let until = |date| httpdate::parse_http_date(date).ok();
    let wait = || Some(until(value)?.duration_since(now).unwrap_or_default());
    value.parse().ok().map(Duration::from_secs).or_else(wait)
}

/// The reason why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The name has no address.
    #[error("the name {0} does not resolve")]
    NameNotResolved(String),
    /// The address must not be dialled.
    #[error("{host} is at {address}, which is {why}; {remedy}")]
    AddressProhibited {
        /// The name or literal in the request's address.
        host: String,
        /// The address to which the host resolves.
        address: std::net::IpAddr,
        /// The kind of the address.
        why: &'static str,
        /// The fix.
        remedy: String,
    },
    /// The proxy is unreachable or does not forward the request.
    #[error("the proxy {proxy} {why}")]
    Proxy {
        /// The proxy's address without user and password.
        proxy: String,
        /// The proxy's fault.
        why: String,
    },
    /// The connection was refused.
    #[error("the connection was refused")]
    Refused,
    /// There was no connection or no answer in time, which is given in seconds.
    #[error("no answer within {0} s")]
    Timeout(u64),
    /// The answer is not HTTP, or two readers would understand it differently.
    #[error("the answer is not valid HTTP: {0}")]
    Malformed(Cause),
    /// The body has an encoding that was not asked for.
    #[error("the header `content-encoding`: found {0}, expected gzip or none")]
    Encoded(String),
    /// The text of the body has a charset that the host does not know, so that it cannot be searched for secrets.
    #[error("the header `content-type`: found the charset {0}, expected UTF-8")]
    Charset(String),
    /// The body does not have the encoding that its headers declare.
    #[error("the body is not valid gzip: {0}")]
    Undecodable(Cause),
    /// The certificate is not trusted.
    #[error("TLS: {0}")]
    Untrusted(Cause),
    /// The answer ended early.
    #[error("the connection ended before the answer did")]
    Broken,
    /// The body exceeds its limit, in bytes.
    #[error("the body exceeds {0} bytes")]
    TooLarge(usize),
    /// The headers exceed their limit, in bytes.
    #[error("the headers exceed {0} bytes or are too many")]
    HeadersTooLarge(usize),
    /// Any other error.
    #[error(transparent)]
    Other(Cause),
}

impl TransportError {
    /// Makes another error of an error or a sentence.
    pub fn other(cause: impl Into<Box<dyn Error + Send + Sync>>) -> TransportError {
        TransportError::Other(Cause::new(cause))
    }

    /// The code for the kind of error, as in the failures of sinks.
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

    /// The party that can mend the error.
    pub fn blame(&self) -> Blame {
        use TransportError::{AddressProhibited, NameNotResolved, Proxy, Untrusted};
        match self {
            // The operator's machine or network must change.
            NameNotResolved(_) | AddressProhibited { .. } | Proxy { .. } | Untrusted(_) => Blame::Operator,
            _ => Blame::Service,
        }
    }

    /// Says whether the service may have received the request.
    pub fn may_have_arrived(&self) -> bool {
        use TransportError::{AddressProhibited, NameNotResolved, Proxy, Refused, Untrusted};
        !matches!(self, NameNotResolved(_) | AddressProhibited { .. } | Proxy { .. } | Refused | Untrusted(_))
    }
}

/// The future answer of a transport.
pub type TransportFuture<'a> = Pin<Box<dyn Future<Output = Result<IncomingResponse, TransportError>> + Send + 'a>>;

/// Carries requests: over the network, from a recording, or from memory.
pub trait Transport: Send + Sync {
    /// Sends one request and reads the whole answer.
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_>;

    /// Says whether the answers come from a recording, where credentials are placeholders; the host then signs nothing.
    fn replays(&self) -> bool {
        false
    }
}

/// A transport that reaches nothing, for calls that must not send requests.
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
