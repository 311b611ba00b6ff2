//! Who can mend what went wrong: one rule for the log, the status page, the metrics, and for what `poll` and `check` say.

use std::fmt;

use crate::contract::{Failure, Reaction};
use crate::failures::{HOST_FAILED, OUTBOX_FULL, STORE_FAILED, TOKEN_REQUESTS_LIMITED};

/// Who can mend something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blame {
    /// Whoever owns the data: something must change in the tenant's directory or subscriptions.
    Tenant,
    /// Whoever runs the collector: something must change in its configuration, on its machine or in its network.
    Operator,
    /// The service that is polled: it has a fault, cannot be reached or asks to wait, and that may pass by itself.
    Service,
    /// Whoever runs what a sink delivers to.
    Receiver,
    /// The authors of the plugin, or of a service that answers what they did not foresee.
    Plugin,
    /// The authors of the host.
    Harness,
}

impl Blame {
    /// All of them.
    pub const ALL: [Blame; 6] =
        [Blame::Tenant, Blame::Operator, Blame::Service, Blame::Receiver, Blame::Plugin, Blame::Harness];

    /// As it stands in the log and in labels.
    pub const fn word(self) -> &'static str {
        match self {
            Blame::Tenant => "tenant",
            Blame::Operator => "operator",
            Blame::Service => "service",
            Blame::Receiver => "receiver",
            Blame::Plugin => "plugin",
            Blame::Harness => "harness",
        }
    }

    /// Who that is, for people.
    pub const fn who(self) -> &'static str {
        match self {
            Blame::Tenant => "whoever owns the data: something must change in the tenant's directory or subscriptions",
            Blame::Operator => {
                "whoever runs the collector: something must change in its configuration, on its machine or in its network"
            }
            Blame::Service => "the service that is polled: it has a fault, cannot be reached or asks to wait",
            Blame::Receiver => "whoever runs what a sink delivers to",
            Blame::Plugin => "the authors of the plugin, or of a service that answers what they did not foresee",
            Blame::Harness => "the authors of the host",
        }
    }

    /// Who can mend a failure with this code. None where the code does not say it: the reaction then does.
    pub fn of_code(code: &str) -> Option<Blame> {
        CODES.iter().find(|(_, codes)| codes.contains(&code)).map(|(blame, _)| *blame)
    }

    /// Who can mend what keeps a sink from taking events: the receiver, where the code does not say otherwise.
    pub fn of_sink(code: &str) -> Blame {
        match Blame::of_code(code) {
            Some(blame @ (Blame::Operator | Blame::Harness)) => blame,
            _ if SINK_CODES.contains(&code) => Blame::Operator,
            _ => Blame::Receiver,
        }
    }

    fn of_reaction(reaction: Reaction) -> Blame {
        match reaction {
            Reaction::Wait | Reaction::TryLater | Reaction::Restart => Blame::Service,
            Reaction::RenewToken | Reaction::FixFeed | Reaction::FixScope | Reaction::NoData => Blame::Tenant,
            Reaction::FixPlugin => Blame::Plugin,
            // A state from a backup, or the plugin that wrote it, is put back by whoever runs the collector.
            Reaction::StateUnusable => Blame::Operator,
        }
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// Codes that say more of who can mend a failure than their reaction does. Those of the way to the service and of the
/// configuration are mended where the collector runs, whatever they ask of the host.
pub const CODES: &[(Blame, &[&str])] = &[
    (
        Blame::Operator,
        &[
            // The way to the service, as failures of polls and as steps of `check` name it.
            "request-denied",
            "origin-not-allowed",
            "credentials-in-clear",
            "no-tls-at-all",
            "address-prohibited",
            "name-not-resolved",
            "unreachable",
            "proxy-failed",
            "proxy-unreachable",
            "proxy-user",
            "proxy-user-refused",
            "proxy-sign-in",
            "proxy-refused",
            "not-a-proxy",
            "tls-untrusted",
            "ca-unknown",
            "certificate-time",
            "certificate-name",
            "certificate-unusable",
            "no-tls",
            "tls-broken",
            "tls-timeout",
            "redirected",
            "not-the-service",
            "status-unexpected",
            "token-challenged",
            "tenant-restricted",
            // The machine.
            "clock-off",
            "assertion-time",
            "assertion-audience",
            "assertion-malformed",
            "assertion-unavailable",
            STORE_FAILED.code,
            // Nothing but the configuration has to change.
            "settings-invalid",
            "settings-odd",
            "pin-differs",
            "credential-missing",
            "credential-unreadable",
            "tenant-invalid",
            "cloud-mismatch",
            "audience-unknown",
            "scope-invalid",
            "subscription-invalid",
            "all-excluded",
            "token-loop",
            "no-event",
        ],
    ),
    (Blame::Tenant, &["credential-expires", "credential-expires-soon", "credential-expired"]),
    (
        Blame::Service,
        &["service-clock-off", "connection-refused", "connection-timeout", "tls-refused", TOKEN_REQUESTS_LIMITED.code],
    ),
    (Blame::Receiver, &[OUTBOX_FULL.code]),
    (Blame::Plugin, &["plugin-broken"]),
    (Blame::Harness, &[HOST_FAILED.code, "assertion-thumbprint", "argument-invalid"]),
];

/// Codes of what a sink's own table mends: its `path`, and what a receiver says of its `url`, `token`, `headers` or
/// `preset`.
const SINK_CODES: &[&str] = &[
    FILE_UNWRITABLE,
    REQUEST_UNUSABLE,
    "answered-301",
    "answered-302",
    "answered-303",
    "answered-307",
    "answered-308",
    "answered-401",
    "answered-403",
    "answered-404",
    "answered-405",
    "answered-407",
    "answered-410",
    "answered-415",
    // An index or a channel that the token does not have.
    "splunk-7",
    "splunk-10",
    "splunk-11",
    "splunk-14",
];

/// Code of a sink's failure where a file cannot be written.
pub const FILE_UNWRITABLE: &str = "file-unwritable";

/// Code of a sink's failure where its configuration makes no request.
pub const REQUEST_UNUSABLE: &str = "request-unusable";

impl Failure {
    /// Who can mend it.
    pub fn blame(&self) -> Blame {
        Blame::of_code(&self.code).unwrap_or_else(|| Blame::of_reaction(self.reaction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blame_follows_who_can_mend_it() {
        use Reaction::{FixFeed, FixPlugin, FixScope, NoData, RenewToken, Restart, StateUnusable, TryLater, Wait};
        let table: &[(&str, Reaction, Blame)] = &[
            // A reaction alone.
            ("secret-expired", FixFeed, Blame::Tenant),
            ("forbidden", FixScope, Blame::Tenant),
            ("not-onboarded", NoData, Blame::Tenant),
            ("token-expired", RenewToken, Blame::Tenant),
            ("throttled", Wait, Blame::Service),
            ("service-unavailable", TryLater, Blame::Service),
            ("changed-meanwhile", Restart, Blame::Service),
            ("plugin-trapped", FixPlugin, Blame::Plugin),
            ("state-unreadable", StateUnusable, Blame::Operator),
            // The way to the service.
            ("name-not-resolved", TryLater, Blame::Operator),
            ("proxy-failed", TryLater, Blame::Operator),
            ("tls-untrusted", TryLater, Blame::Operator),
            ("request-denied", FixFeed, Blame::Operator),
            ("address-prohibited", FixFeed, Blame::Operator),
            ("connection-refused", TryLater, Blame::Service),
            ("timeout", TryLater, Blame::Service),
            // The configuration and the machine.
            ("settings-invalid", FixFeed, Blame::Operator),
            ("subscription-invalid", FixScope, Blame::Operator),
            ("assertion-unavailable", FixFeed, Blame::Operator),
            ("assertion-time", FixFeed, Blame::Operator),
            ("store-failed", TryLater, Blame::Operator),
            // A sink, and this program.
            ("outbox-full", StateUnusable, Blame::Receiver),
            ("host-failed", TryLater, Blame::Harness),
            ("token-requests-limited", Wait, Blame::Service),
        ];
        for (code, reaction, blame) in table {
            assert_eq!(Failure::new(*reaction, code, String::new()).blame(), *blame, "{code}");
        }
    }

    #[test]
    fn a_sink_that_takes_nothing_is_mended_by_its_receiver_or_its_configuration() {
        for (code, blame) in [
            ("answered-503", Blame::Receiver),
            ("answered-429", Blame::Receiver),
            ("answered-400", Blame::Receiver),
            ("answered-413", Blame::Receiver),
            ("connection-refused", Blame::Receiver),
            ("timeout", Blame::Receiver),
            ("answered-401", Blame::Operator),
            ("answered-404", Blame::Operator),
            ("answered-308", Blame::Operator),
            ("splunk-7", Blame::Operator),
            ("name-not-resolved", Blame::Operator),
            ("tls-untrusted", Blame::Operator),
            ("proxy-failed", Blame::Operator),
            ("file-unwritable", Blame::Operator),
            ("store-failed", Blame::Operator),
        ] {
            assert_eq!(Blame::of_sink(code), blame, "{code}");
        }
    }

    #[test]
    fn no_code_blames_two() {
        let mut codes: Vec<&str> = CODES.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }
}
