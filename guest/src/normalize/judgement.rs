//! The two judgements that OCSF requires and the service does not give: compliance status and severity. Both are
//! derived from current, maximum and counts. The service's `percentage` is not used, because 0 may mean that nothing
//! was assessed.

use rust_decimal::Decimal;

use crate::api::{Counts, Score};
use crate::normalize::vocabulary::vocabulary;
use crate::settings::EventKind;

vocabulary! {
    /// OCSF `compliance.status_id`.
    pub enum Status -> pair: (u8, &'static str) {
        /// 0: there is no score.
        Unknown = (0, "Unknown"),
        /// 1: no resource fails, or the score is full.
        Pass = (1, "Pass"),
        /// 2: used only for the collection itself.
        Warning = (2, "Warning"),
        /// 3: a resource fails, or points are missing.
        Fail = (3, "Fail"),
        /// 99: there is nothing to assess.
        NotApplicable = (99, "Not Applicable"),
    }
}

vocabulary! {
    /// OCSF `severity_id`.
    pub enum Severity -> pair: (u8, &'static str) {
        /// 0: the status is unknown.
        Unknown = (0, "Unknown"),
        /// 1: nothing needs attention.
        Informational = (1, "Informational"),
        /// 2: a failure with few points at stake.
        Low = (2, "Low"),
        /// 3: a failure with more points at stake, or the status Warning.
        Medium = (3, "Medium"),
        /// 4: a failure with many points at stake.
        High = (4, "High"),
    }
}

/// Points at stake from which a failing control is Medium.
const MEDIUM_POINTS: Decimal = Decimal::from_parts(2, 0, 0, false, 0);

/// Points at stake from which a failing control is High; "Enable MFA", the heaviest control, has 10.
const HIGH_POINTS: Decimal = Decimal::from_parts(5, 0, 0, false, 0);

/// Share of its maximum below which a failing score is Medium.
const LOW_SHARE: Decimal = Decimal::from_parts(75, 0, 0, false, 2);

/// Returns the status of a score or a control.
pub fn status(kind: EventKind, score: Option<&Score<'_>>, counts: &Counts<'_>) -> Status {
    if kind == EventKind::Controls
        && let (Some(healthy), Some(unhealthy)) = (counts.healthy, counts.unhealthy)
    {
        return match (is_positive(unhealthy.decimal()), is_positive(healthy.decimal())) {
            (true, _) => Status::Fail,
            (false, true) => Status::Pass,
            (false, false) => Status::NotApplicable,
        };
    }
    match points(score) {
        None => Status::Unknown,
        Some((_, max)) if !is_positive(Some(max)) => Status::NotApplicable,
        Some((current, max)) if current >= max => Status::Pass,
        Some(_) => Status::Fail,
    }
}

/// Returns the severity of a score or a control. Points decide, not percentages: the weights are Microsoft's own, and
/// 20 % of a control with one point is little. The severity is never Critical: the controls carry the alarm, and one
/// bad machine in a new subscription must not page anybody.
pub fn severity(kind: EventKind, status: Status, score: Option<&Score<'_>>) -> Severity {
    match status {
        Status::Unknown => return Severity::Unknown,
        Status::Pass | Status::NotApplicable => return Severity::Informational,
        Status::Warning => return Severity::Medium,
        Status::Fail => {}
    }
    let Some((current, max)) = points(score).filter(|(_, max)| is_positive(Some(*max))) else {
        return Severity::Informational;
    };
    match kind {
        EventKind::Controls => match max.checked_sub(current) {
            Some(at_stake) if at_stake >= HIGH_POINTS => Severity::High,
            Some(at_stake) if at_stake >= MEDIUM_POINTS => Severity::Medium,
            _ => Severity::Low,
        },
        EventKind::Scores => match current.checked_div(max) {
            Some(share) if share < LOW_SHARE => Severity::Medium,
            _ => Severity::Low,
        },
    }
}

/// Returns current and maximum, if both are known.
pub fn points(score: Option<&Score<'_>>) -> Option<(Decimal, Decimal)> {
    let score = score?;
    Some((score.current?.decimal()?, score.max?.decimal()?))
}

fn is_positive(value: Option<Decimal>) -> bool {
    value.is_some_and(|value| value > Decimal::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Number;

    fn score(current: &'static str, max: &'static str) -> Option<Score<'static>> {
        Some(Score { max: Some(Number::spelled(max)), current: Some(Number::spelled(current)), percentage: None })
    }

    fn counts(healthy: &'static str, unhealthy: &'static str) -> Counts<'static> {
        Counts {
            healthy: Some(Number::spelled(healthy)),
            unhealthy: Some(Number::spelled(unhealthy)),
            not_applicable: None,
        }
    }

    #[test]
    fn a_control_goes_by_its_resources() {
        for (healthy, unhealthy, expected) in [
            ("1", "1", Status::Fail),
            ("0", "1", Status::Fail),
            ("7", "0", Status::Pass),
            ("0", "0", Status::NotApplicable),
        ] {
            assert_eq!(status(EventKind::Controls, score("0", "0").as_ref(), &counts(healthy, unhealthy)), expected);
        }
    }

    #[test]
    fn a_score_and_a_control_without_counts_go_by_their_points() {
        for (points, expected) in [
            (score("23.53", "39"), Status::Fail),
            (score("39", "39"), Status::Pass),
            (score("39.0", "39"), Status::Pass),
            (score("40", "39"), Status::Pass),
            (score("0", "0"), Status::NotApplicable),
            (None, Status::Unknown),
        ] {
            assert_eq!(status(EventKind::Scores, points.as_ref(), &counts("1", "1")), expected, "{points:?}");
            assert_eq!(status(EventKind::Controls, points.as_ref(), &Counts::default()), expected, "{points:?}");
        }
        let half = Score { max: Some(Number::spelled("1")), current: None, percentage: None };
        assert_eq!(status(EventKind::Scores, Some(&half), &Counts::default()), Status::Unknown);
    }

    #[test]
    fn a_failing_control_weighs_as_much_as_its_points_at_stake() {
        for (current, max, expected) in [
            ("2.01", "4", Severity::Low),
            ("2", "4", Severity::Medium),
            ("1.01", "6", Severity::Medium),
            ("1", "6", Severity::High),
            ("0", "10", Severity::High),
            ("0", "0", Severity::Informational),
        ] {
            assert_eq!(
                severity(EventKind::Controls, Status::Fail, score(current, max).as_ref()),
                expected,
                "{current} of {max}"
            );
        }
        assert_eq!(severity(EventKind::Controls, Status::Fail, None), Severity::Informational);
    }

    #[test]
    fn a_failing_score_is_medium_below_three_quarters() {
        for (current, expected) in [("74.99", Severity::Medium), ("75", Severity::Low), ("99", Severity::Low)] {
            assert_eq!(
                severity(EventKind::Scores, Status::Fail, score(current, "100").as_ref()),
                expected,
                "{current}"
            );
        }
    }

    #[test]
    fn what_does_not_fail_is_informational() {
        for kind in EventKind::ALL {
            assert_eq!(severity(kind, Status::Pass, score("1", "9").as_ref()), Severity::Informational);
            assert_eq!(severity(kind, Status::NotApplicable, score("1", "9").as_ref()), Severity::Informational);
            assert_eq!(severity(kind, Status::Unknown, score("1", "9").as_ref()), Severity::Unknown);
        }
    }
}
