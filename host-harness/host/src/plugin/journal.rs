//! For whom a call is made, and what the call did and used: what the parts of a call share.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::bound::{Bound, LimitAmount};
use super::log_share::LogShare;
use crate::clock::Clock;
use crate::contract::Credential;
use crate::credentials::secret::Secret;
use crate::limits::Limits;
use crate::network::Transport;
use crate::network::egress::Egress;
use crate::network::tokens::{Freshness, Tokens};

/// For whom a call is made, and how its requests leave; without a network, all HTTP is denied.
#[derive(Clone, Default)]
pub struct Caller {
    /// Id of the tenant, for logs.
    pub tenant: String,
    /// Id of the feed, for logs.
    pub feed: String,
    /// What the call may use.
    pub limits: Limits,
    /// How its requests leave.
    pub network: Option<CallNetwork>,
    /// What the feed may write to the log; none where nobody limits it but the call.
    pub log: Option<Arc<LogShare>>,
}

/// How requests leave: the rules, and what carries them.
#[derive(Clone)]
pub struct CallNetwork {
    /// What may leave.
    pub egress: Arc<Egress>,
    /// What carries it.
    pub transport: Arc<dyn Transport>,
    /// What token endpoints answered, to whomever.
    pub tokens: Arc<Tokens>,
    /// How new a token must be.
    pub freshness: Freshness,
    /// The time.
    pub clock: Clock,
}

/// Why a request has no answer, in words for the operator that have no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The host did not let it out: the plugin may not send it.
    #[error("{0}")]
    Denied(String),
    /// It was let out, and no answer came that the plugin may have.
    #[error("{0}")]
    Failed(String),
}

/// One exchange of a call, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// HTTP method.
    pub method: String,
    /// Address as the plugin gave it: without credentials, which the host adds later.
    pub url: String,
    /// What came of it.
    pub result: Result<u16, NoAnswer>,
    /// Bytes of the answer's body.
    pub bytes: usize,
    /// How long it took.
    pub time: Duration,
    /// Whether the host had the answer already, and sent nothing.
    pub is_kept: bool,
    /// The wait that the answer asked for: it was 429 or 503 with `Retry-After`.
    pub asks_to_wait: Option<WaitAsked>,
}

/// A wait that a service asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitAsked {
    /// The origin that asked.
    pub origin: String,
    /// Until when, in Unix milliseconds.
    pub until: u64,
}

/// A request that was not let out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    /// Its method and its address without the query.
    pub(crate) request: String,
    /// Why it was not let out.
    pub(crate) why: String,
}

/// What a call did and used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Journal {
    /// Requests in order.
    pub exchanges: Vec<Exchange>,
    /// Time in which it was worked at: in the guest, and in the host on its behalf, without waiting.
    pub busy: Duration,
    /// The most linear memory it had.
    pub memory_bytes: usize,
    /// Why the host answered a request for a token itself, where the same was asked too often.
    pub asked_too_often: Option<String>,
    /// Which answer was withheld because it held a part of a credential, and which credential it was.
    pub echoed: Option<String>,
    /// Why there was no assertion, where one was asked for.
    pub unusable: Option<String>,
    /// Log lines of the guest, redacted.
    pub log: Vec<String>,
    /// A limit that a request met: which, and its value.
    pub(super) exceeded: Option<(Bound, LimitAmount)>,
    /// Credentials that left on requests.
    pub carried: Vec<Credential>,
    /// Requests that were not let out.
    pub denied: usize,
    /// The first of them.
    pub(crate) first_denied: Option<Denied>,
    /// Bytes of all answers as they came.
    pub(super) received_bytes: usize,
    /// Whether it was told that a request left without a credential.
    pub(super) bare: bool,
    /// Tokens that answers held.
    pub(super) tokens: Vec<SealedToken>,
}

/// A token of an answer, which the host keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SealedToken {
    /// What the plugin got in its place.
    pub(super) placeholder: String,
    pub(super) token: Secret,
    /// From when on the host would fetch another, in Unix milliseconds; none if it does not keep the answer.
    pub(super) renew_at: Option<u64>,
}

pub(super) type Shared<T> = Arc<Mutex<T>>;
