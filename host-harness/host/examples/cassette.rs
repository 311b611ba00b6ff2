//! Polls with a transport of its own, which answers from a recording, and prints the events. Usage: cassette
//! PLUGIN.wasm CASSETTE.json

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;

use anyhow::Context;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::{Map, RawValue, Value};
use source_host::{Compiler, Feed, Host, Identity, Origins, Plugin, Settings, Setup};
use source_host::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture};

#[derive(Deserialize)]
struct Cassette {
    settings: Map<String, Value>,
    context: Poll,
    exchanges: VecDeque<Exchange>,
}

#[derive(Deserialize)]
struct Poll {
    tenant: String,
    feed: String,
    time_milliseconds: u64,
}

#[derive(Deserialize)]
struct Exchange {
    request: Request,
    response: Response,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    url: String,
}

#[derive(Deserialize)]
struct Response {
    status: u16,
    headers: BTreeMap<String, String>,
    /// JSON as written, so that numbers reach the plugin unchanged.
    json: Box<RawValue>,
}

/// Answers each request with the next exchange, whose recorded request must be the same.
struct Recording(Mutex<VecDeque<Exchange>>);

impl Recording {
    fn answer(&self, asked: &OutgoingRequest) -> Option<IncomingResponse> {
        let Exchange { request, response } = self.0.lock().pop_front()?;
        let Response { status, headers, json } = response;
        let is_it = request.method == asked.method && request.url == asked.url.as_str();
        let body = json.get().as_bytes().to_vec();
        is_it.then(|| IncomingResponse { status, headers: headers.into_iter().collect(), body })
    }
}

impl Transport for Recording {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let unexpected = || TransportError::other(format!("nothing was recorded for {request:?}"));
        Box::pin(std::future::ready(self.answer(&request).ok_or_else(unexpected)))
    }

    /// The credentials of a recording are placeholders, which cannot sign.
    fn replays(&self) -> bool {
        true
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (plugin, file) = (arguments.next().context("no plugin")?, arguments.next().context("no cassette")?);
    let host = Host::new(Setup { compiler: Compiler::ThisProcess, ..Setup::default() })?;
    let plugin = Plugin::from_file(&host, plugin.as_ref())?;

    let Cassette { settings, context, exchanges } = serde_json::from_slice(&std::fs::read(file)?)?;
    let origins = exchanges.iter().filter_map(|exchange| url::Url::parse(&exchange.request.url).ok());
    let allowed = Origins::new(origins.map(|url| url.origin().ascii_serialization()))?;
    let now = context.time_milliseconds;
    let recording = Recording(Mutex::new(exchanges));
    let identity = Identity::new(context.tenant, context.feed, allowed, recording).at(move || now);

    let feed = Feed::open(plugin, Settings::new(settings, BTreeMap::new()), identity).await?;
    let found = feed.discover().await.map_err(|failure| anyhow::anyhow!("{}: {}", failure.code, failure.cause))?;
    let mut failed = 0;
    for scope in &found.scopes {
        let polled = feed.poll(scope, now, None).await;
        for event in polled.batch.iter().flat_map(|batch| &batch.events) {
            std::io::stdout().write_all(&[&event.body[..], b"\n"].concat())?;
        }
        // A scope that fails does not stop the others.
        if let Some(failure) = polled.failure {
            eprintln!("{}: {}: {}", scope.id, failure.code, failure.cause);
            failed += 1;
        }
    }
    anyhow::ensure!(failed == 0, "{failed} of {} scopes were not collected", found.scopes.len());
    Ok(())
}
