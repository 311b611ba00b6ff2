//! Properties of the host that must hold for any bytes of a plugin or a service that was built to attack it: secrets in
//! many spellings, hidden tokens, and invented events, log lines and plans.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, LazyLock};

use host_harness::admitted::CompactPlan;
use serde_json::Value;
use source_host::Limits;
use source_host::contract::{LogLevel, Path, Plan, Shape};
use source_host::credentials::redact::{Pieces, REDACTED, SHORTEST, Search, Watch, take_steps};
use source_host::credentials::secret::Secret;
use source_host::network::IncomingResponse;
use source_host::network::OutgoingRequest;
use source_host::network::egress::{Egress, Origins, canonical};
use source_host::plugin::answer::BoundedAnswer;
use source_host::plugin::call::{log_line, log_words};
use source_host::plugin::{KnownPlugin, event, seal};
use source_host::text::{is_plain, plain};
use tracing::Dispatch;
use url::Url;

/// Separates the parts of an input; no text contains it.
const PART_ENDS: u8 = 0x1e;

/// Largest number of secrets in one input; the cost of a search grows with their number.
const SECRETS: usize = 8;

/// Bytes of a text and its secrets up to which the slow search is run, too.
const SHORT: usize = 256;

/// Allowed steps for each byte of a text, and for each byte and spelling of a secret: twice the cost of the slowest
/// known text.
const STEPS: (usize, usize) = (100, 4);

/// Allowed steps for each byte of a text in the search for pieces of secrets: the limit of comparisons and the cost of
/// escapes, in each of five layers.
const PIECE_STEPS: usize = 600;

/// Checks any secrets and any text: the search's time is bounded by the length of the text, its results equal those of
/// the slow search, and it finds each secret in each of its spellings.
pub fn secrets(data: &[u8]) {
    let (secrets, text) = match data.iter().rposition(|byte| *byte == PART_ENDS) {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => return,
    };
    let secrets = secrets.split(|byte| *byte == PART_ENDS).map(|one| String::from_utf8_lossy(one).into_owned());
    let secrets: Vec<Secret> = secrets.take(SECRETS).map(Secret::new).collect();
    let search = Search::new(&secrets);
    take_steps();
    let found: Vec<_> = search.all(text).collect();
    let (steps, most) = (take_steps(), text.len() * (STEPS.0 + STEPS.1 * search.spellings()));
    assert!(steps <= most, "{steps} steps, which is more than {most}");
    assert_eq!(search.is_in(text), !found.is_empty());
    assert_eq!(search.clean(text).is_some(), !found.is_empty());
    let pieces = Pieces::of(&secrets);
    let has_piece = pieces.are_in(text);
    let (steps, most) = (take_steps(), text.len() * PIECE_STEPS);
    assert!(steps <= most, "{steps} steps for pieces, which is more than {most}");
    let is_excluded = Watch::of(secrets.clone(), secrets.clone()).excludes(text);
    let (steps, most) = (take_steps(), text.len() * STEPS.0);
    assert!(steps <= most, "{steps} steps for the look, which is more than {most}");
    assert!(!is_excluded || found.is_empty() && !has_piece, "a text with a secret is excluded");
    let bytes = text.len() + secrets.iter().map(|secret| secret.expose().len()).sum::<usize>();
    if bytes <= SHORT {
        assert_eq!(found, search.plainly(text));
        assert!(has_piece || !pieces.are_plainly_in(text), "a piece is not found");
        for secret in secrets.iter().filter(|secret| secret.expose().len() >= SHORTEST) {
            let (before, after) = text.split_at(text.len() / 2);
            for spelled in spellings(secret.expose()) {
                let text = [before, spelled.as_bytes(), after].concat();
                assert!(search.is_in(&text), "{spelled:?} is not found");
            }
        }
    }
}

/// Returns the spellings in which services write a secret.
fn spellings(secret: &str) -> Vec<String> {
    let json = |text: &str| Value::from(text).to_string().trim_matches('"').to_owned();
    let percent = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let html = |text: &str| text.chars().map(|one| format!("&#{};", u32::from(one))).collect::<String>();
    let units = secret.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    let wide = secret.chars().flat_map(|one| [one, '\0']).collect();
    let hexadecimal = secret.bytes().map(|byte| format!("{byte:02X}")).collect();
    let mut all = vec![secret.to_owned(), percent(secret), percent(&percent(secret)), html(secret), units, wide];
    all.extend([hexadecimal, percent(&html(secret))]);
    // Quotes at the ends of a secret would be taken for JSON's own.
    if !secret.starts_with('"') && !secret.ends_with('"') {
        all.extend([json(secret), json(&json(secret))]);
    }
    all
}

/// A plugin that is known to read more members than those of the standard.
const READER: KnownPlugin =
    KnownPlugin { token_members: &["error_codes", "trace_id"], token_headers: &["x-server"], ..KnownPlugin::UNKNOWN };

/// The members of a token endpoint's answer that this plugin sees.
const SEEN: &[&str] =
    &["token_type", "expires_in", "error", "error_description", "error_uri", "error_codes", "trace_id"];

/// Checks any answer of a token endpoint: the plugin sees only known members, and no token in them.
pub fn seals(data: &[u8]) {
    const KEY: &str = "access_token";
    // An input with placeholders could make a token of them.
    if data.windows(4).any(|window| window == &REDACTED.as_bytes()[1..5]) {
        return;
    }
    let mut response = response(data);
    let before = response.clone();
    let sealing = seal::sealed(&mut response, KEY, &READER);
    let secrets = Search::new(&sealing.secrets);
    seal::scrub(&mut response, &secrets);
    assert_eq!(response.status, before.status);
    assert!(!secrets.is_in(&response.body), "a token stands in the body");
    for (name, value) in &response.headers {
        assert!(before.headers.iter().any(|(before, _)| before == name) && name != "set-cookie");
        assert!(!secrets.is_in(value.as_bytes()) && !secrets.is_in_name(name), "a token stands in {name}");
    }
    let body: Value = match &*response.body {
        b"" | b"<withheld>" | b"withheld" => return assert!(sealing.token.is_none()),
        body => serde_json::from_slice(body).expect("what is left is JSON"),
    };
    let members = body.as_object().expect("what is left is an object");
    assert!(members.keys().all(|name| name == KEY || SEEN.contains(&name.as_str())), "{body}");
    match &sealing.token {
        Some((placeholder, token)) => {
            assert_eq!(response.status, 200);
            assert!(token.expose().bytes().all(|byte| byte.is_ascii_graphic()) && !token.expose().is_empty());
            assert!(members[KEY] == **placeholder && placeholder != token.expose());
        }
        // A character that no token contains may be visible.
        None => assert!(members.get(KEY).is_none_or(|value| value.as_str().is_some_and(|odd| odd.chars().count() < 2))),
    }
}

/// Reads an input that looks like an answer: the status, headers, an empty line, the body.
fn response(data: &[u8]) -> IncomingResponse {
    let end = data.windows(2).position(|window| window == b"\n\n");
    let (head, body) = end.map_or((data, &[][..]), |end| (&data[..end], &data[end + 2..]));
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.parse().ok()).unwrap_or(200);
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    IncomingResponse { status, headers, body: body.to_vec() }
}

/// Checks any event: it is accepted exactly if a parser that builds a tree loses nothing of it, and if its uid is the
/// stated one.
pub fn events(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == PART_ENDS).unwrap_or(0);
    let (uid, body) = (String::from_utf8_lossy(&data[..end]), data.get(end + 1..).unwrap_or_default());
    let judged = event::judge(&uid, body);
    assert_eq!(judged.is_ok(), event::plainly::is_good(&uid, body), "{judged:?}");
    if let Err(why) = judged {
        assert!(!why.is_empty() && why.len() < 1 << 10 && is_plain(&why), "{why:?}");
    }
}

thread_local! {
    /// The log of this thread.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes to the log of this thread.
struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks any message of a plugin: the log has one line for it, in which the text is one quoted field, without secrets
/// and invisible characters.
pub fn logs(data: &[u8]) {
    const WHO: &str = "contoso/feed";
    const BYTES: usize = 256;
    static SEARCH: LazyLock<Search> = LazyLock::new(|| {
        Search::new(&["the-real-token-of-the-tenant", "pa55 word/of+the%tenant", "ü-schlüssel-ü"].map(Secret::new))
    });
    static LINES: LazyLock<[Dispatch; 2]> = LazyLock::new(|| {
        let lines = || tracing_subscriber::fmt().with_writer(|| Writer).with_ansi(false).without_time();
        [lines().finish().into(), lines().json().flatten_event(true).finish().into()]
    });
    // An input with placeholders could make a secret of them.
    let message = String::from_utf8_lossy(data);
    let safe = SEARCH.words(&plain(&message));
    assert!(is_plain(&safe), "{safe:?}");
    let words = log_words(&message, &SEARCH, BYTES);
    assert!(words.len() <= BYTES && is_plain(&words), "{words:?}");
    assert!(!SEARCH.is_in(words.as_bytes()), "{words:?} holds a secret");
    let [text, json] = LINES.each_ref().map(|lines| {
        LOG.take();
        tracing::dispatcher::with_default(lines, || log_line(LogLevel::Warn, WHO, &words));
        let mut line = String::from_utf8(LOG.take()).expect("a line is text");
        assert_eq!(line.pop(), Some('\n'));
        assert!(!SEARCH.is_in(line.as_bytes()), "{line:?} holds a secret");
        line
    });
    let quoted = text.strip_prefix(" WARN plugin: the plugin says who=contoso/feed words=\"");
    let quoted = quoted.and_then(|quoted| quoted.strip_suffix('"')).unwrap_or_else(|| panic!("{text}"));
    let mut is_escaped = false;
    for one in quoted.chars() {
        assert!(is_escaped || one != '"', "the words end early: {text}");
        is_escaped = one == '\\' && !is_escaped;
    }
    assert!(!is_escaped && is_plain(&text), "{text}");
    let json: BTreeMap<String, Value> = serde_json::from_str(&json).expect("a line is JSON");
    let expected = [("level", "WARN"), ("message", "the plugin says"), ("target", "plugin"), ("who", WHO)];
    let expected = expected.into_iter().chain([("words", words.as_str())]);
    assert_eq!(json, expected.map(|(name, value)| (name.to_owned(), Value::from(value))).collect());
}

/// Checks any plan: it is refused, or it is restored unchanged, has one digest, and allows requests to its own origins
/// only.
pub fn plans(data: &[u8]) {
    let Ok(shapes) = serde_json::from_slice::<Vec<Shape>>(data) else { return };
    let mut plan = Plan { shapes, warnings: Vec::new() };
    let shapes = plan.shapes.clone();
    if plan.hold(&Limits::default()).is_err() {
        return;
    }
    assert_eq!(plan.shapes, shapes, "a shape is taken as it is, or not at all");
    let compact = CompactPlan::of(&shapes);
    assert_eq!(compact.plan(), plan);
    let (again, digest) = (CompactPlan::of(&compact.plan().shapes), compact.sha256());
    assert_eq!((&again, again.sha256()), (&compact, digest.clone()));
    let reversed: Vec<Shape> = shapes.iter().rev().cloned().collect();
    assert_eq!(CompactPlan::of(&reversed).sha256() == digest, reversed == shapes);
    let origins: Vec<&str> = shapes.iter().map(|shape| shape.origin.as_str()).collect();
    let allowed = Origins::new(&origins).unwrap_or_default();
    let egress = Egress::new(plan, Arc::new(allowed));
    for shape in &shapes {
        let (Path::Exact(path) | Path::Prefix(path)) = &shape.path;
        for address in [format!("{}{path}", shape.origin), format!("{}{path}x", shape.origin)] {
            let Ok(url) = Url::parse(&address) else { continue };
            let method = shape.method.clone();
            let request = OutgoingRequest { method, url: url.clone(), headers: Vec::new(), body: Vec::new() };
            if let Ok(judged) = egress.judge(&address, request, &[]) {
                let declared = canonical(&judged.shape.origin).expect("an origin that is allowed");
                assert_eq!(judged.request.url.origin().ascii_serialization(), declared);
                assert_eq!((judged.request.url, judged.carried.is_empty(), judged.is_by_host), (url, true, false));
            }
        }
    }
}

/// Returns the targets by name.
pub fn targets() -> BTreeMap<&'static str, fn(&[u8])> {
    BTreeMap::from([
        ("secrets", secrets as fn(&[u8])),
        ("seals", seals),
        ("events", events),
        ("logs", logs),
        ("plans", plans),
    ])
}
