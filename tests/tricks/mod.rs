//! Malicious plugins, and the host's reaction.

pub mod cases;
mod effects;
pub mod imports;
mod log;
mod network;

use serde_json::json;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture};

use crate::support::hostile::TOKEN;

/// A transport that returns a token, and then only this: a status, or no answer.
struct Failing(Result<u16, TransportError>);

impl Transport for Failing {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let (status, body) = match request.url.path() {
            "/token" => (Ok(200), json!({ "access_token": TOKEN, "expires_in": 3_600 }).to_string().into_bytes()),
            _ => (self.0.clone(), Vec::new()),
        };
        let answer = status.map(|status| IncomingResponse { status, headers: Vec::new(), body });
        Box::pin(std::future::ready(answer))
    }
}
