//! The collectors that share a store: `plan` decides which of them works on which shards of tenants, `keeper` renews
//! the leases of this one, and `summary` tells people.

pub mod keeper;
pub mod plan;
pub mod summary;
