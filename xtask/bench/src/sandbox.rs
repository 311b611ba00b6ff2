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

use crate::blocks::Work;
use crate::groups::{Stop, Tools};
use crate::input;
use crate::native::{self, RECORDS};
use crate::table::{Goal, Row};

/// The plugin, and a runtime on which to call it.
struct Sandbox {
    runtime: Rc<Runtime>,
    plugin: Plugin,
}

/// Returns all rows of this module.
pub fn rows(tools: &Tools, _: &[&'static str]) -> Result<Vec<Row>, Stop> {
    let sandbox = Sandbox::open(tools.need(&tools.plugin, "component")?)?;
    let mut rows = vec![sandbox.describe()];
    for call in &native::CALLS {
        rows.push(sandbox.normalize(call)?);
    }
    rows.push(sandbox.pages()?);
    rows.push(sandbox.poll()?);
    Ok(rows)
}

/// Returns the call of `normalize` at first sight.
pub fn first(file: &Path) -> Result<Box<dyn Work>, String> {
    let sandbox = Sandbox::open(file)?;
    Ok(Box::new(sandbox.call(&native::CALLS[2])?))
}

impl Sandbox {
    fn open(file: &Path) -> Result<Sandbox, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = Rc::new(runtime.map_err(|error| format!("failed to start the runtime: {error}"))?);
        let host = Host::new(Setup { compiler: Compiler::ThisProcess, ..Setup::default() });
        let host = host.map_err(|error| error.to_string())?;
        let plugin = Plugin::from_file(&host, file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(Sandbox { runtime, plugin })
    }

    fn describe(&self) -> Row {
        let (runtime, plugin) = (Rc::clone(&self.runtime), self.plugin.clone());
        Row::of_calls(
            ("sandbox-describe".to_owned(), "a call that does nothing, `describe`, in the sandbox".to_owned(), ""),
            vec![Goal::Most(30.0)],
            0,
            Box::new(move || drop(black_box(runtime.block_on(plugin.describe())))),
            None,
        )
    }

    fn normalize(&self, call: &native::Call) -> Result<Row, String> {
        let other = call.prepared();
        let mut goals = vec![Goal::Ratio(0.6)];
        if !call.after_another {
            goals.push(Goal::Rate(90_000.0));
        }
        Ok(Row::of_calls(
            (format!("sandbox-{}", call.name), format!("{}, in the sandbox", call.what), "native"),
            goals,
            RECORDS,
            Box::new(self.call(call)?),
            Some(Box::new(move || drop(black_box(other.run(1))))),
        ))
    }

    /// Returns a call of `normalize`, whose events are those of the native code.
    fn call(&self, call: &native::Call) -> Result<impl FnMut() + use<>, String> {
        let (runtime, plugin) = (Rc::clone(&self.runtime), self.plugin.clone());
        let native = call.prepared();
        let (text, state) = native.arguments();
        let settings = settings(text, None)?;
        let state = state.map(<[u8]>::to_vec);
        let pages = native.pages().iter();
        let pages = pages.map(|page| Page { kind: page.kind.clone(), body: page.body.clone(), request_id: None });
        let poll_result = PollResult::Pages(pages.collect());
        let (context, caller) = (context(1), Caller::default());
        let made = move || {
            let call = plugin.normalize(&caller, &settings, &context, &poll_result, state.as_deref());
            runtime.block_on(call).0
        };
        let batch = made().map_err(|error| error.to_string())?.map_err(|failure| failure.cause)?;
        let expected = native.run(1);
        if !expected.events.iter().map(|event| &event.body).eq(batch.events.iter().map(|event| &event.body)) {
            return Err(
                "the component gives other events than this program's own code: build it from the same sources"
                    .to_owned(),
            );
        }
        Ok(move || drop(black_box(made())))
    }

    /// The calls of `poll`: both answers read from memory, checked and handed over.
    fn pages(&self) -> Result<Row, String> {
        let runtime = Rc::clone(&self.runtime);
        let (feed, scope, text) = (self.feed(&native::CALLS[0])?, context(1).scope, input::settings(&[]));
        let ours = move || runtime.block_on(feed.pages(&scope));
        ours().map_err(|failure| failure.cause)?;
        let answers = [input::scores(), input::controls()];
        Ok(Row::of_calls(
            ("sandbox-pages".to_owned(), "the calls of `poll` from memory, in the sandbox".to_owned(), "native"),
            vec![Goal::Most(300.0)],
            RECORDS,
            Box::new(move || drop(black_box(ours()))),
            Some(Box::new(move || drop(black_box(native::poll(&text, &answers))))),
        ))
    }

    /// A whole poll, with a token that the feed keeps.
    fn poll(&self) -> Result<Row, String> {
        let runtime = Rc::clone(&self.runtime);
        let call = &native::CALLS[1];
        let (feed, scope, prepared) = (self.feed(call)?, context(1).scope, call.prepared());
        let (text, state) = prepared.arguments();
        let (text, state) = (text.to_owned(), state.map(<[u8]>::to_vec));
        let ours = move || runtime.block_on(feed.poll(&scope, NOW, state.as_deref()));
        if let Some(failure) = ours().failure {
            return Err(failure.cause);
        }
        let answers = [input::scores(), input::controls()];
        let other = move || {
            black_box(native::poll(&text, &answers));
            black_box(prepared.run(1));
        };
        Ok(Row::of_calls(
            (
                "sandbox-poll".to_owned(),
                "a whole poll from memory, all told again, in the sandbox".to_owned(),
                "native",
            ),
            vec![Goal::Ratio(0.5), Goal::Most(800.0)],
            RECORDS,
            Box::new(move || drop(black_box(ours()))),
            Some(Box::new(other)),
        ))
    }

    /// Opens a feed whose answers come from memory.
    fn feed(&self, call: &native::Call) -> Result<Feed, String> {
        let settings = settings(call.prepared().arguments().0, Some("a-secret-of-the-benchmark"))?;
        let allowed = Origins::new(["https://login.microsoftonline.com", "https://management.azure.com"]);
        let allowed = allowed.map_err(|error| error.to_string())?;
        let identity = Identity::new("contoso", "contoso-scores", allowed, Memory::new()).at(|| NOW);
        let opened = self.runtime.block_on(Feed::open(self.plugin.clone(), settings, identity));
        opened.map_err(|error| error.to_string())
    }
}

/// The time of the polls from memory, in Unix milliseconds.
const NOW: u64 = input::NOON + 60_000;

/// A transport that answers with both lists and a token from memory. The lists are made once: the other code has them, too.
struct Memory {
    scores: Vec<u8>,
    controls: Vec<u8>,
}

impl Memory {
    fn new() -> Memory {
        Memory { scores: input::scores(), controls: input::controls() }
    }
}

impl Transport for Memory {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let path = request.url.path();
        let body = if path.ends_with("/secureScores") {
            self.scores.clone()
        } else if path.ends_with("/secureScoreControls") {
            self.controls.clone()
        } else {
            format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{}"}}"#, token()).into_bytes()
        };
        let headers = vec![("content-type".to_owned(), "application/json; charset=utf-8".to_owned())];
        Box::pin(std::future::ready(Ok(IncomingResponse { status: 200, headers, body })))
    }
}

/// Returns a token of the length that Microsoft's have for an application, for which the host searches each answer.
pub fn token() -> String {
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
