//! The misbehaviour of the plugin. The tables of `tests/tricks/cases.rs` and `tests/limits.rs` name every mode and its end.

mod batch;
mod before_poll;

use waki::bindings::wasi::clocks::monotonic_clock;
use waki::bindings::wasi::http::outgoing_handler;
use waki::bindings::wasi::http::types::{Fields, OutgoingRequest, Scheme};

pub use self::batch::batch;
pub use self::before_poll::before_poll;
use crate::contract::collector::source::log;
use crate::contract::*;
use crate::mode::Mode;
use crate::{Settings, failure};

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
        Mode::AnonymousOwn => {
            let path = Path::Prefix("/hooks/".to_owned());
            plan.shapes.push(Shape { path, credentials: Vec::new(), ..shape });
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
        // How often it looks before a refusal arrives would be another.
        Mode::PlanByRace if looks_for_an_answer() % 2 == 1 => {
            plan.shapes.push(Shape { method: "HEAD".to_owned(), ..shape });
        }
        Mode::ShapeOdd => plan.shapes.push(Shape { method: "get".to_owned(), ..shape }),
        _ => {}
    }
    plan
}

/// Sends a request where there is no HTTP, and returns how often it looked for the answer.
fn looks_for_an_answer() -> usize {
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_scheme(Some(&Scheme::Https));
    let _ = request.set_authority(Some("api.example"));
    let _ = request.set_path_with_query(Some("/"));
    let Ok(answer) = outgoing_handler::handle(request, None) else { return 0 };
    let arrival = answer.subscribe();
    std::iter::repeat_with(|| arrival.ready()).take_while(|is_there| !is_there).count()
}

pub fn form(settings: &Settings, form: String) -> String {
    match settings.mode {
        Mode::RequestBytes => wide(&format!("{form}&more="), settings.amount),
        Mode::KeyGuessed => format!("key={}", settings.amount),
        Mode::KeyLeftOut => "grant=of-an-evil-account".to_owned(),
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
