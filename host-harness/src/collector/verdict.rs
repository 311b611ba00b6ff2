//! The consequences of a search for each scope of a feed. The decision is made here for both the collector and a single
//! poll with a state, which carry it out.

use std::collections::BTreeSet;
use std::sync::Arc;

use source_host::contract::{Discovery, Failure, Reaction, Scope};
use source_host::failures;

use crate::admitted::AdmittedFeed;
use crate::collector::schedule::Schedule;
use crate::collector::work::Task;
use crate::store::shards::Lease;
use crate::store::{Polling, Standing};

/// The consequence of a search for one scope.
#[derive(Debug, Clone, PartialEq)]
pub enum ScopeVerdict {
    /// The scope is polled.
    Polled,
    /// The scope is not polled any more, and an event reports why.
    Lost(Failure),
    /// The scope is not polled any more, because the settings do not ask for it.
    GivenUp,
}

impl ScopeVerdict {
    /// Makes the task that follows for the scope: due at this time, with the scope's `earlier` standing, under the lease
    /// of the scope's tenant.
    pub fn task(self, admitted: &Arc<AdmittedFeed>, lease: Lease, scope: Scope, earlier: Standing, due: u64) -> Task {
        let (watch, given_up) = match self {
            ScopeVerdict::Polled => (Polling::Polled, None),
            ScopeVerdict::Lost(why) => (Polling::Lost, Some(why)),
            ScopeVerdict::GivenUp => (Polling::Unasked, None),
        };
        let schedule = Schedule::new(&admitted.id, &scope.id, admitted.interval);
        let standing = Standing { due, watch, ..earlier };
        Task { admitted: Arc::clone(admitted), lease, schedule, scope, standing, given_up }
    }
}

/// Says whether a search says anything of scopes. One that fails with `fix-scope` found none; other failures say nothing.
pub fn says_of_scopes(found: &Result<Discovery, Failure>) -> bool {
    found.as_ref().map_or_else(|failure| failure.reaction == Reaction::FixScope, |_| true)
}

/// Returns the verdicts on the `known` scopes and on those of a search, which may skip some. `same_settings` says that
/// the earlier search had the same settings.
pub fn verdicts(
    known: &[(&Scope, &Standing)],
    found: &Result<Discovery, Failure>,
    same_settings: bool,
) -> Vec<(Scope, ScopeVerdict)> {
    let (scopes, skipped) = match found {
        Ok(discovery) => (discovery.scopes.as_slice(), discovery.skipped.as_slice()),
        Err(_) if says_of_scopes(found) => (&[][..], &[][..]),
        Err(_) => return Vec::new(),
    };
    let polled = scopes.iter().map(|scope| (scope.clone(), ScopeVerdict::Polled));
    let lost = skipped.iter().map(|skipped| (skipped.scope.clone(), ScopeVerdict::Lost(skipped.reason.clone())));
    let mut seen = BTreeSet::new();
    let mut verdicts: Vec<(Scope, ScopeVerdict)> =
        polled.chain(lost).filter(|(scope, _)| seen.insert(scope.id.clone())).collect();
    for (scope, standing) in known.iter().filter(|(scope, _)| !seen.contains(&scope.id)) {
        let verdict = match (standing.watch, same_settings) {
            (Polling::Unasked, _) => continue,
            (Polling::Polled | Polling::Lost, true) => ScopeVerdict::Lost(no_longer_discovered(scope)),
            (Polling::Polled | Polling::Lost, false) => ScopeVerdict::GivenUp,
        };
        verdicts.push(((*scope).clone(), verdict));
    }
    // A loss that was reported is not reported again.
    let told: BTreeSet<(&str, &str)> = known
        .iter()
        .filter(|(_, standing)| standing.watch == Polling::Lost)
        .filter_map(|(scope, standing)| Some((scope.id.as_str(), standing.outcome.as_ref()?.code.as_str())))
        .collect();
    verdicts.retain(|(scope, verdict)| match verdict {
        ScopeVerdict::Lost(why) => !told.contains(&(scope.id.as_str(), why.code.as_str())),
        _ => true,
    });
    verdicts
}

fn no_longer_discovered(scope: &Scope) -> Failure {
    let cause = format!("the search for scopes does not find {} any more", scope.name.as_deref().unwrap_or(&scope.id));
    failures::NO_LONGER_DISCOVERED.because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use source_host::contract::SkippedScope;
    use source_host::failures::NO_LONGER_DISCOVERED;

    fn scope(id: &str) -> Scope {
        Scope { id: id.to_owned(), name: None, owner: None, plugin_data: String::new() }
    }

    fn found(scopes: &[&str], skipped: &[&str]) -> Result<Discovery, Failure> {
        let why = Failure::new(Reaction::FixScope, "disabled", String::new());
        let skipped = skipped.iter().map(|id| SkippedScope { scope: scope(id), reason: why.clone() });
        Ok(Discovery {
            scopes: scopes.iter().map(|id| scope(id)).collect(),
            skipped: skipped.collect(),
            notices: Vec::new(),
        })
    }

    /// Writes verdicts: ids with `+` for polled, `!` and the code for lost, `-` for given up.
    fn told(known: &[(&str, Option<&str>)], found: &Result<Discovery, Failure>, same: bool) -> Vec<String> {
        let known: Vec<(Scope, Standing)> = known
            .iter()
            .map(|(id, lost)| {
                let watch = match lost {
                    None => Polling::Polled,
                    Some("unasked") => Polling::Unasked,
                    Some(_) => Polling::Lost,
                };
                let outcome = lost.map(|code| Box::new(Failure::new(Reaction::FixScope, code, String::new())));
                (scope(id), Standing { watch, outcome, ..Standing::default() })
            })
            .collect();
        let known: Vec<(&Scope, &Standing)> = known.iter().map(|(scope, standing)| (scope, standing)).collect();
        verdicts(&known, found, same)
            .into_iter()
            .map(|(scope, verdict)| match verdict {
                ScopeVerdict::Polled => format!("+{}", scope.id),
                ScopeVerdict::Lost(why) => format!("!{} {}", scope.id, why.code),
                ScopeVerdict::GivenUp => format!("-{}", scope.id),
            })
            .collect()
    }

    #[test]
    fn a_scope_that_is_gone_is_lost_and_one_that_was_taken_out_is_given_up() {
        let known = [("a", None), ("b", None)];
        assert_eq!(told(&known, &found(&["a", "c"], &[]), true), ["+a", "+c", "!b no-longer-discovered"]);
        assert_eq!(told(&known, &found(&["a"], &[]), false), ["+a", "-b"]);
        assert_eq!(told(&known, &found(&["a"], &["b"]), true), ["+a", "!b disabled"]);
        assert_eq!(told(&known, &found(&["a", "b", "a"], &[]), true), ["+a", "+b"], "found twice");
        assert_eq!(told(&known, &found(&["a", "b"], &["a"]), true), ["+a", "+b"], "found and skipped");
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        assert!(told(&[("b", Some("disabled"))], &found(&[], &["b"]), true).is_empty());
        assert!(told(&[("b", Some(NO_LONGER_DISCOVERED.code))], &found(&[], &[]), true).is_empty());
        assert_eq!(told(&[("b", Some(NO_LONGER_DISCOVERED.code))], &found(&["b"], &[]), true), ["+b"]);
        assert_eq!(told(&[("b", Some("x"))], &found(&[], &[]), false), ["-b"], "lost, and then taken out");
        assert_eq!(told(&[("b", Some("disabled"))], &found(&[], &[]), true), ["!b no-longer-discovered"]);
    }

    #[test]
    fn what_was_taken_out_of_the_settings_is_never_lost() {
        for same in [true, false] {
            assert!(told(&[("b", Some("unasked"))], &found(&[], &[]), same).is_empty());
        }
        assert_eq!(told(&[("b", Some("unasked"))], &found(&["b"], &[]), true), ["+b"]);
    }

    #[test]
    fn a_search_that_fails_says_nothing_of_scopes_unless_it_found_none() {
        let failed = |reaction| Err(Failure::new(reaction, "code", String::new()));
        assert!(told(&[("a", None)], &failed(Reaction::TryLater), true).is_empty());
        assert!(told(&[("a", None)], &failed(Reaction::FixFeed), true).is_empty());
        assert_eq!(told(&[("a", None)], &failed(Reaction::FixScope), true), ["!a no-longer-discovered"]);
    }
}
