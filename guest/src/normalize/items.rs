//! The items of one poll, read from all its pages. Each must belong to the requested subscription and list, and each id
//! counts once.

use std::collections::BTreeSet;

use crate::api::{Item, Page};
use crate::contract::{self, Failure, Notice};
use crate::diagnoses::{ANSWER_FOREIGN, Diagnosis, ITEM_REPEATED};
use crate::json::{Document, Fault};
use crate::service_error;
use crate::settings::{EventKind, Settings};

/// A page of a requested list, read without its items.
#[derive(Debug)]
pub struct Source<'a> {
    kind: EventKind,
    page: &'a contract::Page,
    document: Result<Document<'a>, Fault>,
}

/// Returns the pages of all lists that the settings ask for, scores before controls.
pub fn sources<'a>(settings: &Settings, pages: &'a [contract::Page]) -> Vec<Source<'a>> {
    let of_kind =
        |kind: EventKind| pages.iter().filter(move |page| page.kind == kind.name()).map(move |page| (kind, page));
    let pages = settings.events.iter().copied().flat_map(of_kind);
    pages.map(|(kind, page)| Source { kind, page, document: Document::read(&page.body) }).collect()
}

/// Returns all items of all pages in the order of the pages. Each id appears once, because it names the finding.
pub fn read<'a>(
    settings: &Settings,
    subscription: &str,
    sources: &'a [Source<'a>],
    notices: &mut Vec<Notice>,
) -> Result<Vec<(EventKind, Item<'a>)>, Failure> {
    let mut items: Vec<(EventKind, Item<'a>)> = Vec::new();
    let mut uids = BTreeSet::new();
    for source in sources {
        for item in (SourceReader { settings, subscription, source }).items()? {
            if uids.insert(item.uid.clone()) {
                items.push((source.kind, item));
            } else {
                notices.push(ITEM_REPEATED.notice(&item.id));
            }
        }
    }
    Ok(items)
}

/// Reads a page as the answer to the request for it.
struct SourceReader<'a, 'b> {
    settings: &'b Settings,
    subscription: &'b str,
    source: &'a Source<'a>,
}

impl<'a> SourceReader<'a, '_> {
    fn items(&self) -> Result<Vec<Item<'a>>, Failure> {
        let document = self.source.document.as_ref().map_err(Fault::clone);
        let items = document.and_then(|document| Page::read(document)?.items());
        let items = items.map_err(|fault| self.failure(fault.diagnosis(), &fault.to_string()))?;
        for (index, item) in items.iter().enumerate() {
            self.check(index, item)?;
        }
        Ok(items)
    }

    /// Refuses an item that belongs to another subscription or list: its event would have a wrong name.
    fn check(&self, index: usize, item: &Item<'_>) -> Result<(), Failure> {
        let resource_type = self.source.kind.resource_type();
        let (key, found, expected) = if item.is_of(self.subscription) {
            let Some((key, found)) = item.astray(resource_type) else { return Ok(()) };
            (key, found, format!("one of {resource_type}"))
        } else {
            ("id", item.id.as_ref(), format!("an id below /subscriptions/{}", self.subscription))
        };
        let found = service_error::shown(found);
        Err(self.failure(&ANSWER_FOREIGN, &format!("`value[{index}].{key}`: found {found}, expected {expected}")))
    }

    fn failure(&self, diagnosis: &Diagnosis, why: &str) -> Failure {
        let failure = diagnosis.failure(&format!("{}: {why}", self.source.kind.list()));
        let fix = failure.fix.map(|fix| service_error::fill(&fix, self.settings, Some(self.subscription)));
        Failure { fix, request_id: self.source.page.request_id.clone(), ..failure }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contract::Reaction;

    const SUBSCRIPTION: &str = "20ff7fc3-e762-44dd-bd96-b71116dcdc23";
    const SCORE: &str =
        "/subscriptions/20ff7fc3-e762-44dd-bd96-b71116dcdc23/providers/Microsoft.Security/secureScores/ascScore";

    fn failure(kind: EventKind, items: &[(&str, &str)]) -> Option<Failure> {
        let items = items.iter().map(|(id, kind)| json!({ "id": id, "name": "n", "type": kind, "properties": {} }));
        let body = json!({ "value": items.collect::<Vec<_>>() }).to_string().into_bytes();
        let page = contract::Page { kind: kind.name().to_owned(), body, request_id: Some("a-request".to_owned()) };
        let (settings, pages) = (Settings::sample(), [page]);
        read(&settings, SUBSCRIPTION, &sources(&settings, &pages), &mut Vec::new()).err()
    }

    #[test]
    fn an_item_of_another_subscription_lets_nothing_through() {
        let scores = |ids: &[&str]| {
            let items: Vec<_> = ids.iter().map(|id| (*id, "Microsoft.Security/secureScores")).collect();
            failure(EventKind::Scores, &items)
        };
        let other = SCORE.replace("20ff7fc3", "00000000");
        assert_eq!(scores(&[SCORE, &SCORE.to_uppercase()]), None);
        let failure = scores(&[SCORE, &other]).unwrap();
        assert_eq!((failure.code.as_str(), failure.reaction), ("answer-foreign", Reaction::FixPlugin));
        assert_eq!(failure.request_id.as_deref(), Some("a-request"));
        assert!(failure.cause.contains(&format!("`value[1].id`: found {other}, expected")), "{}", failure.cause);
        assert!(failure.fix.is_some_and(|fix| fix.contains("https://management.azure.com")));
        assert_eq!(scores(&["x"]).unwrap().code, "answer-foreign");
    }

    #[test]
    fn an_item_of_another_list_lets_nothing_through() {
        let control = format!("{SCORE}/secureScoreControls/guid");
        let item = (control.as_str(), "Microsoft.Security/secureScores/secureScoreControls");
        assert_eq!(failure(EventKind::Controls, &[item]), None);
        let failure = failure(EventKind::Scores, &[item]).unwrap();
        assert_eq!((failure.code.as_str(), failure.reaction), ("answer-foreign", Reaction::FixPlugin));
        let words = "the list of secure scores: `value[0].type`: found \
                     Microsoft.Security/secureScores/secureScoreControls, expected one of Microsoft.Security/secureScores";
        assert!(failure.cause.ends_with(words), "{}", failure.cause);
    }
}
