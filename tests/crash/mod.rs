//! Kills the collector at every named place and at random moments, while it delivers to a file and to a receiver that
//! fails at random. In the end, everything that was committed must be delivered. `CRASH_ROUNDS=200` kills it more
//! often.

pub mod events;
mod receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use host_harness::environment;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use source_host::failpoint;
use source_simulator::Simulator;
use source_simulator::estate::Estate;

use self::events::{by_scope, check_chain, filed, uid, uid_of_finding, without_repeats};
use self::receiver::{REFUSED, unreliable};
use crate::support::process::{PATIENCE, Process, Scene};
use crate::support::{self, Dice, leave_for_the_judge};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_is_delivered_wherever_the_collector_is_killed() {
    let (receiver, taken) = unreliable().await;
    let scene = Scene::of(Estate::sized(2, 2)).await;
    scene.write(&format!(
        "[feed_defaults]\ninterval = \"1s\"\n\
         [[sink]]\nid = \"file\"\ntype = \"file\"\npath = \"out/events.ndjson\"\nrotate_bytes = 60000\n\
         [[sink]]\nid = \"receiver\"\ntype = \"http\"\nurl = \"{}/events\"\n",
        receiver.url
    ));
    let mut dice = Dice::new(11);
    // The first process finds a file with an incomplete event, and later ones find files of complete events.
    for place in ["file-cut"].iter().chain(failpoint::NAMES) {
        crash_at(place, &scene, &mut dice);
    }
    for _ in 0..environment::text("CRASH_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap()) {
        kill_at_random(&scene, || receiver.posts(), &mut dice);
    }
    let state = deliver_the_rest(&scene);

    let filed = filed(scene.folder.path());
    let filed = without_repeats(&filed);
    let lines: Vec<Vec<u8>> = filed.iter().take(200).map(|event| event.to_string().into_bytes()).collect();
    leave_for_the_judge("crash", lines.iter().map(Vec::as_slice));
    let dead = fs::read_to_string(scene.folder.path().join("dead-letters-receiver.ndjson")).unwrap();
    let dead: Vec<Value> =
        dead.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].take()).collect();
    let dead = without_repeats(&dead);
    assert!(!dead.is_empty() && dead.iter().all(|event| uid_of_finding(event).ends_with(REFUSED)));
    let taken = taken.lock();
    let taken = without_repeats(&taken);

    let uids = |events: &[&Value]| events.iter().map(|event| uid(event)).collect::<BTreeSet<String>>();
    let (refused, in_order) = (uids(&dead), by_scope(&taken));
    let arrived: BTreeSet<String> = uids(&taken).union(&refused).cloned().collect();
    assert_eq!(arrived, uids(&filed), "both sinks have the same events");
    for (scope, events) in by_scope(&filed) {
        check_state(&state, &scope, &check_chain(&events));
        let in_order: Vec<String> = in_order[&scope].iter().map(|event| uid(event)).collect();
        let expected: Vec<String> =
            events.iter().map(|event| uid(event)).filter(|uid| !refused.contains(uid)).collect();
        assert_eq!(in_order, expected, "{scope} arrived in another order");
    }
}

/// Starts the collector as a process. With a failpoint, the process aborts there.
fn start(scene: &Scene, crash_at: Option<&str>) -> Process {
    let mut command = scene.command(&["run", "-c", "collector.toml"]);
    command.env("RUST_LOG", "error").env_remove(failpoint::VARIABLE);
    if let Some(place) = crash_at {
        command.env(failpoint::VARIABLE, place);
    }
    Process::start(command)
}

/// Runs the collector until it aborts at this failpoint.
fn crash_at(place: &str, scene: &Scene, dice: &mut Dice) {
    let passes = if place == "file-cut" { 1 } else { 1 + dice.roll(2) };
    if place == "file-cut" {
        // A power cut during a write, even the first one, can leave this file.
        let out = scene.folder.path().join("out");
        fs::create_dir_all(&out).unwrap();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(out.join("events.ndjson")).unwrap();
        file.write_all(b"{\"half").unwrap();
    }
    let mut process = start(scene, Some(&format!("{place}:{passes}")));
    let begun = Instant::now();
    let status = loop {
        move_scores(&scene.simulator, dice);
        if let Some(status) = process.ends_within(Duration::from_millis(300)) {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody passed {place}: {}", process.all_said());
    };
    assert_eq!(status.signal(), Some(6), "{place}: {status}: {}", process.all_said());
}

/// Kills the collector after a random number of posts to its receiver.
fn kill_at_random(scene: &Scene, posts: impl Fn() -> usize, dice: &mut Dice) {
    let (last, mut process) = (posts() + dice.roll(12) as usize, start(scene, None));
    let begun = Instant::now();
    while posts() <= last && begun.elapsed() < PATIENCE {
        move_scores(&scene.simulator, dice);
        std::thread::sleep(Duration::from_millis(dice.roll(40)));
    }
    process.signal("KILL");
    assert_eq!(process.end().signal(), Some(9));
}

/// Changes the scores.
pub fn move_scores(simulator: &Simulator, dice: &mut Dice) {
    simulator.with(|world| {
        for subscription in world.estate.tenants.iter_mut().flat_map(|tenant| &mut tenant.subscriptions) {
            for control in &mut subscription.controls {
                if dice.roll(3) == 0 {
                    control.healthy = dice.roll(20) as u32 + 1;
                    control.unhealthy = dice.roll(20) as u32;
                }
            }
        }
    });
}

/// Nothing changes any more: the last process finds no change, and delivers the remaining events. Returns its state.
fn deliver_the_rest(scene: &Scene) -> Connection {
    let mut process = start(scene, None);
    let file = scene.folder.path().join("collector.db");
    let state = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let count = |sql: &str| state.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let now = support::now()();
    let polled = format!("SELECT count(*) FROM scope WHERE json_extract(standing, '$.last_good') > {now}");
    let begun = Instant::now();
    while count(&polled) < 4 || count("SELECT count(*) FROM outbox") > 0 {
        let (scopes, waiting) = (count(&polled), count("SELECT count(*) FROM outbox"));
        let said = process.all_said();
        assert!(begun.elapsed() < PATIENCE, "{scopes} scopes were polled, {waiting} events wait: {said}");
        std::thread::sleep(Duration::from_millis(20));
    }
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0));
    state
}

/// Checks that the state of a scope holds the last event of each finding, and no other finding.
fn check_state(state: &Connection, scope: &str, last: &BTreeMap<String, String>) {
    let select = "SELECT value FROM state JOIN scope ON number = state.scope WHERE scope.scope = ?1";
    let kept: Vec<u8> = state.query_row(select, [scope], |row| row.get(0)).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    let known: Vec<&String> = kept["findings"].as_object().unwrap().keys().collect();
    assert_eq!(known, last.keys().collect::<Vec<_>>(), "a finding of {scope} was never told");
    for (finding, values) in last {
        let kept = &kept["findings"][finding];
        let text = |key: &str| kept[key].as_str().unwrap_or("null").to_owned();
        let kept = ["current", "max", "healthy", "unhealthy"].map(text).join(" ");
        assert_eq!(kept, *values, "the last event of {finding} is missing");
    }
}
