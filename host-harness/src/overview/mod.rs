//! Questions of people about all scopes, and the choice of the scopes that answer them. The status page and `status` make the
//! same choice, the one among the scopes of a running collector, the other among those of its store.

pub mod figures;
pub mod history;

use std::collections::HashMap;
use std::ops::Range;

use source_host::contract::{Failure, Reaction};

use crate::limits;
use crate::overview::figures::Average;
use crate::store::Points;

/// The state of a scope or a feed, in the order in which people should look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Only a person can mend it.
    Person,
    /// It fails, and the collector tries again.
    Failing,
    /// There is nothing to collect.
    Empty,
    /// Data is collected.
    Collected,
}

impl Condition {
    /// All states, in their order.
    pub const ALL: [Condition; 4] = [Condition::Person, Condition::Failing, Condition::Empty, Condition::Collected];

    /// The state that follows from the reason why there is no data.
    pub fn of(failure: Option<&Failure>) -> Condition {
        match failure.map(|failure| failure.reaction) {
            None => Condition::Collected,
            Some(Reaction::NoData) => Condition::Empty,
            Some(Reaction::FixFeed | Reaction::FixScope | Reaction::FixPlugin | Reaction::StateUnusable) => {
                Condition::Person
            }
            Some(Reaction::Wait | Reaction::TryLater | Reaction::RenewToken | Reaction::Restart) => Condition::Failing,
        }
    }

    /// The word in a query.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Person => "needs-person",
            Condition::Failing => "failing",
            Condition::Empty => "no-data",
            Condition::Collected => "collected",
        }
    }

    /// The words for people.
    pub fn title(self) -> &'static str {
        match self {
            Condition::Person => "needs a person",
            Condition::Failing => "fails, is tried again",
            Condition::Empty => "no data",
            Condition::Collected => "collected",
        }
    }
}

/// The order of tenants, and of the scopes of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Those that need somebody first, then by score.
    #[default]
    Attention,
    /// The lowest score first.
    Score,
    /// By name.
    Name,
    /// The tenants with the most scopes first.
    Size,
}

impl Order {
    /// All orders.
    pub const ALL: [Order; 4] = [Order::Attention, Order::Score, Order::Name, Order::Size];

    /// The word in a query.
    pub fn word(self) -> &'static str {
        match self {
            Order::Attention => "attention",
            Order::Score => "score",
            Order::Name => "name",
            Order::Size => "size",
        }
    }

    /// The words for people.
    pub fn title(self) -> &'static str {
        match self {
            Order::Attention => "needs somebody first",
            Order::Score => "lowest score first",
            Order::Name => "by name",
            Order::Size => "most scopes first",
        }
    }
}

/// The part of everything that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Extent {
    /// All tenants.
    #[default]
    Tenants,
    /// One tenant.
    Tenant(String),
    /// One scope, by the ids of its feed and of itself.
    Scope(String, String),
    /// Every scope and every feed that fails, without tenants: at most so many.
    Rows(usize),
}

/// A question about all scopes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// The part that is asked for.
    pub view: Extent,
    /// A part of the tenant's id; empty for all.
    pub find: String,
    /// The only state that counts, if one is given.
    pub state: Option<Condition>,
    /// The order.
    pub order: Order,
    /// Number of the page, from 0.
    pub page: usize,
}

/// A scope, or a feed that fails as a whole.
#[derive(Debug, Clone)]
pub struct ListedScope<'a> {
    /// Id of the tenant.
    pub tenant: &'a str,
    /// Id of the feed.
    pub feed: &'a str,
    /// Id of the scope; `None` for a feed.
    pub scope: Option<&'a str>,
    /// Name of the scope for people, where it has one.
    pub name: Option<&'a str>,
    /// The state.
    pub state: Condition,
    /// The figure that counts in an average.
    pub figure: Option<Points>,
}

/// Returns the figure of a scope if it counts in an average. The figure of a scope without data, or of one that a person
/// must mend or take out first (lost, disabled, not found, refused), is out of date. That of a scope whose feed fails, or
/// that is tried again, counts.
pub fn counted(figure: Option<Points>, failure: Option<&Failure>) -> Option<Points> {
    let is_gone = failure.is_some_and(|failure| matches!(failure.reaction, Reaction::NoData | Reaction::FixScope));
    figure.filter(|_| !is_gone)
}

impl ListedScope<'_> {
    fn percent(&self) -> f64 {
        self.figure.and_then(figures::percent).unwrap_or(f64::INFINITY)
    }

    /// The name by which scopes are sorted.
    fn called(&self) -> &str {
        self.name.or(self.scope).unwrap_or_default()
    }
}

/// The number of scopes and feeds in each state, in the order of [`Condition::ALL`].
pub type ConditionCounts = [usize; Condition::ALL.len()];

/// The answer to a question: numbers of candidates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// The number of candidates in each state, whatever is asked for.
    pub counts: ConditionCounts,
    /// The candidates to show. The first ones need somebody.
    pub rows: Vec<usize>,
    /// How many rows at the beginning need somebody.
    pub attention: usize,
    /// How many candidates need somebody.
    pub attention_total: usize,
    /// How many of these only a person can mend.
    pub person_total: usize,
    /// The tenants of the page.
    pub tenants: Vec<TenantChoice>,
    /// How many tenants fit the question.
    pub tenants_total: usize,
    /// Number of the page, from 0, and of all pages.
    pub page: (usize, usize),
}

/// A tenant of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TenantChoice {
    /// Id of the tenant.
    pub tenant: String,
    /// The number of its scopes and failing feeds in each state.
    pub counts: ConditionCounts,
    /// The weighted average of its scopes, in percent.
    pub score: Option<f64>,
    /// The rows of the answer that are its scopes.
    pub shown: Range<usize>,
    /// How many of its scopes fit the question.
    pub matching: usize,
    /// The candidates that count in its average; empty if they are too many to read their history.
    pub members: Vec<usize>,
}

/// The sums of a tenant while the candidates are counted.
struct Sums<'a> {
    tenant: &'a str,
    counts: ConditionCounts,
    matching: usize,
    average: Average,
    averaged: usize,
}

/// Chooses the candidates that answer a question. Takes time for each candidate, and memory for each tenant and for the
/// rows of one page.
pub fn choose(candidates: &[ListedScope<'_>], query: &Query) -> Choice {
    let mut choice = Choice::default();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut tenants: Vec<Sums<'_>> = Vec::new();
    let find = query.find.to_lowercase();
    let in_view = |candidate: &ListedScope<'_>| match &query.view {
        Extent::Tenants => find.is_empty() || candidate.tenant.contains(&find),
        Extent::Tenant(tenant) => candidate.tenant == tenant,
        Extent::Scope(feed, scope) => candidate.feed == feed && candidate.scope == Some(scope),
        Extent::Rows(_) => false,
    };
    let fits = |candidate: &ListedScope<'_>| query.state.is_none_or(|state| state == candidate.state);
    let mut attention = Vec::new();
    for (number, candidate) in candidates.iter().enumerate() {
        choice.counts[candidate.state as usize] += 1;
        if matches!(candidate.state, Condition::Person | Condition::Failing)
            && (matches!(query.view, Extent::Tenants | Extent::Rows(_)) || in_view(candidate))
        {
            attention.push(number);
        }
        if !in_view(candidate) {
            continue;
        }
        let tenant = *numbers.entry(candidate.tenant).or_insert_with(|| {
            tenants.push(Sums {
                tenant: candidate.tenant,
                counts: ConditionCounts::default(),
                matching: 0,
                average: Average::default(),
                averaged: 0,
            });
            tenants.len() - 1
        });
        let sums = &mut tenants[tenant];
        sums.counts[candidate.state as usize] += 1;
        sums.matching += usize::from(fits(candidate));
        if let Some(points) = candidate.figure {
            sums.average.add(points);
            sums.averaged += 1;
        }
    }
    let key = |number: &usize| {
        let candidate = &candidates[*number];
        (candidate.state, candidate.tenant, candidate.feed, candidate.called())
    };
    if let Extent::Rows(most) = query.view {
        choice.rows = (0..candidates.len()).collect();
        choice.rows.sort_by_key(|number| (candidates[*number].state == Condition::Collected, key(number)));
        choice.rows.truncate(most);
        return choice;
    }
    attention.sort_by_key(key);
    choice.attention_total = attention.len();
    choice.person_total = attention.partition_point(|number| candidates[*number].state == Condition::Person);
    attention.truncate(limits::STATUS_ROWS);
    choice.attention = attention.len();
    choice.rows = attention;

    tenants.retain(|sums| sums.matching > 0 || matches!(query.view, Extent::Tenant(_)));
    let score = |sums: &Sums<'_>| sums.average.percent().unwrap_or(f64::INFINITY);
    match query.order {
        Order::Attention => tenants.sort_by(|one, other| {
            let needs = |sums: &Sums<'_>| std::cmp::Reverse(sums.counts[0]);
            needs(one).cmp(&needs(other)).then(score(one).total_cmp(&score(other))).then(one.tenant.cmp(other.tenant))
        }),
        Order::Score => {
            tenants.sort_by(|one, other| score(one).total_cmp(&score(other)).then(one.tenant.cmp(other.tenant)));
        }
        Order::Name => tenants.sort_by_key(|sums| sums.tenant),
        Order::Size => tenants.sort_by_key(|sums| (std::cmp::Reverse(sums.counts.iter().sum::<usize>()), sums.tenant)),
    }
    choice.tenants_total = tenants.len();
    let is_one = !matches!(query.view, Extent::Tenants);
    let (on_page, scopes) = match is_one {
        true => (1, limits::STATUS_SCOPES),
        false => (limits::STATUS_TENANTS, limits::STATUS_SCOPES_OF_TENANT),
    };
    let all = match is_one {
        true => tenants.first().map_or(0, |sums| sums.matching).div_ceil(scopes),
        false => tenants.len().div_ceil(on_page),
    }
    .max(1);
    let page = query.page.min(all - 1);
    choice.page = (page, all);
    let (skipped, skipped_scopes) = if is_one { (0, page * scopes) } else { (page * on_page, 0) };
    let histories = if is_one { limits::TENANT_HISTORIES } else { limits::STATUS_HISTORIES };

    let page_of: HashMap<&str, usize> =
        tenants.iter().skip(skipped).take(on_page).enumerate().map(|(place, sums)| (sums.tenant, place)).collect();
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); page_of.len()];
    let mut shown: Vec<Vec<usize>> = vec![Vec::new(); page_of.len()];
    for (number, candidate) in candidates.iter().enumerate() {
        let Some(place) = page_of.get(candidate.tenant).filter(|_| in_view(candidate)) else { continue };
        if candidate.figure.is_some() {
            members[*place].push(number);
        }
        if fits(candidate) {
            shown[*place].push(number);
        }
    }
    for ((sums, mut shown), members) in tenants.iter().skip(skipped).zip(shown).zip(members) {
        match query.order {
            Order::Attention => shown.sort_by(|one, other| {
                let (one_row, other_row) = (&candidates[*one], &candidates[*other]);
                let by_score = one_row.percent().total_cmp(&other_row.percent());
                one_row.state.cmp(&other_row.state).then(by_score).then(key(one).cmp(&key(other)))
            }),
            Order::Score => shown.sort_by(|one, other| {
                let by_score = candidates[*one].percent().total_cmp(&candidates[*other].percent());
                by_score.then(key(one).cmp(&key(other)))
            }),
            Order::Name | Order::Size => shown.sort_by_key(|number| (candidates[*number].called(), key(number))),
        }
        let first = choice.rows.len();
        choice.rows.extend(shown.into_iter().skip(skipped_scopes).take(scopes));
        choice.tenants.push(TenantChoice {
            tenant: sums.tenant.to_owned(),
            counts: sums.counts,
            score: sums.average.percent(),
            shown: first..choice.rows.len(),
            matching: sums.matching,
            members: if members.len() > histories { Vec::new() } else { members },
        });
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(value: f64, maximum: f64, weight: f64) -> Option<Points> {
        Some(Points { value, maximum, weight })
    }

    fn candidate<'a>(tenant: &'a str, scope: &'a str, state: Condition, figure: Option<Points>) -> ListedScope<'a> {
        ListedScope { tenant, feed: "feed", scope: Some(scope), name: None, state, figure }
    }

    /// Returns the tenants of an answer, each with the scopes that are shown.
    fn told(candidates: &[ListedScope<'_>], query: &Query) -> Vec<String> {
        let choice = choose(candidates, query);
        let scopes = |tenant: &TenantChoice| {
            let scopes = choice.rows[tenant.shown.clone()].iter().map(|number| candidates[*number].called());
            format!("{}: {}", tenant.tenant, scopes.collect::<Vec<_>>().join(" "))
        };
        choice.tenants.iter().map(scopes).collect()
    }

    #[test]
    fn who_needs_somebody_comes_first_and_then_the_lowest_score() {
        let all = [
            candidate("a", "high", Condition::Collected, points(9.0, 10.0, 1.0)),
            candidate("a", "low", Condition::Collected, points(1.0, 10.0, 1.0)),
            candidate("b", "bad", Condition::Collected, points(2.0, 10.0, 1.0)),
            candidate("c", "refused", Condition::Person, points(9.0, 10.0, 1.0)),
            candidate("c", "unused", Condition::Empty, None),
        ];
        assert_eq!(told(&all, &Query::default()), ["c: refused unused", "b: bad", "a: low high"]);
        let of = |order| told(&all, &Query { order, ..Query::default() });
        assert_eq!(of(Order::Score), ["b: bad", "a: low high", "c: refused unused"]);
        assert_eq!(of(Order::Name), ["a: high low", "b: bad", "c: refused unused"]);
        assert_eq!(of(Order::Size), ["a: high low", "c: refused unused", "b: bad"]);
        let state = Query { state: Some(Condition::Empty), ..Query::default() };
        assert_eq!(told(&all, &state), ["c: unused"]);
        assert_eq!(told(&all, &Query { find: "B".to_owned(), ..Query::default() }), ["b: bad"]);
        let choice = choose(&all, &Query::default());
        assert_eq!((choice.counts, choice.attention, choice.attention_total), ([1, 0, 1, 3], 1, 1));
        assert_eq!(choice.tenants[0].score, Some(90.0));
        let one = choose(&all, &Query { view: Extent::Scope("feed".to_owned(), "low".to_owned()), ..Query::default() });
        assert_eq!((one.rows, one.attention), (vec![1], 0));
    }

    #[test]
    fn a_figure_that_is_out_of_date_does_not_count() {
        let figure = points(1.0, 2.0, 1.0);
        for (reaction, counts) in [
            (Reaction::NoData, false),
            (Reaction::FixScope, false),
            (Reaction::FixFeed, true),
            (Reaction::TryLater, true),
        ] {
            let failure = Failure::new(reaction, "code", String::new());
            assert_eq!(counted(figure, Some(&failure)).is_some(), counts, "{reaction:?}");
        }
        assert_eq!(counted(figure, None), figure);
    }

    #[test]
    fn an_answer_is_bounded_however_much_there_is() {
        let ids: Vec<(String, String)> =
            (0..30_000).map(|n| (format!("t{:04}", n / 100), format!("s{n:05}"))).collect();
        let failing = |n: usize| match n {
            _ if n.is_multiple_of(3) => Condition::Person,
            _ if n.is_multiple_of(5) => Condition::Failing,
            _ => Condition::Collected,
        };
        let all: Vec<ListedScope<'_>> = ids
            .iter()
            .enumerate()
            .map(|(number, (tenant, scope))| candidate(tenant, scope, failing(number), points(1.0, 2.0, 1.0)))
            .collect();
        let choice = choose(&all, &Query { order: Order::Name, page: 2, ..Query::default() });
        assert_eq!(
            (choice.attention, choice.attention_total, choice.person_total),
            (limits::STATUS_ROWS, 14_000, 10_000)
        );
        assert_eq!((choice.page, choice.tenants_total), ((2, 12), 300));
        assert_eq!(choice.tenants.len(), limits::STATUS_TENANTS);
        assert_eq!(choice.tenants[0].tenant, "t0050");
        assert_eq!(choice.tenants[0].shown.len(), limits::STATUS_SCOPES_OF_TENANT);
        assert_eq!((choice.tenants[0].matching, choice.tenants[0].members.len()), (100, 100));
        let beyond = choose(&all, &Query { page: usize::MAX, ..Query::default() });
        assert_eq!(beyond.page, (11, 12));
        let tenant = Query { view: Extent::Tenant("t0007".to_owned()), ..Query::default() };
        assert_eq!(choose(&all, &tenant).tenants[0].shown.len(), 100);
        assert_eq!(choose(&all, &Query { view: Extent::Rows(7), ..Query::default() }).rows.len(), 7);
        let unknown = Query { view: Extent::Tenant("nobody".to_owned()), ..Query::default() };
        assert!(choose(&all, &unknown).tenants.is_empty());
    }
}
