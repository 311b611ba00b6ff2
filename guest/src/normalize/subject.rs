//! The subject of a finding: a score or a control, either just read or kept in the state since an earlier poll.

use std::borrow::Cow;

use rust_decimal::Decimal;

use crate::api::{Counts, Item, Score};
use crate::normalize::judgement::{self, Severity, Status};
use crate::normalize::state::KnownFinding;
use crate::number::{Exact, Number};
use crate::settings::EventKind;

/// The parts of a finding that both a fresh item and the state have.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// Score or control.
    pub kind: EventKind,
    /// The resource id in lower case, because ids of Azure ignore letter case. It stays the same from poll to poll.
    pub uid: &'a str,
    /// The resource id with the service's spelling.
    pub id: &'a str,
    /// Last segment of the id.
    pub name: &'a str,
    /// Resource type.
    pub resource_type: &'a str,
    /// The name for people; the resource's own name if the service gives no better one.
    pub title: Cow<'a, str>,
    /// Points.
    pub score: Option<Score<'a>>,
    /// Counts of resources.
    pub counts: Counts<'a>,
}

/// Characters beyond which titles are cut: the longest of Microsoft's own has 57.
pub const MAX_TITLE_CHARACTERS: usize = 256;

impl<'a> Subject<'a> {
    /// Makes the subject of a fresh item.
    pub fn of_item(kind: EventKind, item: &'a Item<'a>) -> Subject<'a> {
        Subject {
            kind,
            uid: &item.uid,
            id: &item.id,
            name: &item.name,
            resource_type: &item.kind,
            title: title(item),
            score: item.score,
            counts: item.counts,
        }
    }

    /// Makes the subject of a finding in the state; `None` for a kind that this version does not know.
    pub fn of_kept(uid: &'a str, kept: &'a KnownFinding) -> Option<Subject<'a>> {
        // An earlier version kept numbers that are too large to pass on.
        let number =
            |text: &'a Option<String>| text.as_deref().map(Number::spelled).filter(|number| number.is_within_range());
        let score =
            Score { max: number(&kept.max), current: number(&kept.current), percentage: number(&kept.percentage) };
        Some(Subject {
            kind: EventKind::named(&kept.kind)?,
            uid,
            id: &kept.id,
            name: &kept.name,
            resource_type: &kept.resource_type,
            title: Cow::Borrowed(&kept.title),
            score: (score.max.is_some() || score.current.is_some() || score.percentage.is_some()).then_some(score),
            counts: Counts {
                healthy: number(&kept.healthy),
                unhealthy: number(&kept.unhealthy),
                not_applicable: number(&kept.not_applicable),
            },
        })
    }

    /// Makes the state's record of a finding that was just seen.
    pub fn kept(&self, first_seen: u64, changed: u64, now: u64) -> KnownFinding {
        let text = |number: Option<Number<'_>>| number.map(|number| number.text().to_owned());
        KnownFinding {
            kind: self.kind.name().to_owned(),
            id: self.id.to_owned(),
            name: self.name.to_owned(),
            resource_type: self.resource_type.to_owned(),
            title: self.title.clone().into_owned(),
            max: text(self.score.and_then(|score| score.max)),
            current: text(self.score.and_then(|score| score.current)),
            percentage: text(self.score.and_then(|score| score.percentage)),
            healthy: text(self.counts.healthy),
            unhealthy: text(self.counts.unhealthy),
            not_applicable: text(self.counts.not_applicable),
            first_seen,
            changed,
            last_seen: now,
            absences: 0,
            closed: None,
        }
    }

    /// Returns the uid of the control's score.
    pub fn parent(&self) -> Option<&'a str> {
        let end = self.uid.find("/securescorecontrols/")?;
        (self.kind == EventKind::Controls && self.uid[..end].contains("/securescores/")).then_some(&self.uid[..end])
    }

    /// Returns the name of the score: its own, or the one in the id of a control.
    pub fn score_name(&self) -> &str {
        match self.kind {
            EventKind::Scores => self.name,
            EventKind::Controls => {
                let mut segments =
                    self.id.split('/').skip_while(|segment| !segment.eq_ignore_ascii_case("secureScores"));
                segments.nth(1).unwrap_or("unknown")
            }
        }
    }

    /// The OCSF status of the finding.
    pub fn status(&self) -> Status {
        judgement::status(self.kind, self.score.as_ref(), &self.counts)
    }

    /// The OCSF severity of the finding.
    pub fn severity(&self) -> Severity {
        judgement::severity(self.kind, self.status(), self.score.as_ref())
    }

    /// Current and maximum, if both are known.
    pub fn points(&self) -> Option<(Decimal, Decimal)> {
        judgement::points(self.score.as_ref())
    }

    /// Maximum minus current, exactly, if both are known.
    pub fn points_at_stake(&self) -> Option<Exact> {
        let score = self.score?;
        Exact::of(score.max?)?.minus(Exact::of(score.current?)?)
    }

    /// Describes the finding, for example
    /// `Score 23.53 of 39 (60.33 %); Resources: 1 healthy, 4 unhealthy, 0 not applicable`.
    pub fn detail(&self) -> String {
        let mut detail = match self.score.map(|score| (score.current, score.max, score.percentage)) {
            Some((Some(current), Some(max), percentage)) => {
                let percent =
                    percentage.and_then(Number::decimal).and_then(|ratio| ratio.checked_mul(Decimal::ONE_HUNDRED));
                let percent = percent.map(|percent| format!(" ({} %)", percent.normalize())).unwrap_or_default();
                format!("Score {} of {}{percent}", current.text(), max.text())
            }
            _ => "No score".to_owned(),
        };
        if let Counts { healthy: Some(healthy), unhealthy: Some(unhealthy), not_applicable } = self.counts {
            let not_applicable = not_applicable.map_or("0", Number::text);
            detail.push_str(&format!(
                "; Resources: {} healthy, {} unhealthy, {not_applicable} not applicable",
                healthy.text(),
                unhealthy.text()
            ));
        }
        detail
    }
}

/// The name of an item for people, cut where it is too long.
pub fn title<'a>(item: &'a Item<'_>) -> Cow<'a, str> {
    cut(item.display_name.as_deref().unwrap_or(&item.name))
}

fn cut(title: &str) -> Cow<'_, str> {
    match title.char_indices().nth(MAX_TITLE_CHARACTERS) {
        None => Cow::Borrowed(title),
        Some((end, _)) => Cow::Owned(title[..end].to_owned()),
    }
}
