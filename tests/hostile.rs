//! Malicious plugins, and the host's reaction: each row of a table is run, and documents are made from the same rows.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use host_harness::metrics::Metrics;
use host_harness::run::page::page;
use host_harness::store::Outboxes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use source_host::contract::{Batch, Failure, Notice, Reaction};
use source_host::credentials::settings::Settings;
use source_host::feed::tenants::Tenants;
use source_host::feed::{Feed, FeedError, Identity};
use source_host::limits::Limits;
use source_host::network::Nowhere;
use source_host::network::egress::Origins;
use source_host::network::tokens::Tokens;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture};
use source_host::plugin::call::WaitAsked;
use source_host::plugin::{ALLOWED_IMPORTS, Plugin};
use tracing::instrument::WithSubscriber;

use crate::limits::LIMITS;
use crate::mode::Mode;
use crate::security::Table;
use crate::support::stage::{Secrets, Stage};
use crate::support::{NOON, host, noon, plugin, unadmitted};

/// A mode of the hostile plugin, and its end.
pub struct Case {
    /// The mode, a setting of the plugin.
    pub mode: Mode,
    /// The amount, a setting of the plugin.
    pub amount: u32,
    /// The attempt in words.
    pub tries: &'static str,
    /// The end: words of the failure, or of the lack of an effect.
    pub ends: Ends,
    /// The rule of `conformance` that detects the mode; `None` if the plugin looks good from outside.
    pub rule: Option<&'static str>,
}

/// The end of a trick.
pub enum Ends {
    /// A failure that contains these words.
    Failure(&'static str),
    /// No effect: the poll succeeds.
    Nothing(&'static str),
}

use Ends::{Failure as Fails, Nothing};

const fn case(mode: Mode, amount: u32, tries: &'static str, ends: Ends, rule: &'static str) -> Case {
    Case { mode, amount, tries, ends, rule: if rule.is_empty() { None } else { Some(rule) } }
}

/// Every trick that is not about a limit's exact value; those are in `limits`.
pub const CASES: &[Case] = &[
    case(Mode::Loop, 0, "loops for ever", Fails("its limit of time on a processor in poll"), "limits"),
    case(Mode::Levels, 100_000_000, "calls itself without end", Fails("its limit of stack in poll"), "limits"),
    case(Mode::Memory, 200, "takes 200 MiB of memory", Fails("its limit of memory in poll"), "limits"),
    case(Mode::Wait, 86_400_000, "waits for a day", Fails("its limit of time in all in poll"), "limits"),
    case(
        Mode::TimerInPrepare,
        0,
        "waits in `prepare`",
        Fails("the plugin broke down in prepare: it set a timer"),
        "limits",
    ),
    case(Mode::LoopInPrepare, 0, "loops in `prepare`", Fails("its limit of time on a processor in prepare"), "limits"),
    case(
        Mode::BodyInPrepare,
        0,
        "waits in `prepare` for somebody to read what it writes",
        Fails("its limit of time in all in prepare"),
        "limits",
    ),
    case(
        Mode::TimerInNormalize,
        0,
        "waits in `normalize`",
        Fails("the plugin broke down in normalize: it set a timer"),
        "limits",
    ),
    case(Mode::Trap, 0, "breaks down", Fails("the plugin broke down in poll"), "limits"),
    case(Mode::Handles, 5_000, "opens thousands of handles", Fails("its limit of handles in poll"), "limits"),
    case(Mode::LogLines, 100_000, "floods the log", Nothing("lines beyond the limit are counted and dropped"), ""),
    case(Mode::LogBytes, 30_000_000, "logs a line of 30 MB", Nothing("a line beyond the limit is cut or dropped"), ""),
    case(
        Mode::LogEscapes,
        65_000,
        "logs lines that look like its key in countless ways",
        Nothing("they take no longer to search than others"),
        "",
    ),
    case(
        Mode::PlanByChance,
        0,
        "declares other requests where a digit of its placeholder is odd",
        Nothing("the plan of the same settings is the same each time"),
        "shapes",
    ),
    case(Mode::Copies, 4_000, "returns gigabytes, by one mebibyte again and again", Fails("copied between"), "limits"),
    case(
        Mode::RequestsDenied,
        50_000,
        "asks again and again for what is denied",
        Fails("its limit of requests"),
        "limits",
    ),
    case(
        Mode::HostDenied,
        0,
        "calls a host that it did not declare",
        Fails("no declared shape has GET https://evil"),
        "requests",
    ),
    case(
        Mode::HostLookalike,
        0,
        "calls a host that begins like a declared one",
        Fails("no declared shape has"),
        "requests",
    ),
    case(Mode::HostUserName, 0, "writes a declared host as a user name", Fails("a user name"), "requests"),
    case(Mode::PathAbove, 0, "leaves the declared path by dot segments", Fails("a dot segment"), "requests"),
    case(Mode::Method, 0, "sends PUT where GET was declared", Fails("no declared shape has PUT"), "requests"),
    case(
        Mode::PlaceholderOfAnother,
        0,
        "uses the placeholder of another tenant",
        Fails("carries no credential of this call"),
        "requests",
    ),
    case(
        Mode::TokenInQuery,
        0,
        "copies the token into the query",
        Fails("the token stands where it was not"),
        "requests",
    ),
    case(Mode::KeyInHeader, 0, "copies a secret into a header", Fails("`key` stands where it was not"), "requests"),
    case(
        Mode::DataToTokenEndpoint,
        0,
        "posts data to its own token endpoint",
        Fails("a request for a token leaves from fetch-token alone"),
        "requests",
    ),
    case(Mode::TokenOwn, 0, "signs in with a token of another account", Fails("its token is one of its own"), "limits"),
    case(
        Mode::KeyGuessed,
        1_234_567_890,
        "signs in with a secret of its own",
        Fails("its form field key has a value that the plugin wrote itself"),
        "requests",
    ),
    case(
        Mode::ApiKeyOwn,
        0,
        "writes the key of another account beside the token",
        Fails("its header `x-api-key` looks like a credential"),
        "requests",
    ),
    case(
        Mode::WaitUnasked,
        0,
        "says that it was asked to wait for a day, for all with its credential",
        Fails("(throttled, service)"),
        "requests",
    ),
    case(
        Mode::Zeroes,
        0x7fff_ffff,
        "writes more to a body than the host bears",
        Fails("the plugin broke down in poll"),
        "limits",
    ),
    case(Mode::Assertion, 0, "asks for an assertion that it did not declare", Fails("not-declared"), "poll"),
    case(Mode::Headers, 0, "smuggles headers that change the way of a request", Fails("0 of 7 were taken"), "poll"),
    case(Mode::RequestWords, 1_000_000, "hoards requests with endless words", Fails("0 of 100 were kept"), "poll"),
    case(
        Mode::CompressedEcho,
        0,
        "asks for an encoding in which the host does not see",
        Nothing("the host names its own"),
        "poll",
    ),
    case(
        Mode::CharsetAsked,
        0,
        "asks for a charset in which the host does not see",
        Nothing("the host leaves out what asks for one"),
        "poll",
    ),
    case(
        Mode::WordsOdd,
        0,
        "writes commands to terminals, and lines into the log",
        Fails("red [31m error: feed"),
        "poll",
    ),
    case(
        Mode::WordsForged,
        0,
        "spells the fields and the beginning of a log line of another tenant",
        Fails("feed=x  2026-11-27T00:00:00Z ERROR poll tenant=other"),
        "poll",
    ),
    case(Mode::ScopeIdOdd, 0, "hides commands to terminals in an id", Fails("has control characters"), "limits"),
    case(Mode::HttpInNormalize, 0, "sends a request from `normalize`", Fails("HttpRequestDenied"), "normalize"),
    case(Mode::CursorLoop, 0, "leads the poll in a loop", Fails("(cursor-repeated, plugin)"), "cursors"),
    case(Mode::Pages, 100_000, "has pages without end", Fails("the limit of 100 pages"), "poll"),
    case(Mode::EventCutShort, 0, "returns JSON that ends early", Fails("is not one JSON object on one line"), "limits"),
    case(Mode::EventOnTwoLines, 0, "breaks an event over two lines", Fails("is not one JSON object"), "limits"),
    case(Mode::EventForged, 0, "hides a second event behind the first", Fails("is not one JSON object"), "limits"),
    case(Mode::EventList, 0, "returns a list in place of an event", Fails("is not one JSON object"), "limits"),
    case(Mode::EventNotUtf8, 0, "returns an event that is not UTF-8", Fails("is not one JSON object"), "limits"),
    case(Mode::EventDeep, 32_000, "nests an event without end", Fails("it has more than 64 levels"), "limits"),
    case(
        Mode::EventSurrogate,
        0,
        "writes half a character into an event",
        Fails("unexpected end of hex escape"),
        "limits",
    ),
    case(Mode::EventKeyTwice, 0, "gives an event one key twice", Fails("the key \"a\" stands twice"), "limits"),
    case(
        Mode::EventUidOther,
        0,
        "gives an event another uid in its metadata",
        Fails("metadata.uid is not the uid of the event"),
        "limits",
    ),
    case(
        Mode::EventsLong,
        40,
        "returns events that take long to read",
        Nothing("they are read beside the others, at the cost of its call"),
        "normalize",
    ),
    case(Mode::EventsAlike, 0, "gives two events one uid", Fails("two events have the uid"), "limits"),
    case(Mode::MeasureOdd, 0, "returns a figure that is no number", Fails("the figure of all is no number"), "limits"),
    case(Mode::StateForeign, 0, "returns state that is not its own", Fails("(state-odd, operator)"), "state"),
    case(
        Mode::StateFreshStart,
        0,
        "takes unreadable state for a fresh start",
        Nothing("only its own scope is told anew"),
        "state",
    ),
    case(Mode::MemoryOfCalls, 0, "counts its calls in memory", Nothing("every call is the first of its instance"), ""),
    case(Mode::ClockInEvent, 0, "times itself in `normalize`", Nothing("the clock stands still"), ""),
    case(Mode::ScopesAlike, 0, "lists one scope twice", Nothing("it is polled once"), ""),
    case(
        Mode::ScopesFresh,
        20_000,
        "lists 20,000 other scopes with each search",
        Nothing("they are taken up in parts, and one line tells of the lost ones"),
        "",
    ),
    case(
        Mode::OriginLabels,
        200,
        "declares origins whose names take long to read",
        Fails("its limit of an origin in prepare, 1026 bytes"),
        "limits",
    ),
    case(Mode::ShapeOdd, 0, "declares a method in lower case", Nothing("no request fits it"), "shapes"),
    case(
        Mode::ProblemsOneByOne,
        0,
        "tells one problem at a time",
        Nothing("the others are told next time"),
        "settings",
    ),
    case(
        Mode::ReactionOdd,
        0,
        "calls every fault a lack of data",
        Nothing("its own scopes are shown as without data"),
        "failures",
    ),
    case(Mode::CodeUnlisted, 0, "uses codes that it does not list", Nothing("they are shown as they are"), "failures"),
    case(
        Mode::KindUndeclared,
        0,
        "reads a kind of page that it does not declare",
        Nothing("it stays within its batch"),
        "poll",
    ),
    case(
        Mode::NoticeUnlisted,
        0,
        "uses codes of notices that it does not list",
        Nothing("at most 64 are counted"),
        "normalize",
    ),
    case(Mode::NoticeOfStepUnlisted, 0, "does so while it reads pages", Nothing("the same"), "poll"),
    case(Mode::NoticeOfSearchUnlisted, 0, "does so while it looks for scopes", Nothing("the same"), "poll"),
];

/// The table in SECURITY.md.
pub fn table() -> Table {
    let row = |case: &Case| {
        let ends = match &case.ends {
            Fails(words) => format!("failure: … {words} …"),
            Nothing(words) => (*words).to_owned(),
        };
        let rule = case.rule.unwrap_or("none: it looks good from outside");
        [case.mode.to_string(), case.tries.to_owned(), ends, rule.to_owned()].into()
    };
    Table {
        title: "A plugin that means harm",
        how: "`tests/hostile.rs`: each is a mode of `tests/hostile/`; a well-behaved tenant is polled beside it. The rule is the one of `host-harness conformance` that finds it out.",
        columns: &["mode", "it tries", "how that ends", "rule"],
        rows: CASES.iter().map(row).collect(),
    }
}

/// Each import that a plugin may have, with the modes of the hostile plugin that abuse it.
const ABUSED: &[(&str, &[Mode])] = &[
    ("wasi:http/types", &[Mode::Fields, Mode::Headers, Mode::RequestWords, Mode::AddressBytes]),
    ("wasi:http/outgoing-handler", &[Mode::Requests, Mode::RequestsDenied, Mode::HostDenied, Mode::HttpInNormalize]),
    ("wasi:io/error", &[]),
    ("wasi:io/poll", &[Mode::Pollables, Mode::Handles]),
    ("wasi:io/streams", &[Mode::Zeroes, Mode::RequestBytes]),
    ("wasi:clocks/monotonic-clock", &[Mode::Wait, Mode::ClockInEvent]),
    ("collector:source/log", &[Mode::LogLines, Mode::LogBytes, Mode::LogEscapes, Mode::WordsForged]),
    ("collector:source/credentials", &[Mode::Assertion]),
    ("collector:source/plugin", &[]),
];

/// The table in SECURITY.md.
pub fn imports() -> Table {
    let row = |(import, modes): &(&str, &[Mode])| {
        let modes = if modes.is_empty() {
            "none: types, or the words of an error".to_owned()
        } else {
            modes.iter().map(|mode| mode.word()).collect::<Vec<_>>().join(", ")
        };
        vec![format!("`{import}`"), modes]
    };
    Table {
        title: "What a plugin may import",
        how: "`tests/hostile.rs`: all that a plugin may import, and the modes of the hostile plugin that abuse it; how each ends stands above.",
        columns: &["import", "modes"],
        rows: ABUSED.iter().map(row).collect(),
    }
}

/// The hostile plugin, built at its first use, beside the real one.
pub fn hostile_bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let scratch = std::path::Path::new(env!("OUT_DIR")).join("guest");
    let workspace = crate::support::root().canonicalize().unwrap();
    BYTES.get_or_init(|| component_builder::build(&workspace, &scratch, "hostile-plugin").unwrap())
}

pub fn hostile() -> Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| Plugin::from_bytes(&host(), hostile_bytes()).unwrap()).clone()
}

const KEY: &str = "the-key-of-this-tenant";
const TOKEN: &str = "the-token-of-this-tenant";

/// The service behind the hostile plugin: returns a token and pages, and keeps the requests.
#[derive(Default)]
pub struct Service {
    page_bytes: usize,
    asked: Mutex<Vec<OutgoingRequest>>,
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

async fn open(mode: Mode, amount: u32, limits: Limits, transport: Arc<dyn Transport>) -> Result<Feed, FeedError> {
    // The lines of one mode look like its key.
    let key = if mode == Mode::LogEscapes { "\\".repeat(63) + "!" } else { KEY.to_owned() };
    let settings = json!({ "mode": mode.word(), "amount": amount, "key": key });
    open_with(settings, limits, transport).await
}

async fn open_with(settings: Value, limits: Limits, transport: Arc<dyn Transport>) -> Result<Feed, FeedError> {
    open_for("mallory", settings, limits, transport, Arc::default()).await
}

async fn open_for(
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

/// Opens a feed in the way of a collector, poll after poll, and returns the log.
async fn logged(mode: Mode, polls: usize) -> String {
    let settings = json!({ "mode": mode.word(), "amount": 3, "key": KEY });
    let settings = Settings::new(settings.as_object().unwrap().clone(), Default::default());
    let allowed = Origins::new(["https://api.example"]).unwrap();
    let mut admitted = unadmitted("mallory", hostile(), settings, allowed).await;
    let tenants = Tenants::new(|_| Ok(Arc::new(Service::default()) as Arc<dyn Transport>));
    let log = tempfile::NamedTempFile::new().unwrap();
    let subscriber = tracing_subscriber::fmt().with_writer(Arc::new(log.reopen().unwrap())).with_ansi(false).finish();
    let poll = async {
        for _ in 0..polls {
            let feed = admitted.open(&tenants, &noon()).await.unwrap();
            admitted.keep_plan(&feed.plan().shapes);
            let found = feed.discover().await.unwrap();
            feed.poll(&found.scopes[0], NOON, None).await;
        }
    };
    poll.with_subscriber(subscriber).await;
    std::fs::read_to_string(log.path()).unwrap()
}

#[tokio::test]
async fn a_denial_that_a_plugin_hides_is_told_once_however_often_its_feed_is_opened() {
    let log = logged(Mode::RequestsDenied, 3).await;
    assert_eq!(log.matches("GET https://evil.example/ is not let out: no declared shape has").count(), 1, "{log}");
    assert!(log.contains("WARN") && log.contains("mallory/mallory-items"), "{log}");
    let log = logged(Mode::HostDenied, 3).await;
    assert!(!log.contains("is not let out"), "the failure says it: {log}");
}

/// Removes the quoted strings from a line.
fn unquoted(line: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let is_outside = |one: &char| {
        let was_in_string = in_string;
        in_string ^= *one == '"' && !escaped;
        escaped = was_in_string && *one == '\\' && !escaped;
        !was_in_string
    };
    line.chars().filter(is_outside).collect()
}

/// Returns the log of a collector with one feed of the hostile plugin, and its status page.
async fn collected(mode: Mode, is_json: bool) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hostile.wasm"), hostile_bytes()).unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let writer = Arc::new(log.reopen().unwrap());
    let format = tracing_subscriber::fmt().with_writer(writer).with_ansi(false);
    let subscriber: tracing::Dispatch = match is_json {
        true => format.json().flatten_event(true).finish().into(),
        false => format.finish().into(),
    };
    let text = format!(
        "[network]\nallow = [\"https://api.example\"]\n[[feed]]\nid = \"items\"\ntenant = \"mallory\"\n\
         plugin = \"hostile.wasm\"\n\
         [feed.settings]\nmode = \"{mode}\"\nkey = \"{KEY}\"\n"
    );
    let collect = async {
        let (file, now) = (folder.path().join("collector.toml"), Arc::new(AtomicU64::new(NOON)));
        let service = Arc::new(Service::default());
        let mut stage = Stage::start(&file, &text, &Secrets::new(), &now, service).await;
        stage.run_until(NOON + 3_600_000).await;
        let summary = stage.collector.summary().unwrap();
        assert!(!unquoted(&summary).contains("tenant="), "{summary}");
        page(&stage.collector.snapshot(10), NOON + 3_600_000)
    };
    let page = collect.with_subscriber(subscriber).await;
    (std::fs::read_to_string(log.path()).unwrap(), page)
}

const UNSEEN: [char; 4] = ['\u{202e}', '\u{200f}', '\u{200b}', '\r'];

#[tokio::test]
async fn words_of_a_plugin_are_no_fields_and_no_lines_of_the_log() {
    let said = logged(Mode::WordsForged, 1).await;
    let (told, page) = collected(Mode::WordsForged, false).await;
    for (log, origin) in [(&said, "the plugin says"), (&told, "something is odd"), (&told, "a scope is not collected")]
    {
        assert!(log.lines().any(|line| line.contains(origin)), "{origin}: {log}");
        for line in log.lines() {
            assert!(line.starts_with("20") && !line.contains(UNSEEN), "{line:?}");
            assert!(!unquoted(line).contains("=other") && !unquoted(line).contains("feed=x"), "{line}");
        }
    }
    assert!(page.contains("tenant=other") && !page.contains(UNSEEN), "{page:?}");
    let (told, _) = collected(Mode::WordsForged, true).await;
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_feed = lines.iter().filter(|line| line["scope"].is_string());
    assert!(of_feed.clone().count() >= 2, "{told}");
    for line in of_feed {
        assert_eq!((&line["tenant"], &line["feed"]), (&"mallory".into(), &"items".into()), "{line}");
    }
    assert!(!told.contains(UNSEEN), "{told:?}");
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

/// Checks a case; returns the difference from its row.
async fn check(case: &Case) -> Result<(), String> {
    let Case { mode, amount, .. } = case;
    let (outcome, asked) = polled(*mode, *amount, limits_for(*mode), 0).await;
    match (&outcome, &case.ends) {
        (Err(words), Fails(expected)) if words.contains(expected) => {}
        (Ok(_), Nothing(_)) => {}
        (Err(words), _) => return Err(format!("{mode}: {words}")),
        (Ok(_), Fails(expected)) => return Err(format!("{mode}: expected {expected:?}, but it was collected")),
    }
    let words = format!("{:?}", outcome.err());
    assert!(!words.contains(KEY) && !words.contains(TOKEN), "{mode}: a secret in {words}");
    for request in asked {
        let shape = format!("{} {}", request.method, request.url);
        let text = format!("{shape} {:?} {}", request.headers, String::from_utf8_lossy(&request.body));
        let declared = shape == "POST https://api.example/token" || shape.starts_with("GET https://api.example/data/");
        assert!(declared && !text.contains("evil") && !text.contains("stolen"), "{mode}: {text}");
        assert!(!request.headers.iter().any(|(name, _)| name == "accept-encoding"), "{mode}: {text}");
        let asks = |(name, value): &(String, String)| {
            name == "accept-charset" || name == "accept" && value.to_ascii_lowercase().contains("utf")
        };
        assert!(!request.headers.iter().any(asks), "{mode}: {text}");
        let token = shape.starts_with("GET");
        let own = *mode == Mode::LogEscapes && text.contains("%5C%21");
        assert_eq!((own || text.contains(KEY), text.contains(TOKEN)), (!token, token), "{mode}: {text}");
    }
    Ok(())
}

/// A trick without a row would not be run; a row without its trick would run a good plugin.
#[test]
fn every_trick_has_its_row_and_every_row_its_trick() {
    let plugin = [
        include_str!("hostile/src/tricks/mod.rs"),
        include_str!("hostile/src/tricks/before_poll.rs"),
        include_str!("hostile/src/tricks/batch.rs"),
        include_str!("hostile/src/lib.rs"),
    ]
    .concat();
    let rows: BTreeSet<Mode> =
        CASES.iter().map(|case| case.mode).chain(LIMITS.iter().map(|limit| limit.mode)).collect();
    let shares: BTreeSet<Mode> = crate::shares::modes().collect();
    for mode in Mode::TRICKS {
        assert_eq!(Mode::of(mode.word()), Some(*mode));
        let named = format!("Mode::{mode:?}");
        let names =
            |text: &str| text.split(|one: char| !(one.is_alphanumeric() || one == ':')).any(|word| word == named);
        assert!(names(&plugin), "the plugin has no trick {mode}");
        let apart = [Mode::RequestsInVain, Mode::PlanByChance].contains(mode);
        assert!(
            rows.contains(mode) || shares.contains(mode) || apart || names(include_str!("limits.rs")),
            "nobody tries {mode}"
        );
    }
}

#[test]
fn every_allowed_import_is_abused() {
    let abused: Vec<&str> = ABUSED.iter().map(|(import, _)| *import).collect();
    assert_eq!(abused, ALLOWED_IMPORTS);
    let rows: BTreeSet<Mode> =
        CASES.iter().map(|case| case.mode).chain(LIMITS.iter().map(|limit| limit.mode)).collect();
    for (import, modes) in ABUSED {
        let imported = |known: &String| known.split('@').next() == Some(import);
        let has_nothing = ["wasi:io/error", "collector:source/plugin"].contains(import);
        assert_eq!(modes.is_empty(), has_nothing, "{import}");
        assert!(modes.is_empty() || hostile().about().imports.iter().any(imported), "{import}");
        let elsewhere = |mode: &&Mode| !rows.contains(*mode) && ![Mode::LogLines, Mode::LogBytes].contains(*mode);
        assert_eq!(modes.iter().find(elsewhere), None, "{import}");
    }
}

/// A service that never answers.
pub struct Silent;

impl Transport for Silent {
    fn send(&self, _: OutgoingRequest) -> TransportFuture<'_> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_call_that_waits_for_the_network_ends_in_its_time() {
    let limits = Limits { wall_time: Duration::from_secs(4), ..Limits::default() };
    let words = attempt(Mode::Good, 0, limits, Arc::new(Silent)).await.unwrap_err();
    assert!(words.contains("its limit of time in all in fetch-token, 4000 ms"), "{words}");
}

/// A transport that returns a token, and then only this: a status, or no answer.
struct Failing(Result<u16, TransportError>);

impl Transport for Failing {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let (status, body) = match request.url.path() {
            "/token" => (Ok(200), json!({ "access_token": TOKEN, "expires_in": 3_600 }).to_string().into_bytes()),
            _ => (self.0.clone(), Vec::new()),
        };
        let answer = status.map(|status| IncomingResponse { status, headers: Vec::new(), body });
        Box::pin(std::future::ready(answer))
    }
}

#[tokio::test]
async fn answers_that_are_each_too_large_count_as_what_came_of_them() {
    let most = "its limit of the bodies of all answers in poll, 33554432 bytes";
    for (requests, is_over) in [(3, false), (4, true)] {
        let large = Failing(Err(TransportError::TooLarge(Limits::default().response_body_bytes)));
        let words = attempt(Mode::RequestsInVain, requests, short(), Arc::new(large)).await.unwrap_err();
        assert_eq!(words.contains(most), is_over, "{requests}: {words}");
    }
}

#[tokio::test]
async fn a_guess_is_not_answered_with_what_the_owner_of_the_credential_got() {
    let (service, tokens) = (Arc::new(Service::default()), Arc::new(Tokens::default()));
    let key = "1234567890";
    for (tenant, mode, requests) in [
        ("alice", Mode::Good, 1),
        ("bob", Mode::Good, 1),
        // The request has the same bytes, but the plugin wrote them: it is denied.
        ("mallory", Mode::KeyGuessed, 1),
        ("eve", Mode::KeyGuessed, 1),
        ("carol", Mode::Good, 1),
    ] {
        let settings = json!({ "mode": mode.word(), "amount": 1_234_567_890, "key": key });
        let transport = Arc::clone(&service) as Arc<dyn Transport>;
        let feed = open_for(tenant, settings, short(), transport, Arc::clone(&tokens)).await.unwrap();
        assert_eq!(feed.sign_in().await.is_ok(), mode == Mode::Good, "{tenant}");
        assert_eq!(service.asked.lock().len(), requests, "{tenant}");
    }
    let asked = service.asked.lock();
    assert!(asked.iter().all(|request| request.body == format!("key={key}").as_bytes()), "{asked:?}");
}

/// A transport that returns a token, and then only this status and header.
struct Refusing(u16, Option<&'static str>);

impl Transport for Refusing {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let token = json!({ "access_token": TOKEN, "expires_in": 3_600 }).to_string().into_bytes();
        let headers = self.1.map(|wait| ("retry-after".to_owned(), wait.to_owned())).into_iter().collect();
        let answer = match request.url.path() {
            "/token" => IncomingResponse { status: 200, headers: Vec::new(), body: token },
            _ => IncomingResponse { status: self.0, headers, body: Vec::new() },
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}

#[tokio::test]
async fn others_wait_only_where_an_origin_asks_for_it_and_no_longer() {
    for (mode, status, header, asked) in [
        (Mode::WaitUnasked, 200, None, None),
        // The request is denied, and nobody answers: the wait of an earlier call does not count.
        (Mode::WaitUnasked, 429, Some("17"), None),
        (Mode::Good, 429, None, None),
        (Mode::Good, 429, Some("soon"), None),
        (Mode::Good, 429, Some("17"), Some(17)),
    ] {
        let feed = open(mode, 0, short(), Arc::new(Refusing(status, header))).await.unwrap();
        let scope = &feed.discover().await.unwrap().scopes[0];
        let failure = feed.poll(scope, NOON, None).await.failure.unwrap();
        assert_eq!(failure.reaction, Reaction::Wait, "{mode} {status}");
        let until = |seconds: u64| NOON + seconds * 1_000;
        let expected =
            asked.map(|seconds| WaitAsked { origin: "https://api.example".to_owned(), until: until(seconds) });
        assert_eq!(feed.throttled(), expected, "{mode} {status} {header:?}");
    }
}

#[tokio::test]
async fn without_a_mode_it_is_a_good_plugin() {
    let (batch, asked) = polled(Mode::Good, 0, short(), 0).await;
    let batch = batch.unwrap();
    assert_eq!((batch.events.len(), batch.state), (2, b"1 4".to_vec()));
    assert_eq!(asked.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_trick_ends_with_its_own_call() {
    let mut otherwise = Vec::new();
    for case in CASES {
        otherwise.extend(check(case).await.err());
    }
    assert!(otherwise.is_empty(), "{otherwise:#?}");
}

/// A case without an effect is also run where its effect would appear.
#[tokio::test]
async fn what_ends_with_nothing_has_no_more_effect_than_its_row_says() {
    let good = || Arc::new(Service::default()) as Arc<dyn Transport>;
    let opened = async |mode: Mode| open(mode, 0, short(), good()).await.unwrap();

    let scopes = opened(Mode::ScopesAlike).await.discover().await.unwrap().scopes;
    assert_eq!(scopes.len(), 1, "it is polled once");
    let scope = &scopes[0];

    let wrong = json!({ "mode": Mode::ProblemsOneByOne.word(), "amount": "many", "other": 1 });
    let told = async |settings: Value| match open_with(settings, short(), good()).await {
        Err(FeedError::Settings(problems)) => problems.len(),
        _ => 0,
    };
    let all = json!({ "mode": "", "amount": "many", "other": 1 });
    assert_eq!((told(wrong).await, told(all).await), (1, 2), "the others are told next time");

    for (mode, reaction, code) in [
        (Mode::Good, Reaction::TryLater, "service-fault"),
        (Mode::ReactionOdd, Reaction::NoData, "service-fault"),
        (Mode::CodeUnlisted, Reaction::TryLater, "unheard-of"),
    ] {
        let feed = open(mode, 0, short(), Arc::new(Failing(Ok(503)))).await.unwrap();
        let polled = feed.poll(scope, NOON, None).await;
        let failure = polled.failure.unwrap();
        assert_eq!((failure.reaction, failure.code.as_str()), (reaction, code), "{mode}");
        assert_eq!(polled.batch, None, "{mode}");
    }

    for (mode, is_taken) in [(Mode::Good, false), (Mode::StateFreshStart, true)] {
        let polled = opened(mode).await.poll(scope, NOON, Some(b"the state of somebody else")).await;
        assert_eq!(polled.batch.is_some(), is_taken, "{mode}");
    }

    let metrics = Metrics::default();
    metrics.configure([("t", "f", &[][..])].into_iter());
    let notice = |code: u32| Notice { code: format!("code-{code}"), message: String::new() };
    let notices: Vec<Notice> = (0..100).map(notice).collect();
    metrics.feed("t", "f", |counts| counts.polled(None, 0, &notices));
    let page = metrics.text(Outboxes::default());
    let counted: Vec<&str> = page.lines().filter(|line| line.starts_with("collector_notices_total{")).collect();
    assert_eq!(counted.len(), 65, "at most 64 are counted, and the others together");
    assert!(counted.iter().any(|line| line.ends_with("code=\"other\"} 36")), "{counted:?}");
}

#[tokio::test]
async fn no_instance_remembers_an_earlier_call() {
    let batch = polled(Mode::MemoryOfCalls, 0, short(), 0).await.0.unwrap();
    assert_eq!(batch.state, b"1 0");
}

#[tokio::test]
async fn the_clock_of_a_pure_call_stands_still() {
    let batch = polled(Mode::ClockInEvent, 0, short(), 0).await.0.unwrap();
    assert_eq!(batch.events.last().unwrap().body, b"{\"class_uid\":2003,\"now\":0}");
}

#[tokio::test]
async fn a_plugin_has_no_dice_for_its_plan() {
    let mut plans = Vec::new();
    for _ in 0..16 {
        let feed = open(Mode::PlanByChance, 0, short(), Arc::new(Nowhere)).await.unwrap();
        plans.push(feed.plan().shapes.clone());
    }
    assert!(plans.iter().all(|plan| *plan == plans[0]));
}

/// Six calls that loop, six that wait, six that flood and six that take memory, and beside them a tenant that polls
/// every 20 ms, all on the same threads. If a poll had to wait for the loops, which take 9 s at least, it would miss
/// the deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_tenant_polls_beside_them_without_a_missed_deadline() {
    const DEADLINE: Duration = Duration::from_secs(6);
    let (_, _) = (hostile(), plugin());
    let limits = Limits { cpu_time: Duration::from_secs(3), wall_time: Duration::from_secs(30), ..short() };
    let attacks = [Mode::Loop, Mode::Wait, Mode::LogLines, Mode::Memory].into_iter().cycle().take(24);
    let attacks: Vec<_> = attacks.map(|mode| tokio::spawn(polled(mode, 1_000_000, limits.clone(), 0))).collect();
    let good = tokio::spawn(async move {
        let (mut polls, mut latest) = (0, Duration::ZERO);
        while polls < 20 || attacks.iter().any(|attack| !attack.is_finished()) {
            let begun = std::time::Instant::now();
            let batch = polled(Mode::Good, 0, Limits::default(), 0).await.0.unwrap();
            assert_eq!(batch.events.len(), 2);
            latest = latest.max(begun.elapsed());
            polls += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        latest
    });
    let latest = good.await.unwrap();
    assert!(latest < DEADLINE, "{latest:?}");
}
