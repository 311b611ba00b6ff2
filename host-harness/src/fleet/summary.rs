//! The work of each collector of a store, for people and metrics.

use std::collections::BTreeMap;

use source_host::digest::ShortDigest;

use crate::store::fleet::{Fleet, SeenMember};

/// One collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberSummary<'a> {
    /// Its row.
    pub seen: &'a SeenMember,
    /// The number of its shards; those of a dead collector that nobody took over yet do not count.
    pub shards: usize,
    /// The number of shards that a dead collector left, and that nobody took over yet.
    pub left: usize,
    /// Its polls an hour, as it told last.
    pub polls: u64,
    /// Number of feeds that it knows, also of tenants on which others work.
    pub feeds: u64,
    /// Whether it renews its leases.
    pub is_alive: bool,
    /// Whether its configuration is not that of most living collectors.
    pub differs: bool,
}

/// Returns the collectors, the living ones first.
pub fn summary<'a>(fleet: &'a Fleet) -> Vec<MemberSummary<'a>> {
    let mut configurations: BTreeMap<ShortDigest, usize> = BTreeMap::new();
    let living = fleet.members.iter().filter(|seen| seen.is_alive());
    for configuration in living.filter_map(|seen| seen.member.told_configuration()) {
        *configurations.entry(configuration).or_default() += 1;
    }
    let usual = configurations.iter().max_by_key(|(_, count)| **count).map(|(digest, _)| *digest);
    let row = |seen: &'a SeenMember| {
        let SeenMember { member, .. } = seen;
        let is_alive = seen.is_alive();
        let own = fleet.shards.iter().filter(|shard| shard.holder.as_ref() == Some(&member.id));
        let (own, left): (Vec<usize>, Vec<usize>) =
            own.map(|shard| usize::from(shard.lease.shard)).partition(|_| is_alive);
        MemberSummary {
            seen,
            shards: own.len(),
            left: left.len(),
            polls: own.iter().filter_map(|shard| member.work.get(*shard)).map(|work| u64::from(work.polls)).sum(),
            feeds: member.work.iter().map(|work| u64::from(work.feeds)).sum(),
            is_alive,
            differs: is_alive && member.told_configuration().is_some_and(|own| usual != Some(own)),
        }
    };
    let mut rows: Vec<MemberSummary<'a>> = fleet.members.iter().map(row).collect();
    rows.sort_by_key(|row| (!row.is_alive, row.seen.member.name.clone(), row.seen.started));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use crate::store::fleet::{FleetMember, MemberId, SeenShard, ShardWork};
    use crate::store::shards::Lease;

    #[test]
    fn dead_collectors_and_other_configurations_are_told() {
        let member = |name: &str, configuration: &str, silent| SeenMember {
            member: FleetMember {
                id: MemberId(name.to_owned()),
                name: name.to_owned(),
                version: "1".to_owned(),
                configuration: ShortDigest::of(configuration),
                listen: None,
                work: vec![ShardWork { feeds: 2, polls: 5, known: 1 }; 4],
            },
            started: 0,
            silent,
        };
        let (alive, dead) = (limits::RENEWAL, limits::LEASE);
        let shard = |shard, holder: &str| SeenShard {
            lease: Lease { shard, epoch: 1 },
            holder: Some(MemberId(holder.to_owned())),
            since: 0,
        };
        let fleet = Fleet {
            now: 0,
            members: vec![
                member("a", "old", dead),
                member("b", "new", alive),
                member("c", "old", alive),
                member("d", "old", alive),
            ],
            shards: vec![shard(0, "a"), shard(1, "b"), shard(2, "b"), shard(3, "c")],
        };
        let told: Vec<_> = summary(&fleet)
            .iter()
            .map(|row| (row.seen.member.name.clone(), row.shards, row.polls, row.is_alive, row.differs))
            .collect();
        let row = |name: &str, shards, polls, is_alive, differs| (name.to_owned(), shards, polls, is_alive, differs);
        assert_eq!(
            told,
            [
                row("b", 2, 10, true, true),
                row("c", 1, 5, true, false),
                row("d", 0, 0, true, false),
                row("a", 0, 0, false, false)
            ]
        );
        assert_eq!(summary(&fleet)[0].feeds, 8);
        assert_eq!(summary(&fleet).iter().map(|row| row.left).collect::<Vec<_>>(), [0, 0, 0, 1]);
        // One that has just started has not told its configuration yet.
        let mut starting = fleet.clone();
        starting.members[1].member.configuration = ShortDigest::default();
        assert!(summary(&starting).iter().all(|row| !row.differs));
        // One that polls once may know a part of the feeds.
        let mut fleet = fleet;
        for seen in &mut fleet.members[1..3] {
            seen.member.work.clear();
        }
        let differs: Vec<bool> = summary(&fleet).iter().map(|row| row.differs).collect();
        assert_eq!(differs, [false; 4]);
    }
}
