//! Several collectors on one store: each works on its part of the tenants, and what one leaves another takes up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use host_harness::collector::expected_work;
use host_harness::fleet::keeper::{FleetWatch, Keeper};
use host_harness::limits;
use host_harness::store::SharedStore;
use host_harness::store::fleet::{FleetMember, MemberId, ShardWork};
use host_harness::store::shards::{Shards, SteadyClock, shard_of};
use parking_lot::Mutex;
use serde_json::Value;
use source_host::digest::ShortDigest;
use source_host::limits::milliseconds;
use source_host::network::Transport;
use source_simulator::estate::Estate;

use super::scene::{HOUR, SECOND, Scene, throttled};
use crate::support::NOON;
use crate::support::fleet::{Connection, Database, SHARDS};
use crate::support::stage::{Prepared, Secrets, Stage};

const TENANTS: u32 = 12;

fn clock(scene: &Scene) -> SteadyClock {
    let (begun, now) = (Instant::now(), Arc::clone(&scene.now));
    Arc::new(move || begun + Duration::from_millis(now.load(Ordering::SeqCst).saturating_sub(NOON)))
}

/// Returns the keeper of a collector, the collector's row, its store, and its shards: none yet.
fn kept(
    scene: &Scene,
    database: &Arc<Database>,
    name: &str,
    work: Vec<ShardWork>,
) -> ((Keeper, FleetWatch), Arc<Mutex<FleetMember>>, SharedStore, Shards) {
    let (id, clock) = (MemberId(name.to_owned()), clock(scene));
    let store: SharedStore = Arc::new(Connection { database: Arc::clone(database), id: id.clone() });
    let (name, version, configuration) = (name.to_owned(), String::new(), ShortDigest::default());
    let member = FleetMember { id, name, version, configuration, listen: None, work };
    let (member, shards) = (Arc::new(Mutex::new(member)), Shards::none_of(SHARDS, Arc::clone(&clock)));
    let keeper = Keeper::new(Arc::clone(&store), shards.clone(), clock, Arc::clone(&member));
    (keeper, member, store, shards)
}

/// A collector of the fleet.
struct Ship {
    stage: Stage,
    keeper: Keeper,
    watch: FleetWatch,
    member: Arc<Mutex<FleetMember>>,
}

impl Ship {
    async fn start(scene: &Scene, database: &Arc<Database>, name: &str, text: &str) -> Ship {
        let ((mut keeper, watch), member, store, shards) = kept(scene, database, name, expected_work(&[], SHARDS));
        keeper.turn().await;
        let transport = Arc::clone(&scene.service) as Arc<dyn Transport>;
        let opened = (store, &shards);
        let prepared = Prepared::on(opened, &scene.file(), text, &Secrets::new(), &scene.now, transport).await;
        Ship { stage: prepared.start().await, keeper, watch, member }
    }

    /// Renews the leases, and does everything that is due.
    async fn turn(&mut self) {
        self.member.lock().work = self.stage.collector.work(SHARDS);
        self.keeper.turn().await;
        self.stage.collector.reconcile();
        self.stage.run_now().await;
    }

    fn held(&self) -> usize {
        self.watch.state().held.len()
    }

    /// Number of feeds that it works on.
    fn feeds(&self) -> usize {
        self.stage.collector.snapshot(0).feeds
    }
}

/// Lets time pass for these collectors.
async fn pass(scene: &Scene, ships: &mut [&mut Ship], time: u64) {
    let end = scene.now.load(Ordering::SeqCst) + time;
    while scene.now.load(Ordering::SeqCst) < end {
        scene.now.fetch_add(milliseconds(limits::RENEWAL), Ordering::SeqCst);
        for ship in ships.iter_mut() {
            ship.turn().await;
        }
    }
}

fn feeds(scene: &Scene) -> String {
    let feeds = (0..TENANTS as usize).map(|tenant| scene.feed(&format!("feed-{tenant}"), tenant, "\"*\"", ""));
    "[network]\nallow = [\"https://sim.example\"]\n".to_owned() + &feeds.collect::<String>()
}

/// The number of polls of each subscription since a time.
fn polls(scene: &Scene, since: u64) -> BTreeMap<String, usize> {
    let mut polls = BTreeMap::new();
    for (time, path) in scene.service.asked.lock().iter() {
        if let Some((subscription, _)) = path.split_once("/providers/Microsoft.Security/secureScores")
            && *time >= since
            && !path.contains("Controls")
        {
            *polls.entry(subscription.to_owned()).or_default() += 1;
        }
    }
    polls
}

/// The longest time between two polls of a subscription since a time, or up to `end`.
fn longest_wait(scene: &Scene, since: u64, end: u64) -> u64 {
    let mut asked: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (time, path) in scene.service.asked.lock().iter().filter(|(time, _)| *time >= since) {
        if let Some((subscription, _)) = path.split_once("/providers/Microsoft.Security/secureScores") {
            asked.entry(subscription.to_owned()).or_insert_with(|| vec![since]).push(*time);
        }
    }
    assert_eq!(asked.len(), TENANTS as usize);
    let waits = asked.values().flat_map(|times| times.iter().zip(times[1..].iter().chain([&end])));
    waits.map(|(before, after)| after - before).max().unwrap()
}

fn uids(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["metadata"]["uid"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn two_collectors_share_the_tenants_and_poll_each_scope_once() {
    let scene = Scene::new(Estate::sized(TENANTS, 1));
    let (database, text) = (Database::new(&scene.now), feeds(&scene));
    let mut one = Ship::start(&scene, &database, "one", &text).await;
    assert_eq!(one.held(), usize::from(SHARDS), "the first one takes all");
    pass(&scene, &mut [&mut one], 5 * 60 * SECOND).await;
    assert_eq!(polls(&scene, 0).len(), TENANTS as usize);
    let mut other = Ship::start(&scene, &database, "other", &text).await;
    assert_eq!(other.held(), 0, "nothing is taken from a living collector");
    pass(&scene, &mut [&mut one, &mut other], 5 * 60 * SECOND).await;
    assert_eq!(one.held() + other.held(), usize::from(SHARDS));
    assert!(one.feeds() > 0 && other.feeds() > 0);
    assert_eq!(one.feeds() + other.feeds(), TENANTS as usize);
    // After the first polls, each scope comes at its place of the hour.
    pass(&scene, &mut [&mut one, &mut other], 2 * HOUR).await;
    let since = scene.now.load(Ordering::SeqCst);
    pass(&scene, &mut [&mut one, &mut other], 4 * HOUR).await;
    let polls = polls(&scene, since);
    assert!(polls.len() == TENANTS as usize && polls.values().all(|polls| *polls == 4), "{polls:?}");
    assert!(database.fenced.lock().is_empty());
    // No count of waiting events is left behind where a shard went.
    for ship in [&one, &other] {
        ship.stage.pipeline.deliveries.rest().await;
        assert_eq!(ship.stage.pipeline.deliveries.waiting(), []);
    }
    // Every finding is told once, whoever polls its scope.
    let events = [one.stage.told().await, other.stage.told().await].concat();
    let mut all = uids(&events);
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
    assert!(events.iter().all(|event| event["activity_name"] != "Update"));
}

#[tokio::test]
async fn events_of_shards_that_are_taken_during_the_start_are_delivered() {
    let scene = Scene::new(Estate::sized(TENANTS, 1));
    let (database, text) = (Database::new(&scene.now), feeds(&scene));
    let ((mut keeper, watch), member, store, shards) = kept(&scene, &database, "one", expected_work(&[], SHARDS));
    let transport = Arc::clone(&scene.service) as Arc<dyn Transport>;
    let opened = (store, &shards);
    let prepared = Prepared::on(opened, &scene.file(), &text, &Secrets::new(), &scene.now, transport).await;
    keeper.turn().await;
    assert_eq!(watch.state().held.len(), usize::from(SHARDS));
    let mut one = Ship { stage: prepared.start().await, keeper, watch, member };
    pass(&scene, &mut [&mut one], 5 * 60 * SECOND).await;
    let events = one.stage.told().await;
    let tenants: BTreeSet<&str> = events.iter().filter_map(|event| event["metadata"]["tenant_uid"].as_str()).collect();
    assert_eq!(tenants.len(), TENANTS as usize);
}

#[tokio::test]
async fn one_poll_beside_collectors_has_the_shards_that_it_needs_and_no_others() {
    let scene = Scene::new(Estate::sized(TENANTS, 1));
    let (database, text) = (Database::new(&scene.now), feeds(&scene));
    // It begins while nobody runs, and lasts while collectors start.
    let needed = BTreeSet::from([3, 4]);
    let ((keeper, _), _, _, shards) = kept(&scene, &database, "once", Vec::new());
    let mut once = keeper.of_one_poll(needed.clone());
    database.refuses.store(true, Ordering::SeqCst);
    once.turn().await;
    assert_eq!(shards.held(), []);
    database.refuses.store(false, Ordering::SeqCst);
    once.turn().await;
    let held = || shards.held().iter().map(|lease| lease.shard).collect::<BTreeSet<u16>>();
    assert_eq!(held(), needed);
    let mut one = Ship::start(&scene, &database, "one", &text).await;
    let mut two = Ship::start(&scene, &database, "two", &text).await;
    for _ in 0..20 {
        pass(&scene, &mut [&mut one, &mut two], 3 * SECOND).await;
        once.turn().await;
        assert_eq!(held(), needed);
    }
    assert_eq!(one.held() + two.held(), usize::from(SHARDS) - needed.len());
    // Another one gets nothing that collectors hold.
    let ((keeper, _), _, _, shards) = kept(&scene, &database, "later", Vec::new());
    let mut later = keeper.of_one_poll(BTreeSet::from([3, 4, 5]));
    later.turn().await;
    assert_eq!(shards.held(), []);
    once.leave().await;
    later.turn().await;
    assert_eq!(shards.held(), [], "its poll has begun");
    pass(&scene, &mut [&mut one, &mut two], 6 * SECOND).await;
    assert_eq!(one.held() + two.held(), usize::from(SHARDS));
}

#[tokio::test]
async fn a_feed_that_only_one_collector_knows_is_polled_by_that_one() {
    let scene = Scene::new(Estate::sized(TENANTS, 1));
    let database = Database::new(&scene.now);
    let some = |tenants: std::ops::Range<usize>| {
        let feeds = tenants.map(|tenant| scene.feed(&format!("feed-{tenant}"), tenant, "\"*\"", ""));
        "[network]\nallow = [\"https://sim.example\"]\n".to_owned() + &feeds.collect::<String>()
    };
    let mut one = Ship::start(&scene, &database, "one", &some(0..8)).await;
    let mut other = Ship::start(&scene, &database, "other", &some(4..TENANTS as usize)).await;
    let shards = |tenants: std::ops::Range<u32>| {
        tenants.map(|tenant| shard_of(&format!("tenant-{tenant}"), SHARDS)).collect::<BTreeSet<_>>()
    };
    assert!(!shards(0..4).is_disjoint(&shards(8..TENANTS)), "some shards have tenants of both");
    // After the first polls, each scope comes at its place of the hour.
    pass(&scene, &mut [&mut one, &mut other], 2 * HOUR).await;
    let since = scene.now.load(Ordering::SeqCst);
    pass(&scene, &mut [&mut one, &mut other], 4 * HOUR).await;
    // Beside its turn, a collector gives a shard back, and the other one finds it with its next renewal.
    let turn = limits::SHARD_TURN + limits::GIVING + 4 * limits::RENEWAL;
    let longest = longest_wait(&scene, since, scene.now.load(Ordering::SeqCst));
    assert!(longest <= HOUR + milliseconds(turn), "{longest}");
    assert!(database.fenced.lock().is_empty());
}

#[tokio::test]
async fn what_a_dead_collector_leaves_is_taken_up_after_a_lease() {
    let scene = Scene::new(Estate::sized(TENANTS, 1));
    let (database, text) = (Database::new(&scene.now), feeds(&scene));
    let mut one = Ship::start(&scene, &database, "one", &text).await;
    let mut other = Ship::start(&scene, &database, "other", &text).await;
    pass(&scene, &mut [&mut one, &mut other], 2 * HOUR).await;
    let first = [one.stage.told().await, other.stage.told().await].concat();
    drop(one);
    pass(&scene, &mut [&mut other], milliseconds(limits::LEASE + limits::RENEWAL)).await;
    assert_eq!((other.held(), other.feeds()), (usize::from(SHARDS), TENANTS as usize));
    let since = scene.now.load(Ordering::SeqCst);
    pass(&scene, &mut [&mut other], 2 * HOUR).await;
    let polls = polls(&scene, since);
    assert!(polls.len() == TENANTS as usize && polls.values().all(|polls| *polls == 2), "{polls:?}");
    let more = other.stage.told().await;
    assert!(!first.is_empty() && more.is_empty(), "the states were taken up: nothing is new: {:?}", uids(&more));
}

#[tokio::test]
async fn shards_whose_rows_could_not_be_read_for_a_panic_are_worked_on_after_the_next_renewal() {
    let scene = Scene::new(Estate::sized(TENANTS, 1));
    let (database, text) = (Database::new(&scene.now), feeds(&scene));
    let one = Ship::start(&scene, &database, "one", &text).await;
    let mut other = Ship::start(&scene, &database, "other", &text).await;
    drop(one);
    database.breaks.store(true, Ordering::SeqCst);
    pass(&scene, &mut [&mut other], milliseconds(limits::LEASE + 2 * limits::RENEWAL)).await;
    assert!(!database.breaks.load(Ordering::SeqCst));
    assert_eq!((other.held(), other.feeds()), (usize::from(SHARDS), TENANTS as usize));
}

/// Lets time pass until a poll of the first tenant waits for its answer.
async fn begin_poll_of_the_first_tenant(scene: &Scene, ship: &mut Ship) {
    let subscription = scene.service.world.lock().estate.tenants[0].subscriptions[0].id.clone();
    scene.service.held.send_replace(Some(format!("{subscription}/providers")));
    let polls_before = scene.service.polls(&subscription);
    let begun = scene.now.load(Ordering::SeqCst);
    while scene.service.polls(&subscription) == polls_before {
        let now = scene.now.fetch_add(milliseconds(limits::RENEWAL), Ordering::SeqCst);
        assert!(now < begun + 2 * HOUR, "the poll comes within its interval");
        ship.keeper.turn().await;
        ship.stage.collector.reconcile();
        ship.stage.collector.start_due();
        // Other jobs end, the one that is held does not.
        let patience = Duration::from_millis(5);
        while tokio::time::timeout(patience, ship.stage.collector.ended()).await.is_ok() {
            ship.stage.collector.start_due();
        }
    }
}

/// Lets a collector renew until it has the first tenant, whose holder is frozen.
async fn take_the_first_tenant(scene: &Scene, database: &Database, ship: &mut Ship) {
    let begun = scene.now.load(Ordering::SeqCst);
    while database.holder("tenant-0") != Some(ship.member.lock().id.clone()) {
        let now = scene.now.fetch_add(milliseconds(limits::RENEWAL), Ordering::SeqCst);
        assert!(now <= begun + milliseconds(limits::LEASE + 2 * limits::RENEWAL));
        ship.keeper.turn().await;
    }
}

#[tokio::test]
async fn a_wait_that_a_poll_met_holds_for_all_though_another_collector_took_its_shard() {
    let scene = Scene::new(Estate::sized(TENANTS, 1));
    let (database, text) = (Database::new(&scene.now), feeds(&scene));
    let mut frozen = Ship::start(&scene, &database, "frozen", &text).await;
    pass(&scene, &mut [&mut frozen], 2 * HOUR).await;
    scene.service.answer_with(|path, _| if path.contains("secureScores") { throttled("3600") } else { None });
    begin_poll_of_the_first_tenant(&scene, &mut frozen).await;
    let (store, now) = (Arc::clone(&frozen.stage.pipeline.store), || scene.now.load(Ordering::SeqCst));
    let before = store.throttles(now()).await.unwrap().len();
    let mut other = Ship::start(&scene, &database, "other", &text).await;
    take_the_first_tenant(&scene, &database, &mut other).await;
    scene.service.held.send_replace(None);
    frozen.stage.run_now().await;
    assert!(!database.fenced.lock().is_empty());
    assert_eq!(store.throttles(now()).await.unwrap().len(), before + 1);
}

#[tokio::test]
async fn a_collector_without_feeds_has_no_trouble_with_the_store_any_more() {
    let scene = Scene::new(Estate::sized(TENANTS, 1));
    let (database, text) = (Database::new(&scene.now), feeds(&scene));
    let mut one = Ship::start(&scene, &database, "one", &text).await;
    let mut other = Ship::start(&scene, &database, "other", &text).await;
    database.refuses_polls.store(true, Ordering::SeqCst);
    pass(&scene, &mut [&mut one, &mut other], 5 * 60 * SECOND).await;
    assert!(one.stage.collector.health().is_err() && other.stage.collector.health().is_err());
    // Another one takes its shards while the store does not answer it.
    scene.now.fetch_add(milliseconds(limits::LEASE), Ordering::SeqCst);
    one.turn().await;
    database.refuses_polls.store(false, Ordering::SeqCst);
    other.stage.collector.reconcile();
    assert!(other.stage.collector.health().is_ok(), "others do its polls");
    pass(&scene, &mut [&mut one, &mut other], 5 * 60 * SECOND).await;
    assert!(one.stage.collector.health().is_ok() && other.stage.collector.health().is_ok());
}

#[tokio::test]
async fn after_a_silence_of_the_store_nobody_takes_the_shards_of_the_living() {
    let scene = Scene::new(Estate::sized(TENANTS, 1));
    let (database, text) = (Database::new(&scene.now), feeds(&scene));
    let mut one = Ship::start(&scene, &database, "one", &text).await;
    let mut other = Ship::start(&scene, &database, "other", &text).await;
    pass(&scene, &mut [&mut one, &mut other], 5 * 60 * SECOND).await;
    assert!(one.held() > 0 && other.held() > 0);
    // Nobody could renew for longer than a lease.
    scene.now.fetch_add(milliseconds(2 * limits::LEASE), Ordering::SeqCst);
    for _ in 0..3 {
        for ship in [&mut one, &mut other] {
            ship.turn().await;
        }
        assert!(one.held() < usize::from(SHARDS) && other.held() < usize::from(SHARDS));
        scene.now.fetch_add(milliseconds(limits::RENEWAL), Ordering::SeqCst);
    }
    pass(&scene, &mut [&mut one, &mut other], 60 * SECOND).await;
    assert!(one.held() > 0 && other.held() > 0);
    assert_eq!(one.held() + other.held(), usize::from(SHARDS));
}

#[tokio::test]
async fn a_shard_that_cannot_be_given_back_costs_no_other_lease() {
    let scene = Scene::new(Estate::sized(TENANTS, 1));
    let (database, text) = (Database::new(&scene.now), feeds(&scene));
    let mut one = Ship::start(&scene, &database, "one", &text).await;
    pass(&scene, &mut [&mut one], 60 * SECOND).await;
    let mut other = Ship::start(&scene, &database, "other", &text).await;
    database.refuses_back.store(true, Ordering::SeqCst);
    pass(&scene, &mut [&mut one, &mut other], 60 * SECOND).await;
    assert!(one.watch.state().trouble.is_some(), "it tries to give shards back");
    assert!(one.feeds() > 0, "it works on the others");
    database.refuses_back.store(false, Ordering::SeqCst);
    pass(&scene, &mut [&mut one, &mut other], 60 * SECOND).await;
    assert!(one.watch.state().trouble.is_none() && other.held() > 0);
}

#[tokio::test]
async fn a_collector_that_was_frozen_past_its_lease_writes_nothing_and_joins_again() {
    let scene = Scene::new(Estate::sized(TENANTS, 1));
    let (database, text) = (Database::new(&scene.now), feeds(&scene));
    let mut frozen = Ship::start(&scene, &database, "frozen", &text).await;
    pass(&scene, &mut [&mut frozen], 2 * HOUR).await;
    let before = frozen.stage.told().await.len();
    // A poll is in flight when the collector freezes.
    begin_poll_of_the_first_tenant(&scene, &mut frozen).await;
    scene.service.world.lock().estate.tenants[0].subscriptions[0].controls[0].healthy += 1;
    let mut other = Ship::start(&scene, &database, "other", &text).await;
    take_the_first_tenant(&scene, &database, &mut other).await;
    scene.service.held.send_replace(None);
    other.turn().await;
    let since = scene.now.load(Ordering::SeqCst);
    pass(&scene, &mut [&mut other], HOUR).await;
    // A scope that was overdue is polled at once, and then at its place.
    let taken_up = polls(&scene, since);
    assert!(taken_up.len() == TENANTS as usize && taken_up.values().all(|polls| *polls <= 2), "{taken_up:?}");
    // The frozen one wakes.
    frozen.stage.run_now().await;
    assert!(!database.fenced.lock().is_empty(), "its poll came to its end, and was refused");
    assert!(before > 0 && frozen.stage.told().await.is_empty(), "nothing of it was told");
    pass(&scene, &mut [&mut frozen, &mut other], 5 * 60 * SECOND).await;
    assert_eq!(frozen.held() + other.held(), usize::from(SHARDS));
    assert!(frozen.held() > 0, "it joined again");
    let since = scene.now.load(Ordering::SeqCst);
    pass(&scene, &mut [&mut frozen, &mut other], 2 * HOUR).await;
    assert!(polls(&scene, since).values().all(|polls| *polls == 2));
}

#[tokio::test]
async fn a_shard_that_was_kept_for_a_collector_that_died_is_taken_by_another() {
    let scene = Scene::new(Estate::sized(TENANTS, 1));
    let (database, text) = (Database::new(&scene.now), feeds(&scene));
    let mut one = Ship::start(&scene, &database, "one", &text).await;
    pass(&scene, &mut [&mut one], 2 * HOUR).await;
    // Others begin and end at once, again and again: each has the least work, and is left free shards while it counts as
    // alive.
    for number in 0..10 {
        drop(Ship::start(&scene, &database, &format!("phantom-{number}"), &text).await);
        pass(&scene, &mut [&mut one], 9 * SECOND).await;
    }
    let free = (0..TENANTS).filter(|tenant| database.holder(&format!("tenant-{tenant}")).is_none()).count();
    pass(&scene, &mut [&mut one], 2 * milliseconds(limits::LEASE)).await;
    assert_eq!(one.held(), usize::from(SHARDS), "{free} were free meanwhile");
    let since = scene.now.load(Ordering::SeqCst);
    pass(&scene, &mut [&mut one], 2 * HOUR).await;
    assert_eq!(polls(&scene, since).len(), TENANTS as usize);
}
