//! Every trick of the hostile plugin, and its end: each row of the table is run, and SECURITY.md is made from the same rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use source_host::limits::Limits;
use source_host::plugin::event;

use crate::limits::LIMITS;
use crate::mode::Mode;
use crate::security::Table;
use crate::support::hostile::{KEY, Service, TOKEN, attempt, limits_for, polled, unhurried};
use crate::support::time_on_processor;

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
    case(Mode::Loop, 0, "loops for ever", Fails("its limit on processor time in poll"), "limits"),
    case(Mode::Levels, 100_000_000, "calls itself without end", Fails("its limit on stack in poll"), "limits"),
    case(Mode::Memory, 200, "takes 200 MiB of memory", Fails("its limit on memory in poll"), "limits"),
    case(Mode::Wait, 86_400_000, "waits for a day", Fails("its limit on total time in poll"), "limits"),
    case(
        Mode::TimerInPrepare,
        0,
        "waits in `prepare`",
        Fails("the plugin crashed in prepare: it set a timer"),
        "limits",
    ),
    case(Mode::LoopInPrepare, 0, "loops in `prepare`", Fails("its limit on processor time in prepare"), "limits"),
    case(
        Mode::BodyInPrepare,
        0,
        "waits in `prepare` for somebody to read what it writes",
        Fails("its limit on total time in prepare"),
        "limits",
    ),
    case(
        Mode::TimerInNormalize,
        0,
        "waits in `normalize`",
        Fails("the plugin crashed in normalize: it set a timer"),
        "limits",
    ),
    case(Mode::Trap, 0, "breaks down", Fails("the plugin crashed in poll"), "limits"),
    case(Mode::Handles, 5_000, "opens thousands of handles", Fails("its limit on handles in poll"), "limits"),
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
    case(
        Mode::PlanByRace,
        0,
        "declares other requests where a refusal took an odd number of looks to arrive",
        Nothing("a call without HTTP learns of it before it can look"),
        "requests",
    ),
    case(Mode::Copies, 4_000, "returns gigabytes, by one mebibyte again and again", Fails("copied between"), "limits"),
    case(
        Mode::RequestsDenied,
        50_000,
        "asks again and again for what is denied",
        Fails("its limit on requests"),
        "limits",
    ),
    case(
        Mode::HostDenied,
        0,
        "calls a host that it did not declare",
        Fails("no declared request matches GET https://evil"),
        "requests",
    ),
    case(
        Mode::HostLookalike,
        0,
        "calls a host that begins like a declared one",
        Fails("no declared request matches"),
        "requests",
    ),
    case(Mode::HostUserName, 0, "writes a declared host as a user name", Fails("a user name"), "requests"),
    case(Mode::PathAbove, 0, "leaves the declared path by dot segments", Fails("a dot segment"), "requests"),
    case(Mode::Method, 0, "sends PUT where GET was declared", Fails("no declared request matches PUT"), "requests"),
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
        Fails("the token is in a place for which it was not"),
        "requests",
    ),
    case(
        Mode::KeyInHeader,
        0,
        "copies a secret into a header",
        Fails("`key` is in a place for which it was not"),
        "requests",
    ),
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
        Mode::HeaderOwn,
        0,
        "writes the key of another account into a header without a telling name",
        Fails("its header `x-anything` may be a credential"),
        "requests",
    ),
    case(
        Mode::AnonymousOwn,
        0,
        "sends what it read on a request that it declared without a credential",
        Fails("it carries no credential, and this call may know the tenant's data"),
        "requests",
    ),
    case(
        Mode::KeyLeftOut,
        0,
        "asks for a token of another account, without the credential that it declared",
        Fails("it has a body, and carries no credential of this call"),
        "requests",
    ),
    case(
        Mode::ParameterOwn,
        0,
        "writes the token of another account into the address",
        Fails("its parameter `access_token[]` looks like a credential"),
        "requests",
    ),
    case(
        Mode::SegmentOwn,
        0,
        "writes the session of another account into the path",
        Fails("its parameter `jsessionid` looks like a credential"),
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
        Fails("the plugin crashed in poll"),
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
    case(Mode::Pages, 100_000, "has pages without end", Fails("more pages than the limit of 100"), "poll"),
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
    case(Mode::EventKeyTwice, 0, "gives an event one key twice", Fails("the key \"a\" appears twice"), "limits"),
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
    case(
        Mode::MeasureOdd,
        0,
        "returns a figure that is no number",
        Fails("the figure of all is not a number"),
        "limits",
    ),
    case(Mode::StateForeign, 0, "returns state that is not its own", Fails("(state-odd, operator)"), "state"),
    case(
        Mode::StateFreshStart,
        0,
        "takes unreadable state for a fresh start",
        Nothing("only its own scope is reported again"),
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
        Fails("its limit on an origin in prepare, 1026 bytes"),
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
        how: "`tests/tricks/cases.rs` has the modes of the plugin in `tests/hostile/` that break a rule at once; those with an amount are under the limits, and those that take the shares of others below. Each runs with a well-behaved tenant beside it. The last column is the rule of `host-harness conformance` that finds the mode.",
        columns: &["mode", "the plugin", "result", "rule"],
        rows: CASES.iter().map(row).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_trick_ends_with_its_own_call() {
    let mut otherwise = Vec::new();
    for case in CASES {
        otherwise.extend(check(case).await.err());
    }
    assert!(otherwise.is_empty(), "{otherwise:#?}");
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
        let asks_for_encoding = |name: &str| ["accept-encoding", "te"].contains(&name);
        assert!(!request.headers.iter().any(|(name, _)| asks_for_encoding(name)), "{mode}: {text}");
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

#[tokio::test]
async fn events_that_take_long_to_read_are_read_at_the_cost_of_their_call() {
    const EVENTS: u32 = 40;
    let returned = async |limits| attempt(Mode::EventsLong, EVENTS, limits, Arc::new(Service::default())).await;
    let batch = returned(limits_for(Mode::EventsLong)).await.unwrap();
    let begun = time_on_processor();
    for event in &batch.events {
        assert_eq!(event::judge(&event.uid, &event.body), Ok(()));
    }
    // The plugin itself takes less: it copies one event.
    let limits = Limits { cpu_time: (time_on_processor() - begun) / 2, ..unhurried() };
    let words = returned(limits).await.unwrap_err();
    assert!(words.contains("its limit on processor time in normalize"), "{words}");
}

/// A trick without a row would not be run; a row without its trick would run a good plugin.
#[test]
fn every_trick_has_its_row_and_every_row_its_trick() {
    let plugin = [
        include_str!("../hostile/src/tricks/mod.rs"),
        include_str!("../hostile/src/tricks/before_poll.rs"),
        include_str!("../hostile/src/tricks/batch.rs"),
        include_str!("../hostile/src/lib.rs"),
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
            rows.contains(mode) || shares.contains(mode) || apart || names(include_str!("../limits.rs")),
            "nobody tries {mode}"
        );
    }
}
