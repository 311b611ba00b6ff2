//! The history of the scopes of an answer, read from the store.

use source_host::limits::{DAY, milliseconds};

use crate::limits;
use crate::overview::figures::{self, Average, FigureChange};
use crate::store::reading::{Sample, Series, StoreReader};
use crate::store::{Points, StoreError};

/// A course in percent: the value at the end of each of some days, and now.
pub type Course = Vec<Option<f64>>;

/// The history of the scopes of an answer.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The course of each tenant's average; empty if it was not asked for.
    pub tenants: Vec<Course>,
    /// The history of each row; that of a feed is empty.
    pub rows: Vec<RowHistory>,
}

/// The history of one scope.
#[derive(Debug, Clone, Default)]
pub struct RowHistory {
    /// The course of its figure.
    pub course: Course,
    /// The parts that do not reach their largest value, those with the most points at stake first: at most
    /// [`limits::PARTS_SHOWN`].
    pub failing: Vec<Part>,
    /// How many parts do not reach their largest value.
    pub failing_total: usize,
}

impl RowHistory {
    /// Changes all texts of the plugin, for example to remove secrets.
    pub fn clean(&mut self, clean: impl Fn(&str) -> String) {
        self.failing.iter_mut().for_each(|part| part.title = clean(&part.title));
    }
}

/// A part of a scope's figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Name for people.
    pub title: String,
    /// Its figure.
    pub points: Points,
    /// When the figure became what it is, in Unix milliseconds.
    pub since: u64,
}

impl Part {
    /// The points that the part lacks.
    pub fn at_stake(&self) -> f64 {
        self.points.maximum - self.points.value
    }
}

/// The history of one scope in full.
#[derive(Debug, Clone, Default)]
pub struct ScopeHistory {
    /// The course of its figure.
    pub course: Course,
    /// The first hours of its figure, as long as it has no value of an earlier day.
    pub beginning: Option<Beginning>,
    /// Its parts, those with the most points at stake first: at most [`limits::PARTS_SHOWN`].
    pub parts: Vec<Part>,
    /// How many parts it has.
    pub parts_total: usize,
    /// The last changes of its figure, the newest first.
    pub changes: Vec<FigureChange>,
}

/// The course in percent since the first figure, in equal spans of time up to now.
#[derive(Debug, Clone, PartialEq)]
pub struct Beginning {
    /// When the figure was first read, in Unix milliseconds.
    pub since: u64,
    /// The values.
    pub course: Course,
}

impl Beginning {
    /// Returns the course of samples, all of which are of the last day; otherwise, or without any, `None`.
    fn of(samples: &[Sample], now: u64) -> Option<Beginning> {
        let since = samples.first()?.time;
        let span = now.checked_sub(since)? / limits::BEGINNING_SPANS as u64;
        let course = figures::spaced(samples, limits::BEGINNING_SPANS, span, now);
        (span > 0 && since > begins(1, now)).then(|| Beginning { since, course: percents(course) })
    }
}

impl ScopeHistory {
    /// Changes all texts of the plugin, for example to remove secrets.
    pub fn clean(&mut self, clean: impl Fn(&str) -> String) {
        self.parts.iter_mut().for_each(|part| part.title = clean(&part.title));
        let changed = self.changes.iter_mut().flat_map(|change| &mut change.parts);
        changed.for_each(|(title, ..)| *title = clean(title));
    }
}

/// Reads the history of the rows of an answer, and of the scopes that count in each tenant's average. A row is named by
/// the ids of its feed and of its scope.
pub fn read(
    reader: &dyn StoreReader,
    rows: &[Option<(&str, &str)>],
    members: &[Vec<(String, String)>],
    days: usize,
    now: u64,
) -> Result<History, StoreError> {
    let since = begins(days, now);
    let mut history = History::default();
    for row in rows {
        let Some((feed, scope)) = row else {
            history.rows.push(RowHistory::default());
            continue;
        };
        let course = reader.figure(feed, scope, since)?.map_or_else(Vec::new, |series| course(&series, days, now));
        let mut failing = parts(&reader.parts(feed, scope, now)?);
        failing.retain(|part| part.at_stake() > 0.0);
        let failing_total = failing.len();
        failing.truncate(limits::PARTS_SHOWN);
        history.rows.push(RowHistory { course, failing, failing_total });
    }
    for members in members {
        // The samples of one scope are dropped before those of the next one are read.
        let mut averages = Vec::new();
        for (feed, scope) in members {
            if let Some(series) = reader.figure(feed, scope, since)? {
                averages.resize(days + 1, Average::default());
                figures::add_daily(&mut averages, &series.samples, now);
            }
        }
        history.tenants.push(averages.into_iter().map(Average::percent).collect());
    }
    Ok(history)
}

/// Reads the history of one scope in full.
pub fn of_scope(
    reader: &dyn StoreReader,
    feed: &str,
    scope: &str,
    days: usize,
    now: u64,
) -> Result<ScopeHistory, StoreError> {
    let since = begins(days, now);
    // A scope may have parts without a figure of the whole.
    let figure = reader.figure(feed, scope, since)?;
    let series = reader.parts(feed, scope, since)?;
    let samples = figure.as_ref().map_or(&[][..], |figure| &figure.samples);
    let changes = figures::changes(samples, &series, limits::CHANGES_TOLD);
    let mut parts = parts(&series);
    let parts_total = parts.len();
    parts.truncate(limits::PARTS_SHOWN);
    let beginning = Beginning::of(samples, now);
    let course = figure.map_or_else(Vec::new, |figure| course(&figure, days, now));
    Ok(ScopeHistory { course, beginning, parts, parts_total, changes })
}

fn begins(days: usize, now: u64) -> u64 {
    now.saturating_sub(days as u64 * milliseconds(DAY))
}

fn course(series: &Series, days: usize, now: u64) -> Course {
    percents(figures::daily(&series.samples, days, now))
}

fn percents(course: Vec<Option<Points>>) -> Course {
    course.into_iter().map(|points| points.and_then(figures::percent)).collect()
}

/// Returns the parts that a figure has now. A part without a largest value is not measured any more.
fn parts(series: &[Series]) -> Vec<Part> {
    let part = |series: &Series| {
        let Sample { time, points } = *series.samples.last().filter(|last| last.points.maximum != 0.0)?;
        Some(Part { title: series.title.clone(), points, since: time })
    };
    let mut parts: Vec<Part> = series.iter().filter_map(part).collect();
    parts.sort_by(|one, other| other.at_stake().total_cmp(&one.at_stake()).then_with(|| one.title.cmp(&other.title)));
    parts
}
