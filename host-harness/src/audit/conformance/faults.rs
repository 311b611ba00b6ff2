//! Faults of the service, and a transport for each.

use source_host::contract::Reaction;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture};

/// A fault of the service, and the reactions that fit it.
#[derive(Clone, Copy)]
pub(super) struct SimulatedFault {
    pub(super) what: &'static str,
    /// Status and body; `None` for a service that is unreachable.
    pub(super) answer: Option<(u16, &'static str)>,
    pub(super) retry_after: Option<u32>,
    /// Value of `www-authenticate`.
    pub(super) challenge: Option<&'static str>,
    pub(super) fits: &'static [Reaction],
}

const fn fault(what: &'static str, answer: Option<(u16, &'static str)>, fits: &'static [Reaction]) -> SimulatedFault {
    SimulatedFault { what, answer, retry_after: None, challenge: None, fits }
}

pub(super) const FAULTS: &[SimulatedFault] = &[
    SimulatedFault { retry_after: Some(17), ..fault("429 with Retry-After", Some((429, "{}")), &[Reaction::Wait]) },
    SimulatedFault { challenge: Some("Bearer"), ..fault("401", Some((401, "{}")), &[Reaction::RenewToken]) },
    fault("500", Some((500, "")), &[Reaction::TryLater, Reaction::Wait]),
    fault("503", Some((503, "busy")), &[Reaction::TryLater, Reaction::Wait]),
    fault("a refused connection", None, &[Reaction::TryLater]),
    fault("HTML in place of JSON", Some((200, "<html></html>")), &[Reaction::FixPlugin, Reaction::TryLater]),
    fault("JSON that ends early", Some((200, "{\"value\": [")), &[Reaction::FixPlugin, Reaction::TryLater]),
];

impl Transport for SimulatedFault {
    fn send(&self, _: OutgoingRequest) -> TransportFuture<'_> {
        let wait = self.retry_after.map(|seconds| ("retry-after".to_owned(), seconds.to_string()));
        let challenge = self.challenge.map(|value| ("www-authenticate".to_owned(), value.to_owned()));
        let answer = self.answer.map(|(status, body)| IncomingResponse {
            status,
            headers: wait.into_iter().chain(challenge).collect(),
            body: body.as_bytes().to_vec(),
        });
        Box::pin(std::future::ready(answer.ok_or(TransportError::Refused)))
    }
}
