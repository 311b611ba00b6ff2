//! Limits of a plugin's answers. A list, id or body beyond its limit ends the call, because cutting it would change its
//! meaning. Texts for people are cut, because nothing depends on them.

use std::collections::HashSet;

use super::bound::{Bound, LimitAmount};
use crate::contract::{
    Batch, Credential, Description, Discovery, Event, Failure, Measure, Notice, Path, Place, Plan, PollStep, Problem,
    Scope, Token,
};
use crate::limits::{
    ADDRESS_BYTES, CODE_BYTES, CREDENTIAL_USES, CURSOR_BYTES, ENTRIES, ID_BYTES, LATEST_TIME, Limits, NAME_BYTES,
    ORIGIN_BYTES, ORIGINS, PLUGIN_DATA_BYTES, PROBLEMS, SCHEMA_BYTES, WORDS_BYTES,
};
use crate::plugin::event;
use crate::text::{self, is_plain, plain};

/// The reason why an answer is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum AnswerFault {
    /// The answer exceeds this limit, whose value is given.
    Limit(Bound, LimitAmount),
    /// The contract does not allow the answer.
    Broken(String),
}

type Within = Result<(), AnswerFault>;

/// An answer that is checked against its limits.
pub trait BoundedAnswer {
    /// Cuts the answer's texts, and refuses the answer if it still exceeds a limit.
    fn hold(&mut self, limits: &Limits) -> Within;

    /// Approximate number of bytes that the check reads.
    fn read_bytes(&self) -> usize;
}

/// Number of bytes from which a check runs beside the runtime. The check of an ordinary poll is shorter, and a check of this
/// length takes ten milliseconds at most, whatever the answer contains.
pub(super) const LONG_ANSWER: usize = 256 << 10;

/// Bytes that an entry of a list counts for beside its content.
const ENTRY: usize = 64;

fn most(limit: Bound, found: usize, most: usize) -> Within {
    if found > most { Err(AnswerFault::Limit(limit, LimitAmount::count(most))) } else { Ok(()) }
}

fn bytes(limit: Bound, text: &str, bytes: usize) -> Within {
    if text.len() > bytes { Err(AnswerFault::Limit(limit, LimitAmount::bytes(bytes))) } else { Ok(()) }
}

fn cut(text: &mut String, bytes: usize) {
    let kept = text::cut(text, bytes).len();
    if kept < text.len() {
        text.truncate(kept);
        text.shrink_to_fit();
    }
    if !is_plain(text) {
        *text = plain(text);
    }
}

/// Checks an id: every byte of it counts, and people see it.
fn id(limit: Bound, text: &str) -> Within {
    exact(limit, text, ID_BYTES)
}

/// Checks a text of which every byte counts and which people see: control characters could rewrite a page that somebody
/// signs.
fn exact(limit: Bound, text: &str, most: usize) -> Within {
    bytes(limit, text, most)?;
    if is_plain(text) { Ok(()) } else { broken(format!("{limit} has control characters")) }
}

fn broken(words: String) -> Within {
    Err(AnswerFault::Broken(words))
}

/// An id, cut for an error message about it.
fn shown(id: &str) -> &str {
    text::cut(id, 64)
}

impl<T: BoundedAnswer, E: BoundedAnswer> BoundedAnswer for Result<T, E> {
    fn hold(&mut self, limits: &Limits) -> Within {
        match self {
            Ok(answer) => answer.hold(limits),
            Err(answer) => answer.hold(limits),
        }
    }

    fn read_bytes(&self) -> usize {
        match self {
            Ok(answer) => answer.read_bytes(),
            Err(answer) => answer.read_bytes(),
        }
    }
}

impl<T: BoundedAnswer> BoundedAnswer for Option<T> {
    fn hold(&mut self, limits: &Limits) -> Within {
        self.as_mut().map_or(Ok(()), |answer| answer.hold(limits))
    }

    fn read_bytes(&self) -> usize {
        self.as_ref().map_or(0, BoundedAnswer::read_bytes)
    }
}

impl BoundedAnswer for Description {
    fn hold(&mut self, _: &Limits) -> Within {
        let Description { name, version, events, settings_schema, credentials, diagnoses, .. } = self;
        let Description { interval_seconds: _, refresh_seconds: _, response_headers, identifiers, .. } = self;
        id(Bound::PluginName, name)?;
        id(Bound::PluginVersion, version)?;
        bytes(Bound::SchemaOfSettings, settings_schema, SCHEMA_BYTES)?;
        if !text::is_plain_json(settings_schema) {
            return broken("the schema of the settings has control characters".to_owned());
        }
        let lists = [events.len(), credentials.len(), diagnoses.len(), response_headers.len(), identifiers.len()];
        most(Bound::EntriesOfList, lists.into_iter().max().unwrap_or_default(), ENTRIES)?;
        for kind in events {
            id(Bound::KindOfEvent, &kind.name)?;
            cut(&mut kind.title, NAME_BYTES);
            most(Bound::ClassesOfKindOfEvent, kind.class_uids.len(), ENTRIES)?;
        }
        credentials.iter().try_for_each(|one| id(Bound::NameOfSetting, &one.setting))?;
        response_headers.iter().try_for_each(|name| id(Bound::NameOfHeader, name))?;
        identifiers.iter().try_for_each(|one| id(Bound::NameOfIdentifier, &one.name))?;
        for row in diagnoses {
            id(Bound::Code, &row.code)?;
            cut(&mut row.cause, WORDS_BYTES);
            cut(&mut row.fix, WORDS_BYTES);
        }
        Ok(())
    }

    fn read_bytes(&self) -> usize {
        let entries = self.events.len() + self.credentials.len() + self.response_headers.len() + self.identifiers.len();
        self.settings_schema.len() + entries * ENTRY + self.diagnoses.iter().map(|row| row.cause.len()).sum::<usize>()
    }
}

impl BoundedAnswer for Plan {
    fn hold(&mut self, limits: &Limits) -> Within {
        most(Bound::ShapesOfRequests, self.shapes.len(), ENTRIES)?;
        for shape in &self.shapes {
            let (Path::Exact(path) | Path::Prefix(path)) = &shape.path;
            exact(Bound::Method, &shape.method, CODE_BYTES)?;
            exact(Bound::Origin, &shape.origin, ORIGIN_BYTES)?;
            exact(Bound::Path, path, ADDRESS_BYTES)?;
            exact(Bound::SealedKey, shape.captures.as_deref().unwrap_or_default(), CODE_BYTES)?;
            most(Bound::CredentialsOnShape, shape.credentials.len(), CREDENTIAL_USES)?;
            for used in &shape.credentials {
                if let Credential::Setting(setting) | Credential::Assertion(setting) = &used.credential {
                    exact(Bound::NameOfSetting, setting, CODE_BYTES)?;
                }
                if let Place::FormField(name) | Place::Header(name) = &used.place {
                    exact(Bound::PlaceOnRequest, name, CODE_BYTES)?;
                }
            }
        }
        // The host parses each origin.
        let origins: HashSet<&str> = self.shapes.iter().map(|shape| shape.origin.as_str()).collect();
        most(Bound::OriginsOfPlan, origins.len(), ORIGINS)?;
        self.warnings.hold(limits)
    }

    fn read_bytes(&self) -> usize {
        let path = |path: &Path| match path {
            Path::Exact(path) | Path::Prefix(path) => path.len(),
        };
        let shapes = self.shapes.iter().map(|shape| shape.origin.len() + path(&shape.path) + ENTRY);
        shapes.sum::<usize>() + self.warnings.read_bytes()
    }
}

impl BoundedAnswer for Vec<Problem> {
    fn hold(&mut self, _: &Limits) -> Within {
        self.truncate(PROBLEMS);
        for Problem { setting, found, expected } in self {
            cut(setting, NAME_BYTES);
            cut(found, WORDS_BYTES);
            cut(expected, WORDS_BYTES);
        }
        Ok(())
    }

    fn read_bytes(&self) -> usize {
        self.iter().map(|problem| problem.found.len() + problem.expected.len()).sum()
    }
}

impl BoundedAnswer for Token {
    fn hold(&mut self, _: &Limits) -> Within {
        // The host accepts a token only if it is one of its own placeholders.
        Ok(())
    }

    fn read_bytes(&self) -> usize {
        0
    }
}

impl BoundedAnswer for Discovery {
    fn hold(&mut self, limits: &Limits) -> Within {
        most(Bound::ScopesOfDiscovery, self.scopes.len() + self.skipped.len(), limits.scopes)?;
        self.scopes.iter_mut().try_for_each(scope)?;
        for skipped in &mut self.skipped {
            scope(&mut skipped.scope)?;
            skipped.reason.hold(limits)?;
        }
        let skipped = self.skipped.iter().map(|skipped| &skipped.scope);
        let kept = self.scopes.iter().chain(skipped).map(|scope| of_texts(scope) + scope.plugin_data.len());
        if kept.sum::<usize>() > limits.scope_bytes {
            return Err(AnswerFault::Limit(Bound::BytesOfScopes, LimitAmount::bytes(limits.scope_bytes)));
        }
        // Of two scopes with one id, the second is dropped: both would write the same state.
        let mut seen = HashSet::new();
        self.scopes.retain(|scope| seen.insert(scope.id.clone()));
        self.skipped.retain(|skipped| seen.insert(skipped.scope.id.clone()));
        notices(&mut self.notices, limits)
    }

    fn read_bytes(&self) -> usize {
        let skipped = self.skipped.iter().map(|skipped| of_scope(&skipped.scope) + skipped.reason.read_bytes());
        self.scopes.iter().map(of_scope).chain(skipped).sum::<usize>() + of_notices(&self.notices)
    }
}

fn scope(Scope { id, name, owner, plugin_data }: &mut Scope) -> Within {
    self::id(Bound::IdOfScope, id)?;
    self::id(Bound::OwnerOfScope, owner.as_deref().unwrap_or_default())?;
    bytes(Bound::PluginDataOfScope, plugin_data, PLUGIN_DATA_BYTES)?;
    if let Some(name) = name {
        cut(name, NAME_BYTES);
    }
    Ok(())
}

fn of_scope(scope: &Scope) -> usize {
    of_texts(scope) + ENTRY
}

fn of_texts(scope: &Scope) -> usize {
    let texts = [&scope.name, &scope.owner].into_iter().flatten().map(String::len);
    scope.id.len() + texts.sum::<usize>()
}

fn of_notices(notices: &[Notice]) -> usize {
    notices.iter().map(|notice| notice.message.len() + ENTRY).sum()
}

fn notices(notices: &mut [Notice], limits: &Limits) -> Within {
    most(Bound::Notices, notices.len(), limits.notices)?;
    for Notice { code, message } in notices {
        cut(code, CODE_BYTES);
        cut(message, WORDS_BYTES);
    }
    Ok(())
}

impl BoundedAnswer for PollStep {
    fn hold(&mut self, limits: &Limits) -> Within {
        most(Bound::Pages, self.pages.len(), limits.pages)?;
        for page in &mut self.pages {
            id(Bound::KindOfEvent, &page.kind)?;
            cut(page.request_id.as_mut().unwrap_or(&mut String::new()), CODE_BYTES);
        }
        if self.pages.iter().map(|page| page.body.len()).sum::<usize>() > limits.page_bytes {
            return Err(AnswerFault::Limit(Bound::PagesOfPoll, LimitAmount::bytes(limits.page_bytes)));
        }
        bytes(Bound::Cursor, self.next.as_deref().unwrap_or_default(), CURSOR_BYTES)?;
        notices(&mut self.notices, limits)
    }

    fn read_bytes(&self) -> usize {
        self.pages.len() * ENTRY + of_notices(&self.notices)
    }
}

impl BoundedAnswer for Failure {
    fn hold(&mut self, _: &Limits) -> Within {
        cut(&mut self.code, CODE_BYTES);
        cut(&mut self.cause, WORDS_BYTES);
        for (text, bytes) in
            [(&mut self.fix, WORDS_BYTES), (&mut self.service_code, CODE_BYTES), (&mut self.request_id, CODE_BYTES)]
        {
            if let Some(text) = text {
                cut(text, bytes);
            }
        }
        Ok(())
    }

    fn read_bytes(&self) -> usize {
        self.code.len() + self.cause.len() + self.fix.as_ref().map_or(0, String::len)
    }
}

impl BoundedAnswer for Batch {
    fn hold(&mut self, limits: &Limits) -> Within {
        most(Bound::EventsOfPoll, self.events.len(), limits.events)?;
        most(Bound::FiguresOfPoll, self.measures.len(), limits.events)?;
        if self.state.len() > limits.state_bytes {
            return Err(AnswerFault::Limit(Bound::State, LimitAmount::bytes(limits.state_bytes)));
        }
        self.events.iter().try_for_each(|one| event(one, limits))?;
        let mut seen = HashSet::new();
        if let Some(twice) = self.events.iter().find(|event| !seen.insert(event.uid.as_str())) {
            return broken(format!("two events have the uid {}", shown(&twice.uid)));
        }
        self.measures.iter_mut().try_for_each(measure)?;
        self.outcome.hold(limits)?;
        notices(&mut self.notices, limits)
    }

    fn read_bytes(&self) -> usize {
        let measures = self.measures.iter().map(|one| one.subject.len() + one.title.len() + ENTRY);
        let events = self.events.iter().map(|event| event.uid.len() + event.body.len());
        measures.chain(events).sum::<usize>() + self.outcome.read_bytes() + of_notices(&self.notices)
    }
}

/// Checks an event: a body that is not a line of JSON would break every reader behind this host.
fn event(Event { uid, time_milliseconds, body }: &Event, limits: &Limits) -> Within {
    id(Bound::UidOfEvent, uid)?;
    if body.len() > limits.event_bytes {
        return Err(AnswerFault::Limit(Bound::OneEvent, LimitAmount::bytes(limits.event_bytes)));
    }
    if *time_milliseconds > LATEST_TIME {
        return broken(format!("event {} is of a time after the year 9999", shown(uid)));
    }
    event::judge(uid, body).or_else(|why| {
        broken(format!(
            "event {} is not one JSON object on one line that all readers understand in the same way: {why}",
            shown(uid)
        ))
    })
}

fn measure(one: &mut Measure) -> Within {
    id(Bound::KindOfEvent, &one.kind)?;
    id(Bound::SubjectOfFigure, &one.subject)?;
    cut(&mut one.title, NAME_BYTES);
    if [one.value, one.maximum, one.weight].iter().all(|figure| figure.is_finite()) {
        return Ok(());
    }
    broken(format!("the figure of {} is not a number", shown(&one.subject)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{CredentialKind, DeclaredCredential, Diagnosis, EventKind};

    #[test]
    fn a_description_has_its_limits() {
        let description = || Description::with_schema("{}");
        let code = |code: &str| Diagnosis { code: code.to_owned(), cause: String::new(), fix: String::new() };
        let credential = |setting: String| DeclaredCredential { setting, kind: CredentialKind::Secret };
        let kind =
            |classes: usize| EventKind { name: String::new(), title: String::new(), class_uids: vec![1; classes] };
        let held = |mut one: Description| one.hold(&Limits::default());
        let limit = |name, value: LimitAmount| Err(AnswerFault::Limit(name, value));
        for (within, beyond, refusal) in [
            (
                Description { settings_schema: " ".repeat(SCHEMA_BYTES), ..description() },
                Description { settings_schema: " ".repeat(SCHEMA_BYTES + 1), ..description() },
                limit(Bound::SchemaOfSettings, LimitAmount::bytes(SCHEMA_BYTES)),
            ),
            (
                Description { diagnoses: vec![code(""); ENTRIES], ..description() },
                Description { diagnoses: vec![code(""); ENTRIES + 1], ..description() },
                limit(Bound::EntriesOfList, LimitAmount::count(ENTRIES)),
            ),
            (
                Description { events: vec![kind(ENTRIES)], ..description() },
                Description { events: vec![kind(ENTRIES + 1)], ..description() },
                limit(Bound::ClassesOfKindOfEvent, LimitAmount::count(ENTRIES)),
            ),
            (
                Description { credentials: vec![credential("x".repeat(ID_BYTES))], ..description() },
                Description { credentials: vec![credential("x".repeat(ID_BYTES + 1))], ..description() },
                limit(Bound::NameOfSetting, LimitAmount::bytes(ID_BYTES)),
            ),
        ] {
            assert_eq!((held(within), held(beyond)), (Ok(()), refusal));
        }
    }
}
