//! One feed: a plugin with the settings of one tenant. A feed makes the calls of the contract in their order, keeps the
//! token, and returns a scope's events completely or not at all.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex as SyncMutex;
use tokio::sync::Mutex;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;
use uuid::Uuid;

use crate::clock::{self, Clock};
use crate::contract::{
    Batch, Context, Credential, Description, Discovery, Failure, Notice, Page, Plan, PollResult, PollStep, Problem,
    Reaction, Scope,
};
use crate::credentials::sealed;
use crate::credentials::secret::Secret;
use crate::credentials::settings::{Oddity, Settings};
use crate::failpoint;
use crate::failures;
use crate::limits::{Limits, NAME_BYTES, TOKEN_RENEWAL, milliseconds};
use crate::network::egress::{Egress, News, Origins};
use crate::network::tokens::{Freshness, Tokens};
use crate::network::{Transport, TransportError};
use crate::plugin::Plugin;
use crate::plugin::call::{CallError, CallNetwork, Called, Caller, Denied, FetchedToken, Journal, WaitAsked};
use crate::plugin::log_share::LogShare;
use crate::text;

/// Namespace of poll ids, which are UUIDv5: the same feed, scope and due time give the same id on every host.
const POLL_NAMESPACE: Uuid = Uuid::from_u128(0x8d2c_9f0e_64b1_4c57_9a3d_1be0_77f5_26c4);

/// The identity of a feed, and the route of its requests.
#[derive(Clone)]
pub struct Identity {
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// The limits of each call.
    pub limits: Limits,
    /// The origins to which requests may go.
    pub allowed: Arc<Origins>,
    /// The transport of the requests; never shared between tenants.
    pub transport: Arc<dyn Transport>,
    /// Kept answers of token endpoints; shared by all feeds with an equal credential.
    pub tokens: Arc<Tokens>,
    /// The clock.
    pub clock: Clock,
}

impl Identity {
    /// Makes the identity of a feed with the default limits, tokens of its own, and the clock of this machine.
    pub fn new(
        tenant: impl Into<String>,
        feed: impl Into<String>,
        allowed: Origins,
        transport: impl Transport + 'static,
    ) -> Identity {
        Identity {
            tenant: tenant.into(),
            feed: feed.into(),
            limits: Limits::default(),
            allowed: Arc::new(allowed),
            transport: Arc::new(transport),
            tokens: Arc::default(),
            clock: clock::system(),
        }
    }

    /// The same identity with another clock, in Unix milliseconds.
    pub fn at(self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Identity {
        Identity { clock: Arc::new(clock), ..self }
    }
}

/// The reason why a feed cannot start.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The plugin refuses the settings; each problem names its setting.
    #[error("the plugin refuses its settings")]
    Settings(Vec<Problem>),
    /// The call of the plugin failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The host has no transport for the tenant.
    #[error(transparent)]
    Host(#[from] TransportError),
}

/// A feed with accepted settings.
pub struct Feed {
    plugin: Plugin,
    description: Arc<Description>,
    plan: Arc<Plan>,
    settings: Settings,
    caller: Caller,
    clock: Clock,
    token: Mutex<Option<HeldToken>>,
    /// The feed uses only tokens that were fetched after this time, in Unix milliseconds; `None` while every valid
    /// token is accepted.
    tokens_after: SyncMutex<Option<u64>>,
    usage: SyncMutex<Usage>,
    throttled: SyncMutex<Option<WaitAsked>>,
    /// Credentials sent so far; `None` once the unused ones have been reported.
    carried: SyncMutex<Option<Vec<Credential>>>,
}

/// A token that is kept. All times are Unix milliseconds.
struct HeldToken {
    token: Option<Secret>,
    renew_at: Option<u64>,
    /// The time since which a token had to be fetched when this one was requested; `None` where any token was accepted.
    since: Option<u64>,
}

impl HeldToken {
    fn is_good(&self, now: u64, since: Option<u64>) -> bool {
        // A clock may go back. Every time asks for more than `None`.
        let is_new_enough = self.since >= since && self.since.is_none_or(|since| since <= now);
        is_new_enough && self.renew_at.is_none_or(|renew_at| now < renew_at)
    }
}

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

/// The results of a poll's steps so far.
#[derive(Debug, Default)]
pub struct PollPages {
    /// The pages, in order.
    pub pages: Vec<Page>,
    /// The warnings.
    pub notices: Vec<Notice>,
    bytes: usize,
    cursors: HashSet<String>,
}

impl PollPages {
    /// Adds a step and returns the cursor of the next step, if there is one. Steps that run in a loop or exceed the
    /// limits of a poll are a failure of the plugin.
    pub fn add(&mut self, step: PollStep, limits: &Limits) -> Result<Option<String>, Failure> {
        self.bytes += step.pages.iter().map(|page| page.body.len()).sum::<usize>();
        if self.bytes > limits.page_bytes {
            let cause = format!("the pages of the poll pass the limit of {} bytes", limits.page_bytes);
            return Err(failures::PAGE_BYTES_LIMIT.because(cause));
        }
        self.pages.extend(step.pages);
        self.notices.extend(step.notices);
        if self.notices.len() > limits.notices {
            let cause = format!("the steps of the poll pass the limit of {} notices", limits.notices);
            return Err(failures::NOTICE_LIMIT.because(cause));
        }
        let too_many = || {
            let cause = format!("the poll goes on after the limit of {} pages", limits.pages);
            Err(failures::PAGE_LIMIT.because(cause))
        };
        if self.pages.len() > limits.pages {
            return too_many();
        }
        let Some(next) = step.next else { return Ok(None) };
        if !self.cursors.insert(next.clone()) {
            let cause = format!(
                "the links of the pages run in a loop: page {} leads back to one that was read, {}",
                self.pages.len(),
                text::plain(text::cut(&next, NAME_BYTES))
            );
            return Err(failures::CURSOR_REPEATED.because(cause));
        }
        // A step may have no page.
        if self.pages.len().max(self.cursors.len()) >= limits.pages {
            return too_many();
        }
        Ok(Some(next))
    }
}

/// The result of one poll of one scope.
#[derive(Debug)]
pub struct Polled {
    /// The events, state and figures; `None` if there is nothing to deliver and nothing to keep.
    pub batch: Option<Batch>,
    /// The reason why the scope was not collected completely; no event of the scope's data leaves then.
    pub failure: Option<Failure>,
    /// Warnings of the steps, which come before those of the batch.
    pub notices: Vec<Notice>,
}

impl Feed {
    /// Checks the settings with the plugin, whose plan decides which requests may leave.
    pub async fn open(plugin: Plugin, settings: Settings, identity: Identity) -> Result<Feed, FeedError> {
        Feed::open_as(plugin, settings, None, Arc::default(), Arc::default(), identity).await
    }

    /// The same, with the remarks that were already reported about the feed. If the plan of these settings is given,
    /// the plugin is not asked again.
    pub async fn open_as(
        plugin: Plugin,
        settings: Settings,
        plan: Option<Plan>,
        news: Arc<News>,
        log: Arc<LogShare>,
        identity: Identity,
    ) -> Result<Feed, FeedError> {
        let description = plugin.description().await?;
        let settings = settings.sealing(&description);
        let Identity { tenant, feed, limits, allowed, transport, tokens, clock } = identity;
        let without = Caller { tenant, feed, limits, network: None, log: Some(log) };
        let plan = match plan {
            Some(plan) => Arc::new(plan),
            None => {
                let (prepared, journal) = plugin.prepare(&without, &settings).await;
                tell_denied(journal.first_denied, "", &without, &news);
                Arc::new(prepared?.map_err(FeedError::Settings)?)
            }
        };
        let egress = Arc::new(Egress::new(Arc::clone(&plan), allowed).knowing(news));
        let network = CallNetwork { egress, transport, tokens, freshness: Freshness::Any, clock: Arc::clone(&clock) };
        Ok(Feed {
            plugin,
            description,
            plan,
            settings,
            caller: Caller { network: Some(network), ..without },
            clock,
            token: Mutex::default(),
            tokens_after: SyncMutex::default(),
            usage: SyncMutex::default(),
            throttled: SyncMutex::default(),
            carried: SyncMutex::new(Some(Vec::new())),
        })
    }

    /// The plugin's description of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The requests that may leave, and the oddities of the settings.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Returns the oddities in the real values of credentials, which the plugin never sees.
    pub fn oddities(&self) -> Vec<Oddity> {
        self.settings.oddities(&self.description)
    }

    /// Returns the resources that the feed's calls used since the last reading.
    pub fn take_usage(&self) -> Usage {
        std::mem::take(&mut *self.usage.lock())
    }

    /// The origin whose answer to the last throttled call asked to wait, and until when, in Unix milliseconds. `None`
    /// where the plugin reports a wait that no origin asked for.
    pub fn throttled(&self) -> Option<WaitAsked> {
        self.throttled.lock().clone()
    }

    /// Stops using tokens that were fetched before this time, in Unix milliseconds, because permissions may have
    /// changed since.
    pub fn forget_tokens(&self, before: u64) {
        let mut tokens_after = self.tokens_after.lock();
        *tokens_after = (*tokens_after).max(Some(before));
    }

    /// The plugin's fix for one of its codes, with the values of this feed; `None` if the code has no fix.
    pub async fn fix(&self, code: &str) -> Option<String> {
        let row = self.description.diagnoses.iter().find(|row| row.code == code && !row.fix.is_empty())?;
        let failure = Failure::new(Reaction::FixFeed, code, row.cause.clone());
        let poll_result = PollResult::Failure(Failure { fix: Some(row.fix.clone()), ..failure });
        let poll_id = poll_id(&self.caller.feed, "", 0);
        let outcome = self.normalize_as(None, poll_id, &poll_result, None).await.ok()?.outcome?;
        outcome.fix
    }

    /// Fetches a token unless the feed holds a valid one.
    pub async fn sign_in(&self) -> Result<(), Failure> {
        self.token().await.map(drop)
    }

    /// Searches for the scopes.
    pub async fn discover(&self) -> Result<Discovery, Failure> {
        self.in_time("the search for scopes", self.discover_once()).await
    }

    /// Awaits the work; a failure if the work takes longer than a whole poll may.
    async fn in_time<T>(&self, what: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let most = self.caller.limits.poll_time;
        match tokio::time::timeout(most, work).await {
            Ok(answer) => answer,
            Err(_) => {
                let cause = format!("{what} takes longer than the limit of {} s", most.as_secs_f64());
                Err(failures::POLL_TIME_LIMIT.because(cause))
            }
        }
    }

    async fn discover_once(&self) -> Result<Discovery, Failure> {
        let token = self.token().await?;
        match self.answered(self.plugin.discover(&self.caller, &self.settings, token.as_ref()).await) {
            Err(failure) if failure.reaction == Reaction::RenewToken => {
                let token = self.another_token(token.as_ref()).await?;
                let answer = self.plugin.discover(&self.caller, &self.settings, token.as_ref()).await;
                self.answered(answer).map_err(|failure| refused_twice(failure, Reaction::FixFeed))
            }
            answer => answer,
        }
    }

    /// Returns the number of scopes that the settings alone select; `None` where the service must be asked.
    pub async fn scopes_of_settings(&self) -> Option<usize> {
        let caller = Caller { network: None, ..self.caller.clone() };
        // The plugin may try to ask the service here; the log need not mention that.
        let discover = self.plugin.discover(&caller, &self.settings, None).with_subscriber(NoSubscriber::default());
        let discovery = discover.await.0.ok()?.ok()?;
        Some(discovery.scopes.len() + discovery.skipped.len())
    }

    /// Polls one scope that was due at `due_milliseconds`, and turns the result into events. Whoever knows the feed and
    /// that time can compute the uids of the events: a host that keeps a state calls `poll_as` with a
    /// [`keyed_poll_id`].
    pub async fn poll(&self, scope: &Scope, due_milliseconds: u64, state: Option<&[u8]>) -> Polled {
        self.poll_as(scope, poll_id(&self.caller.feed, &scope.id, due_milliseconds), state).await
    }

    /// Polls one scope, and turns the result into events, whose uids are derived from this id.
    pub async fn poll_as(&self, scope: &Scope, poll_id: Uuid, state: Option<&[u8]>) -> Polled {
        let (poll_result, notices) = match self.pages(scope).await {
            Ok((pages, mut notices)) => {
                notices.extend(self.unused());
                (PollResult::Pages(pages), notices)
            }
            Err(failure) => (PollResult::Failure(failure), Vec::new()),
        };
        failpoint::pass("poll-answer-read");
        Polled { notices, ..self.tell(scope, poll_id, poll_result, state).await }
    }

    /// Turns the pages of a poll, or the failure in their place, into events. A failure without an earlier state gives
    /// no events.
    pub async fn tell(&self, scope: &Scope, poll_id: Uuid, poll_result: PollResult, state: Option<&[u8]>) -> Polled {
        let failure = match &poll_result {
            PollResult::Failure(failure) => Some(failure.clone()),
            PollResult::Pages(_) => None,
        };
        let notices = Vec::new();
        if failure.is_some() && state.is_none() {
            return Polled { batch: None, failure, notices };
        }
        match self.normalize_as(Some(scope), poll_id, &poll_result, state).await {
            Ok(batch) => {
                failpoint::pass("poll-normalized");
                Polled { batch: Some(batch), failure, notices }
            }
            Err(broken) => Polled { batch: None, failure: Some(failure.unwrap_or(broken)), notices },
        }
    }

    /// Makes events of the result of a poll.
    pub async fn normalize(
        &self,
        scope: &Scope,
        due_milliseconds: u64,
        poll_result: &PollResult,
        state: Option<&[u8]>,
    ) -> Result<Batch, Failure> {
        let poll_id = poll_id(&self.caller.feed, &scope.id, due_milliseconds);
        self.normalize_as(Some(scope), poll_id, poll_result, state).await
    }

    /// Calls the plugin's `normalize`, without a scope where a failure concerns the whole feed.
    async fn normalize_as(
        &self,
        scope: Option<&Scope>,
        poll_id: Uuid,
        poll_result: &PollResult,
        state: Option<&[u8]>,
    ) -> Result<Batch, Failure> {
        let context = Context {
            feed: self.caller.feed.clone(),
            tenant: self.caller.tenant.clone(),
            // Each context of the contract has a scope. Where there is none, its id is empty.
            scope: scope.cloned().unwrap_or_else(|| Scope {
                id: String::new(),
                name: None,
                owner: None,
                plugin_data: String::new(),
            }),
            poll_id: poll_id.to_string(),
            collected_at_milliseconds: (self.clock)(),
        };
        self.answered(self.plugin.normalize(&self.caller, &self.settings, &context, poll_result, state).await)
    }

    /// Reads all pages of one scope. If the plugin asks to restart, the poll begins again, once, within the rest of its
    /// time.
    pub async fn pages(&self, scope: &Scope) -> Result<(Vec<Page>, Vec<Notice>), Failure> {
        let pages = async {
            match self.pages_once(scope).await {
                Err(failure) if failure.reaction == Reaction::Restart => self.pages_once(scope).await,
                answer => answer,
            }
        };
        self.in_time("the poll", pages).await
    }

    async fn pages_once(&self, scope: &Scope) -> Result<(Vec<Page>, Vec<Notice>), Failure> {
        let (mut gathered, mut cursor) = (PollPages::default(), None::<String>);
        loop {
            let step = self.step(scope, cursor.as_deref()).await?;
            cursor = gathered.add(step, &self.caller.limits)?;
            if cursor.is_none() {
                return Ok((gathered.pages, gathered.notices));
            }
        }
    }

    async fn step(&self, scope: &Scope, cursor: Option<&str>) -> Result<PollStep, Failure> {
        let token = self.token().await?;
        match self.answered(self.plugin.poll(&self.caller, &self.settings, token.as_ref(), scope, cursor).await) {
            Err(failure) if failure.reaction == Reaction::RenewToken => {
                let token = self.another_token(token.as_ref()).await?;
                let answer = self.plugin.poll(&self.caller, &self.settings, token.as_ref(), scope, cursor).await;
                self.answered(answer).map_err(|failure| refused_twice(failure, Reaction::FixScope))
            }
            answer => answer,
        }
    }

    /// Returns the token that the feed holds, or fetches a new one.
    async fn token(&self) -> Result<Option<Secret>, Failure> {
        let mut held = self.token.lock().await;
        let (now, since) = ((self.clock)(), *self.tokens_after.lock());
        if let Some(held) = held.as_ref().filter(|held| held.is_good(now, since)) {
            return Ok(held.token.clone());
        }
        self.fetch_token(&mut held, wished(since), since).await
    }

    /// Returns another token than the one that the service refused.
    async fn another_token(&self, refused: Option<&Secret>) -> Result<Option<Secret>, Failure> {
        let mut held = self.token.lock().await;
        let (now, since) = ((self.clock)(), *self.tokens_after.lock());
        // Another scope may have renewed the token meanwhile.
        let is_another = |held: &&HeldToken| held.is_good(now, since) && held.token.as_ref() != refused;
        if let Some(held) = held.as_ref().filter(is_another) {
            return Ok(held.token.clone());
        }
        let freshness = refused.map_or_else(|| wished(since), |refused| Freshness::Not(refused.clone()));
        self.fetch_token(&mut held, freshness, Some(now)).await
    }

    /// Has the plugin fetch a token, and keeps it as a token from `since`.
    async fn fetch_token(
        &self,
        held: &mut Option<HeldToken>,
        freshness: Freshness,
        since: Option<u64>,
    ) -> Result<Option<Secret>, Failure> {
        let mut caller = self.caller.clone();
        if let Some(network) = &mut caller.network {
            network.freshness = freshness;
        }
        let now = (self.clock)();
        let fetched = self.answered(self.plugin.fetch_token(&caller, &self.settings).await)?;
        if let Some(fetched) = &fetched {
            self.count(|usage| usage.token_expires = Some(now + u64::from(fetched.expires_in_seconds) * 1_000));
        }
        let renew_at = fetched.as_ref().map(|fetched| renew_at(fetched, now));
        let token = fetched.map(|fetched| fetched.value);
        *held = Some(HeldToken { token: token.clone(), renew_at, since });
        Ok(token)
    }

    /// Returns a notice for each credential that is declared and configured but was on no request, once, after the
    /// first collection. Such a credential does not do what its author expects.
    fn unused(&self) -> Vec<Notice> {
        let carried = self.carried.lock().take();
        let Some(carried) = carried else { return Vec::new() };
        unused(&self.plan, &carried, |setting| self.settings.has_secret(setting))
    }

    fn count(&self, change: impl FnOnce(&mut Usage)) {
        change(&mut self.usage.lock());
    }

    /// Returns the plugin's answer, or the failure in its place. Reports a denied request once, unless the failure
    /// already mentions it.
    fn answered<T>(&self, called: Called<Result<T, Failure>>) -> Result<T, Failure> {
        let denied = called.1.first_denied.clone();
        let answered = self.outcome(called);
        let told = answered.as_ref().err().map(|failure| failure.cause.as_str());
        if let Some(network) = &self.caller.network {
            tell_denied(denied, told.unwrap_or_default(), &self.caller, network.egress.news());
        }
        answered
    }

    /// The same without the report. Where a request did not reach the service, the host knows the cause better than the
    /// plugin.
    fn outcome<T>(&self, (answer, journal): Called<Result<T, Failure>>) -> Result<T, Failure> {
        self.count(|usage| usage.add(&journal));
        if let Some(carried) = &mut *self.carried.lock() {
            let more = journal.carried.iter().filter(|credential| !carried.contains(credential));
            let more: Vec<Credential> = more.cloned().collect();
            carried.extend(more);
        }
        let mut failure = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => failure,
            Err(error) => return Err(error.failure()),
        };
        let last = journal.exchanges.last();
        if let Some(cause) = journal.asked_too_often {
            // The wait concerns this feed only: another credential of the same service may be usable.
            *self.throttled.lock() = None;
            let own = failures::TOKEN_REQUESTS_LIMITED.because(cause);
            return Err(Failure { wait_seconds: failure.wait_seconds, ..own });
        }
        if let Some(cause) = journal.echoed {
            return Err(failures::CREDENTIAL_ECHOED.because(cause));
        }
        if failure.reaction == Reaction::Wait {
            let asked = journal.exchanges.iter().rev().find_map(|exchange| exchange.asks_to_wait.clone());
            *self.throttled.lock() = asked;
            self.count(|usage| usage.throttles += 1);
        }
        if let Some(why) = journal.unusable.filter(|_| failure.status.is_none()) {
            failure.cause += &format!("; {why}");
        }
        if let Some(Err(reason)) = last.filter(|_| failure.status.is_none()).map(|exchange| &exchange.result)
            && let reason = reason.to_string()
            && !failure.cause.contains(&reason)
        {
            failure.cause += &format!("; {reason}");
        }
        Err(failure)
    }
}

impl Usage {
    fn add(&mut self, journal: &Journal) {
        for exchange in journal.exchanges.iter().filter(|exchange| !exchange.is_kept) {
            self.requests[StatusClass::of(exchange.result.as_ref().ok().copied()) as usize] += 1;
            self.response_bytes += exchange.bytes as u64;
        }
        self.cpu += journal.busy;
        self.memory_bytes = self.memory_bytes.max(journal.memory_bytes as u64);
    }
}

/// The freshness that a time demands of a token.
fn wished(since: Option<u64>) -> Freshness {
    since.map_or(Freshness::Any, Freshness::Since)
}

/// Logs a denied request, unless the failure's text in `told` mentions it or the log already has it.
fn tell_denied(denied: Option<Denied>, told: &str, caller: &Caller, news: &News) {
    let Some(Denied { request, why }) = denied.filter(|denied| !told.contains(&denied.why)) else { return };
    let words = format!("{request} is not let out: {why}");
    if news.is_news(&words) {
        tracing::warn!(target: "egress", who = format!("{}/{}", caller.tenant, caller.feed), "{words}");
    }
}

/// Returns a notice for each credential that a plan declares, that is configured, and that is not in `carried`.
fn unused(plan: &Plan, carried: &[Credential], is_configured: impl Fn(&str) -> bool) -> Vec<Notice> {
    let declared = plan.shapes.iter().flat_map(|shape| &shape.credentials).map(|used| &used.credential);
    let mut unused: Vec<&Credential> = Vec::new();
    for credential in declared.filter(|credential| !carried.contains(credential)) {
        let configured = match credential {
            Credential::Setting(setting) | Credential::Assertion(setting) => is_configured(setting),
            Credential::Token => plan.shapes.iter().any(|shape| shape.captures.is_some()),
        };
        if configured && !unused.contains(&credential) {
            unused.push(credential);
        }
    }
    let message = |credential| format!("the plugin declared {} and sent no request with it", sealed::name(credential));
    unused.into_iter().map(|credential| failures::CREDENTIAL_UNUSED.because(message(credential))).collect()
}

/// Derives the id of a poll.
pub fn poll_id(feed: &str, scope: &str, due_milliseconds: u64) -> Uuid {
    poll_id_in(&POLL_NAMESPACE, feed, scope, due_milliseconds)
}

/// Derives the id of a poll for a host that keeps a state. Without the host's key, nobody can guess the id or the uids
/// that are derived from it.
pub fn keyed_poll_id(key: &str, feed: &str, scope: &str, due_milliseconds: u64) -> Uuid {
    poll_id_in(&Uuid::new_v5(&POLL_NAMESPACE, key.as_bytes()), feed, scope, due_milliseconds)
}

fn poll_id_in(namespace: &Uuid, feed: &str, scope: &str, due_milliseconds: u64) -> Uuid {
    Uuid::new_v5(namespace, format!("{feed}\n{scope}\n{due_milliseconds}").as_bytes())
}

/// When a token is to be renewed: together with the host's other feeds that share it; otherwise some minutes before it
/// expires, or at half its life where that is later.
fn renew_at(token: &FetchedToken, now: u64) -> u64 {
    let life = Duration::from_secs(token.expires_in_seconds.into());
    let renew_at = now + milliseconds(life.saturating_sub(TOKEN_RENEWAL).max(life / 2));
    token.renew_at.filter(|shared| *shared > now).map_or(renew_at, |shared| shared.min(renew_at))
}

/// Classifies the refusal of a fresh token. If the service's own code says so, the cause is the configuration or a
/// permission. A refusal without such a code may come from a machine that answered in the service's place.
fn refused_twice(failure: Failure, mend: Reaction) -> Failure {
    let reaction = match failure.reaction {
        Reaction::RenewToken if failure.service_code.is_some() => mend,
        Reaction::RenewToken => Reaction::TryLater,
        other => other,
    };
    Failure { reaction, ..failure }
}

#[cfg(test)]
mod tests;
