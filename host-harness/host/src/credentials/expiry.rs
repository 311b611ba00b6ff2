//! The expiry of a credential, from its certificate or from the configuration; the service never reports it. All times
//! are Unix milliseconds.

use std::time::Duration;

use x509_cert::certificate::TbsCertificate;
use x509_cert::der::DateTime;

use crate::limits::{self, milliseconds};

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: u64,
    /// The last moment.
    pub until: u64,
}

impl Validity {
    pub(super) fn of(certificate: &TbsCertificate) -> Validity {
        let validity = certificate.validity();
        Validity {
            from: milliseconds(validity.not_before.to_unix_duration()),
            until: milliseconds(validity.not_after.to_unix_duration()),
        }
    }
}

/// How soon a credential expires, in order from far to past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// Within the first number of days in [`limits::EXPIRY_WARNINGS`].
    Soon,
    /// Within the second number of days in [`limits::EXPIRY_WARNINGS`].
    VerySoon,
    /// The credential has expired.
    Past,
}

/// Says how soon an expiry is; `None` if it is far away.
pub fn nearness(end: u64, now: u64) -> Option<Nearness> {
    let [soon, very_soon] = limits::EXPIRY_WARNINGS.map(|days| days * milliseconds(limits::DAY));
    match end.saturating_sub(now) {
        0 => Some(Nearness::Past),
        left if left <= very_soon => Some(Nearness::VerySoon),
        left if left <= soon => Some(Nearness::Soon),
        _ => None,
    }
}

/// The message about a credential that expires soon or has expired.
pub fn message(setting: &str, end: u64, now: u64) -> String {
    let date = date(end);
    match end.saturating_sub(now) / milliseconds(limits::DAY) {
        _ if end <= now => format!("`{setting}` expired on {date}"),
        days => format!("`{setting}` expires in {days} days, on {date}"),
    }
}

/// The message with the advice to make a new credential.
pub fn warning(setting: &str, end: u64, now: u64) -> String {
    format!("{}: make a new one", message(setting, end, now))
}

/// The date of a time, in UTC.
pub fn date(time: u64) -> String {
    let day = DateTime::from_unix_duration(Duration::from_millis(time));
    day.map(|day| format!("{:04}-{:02}-{:02}", day.year(), day.month(), day.day())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_near_from_30_and_from_7_days_before_it() {
        const DAY: u64 = 86_400_000;
        let end = 500 * DAY;
        let told = |left: u64| nearness(end, end - left);
        assert_eq!(told(30 * DAY + 1), None);
        assert_eq!(told(30 * DAY), Some(Nearness::Soon));
        assert_eq!(told(7 * DAY + 1), Some(Nearness::Soon));
        assert_eq!(told(7 * DAY), Some(Nearness::VerySoon));
        assert_eq!(told(1), Some(Nearness::VerySoon));
        assert_eq!((told(0), nearness(end, end + 1)), (Some(Nearness::Past), Some(Nearness::Past)));
        assert!(Some(Nearness::Soon) > None && Nearness::Past > Nearness::VerySoon);
        assert_eq!(message("key", end, end - 7 * DAY + 1), "`key` expires in 6 days, on 1971-05-16");
        assert_eq!(message("key", end, end), "`key` expired on 1971-05-16");
    }
}
