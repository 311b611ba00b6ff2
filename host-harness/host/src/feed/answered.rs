//! Calls of the plugin that ended: their answers, or failures whose cause the host knows better, and the reports about
//! them.

use super::Feed;
use crate::contract::{Credential, Failure, Notice, Plan, Reaction};
use crate::credentials::sealed;
use crate::failures;
use crate::network::egress::News;
use crate::plugin::call::{Called, Caller, Denied, Journal, NoAnswer};

impl Feed {
    /// Returns a notice for each credential that is declared and configured but was on no request so far, once a feed.
    /// Such a credential does not do what its author expects.
    pub(super) fn unused(&self) -> Vec<Notice> {
        let Some(network) = &self.caller.network else { return Vec::new() };
        let is_configured = |setting: &str| self.settings.has_secret(setting);
        unused(&self.plan, &self.carried.lock(), is_configured, network.egress.news())
    }

    /// Returns the plugin's answer, or the failure in its place. Reports a denied request once, unless the failure
    /// already mentions it.
    pub(super) fn answered<T>(&self, called: Called<Result<T, Failure>>) -> Result<T, Failure> {
        let denied = called.1.first_denied.clone();
        let answered = self.outcome(called);
        let told = answered.as_ref().err().map(|failure| failure.cause.as_str());
        if let Some(network) = &self.caller.network {
            tell_denied(denied, told.unwrap_or_default(), &self.caller, network.egress.news());
        }
        answered
    }

    /// The same without the report. Where a request did not reach the service, the host knows the cause better than the
    /// plugin.
    fn outcome<T>(&self, (answer, journal): Called<Result<T, Failure>>) -> Result<T, Failure> {
        self.count(|usage| usage.add(&journal));
        let mut carried = self.carried.lock();
        for credential in &journal.carried {
            if !carried.contains(credential) {
                carried.push(credential.clone());
            }
        }
        drop(carried);
        let mut failure = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => failure,
            Err(error) => return Err(error.failure()),
        };
        if let Some(cause) = journal.asked_too_often {
            // The wait concerns this feed only: another credential of the same service may be usable.
            *self.throttled.lock() = None;
            let own = failures::TOKEN_REQUESTS_LIMITED.because(cause);
            return Err(Failure { wait_seconds: failure.wait_seconds, ..own });
        }
        if let Some(known) = known_better(&failure, &journal) {
            return Err(known);
        }
        if failure.reaction == Reaction::Wait {
            let asked = journal.exchanges.iter().rev().find_map(|exchange| exchange.asks_to_wait.clone());
            *self.throttled.lock() = asked;
            self.count(|usage| usage.throttles += 1);
        }
        if let Some(why) = journal.unusable.filter(|_| failure.status.is_none()) {
            failure.cause += &format!("; {why}");
        }
        let last = journal.exchanges.last();
        if let Some(Err(reason)) = last.filter(|_| failure.status.is_none()).map(|exchange| &exchange.result)
            && let reason = reason.to_string()
            && !failure.cause.contains(&reason)
        {
            failure.cause += &format!("; {reason}");
        }
        Err(failure)
    }
}

/// Returns the failure in place of the plugin's, if an answer was withheld, or if the process stood still while a request
/// waited. A request that the host denied did not wait.
fn known_better(failure: &Failure, journal: &Journal) -> Option<Failure> {
    if let Some(cause) = &journal.echoed {
        return Some(failures::CREDENTIAL_ECHOED.because(cause));
    }
    let last = journal.exchanges.last();
    let is_unanswered = last.is_some_and(|exchange| matches!(exchange.result, Err(NoAnswer::Failed(_))));
    let stood = journal.stood_still;
    (failure.reaction == Reaction::TryLater && is_unanswered && !stood.is_zero()).then(|| {
        let (stood, cause) = (stood.as_secs(), &failure.cause);
        failures::HOST_STOPPED.because(format!(
            "the process was stopped for {stood} s, or got no processor, while it waited for an answer: {cause}"
        ))
    })
}

/// Logs a denied request, unless the failure's text in `told` mentions it or the log already has it.
pub(super) fn tell_denied(denied: Option<Denied>, told: &str, caller: &Caller, news: &News) {
    let Some(Denied { request, why }) = denied.filter(|denied| !told.contains(&denied.why)) else { return };
    let words = format!("{request} is not allowed: {why}");
    if news.is_news(&words) {
        tracing::warn!(target: "egress", who = format!("{}/{}", caller.tenant, caller.feed), "{words}");
    }
}

/// Returns a notice for each credential that a plan declares, that is configured, that is not in `carried`, and of which
/// there was no notice yet.
fn unused(plan: &Plan, carried: &[Credential], is_configured: impl Fn(&str) -> bool, news: &News) -> Vec<Notice> {
    let declared = plan.shapes.iter().flat_map(|shape| &shape.credentials).map(|used| &used.credential);
    let mut unused: Vec<&Credential> = Vec::new();
    for credential in declared.filter(|credential| !carried.contains(credential)) {
        let configured = match credential {
            Credential::Setting(setting) | Credential::Assertion(setting) => is_configured(setting),
            Credential::Token => plan.shapes.iter().any(|shape| shape.captures.is_some()),
        };
        if configured && !unused.contains(&credential) {
            unused.push(credential);
        }
    }
    let message = |credential| format!("the plugin declared {} and sent no request with it", sealed::name(credential));
    let messages = unused.into_iter().map(message).filter(|message| news.is_news(message));
    messages.map(|message| failures::CREDENTIAL_UNUSED.because(message)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plugin::call::Exchange;

    #[test]
    fn a_stop_of_the_process_hides_neither_an_echo_nor_a_denial() {
        let failed = NoAnswer::Failed("timed out".to_owned());
        let denied = NoAnswer::Denied("not allowed".to_owned());
        let echoed = Some("the key".to_owned());
        for (result, stood, echoed, expected) in [
            (Err(failed.clone()), 90, None, Some("host-stopped")),
            (Err(failed.clone()), 90, echoed, Some("credential-echoed")),
            (Err(denied), 90, None, None),
            (Ok(503), 90, None, None),
            (Err(failed), 0, None, None),
        ] {
            let exchange = Exchange {
                method: "GET".to_owned(),
                url: "https://api.example/".to_owned(),
                result,
                bytes: 0,
                time: Duration::ZERO,
                is_kept: false,
                asks_to_wait: None,
            };
            let mut journal = Journal::default();
            (journal.exchanges, journal.echoed) = (vec![exchange], echoed);
            journal.stood_still = Duration::from_secs(stood);
            let failure = Failure::new(Reaction::TryLater, "unreachable", "no answer".to_owned());
            let known = known_better(&failure, &journal);
            assert_eq!(known.as_ref().map(|known| &*known.code), expected, "{journal:?}");
        }
    }

    #[test]
    fn a_credential_that_was_declared_and_left_on_no_request_is_told_once() {
        let credentials = ["key", "other", "absent"].map(|setting| Credential::Setting(setting.to_owned()));
        let declared = credentials.iter().chain([&Credential::Token, &credentials[1]]);
        let place = || crate::contract::Place::Bearer;
        let declared = declared
            .map(|credential| crate::contract::CredentialUse { credential: credential.clone(), place: place() });
        let shape = crate::contract::Shape {
            method: "GET".to_owned(),
            origin: "https://api.example".to_owned(),
            path: crate::contract::Path::Exact("/".to_owned()),
            credentials: declared.collect(),
            captures: None,
        };
        let plan = Plan { shapes: vec![shape], warnings: Vec::new() };
        let news = News::default();
        let told = |carried: &[Credential]| {
            let notices = unused(&plan, carried, |setting| setting != "absent", &news);
            notices.into_iter().map(|notice| notice.message).collect::<Vec<_>>()
        };
        assert_eq!(told(&credentials[..1]), ["the plugin declared the credential `other` and sent no request with it"]);
        assert_eq!(told(&credentials[..1]), Vec::<String>::new(), "the feed told it before");
        assert_eq!(told(&credentials), Vec::<String>::new());
    }
}
