//! The party that can mend a failure: one rule for the log, the status page, the metrics, and the output of `poll` and
//! `check`.

use std::fmt;

use crate::contract::Reaction;

/// The party that can mend a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blame {
    /// The owner of the data: something must change on the tenant's side of the service.
    Tenant,
    /// The operator of the collector: something must change in its configuration, on its machine or in its network.
    Operator,
    /// The service that is polled: it has a fault, is unreachable or asks to wait. The failure may pass by itself.
    Service,
    /// The operator of the receiver to which a sink delivers.
    Receiver,
    /// The authors of the plugin, or of a service that gives answers which the plugin does not foresee.
    Plugin,
    /// The authors of the host.
    Harness,
}

impl Blame {
    /// All parties.
    pub const ALL: [Blame; 6] =
        [Blame::Tenant, Blame::Operator, Blame::Service, Blame::Receiver, Blame::Plugin, Blame::Harness];

    /// The word for the party in the log and in labels.
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

    /// The party in words for people.
    pub const fn who(self) -> &'static str {
        match self {
            Blame::Tenant => "whoever owns the data: something must change on the tenant's side of the service",
            Blame::Operator => {
                "whoever runs the collector: something must change in its configuration, on its machine or in its network"
            }
            Blame::Service => "the service that is polled: it has a fault, cannot be reached or asks to wait",
            Blame::Receiver => "the operator of a sink's receiver",
            Blame::Plugin => "the authors of the plugin, or of a service whose answer the plugin does not expect",
            Blame::Harness => "the authors of the host",
        }
    }

    /// The party that can mend a failure of a plugin, as far as its reaction tells.
    pub const fn of_reaction(reaction: Reaction) -> Blame {
        match reaction {
            Reaction::Wait | Reaction::TryLater | Reaction::Restart => Blame::Service,
            Reaction::RenewToken | Reaction::FixFeed | Reaction::FixScope | Reaction::NoData => Blame::Tenant,
            Reaction::FixPlugin => Blame::Plugin,
            // The operator restores a state from a backup, or the plugin that wrote it.
            Reaction::StateUnusable => Blame::Operator,
        }
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reaction_says_who_can_mend_the_failure() {
        use Reaction::{FixFeed, FixPlugin, FixScope, NoData, RenewToken, Restart, StateUnusable, TryLater, Wait};
        for (reaction, blame) in [
            (FixFeed, Blame::Tenant),
            (FixScope, Blame::Tenant),
            (NoData, Blame::Tenant),
            (RenewToken, Blame::Tenant),
            (Wait, Blame::Service),
            (TryLater, Blame::Service),
            (Restart, Blame::Service),
            (FixPlugin, Blame::Plugin),
            (StateUnusable, Blame::Operator),
        ] {
            assert_eq!(Blame::of_reaction(reaction), blame, "{reaction:?}");
        }
    }
}
