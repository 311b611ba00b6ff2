//! The hostile plugin, the service that it polls, and polls of both.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use source_host::contract::{Batch, Failure};
use source_host::credentials::settings::Settings;
use source_host::feed::{Feed, FeedError, Identity};
use source_host::limits::Limits;
use source_host::network::egress::Origins;
use source_host::network::tokens::Tokens;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportFuture};
use source_host::plugin::Plugin;

use super::{NOON, host, noon, root};
use crate::mode::Mode;

/// The hostile plugin, built at its first use, beside the real one.
pub fn hostile_bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let scratch = std::path::Path::new(env!("OUT_DIR")).join("guest");
    let workspace = root().canonicalize().unwrap();
    BYTES.get_or_init(|| component_builder::build(&workspace, &scratch, "hostile-plugin").unwrap())
}

pub fn hostile() -> Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| Plugin::from_bytes(&host(), hostile_bytes()).unwrap()).clone()
}

/// Returns the outcome of two polls of the first scope, the second with the state of the first.
pub async fn polled(
    mode: Mode,
    amount: u32,
    limits: Limits,
    page_bytes: usize,
) -> (Result<Batch, String>, Vec<OutgoingRequest>) {
    let service = Arc::new(Service { page_bytes, asked: Mutex::default() });
    let outcome = attempt(mode, amount, limits, Arc::clone(&service) as Arc<dyn Transport>).await;
    let asked = std::mem::take(&mut *service.asked.lock());
    (outcome, asked)
}

pub async fn attempt(mode: Mode, amount: u32, limits: Limits, transport: Arc<dyn Transport>) -> Result<Batch, String> {
    let words = |failure: Failure| format!("{} ({}, {})", failure.cause, failure.code, failure.blame());
    let feed = open(mode, amount, limits, transport).await.map_err(|error| match error {
        FeedError::Settings(problems) => format!("{} problems, the first: {}", problems.len(), problems[0].found),
        other => other.to_string(),
    })?;
    let discovery = feed.discover().await.map_err(words)?;
    let mut state = None;
    let mut last = None;
    for _ in 0..2 {
        let polled = feed.poll(&discovery.scopes[0], NOON, state.as_deref()).await;
        if let Some(failure) = polled.failure {
            return Err(words(failure));
        }
        let batch = polled.batch.unwrap();
        (state, last) = (Some(batch.state.clone()), Some(batch));
    }
    Ok(last.unwrap())
}

pub async fn open(mode: Mode, amount: u32, limits: Limits, transport: Arc<dyn Transport>) -> Result<Feed, FeedError> {
    // The lines of one mode look like its key.
    let key = if mode == Mode::LogEscapes { "\\".repeat(63) + "!" } else { KEY.to_owned() };
    let settings = json!({ "mode": mode.word(), "amount": amount, "key": key });
    open_with(settings, limits, transport).await
}

pub async fn open_with(settings: Value, limits: Limits, transport: Arc<dyn Transport>) -> Result<Feed, FeedError> {
    open_for("mallory", settings, limits, transport, Arc::default()).await
}

pub async fn open_for(
    tenant: &str,
    settings: Value,
    limits: Limits,
    transport: Arc<dyn Transport>,
    tokens: Arc<Tokens>,
) -> Result<Feed, FeedError> {
    let identity = Identity {
        tenant: tenant.to_owned(),
        feed: format!("{tenant}-items"),
        limits,
        allowed: Arc::new(Origins::new(["https://api.example"]).unwrap()),
        transport,
        tokens,
        clock: noon(),
    };
    let settings = Settings::new(settings.as_object().unwrap().clone(), Default::default());
    Feed::open(hostile(), settings, identity).await
}

/// The service behind the hostile plugin: returns a token and pages, and keeps the requests.
#[derive(Default)]
pub struct Service {
    page_bytes: usize,
    pub asked: Mutex<Vec<OutgoingRequest>>,
}

impl Transport for Service {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let body = match request.url.path() {
            "/token" => json!({ "access_token": TOKEN, "expires_in": 3_600 }).to_string(),
            page => format!("{}{}", json!({ "page": page }), " ".repeat(self.page_bytes)),
        };
        self.asked.lock().push(request);
        Box::pin(std::future::ready(Ok(IncomingResponse { status: 200, headers: Vec::new(), body: body.into_bytes() })))
    }
}

pub const KEY: &str = "the-key-of-this-tenant";
pub const TOKEN: &str = "the-token-of-this-tenant";

/// A service that never answers.
pub struct Silent;

impl Transport for Silent {
    fn send(&self, _: OutgoingRequest) -> TransportFuture<'_> {
        Box::pin(std::future::pending())
    }
}

/// Limits that a test can wait for.
pub fn short() -> Limits {
    Limits { cpu_time: Duration::from_secs(1), wall_time: Duration::from_secs(4), ..Limits::default() }
}

/// The same with elapsed time that is enough on a busy machine.
pub fn unhurried() -> Limits {
    Limits { wall_time: Duration::from_secs(60), prepare_time: Duration::from_secs(60), ..short() }
}

/// The limits with which a mode is run.
pub fn limits_for(mode: Mode) -> Limits {
    match mode {
        // This mode tests the copying, not the size of one event.
        Mode::Copies => Limits { event_bytes: 2 << 20, ..unhurried() },
        // The host itself searches and reads events, which takes some seconds in a host that was built without
        // optimisation.
        Mode::LogEscapes | Mode::EventsLong => Limits { cpu_time: Duration::from_secs(60), ..unhurried() },
        Mode::Wait | Mode::BodyInPrepare => short(),
        _ => unhurried(),
    }
}
