//! The one edge to the network: sends a request through the host and classifies transport errors. No other file names
//! the HTTP client.

use std::time::Duration;

use waki::{Client, ErrorCode, Method};

use crate::contract::Failure;
use crate::diagnoses::{self, Diagnosis};

/// A request to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whole address, sent unchanged.
    pub url: String,
    /// The token for `authorization`, after `Bearer `.
    pub bearer: Option<String>,
    /// Form in the body of a POST; without one, the request is a GET.
    pub form: Option<String>,
}

/// An answer of the service.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers; names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// Time to connect; the host limits this time, too, and everything else.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that the client reads at a time; the host limits the total.
const CHUNK_BYTES: u64 = 64 * 1024;

/// Sends a request and reads the whole answer. `what` names the call for people.
pub(crate) fn send(request: Request, what: &str) -> Result<Response, Failure> {
    exchange(&request).map_err(|error| {
        let (diagnosis, detail) = diagnose(&error);
        let origin = origin(&request.url).unwrap_or_default();
        let mut failure = diagnosis.failure(&format!("{what} of {origin}: {detail}"));
        failure.fix = failure.fix.map(|fix| fix.replace("{endpoint}", origin));
        failure
    })
}

fn exchange(request: &Request) -> anyhow::Result<Response> {
    let method = if request.form.is_some() { Method::Post } else { Method::Get };
    let mut builder = Client::new()
        .request(method, &request.url)
        .header("accept", "application/json")
        .connect_timeout(CONNECT_TIMEOUT);
    if let Some(bearer) = &request.bearer {
        builder = builder.header("authorization", format!("Bearer {bearer}"));
    }
    if let Some(form) = &request.form {
        builder = builder.header("content-type", "application/x-www-form-urlencoded").body(form.as_bytes());
    }
    let response = builder.send()?;
    let headers = response.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let mut answer = Response { status: response.status_code(), headers: headers.collect(), body: Vec::new() };
    while let Some(chunk) = response.chunk(CHUNK_BYTES)? {
        answer.body.extend_from_slice(&chunk);
    }
    Ok(answer)
}

/// Scheme, host and port of an address.
pub fn origin(url: &str) -> Option<&str> {
    let host = url.find("://")? + 3;
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    Some(&url[..end])
}

/// Diagnoses a fault of the transport.
fn diagnose(error: &anyhow::Error) -> (&'static Diagnosis, String) {
    let Some(code) = error.downcast_ref::<ErrorCode>() else {
        return (&diagnoses::TRANSPORT, error.to_string());
    };
    let diagnosis = match code {
        ErrorCode::HttpRequestDenied => &diagnoses::REQUEST_DENIED,
        ErrorCode::DestinationIpProhibited | ErrorCode::DestinationIpUnroutable => &diagnoses::ADDRESS_PROHIBITED,
        ErrorCode::DnsError(_) | ErrorCode::DnsTimeout | ErrorCode::DestinationNotFound => {
            &diagnoses::NAME_NOT_RESOLVED
        }
        ErrorCode::ConnectionRefused | ErrorCode::DestinationUnavailable => &diagnoses::CONNECTION_REFUSED,
        ErrorCode::ConfigurationError => &diagnoses::PROXY_FAILED,
        ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete => &diagnoses::CONNECTION_BROKEN,
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => &diagnoses::TIMEOUT,
        ErrorCode::TlsCertificateError | ErrorCode::TlsProtocolError | ErrorCode::TlsAlertReceived(_) => {
            &diagnoses::TLS_UNTRUSTED
        }
        ErrorCode::HttpResponseBodySize(_)
        | ErrorCode::HttpResponseHeaderSize(_)
        | ErrorCode::HttpResponseHeaderSectionSize(_) => &diagnoses::ANSWER_TOO_LARGE,
        _ => &diagnoses::TRANSPORT,
    };
    (diagnosis, detail(code))
}

/// Describes an error; the host knows more about some errors and adds it.
fn detail(code: &ErrorCode) -> String {
    let words = match code {
        ErrorCode::HttpResponseBodySize(Some(bytes)) => return format!("the body exceeds {bytes} bytes"),
        ErrorCode::InternalError(Some(text)) => return text.clone(),
        ErrorCode::DnsTimeout => "the lookup of the name took too long",
        ErrorCode::DnsError(_) => "the lookup of the name failed",
        ErrorCode::DestinationNotFound => "there is no such host",
        ErrorCode::DestinationUnavailable => "the host does not answer",
        ErrorCode::DestinationIpProhibited => "the address is not allowed",
        ErrorCode::DestinationIpUnroutable => "no route leads to the address",
        ErrorCode::ConnectionRefused => "nothing listens there",
        ErrorCode::ConnectionTerminated => "the other side ended the connection",
        ErrorCode::ConnectionTimeout => "the connection took too long",
        ErrorCode::ConnectionReadTimeout | ErrorCode::ConnectionWriteTimeout => "the connection was idle for too long",
        ErrorCode::ConnectionLimitReached => "too many connections are open",
        ErrorCode::TlsProtocolError => "the server violates the rules of TLS",
        ErrorCode::TlsCertificateError => "the certificate is not trusted",
        ErrorCode::TlsAlertReceived(_) => "the other side refuses TLS with an alert",
        ErrorCode::HttpRequestDenied => "the request is not allowed",
        ErrorCode::HttpResponseTimeout => "no answer in time",
        ErrorCode::HttpResponseIncomplete => "the answer is cut off",
        ErrorCode::HttpResponseHeaderSectionSize(_) | ErrorCode::HttpResponseHeaderSize(_) => {
            "the headers are too large"
        }
        ErrorCode::HttpResponseBodySize(None) => "the body is too large",
        ErrorCode::HttpResponseContentCoding(_) => "the answer is encoded in a way that the host does not know",
        ErrorCode::HttpResponseTransferCoding(_) => "the header `transfer-encoding` of the answer is not understood",
        ErrorCode::HttpProtocolError => "the answer breaks the rules of HTTP",
        ErrorCode::LoopDetected => "the route to the service is a loop",
        ErrorCode::ConfigurationError => "the host's own network configuration is wrong",
        ErrorCode::InternalError(None) => "the host failed without a reason",
        _ => "the host could not send the request as it is",
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_ends_where_the_path_begins() {
        for (url, expected) in [
            ("https://host.example/a", Some("https://host.example")),
            ("https://host.example:8443?x", Some("https://host.example:8443")),
            ("https://host.example", Some("https://host.example")),
            ("/relative", None),
        ] {
            assert_eq!(origin(url), expected, "{url}");
        }
    }

    #[test]
    fn a_body_over_the_cap_is_told_from_a_broken_connection() {
        let code = |code: ErrorCode| diagnose(&anyhow::Error::new(code)).0.code;
        assert_eq!(code(ErrorCode::HttpResponseBodySize(Some(8))), "answer-too-large");
        assert_eq!(code(ErrorCode::HttpResponseIncomplete), "connection-broken");
        assert_eq!(code(ErrorCode::HttpRequestDenied), "request-denied");
        assert_eq!(code(ErrorCode::HttpProtocolError), "transport");
        assert_eq!(detail(&ErrorCode::HttpProtocolError), "the answer breaks the rules of HTTP");
        let words = detail(&ErrorCode::HttpResponseContentCoding(None));
        assert_eq!(words, "the answer is encoded in a way that the host does not know");
    }
}
