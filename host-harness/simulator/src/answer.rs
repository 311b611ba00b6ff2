//! Requests and answers of the simulated service.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The endpoint that a scenario affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointKind {
    /// The tenant's OpenID configuration, which reveals the id behind a domain.
    Domain,
    /// The token endpoint.
    Token,
    /// The list of subscriptions.
    Search,
    /// The list of secure scores.
    Scores,
    /// The list of controls.
    Controls,
}

/// A request to the service.
#[derive(Debug, Clone)]
pub struct Request {
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// The query, decoded.
    pub query: BTreeMap<String, String>,
    /// The bearer token.
    pub bearer: Option<String>,
    /// The form of a POST.
    pub form: BTreeMap<String, String>,
}

impl Request {
    /// Makes a request for a client without sockets.
    pub fn new(method: &str, url: &url::Url, headers: &[(String, String)], body: &[u8]) -> Request {
        let authorization = headers.iter().find(|(name, _)| name == "authorization");
        Request {
            method: method.to_owned(),
            path: url.path().to_owned(),
            query: url.query_pairs().into_owned().collect(),
            bearer: authorization.and_then(|(_, value)| value.strip_prefix("Bearer ")).map(str::to_owned),
            form: form_urlencoded::parse(body).into_owned().collect(),
        }
    }
}

/// An answer of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, besides those that every answer has.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Whether the connection ends in the middle of the body.
    pub cut: bool,
    /// Whether another machine gives the answer, which does not sign it as the service does.
    pub foreign: bool,
    /// Whether a hostile service writes the answer byte by byte.
    pub raw: bool,
}

impl Answer {
    /// Makes an answer with JSON and this status.
    pub fn json(status: u16, body: &Value) -> Answer {
        Answer::text(status, "application/json; charset=utf-8", body.to_string())
    }

    /// Makes an answer with any text and this status.
    pub fn text(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Answer { status, headers, body: body.into(), cut: false, raw: false, foreign: false }
    }

    /// The same answer with a byte order mark before its body.
    pub fn marked(mut self) -> Answer {
        self.body.splice(0..0, *b"\xef\xbb\xbf");
        self
    }

    /// The same answer with one more header.
    pub fn with(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Path and first query of a subscription's controls.
pub fn controls_path(subscription: &str) -> String {
    format!("/subscriptions/{subscription}/providers/Microsoft.Security/secureScoreControls?api-version=2020-01-01")
}

/// Makes an error in the form of Azure Resource Manager.
pub fn arm_error(status: u16, code: &str, text: &str) -> Answer {
    Answer::json(status, &json!({ "error": { "code": code, "message": text } })).with("x-ms-failure-cause", "gateway")
}

/// Makes an error in the form of Entra ID.
pub fn entra_error(status: u16, error: &str, code: u32, text: &str, request_id: &str) -> Answer {
    let body = json!({
        "error": error,
        "error_description": format!("AADSTS{code}: {text} Trace ID: {request_id} Correlation ID: {request_id}"),
        "error_codes": [code],
        "trace_id": request_id,
        "correlation_id": request_id,
    });
    Answer::json(status, &body)
}
