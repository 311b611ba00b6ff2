//! The caller of a call, and the record of its work and use, which the parts of a call share.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::bound::{Bound, LimitAmount};
use super::log_share::LogShare;
use crate::clock::Clock;
use crate::contract::Credential;
use crate::credentials::redact::{Pieces, Watch};
use crate::credentials::secret::Secret;
use crate::limits::Limits;
use crate::network::Transport;
use crate::network::egress::Egress;
use crate::network::tokens::{Freshness, Tokens};

/// The caller of a call, and the route of its requests; without a network, all HTTP is denied.
#[derive(Clone, Default)]
pub struct Caller {
    /// Id of the tenant, for logs.
    pub tenant: String,
    /// Id of the feed, for logs.
    pub feed: String,
    /// The limits of the call.
    pub limits: Limits,
    /// The route of the call's requests.
    pub network: Option<CallNetwork>,
    /// The feed's share of the log; `None` where only the call's limits apply.
    pub log: Option<Arc<LogShare>>,
}

/// The route of requests: the rules, and the transport.
#[derive(Clone)]
pub struct CallNetwork {
    /// The rules.
    pub egress: Arc<Egress>,
    /// The transport.
    pub transport: Arc<dyn Transport>,
    /// Kept answers of token endpoints, shared by all feeds.
    pub tokens: Arc<Tokens>,
    /// The freshness that a token must have.
    pub freshness: Freshness,
    /// The clock.
    pub clock: Clock,
    /// The searches for secrets in answers.
    pub searches: KeptSearches,
}

/// The searches that were last prepared. The requests of a poll carry one token, and the searches for it take as long to
/// prepare as a page to search.
#[derive(Clone, Default)]
pub struct KeptSearches(Shared<Kept>);

#[derive(Default)]
struct Kept {
    watch: Option<Arc<Watch>>,
    pieces: Option<(Secret, Arc<Pieces>)>,
}

impl KeptSearches {
    /// Returns the look for secrets as a whole, and for pieces of secrets.
    pub fn watch_for(&self, whole: &[Secret], in_pieces: &[Secret]) -> Arc<Watch> {
        let mut kept = self.0.lock();
        match &kept.watch {
            Some(watch) if watch.is_for(whole, in_pieces) => Arc::clone(watch),
            _ => Arc::clone(kept.watch.insert(Arc::new(Watch::of(whole.to_vec(), in_pieces.to_vec())))),
        }
    }

    /// Returns the pieces of a secret.
    pub fn pieces_of(&self, secret: &Secret) -> Arc<Pieces> {
        let mut kept = self.0.lock();
        match &kept.pieces {
            Some((of, pieces)) if of == secret => Arc::clone(pieces),
            _ => Arc::clone(&kept.pieces.insert((secret.clone(), Arc::new(Pieces::of([secret])))).1),
        }
    }

    /// Frees the searches, which take some hundred kilobytes for a token.
    pub fn forget(&self) {
        *self.0.lock() = Kept::default();
    }
}

/// The reason why a request has no answer, for the operator, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The host denied the request, because the plugin may not send it.
    #[error("{0}")]
    Denied(String),
    /// The request left, and no answer arrived that the plugin may see.
    #[error("{0}")]
    Failed(String),
}

/// One exchange of a call, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// HTTP method.
    pub method: String,
    /// Address as the plugin gave it, without credentials, which the host adds later.
    pub url: String,
    /// Status of the answer, or the reason why there is none.
    pub result: Result<u16, NoAnswer>,
    /// Bytes of the answer's body.
    pub bytes: usize,
    /// Duration of the exchange.
    pub time: Duration,
    /// Whether the answer was kept by the host, so that no request was sent.
    pub is_kept: bool,
    /// The wait that the answer asked for, if its status was 429 or 503 with `Retry-After`.
    pub asks_to_wait: Option<WaitAsked>,
}

/// A wait that a service asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitAsked {
    /// The origin that asked.
    pub origin: String,
    /// End of the wait, in Unix milliseconds.
    pub until: u64,
}

/// A denied request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    /// Method, and address without the query.
    pub(crate) request: String,
    /// The reason.
    pub(crate) why: String,
}

/// The record of a call: its exchanges and its use of resources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Journal {
    /// Requests in order.
    pub exchanges: Vec<Exchange>,
    /// CPU time in the guest, and in the host on its behalf, without waiting.
    pub busy: Duration,
    /// The largest linear memory of the call, in bytes.
    pub memory_bytes: usize,
    /// The time for which the process stood still during the call.
    pub stood_still: Duration,
    /// Instructions of the guest; zero unless the host counts them.
    pub instructions: u64,
    /// The reason why the host answered a request for a token itself, if the same was requested too often.
    pub asked_too_often: Option<String>,
    /// The answer that was withheld because it held a part of a credential, and the name of the credential.
    pub echoed: Option<String>,
    /// The reason why there was no assertion, if one was requested.
    pub unusable: Option<String>,
    /// Log lines of the guest, redacted.
    pub log: Vec<String>,
    /// The limit that a request exceeded, and its amount.
    pub(super) exceeded: Option<(Bound, LimitAmount)>,
    /// Credentials on requests that left.
    pub carried: Vec<Credential>,
    /// Number of denied requests.
    pub denied: usize,
    /// The first denied request.
    pub(crate) first_denied: Option<Denied>,
    /// Bytes of all answers before decoding.
    pub(super) received_bytes: usize,
    /// Whether the log mentions that a request left without a credential.
    pub(super) bare: bool,
    /// Tokens of answers.
    pub(super) tokens: Vec<SealedToken>,
}

/// A token of an answer, which the host keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SealedToken {
    /// The placeholder that the plugin got.
    pub(super) placeholder: String,
    pub(super) token: Secret,
    /// When the host would fetch another token, in Unix milliseconds; `None` if the host does not keep the answer.
    pub(super) renew_at: Option<u64>,
}

pub(super) type Shared<T> = Arc<Mutex<T>>;
