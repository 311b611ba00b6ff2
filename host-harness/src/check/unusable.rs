//! The reports of feeds that cannot be checked: those of a wrong configuration, and feeds that are left out.

use std::time::Duration;

use crate::check::remarks::{
    COMPILER_UNAVAILABLE, CREDENTIAL_UNREADABLE, HOST_STOPPED, PIN_DIFFERS, PLUGIN_BROKEN, SETTINGS_INVALID, list,
};
use crate::check::report::{CheckReport, Question};
use crate::check::run::CheckRun;
use crate::config::admission::{LeftOut, LeftOutReason};
use crate::config::{ConfigProblem, ReportedProblems};

/// The reports of a configuration that cannot be used: nothing is sent for any of its feeds. A problem that belongs to
/// no single feed concerns all of them; it is in a report of its own, which comes first and names no feed.
pub fn broken(named: &[String], problems: &[ConfigProblem]) -> Vec<CheckReport> {
    let (of_all, of_some) = of_all_and_some(named, problems);
    let of_file = (!of_all.is_empty() || named.is_empty()).then(|| broken_report(None, &of_all));
    let of_feed = |id: &String| {
        let own: Vec<&ConfigProblem> =
            of_some.iter().copied().filter(|problem| problem.place.feed.as_ref() == Some(id)).collect();
        broken_report(Some(id), &own)
    };
    of_file.into_iter().chain(named.iter().map(of_feed)).collect()
}

/// The same for people, who read each problem once: feeds without problems share a report.
pub(super) fn broken_for_people(named: &[String], problems: &[ConfigProblem]) -> Vec<CheckReport> {
    let mut reports = broken(named, &ReportedProblems::default().brief(problems));
    let good = reports.extract_if(.., |report| report.stopped().is_none()).map(|report| report.feed);
    let good: Vec<String> = good.flatten().collect();
    if !good.is_empty() {
        reports.push(broken_report(Some(&good.join(", ")), &[]));
    }
    reports
}

fn of_all_and_some<'a>(
    named: &[String],
    problems: &'a [ConfigProblem],
) -> (Vec<&'a ConfigProblem>, Vec<&'a ConfigProblem>) {
    problems.iter().partition(|problem| problem.place.feed.as_ref().is_none_or(|feed| !named.contains(feed)))
}

fn broken_report(feed: Option<&str>, problems: &[&ConfigProblem]) -> CheckReport {
    let mut run = CheckRun::new(feed, None);
    let words: Vec<String> = problems.iter().map(|problem| problem.to_string()).collect();
    let places: Vec<String> = problems.iter().map(|problem| problem.place.at.to_string()).collect();
    if problems.is_empty() {
        let found = "valid; nothing is sent while others of the configuration are wrong".to_owned();
        run.good(Question::Settings, None, Duration::ZERO, Some(found));
    } else {
        let trouble = SETTINGS_INVALID.trouble_at(&words.join("\n"), &list(places));
        run.bad(Question::Settings, None, Duration::ZERO, trouble);
    }
    run.ended()
}

/// The report of a feed that cannot be collected now.
pub fn left_out(out: &LeftOut) -> CheckReport {
    let remark = match out.why {
        LeftOutReason::Credentials => CREDENTIAL_UNREADABLE,
        LeftOutReason::Settings => SETTINGS_INVALID,
        LeftOutReason::Plugin => PLUGIN_BROKEN,
        LeftOutReason::Stopped => HOST_STOPPED,
        LeftOutReason::Compiler => COMPILER_UNAVAILABLE,
        LeftOutReason::Pin => PIN_DIFFERS,
    };
    let words: Vec<String> = out.problems.iter().map(ConfigProblem::to_string).collect();
    let places = out.problems.iter().map(|problem| problem.place.at.to_string()).collect();
    let mut run = CheckRun::new(Some(&out.feed), Some(&out.tenant));
    run.bad(Question::Settings, None, Duration::ZERO, remark.trouble_at(&words.join("\n"), &list(places)));
    run.ended()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::check::report::{StepStatus, status};
    use crate::config::{ConfigPlace, FileLine};

    #[test]
    fn a_problem_is_told_with_its_feed_and_one_of_the_whole_once_without_one() {
        let problem = |feed: Option<&str>, key: Option<&str>| {
            let at = FileLine { file: "a.toml".into(), line: NonZeroUsize::new(3) };
            let (feed, key) = (feed.map(str::to_owned), key.map(str::to_owned));
            ConfigPlace { at, feed, key }.problem("found x, expected y".to_owned())
        };
        let of = |feed: &str| Some(feed.to_owned());
        let named = ["a".to_owned(), "b".to_owned()];
        let failed = |problems: &[ConfigProblem]| {
            let reports = broken(&named, problems);
            assert_eq!(status(&reports), 2);
            assert!(reports.iter().all(|report| report.steps.len() == Question::ALL.len()));
            let failed = reports.into_iter().filter(|report| report.steps[0].status == StepStatus::Failed);
            failed.map(|report| report.feed).collect::<Vec<_>>()
        };
        assert_eq!(failed(&[problem(Some("a"), Some("settings.client_key"))]), [of("a")]);
        assert_eq!(failed(&[problem(Some("b"), Some("settings.client_key"))]), [of("b")]);
        assert_eq!(failed(&[problem(None, Some("network.allow"))]), [None]);
        assert_eq!(failed(&[problem(Some("b"), None), problem(None, Some("network.allow"))]), [None, of("b")]);
        assert!(
            broken(&named, &[problem(None, Some("network.allow"))]).iter().all(|report| !report.ok()),
            "no feed is good then"
        );
        let reports = broken(&[], &[problem(None, None)]);
        assert_eq!((reports[0].feed.as_deref(), reports[0].steps[0].status), (None, StepStatus::Failed));
        assert_eq!(reports[0].json()["feed"], "", "programs find the key with a text");
        assert_eq!(reports[0].json()["steps"][0]["fix"], "write what is expected in a.toml:3");
    }
}
