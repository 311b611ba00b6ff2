//! The event of one finding: the mapping of secure scores and controls to OCSF, and its size limit.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rust_decimal::{Decimal, RoundingStrategy};

use crate::api::{Definition, Item};
use crate::contract;
use crate::json;
use crate::json::write::{object, text};
use crate::json::{JsonValue, ValuePath};
use crate::normalize::change::Change;
use crate::normalize::event::{
    Activity, Analytic, Check, Compliance, Event, FindingInfo, Fingerprint, RelatedEvent, Unmapped,
};
use crate::normalize::frame::{Frame, Own, SCORE_MODEL, delivered, line, line_within};
use crate::normalize::judgement::{Severity, Status};
use crate::normalize::subject::Subject;
use crate::number::Number;
use crate::settings::{Definitions, EventKind};

/// Bytes beyond which an event is cut: many pipelines refuse records over 64 KiB, and an envelope adds to the size.
pub const MAX_EVENT_BYTES: usize = 32 * 1024;

/// Names that this plugin adds to `unmapped`; a property of the service with one of these names gets another name.
const OWN_KEYS: [&str; 6] = ["name", "type", "score_model", "parent", "derived", "change"];

/// When a finding was first seen, last changed and last seen; known only with a state.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// When the finding was first seen, in Unix milliseconds.
    pub first_seen: u64,
    /// When the finding last changed, in Unix milliseconds.
    pub changed: u64,
    /// When the finding was last seen, in Unix milliseconds.
    pub last_seen: u64,
}

/// A finding that becomes an event.
#[derive(Debug)]
pub struct EmittedFinding<'a> {
    /// The subject of the finding.
    pub subject: Subject<'a>,
    /// The item that was read; `None` for a finding that is gone.
    pub item: Option<&'a Item<'a>>,
    /// The OCSF activity: the finding is new, changed, gone or unchanged.
    pub activity: Activity,
    /// The difference from the previous poll.
    pub change: Change,
    /// The latest earlier poll that could have reported the same, in Unix milliseconds; `None` without a state.
    pub start_time: Option<u64>,
    /// When the finding was seen and changed; `None` without a state.
    pub times: Option<Times>,
    /// Uid of the control's score.
    pub parent: Option<&'a str>,
    /// Maximum of the control's score.
    pub parent_max: Option<Decimal>,
    /// Uid and type of the score's own event in the same poll.
    pub parent_event: Option<RelatedEvent>,
}

/// Returns the uid of the event. Its content is the item, or for a finding that is gone the state's record of it.
pub fn uid(frame: &Frame<'_>, emitted: &EmittedFinding<'_>) -> String {
    match emitted.item {
        Some(item) => frame.event_uid(emitted.subject.uid, item.raw.get(), emitted.activity),
        None => frame.event_uid(emitted.subject.uid, &emitted.subject.detail(), emitted.activity),
    }
}

/// Returns the event, and whether it had to be cut.
pub fn event(frame: &Frame<'_>, emitted: &EmittedFinding<'_>) -> (contract::Event, bool) {
    let mut event = build(frame, emitted);
    match line_within(frame.schema(), &event, MAX_EVENT_BYTES) {
        Ok(whole) => return (delivered(&event, whole), false),
        Err(size) => event.metadata.untruncated_size = Some(size),
    }
    let cuts: [fn(&mut Event<'_>, &EmittedFinding<'_>); 5] = [
        |event, _| event.compliance.checks.clear(),
        |event, emitted| {
            event.raw_data = None;
            event.raw_data_hash = emitted.item.map(|item| Fingerprint::of(item.raw.get()));
        },
        |event, emitted| {
            event
                .unmapped
                .retain(|key, _| OWN_KEYS.contains(&key.as_ref()) || known_property(emitted.subject.kind, key))
        },
        // Any further excess is text of the definition, and unknown members of the service's `score`.
        |event, emitted| {
            event.finding_info.desc = None;
            event.finding_info.analytic = None;
            event.unmapped.remove("definition");
            event.unmapped.extend(spelled(&emitted.subject));
        },
        |event, emitted| {
            event.unmapped.insert(Cow::Borrowed("change"), Cow::Owned(text(&emitted.change.summed())));
        },
    ];
    for cut in cuts {
        cut(&mut event, emitted);
        if let Ok(cut) = line_within(frame.schema(), &event, MAX_EVENT_BYTES) {
            return (delivered(&event, cut), true);
        }
    }
    // The cuts leave no list of the service, so that only the length of a text could still exceed the limit.
    (delivered(&event, line(frame.schema(), &event)), true)
}

fn build<'a>(frame: &'a Frame<'a>, emitted: &'a EmittedFinding<'a>) -> Event<'a> {
    let subject = &emitted.subject;
    let definition = emitted
        .item
        .and_then(|item| item.definition.as_ref())
        .filter(|_| frame.settings.definitions != Definitions::None);
    let status = subject.status();
    let noun = match subject.kind {
        EventKind::Scores => "Secure Score",
        EventKind::Controls => "Secure Score Control",
    };
    let verdict = if emitted.activity == Activity::Close { "no longer reported" } else { status.pair().1 };
    let detail = subject.detail();
    let own = Own {
        message: format!("{noun} '{}': {verdict}. {detail}", subject.title),
        finding_info: FindingInfo {
            uid: subject.uid,
            title: format!("{noun}: {}", subject.title),
            desc: definition.and_then(|definition| definition.description.as_deref()),
            kind: subject.kind.title(),
            analytic: definition.and_then(analytic),
            related_event: emitted.parent_event.clone(),
            first_seen_time: emitted.times.map(|times| times.first_seen),
            created_time: emitted.times.map(|times| times.first_seen),
            modified_time: emitted.times.map(|times| times.changed),
            last_seen_time: emitted.times.map_or(frame.now(), |times| times.last_seen),
        },
        compliance: Compliance {
            control: Cow::Borrowed(&subject.title),
            standard: format!("Microsoft Defender for Cloud Secure Score ({})", subject.score_name()),
            status: status.pair(),
            checks: match definition.filter(|_| frame.settings.definitions == Definitions::Full) {
                Some(definition) => definition.assessments().map(|uid| Check { uid }).collect(),
                None => Vec::new(),
            },
        },
        unmapped: unmapped(frame, emitted, definition),
    };
    let mut event = frame.event(uid(frame, emitted), subject.kind, emitted.activity, severity(emitted), own);
    event.start_time = emitted.start_time;
    event.status = workflow_status(emitted.activity, status);
    event.status_detail = Some(detail);
    event.metadata.original_event_uid = Some(subject.id);
    event.metadata.event_code = Some(subject.resource_type);
    if let Some(text) = emitted.item.map(|item| item.raw.get()) {
        event.raw_data = frame.settings.raw.then_some(text);
        event.raw_data_size = Some(text.len());
        event.raw_data_hash = (!frame.settings.raw).then(|| Fingerprint::of(text));
    }
    event
}

/// A finding that is gone is not an alarm by itself.
fn severity(emitted: &EmittedFinding<'_>) -> Severity {
    if emitted.activity == Activity::Close { Severity::Informational } else { emitted.subject.severity() }
}

/// OCSF leaves `status` to the consumer's workflow: it is given where a finding begins or ends, and omitted otherwise.
fn workflow_status(activity: Activity, status: Status) -> Option<(u8, &'static str)> {
    Some(match (activity, status) {
        (Activity::Create, Status::Fail) => (1, "New"),
        (Activity::Create, Status::NotApplicable) => (99, "Not Applicable"),
        (Activity::Create, Status::Unknown) => (0, "Unknown"),
        (Activity::Create | Activity::Update, Status::Pass) => (4, "Resolved"),
        (Activity::Close, _) => (5, "Archived"),
        _ => return None,
    })
}

fn analytic<'a>(definition: &'a Definition<'a>) -> Option<Analytic<'a>> {
    // OCSF requires at least one of the two.
    (definition.name.is_some() || definition.display_name.is_some()).then_some(Analytic {
        uid: definition.name.as_deref(),
        name: definition.display_name.as_deref(),
        category: definition.source_type.as_deref(),
    })
}

/// Returns the service's numbers and unknown properties unchanged, and separately the values that this plugin derives.
fn unmapped<'a>(
    frame: &Frame<'_>,
    emitted: &'a EmittedFinding<'a>,
    definition: Option<&'a Definition<'a>>,
) -> Unmapped<'a> {
    let subject = &emitted.subject;
    let mut unmapped = Unmapped::new();
    match emitted.item {
        None => unmapped.extend(spelled(subject)),
        Some(item) => {
            for (key, value) in item.properties.iter() {
                if matches!(key, "displayName" | "definition") || value.is_null() {
                    continue;
                }
                let key = match OWN_KEYS.contains(&key) || frame.schema().reserves(key) {
                    true => Cow::Owned(format!("properties.{key}")),
                    false => Cow::Borrowed(key),
                };
                unmapped.insert(key, compact(value));
            }
            if let Ok(members) = json::Object::read(item.raw, &ValuePath::Root) {
                for (key, value) in
                    members.iter().filter(|(key, _)| !matches!(*key, "id" | "name" | "type" | "properties"))
                {
                    let prefix = if frame.schema().reserves(key) { "properties." } else { "" };
                    unmapped.entry(Cow::Owned(format!("{prefix}{key}"))).or_insert_with(|| compact(value));
                }
            }
            if let Some(definition) = definition {
                unmapped.insert(Cow::Borrowed("definition"), Cow::Owned(flattened(definition)));
            }
        }
    }
    unmapped.insert(Cow::Borrowed("name"), Cow::Owned(text(subject.name)));
    unmapped.insert(Cow::Borrowed("type"), Cow::Owned(text(subject.resource_type)));
    unmapped.insert(Cow::Borrowed("score_model"), Cow::Owned(text(SCORE_MODEL)));
    unmapped.insert(Cow::Borrowed("change"), Cow::Owned(text(&emitted.change)));
    if let Some(parent) = emitted.parent {
        unmapped.insert(Cow::Borrowed("parent"), Cow::Owned(text(parent)));
    }
    if subject.kind == EventKind::Controls
        && let Some(points_at_stake) = subject.points_at_stake()
    {
        let potential_increase_percent = emitted.parent_max.and_then(|max| percent(subject.points()?, max));
        let mut derived = Vec::new();
        object(&mut derived, |derived| {
            derived.member("points_at_stake", &points_at_stake);
            if let Some(percent) = potential_increase_percent {
                derived.foreign("potential_increase_percent", &percent);
            }
        });
        unmapped.insert(Cow::Borrowed("derived"), Cow::Owned(derived));
    }
    unmapped
}

/// Returns a value on one line, as bytes.
fn compact(value: JsonValue<'_>) -> Cow<'_, [u8]> {
    match json::compact(value) {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// Returns the share of the score that the missing points would add, in percent, rounded to two digits as in the
/// portal.
fn percent((current, max): (Decimal, Decimal), of: Decimal) -> Option<String> {
    let percent = max.checked_sub(current)?.checked_mul(Decimal::ONE_HUNDRED)?.checked_div(of)?;
    let percent = percent.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
    Some(percent.normalize().to_string())
}

/// Says whether the service's own specification names a property.
fn known_property(kind: EventKind, key: &str) -> bool {
    let counts = ["healthyResourceCount", "unhealthyResourceCount", "notApplicableResourceCount"];
    matches!(key, "score" | "weight") || (kind == EventKind::Controls && (counts.contains(&key) || key == "definition"))
}

/// Returns the members of a definition that no OCSF attribute carries: its own members and its properties, without the
/// list of assessments and the members that are in `analytic` and `desc`.
fn flattened(definition: &Definition<'_>) -> Vec<u8> {
    let mapped = ["assessmentDefinitions", "displayName", "description"];
    let members = definition.members.iter().filter(|(key, _)| !["id", "name", "type", "properties"].contains(key));
    let properties = definition.properties.iter().filter(|(key, _)| !mapped.contains(key));
    let members: BTreeMap<_, _> = members.chain(properties).collect();
    let mut out = Vec::new();
    object(&mut out, |object| {
        members.into_iter().for_each(|(key, value)| object.foreign(key, json::compact(value).as_ref()));
    });
    out
}

/// Returns the numbers of a subject with the service's names and exact spelling.
fn spelled(subject: &Subject<'_>) -> Unmapped<'static> {
    let mut unmapped = Unmapped::new();
    let mut insert = |key: &'static str, number: Option<Number<'_>>| {
        if let Some(number) = number {
            unmapped.insert(Cow::Borrowed(key), Cow::Owned(number.text().into()));
        }
    };
    insert("healthyResourceCount", subject.counts.healthy);
    insert("unhealthyResourceCount", subject.counts.unhealthy);
    insert("notApplicableResourceCount", subject.counts.not_applicable);
    if let Some(score) = subject.score {
        let members = [("current", score.current), ("max", score.max), ("percentage", score.percentage)];
        let mut out = Vec::new();
        object(&mut out, |object| {
            for (key, number) in members {
                if let Some(number) = number {
                    object.foreign(key, number.text());
                }
            }
        });
        unmapped.insert(Cow::Borrowed("score"), Cow::Owned(out));
    }
    unmapped
}
