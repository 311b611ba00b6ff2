//! One call of a plugin: a fresh store, a fresh instance, its limits, its requests. Nothing of it is used again; a trap
//! or a dropped call takes the store with it.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use serde_json::{Map, Value};
use url::Url;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Trap, UpdateDeadline};
use wasmtime_wasi::clocks::WasiClocksCtx;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

use crate::contract::{
    Batch, Context, Credential, Description, Discovery, Failure, Given, Plan, PluginCode, Problem, Reaction, Scope,
    Step, Token, Whose, credentials, log,
};
use crate::egress::{Denial, Egress, Sealed};
use crate::engine::Running;
use crate::failpoint;
use crate::limits::{self, Limits};
use crate::plugin::Plugin;
use crate::redact;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::tokens::{Sent, Tokens};
use crate::transport::{IncomingResponse, OutgoingRequest, Transport, TransportError};

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    who: String,
    log_lines_dropped: usize,
}

/// Counts what a call uses, and remembers which limit it met.
struct Meter {
    limits: Limits,
    memory_bytes: usize,
    cpu_ticks: u32,
    exceeded: Option<(&'static str, String)>,
}

impl Meter {
    fn exceed(&mut self, limit: &'static str, value: impl fmt::Display) {
        self.exceeded.get_or_insert((limit, value.to_string()));
    }

    fn tick(&mut self) -> bool {
        self.cpu_ticks += 1;
        let most = self.limits.cpu_time;
        let over = limits::EPOCH_TICK * self.cpu_ticks > most;
        if over {
            self.exceed("time on a processor", format!("{} ms", most.as_millis()));
        }
        over
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes - current.min(self.memory_bytes) + desired;
        if total > self.limits.memory_bytes {
            self.exceed("memory", format!("{} bytes", self.limits.memory_bytes));
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let good = desired <= self.limits.table_elements;
        if !good {
            self.exceed("table elements", self.limits.table_elements);
        }
        Ok(good)
    }
}

/// Everything that a call's requests need, shared with the tasks that carry them.
pub(crate) struct Hook {
    network: Option<Network>,
    sealed: Arc<Vec<Sealed>>,
    limits: Limits,
    journal: Shared<Journal>,
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

type Carried = Pin<Box<dyn Future<Output = Result<(), HttpError>> + Send>>;

impl WasiHttpHooks for Hook {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<
        dyn Future<
                Output = Result<
                    (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>),
                    HttpError,
                >,
            > + Send,
    > {
        let (network, sealed) = (self.network.clone(), Arc::clone(&self.sealed));
        let (limits, journal) = (self.limits.clone(), Arc::clone(&self.journal));
        Box::new(async move {
            let started = Instant::now();
            let (method, url) = (request.method().to_string(), request.uri().to_string());
            let result = carry(request, network, &sealed, &limits, &journal).await;
            let (result, seen, bytes) = match result {
                Ok(response) => {
                    let (status, bytes) = (response.status, response.body.len());
                    (answer(response), Ok(status), bytes)
                }
                Err((error, cause)) => (Err(error), Err(cause), 0),
            };
            lock(&journal).exchanges.push(Exchange { method, url, result: seen, bytes, time: started.elapsed() });
            let nothing: Carried = Box::pin(async { Ok(()) });
            result.map(|response| (response, Box::new(nothing) as Box<dyn Future<Output = _> + Send>))
        })
    }
}

/// Judges and sends one request. The body is read first, whatever becomes of the request: a guest whose body is not
/// read does not learn why.
async fn carry(
    request: http::Request<WasiBody>,
    network: Option<Network>,
    sealed: &[Sealed],
    limits: &Limits,
    journal: &Mutex<Journal>,
) -> Result<IncomingResponse, (HttpError, String)> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, limits.request_body_bytes).collect().await.map_err(|error| {
        (
            HttpError::HttpRequestBodySize(None),
            format!("the request's body passes {} bytes or broke: {error}", limits.request_body_bytes),
        )
    })?;
    let denied = |denial: Denial| (HttpError::HttpRequestDenied, denial.to_string());
    let plainly = |reason: &str| denied(Denial { reason: reason.to_owned(), remedy: None });
    let Some(Network { egress, transport, tokens, tokens_after, clock }) = network else {
        return Err(plainly("this call runs without HTTP"));
    };
    if lock(journal).exchanges.len() >= limits.requests {
        return Err(plainly(&format!("a call may send {} requests", limits.requests)));
    }
    let raw = parts.uri.to_string();
    let url = Url::parse(&raw).map_err(|error| plainly(&format!("its address cannot be read: {error}")))?;
    let headers =
        parts.headers.iter().filter(|(name, _)| *name != http::header::HOST && *name != http::header::CONTENT_LENGTH);
    let headers =
        headers.map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let request = OutgoingRequest {
        method: parts.method.to_string(),
        url,
        headers: headers.collect(),
        body: body.to_bytes().to_vec(),
    };
    let (request, shape) = egress.judge(&raw, request, sealed).map_err(denied)?;
    failpoint::pass("poll-request-send");
    let response = match shape.seals {
        Some(_) => tokens.send(&*transport, request, tokens_after, clock()).await.map(|sent| {
            lock(journal).asked_too_often |= matches!(sent, Sent::TooOften(_));
            sent.response()
        }),
        None => transport.send(request).await,
    };
    let response = response.map_err(|error| (typed(&error), error.to_string()))?;
    let mut response = scrubbed(response, sealed);
    if let Some(key) = shape.seals.as_deref().filter(|_| response.status == 200)
        && let Some((body, token)) = sealed_answer(&response.body, key)
    {
        response.body = body;
        lock(journal).tokens.push(token);
    }
    Ok(response)
}

/// Members of a token's answer that a plugin gets to see, besides the sealed one.
const TOKEN_MEMBERS: &[&str] = &["token_type", "expires_in", "ext_expires_in", "expires_on", "refresh_in"];

/// An answer whose sealed member is a placeholder, and the pair of placeholder and value.
fn sealed_answer(body: &[u8], key: &str) -> Option<(Vec<u8>, (String, Secret))> {
    let Ok(Value::Object(answer)) = serde_json::from_slice::<Value>(body) else { return None };
    let token = Secret::new(answer.get(key)?.as_str()?);
    let placeholder = placeholder();
    let mut sealed: Map<String, Value> =
        answer.into_iter().filter(|(name, _)| TOKEN_MEMBERS.contains(&name.as_str())).collect();
    sealed.insert(key.to_owned(), Value::from(placeholder.clone()));
    Some((Value::Object(sealed).to_string().into_bytes(), (placeholder, token)))
}

/// A service that echoes a credential does not thereby tell it to the plugin.
fn scrubbed(mut response: IncomingResponse, sealed: &[Sealed]) -> IncomingResponse {
    let spellings: Vec<String> = sealed.iter().flat_map(|sealed| redact::spellings(sealed.secret.expose())).collect();
    let echoes = |text: &[u8]| {
        spellings.iter().any(|spelling| text.windows(spelling.len()).any(|window| window == spelling.as_bytes()))
    };
    let secrets = || sealed.iter().map(|sealed| &sealed.secret);
    for (_, value) in &mut response.headers {
        if echoes(value.as_bytes()) {
            *value = redact::redact(value, secrets());
        }
    }
    if echoes(&response.body) {
        response.body = redact::redact(&String::from_utf8_lossy(&response.body), secrets()).into_bytes();
    }
    response
}

/// A name for a secret inside one call: unguessable, of URL-unreserved characters.
pub(crate) fn placeholder() -> String {
    format!("sealed-{}", uuid::Uuid::new_v4().simple())
}

fn answer(response: IncomingResponse) -> Result<http::Response<WasiBody>, HttpError> {
    let mut builder = http::Response::builder().status(response.status);
    // The body is whole and plain by now, whatever the headers said of its way.
    let changed = ["content-length", "content-encoding", "transfer-encoding"];
    for (name, value) in response.headers.iter().filter(|(name, _)| !changed.contains(&name.as_str())) {
        builder = builder.header(name, value);
    }
    let body = Full::new(Bytes::from(response.body)).map_err(|never| match never {}).boxed_unsync();
    builder.body(body).map_err(|_| HttpError::HttpProtocolError)
}

/// The word of `wasi:http` for an error, by which the guest tells them apart.
fn typed(error: &TransportError) -> HttpError {
    match error {
        TransportError::NameNotResolved(_) => HttpError::DnsError { rcode: None, info_code: None },
        TransportError::AddressProhibited { .. } => HttpError::DestinationIpProhibited,
        TransportError::Refused => HttpError::ConnectionRefused,
        TransportError::Timeout(_) => HttpError::HttpResponseTimeout,
        TransportError::Untrusted(_) => HttpError::TlsCertificateError,
        TransportError::Broken => HttpError::HttpResponseIncomplete,
        TransportError::TooLarge(bytes) => HttpError::HttpResponseBodySize(Some(*bytes as u64)),
        TransportError::HeadersTooLarge(bytes) => HttpError::HttpResponseHeaderSectionSize(u32::try_from(*bytes).ok()),
        TransportError::Other(text) => HttpError::InternalError(Some(text.clone())),
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
        let hook = Hook { network: caller.network.clone(), sealed: Arc::new(sealed), limits: limits.clone(), journal };
        let meter = Meter { limits, memory_bytes: 0, cpu_ticks: 0, exceeded: None };
        let who = format!("{}/{}", caller.tenant, caller.feed);
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
        let placeholder = placeholder();
        sealed.push(Sealed { placeholder: placeholder.clone(), credential: Credential::Token, secret: token.clone() });
        placeholder
    })
}

/// What a batch may hold. An event that is no line of JSON would break every reader behind this host.
fn within_limits(answer: Result<Batch, Failure>, limits: &Limits) -> Result<Result<Batch, Failure>, CallError> {
    let Ok(batch) = &answer else { return Ok(answer) };
    let over = |limit, value: Cow<'_, str>| {
        Err(CallError::Limit { call: "normalize", limit, value: value.into_owned(), words: LastWords::default() })
    };
    if batch.events.len() > limits.events {
        return over("events of a poll", limits.events.to_string().into());
    }
    if let Some(odd) =
        batch.measures.iter().find(|one| ![one.value, one.maximum, one.weight].iter().all(|it| it.is_finite()))
    {
        return Err(CallError::Trap {
            call: "normalize",
            kind: format!("the figure of {} is no number", redact::cut(&odd.subject, 64)),
            words: LastWords::default(),
        });
    }
    if batch.state.len() > limits.state_bytes {
        return over("state", format!("{} bytes", limits.state_bytes).into());
    }
    for event in &batch.events {
        if event.body.len() > limits.event_bytes {
            return over("one event", format!("{} bytes", limits.event_bytes).into());
        }
        let line = event.body.starts_with(b"{")
            && !event.body.contains(&b'\n')
            && serde_json::from_slice::<serde::de::IgnoredAny>(&event.body).is_ok();
        if !line {
            return Err(CallError::Trap {
                call: "normalize",
                kind: format!("event {} is not one JSON object on one line", redact::cut(&event.uid, 64)),
                words: LastWords::default(),
            });
        }
    }
    Ok(answer)
}
