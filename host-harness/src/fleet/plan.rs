//! Which shards a collector takes and gives back. Pure: each collector decides for itself from the same rows, and the
//! store decides between two that want the same shard.

use std::collections::BTreeMap;

use source_host::limits::milliseconds;

use crate::limits;
use crate::store::fleet::{Fleet, MemberId, SeenMember, SeenShard, ShardWork};

/// The shards to take and to give back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    /// Shards that nobody holds.
    pub take: Vec<u16>,
    /// Own shards.
    pub give: Vec<u16>,
}

/// Decides about the shards of `me`. A shard goes to the living collector with the least work among those that know feeds
/// of its tenants. If they know different feeds, as while a configuration is rolled out, they take turns. A collector with
/// much more work than another gives shards back, a few at a time, while no shard is without a holder.
pub fn moves(me: &MemberId, fleet: &Fleet) -> Moves {
    let table = LivingMembers::of(fleet);
    let mut loads = table.loads();
    if !loads.contains_key(me) {
        return Moves::default();
    }
    let mut free: Vec<&SeenShard> = fleet.shards.iter().filter(|shard| table.holder(shard).is_none()).collect();
    free.sort_by_key(|shard| (std::cmp::Reverse(table.weight(shard)), shard.lease.shard));
    let mut moves = Moves::default();
    for shard in &free {
        let knowing = table.knowing(shard);
        let taker = match table.is_disputed(shard) {
            // Each taker begins an epoch.
            true => knowing.get(shard.lease.epoch as usize % knowing.len()).copied(),
            false => knowing.into_iter().min_by_key(|id| (loads[*id], *id)),
        };
        let Some(taker) = taker else { continue };
        if taker == me {
            moves.take.push(shard.lease.shard);
        }
        *loads.entry(taker).or_default() += table.weight(shard);
    }
    let own = || fleet.shards.iter().filter(|shard| table.holder(shard) == Some(me));
    let had_turn = |shard: &SeenShard| {
        table.is_disputed(shard) && fleet.now.saturating_sub(shard.since) >= milliseconds(limits::SHARD_TURN)
    };
    let of_others = own().filter(|shard| had_turn(shard) || !table.knowing(shard).contains(&me));
    moves.give.extend(of_others.map(|shard| shard.lease.shard));
    if free.is_empty() && moves.give.is_empty() {
        moves.give = table.excess(me, &loads, own());
    }
    moves.give.truncate(limits::SHARDS_GIVEN);
    moves
}

/// The living collectors, by id.
struct LivingMembers<'a> {
    living: BTreeMap<&'a MemberId, &'a SeenMember>,
    shards: &'a [SeenShard],
}

impl<'a> LivingMembers<'a> {
    fn of(fleet: &'a Fleet) -> LivingMembers<'a> {
        let living = fleet.members.iter().filter(|seen| seen.is_alive());
        LivingMembers { living: living.map(|seen| (&seen.member.id, seen)).collect(), shards: &fleet.shards }
    }

    /// The living holder of a shard.
    fn holder(&self, shard: &SeenShard) -> Option<&'a MemberId> {
        self.living.get_key_value(shard.holder.as_ref()?).map(|(id, _)| *id)
    }

    /// The work in a shard, as a collector knows it.
    fn work(member: &SeenMember, shard: &SeenShard) -> ShardWork {
        member.member.work.get(usize::from(shard.lease.shard)).copied().unwrap_or_default()
    }

    /// The living collectors that know feeds of a shard; all that share the work, if nobody knows any.
    fn knowing(&self, shard: &SeenShard) -> Vec<&'a MemberId> {
        let knows = |member: &SeenMember| LivingMembers::work(member, shard).feeds > 0;
        let is_known = self.living.values().any(|member| knows(member));
        self.sharing().filter(|(_, member)| !is_known || knows(member)).map(|(id, _)| id).collect()
    }

    /// The living collectors among which the work is divided.
    fn sharing(&self) -> impl Iterator<Item = (&'a MemberId, &'a SeenMember)> {
        self.living.iter().filter(|(_, seen)| seen.member.shares()).map(|(id, seen)| (*id, *seen))
    }

    /// Says whether living collectors know different feeds of a shard.
    fn is_disputed(&self, shard: &SeenShard) -> bool {
        let work = self.living.values().map(|member| LivingMembers::work(member, shard));
        let mut known = work.filter(|work| work.feeds > 0).map(|work| work.known);
        let first = known.next();
        known.any(|other| first != Some(other))
    }

    /// The work of a shard: as its holder tells, since only that knows its scopes; otherwise the most that is told.
    fn weight(&self, shard: &SeenShard) -> u64 {
        let polls = |member: &&SeenMember| u64::from(LivingMembers::work(member, shard).polls);
        let polls = match self.holder(shard).and_then(|holder| self.living.get(holder)) {
            Some(holder) => polls(holder),
            None => self.living.values().map(polls).max().unwrap_or_default(),
        };
        // Shards without work are shared out, too: they will have some.
        polls + 1
    }

    fn loads(&self) -> BTreeMap<&'a MemberId, u64> {
        let mut loads: BTreeMap<&MemberId, u64> = self.sharing().map(|(id, _)| (id, 0)).collect();
        for shard in self.shards {
            if let Some(load) = self.holder(shard).and_then(|holder| loads.get_mut(holder)) {
                *load += self.weight(shard);
            }
        }
        loads
    }

    /// The shards that `me` gives back because another collector has much less work. Only the one with the most work gives
    /// any, so that two do not fill a third beyond both.
    fn excess<'b>(
        &self,
        me: &MemberId,
        loads: &BTreeMap<&'a MemberId, u64>,
        own: impl Iterator<Item = &'b SeenShard>,
    ) -> Vec<u16> {
        let mut loads = loads.clone();
        let most = loads.iter().max_by_key(|(id, load)| (**load, **id)).map(|(id, _)| *id);
        let mean = loads.values().sum::<u64>() / loads.len().max(1) as u64;
        let mut own: Vec<&SeenShard> = own.filter(|shard| !self.is_disputed(shard)).collect();
        own.sort_by_key(|shard| (std::cmp::Reverse(self.weight(shard)), shard.lease.shard));
        let mut give = Vec::new();
        for shard in own.into_iter().filter(|_| most == Some(me)) {
            let weight = self.weight(shard);
            let others = self.knowing(shard).into_iter().filter(|id| *id != me);
            let Some(other) = others.min_by_key(|id| (loads[*id], *id)) else { continue };
            let (mine, its) = (loads[me], loads[other]);
            if give.len() < limits::SHARDS_GIVEN && its + weight < mine && mine - its > mean / limits::LOADS_ALIKE {
                give.push(shard.lease.shard);
                loads.entry(other).and_modify(|load| *load += weight);
                if let Some(load) = loads.iter_mut().find(|(id, _)| **id == me).map(|(_, load)| load) {
                    *load -= weight;
                }
            }
        }
        give
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use source_host::digest::ShortDigest;

    use super::*;
    use crate::store::fleet::FleetMember;
    use crate::store::shards::Lease;

    fn id(name: &str) -> MemberId {
        MemberId(name.to_owned())
    }

    fn member(name: &str, work: Vec<ShardWork>) -> SeenMember {
        let member = FleetMember {
            id: id(name),
            name: name.to_owned(),
            version: "1".to_owned(),
            configuration: ShortDigest::of("same"),
            listen: None,
            work,
        };
        SeenMember { member, started: 0, silent: Duration::ZERO }
    }

    /// A fleet in which everybody knows the same feeds, with so many polls an hour in each shard.
    fn fleet(names: &[&str], polls: &[u32]) -> Fleet {
        let work: Vec<ShardWork> = polls.iter().map(|polls| ShardWork { feeds: 1, polls: *polls, known: 1 }).collect();
        let shard = |shard| SeenShard { lease: Lease { shard, epoch: 0 }, holder: None, since: 0 };
        Fleet {
            now: 0,
            members: names.iter().map(|name| member(name, work.clone())).collect(),
            shards: (0..polls.len() as u16).map(shard).collect(),
        }
    }

    /// Lets each collector act once on the same rows, as between two renewals. Returns how many shards changed hands.
    fn turn(fleet: &mut Fleet) -> usize {
        let ids: Vec<MemberId> = fleet.members.iter().map(|seen| seen.member.id.clone()).collect();
        let all: Vec<(MemberId, Moves)> = ids.into_iter().map(|id| (id.clone(), moves(&id, fleet))).collect();
        let mut moved = 0;
        for (id, moves) in all {
            moved += moves.take.len() + moves.give.len();
            for shard in moves.take {
                let row = &mut fleet.shards[usize::from(shard)];
                assert!(row.holder.as_ref().is_none_or(|holder| *holder != id), "own shards are not taken again");
                (row.holder, row.since) = (Some(id.clone()), fleet.now);
                row.lease.epoch += 1;
            }
            for shard in moves.give {
                let row = &mut fleet.shards[usize::from(shard)];
                assert_eq!(row.holder.take(), Some(id.clone()));
            }
        }
        moved
    }

    fn settle(fleet: &mut Fleet) -> usize {
        (0..200).position(|_| turn(fleet) == 0).expect("it comes to rest")
    }

    fn held(fleet: &Fleet, name: &str) -> usize {
        fleet.shards.iter().filter(|shard| shard.holder == Some(id(name))).count()
    }

    #[test]
    fn the_first_collector_takes_everything_at_once() {
        let mut fleet = fleet(&["a"], &[1; 256]);
        assert_eq!(settle(&mut fleet), 1);
        assert_eq!(held(&fleet, "a"), 256);
    }

    #[test]
    fn collectors_that_come_get_their_part_a_few_shards_at_a_time() {
        let mut fleet = fleet(&["a"], &[1; 256]);
        settle(&mut fleet);
        let work = fleet.members[0].member.work.clone();
        fleet.members.push(member("b", work.clone()));
        fleet.members.push(member("c", work));
        assert_eq!(turn(&mut fleet), limits::SHARDS_GIVEN);
        settle(&mut fleet);
        let held = ["a", "b", "c"].map(|name| held(&fleet, name));
        assert!(held.iter().all(|held| (78..94).contains(held)) && held.iter().sum::<usize>() == 256, "{held:?}");
    }

    #[test]
    fn the_shards_of_a_dead_collector_are_taken_at_once_and_no_other_moves() {
        let mut fleet = fleet(&["a", "b", "c"], &[1; 256]);
        settle(&mut fleet);
        let before = fleet.clone();
        fleet.members[1].silent = limits::LEASE;
        let dead = held(&fleet, "b");
        assert_eq!(turn(&mut fleet), dead);
        for (before, now) in before.shards.iter().zip(&fleet.shards) {
            assert!(before.holder == Some(id("b")) || before.holder == now.holder);
        }
        assert_eq!((held(&fleet, "b"), settle(&mut fleet)), (0, 0));
    }

    #[test]
    fn a_dead_collector_takes_nothing_and_gives_nothing() {
        let mut fleet = fleet(&["a", "b"], &[1; 8]);
        fleet.members[0].silent = limits::LEASE;
        fleet.shards[0].holder = Some(id("a"));
        assert_eq!(moves(&id("a"), &fleet), Moves::default());
        assert_eq!(moves(&id("unknown"), &fleet), Moves::default());
    }

    #[test]
    fn one_that_polls_once_keeps_its_shards_and_is_given_none() {
        let mut fleet = fleet(&["a", "b"], &[1; 64]);
        fleet.members.push(member("once", Vec::new()));
        fleet.shards[9].holder = Some(id("once"));
        settle(&mut fleet);
        assert_eq!(["a", "b", "once"].map(|name| held(&fleet, name)), [32, 31, 1]);
        assert_eq!(moves(&id("once"), &fleet), Moves::default());
        // Nobody knows a feed there.
        fleet.members.iter_mut().for_each(|seen| seen.member.work.fill(ShardWork::default()));
        (fleet.shards[7].holder, fleet.shards[9].holder) = (None, None);
        settle(&mut fleet);
        assert_eq!((held(&fleet, "once"), held(&fleet, "a"), held(&fleet, "b")), (0, 32, 32));
    }

    #[test]
    fn uneven_work_is_evened_out_and_a_shard_that_is_heavier_than_all_others_stays() {
        let polls: Vec<u32> = (0..64).map(|shard| if shard == 5 { 10_000 } else { 10 + shard % 7 }).collect();
        let mut fleet = fleet(&["a", "b"], &polls);
        settle(&mut fleet);
        let with_heavy = fleet.shards[5].holder.clone().unwrap();
        assert_eq!(held(&fleet, &with_heavy.0), 1, "the other one has all the rest");
        // The work changes a little: nothing moves for it.
        for member in &mut fleet.members {
            member.member.work[7].polls += 1;
        }
        assert_eq!(turn(&mut fleet), 0);
    }

    #[test]
    fn a_shard_goes_to_those_who_know_its_feeds() {
        let mut fleet = fleet(&["a", "b"], &[1; 8]);
        settle(&mut fleet);
        fleet.members[1].member.work[4] = ShardWork::default();
        settle(&mut fleet);
        assert_eq!(fleet.shards[4].holder, Some(id("a")), "b does not know the feed");
        for member in &mut fleet.members {
            member.member.work[6] = ShardWork::default();
        }
        settle(&mut fleet);
        assert!(fleet.shards[6].holder.is_some(), "its events still wait for their sinks");
    }

    #[test]
    fn collectors_that_know_different_feeds_of_a_shard_take_turns() {
        let mut fleet = fleet(&["a", "b", "c", "d"], &[1; 256]);
        for (member, known) in [(1, 7), (2, 8)] {
            fleet.members[member].member.work[3].known = known;
        }
        fleet.members[3].member.work[3] = ShardWork::default();
        let turns: Vec<_> = (0..6)
            .map(|_| {
                fleet.now += milliseconds(limits::SHARD_TURN);
                settle(&mut fleet);
                let undisputed = fleet.shards.iter().filter(|shard| shard.lease.shard != 3);
                assert!(undisputed.clone().all(|shard| shard.lease.epoch == 1 && shard.holder.is_some()));
                fleet.shards[3].holder.clone().unwrap().0
            })
            .collect();
        assert_eq!(turns[..3], turns[3..]);
        assert_eq!(turns.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{turns:?}: d knows none");
        // One that dies leaves its turn to the others.
        fleet.members[1].silent = limits::LEASE;
        for _ in 0..3 {
            fleet.now += milliseconds(limits::SHARD_TURN);
            settle(&mut fleet);
            assert!(fleet.shards[3].holder != Some(id("b")));
        }
    }
}
