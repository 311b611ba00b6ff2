//! One call of a plugin: a fresh store, a fresh instance, its limits, its requests. Nothing of it is used again; a trap
//! or a dropped call takes the store with it.

mod hook;
mod meter;
mod seal;
mod tap;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime::{Trap, UpdateDeadline};
use wasmtime_wasi::clocks::WasiClocksCtx;
use wasmtime_wasi_http::WasiHttpCtx;

use crate::contract::{
    Batch, Context, Credential, Description, Discovery, Failure, Given, Plan, PluginCode, Problem, Reaction, Scope,
    Step, Token, Whose, credentials, log,
};
use crate::egress::{Egress, Sealed};
use crate::engine::Running;
use crate::limits::{self, Limits};
use crate::plugin::Plugin;
use crate::redact;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::tokens::Tokens;
use crate::transport::Transport;

use self::hook::Hook;
use self::meter::{Meter, within_limits};
use self::tap::Enters;

pub use self::tap::Tap;

/// Unix time in milliseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

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
    pub network: Option<Network>,
}

/// How requests leave: the rules, and what carries them.
#[derive(Clone)]
pub struct Network {
    /// What may leave.
    pub egress: Arc<Egress>,
    /// What carries it.
    pub transport: Arc<dyn Transport>,
    /// What token endpoints answered to this tenant.
    pub tokens: Arc<Tokens>,
    /// Tokens from before are not wanted; Unix milliseconds.
    pub tokens_after: u64,
    /// The time.
    pub clock: Clock,
}

/// Why a call gave no answer of the plugin's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The plugin broke down.
    #[error("{call} trapped: {kind}{words}")]
    Trap {
        /// Function of the contract.
        call: &'static str,
        /// The engine's word for it.
        kind: String,
        /// The guest's last words.
        words: LastWords,
    },
    /// The plugin used more than it may.
    #[error("{call} passed the limit of {limit}, {value}{words}")]
    Limit {
        /// Function of the contract.
        call: &'static str,
        /// Which limit.
        limit: &'static str,
        /// Its value.
        value: String,
        /// The guest's last words.
        words: LastWords,
    },
}

/// What a guest logged last, bounded and redacted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastWords(Vec<String>);

impl fmt::Display for LastWords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, "; its last words: {}", self.0.join(" / ")) }
    }
}

impl CallError {
    /// Whose fault it is.
    pub fn whose(&self) -> Whose {
        Whose::Plugin
    }

    /// As a failure of the contract, so that callers have one thing to react to.
    pub fn failure(&self) -> Failure {
        let code = match self {
            CallError::Trap { .. } => "plugin-trapped",
            CallError::Limit { .. } => "plugin-limit",
        };
        Failure::of_host(Reaction::MendPlugin, code, self.to_string())
    }
}

/// One exchange of a call, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// HTTP method.
    pub method: String,
    /// Address as the plugin gave it: without credentials, which the host adds later.
    pub url: String,
    /// What came of it.
    pub result: Result<u16, String>,
    /// Bytes of the answer's body.
    pub bytes: usize,
    /// How long it took.
    pub time: Duration,
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
    /// Whether the host answered a request for a token itself, because the same was asked too often.
    pub asked_too_often: bool,
    /// Log lines of the guest, redacted.
    pub log: Vec<String>,
    /// Credentials that left on requests.
    pub carried: Vec<Credential>,
    /// Requests that were not let out.
    pub denied: usize,
    /// The token that an answer held, with its placeholder.
    tokens: Vec<(String, Secret)>,
}

type Shared<T> = Arc<Mutex<T>>;

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a store holds for one call.
pub(crate) struct Store {
    pub(crate) table: ResourceTable,
    pub(crate) clocks: WasiClocksCtx,
    pub(crate) http: WasiHttpCtx,
    pub(crate) hook: Hook,
    meter: Meter,
    who: Arc<str>,
    log_lines_dropped: usize,
}

impl log::Host for Store {
    async fn write(&mut self, level: log::Level, message: String) {
        let limits = &self.hook.limits;
        let mut journal = lock(&self.hook.journal);
        if journal.log.len() >= limits.log_lines {
            self.log_lines_dropped += 1;
            return;
        }
        let secrets =
            self.hook.sealed.iter().map(|sealed| &sealed.secret).chain(journal.tokens.iter().map(|(_, token)| token));
        // Redacted before it is cut: half a secret would not be known for one.
        let message = redact::redact(&message, secrets);
        let message = redact::cut(&message, limits.log_line_bytes).replace(['\n', '\r'], " ");
        match level {
            log::Level::Debug => tracing::debug!(target: "plugin", who = %self.who, "{message}"),
            log::Level::Info => tracing::info!(target: "plugin", who = %self.who, "{message}"),
            log::Level::Warn => tracing::warn!(target: "plugin", who = %self.who, "{message}"),
            log::Level::Error => tracing::error!(target: "plugin", who = %self.who, "{message}"),
        }
        journal.log.push(message);
    }
}

impl credentials::Host for Store {
    /// No plugin of this version declares a credential of such a kind.
    async fn client_assertion(
        &mut self,
        _setting: String,
        _client_id: String,
        _audience: String,
    ) -> Result<String, credentials::Refusal> {
        Err(credentials::Refusal::NotDeclared)
    }
}

/// A token that the host keeps, and how long it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedToken {
    /// The real value.
    pub value: Secret,
    /// From when it was fetched.
    pub expires_in_seconds: u32,
}

/// A call's answer and what it took.
pub type Called<T> = (Result<T, CallError>, Journal);

/// Makes a call: opens a fresh instance, lets it answer in its time, and closes it.
macro_rules! call {
    ($plugin:expr, $name:literal, $caller:expr, $sealed:expr, $function:ident($($argument:expr),*)) => {{
        let mut open = $plugin.open($name, $caller, $sealed).await;
        if let Some(tap) = $plugin.tap() {
            let mut show = |bytes: &[u8]| tap(concat!("argument of ", $name), bytes);
            $($argument.enters(&mut show);)*
            let _ = &mut show;
        }
        let answer = match open.code.take() {
            Some(Ok(code)) => {
                let answer = code.collector_source_plugin().$function(&mut open.store $(, $argument)*);
                let answer = timed(answer, &mut open.busy);
                tokio::time::timeout_at(open.deadline, answer).await.map_err(|_| None).and_then(|answer| answer.map_err(Some))
            }
            Some(Err(error)) => Err(error),
            None => Err(None),
        };
        open.close(answer)
    }};
}

/// Adds up the time in which a call is being worked at, waiting left out.
async fn timed<F: Future>(call: F, busy: &mut Duration) -> F::Output {
    let mut call = std::pin::pin!(call);
    std::future::poll_fn(|context| {
        let begun = Instant::now();
        let answer = call.as_mut().poll(context);
        *busy += begun.elapsed();
        answer
    })
    .await
}

impl Plugin {
    /// What the plugin is.
    pub async fn describe(&self) -> Called<Description> {
        call!(self, "describe", &Caller::default(), Vec::new(), call_describe())
    }

    /// Checks settings. All HTTP is denied.
    pub async fn prepare(&self, caller: &Caller, settings: &Settings) -> Called<Result<Plan, Vec<Problem>>> {
        let (text, sealed) = settings.sealed();
        call!(self, "prepare", &caller.without_network(), sealed, call_prepare(&text))
    }

    /// Fetches a token; its value stays with the host.
    pub async fn fetch_token(
        &self,
        caller: &Caller,
        settings: &Settings,
    ) -> Called<Result<Option<FetchedToken>, Failure>> {
        let (text, sealed) = settings.sealed();
        let (answer, journal) = call!(self, "fetch-token", caller, sealed, call_fetch_token(&text));
        let kept = |Token { value, expires_in_seconds }| {
            let kept =
                journal.tokens.iter().find(|(placeholder, _)| *placeholder == value).map(|(_, token)| token.clone());
            FetchedToken { value: kept.unwrap_or_else(|| Secret::new(value)), expires_in_seconds }
        };
        (answer.map(|answer| answer.map(|token| token.map(kept))), journal)
    }

    /// Finds the scopes.
    pub async fn discover(
        &self,
        caller: &Caller,
        settings: &Settings,
        token: Option<&Secret>,
    ) -> Called<Result<Discovery, Failure>> {
        let (text, mut sealed) = settings.sealed();
        let token = seal_token(token, &mut sealed);
        call!(self, "discover", caller, sealed, call_discover(&text, token.as_deref()))
    }

    /// Reads one page.
    pub async fn poll(
        &self,
        caller: &Caller,
        settings: &Settings,
        token: Option<&Secret>,
        scope: &Scope,
        cursor: Option<&str>,
    ) -> Called<Result<Step, Failure>> {
        let (text, mut sealed) = settings.sealed();
        let token = seal_token(token, &mut sealed);
        call!(self, "poll", caller, sealed, call_poll(&text, token.as_deref(), scope, cursor))
    }

    /// Makes events. All HTTP is denied, and there are no credentials.
    pub async fn normalize(
        &self,
        caller: &Caller,
        settings: &Settings,
        context: &Context,
        given: &Given,
        state: Option<&[u8]>,
    ) -> Called<Result<Batch, Failure>> {
        let text = settings.without_credentials();
        let caller = caller.without_network();
        let (answer, journal) =
            call!(self, "normalize", &caller, Vec::new(), call_normalize(text, context, given, state));
        (answer.and_then(|answer| within_limits(answer, &caller.limits)), journal)
    }

    async fn open(&self, call: &'static str, caller: &Caller, sealed: Vec<Sealed>) -> Open<'_> {
        let running = self.host().enter().await;
        let deadline = tokio::time::Instant::now() + caller.limits.wall_time;
        let mut store = self.store(caller, sealed);
        let code = tokio::time::timeout_at(deadline, self.linked().instantiate_async(&mut store)).await;
        let code = code.map_err(|_| None).and_then(|code| code.map_err(Some));
        let (wall_time, busy) = (caller.limits.wall_time, Duration::ZERO);
        Open { call, deadline, wall_time, store, code: Some(code), busy, _running: running }
    }

    fn store(&self, caller: &Caller, sealed: Vec<Sealed>) -> wasmtime::Store<Store> {
        let journal = Arc::new(Mutex::new(Journal::default()));
        let limits = caller.limits.clone();
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits::HANDLES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits::FIELD_BYTES);
        let who: Arc<str> = format!("{}/{}", caller.tenant, caller.feed).into();
        let hook = Hook {
            network: caller.network.clone(),
            sealed: Arc::new(sealed),
            limits: limits.clone(),
            journal,
            who: Arc::clone(&who),
            tap: self.tap().cloned(),
        };
        let meter = Meter::new(limits);
        let data = Store { table, clocks: WasiClocksCtx::default(), http, hook, meter, who, log_lines_dropped: 0 };
        let mut store = wasmtime::Store::new(self.host().engine(), data);
        store.limiter(|store| &mut store.meter);
        store.set_hostcall_fuel(limits::COPIED_BYTES);
        store.set_max_component_handles(limits::HANDLES);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            Ok(if store.data_mut().meter.tick() { UpdateDeadline::Interrupt } else { UpdateDeadline::Yield(1) })
        });
        store
    }
}

impl Caller {
    fn without_network(&self) -> Caller {
        Caller { network: None, ..self.clone() }
    }
}

/// An instance that is about to answer, or could not be made. The error is none where time ran out.
struct Open<'a> {
    call: &'static str,
    deadline: tokio::time::Instant,
    wall_time: Duration,
    store: wasmtime::Store<Store>,
    code: Option<Result<PluginCode, Option<wasmtime::Error>>>,
    busy: Duration,
    _running: Running<'a>,
}

impl Open<'_> {
    /// Ends the call: what came of it, and what it took.
    fn close<T>(self, answer: Result<T, Option<wasmtime::Error>>) -> Called<T> {
        let Store { meter, hook, who, log_lines_dropped, .. } = self.store.into_data();
        let mut journal = lock(&hook.journal).clone();
        (journal.busy, journal.memory_bytes) = (self.busy, meter.memory_bytes);
        if log_lines_dropped > 0 {
            tracing::warn!(target: "plugin", %who, "{log_lines_dropped} log lines beyond {} were dropped", meter.limits.log_lines);
        }
        let error = match answer {
            Ok(answer) => return (Ok(answer), journal),
            Err(error) => error,
        };
        let (call, words) = (self.call, LastWords(journal.log.iter().rev().take(3).rev().cloned().collect()));
        let error = match (meter.exceeded, error) {
            (Some((limit, value)), _) => CallError::Limit { call, limit, value, words },
            (None, None) => {
                CallError::Limit { call, limit: "time in all", value: format!("{} s", self.wall_time.as_secs()), words }
            }
            (None, Some(error)) => {
                let kind = error.downcast_ref::<Trap>().map_or_else(|| error.root_cause().to_string(), Trap::to_string);
                CallError::Trap { call, kind, words }
            }
        };
        (Err(error), journal)
    }
}

fn seal_token(token: Option<&Secret>, sealed: &mut Vec<Sealed>) -> Option<String> {
    token.map(|token| {
        let token = Sealed::new(Credential::Token, token.clone());
        let placeholder = token.placeholder.clone();
        sealed.push(token);
        placeholder
    })
}
