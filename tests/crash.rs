//! Kills the collector at every named place and at random moments, while it delivers to a file and to a receiver that
//! fails at random. In the end, everything that was committed must be delivered. `CRASH_ROUNDS=200` kills it more
//! often.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::read::GzDecoder;
use host_harness::environment;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use source_host::failpoint;
use source_simulator::{Simulator, estate::Estate};
use tokio::net::TcpListener;

use crate::support::{self, Dice, leave_for_the_judge};

/// A control whose events the receiver never takes.
const REFUSED: &str = "27b24961-75ba-4fe4-8909-97286d5dd5ee";

/// Time after which a process that does not reach the expected place is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// The events and requests that an unreliable receiver got, in order.
#[derive(Default)]
struct Received {
    events: Vec<Value>,
    requests: u64,
}

/// Starts a receiver that takes batches, and sometimes refuses, fails or does not answer.
async fn receiver() -> (String, Arc<Mutex<Received>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    let received = Arc::new(Mutex::new(Received::default()));
    let (shared, dice) = (Arc::clone(&received), Arc::new(Mutex::new(Dice::new(7))));
    tokio::spawn(async move {
        loop {
            let Ok((socket, _)) = listener.accept().await else { continue };
            let (received, dice) = (Arc::clone(&shared), Arc::clone(&dice));
            tokio::spawn(async move {
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (received, dice) = (Arc::clone(&received), Arc::clone(&dice));
                    async move {
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let chance = dice.lock().roll(40);
                        match take(&body, &received, chance) {
                            Some(status) => {
                                Ok(hyper::Response::builder().status(status).body(Full::new(Bytes::new())).unwrap())
                            }
                            // The connection ends without an answer.
                            None => Err(std::io::Error::other("no answer")),
                        }
                    }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    (url, received)
}

/// Returns the status of an answer; `None` for no answer.
fn take(body: &[u8], received: &Mutex<Received>, chance: u64) -> Option<u16> {
    let mut text = String::new();
    GzDecoder::new(body).read_to_string(&mut text).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut received = received.lock();
    received.requests += 1;
    if chance == 0 {
        return Some(503);
    }
    if events.len() > 20 {
        return Some(413);
    }
    if events.iter().any(|event| uid_of_finding(event).ends_with(REFUSED)) {
        return Some(400);
    }
    received.events.extend(events);
    (chance != 1).then_some(200)
}

fn uid_of_finding(event: &Value) -> &str {
    event["finding_info"]["uid"].as_str().unwrap()
}

/// The collector as a separate process.
struct Process(Child);

impl Process {
    fn start(config: &Path, secrets: &[(String, String)], crash_at: Option<&str>) -> Process {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg");
        let mut command = support::command();
        command.args(["run", "-c"]).arg(config).env("XDG_CACHE_HOME", cache).envs(secrets.iter().cloned());
        command.env("RUST_LOG", "error").stdout(Stdio::null());
        match crash_at {
            Some(place) => command.env("HOST_HARNESS_CRASH_AT", place),
            None => command.env_remove("HOST_HARNESS_CRASH_AT"),
        };
        Process(command.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
    }

    async fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < STUCK, "the collector does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn configuration(simulator: &Simulator, folder: &Path, receiver: &str) -> (PathBuf, Vec<(String, String)>) {
    let ca_file = folder.join("ca.pem");
    fs::write(&ca_file, simulator.ca_pem()).unwrap();
    let (text, secrets) = simulator.configuration(ca_file.to_str().unwrap());
    let text = format!(
        "{text}\n[feed_defaults]\ninterval = \"1s\"\n\
         [[sink]]\nid = \"file\"\ntype = \"file\"\npath = \"out/events.ndjson\"\nrotate_bytes = 60000\n\
         [[sink]]\nid = \"receiver\"\ntype = \"http\"\nurl = {receiver:?}\n"
    );
    let file = folder.join("collector.toml");
    fs::write(&file, text).unwrap();
    (file, secrets)
}

/// Changes the scores.
fn move_scores(simulator: &Simulator, dice: &mut Dice) {
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

/// Reads the events of the files, rotated ones first, and checks that all lines are complete.
fn filed(folder: &Path) -> Vec<Value> {
    let mut files: Vec<(u64, PathBuf)> = fs::read_dir(folder.join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let number = path.extension().and_then(|number| number.to_str()?.parse().ok());
            (number.unwrap_or(u64::MAX), path)
        })
        .collect();
    files.sort();
    let text: String = files.iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect();
    assert!(text.ends_with('\n'), "a half line at the end");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

fn uid(event: &Value) -> String {
    event["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Returns each event once, at its first occurrence; a repetition must be identical.
fn without_repeats(events: &[Value]) -> Vec<&Value> {
    let mut seen: HashMap<String, &Value> = HashMap::new();
    events
        .iter()
        .filter(|event| match seen.get(&uid(event)) {
            Some(first) => {
                assert_eq!(first, event, "a repeat differs");
                false
            }
            None => {
                seen.insert(uid(event), event);
                true
            }
        })
        .collect()
}

fn by_scope<'a>(events: &[&'a Value]) -> BTreeMap<String, Vec<&'a Value>> {
    let mut scopes: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for event in events {
        scopes.entry(event["cloud"]["account"]["uid"].as_str().unwrap().to_owned()).or_default().push(event);
    }
    scopes
}

/// Checks that each change contains the values before it: a missing event breaks the chain. Returns the last values of
/// each finding.
fn check_chain(events: &[&Value]) -> BTreeMap<String, String> {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for event in events {
        let unmapped = &event["unmapped"];
        let values = |from: &Value, score: &Value| {
            let counts = ["healthyResourceCount", "unhealthyResourceCount"].map(|key| from[key].to_string());
            format!("{} {} {}", score["current"], score["max"], counts.join(" "))
        };
        let now = values(unmapped, &unmapped["score"]);
        let before = last.insert(uid_of_finding(event).to_owned(), now);
        match event["activity_id"].as_u64() {
            Some(1) => assert_eq!(before, None, "created twice: {event}"),
            Some(2) => {
                let previous = &unmapped["change"]["previous"];
                assert_eq!(before, Some(values(previous, previous)), "a change before this one is missing: {event}");
            }
            other => panic!("activity {other:?}"),
        }
    }
    last
}

fn rounds() -> usize {
    environment::text("CRASH_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_is_delivered_wherever_the_collector_is_killed() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into(), Estate::sized(2, 2), None).await.unwrap();
    let (url, received) = receiver().await;
    let folder = tempfile::tempdir().unwrap();
    let (config, secrets) = configuration(&simulator, folder.path(), &url);
    let mut dice = Dice::new(11);

    // The first process finds a file with an incomplete event, and later ones find files of complete events.
    for place in ["file-cut"].iter().chain(failpoint::NAMES) {
        let passes = if *place == "file-cut" { 1 } else { 1 + dice.roll(2) };
        if *place == "file-cut" {
            // A power cut during a write, even the first one, can leave this file.
            let out = folder.path().join("out");
            fs::create_dir_all(&out).unwrap();
            let mut file = fs::OpenOptions::new().create(true).append(true).open(out.join("events.ndjson")).unwrap();
            file.write_all(b"{\"half").unwrap();
        }
        let mut process = Process::start(&config, &secrets, Some(&format!("{place}:{passes}")));
        let begun = Instant::now();
        let status = loop {
            move_scores(&simulator, &mut dice);
            if let Ok(status) = tokio::time::timeout(Duration::from_millis(300), process.end()).await {
                break status;
            }
            assert!(begun.elapsed() < STUCK, "nobody passed {place}");
        };
        assert_eq!(status.signal(), Some(6), "{place}: {status}");
    }
    for _ in 0..rounds() {
        let requests = || received.lock().requests;
        let (until, mut process) = (requests() + dice.roll(12), Process::start(&config, &secrets, None));
        let begun = Instant::now();
        while requests() <= until && begun.elapsed() < STUCK {
            move_scores(&simulator, &mut dice);
            tokio::time::sleep(Duration::from_millis(dice.roll(40))).await;
        }
        process.signal("KILL");
        assert_eq!(process.end().await.signal(), Some(9));
    }

    // Nothing changes any more: the last process finds no change, and delivers the remaining events.
    let mut process = Process::start(&config, &secrets, None);
    let state = folder.path().join("collector.db");
    let database = rusqlite::Connection::open_with_flags(&state, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let polled = format!("SELECT count(*) FROM scope WHERE json_extract(standing, '$.last_good') > {}", now());
    let begun = Instant::now();
    while count(&polled) < 4 || count("SELECT count(*) FROM outbox") > 0 {
        let (scopes, waiting) = (count(&polled), count("SELECT count(*) FROM outbox"));
        assert!(begun.elapsed() < STUCK, "{scopes} scopes were polled, {waiting} events wait");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    process.signal("TERM");
    assert_eq!(process.end().await.code(), Some(0));

    let filed = filed(folder.path());
    let filed = without_repeats(&filed);
    leave_for_the_judge(
        "crash",
        filed
            .iter()
            .take(200)
            .map(|event| event.to_string().into_bytes())
            .collect::<Vec<_>>()
            .iter()
            .map(Vec::as_slice),
    );
    let dead = fs::read_to_string(folder.path().join("dead-letters-receiver.ndjson")).unwrap();
    let dead: Vec<Value> =
        dead.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].take()).collect();
    let dead = without_repeats(&dead);
    assert!(!dead.is_empty() && dead.iter().all(|event| uid_of_finding(event).ends_with(REFUSED)));
    let received = received.lock();
    let received = without_repeats(&received.events);

    let uids = |events: &[&Value]| events.iter().map(|event| uid(event)).collect::<BTreeSet<String>>();
    let arrived: BTreeSet<String> = uids(&received).union(&uids(&dead)).cloned().collect();
    assert_eq!(arrived, uids(&filed), "both sinks have the same events");
    for (scope, events) in by_scope(&filed) {
        let last = check_chain(&events);
        let kept: Vec<u8> = database
            .query_row(
                "SELECT value FROM state JOIN scope ON number = state.scope WHERE scope.scope = ?1",
                [&scope],
                |row| row.get(0),
            )
            .unwrap();
        let kept: Value = serde_json::from_slice(&kept).unwrap();
        let known: Vec<&String> = kept["findings"].as_object().unwrap().keys().collect();
        assert_eq!(known, last.keys().collect::<Vec<_>>(), "a finding of {scope} was never told");
        for (finding, values) in last {
            let kept = &kept["findings"][&finding];
            let text = |key: &str| kept[key].as_str().unwrap_or("null").to_owned();
            let kept = ["current", "max", "healthy", "unhealthy"].map(text).join(" ");
            assert_eq!(kept, values, "the last event of {finding} is missing");
        }
        let in_order: Vec<String> = by_scope(&received)[&scope].iter().map(|event| uid(event)).collect();
        let refused = uids(&dead);
        let expected: Vec<String> =
            events.iter().map(|event| uid(event)).filter(|uid| !refused.contains(uid)).collect();
        assert_eq!(in_order, expected, "{scope} arrived in another order");
    }
}

fn now() -> u64 {
    support::now()()
}
