//! One call of a plugin: a fresh store, a fresh instance, its limits, its requests. No later call uses any of them; a
//! trap or a dropped call drops the store.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::component::{ResourceTable, ResourceTableError};
use wasmtime::{Trap, UpdateDeadline};
use wasmtime_wasi_http::WasiHttpCtx;

use super::answer::{AnswerFault, BoundedAnswer, LONG_ANSWER};
use super::bound::{Bound, LimitAmount};
use super::clock::CallClock;
pub(crate) use super::clock::ClockView;
use super::hook::{Asker, Hook};
pub(crate) use super::journal::Denied;
pub use super::journal::{CallNetwork, Caller, Exchange, Journal, KeptSearches, NoAnswer, WaitAsked};
use super::log_share::LogShare;
use super::meter::{self, Meter, Spent};
use super::tap::Enters;
use crate::blame::Blame;
use crate::contract::{
    Batch, Context, Credential, CredentialKind, Description, Discovery, Failure, Guest, LogLevel, Plan, PluginCode,
    PollResult, PollStep, Problem, Scope, Token, credentials, log,
};
use crate::credentials::assertion::{self, CredentialError, KeyPair};
use crate::credentials::redact::{self, Search};
use crate::credentials::sealed::Sealed;
use crate::credentials::secret::Secret;
use crate::credentials::settings::{HeldCredential, Inside, Settings};
use crate::failures;
use crate::limits::{self, Limits};
use crate::plugin::Plugin;
use crate::plugin::engine::CallPermit;
use crate::text;

pub use super::tap::Tap;

/// The reason why a call returned no answer of the plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The plugin trapped, or its answer violates the contract.
    #[error("the plugin crashed in {call}: {kind}{words}")]
    Trap {
        /// Function of the contract.
        call: &'static str,
        /// The kind of trap, as the engine names it.
        kind: String,
        /// The guest's last log lines.
        words: LastWords,
    },
    /// The process stood still during the call, and the time of the call was over when it went on.
    #[error("the process was stopped for {} s during {call}, or got no processor, and the call was given up", stood.as_secs())]
    Stood {
        /// Function of the contract.
        call: &'static str,
        /// The time for which the process stood still.
        stood: Duration,
    },
    /// The plugin exceeded a limit.
    #[error("the plugin exceeded its limit on {limit} in {call}, {value}{words}")]
    Limit {
        /// Function of the contract.
        call: &'static str,
        /// The limit.
        limit: Bound,
        /// The amount of the limit.
        value: LimitAmount,
        /// The guest's last log lines.
        words: LastWords,
    },
}

/// The last log lines of a guest, bounded and redacted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastWords(Vec<String>);

impl fmt::Display for LastWords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, "; its last log lines: {}", self.0.join(" / ")) }
    }
}

impl CallError {
    /// The party that can mend the error.
    pub fn blame(&self) -> Blame {
        match self {
            CallError::Stood { .. } => failures::HOST_STOPPED.blame,
            CallError::Trap { .. } | CallError::Limit { .. } => Blame::Plugin,
        }
    }

    /// The error as a failure of the contract, so that callers handle only failures.
    pub fn failure(&self) -> Failure {
        match self {
            CallError::Stood { .. } => failures::HOST_STOPPED.because(self),
            CallError::Trap { .. } => failures::PLUGIN_TRAPPED.because(self),
            CallError::Limit { .. } => failures::PLUGIN_LIMIT.because(self),
        }
    }
}

/// The store of one call.
type CallStore = wasmtime::Store<CallState>;

/// The state that a store holds for one call.
pub(crate) struct CallState {
    pub(crate) table: ResourceTable,
    pub(crate) clock: CallClock,
    pub(crate) http: WasiHttpCtx,
    pub(crate) hook: Hook,
    held: Vec<HeldCredential>,
    declared: Option<Arc<Description>>,
    meter: Meter,
    who: Arc<str>,
    log: Option<Arc<LogShare>>,
    log_lines_dropped: usize,
}

/// How many times longer than a log line a message may be: a longer one is not searched for secrets.
const LONGEST_MESSAGE: usize = 32;

/// A plugin's message for the log: without secrets and invisible characters, cut to a number of bytes.
pub fn log_words(message: &str, secrets: &Search, most_bytes: usize) -> String {
    // Redaction precedes the cut, because a cut secret would not be recognised. A second redaction finds secrets that
    // contained invisible characters.
    let redacted = |text: String| match secrets.clean(text.as_bytes()) {
        Some(clean) => text::plain(&String::from_utf8_lossy(&clean)),
        None => text,
    };
    let message = redacted(text::plain(&redacted(message.to_owned())));
    text::cut(&message, most_bytes).to_owned()
}

/// Writes one line of the log. The message is a field, which is quoted, because a message could imitate the fields of
/// another line.
pub fn log_line(level: LogLevel, who: &str, words: &str) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(target: "plugin", who = %who, words, "the plugin says")
        };
    }
    match level {
        LogLevel::Debug => line!(debug),
        LogLevel::Info => line!(info),
        LogLevel::Warn => line!(warn),
        LogLevel::Error => line!(error),
    }
}

impl log::Host for CallState {
    async fn write(&mut self, level: log::Level, message: String) {
        let limits = &self.hook.limits;
        let (lines, tokens) = {
            let journal = self.hook.journal.lock();
            (journal.log.len(), journal.tokens.iter().map(|held| held.token.clone()).collect::<Vec<_>>())
        };
        if lines >= limits.log_lines || message.len() / LONGEST_MESSAGE > limits.log_line_bytes {
            self.log_lines_dropped += 1;
            return;
        }
        if self.log.as_ref().is_some_and(|log| !log.takes(message.len().min(limits.log_line_bytes))) {
            return;
        }
        let (sealed, most) = (Arc::clone(&self.hook.sealed), limits.log_line_bytes);
        let reading = meter::beside(self.meter.spent(), message.len() > redact::LONG, move || {
            let secrets = sealed.iter().map(|sealed| &sealed.secret).chain(&tokens);
            log_words(&message, &Search::new(secrets), most)
        });
        let Some(message) = reading.await else { return };
        log_line(level, &self.who, &message);
        self.hook.journal.lock().log.push(message);
    }
}

impl credentials::Host for CallState {
    /// Returns a placeholder; the assertion itself goes onto the request.
    async fn client_assertion(
        &mut self,
        setting: String,
        client_id: String,
        audience: String,
    ) -> Result<String, credentials::Refusal> {
        let declared = self.declared.iter().flat_map(|description| &description.credentials);
        let mut kinds = declared.filter(|credential| credential.setting == setting).map(|credential| credential.kind);
        let kind = kinds.find(|kind| *kind != CredentialKind::Secret).ok_or(credentials::Refusal::NotDeclared)?;
        let held = self.held.iter().find(|held| held.setting == setting).map(|held| held.secret.clone());
        // A call without HTTP has no use for an assertion, and has no clock.
        let clock = self.hook.network.as_ref().map(|network| Arc::clone(&network.clock));
        let (Some(held), Some(clock)) = (held, clock) else { return Err(credentials::Refusal::NotConfigured) };
        let made = self.hook.sealed.iter().filter(|sealed| matches!(sealed.credential, Credential::Assertion(_)));
        if made.count() >= limits::ASSERTIONS {
            self.meter.exceed(Bound::Assertions, LimitAmount::count(limits::ASSERTIONS));
            return Err(credentials::Refusal::Unusable);
        }
        if client_id.len() > limits::ID_BYTES || audience.len() > limits::ADDRESS_BYTES {
            self.meter.exceed(Bound::AssertionSubject, LimitAmount::bytes(limits::ADDRESS_BYTES));
            return Err(credentials::Refusal::Unusable);
        }
        let replays = self.hook.network.as_ref().is_some_and(|network| network.transport.replays());
        let made = tokio::task::spawn_blocking(move || match kind {
            // The key pair or file of a recording is a placeholder, too.
            _ if replays => Ok((Secret::new("ASSERTION"), None)),
            CredentialKind::TokenFile => {
                assertion::read_token(std::path::Path::new(held.expose())).map(|token| (token, None))
            }
            _ => KeyPair::read(held.expose()).and_then(|pair| {
                let identity = pair.identity(&client_id, &audience);
                Ok((pair.assertion(&client_id, &audience, clock())?, Some(identity)))
            }),
        });
        match made.await.unwrap_or_else(|error| Err(CredentialError::Unfit(error.to_string()))) {
            Ok((secret, identity)) => {
                let sealed = Sealed { identity, ..Sealed::new(Credential::Assertion(setting), secret) };
                let placeholder = sealed.placeholder.clone();
                if let Some(tap) = &self.hook.tap {
                    tap("answer of client-assertion", placeholder.as_bytes());
                }
                Arc::make_mut(&mut self.hook.sealed).push(sealed);
                Ok(placeholder)
            }
            Err(error) => {
                self.hook.journal.lock().unusable = Some(format!("found {error}"));
                Err(match error {
                    CredentialError::Unreadable { .. } => credentials::Refusal::Unreadable,
                    CredentialError::Unfit(_) => credentials::Refusal::Unusable,
                })
            }
        }
    }
}

/// A token that the host keeps, and its lifetime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedToken {
    /// The real value.
    pub value: Secret,
    /// Lifetime of the token, counted from the fetch.
    pub expires_in_seconds: u32,
    /// When the host would fetch another token, in Unix milliseconds; `None` if the host keeps no answer with the
    /// token.
    pub renew_at: Option<u64>,
}

/// A call's answer, and the record of the call.
pub type Called<T> = (Result<T, CallError>, Journal);

/// The end of the guest's part of a call.
enum Ended<T> {
    /// The guest answered.
    Answered(T),
    /// The engine stopped the guest.
    Trapped(wasmtime::Error),
    /// The call's elapsed time exceeded its limit.
    OutOfTime,
}

/// Runs the guest until the deadline, and adds up the CPU time of the call.
async fn ended<T>(
    deadline: tokio::time::Instant,
    spent: &Spent,
    work: impl Future<Output = wasmtime::Result<T>>,
) -> Ended<T> {
    match tokio::time::timeout_at(deadline, timed(work, spent)).await {
        Ok(Ok(answer)) => Ended::Answered(answer),
        Ok(Err(error)) => Ended::Trapped(error),
        Err(_) => Ended::OutOfTime,
    }
}

/// Adds up the CPU time of a call.
async fn timed<F: Future>(call: F, spent: &Spent) -> F::Output {
    let mut call = std::pin::pin!(call);
    std::future::poll_fn(|context| {
        spent.begin();
        let answer = call.as_mut().poll(context);
        spent.pause();
        answer
    })
    .await
}

// The calls that only compute are made once more if the process stood still meanwhile.
impl Plugin {
    /// Asks the plugin for its description. All HTTP is denied, and there are no timers.
    pub async fn describe(&self) -> Called<Description> {
        once_more_if_stood(|| self.describe_once()).await
    }

    async fn describe_once(&self) -> Called<Description> {
        self.call("describe", &Caller::default(), Inside::default(), &[], async |code, store| {
            code.call_describe(store).await
        })
        .await
    }

    /// Has the plugin check settings. All HTTP is denied, there are no timers, and equal settings look equal to the
    /// plugin.
    pub async fn prepare(&self, caller: &Caller, settings: &Settings) -> Called<Result<Plan, Vec<Problem>>> {
        let text = settings.with_fixed_placeholders();
        once_more_if_stood(|| self.prepare_once(caller, &text)).await
    }

    /// The same with new placeholders in each call. A plan must not depend on placeholders, and a host that tests
    /// plugins checks this.
    pub async fn prepare_with_chance(
        &self,
        caller: &Caller,
        settings: &Settings,
    ) -> Called<Result<Plan, Vec<Problem>>> {
        let (text, _) = settings.sealed();
        self.prepare_once(caller, &text).await
    }

    async fn prepare_once(&self, caller: &Caller, text: &str) -> Called<Result<Plan, Vec<Problem>>> {
        self.call("prepare", &caller.without_network(), Inside::default(), &[&text], async |code, store| {
            code.call_prepare(store, text).await
        })
        .await
    }

    /// Fetches a token; its value stays with the host.
    pub async fn fetch_token(
        &self,
        caller: &Caller,
        settings: &Settings,
    ) -> Called<Result<Option<FetchedToken>, Failure>> {
        let (text, inside) = settings.sealed();
        let fetch = async |code: &Guest, store: &mut CallStore| code.call_fetch_token(store, &text).await;
        let (answer, journal) = self.call("fetch-token", caller, inside, &[&text], fetch).await;
        // Only a token that the host sealed is accepted: with a token of its own, the plugin could sign a tenant's
        // requests for another account.
        let kept = |Token { value, expires_in_seconds }| {
            let held = journal.tokens.iter().find(|held| held.placeholder == value).ok_or_else(|| CallError::Trap {
                call: "fetch-token",
                kind: "its token is one of its own, expected the placeholder of one that a service answered".to_owned(),
                words: LastWords::default(),
            })?;
            Ok(FetchedToken { value: held.token.clone(), expires_in_seconds, renew_at: held.renew_at })
        };
        let answer = answer.and_then(|answer| match answer {
            Ok(token) => token.map(kept).transpose().map(Ok),
            Err(failure) => Ok(Err(failure)),
        });
        (answer, journal)
    }

    /// Finds the scopes.
    pub async fn discover(
        &self,
        caller: &Caller,
        settings: &Settings,
        token: Option<&Secret>,
    ) -> Called<Result<Discovery, Failure>> {
        let (text, mut inside) = settings.sealed();
        let token = seal_token(token, &mut inside.sealed);
        self.call("discover", caller, inside, &[&text, &token], async |code, store| {
            code.call_discover(store, &text, token.as_deref()).await
        })
        .await
    }

    /// Reads one page or several.
    pub async fn poll(
        &self,
        caller: &Caller,
        settings: &Settings,
        token: Option<&Secret>,
        scope: &Scope,
        cursor: Option<&str>,
    ) -> Called<Result<PollStep, Failure>> {
        let (text, mut inside) = settings.sealed();
        let token = seal_token(token, &mut inside.sealed);
        self.call("poll", caller, inside, &[&text, &token, scope, &cursor], async |code, store| {
            code.call_poll(store, &text, token.as_deref(), scope, cursor).await
        })
        .await
    }

    /// Makes events. All HTTP is denied, and there are no credentials.
    pub async fn normalize(
        &self,
        caller: &Caller,
        settings: &Settings,
        context: &Context,
        poll_result: &PollResult,
        state: Option<&[u8]>,
    ) -> Called<Result<Batch, Failure>> {
        once_more_if_stood(|| self.normalize_once(caller, settings, context, poll_result, state)).await
    }

    async fn normalize_once(
        &self,
        caller: &Caller,
        settings: &Settings,
        context: &Context,
        poll_result: &PollResult,
        state: Option<&[u8]>,
    ) -> Called<Result<Batch, Failure>> {
        let text = settings.without_credentials();
        let text = &*text;
        let caller = caller.without_network();
        self.call(
            "normalize",
            &caller,
            Inside::default(),
            &[&text, context, poll_result, &state],
            async |code, store| code.call_normalize(store, text, context, poll_result, state).await,
        )
        .await
    }

    /// The limit of a call's elapsed time.
    fn time_of(call: &str, limits: &Limits) -> Duration {
        match call {
            "describe" | "prepare" => limits.prepare_time.min(limits.wall_time),
            _ => limits.wall_time,
        }
    }

    /// Makes a call: opens a fresh instance, shows the `arguments` to the tap of a test, awaits the plugin's answer
    /// until the deadline, and closes the instance.
    async fn call<T: BoundedAnswer + Send + 'static>(
        &self,
        name: &'static str,
        caller: &Caller,
        inside: Inside,
        arguments: &[&(dyn Enters + Sync)],
        run: impl AsyncFnOnce(&Guest, &mut CallStore) -> wasmtime::Result<T>,
    ) -> Called<T> {
        let (mut open, code) = self.open(name, caller, inside).await;
        if let Some(tap) = self.tap() {
            let place = format!("argument of {name}");
            arguments.iter().for_each(|argument| argument.enters(&mut |bytes| tap(&place, bytes)));
        }
        let answer = match code {
            Ended::Answered(code) => {
                ended(open.deadline, &open.spent, run(code.collector_source_plugin(), &mut open.store)).await
            }
            Ended::Trapped(error) => Ended::Trapped(error),
            Ended::OutOfTime => Ended::OutOfTime,
        };
        open.close(answer).await
    }

    async fn open(&self, call: &'static str, caller: &Caller, inside: Inside) -> (OpenCall<'_>, Ended<PluginCode>) {
        let permit = self.host().enter().await;
        let wall_time = Plugin::time_of(call, &caller.limits);
        let deadline = tokio::time::Instant::now() + wall_time;
        let spent = Arc::new(Spent::default());
        let mut store = self.store(call, caller, inside, &spent);
        let code = ended(deadline, &spent, self.linked().instantiate_async(&mut store)).await;
        let open = OpenCall { call, deadline, wall_time, store, spent, permit };
        (open, code)
    }

    fn store(
        &self,
        call: &'static str,
        caller: &Caller,
        Inside { sealed, held }: Inside,
        spent: &Arc<Spent>,
    ) -> CallStore {
        let journal = Arc::new(Mutex::new(Journal::default()));
        let limits = caller.limits.clone();
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits::FIELD_BYTES);
        let clock = if caller.network.is_some() { CallClock::running() } else { CallClock::standing() };
        let (copied_bytes, handles) = (limits.copied_bytes, limits.handles);
        let who: Arc<str> = format!("{}/{}", caller.tenant, caller.feed).into();
        let (tenant, plugin) = (caller.tenant.as_str().into(), self.about().sha256.as_str().into());
        let (network, tap) = (caller.network.clone(), self.tap().cloned());
        let known = self.known();
        let asker = Asker { who: Arc::clone(&who), tenant, plugin, known, spent: Arc::clone(spent) };
        let hook = Hook::new(call, network, sealed, limits.clone(), journal, asker, tap);
        let meter = Meter::new(limits, Arc::clone(spent));
        let (declared, log) = (self.described(), caller.log.clone());
        let data = CallState { table, clock, http, hook, held, declared, meter, who, log, log_lines_dropped: 0 };
        let mut store = wasmtime::Store::new(self.host().engine(), data);
        store.limiter(|store| &mut store.meter);
        store.set_hostcall_fuel(copied_bytes);
        if self.host().counts_instructions() {
            // The engine counts down, and fails only where it does not count.
            let _ = store.set_fuel(u64::MAX);
        }
        store.set_max_component_handles(handles);
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

/// A call in progress.
struct OpenCall<'a> {
    call: &'static str,
    deadline: tokio::time::Instant,
    wall_time: Duration,
    store: CallStore,
    spent: Arc<Spent>,
    permit: CallPermit<'a>,
}

impl OpenCall<'_> {
    /// Ends the call, and returns its answer and its record.
    async fn close<T: BoundedAnswer + Send + 'static>(self, answer: Ended<T>) -> Called<T> {
        let OpenCall { call, deadline, wall_time, store, spent, permit } = self;
        let instructions = store.get_fuel().map_or(0, |left| u64::MAX - left);
        let CallState { meter, hook, who, log, log_lines_dropped, .. } = store.into_data();
        let mut journal = hook.journal.lock().clone();
        (journal.busy, journal.memory_bytes) = (spent.time(), meter.memory_bytes);
        journal.instructions = instructions;
        if let Some(log) = &log {
            log.count_dropped(log_lines_dropped as u64);
        }
        if log_lines_dropped > 0 && log.is_none_or(|log| log.takes_of_host(0)) {
            tracing::warn!(target: "plugin", %who, "{log_lines_dropped} log lines beyond {} were dropped", meter.limits.log_lines);
        }
        let fault = match (meter.exceeded.or(journal.exceeded.take()), answer) {
            (Some((limit, value)), _) => AnswerFault::Limit(limit, value),
            (None, Ended::Answered(answer)) => {
                let held = held(answer, meter.limits.clone(), &spent, deadline).await;
                journal.busy = spent.time();
                match held {
                    Ok(_) if journal.busy > meter.limits.cpu_time => {
                        AnswerFault::Limit(Bound::ProcessorTime, LimitAmount::Time(meter.limits.cpu_time))
                    }
                    Ok(answer) => {
                        journal.stood_still = permit.stood_still();
                        return (Ok(answer), journal);
                    }
                    Err(fault) => fault,
                }
            }
            (None, Ended::OutOfTime) => out_of_time(wall_time),
            (None, Ended::Trapped(error)) => classify(&error, &meter.limits),
        };
        journal.stood_still = permit.stood_still();
        if let Some(error) = stood(call, &fault, journal.stood_still) {
            return (Err(error), journal);
        }
        let words = LastWords(journal.log.iter().rev().take(3).rev().cloned().collect());
        let error = match fault {
            AnswerFault::Limit(limit, value) => CallError::Limit { call, limit, value, words },
            AnswerFault::Broken(kind) => CallError::Trap { call, kind, words },
        };
        (Err(error), journal)
    }
}

/// Makes a pure call, and makes the call once more if its time was over because the process stood still.
async fn once_more_if_stood<T, F: Future<Output = Called<T>>>(call: impl Fn() -> F) -> Called<T> {
    match call().await {
        (Err(CallError::Stood { .. }), _) => call().await,
        called => called,
    }
}

/// The error of a call whose time was over because the process stood still.
fn stood(call: &'static str, fault: &AnswerFault, stood: Duration) -> Option<CallError> {
    let is_over = matches!(fault, AnswerFault::Limit(Bound::Time, _));
    (is_over && !stood.is_zero()).then_some(CallError::Stood { call, stood })
}

/// Checks an answer against its limits.
async fn held<T: BoundedAnswer + Send + 'static>(
    mut answer: T,
    limits: Limits,
    spent: &Arc<Spent>,
    deadline: tokio::time::Instant,
) -> Result<T, AnswerFault> {
    let wall_time = limits.wall_time;
    let reading =
        meter::beside(spent, answer.read_bytes() > LONG_ANSWER, move || answer.hold(&limits).map(|()| answer));
    match tokio::time::timeout_at(deadline, reading).await {
        Ok(Some(held)) => held,
        Ok(None) => Err(AnswerFault::Broken("its answer could not be read".to_owned())),
        Err(_) => Err(out_of_time(wall_time)),
    }
}

fn out_of_time(wall_time: Duration) -> AnswerFault {
    AnswerFault::Limit(Bound::Time, LimitAmount::Time(wall_time))
}

// Texts of the engine's errors that have no type of their own. The rows `headers of a request` and `bytes copied` of
// `tests/limits.rs` provoke two of these errors, and the test below provokes the third.

/// A component was given more handles than it may hold.
const TOO_MANY_HANDLES: &str = "handle limit exceeded";

/// The headers of a request are larger than allowed.
const TOO_LARGE_FIELDS: &str = "total size of fields exceeds limit";

/// More data was copied into the host than a call may copy.
const TOO_MUCH_COPIED: &str = "too much data is being copied";

/// Classifies an error of the engine: a limit that the engine enforces, or a trap of the plugin.
fn classify(error: &wasmtime::Error, limits: &Limits) -> AnswerFault {
    let cause = error.root_cause().to_string();
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) || cause.contains(TOO_MANY_HANDLES) {
        return AnswerFault::Limit(Bound::Handles, LimitAmount::count(limits.handles));
    }
    if cause.contains(TOO_LARGE_FIELDS) {
        return AnswerFault::Limit(Bound::HeadersOfRequest, LimitAmount::bytes(limits::FIELD_BYTES));
    }
    if cause.contains(TOO_MUCH_COPIED) {
        return AnswerFault::Limit(Bound::BytesCopied, LimitAmount::count(limits.copied_bytes));
    }
    if matches!(error.downcast_ref(), Some(Trap::StackOverflow)) {
        return AnswerFault::Limit(Bound::Stack, LimitAmount::bytes(limits::STACK_BYTES));
    }
    AnswerFault::Broken(
        error
            .downcast_ref::<Trap>()
            .map_or_else(|| text::plain(text::cut(&cause, limits::WORDS_BYTES)), Trap::to_string),
    )
}

fn seal_token(token: Option<&Secret>, sealed: &mut Vec<Sealed>) -> Option<String> {
    token.map(|token| {
        let token = Sealed::new(Credential::Token, token.clone());
        let placeholder = token.placeholder.clone();
        sealed.push(token);
        placeholder
    })
}

#[cfg(test)]
mod tests {
    use wasmtime::component::{Component, Linker, Resource, ResourceType};

    use super::*;

    /// Takes two things, and returns none of them.
    const GREEDY: &str = r#"(component
        (import "thing" (type $thing (sub resource)))
        (import "make" (func $make (result (own $thing))))
        (core func $lowered (canon lower (func $make)))
        (core module $module
            (import "" "make" (func $make (result i32)))
            (func (export "run") (drop (call $make)) (drop (call $make))))
        (core instance $instance (instantiate $module (with "" (instance (export "make" (func $lowered))))))
        (func (export "run") (canon lift (core func $instance "run"))))"#;

    fn with_handles(most: usize) -> wasmtime::Result<()> {
        let engine = wasmtime::Engine::default();
        let mut linker = Linker::<()>::new(&engine);
        linker.root().resource("thing", ResourceType::host::<u32>(), |_, _| Ok(()))?;
        linker.root().func_wrap("make", |_, (): ()| Ok((Resource::<u32>::new_own(1),)))?;
        let mut store = wasmtime::Store::new(&engine, ());
        store.set_max_component_handles(most);
        let component = Component::new(&engine, wat::parse_str(GREEDY)?)?;
        let instance = linker.instantiate(&mut store, &component)?;
        instance.get_typed_func::<(), ()>(&mut store, "run")?.call(&mut store, ())
    }

    #[test]
    fn a_call_that_ran_out_of_time_while_the_process_stood_still_is_not_the_plugins_fault() {
        let (over, minute) = (out_of_time(Duration::from_secs(60)), Duration::from_secs(90));
        let error = stood("poll", &over, minute).unwrap();
        assert_eq!((error.blame(), &*error.failure().code), (Blame::Harness, "host-stopped"));
        assert!(error.to_string().starts_with("the process was stopped for 90 s during poll"), "{error}");
        assert_eq!(stood("poll", &over, Duration::ZERO), None);
        let busy = AnswerFault::Limit(Bound::ProcessorTime, LimitAmount::Time(minute));
        assert_eq!(stood("poll", &busy, minute), None, "a loop is a loop");
    }

    #[test]
    fn the_engine_says_that_a_component_has_too_many_handles() {
        with_handles(2).unwrap();
        let limits = Limits::default();
        let fault = classify(&with_handles(1).unwrap_err(), &limits);
        assert_eq!(fault, AnswerFault::Limit(Bound::Handles, LimitAmount::count(limits.handles)));
    }
}
