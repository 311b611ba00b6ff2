//! The host's own remarks on steps: code, blame, cause and fix of each in one table.

use source_host::blame::Blame;
use source_host::credentials::expiry::{self, Nearness};

use crate::check::report::{Question, StepStatus, StepTrouble};
use crate::config::admission::LeftOutReason;

/// A remark of the host itself.
#[derive(Debug)]
pub struct Remark {
    /// The step that has the remark.
    pub question: Question,
    /// The step's status: failed, or ok with a warning.
    pub status: StepStatus,
    /// Kebab-case code.
    pub code: &'static str,
    /// The party that can mend the problem.
    pub blame: Blame,
    /// The cause in one sentence without a full stop.
    pub cause: &'static str,
    /// The fix. `{place}` is replaced by file and line, `{line}` by a line of the configuration.
    pub fix: &'static str,
}

macro_rules! remarks {
    ($($(#[$doc:meta])* $name:ident = $question:ident, $status:ident, $code:expr, $blame:expr, $cause:literal, $fix:literal;)*) => {
        $($(#[$doc])* pub(super) const $name: Remark = Remark {
            question: Question::$question, status: StepStatus::$status, code: $code, blame: $blame, cause: $cause,
            fix: $fix,
        };)*
        /// All remarks, by step.
        pub const REMARKS: &[Remark] = &[$($name),*];
    };
}

remarks! {
    /// The configuration is invalid.
    SETTINGS_INVALID = Settings, Failed, "settings-invalid", Blame::Operator, "the configuration is wrong", "write what is expected in {place}";
    /// The feed is left out because of a credential; the other feeds are not.
    CREDENTIAL_UNREADABLE = Settings, Failed, LeftOutReason::Credentials.code(), LeftOutReason::Credentials.blame(), "a credential cannot be read",
        "put the credential where {place} looks for it, or correct its content; the other feeds continue without this one";
    /// The feed is left out because its plugin fails.
    PLUGIN_BROKEN = Settings, Failed, LeftOutReason::Plugin.code(), LeftOutReason::Plugin.blame(), "the plugin crashes",
        "report it to the authors of the plugin that {place} names, or name another one there; the other feeds continue without this one";
    /// The feed is left out because the process stood still while its plugin was asked.
    HOST_STOPPED = Settings, Failed, LeftOutReason::Stopped.code(), LeftOutReason::Stopped.blame(),
        "the process was stopped while it asked the plugin, or got no processor",
        "run the command again; a collector tries again by itself; if nobody stopped the process, give the machine more processors or less work; the other feeds continue without this one";
    /// The feed is left out because the host could not start the compiler for its plugin.
    COMPILER_UNAVAILABLE = Settings, Failed, LeftOutReason::Compiler.code(), LeftOutReason::Compiler.blame(), "the compiler for the plugin cannot be started",
        "mend the problem that the cause names, such as missing memory or a limit of processes, and run the command again; a collector tries again by itself; the other feeds continue without this one";
    /// The plugin or the plan is not the one that was reviewed.
    PIN_DIFFERS = Settings, Failed, LeftOutReason::Pin.code(), LeftOutReason::Pin.blame(), "the plugin or its plan is not the one that is pinned",
        "if the change is intended, review the page of `inspect` and write the new digest in {place}; else bring back the plugin and the settings that were reviewed; the other feeds continue without this one";
    /// The operator's list does not contain the origin.
    ORIGIN_NOT_ALLOWED = Settings, Failed, "origin-not-allowed", Blame::Operator, "requests would go to an origin that is not allowed",
        "if the origin is intended, write `{line}` in [network]; else correct the address";
    /// Credentials would go over plain http.
    CREDENTIALS_IN_CLEAR = Settings, Failed, "credentials-in-clear", Blame::Operator,
        "credentials would be sent over http, where anyone on the way can read them",
        "write https:// in place of http://; only where nobody else can read the network between, write `{line}` in [network]";
    /// The value is seldom meant.
    SETTINGS_ODD = Settings, Ok, "settings-odd", Blame::Operator, "a value looks wrong", "check whether it is intended: {place}";
    /// The origin is plain http.
    NO_TLS = Tls, Ok, "no-tls-at-all", Blame::Operator,
        "plain http: anybody on the way can read the credentials and the data, and can answer in the service's place",
        "write https:// in place of http:// if the service speaks it";
    /// All services of the feed show another time.
    CLOCK_OFF = Sample, Ok, "clock-off", Blame::Operator, "this machine's clock is off", "set the clock: timedatectl set-ntp true";
    /// The services disagree about the time.
    SERVICE_CLOCK_OFF = Sample, Ok, "service-clock-off", Blame::Service, "the clock of a service looks wrong, because another service's clock differs",
        "check whether a proxy or a gateway before that service changes the header `Date`; if none does, report it to the service";
    /// The credential expires within 30 days.
    EXPIRES = Credential, Ok, "credential-expires", Blame::Tenant, "a credential expires within 30 days",
        "create a new credential before that day, and put it and its date into the settings";
    /// The credential expires within 7 days.
    EXPIRES_SOON = Credential, Ok, "credential-expires-soon", Blame::Tenant, "a credential expires within 7 days",
        "create a new credential before that day, and put it and its date into the settings";
    /// The credential has expired by its date, but the service accepts it.
    EXPIRED = Credential, Ok, "credential-expired", Blame::Tenant, "by its date, a credential has expired",
        "create a new credential, and put it and its date into the settings";
    /// The pages gave no event.
    NO_EVENT = Sample, Failed, "no-event", Blame::Operator, "the answers gave no event", "check which settings leave events out";
}

impl Remark {
    pub(super) fn trouble(&self) -> StepTrouble {
        self.trouble_because(self.cause.to_owned())
    }

    /// The same with what was found.
    pub(super) fn trouble_of(&self, detail: &str) -> StepTrouble {
        self.trouble_because(format!("{}: {detail}", self.cause))
    }

    /// The same with the place, or the line, that the fix names.
    pub(super) fn trouble_at(&self, detail: &str, value: &str) -> StepTrouble {
        let fix = self.fix.replace("{place}", value).replace("{line}", value);
        StepTrouble { fix, ..self.trouble_of(detail) }
    }

    fn trouble_because(&self, cause: String) -> StepTrouble {
        let fix = self.fix.to_owned();
        StepTrouble { blame: Some(self.blame), ..StepTrouble::of(self.code, cause, fix) }
    }
}

/// Returns the remark on the credential that expires first, if it expires soon or has expired.
pub fn expiring(expiries: &[(String, u64)], now: u64) -> Option<(&'static Remark, String)> {
    let (setting, end) = expiries.iter().min_by_key(|(_, end)| *end)?;
    let remark = match expiry::nearness(*end, now)? {
        Nearness::Soon => &EXPIRES,
        Nearness::VerySoon => &EXPIRES_SOON,
        Nearness::Past => &EXPIRED,
    };
    Some((remark, expiry::message(setting, *end, now)))
}

/// Joins the texts in order, without duplicates.
pub(super) fn list(mut words: Vec<String>) -> String {
    let mut seen = std::collections::BTreeSet::new();
    words.retain(|word| seen.insert(word.clone()));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One day in milliseconds.
    const DAY: u64 = 86_400_000;

    #[test]
    fn of_several_credentials_the_one_that_ends_first_is_told() {
        let expiries = [("far".to_owned(), 900 * DAY), ("key".to_owned(), 500 * DAY)];
        let told = |now: u64| expiring(&expiries, now * DAY).map(|(remark, words)| (remark.code, words));
        let words = |words: &str| format!("`key` {words} 1971-05-16");
        assert_eq!(told(469), None);
        assert_eq!(told(470), Some(("credential-expires", words("expires in 30 days, on"))));
        assert_eq!(told(493), Some(("credential-expires-soon", words("expires in 7 days, on"))));
        assert_eq!(told(500), Some(("credential-expired", words("expired on"))));
        assert!(expiring(&[], 0).is_none());
    }
}
