//! Limits of the data that feeds and tenants may keep in the store, without its outbox, so that none uses up the space
//! of the others.

use std::fmt;

use crate::limits;
use crate::store::space::LowSpace;

/// The key of `[collector]` that limits a feed.
pub const KEY_OF_FEED: &str = "max_state_bytes_per_feed";

/// The key of `[collector]` that limits a tenant.
pub const KEY_OF_TENANT: &str = "max_state_bytes_per_tenant";

/// Limits for one feed and for one tenant: bytes of scopes, their states and figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// Bytes of one feed.
    pub feed_bytes: u64,
    /// Bytes of all feeds of one tenant.
    pub tenant_bytes: u64,
    /// Bytes that should stay free on the file system of the state; `None` derives them from its size.
    pub min_free_bytes: Option<u64>,
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets {
            feed_bytes: limits::STATE_BYTES_OF_FEED,
            tenant_bytes: limits::STATE_BYTES_OF_TENANT,
            min_free_bytes: None,
        }
    }
}

/// The data that is kept in a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredBytes {
    /// Bytes of one feed.
    pub feed: u64,
    /// Bytes of all feeds of its tenant.
    pub tenant: u64,
}

/// The budget that a poll would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// The budget of the feed.
    Feed {
        /// Bytes that would be kept.
        bytes: u64,
        /// Bytes that are allowed.
        most: u64,
    },
    /// The budget of the tenant.
    Tenant {
        /// Bytes that would be kept.
        bytes: u64,
        /// Bytes that are allowed.
        most: u64,
    },
    /// The feed's share while there is too little space, which includes events that wait for sinks.
    Share {
        /// Bytes that would be kept.
        bytes: u64,
        /// Bytes that are allowed.
        most: u64,
        /// The free space.
        low: LowSpace,
    },
}

impl Budgets {
    /// Returns the budget that a poll would exceed. A poll that keeps no more than before is always accepted, because a
    /// budget may become smaller while feeds exceed it.
    pub fn passed(&self, before: StoredBytes, after: StoredBytes) -> Option<Excess> {
        let passed = |before: u64, after: u64, most: u64| after > most && after > before;
        if passed(before.feed, after.feed, self.feed_bytes) {
            return Some(Excess::Feed { bytes: after.feed, most: self.feed_bytes });
        }
        let is_over = passed(before.tenant, after.tenant, self.tenant_bytes);
        is_over.then_some(Excess::Tenant { bytes: after.tenant, most: self.tenant_bytes })
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (who, bytes, most, key) = match self {
            Excess::Share { bytes, most, low } => {
                return write!(
                    formatter,
                    "{low}, and the feed would keep {bytes} bytes with its events, more than its share of {most} bytes; \
                     nothing of the poll was kept"
                );
            }
            Excess::Feed { bytes, most } => ("the feed", bytes, most, KEY_OF_FEED),
            Excess::Tenant { bytes, most } => ("the feeds of the tenant", bytes, most, KEY_OF_TENANT),
        };
        write!(
            formatter,
            "{who} would keep {bytes} bytes of scopes, states and figures, which exceeds the limit of {most} bytes \
             ({key}); nothing of the poll was kept"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_beyond_a_budget_passes_it_and_what_shrinks_never_does() {
        let budgets = Budgets { feed_bytes: 100, tenant_bytes: 150, ..Budgets::default() };
        let passed = |before: (u64, u64), after: (u64, u64)| {
            let kept = |(feed, tenant)| StoredBytes { feed, tenant };
            budgets.passed(kept(before), kept(after))
        };
        assert_eq!(passed((0, 0), (100, 150)), None);
        assert_eq!(passed((0, 0), (101, 101)), Some(Excess::Feed { bytes: 101, most: 100 }));
        assert_eq!(passed((0, 90), (61, 151)), Some(Excess::Tenant { bytes: 151, most: 150 }));
        assert_eq!(passed((300, 300), (300, 300)), None);
        assert_eq!(passed((300, 300), (200, 200)), None);
        assert_eq!(passed((300, 300), (301, 301)), Some(Excess::Feed { bytes: 301, most: 100 }));
    }
}
