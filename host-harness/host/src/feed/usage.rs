//! The resources that the calls of a feed used.

use std::time::Duration;

use crate::plugin::call::Journal;

/// The result of a request, by the first digit of its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusClass {
    /// There was no answer.
    Unanswered,
    /// The service continues with the request.
    Informational,
    /// The service performed the request.
    Success,
    /// The service refers to another address.
    Redirection,
    /// The service says that the request is wrong.
    ClientError,
    /// The service has a fault.
    ServerError,
}

impl StatusClass {
    /// All classes.
    pub const ALL: [StatusClass; 6] = [
        StatusClass::Unanswered,
        StatusClass::Informational,
        StatusClass::Success,
        StatusClass::Redirection,
        StatusClass::ClientError,
        StatusClass::ServerError,
    ];

    /// The class of a status; none for a request without an answer.
    pub fn of(status: Option<u16>) -> StatusClass {
        match status {
            None | Some(..100) => StatusClass::Unanswered,
            Some(..200) => StatusClass::Informational,
            Some(..300) => StatusClass::Success,
            Some(..400) => StatusClass::Redirection,
            Some(..500) => StatusClass::ClientError,
            Some(_) => StatusClass::ServerError,
        }
    }

    /// The word for the class in labels.
    pub const fn word(self) -> &'static str {
        match self {
            StatusClass::Unanswered => "none",
            StatusClass::Informational => "1xx",
            StatusClass::Success => "2xx",
            StatusClass::Redirection => "3xx",
            StatusClass::ClientError => "4xx",
            StatusClass::ServerError => "5xx",
        }
    }
}

/// The resources that the calls of a feed used since the last reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls of the plugin, each in an instance of its own.
    pub calls: u64,
    /// Instructions of the plugin; zero unless the host counts them.
    pub instructions: u64,
    /// Requests, by the class of their results.
    pub requests: [u64; StatusClass::ALL.len()],
    /// Bytes of the response bodies.
    pub response_bytes: u64,
    /// CPU time of the calls, without waiting.
    pub cpu: Duration,
    /// The largest linear memory that one call used.
    pub memory_bytes: u64,
    /// Answers that asked to wait.
    pub throttles: u64,
    /// When the token expires, in Unix milliseconds, where a token was fetched.
    pub token_expires: Option<u64>,
}

impl Usage {
    pub(super) fn add(&mut self, journal: &Journal) {
        for exchange in journal.exchanges.iter().filter(|exchange| !exchange.is_kept) {
            self.requests[StatusClass::of(exchange.result.as_ref().ok().copied()) as usize] += 1;
            self.response_bytes += exchange.bytes as u64;
        }
        self.calls += 1;
        self.instructions += journal.instructions;
        self.cpu += journal.busy;
        self.memory_bytes = self.memory_bytes.max(journal.memory_bytes as u64);
    }
}
