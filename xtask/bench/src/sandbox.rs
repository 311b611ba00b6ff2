//! Measures the component in the sandbox, with the limits of the host, beside the same code compiled natively. Each
//! call has a new instance, and its arguments and its result are copied, as in each poll.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};
use source_host::contract::{Context, Page, PollResult, Scope};
use source_host::plugin::call::Caller;
use source_host::{
    Compiler, Feed, Host, Identity, IncomingResponse, Origins, OutgoingRequest, Plugin, Secret, Settings, Setup,
    Transport, TransportFuture,
};
use tokio::runtime::Runtime;

use crate::input;
use crate::native;
use crate::table::Row;

/// Returns all rows of this module.
pub fn rows(file: &Path) -> Result<Vec<Row>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = Rc::new(runtime.map_err(|error| format!("failed to start the runtime: {error}"))?);
    let host = Host::new(Setup { compiler: Compiler::ThisProcess, ..Setup::default() });
    let host = host.map_err(|error| error.to_string())?;
    let plugin = Plugin::from_file(&host, file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut rows = vec![describe(&runtime, &plugin)];
    for call in &native::CALLS {
        rows.push(normalize(&runtime, &plugin, call)?);
    }
    rows.push(poll(&runtime, plugin)?);
    Ok(rows)
}

fn describe(runtime: &Rc<Runtime>, plugin: &Plugin) -> Row {
    let (runtime, plugin) = (Rc::clone(runtime), plugin.clone());
    Row {
        name: "sandbox-describe".to_owned(),
        what: "a call that does nothing, describe, in the sandbox".to_owned(),
        beside: "",
        goal: None,
        records: 0,
        bytes_in: 0,
        bytes_out: 0,
        ours: Box::new(move || drop(black_box(runtime.block_on(plugin.describe())))),
        other: None,
    }
}

fn normalize(runtime: &Rc<Runtime>, plugin: &Plugin, call: &native::Call) -> Result<Row, String> {
    let (runtime, plugin) = (Rc::clone(runtime), plugin.clone());
    let other = call.prepared();
    let (text, state) = other.arguments();
    let settings = settings(text, None)?;
    let state = state.map(<[u8]>::to_vec);
    let pages = other.pages().iter();
    let pages = pages.map(|page| Page { kind: page.kind.clone(), body: page.body.clone(), request_id: None });
    let poll_result = PollResult::Pages(pages.collect());
    let (context, caller) = (context(1), Caller::default());
    let bytes_in = native::bytes(other.pages());
    let ours = move || {
        let call = plugin.normalize(&caller, &settings, &context, &poll_result, state.as_deref());
        runtime.block_on(call).0
    };
    let batch = ours().map_err(|error| error.to_string())?.map_err(|failure| failure.cause)?;
    let expected = other.run(1);
    if !expected.events.iter().map(|event| &event.body).eq(batch.events.iter().map(|event| &event.body)) {
        return Err(
            "the component gives other events than this program's own code: build it from the same sources".to_owned()
        );
    }
    Ok(Row {
        name: format!("sandbox-{}", call.name),
        what: format!("{}, in the sandbox", call.what),
        beside: "native",
        goal: Some(0.6),
        records: 26,
        bytes_in,
        bytes_out: batch.events.iter().map(|event| event.body.len()).sum(),
        ours: Box::new(move || drop(black_box(ours()))),
        other: Some(Box::new(move || drop(black_box(other.run(1))))),
    })
}

/// A transport that answers with both lists and a token from memory.
struct Memory;

impl Transport for Memory {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let path = request.url.path();
        let body = if path.ends_with("/secureScores") {
            input::scores()
        } else if path.ends_with("/secureScoreControls") {
            input::controls()
        } else {
            format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{}"}}"#, token()).into_bytes()
        };
        let headers = vec![("content-type".to_owned(), "application/json; charset=utf-8".to_owned())];
        Box::pin(std::future::ready(Ok(IncomingResponse { status: 200, headers, body })))
    }
}

/// Returns a token of the length that Microsoft's have for an application, for which the host searches each answer.
fn token() -> String {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = 1_u64;
    let mut part = |length: usize| {
        let characters = (0..length).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(CHARACTERS[(state >> 58) as usize])
        });
        characters.collect::<String>()
    };
    format!("eyJ{}.{}.{}", part(150), part(900), part(342))
}

fn poll(runtime: &Rc<Runtime>, plugin: Plugin) -> Result<Row, String> {
    let runtime = Rc::clone(runtime);
    let call = &native::CALLS[1];
    let prepared = call.prepared();
    let (text, state) = prepared.arguments();
    let (text, state) = (text.to_owned(), state.map(<[u8]>::to_vec));
    let settings = settings(&text, Some("a-secret-of-the-benchmark"))?;
    let allowed = Origins::new(["https://login.microsoftonline.com", "https://management.azure.com"]);
    let allowed = allowed.map_err(|error| error.to_string())?;
    let now = input::NOON + 60_000;
    let identity = Identity::new("contoso", "contoso-scores", allowed, Memory).at(move || now);
    let feed = runtime.block_on(Feed::open(plugin, settings, identity)).map_err(|error| error.to_string())?;
    let scope = context(1).scope;
    let ours = move || runtime.block_on(feed.poll(&scope, now, state.as_deref()));
    let polled = ours();
    let events = polled.batch.iter().flat_map(|batch| &batch.events).map(|event| event.body.len());
    let bytes_out = events.sum();
    if let Some(failure) = polled.failure {
        return Err(failure.cause);
    }
    let bytes_in = native::bytes(prepared.pages());
    let answers = [input::scores(), input::controls()];
    Ok(Row {
        name: "sandbox-poll".to_owned(),
        what: "a whole poll from memory, all told again, in the sandbox".to_owned(),
        beside: "native",
        goal: Some(0.5),
        records: 26,
        bytes_in,
        bytes_out,
        ours: Box::new(move || drop(black_box(ours()))),
        other: Some(Box::new(move || {
            black_box(native::poll(&text, &answers));
            black_box(prepared.run(1));
        })),
    })
}

fn settings(text: &str, secret: Option<&str>) -> Result<Settings, String> {
    let settings: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let secrets = secret.map(|secret| ("client_secret".to_owned(), Secret::new(secret)));
    Ok(Settings::new(settings, BTreeMap::from_iter(secrets)))
}

/// Returns the context of the native calls in the host's type.
fn context(minutes: u64) -> Context {
    let native = input::context(minutes);
    Context {
        feed: native.feed,
        tenant: native.tenant,
        scope: Scope {
            id: native.scope.id,
            name: native.scope.name,
            owner: native.scope.owner,
            plugin_data: native.scope.plugin_data,
        },
        poll_id: native.poll_id,
        collected_at_milliseconds: native.collected_at_milliseconds,
    }
}
