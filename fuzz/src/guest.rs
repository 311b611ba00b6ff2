//! Properties of the plugin that must hold for any bytes, whoever sent them. Compiled natively; each function takes one
//! input.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use azure_secure_score::api::Page;
use azure_secure_score::contract::{self, Batch, Context, Failure, PollResult, Reaction, Scope};
use azure_secure_score::diagnoses::{FORBIDDEN, TABLE};
use azure_secure_score::discover::{self, Found};
use azure_secure_score::http::Response;
use azure_secure_score::json::{self, Document, Fault, JsonValue, Object, ValuePath, exact};
use azure_secure_score::normalize::{MAX_EVENT_BYTES, normalize};
use azure_secure_score::pages::{Next, PollPosition};
use azure_secure_score::service_error::{self, Call};
use azure_secure_score::settings::{Settings, Subscriptions};
use azure_secure_score::token;
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

const SUBSCRIPTION: &str = "20ff7fc3-e762-44dd-bd96-b71116dcdc23";
const ENDPOINT: &str = "https://management.azure.com";
const HOUR: u64 = 3_600_000;
const NOON: u64 = 1_790_000_000_000;

/// The host cuts the text of a failure at this number of bytes; the plugin's text must be far shorter.
const WORDS_BYTES: usize = 4 << 10;

/// Separate the polls of an input, and the pages of a poll: JSON contains neither byte.
const POLL_ENDS: u8 = 0x1e;
const PAGE_ENDS: u8 = 0x1f;

/// Settings that differ in everything that changes an event; the first byte of an input chooses one.
static SETTINGS: LazyLock<Vec<Settings>> = LazyLock::new(|| {
    let more = [
        "",
        r#", "class": "compliance-finding", "definitions": "full""#,
        r#", "emit": "snapshot", "raw": "hash", "entity_resolution": false"#,
        r#", "definitions": "none", "events": ["secure-score-controls"], "snapshot_every": 1"#,
        r#", "class": "detection-finding", "ocsf_version": "1.1.0", "definitions": "full""#,
    ];
    more.iter().map(|more| settings(&format!(r#""subscription_id": "{SUBSCRIPTION}"{more}"#))).collect()
});

/// A search for all subscriptions.
static ALL: Subscriptions = Subscriptions::All { exclude: Vec::new(), delegated: false };

fn settings(more: &str) -> Settings {
    let text = format!(
        r#"{{"client_key": "11111111-2222-3333-4444-555555555555", "client_secret": "sealed",
            "token_url": "aaaabbbb-0000-cccc-1111-dddd2222eeee", {more}}}"#
    );
    match Settings::trusted(&text) {
        Ok(settings) => settings,
        Err(failure) => unreachable!("these settings are good: {}", failure.cause),
    }
}

fn scope() -> Scope {
    Scope { id: SUBSCRIPTION.to_owned(), name: None, owner: None, plugin_data: SUBSCRIPTION.to_owned() }
}

/// Reads an input that looks like an answer: the status, headers, an empty line, the body.
fn answer(data: &[u8]) -> Response {
    let mut response = Response { status: 200, ..Response::default() };
    let mut rest = data;
    for first in [true].into_iter().chain(std::iter::repeat(false)) {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[(end + 1).min(rest.len())..];
        if first {
            response.status = line.parse().unwrap_or(200);
        } else if let Some((name, value)) = line.split_once(": ") {
            response.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        } else {
            break;
        }
    }
    response.body = rest.to_vec();
    response
}

fn check_failure(failure: &Failure) {
    let row = TABLE.iter().find(|row| row.code == failure.code);
    let row = row.unwrap_or_else(|| panic!("the code {:?} is not in the table", failure.code));
    assert_eq!(Some(failure.reaction), row.reaction);
    assert!(failure.cause.starts_with(row.cause), "{:?}", failure.cause);
    let words =
        [Some(&failure.cause), failure.fix.as_ref(), failure.service_code.as_ref(), failure.request_id.as_ref()];
    for words in words.into_iter().flatten() {
        assert!(words.len() <= WORDS_BYTES, "{} bytes of words", words.len());
        assert!(!words.contains(char::is_control), "{words:?}");
    }
    for placeholder in ["{client}", "{tenant}", "{subscription}", "{endpoint}"] {
        assert!(!failure.fix.as_ref().is_some_and(|fix| fix.contains(placeholder)), "{:?}", failure.fix);
    }
}

/// Checks any answer of the token endpoint and of the API that is not a success: the result is a failure of the table,
/// with bounded text.
pub fn errors(data: &[u8]) {
    let response = answer(data);
    let settings = &SETTINGS[0];
    let to_arm = Call::to_arm(settings, "the page", Some(SUBSCRIPTION));
    let from_entra = service_error::entra(Call::to_entra(settings, "the token endpoint"), &response);
    let from_arm = service_error::arm(to_arm, &response);
    let fault = Fault::document("something else", "JSON");
    let not_understood = service_error::not_understood(to_arm, &response, &fault);
    for failure in [&from_entra, &from_arm, &not_understood] {
        check_failure(failure);
        assert_eq!(failure.status, Some(response.status));
        let waits = response.header("retry-after").is_some_and(|value| value.trim().parse::<u64>().is_ok());
        // Another machine's wait counts for the statuses that mean a wait.
        let counts = failure.code != "not-the-service" || matches!(response.status, 429 | 503);
        assert_eq!(failure.wait_seconds.is_some() && waits, waits && counts);
    }
    assert_eq!(from_arm, service_error::arm(to_arm, &response));
    match response.status {
        429 => assert_eq!(from_arm.reaction, Reaction::Wait),
        201..=399 | 500.. => assert_eq!(from_arm.reaction, Reaction::TryLater),
        _ => {}
    }
    // An answer without the service's own code says nothing about the tenant.
    let blames = matches!(from_arm.reaction, Reaction::FixScope | Reaction::FixFeed | Reaction::NoData);
    assert!(!blames || from_arm.service_code.is_some(), "{from_arm:?}");
    match token::answer(settings, &response) {
        Ok(token) => assert!(response.status == 200 && response.body.len() > token.value.len()),
        Err(failure) => check_failure(&failure),
    }
    match discover::tenant_id(settings, &response) {
        Ok(id) => assert!(id.len() == 36 && id == id.to_ascii_lowercase()),
        Err(failure) => check_failure(&failure),
    }
}

/// Checks any answer to the request for a page: the result is a page that `normalize` can read, with a link that stays
/// at its place, or a failure of the table.
pub fn pages(data: &[u8]) {
    let response = answer(data);
    let scope = scope();
    let settings = &SETTINGS[0];
    let cursor = response.header("cursor").map(str::to_owned);
    for cursor in [None, Some("secure-score-controls".to_owned()), cursor] {
        let place = match PollPosition::read(settings, &scope, cursor.as_deref()) {
            Ok(place) => place,
            Err(failure) => {
                check_failure(&failure);
                continue;
            }
        };
        match place.page(response.clone()) {
            Err(failure) => check_failure(&failure),
            Ok((page, next)) => {
                assert_eq!(page.body, response.body);
                if let Next::Page(next) = &next {
                    let next = PollPosition::read(settings, &scope, Some(next)).expect("its own cursor");
                    let path = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/");
                    check_link(&next.request(None).url, |found| found.starts_with(&path));
                }
                let poll_result = PollResult::Pages(vec![page]);
                if let Err(failure) = normalize(settings, &context(0), &poll_result, None) {
                    check_failure(&failure);
                }
            }
        }
    }
    let mut found = Found::new(&SETTINGS[0], &ALL, SUBSCRIPTION.to_owned());
    let took = found.take(&response);
    match took.and_then(|()| found.next_request(None)) {
        Err(failure) => check_failure(&failure),
        Ok(Some(request)) => check_link(&request.url, |found| found == "/subscriptions"),
        Ok(None) => match found.discovery() {
            Err(failure) => check_failure(&failure),
            Ok(discovery) => {
                let ids: BTreeSet<_> = discovery.scopes.iter().map(|scope| &scope.id).collect();
                assert_eq!(ids.len(), discovery.scopes.len());
                assert!(ids.iter().all(|id| id.len() == 36));
            }
        },
    }
}

/// Checks with a second parser of the address, which handles dot segments and white space, that a link is at the same
/// place.
fn check_link(link: &str, is_path: impl Fn(&str) -> bool) {
    let url = Url::parse(link).unwrap_or_else(|error| panic!("{link:?}: {error}"));
    assert_eq!(url.origin().ascii_serialization(), ENDPOINT, "{link:?}");
    assert!(is_path(url.path()), "{link:?}");
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{link:?}");
    assert!(!url.path().to_ascii_lowercase().contains("%2f"), "{link:?}");
}

/// The tape and the exact reader accept the same documents and find the same content in them. They refuse the others
/// with the same words.
pub fn documents(data: &[u8]) {
    match (Document::read(data), exact::document(data)) {
        (Ok(document), Ok(exact)) => same_value(document.root(), exact, &ValuePath::Root),
        (one, other) => assert_eq!(one.err(), other.err()),
    }
}

fn same_value(value: JsonValue<'_>, exact: &RawValue, path: &ValuePath<'_>) {
    assert_eq!(value.get(), exact.get());
    match exact.get().as_bytes()[0] {
        b'{' => match (Object::read(value, path), exact::object(exact.get(), path)) {
            (Ok(object), Ok(members)) => {
                assert_eq!(object.iter().count(), members.len());
                for ((key, value), (exact_key, exact)) in object.iter().zip(&members) {
                    assert_eq!(key, exact_key);
                    same_value(value, exact, &path.key(key));
                    let got = object.get(key).map(JsonValue::get);
                    assert_eq!(got, Some(exact.get()).filter(|text| *text != "null"));
                }
            }
            (one, other) => assert_eq!(one.err(), other.err()),
        },
        b'[' => {
            let items = json::list(value, path).expect("a list").collect::<Vec<_>>();
            let exact: Vec<&RawValue> = serde_json::from_str(exact.get()).expect("a list");
            assert_eq!(items.len(), exact.len());
            for (index, (item, exact)) in items.into_iter().zip(exact).enumerate() {
                same_value(item, exact, &path.index(index));
            }
        }
        _ => assert_eq!(json::string(value).as_deref(), serde_json::from_str::<String>(exact.get()).ok().as_deref()),
    }
}

fn context(hour: u64) -> Context {
    Context {
        feed: "feed".to_owned(),
        tenant: "tenant".to_owned(),
        scope: scope(),
        poll_id: format!("00000000-0000-4000-8000-{hour:012}"),
        collected_at_milliseconds: NOON + hour * HOUR,
    }
}

/// Checks any pages, poll after poll.
pub fn polls(data: &[u8]) {
    let (first, data) = data.split_first().unwrap_or((&0, &[]));
    let settings = &SETTINGS[usize::from(*first) % SETTINGS.len()];
    let mut state: Option<Vec<u8>> = None;
    for (hour, poll) in data.split(|byte| *byte == POLL_ENDS).take(8).enumerate() {
        let kinds = ["secure-scores", "secure-score-controls"].into_iter().cycle();
        let pages = poll.split(|byte| *byte == PAGE_ENDS).zip(kinds);
        let pages = pages
            .map(|(body, kind)| contract::Page { kind: kind.to_owned(), body: body.to_vec(), request_id: None })
            .collect::<Vec<_>>();
        let poll_result = PollResult::Pages(pages);
        let context = context(hour as u64);
        match normalize(settings, &context, &poll_result, state.as_deref()) {
            Err(failure) => {
                check_failure(&failure);
                assert_eq!(failure.reaction, Reaction::FixPlugin);
            }
            Ok(batch) => {
                check_batch(settings, &context, &poll_result, state.as_deref(), &batch);
                check_order(settings, &context, &poll_result, state.as_deref(), &batch);
                state = Some(batch.state);
            }
        }
    }
}

/// Checks the properties of every answer of `normalize`.
fn check_batch(
    settings: &Settings,
    context: &Context,
    poll_result: &PollResult,
    state: Option<&[u8]>,
    batch: &Batch,
) -> Vec<Value> {
    let again = normalize(settings, context, poll_result, state);
    assert_eq!(again.as_ref(), Ok(batch), "the same arguments give the same bytes");
    let mut uids = BTreeSet::new();
    let mut events = Vec::new();
    for event in &batch.events {
        assert!(event.body.len() <= MAX_EVENT_BYTES, "an event of {} bytes", event.body.len());
        assert!(!event.body.iter().any(|byte| matches!(byte, b'\n' | b'\r')), "an event is one line");
        let value = read(&event.body);
        assert_eq!(value["metadata"]["uid"], event.uid);
        assert_eq!(value["time"], event.time_milliseconds);
        assert_eq!(event.time_milliseconds, context.collected_at_milliseconds);
        let type_uid = value["class_uid"].as_u64().zip(value["activity_id"].as_u64());
        assert_eq!(type_uid.map(|(class, activity)| class * 100 + activity), value["type_uid"].as_u64());
        assert!(uids.insert(event.uid.clone()), "the uid {} stands twice", event.uid);
        events.push(value);
    }
    assert!(batch.state.starts_with(b"{\"format\":1,"));
    let codes = batch.notices.iter().map(|notice| notice.code.as_str());
    for code in codes {
        assert!(TABLE.iter().any(|row| row.code == code), "{code}");
    }
    batch.outcome.iter().for_each(check_failure);
    for measure in &batch.measures {
        assert!(
            [measure.value, measure.maximum, measure.weight].iter().all(|figure| figure.is_finite()),
            "{measure:?}"
        );
    }
    check_next(settings, context, poll_result, batch);
    events
}

/// Reads an event in the way of most readers, with numbers in double precision.
fn read(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("an event is JSON")
}

/// Checks that the state can be read again, and that the same answer after it reports nothing new.
fn check_next(settings: &Settings, context: &Context, poll_result: &PollResult, batch: &Batch) {
    let context = Context { collected_at_milliseconds: context.collected_at_milliseconds + 1, ..context.clone() };
    let next = match normalize(settings, &context, poll_result, Some(&batch.state)) {
        Ok(next) => next,
        Err(failure) => panic!("its own state is not read: {}", failure.cause),
    };
    for event in &next.events {
        let event = read(&event.body);
        // A finding that was absent once before is closed by the second absence.
        assert!(matches!(event["activity_id"].as_u64(), Some(3 | 99)), "{event}");
    }
    let spelled = |batch: &Batch| serde_json::from_slice::<Value>(&batch.state).expect("a state is JSON");
    let (before, after) = (spelled(batch), spelled(&next));
    assert_eq!(before["kinds"], after["kinds"]);
    assert_eq!(before["outcome"], after["outcome"]);
}

/// Checks that the order of items within a page changes nothing but the order of events.
fn check_order(settings: &Settings, context: &Context, poll_result: &PollResult, state: Option<&[u8]>, batch: &Batch) {
    let PollResult::Pages(pages) = poll_result else { return };
    if batch.notices.iter().any(|notice| notice.code == "item-repeated") {
        return;
    }
    let reversed = pages.iter().map(|page| {
        let Ok(document) = Document::read(&page.body) else { return page.clone() };
        let Ok(read) = Page::read(&document) else { return page.clone() };
        let mut items: Vec<_> = read.value.map(JsonValue::get).collect();
        items.reverse();
        contract::Page {
            kind: page.kind.clone(),
            body: format!(r#"{{"value":[{}]}}"#, items.join(",")).into_bytes(),
            request_id: None,
        }
    });
    let other = normalize(settings, context, &PollResult::Pages(reversed.collect()), state).expect("the same items");
    let uids = |batch: &Batch| batch.events.iter().map(|event| event.uid.clone()).collect::<BTreeSet<_>>();
    assert_eq!(uids(batch), uids(&other));
    assert_eq!(batch.state, other.state);
}

/// Checks any state: it is read, or the failure says that it cannot be read; it never leads to a fresh start.
pub fn state(data: &[u8]) {
    static GIVEN: LazyLock<[PollResult; 3]> = LazyLock::new(|| {
        let forbidden = Failure { fix: None, ..FORBIDDEN.failure("403") };
        let mut empty = Days::default();
        let mut full = Days { present: [Some(3), Some(1), None, None], ..Days::default() };
        [full.poll_result(), empty.poll_result(), PollResult::Failure(forbidden)]
    });
    for poll_result in GIVEN.iter() {
        let context = context(1);
        match normalize(&SETTINGS[0], &context, poll_result, Some(data)) {
            Err(failure) => {
                check_failure(&failure);
                assert_eq!(failure.reaction, Reaction::StateUnusable);
            }
            Ok(batch) => {
                let before: Value = serde_json::from_slice(data).expect("a state that was read is JSON");
                assert_eq!(before["format"], 1);
                let after: Value = serde_json::from_slice(&batch.state).expect("a state is JSON");
                let known = |state: &Value| state["findings"].as_object().map_or(0, |findings| findings.len());
                assert!(known(&after) > 0 || known(&before) == 0 || !matches!(poll_result, PollResult::Failure(_)));
                check_batch(&SETTINGS[0], &context, poll_result, Some(data), &batch);
            }
        }
    }
}

/// Checks polls of a small world, whose changes the bytes choose: reports fit what was known, and the parts of a change
/// add up.
pub fn days(data: &[u8]) {
    let (first, data) = data.split_first().unwrap_or((&0, &[]));
    let settings = &SETTINGS[usize::from(*first) % SETTINGS.len()];
    let mut world = Days::default();
    let mut state: Option<Vec<u8>> = None;
    let mut open = BTreeSet::new();
    let mut hour = 0;
    for choices in data.chunks(6).take(12) {
        hour += world.turn(choices);
        let context = context(hour);
        let poll_result = world.poll_result();
        let batch =
            normalize(settings, &context, &poll_result, state.as_deref()).expect("a good answer after a good state");
        let events = check_batch(settings, &context, &poll_result, state.as_deref(), &batch);
        check_order(settings, &context, &poll_result, state.as_deref(), &batch);
        for event in &events {
            let uid = event["finding_info"]["uid"].as_str().unwrap_or_default().to_owned();
            if uid.ends_with("/secure-score-collection") {
                continue;
            }
            match event["activity_id"].as_u64() {
                Some(1) => assert!(open.insert(uid), "{event}"),
                Some(3) => assert!(open.remove(&uid), "{event}"),
                _ => assert!(open.contains(&uid), "{event}"),
            }
            check_sums(event);
        }
        state = Some(batch.state);
    }
}

/// A score and some controls, with numbers as indexes into spellings.
#[derive(Default)]
struct Days {
    present: [Option<u8>; 4],
    failing: bool,
    title: u8,
    score: u8,
}

/// Points in hundredths, and one spelling of them.
const SPELLINGS: [(i64, &str); 12] = [
    (0, "0"),
    (100, "1"),
    (100, "1.0"),
    (250, "2.5"),
    (250, "25e-1"),
    (253, "2.53"),
    (1_000, "10"),
    (1_000, "1E1"),
    (-50, "-0.5"),
    (0, "-0.0e7"),
    (1, "0.01"),
    (390_000, "3900"),
];

impl Days {
    /// Changes the world, and returns the number of hours that pass.
    fn turn(&mut self, choices: &[u8]) -> u64 {
        let choice = |at: usize| choices.get(at).copied().unwrap_or_default();
        self.failing = choice(4) & 7 == 7;
        self.title = choice(4) >> 6;
        self.score = choice(5) >> 3;
        for (at, control) in self.present.iter_mut().enumerate() {
            let byte = choice(at);
            *control = (byte & 3 != 0).then_some(byte >> 2);
        }
        [1, 2, 24, 24 * 91][usize::from(choice(5) & 3)]
    }

    fn poll_result(&mut self) -> PollResult {
        if self.failing {
            return PollResult::Failure(Failure { fix: None, ..FORBIDDEN.failure("403") });
        }
        let score = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/secureScores/ascScore");
        let spelled = |byte: u8| SPELLINGS[usize::from(byte) % SPELLINGS.len()];
        let mut controls = Vec::new();
        for (at, byte) in self.present.iter().enumerate() {
            let Some(byte) = byte else { continue };
            let (current, max) = (spelled(*byte).1, spelled(byte.wrapping_mul(5)).1);
            let counts = if byte & 1 == 0 {
                format!(r#","healthyResourceCount":{},"unhealthyResourceCount":{}"#, byte >> 3, byte & 7)
            } else {
                String::new()
            };
            let points = if byte % 11 == 10 {
                String::new()
            } else {
                format!(r#""score":{{"current":{current},"max":{max}}},"#)
            };
            controls.push(format!(
                r#"{{"id":"{score}/secureScoreControls/c{at}","name":"c{at}","type":"Microsoft.Security/secureScores/secureScoreControls","properties":{{{points}"displayName":"c{}"{counts}}}}}"#,
                self.title
            ));
        }
        let (current, max) = (spelled(self.score).1, spelled(self.score.wrapping_mul(7)).1);
        let scores = match self.score {
            31 => String::new(),
            _ => format!(
                r#"{{"id":"{score}","name":"ascScore","type":"Microsoft.Security/secureScores","properties":{{"score":{{"current":{current},"max":{max}}}}}}}"#
            ),
        };
        let page = |kind: &str, items: String| contract::Page {
            kind: kind.to_owned(),
            body: format!(r#"{{"value":[{items}]}}"#).into_bytes(),
            request_id: None,
        };
        PollResult::Pages(vec![page("secure-scores", scores), page("secure-score-controls", controls.join(","))])
    }
}

/// Checks that previous value and delta give the new value, and that the drivers with their remainder give the delta,
/// all in hundredths.
fn check_sums(event: &Value) {
    let change = &event["unmapped"]["change"];
    for name in ["current", "max"] {
        let Some(delta) = hundredths(&change["delta"][name]) else { continue };
        let now = hundredths(&event["unmapped"]["score"][name]);
        let before = hundredths(&change["previous"][name]);
        assert_eq!(now.zip(before).map(|(now, before)| now - before), Some(delta), "{event}");
        let Some(remainder) = hundredths(&change["rounding_remainder"][name]) else { continue };
        let drivers = change["drivers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let parts: i64 = drivers.iter().filter_map(|driver| hundredths(&driver[name])).sum();
        assert_eq!(parts + remainder, delta, "{event}");
    }
}

fn hundredths(number: &Value) -> Option<i64> {
    number.as_f64().map(|number| (number * 100.0).round() as i64)
}

/// Returns the targets by name.
pub fn targets() -> BTreeMap<&'static str, fn(&[u8])> {
    BTreeMap::from([
        ("errors", errors as fn(&[u8])),
        ("documents", documents),
        ("pages", pages),
        ("polls", polls),
        ("state", state),
        ("days", days),
    ])
}
