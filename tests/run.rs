//! `run` and `poll --state` as processes: their pages, signals, locks, and changing configurations.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use host_harness::limits;
use serde_json::Value;
use source_host::failpoint;
use source_simulator::{Simulator, estate::Estate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::hostile::hostile_bytes;
use crate::support;
use crate::support::receiver::{Receiver, Reply};

/// Time after which an expected event counts as missing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a configuration for a simulated service.
pub struct Scene {
    pub simulator: Simulator,
    pub folder: tempfile::TempDir,
    /// The variables that the configuration names.
    pub secrets: Vec<(String, String)>,
}

impl Scene {
    pub async fn new() -> Scene {
        compiled();
        let simulator = Simulator::start(([127, 0, 0, 1], 0).into(), Estate::sized(2, 1), None).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), simulator.ca_pem()).unwrap();
        let (_, secrets) = simulator.configuration("ca.pem");
        Scene { simulator, folder, secrets }
    }

    /// Returns the configuration of the simulated service, with `more` before it.
    fn text(&self, more: &str) -> String {
        format!("{more}\n{}", self.simulator.configuration("ca.pem").0)
    }

    pub fn write(&self, more: &str) -> PathBuf {
        let file = self.folder.path().join("collector.toml");
        fs::write(&file, self.text(more)).unwrap();
        file
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg");
        let mut command = support::command();
        command.current_dir(self.folder.path()).args(arguments);
        command.env("XDG_CACHE_HOME", cache).env_remove("RUST_LOG").envs(self.secrets.iter().cloned());
        command
    }

    fn run(&self, arguments: &[&str]) -> Process {
        Process::start(self.command(&[&["run", "-c", "collector.toml"], arguments].concat()))
    }
}

/// Compiles the plugin once, before any test waits for a process: compiling may take long on a busy machine.
fn compiled() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg");
        let inspected = support::command().args(["inspect", "--json"]).env("XDG_CACHE_HOME", cache).output().unwrap();
        assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
    });
}

/// The collector and its output.
struct Process {
    child: Child,
    said: mpsc::Receiver<String>,
    heard: Vec<String>,
}

impl Process {
    fn start(mut command: Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, said) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Process { child, said, heard: Vec::new() }
    }

    /// Waits for a line with these words, and returns it.
    fn hears(&mut self, words: &str) -> String {
        let begun = Instant::now();
        loop {
            let Ok(line) = self.said.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) else {
                panic!("{words:?} was not said, but: {:#?}", self.heard);
            };
            self.heard.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end");
    }

    /// Returns the address that the collector serves.
    fn address(&mut self) -> String {
        let line = self.hears("serves /metrics");
        line[line.find("http://").unwrap()..].split(['/', '"']).nth(2).map(|host| format!("http://{host}")).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a condition holds.
pub fn until(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "it does not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for this many lines of a file, and returns them; there must not be more.
fn lines(file: &Path, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        // A line that is being written does not count.
        if text.matches('\n').count() >= count && text.ends_with('\n') {
            return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {count} lines in {}", text.lines().count(), file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn get(url: &str, token: Option<&str>) -> (u16, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(url);
    let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Returns the answer to a client that accepts gzip, as Prometheus does.
async fn compressed(url: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let (host, path) = address.split_once('/').unwrap();
    let mut socket = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.0\r\nhost: {host}\r\naccept-encoding: gzip\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer[end..]).read_to_string(&mut text).unwrap();
    text
}

/// Checks that Prometheus' own tool accepts the metrics.
fn check_metrics(metrics: &str) {
    let mut command = Command::new(support::program("promtool", "prometheus"));
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

const FILE_SINK: &str = "[[sink]]\nid = \"lake\"\ntype = \"file\"\npath = \"out/{tenant}.ndjson\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_metrics_health_and_what_needs_somebody() {
    let scene = Scene::new().await;
    scene.simulator.with(|world| world.scenario = Some("forbidden"));
    scene.write(&format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}"));
    let mut process = scene.run(&[]);
    let address = process.address();
    lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
    let told = process.hears("forbidden");
    for part in ["tenant-1", "fault=tenant", "az role assignment create", "code=\"forbidden\""] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_eq!(get(&format!("{address}/healthz"), None).await, (200, "ok\n".to_owned()));
    assert_eq!(get(&format!("{address}/readyz"), None).await.0, 200);
    assert_eq!(get(&format!("{address}/else"), None).await.0, 404);
    let (status, metrics) = get(&format!("{address}/metrics"), None).await;
    assert_eq!(status, 200);
    for line in [
        r#"collector_polls_total{tenant="tenant-1",feed="tenant-1-scores",outcome="fix-scope"} 1"#,
        r#"collector_polls_total{tenant="tenant-2",feed="tenant-2-scores",outcome="collected"} 1"#,
        r#"collector_events_total{tenant="tenant-2",feed="tenant-2-scores"} 15"#,
        r#"collector_requests_total{tenant="tenant-1",feed="tenant-1-scores",status="4xx"} 1"#,
        r#"collector_scopes{tenant="tenant-2",feed="tenant-2-scores"} 1"#,
        r#"collector_last_collected_timestamp_seconds{tenant="tenant-1",feed="tenant-1-scores"} 0"#,
        r#"collector_polls_total{tenant="tenant-2",feed="tenant-2-scores",outcome="try-later"} 0"#,
        r#"collector_sink_failures_total{sink="lake",tenant="tenant-1"} 0"#,
        r#"collector_sink_outbox_events{sink="lake"} 0"#,
        r#"collector_failing_scopes{fault="tenant"} 1"#,
        r#"collector_failing_scopes{fault="operator"} 0"#,
        "collector_feeds 2",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line} in\n{metrics}");
    }
    check_metrics(&metrics);
    assert_eq!(compressed(&format!("{address}/metrics")).await.lines().count(), metrics.lines().count());
    let (status, page) = get(&address, None).await;
    assert_eq!(status, 200);
    let (bad, good) = (page.find("tenant-1-scores").unwrap(), page.find("tenant-2-scores").unwrap());
    assert!(bad < good && page.contains("az role assignment create"), "{page}");
    assert!(page.contains("2 feeds, 0 of them failing, and 0 left out; 2 scopes, 1 of them without data"), "{page}");
    assert!(page.contains("tenant can mend it"), "{page}");
    let secrets = scene.secrets.iter().map(|(_, secret)| secret.as_str());
    let everything = format!("{page}{metrics}{}", process.heard.join("\n"));
    assert!(secrets.into_iter().all(|secret| !everything.contains(secret)), "a secret is shown");
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_with_one_application_sign_in_once_over_connections_of_their_own() {
    const TENANTS: usize = 12;
    let mut scene = Scene::new().await;
    let estate = Estate::sized(1, TENANTS as u32);
    scene.simulator = Simulator::start(([127, 0, 0, 1], 0).into(), estate, None).await.unwrap();
    fs::write(scene.folder.path().join("ca.pem"), scene.simulator.ca_pem()).unwrap();
    let (text, secrets) = scene.simulator.configuration("ca.pem");
    scene.secrets = secrets;
    scene.simulator.with(|world| world.watch());
    // Makes a feed and a tenant of each subscription of the one feed with all subscriptions.
    let (network, feed) = text.split_once("[[feed]]").unwrap();
    let list = &feed[feed.find("subscription_id").unwrap()..].lines().next().unwrap().to_owned();
    let subscriptions: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert_eq!(subscriptions.len(), TENANTS);
    let feeds = subscriptions.iter().enumerate().map(|(number, subscription)| {
        let feed = feed.replace(list, &format!("subscription_id = {subscription:?}"));
        let feed = feed.replace("\"tenant-1-scores\"", &format!("\"scores-{number}\""));
        format!("[[feed]]{}", feed.replace("\"tenant-1\"", &format!("\"customer-{number}\"")))
    });
    let collector = format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}");
    let text = format!("{collector}{network}{}", feeds.collect::<String>());
    fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    let mut process = scene.run(&[]);
    let address = process.address();
    for number in 0..TENANTS {
        lines(&scene.folder.path().join(format!("out/customer-{number}.ndjson")), 15);
    }
    let (sign_ins, visits) = scene.simulator.with(|world| (world.sign_ins().count(), world.visits().to_vec()));
    assert_eq!(sign_ins, 1);
    let connections: BTreeSet<usize> = visits.iter().map(|visit| visit.connection).collect();
    assert!(connections.len() >= TENANTS, "{visits:?}");
    let requests = get(&format!("{address}/metrics"), None).await.1;
    let requests = requests.lines().filter(|line| line.starts_with("collector_requests_total"));
    let sent: u64 = requests.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert_eq!(sent, visits.len() as u64);
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_keeps_others_from_reading() {
    let mut scene = Scene::new().await;
    scene.secrets.push(("READERS".to_owned(), "let-me-in".to_owned()));
    scene.write(&format!("[collector]\nlisten = \"127.0.0.1:0\"\ntoken = {{ env = \"READERS\" }}\n{FILE_SINK}"));
    let mut process = scene.run(&["--log-format", "json"]);
    let address = process.address();
    let first: Value = serde_json::from_str(&process.heard[0]).unwrap();
    assert!(first["message"].is_string() && first["level"].is_string(), "{first}");
    for (token, status) in [(None, 401), (Some("let-me-i"), 401), (Some("let-me-inn"), 401), (Some("let-me-in"), 200)] {
        assert_eq!(get(&format!("{address}/metrics"), token).await.0, status, "{token:?}");
        assert_eq!(get(&address, token).await.0, status, "{token:?}");
    }
    assert_eq!(get(&format!("{address}/healthz"), None).await.0, 200, "probes carry no token");
    assert_eq!(get(&format!("{address}/else"), None).await.0, 401, "who has no token does not learn what is there");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let posted = client.post(format!("{address}/else")).send().await.unwrap();
    assert_eq!((posted.status().as_u16(), &posted.headers()["allow"]), (405, &"GET, HEAD".parse().unwrap()));
}

/// Returns the status of the answer to a request with this head, from an address of this machine.
async fn status_from(from: &str, address: &str, head: &str) -> u16 {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut socket = socket.connect(address.strip_prefix("http://").unwrap().parse().unwrap()).await.unwrap();
    socket.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "{head:?} from {from} has no answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_else(|_| panic!("{head:?} from {from}: {answer:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_do_not_read_or_say_nothing_keep_nobody_from_health() {
    let scene = Scene::new().await;
    scene.write(&format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}"));
    let mut process = scene.run(&[]);
    let address = process.address();
    let host = address.strip_prefix("http://").unwrap().to_owned();
    process.hears("collects 2 feeds");
    let answers = async |from, path, status| {
        assert_eq!(
            status_from(from, &address, &format!("GET {path} HTTP/1.1\r\nhost: localhost")).await,
            status,
            "{path}"
        );
    };
    let mut held = Vec::new();
    for attack in ["GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "GET /metrics HTTP/1.1\r\nhost: ", ""] {
        for _ in 0..100 {
            let mut socket = tokio::net::TcpStream::connect(&host).await.unwrap();
            held.push(tokio::spawn(async move {
                let many = attack.repeat(if attack.ends_with("\r\n\r\n") { 100_000 } else { 1 });
                let _ = socket.write_all(many.as_bytes()).await;
                std::future::pending::<()>().await;
            }));
        }
        answers("127.0.0.1", "/healthz", 200).await;
        answers("127.0.0.1", "/readyz", 200).await;
        answers("127.0.0.2", "/metrics", 200).await;
    }
    answers("127.0.0.1", "/metrics", 503).await;
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_only_names_of_this_machine_are_answered() {
    let mut scene = Scene::new().await;
    scene.secrets.push(("READERS".to_owned(), "let-me-in".to_owned()));
    for (token, foreign) in [("", 421), ("token = { env = \"READERS\" }\n", 200)] {
        scene.write(&format!("[collector]\nlisten = \"127.0.0.1:0\"\n{token}{FILE_SINK}"));
        let mut process = scene.run(&[]);
        let address = process.address();
        let reads = async |path: &str, host: &str| {
            let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer let-me-in");
            status_from("127.0.0.1", &address, &head).await
        };
        for path in ["/", "/metrics", "/healthz"] {
            for host in ["localhost", "localhost:9464", "127.0.0.1", "[::1]:80"] {
                assert_eq!(reads(path, host).await, 200, "{path} {host}");
            }
            for host in ["evil.example", "localhost.evil.example:80", "10.0.0.1"] {
                assert_eq!(reads(path, host).await, foreign, "{path} {host}");
            }
        }
        process.signal("TERM");
        assert!(process.end().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_and_a_signal_take_another_configuration_and_a_bad_one_is_not_taken() {
    let scene = Scene::new().await;
    scene.write(&format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}"));
    let mut process = scene.run(&[]);
    lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
    scene.write("[[sinks]]\n");
    process.signal("HUP");
    let refused = process.hears("is not taken");
    assert!(refused.contains("collector.toml:1: sinks: unknown key"), "{refused}");
    assert!(refused.contains("fault=\"operator\""), "who wrote it mends it: {refused}");
    scene.write("[[sink]]\nid = \"lake\"\ntype = \"file\"\npath = \"elsewhere/{tenant}.ndjson\"\n");
    process.hears("took the configuration of 2 feeds");
    scene.simulator.with(|world| world.estate.tenants[1].subscriptions[0].controls[0].unhealthy += 50);
    scene.write("[[sink]]\nid = \"lake\"\ntype = \"file\"\npath = \"elsewhere/{tenant}.ndjson\"\n[feed_defaults]\ninterval = \"1s\"\n");
    process.signal("HUP");
    assert!(process.hears("1s is short").contains("fault=\"operator\""));
    process.hears("took the configuration of 2 feeds");
    let events = lines(&scene.folder.path().join("elsewhere/tenant-2.ndjson"), 2);
    assert!(events.iter().all(|event| event["activity_id"] == 2), "{events:?}");
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_collector_is_kept_out_and_readers_are_not() {
    let scene = Scene::new().await;
    scene.write(FILE_SINK);
    let mut process = scene.run(&[]);
    lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
    let mut second = scene.run(&[]);
    second.hears(&format!("another collector uses it (process {})", process.child.id()));
    assert_eq!(second.end().code(), Some(1));
    let state = scene.folder.path().join("collector.db");
    let reader = rusqlite::Connection::open_with_flags(state, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let scopes: u32 = reader.query_row("SELECT count(*) FROM scope", [], |row| row.get(0)).unwrap();
    assert_eq!(scopes, 2);
    process.signal("INT");
    assert_eq!(process.end().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_feeds_on_one_scope_are_a_warning() {
    let scene = Scene::new().await;
    let file = scene.write(FILE_SINK);
    let text = fs::read_to_string(&file).unwrap();
    let again = text[text.find("[[feed]]").unwrap()..].split("[[feed]]").nth(1).unwrap().to_owned();
    fs::write(&file, format!("{text}\n[[feed]]{}", again.replace("tenant-1-scores", "again"))).unwrap();
    let mut process = scene.run(&[]);
    process.hears("polls this scope too");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_time_though_nobody_reads_its_output() {
    let scene = Scene::new().await;
    scene.simulator.with(|world| world.estate = Estate::sized(2, 20));
    scene.write("[feed_defaults]\ninterval = \"1s\"\n[feed_defaults.settings]\nemit = \"snapshot\"\n");
    let mut process = scene.run(&[]);
    process.hears("collects 2 feeds");
    let state = scene.folder.path().join("collector.db");
    let reader = rusqlite::Connection::open_with_flags(state, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    // A pipe holds 64 KiB; more than one batch waits behind it.
    until(|| reader.query_row("SELECT count(*) FROM outbox", [], |row| row.get::<_, u32>(0)).unwrap_or(0) >= 500);
    process.signal("TERM");
    process.hears("stops");
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_do_not_end_in_time_are_abandoned_and_done_again() {
    let scene = Scene::new().await;
    scene.simulator.with(|world| world.scenario = Some("body-slow"));
    scene.write(FILE_SINK);
    let mut process = scene.run(&[]);
    until(|| scene.simulator.with(|world| world.strikes()) > 0);
    process.signal("TERM");
    let told = Instant::now();
    process.hears("polls were abandoned");
    assert_eq!(process.end().code(), Some(0));
    assert!(told.elapsed() < limits::SHUTDOWN, "{:?}", told.elapsed());
    scene.simulator.with(|world| world.scenario = None);
    let _again = scene.run(&[]);
    for tenant in ["tenant-1", "tenant-2"] {
        lines(&scene.folder.path().join(format!("out/{tenant}.ndjson")), 15);
    }
}

/// Waits until a process handles SIGHUP itself.
fn takes_signals(process: &Process) {
    until(|| {
        let status = fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        u64::from_str_radix(caught.trim(), 16).unwrap() & 1 == 1
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_it_starts_is_taken() {
    let scene = Scene::new().await;
    let (pem, pipe) = (scene.folder.path().join("ca.pem"), scene.folder.path().join("ca.fifo"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let text = scene.text(FILE_SINK).replace("\"ca.pem\"", "\"ca.fifo\"");
    fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    // The process waits for data from the pipe.
    let mut process = scene.run(&[]);
    takes_signals(&process);
    process.signal("HUP");
    fs::write(&pipe, fs::read(&pem).unwrap()).unwrap();
    process.hears("collects 2 feeds");
    // The process reads the pipe again, because it was told to.
    fs::write(&pipe, fs::read(&pem).unwrap()).unwrap();
    process.hears("took the configuration of 2 feeds");
    drop(process);
    let mut process = scene.run(&[]);
    takes_signals(&process);
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_fail_while_the_store_takes_nothing() {
    let scene = Scene::new().await;
    let sooner = "[feed_defaults]\ninterval = \"1s\"\n";
    scene.write(&format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}{sooner}"));
    let mut process = scene.run(&[]);
    let address = process.address();
    lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
    let state = scene.folder.path().join("collector.db");
    let other = rusqlite::Connection::open(state).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answers = async |status: u16| {
        while get(&format!("{address}/healthz"), None).await.0 != status {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answers(503)).await.expect("it is told");
    process.hears("another program is writing to it");
    assert_eq!(get(&format!("{address}/readyz"), None).await.0, 503);
    other.execute_batch("ROLLBACK").unwrap();
    tokio::time::timeout(PATIENCE, answers(200)).await.expect("it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_though_its_log_cannot_be_written() {
    let scene = Scene::new().await;
    scene.write(FILE_SINK);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = scene.command(&["run", "-c", "collector.toml"]);
    let mut child = command.stdout(Stdio::null()).stderr(full).spawn().unwrap();
    lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_tells_of_sinks_and_of_a_configuration_that_is_not_taken() {
    let scene = Scene::new().await;
    let listen = "[collector]\nlisten = \"127.0.0.1:0\"\n[[sink]]\nid = \"down\"\ntype = \"http\"\n";
    scene.write(&format!("{listen}url = \"http://127.0.0.1:9/\"\n"));
    let mut process = scene.run(&[]);
    let address = process.address();
    process.hears("does not deliver, and tries on");
    scene.write("[[sinks]]\n");
    process.hears("is not taken");
    let page = get(&address, None).await.1;
    for part in ["events wait for the sink down: ", "the configuration is not taken: ", "unknown key"] {
        assert!(page.contains(part), "{part} in {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_does_not_warn_of_a_question_of_its_own() {
    let scene = Scene::new().await;
    let all =
        |line: &str| if line.starts_with("subscription_id") { "subscription_id = \"*\"\n" } else { line }.to_owned();
    let text: String = scene.text("").split_inclusive('\n').map(all).collect();
    fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    let output = scene.command(&["inspect", "-c", "collector.toml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), ""));
    assert!(String::from_utf8_lossy(&output.stdout).contains("each scope that the service names"));
}

/// Returns a configuration with a page, and with a sink that posts to a receiver.
fn posting(receiver: &Receiver, more: &str) -> String {
    let listen = "[collector]\nlisten = \"127.0.0.1:0\"\n";
    format!("{listen}[[sink]]\nid = \"siem\"\ntype = \"http\"\nurl = \"{}/{{tenant}}\"\n{more}", receiver.url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_refuses_every_event_is_one_warning() {
    let scene = Scene::new().await;
    let receiver = Receiver::start(|number, _| Reply::Status(400, format!("{{\"request\": {number}}}"))).await;
    scene.write(&posting(&receiver, ""));
    let mut process = scene.run(&[]);
    let address = process.address();
    let letters = scene.folder.path().join("dead-letters-siem.ndjson");
    lines(&letters, 30);
    let page = get(&address, None).await.1;
    for part in ["15 dead letters", "dead-letters-siem.ndjson", "answered 400 Bad Request", "receiver can mend it"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let metrics = get(&format!("{address}/metrics"), None).await.1;
    check_metrics(&metrics);
    let line = "collector_sink_dead_letters_total{sink=\"siem\",tenant=\"tenant-1\"} 15";
    assert!(metrics.lines().any(|known| known == line), "{line} in {metrics}");
    scene.write(&posting(&receiver, "gzip = false\n"));
    process.hears("took the configuration");
    let said: Vec<&String> = process.heard.iter().filter(|line| line.contains("refused for good")).collect();
    let [said] = said[..] else { panic!("{said:#?}") };
    for part in ["WARN", "sink=\"siem\"", "code=\"answered-400\"", "fault=\"receiver\"", "dead-letters-siem.ndjson"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_is_one_warning_for_all_tenants_and_attempts() {
    let scene = Scene::new().await;
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let receiver = Receiver::start(move |number, _| match up.load(Ordering::SeqCst) {
        true => Reply::Status(200, String::new()),
        false => Reply::Status(503, format!("try {number} another time")),
    })
    .await;
    // The outbox is full with the first event, so that both tenants pause.
    scene.write(&posting(&receiver, "max_outbox_bytes = 1\n[feed_defaults]\ninterval = \"1s\"\n"));
    let mut process = scene.run(&[]);
    let address = process.address();
    receiver.until(6).await;
    let page = get(&address, None).await.1;
    for part in ["answered-503", "it is tried again ", "outbox full", "when siem takes events", "receiver can mend it"]
    {
        assert!(page.contains(part), "{part} in {page}");
    }
    let metrics = get(&format!("{address}/metrics"), None).await.1;
    assert!(metrics.lines().any(|line| line == "collector_sink_full_outboxes{sink=\"siem\"} 2"), "{metrics}");
    is_up.store(true, Ordering::SeqCst);
    process.hears("the outbox has room again");
    process.hears("delivers again");
    for words in ["does not deliver", "the outbox is full"] {
        let said: Vec<&String> = process.heard.iter().filter(|line| line.contains(words)).collect();
        let [said] = said[..] else { panic!("{words}: {said:#?}") };
        assert!(said.contains("WARN") && said.contains("fault=\"receiver\""), "{said}");
    }
}

/// Returns a feed whose plugin is a pipe: it is ready when the test writes the plugin.
fn piped(id: &str, mode: &str) -> String {
    format!(
        "[[feed]]\nid = \"{id}\"\ntenant = \"mallory\"\nplugin = \"slow.fifo\"\n\
         [feed.settings]\nmode = \"{mode}\"\nkey = \"the-key-of-mallory\"\n"
    )
}

fn pipe(scene: &Scene) -> PathBuf {
    let pipe = scene.folder.path().join("slow.fifo");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    pipe
}

/// Checks that the metrics contain these lines.
async fn counts(address: &str, lines: &[&str]) {
    let metrics = get(&format!("{address}/metrics"), None).await.1;
    for line in lines {
        assert!(metrics.lines().any(|known| known == *line), "{line} in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn feeds_whose_plugin_is_not_ready_come_later_and_keep_nobody() {
    let scene = Scene::new().await;
    let (pipe, served) = (pipe(&scene), format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}"));
    scene.write(&format!("{served}{}{}", piped("slow", ""), piped("wrong", "no such mode")));
    let mut process = scene.run(&[]);
    let address = process.address();
    process.hears("checks 2 more feeds");
    lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
    for path in ["healthz", "readyz"] {
        assert_eq!(get(&format!("{address}/{path}"), None).await.0, 200, "nobody waits for one plugin");
    }
    let page = get(&address, None).await.1;
    assert!(page.contains("Feeds that are being checked") && page.contains("it is not collected yet"), "{page}");
    counts(&address, &["collector_feeds 2", "collector_feeds_being_checked 2", "collector_feeds_left_out 0"]).await;
    fs::write(&pipe, hostile_bytes()).unwrap();
    let told = process.hears("a feed is left out");
    assert!(told.contains("feed wrong: settings.mode: found") && told.contains("settings-invalid"), "{told}");
    process.hears("took 1 more feeds");
    counts(&address, &["collector_feeds 3", "collector_feeds_being_checked 0", "collector_feeds_left_out 1"]).await;
    // A running feed continues while its plugin is checked again, and a configuration without the feed does not wait
    // for that.
    scene.write(&format!("{served}{}", piped("slow", "")));
    process.hears("checks 1 more feeds");
    assert!(get(&address, None).await.1.contains("it goes on as it was"));
    counts(&address, &["collector_feeds 3", "collector_feeds_being_checked 1", "collector_feeds_left_out 0"]).await;
    scene.write(&served);
    process.hears("took the configuration of 2 feeds");
    counts(&address, &["collector_feeds 2", "collector_feeds_being_checked 0"]).await;
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0), "what is still being read keeps nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_any_feed_ends_once_that_is_known() {
    let scene = Scene::new().await;
    let (pipe, only) = (pipe(&scene), scene.folder.path().join("only.toml"));
    fs::write(only, piped("slow", "")).unwrap();
    for (arguments, told) in [(&[][..], Some("checks 1 more feeds")), (&["--strict"], None)] {
        let mut process = Process::start(scene.command(&[&["run", "-c", "only.toml"], arguments].concat()));
        told.map(|told| process.hears(told));
        fs::write(&pipe, "no plugin").unwrap();
        process.hears("error: only.toml:1: feed slow: plugin: slow.fifo: not a WebAssembly component");
        assert_eq!(process.end().code(), Some(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_breaks_down_at_once_leaves_its_own_feeds_out() {
    let scene = Scene::new().await;
    fs::write(scene.folder.path().join("hostile.wasm"), hostile_bytes()).unwrap();
    let hostile = "[[feed]]\nid = \"items\"\ntenant = \"mallory\"\nplugin = \"hostile.wasm\"\n\
                   [feed.settings]\nmode = \"shapes\"\namount = 100000\nkey = \"the-key-of-mallory\"\n";
    scene.write(&format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}{hostile}"));
    let output = scene.command(&["poll", "-c", "collector.toml"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "a person is there, who can mend it");
    let mut process = scene.run(&[]);
    let address = process.address();
    let told = process.hears("a feed is left out");
    assert!(told.contains("feed items: plugin: the plugin passed its limit of ") && told.contains("fault=\"plugin\""));
    lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
    assert!(get(&address, None).await.1.contains("a feed is left out: "));
    let metrics = get(&format!("{address}/metrics"), None).await.1;
    assert!(metrics.lines().any(|line| line == "collector_feeds_left_out 1"), "{metrics}");
    // A running feed continues, because its new configuration is unknown.
    let text = fs::read_to_string(scene.folder.path().join("collector.toml")).unwrap();
    let (before, after) = text.split_once("id = \"tenant-2-scores\"\n").unwrap();
    let other = format!("{before}id = \"tenant-2-scores\"\nplugin = \"collector.toml\"\n{after}");
    fs::write(scene.folder.path().join("collector.toml"), other).unwrap();
    process.hears("a feed goes on as it was");
    process.hears("took the configuration of 1 feeds");
    let metrics = get(&format!("{address}/metrics"), None).await.1;
    for line in ["collector_feeds_left_out 1", "collector_scopes{tenant=\"tenant-2\",feed=\"tenant-2-scores\"} 1"] {
        assert!(metrics.lines().any(|known| known == line), "{line} in {metrics}");
    }
    let only = scene.folder.path().join("only.toml");
    fs::write(only, hostile).unwrap();
    let output = scene.command(&["run", "-c", "only.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "nothing would be collected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_whose_plugin_or_plan_is_not_the_one_that_is_pinned_is_left_out() {
    let scene = Scene::new().await;
    let write = |lines: &str| {
        let text = scene.text("").replace("tenant = \"tenant-1\"\n", &format!("tenant = \"tenant-1\"\n{lines}\n"));
        fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    };
    let run = |arguments: &[&str]| {
        let output = scene.command(&[arguments, &["-c", "collector.toml"]].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), said)
    };
    write("");
    let inspected: Value = serde_json::from_str(&run(&["inspect", "--json"]).1).unwrap();
    let feeds = inspected["feeds"].as_array().unwrap();
    let digest = |feed: usize, key: &str| feeds[feed][key].as_str().unwrap().to_owned();
    let (plugin, plan) = (digest(0, "plugin_sha256"), digest(0, "plan_sha256"));
    assert_eq!((&plugin, plan.len()), (&inspected["sha256"].as_str().unwrap().to_owned(), 64));
    assert_ne!(plan, digest(1, "plan_sha256"), "of other subscriptions");
    // A reader of the page can compute its digest.
    let shapes = feeds[0]["shapes"].as_array().unwrap().iter().map(|shape| {
        let keys = ["method", "origin", "path", "credentials", "captures"];
        format!("{{{}}}", keys.map(|key| format!("{key:?}:{}", shape[key])).join(","))
    });
    let shapes = format!("[{}]", shapes.collect::<Vec<_>>().join(","));
    assert_eq!(source_host::digest::digest(shapes.as_bytes()), plan);

    write(&format!("plugin_sha256 = \"{plugin}\"\nplan_sha256 = \"{}\"", plan.to_uppercase()));
    assert_eq!(run(&["poll"]).0, Some(0));
    let page = run(&["inspect"]);
    assert!(page.0 == Some(0) && page.1.contains(&format!("plan_sha256 = \"{plan}\"")), "{}", page.1);

    let wrong = "0".repeat(64);
    for (key, found, what) in [("plugin_sha256", &plugin, "a plugin"), ("plan_sha256", &plan, "a plan")] {
        write(&format!("{key} = \"{wrong}\""));
        let told = format!("{key}: found {what} with the SHA-256 {found}, expected {wrong}; see with `inspect -c`");
        let (status, events, said) = run(&["poll"]);
        assert_eq!((status, events.lines().count()), (Some(3), 15), "{said}");
        assert!(
            said.contains("error: a feed is left out: collector.toml:") && said.contains(&told),
            "{told} in {said}"
        );
        let (status, _, said) = run(&["poll", "--strict"]);
        assert!(status == Some(2) && said.contains(&told), "{said}");
        let (status, page, said) = run(&["inspect"]);
        assert!(status == Some(3) && said.contains(&told), "{said}");
        assert!(page.contains("feed tenant-1-scores of tenant tenant-1"), "it is there to be reviewed: {page}");
        let (status, reports, _) = run(&["check", "--json"]);
        let report: Value = serde_json::from_str(reports.lines().next().unwrap()).unwrap();
        let step = &report["steps"][0];
        assert_eq!((status, &step["code"]), (Some(3), &"pin-differs".into()), "{step}");
        assert!(step["cause"].as_str().unwrap().contains(&told), "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_of_a_plugin_that_is_not_the_one_that_is_pinned() {
    let scene = Scene::new().await;
    fs::write(scene.folder.path().join("hostile.wasm"), hostile_bytes()).unwrap();
    let hostile = |pin: &str| {
        format!(
            "[[feed]]\nid = \"items\"\ntenant = \"mallory\"\nplugin = \"hostile.wasm\"\n{pin}\n\
             [feed.settings]\nmode = \"shapes\"\namount = 100000\nkey = \"the-key-of-mallory\"\n"
        )
    };
    let poll = |pin: &str| {
        scene.write(&hostile(pin));
        let output = scene.command(&["poll", "-c", "collector.toml"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = poll("");
    assert!(status == Some(2) && said.contains("passed its limit of shapes of requests in prepare"), "{said}");
    let (status, said) = poll(&format!("plugin_sha256 = \"{}\"", "0".repeat(64)));
    assert!(status == Some(3) && said.contains("feed items: plugin_sha256: found a plugin with"), "{said}");
    assert!(!said.contains("prepare"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_runs_goes_on_within_its_pins_and_not_against_them() {
    let scene = Scene::new().await;
    let (first, second) = ("id = \"tenant-1-scores\"\n", "id = \"tenant-2-scores\"\n");
    let write = |one: &str, two: &str| {
        let text =
            scene.text(FILE_SINK).replace(first, &format!("{first}{one}")).replace(second, &format!("{second}{two}"));
        fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    };
    write("", "");
    let output = scene.command(&["inspect", "-c", "collector.toml", "--json"]).output().unwrap();
    let inspected: Value = serde_json::from_slice(&output.stdout).unwrap();
    let pin = format!("plugin_sha256 = \"{}\"\n", inspected["sha256"].as_str().unwrap());
    fs::write(scene.folder.path().join("hostile.wasm"), hostile_bytes()).unwrap();
    let mut process = scene.run(&[]);
    process.hears("collects 2 feeds");
    write("", &format!("plugin = \"hostile.wasm\"\n{pin}"));
    let told = process.hears("a feed goes on as it was");
    assert!(
        told.contains("tenant-2-scores: plugin_sha256: found a plugin with") && told.contains("pin-differs"),
        "{told}"
    );
    process.hears("took the configuration of 1 feeds");
    write("", &format!("plan_sha256 = \"{}\"\n", "0".repeat(64)));
    let told = process.hears("a feed is left out");
    assert!(told.contains("tenant-2-scores: plan_sha256: found a plan with"), "{told}");
    process.hears("took the configuration of 1 feeds");
    write("", &pin);
    process.hears("took the configuration of 2 feeds");
}

/// The line of the first feed's credential in the configuration of [`Scene`].
const SECRET: &str = "client_secret = { env = \"TENANT_1_SECRET\" }";

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_cannot_be_read_leaves_its_own_feed_out() {
    let mut scene = Scene::new().await;
    scene.secrets.push(("BLANK".to_owned(), " \n".to_owned()));
    for (name, text) in [("blank.txt", "\u{feff}\r\n"), ("plain.pem", "no PEM"), ("token", "no token")] {
        let file = scene.folder.path().join(name);
        fs::write(&file, text).unwrap();
        // A file that others may read also causes a warning.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::create_dir(scene.folder.path().join("folder")).unwrap();
    for (credential, told) in [
        ("client_secret = { env = \"NOBODY\" }", "settings.client_secret: found no variable NOBODY"),
        ("client_secret = { env = \"BLANK\" }", "settings.client_secret: found nothing in the variable BLANK"),
        ("client_secret = { env = \"ODD\" }", "settings.client_secret: "),
        ("client_secret = { file = \"none.txt\" }", "settings.client_secret: cannot read none.txt"),
        ("client_secret = { file = \"folder\" }", "settings.client_secret: cannot read folder"),
        ("client_secret = { file = \"blank.txt\" }", "settings.client_secret: found nothing in blank.txt"),
        ("client_certificate = { file = \"plain.pem\" }", "settings.client_certificate: found no PEM"),
        ("federated_token_file = \"none\"", "settings.federated_token_file: found a file that cannot be read"),
        ("federated_token_file = \"token\"", "settings.federated_token_file: found a file without a signed token"),
    ] {
        let text = scene.text("").replace(SECRET, credential);
        fs::write(scene.folder.path().join("collector.toml"), &text).unwrap();
        let mut command = scene.command(&["poll", "-c", "collector.toml"]);
        let output = command.env("ODD", OsStr::from_bytes(b"\xff\xfe")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let events = output.stdout.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!((output.status.code(), events), (Some(3), 15), "{credential}: {said}");
        let told = format!("feed tenant-1-scores: {told}");
        assert!(
            said.contains("error: a feed is left out: collector.toml:") && said.contains(&told),
            "{told} in {said}"
        );
        let told = said.lines().filter(|line| !line.starts_with("polled in ")).count();
        assert_eq!(told, 1, "{said}");
    }
    let poll = |arguments: &[&str]| {
        let output = scene.command(&[&["poll", "-c", "collector.toml"], arguments].concat()).output().unwrap();
        (output.status.code(), output.stdout.len())
    };
    assert_eq!(poll(&["--strict"]), (Some(2), 0));
    assert_eq!(poll(&["--feed", "tenant-1-scores"]), (Some(2), 0), "nothing would be collected");
    assert_eq!(poll(&["--feed", "tenant-2-scores"]).0, Some(0));
    let output = scene.command(&["inspect", "-c", "collector.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    // A problem of the configuration itself stops everything, whatever else cannot be read.
    let text =
        scene.text("").replace(SECRET, "client_secret = { env = \"NOBODY\" }").replace("_key = \"0", "_key = \"x");
    fs::write(scene.folder.path().join("collector.toml"), &text).unwrap();
    let output = scene.command(&["poll", "-c", "collector.toml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
    for told in
        ["tenant-1-scores: settings.client_key", "found no variable NOBODY", "tenant-2-scores: settings.client_k"]
    {
        assert!(said.contains(told), "{told} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_left_out_comes_back_when_its_file_does() {
    let scene = Scene::new().await;
    let path = |name: &str| scene.folder.path().join(name);
    let (token, secret) = ("federated_token_file = \"token\"", "client_secret = { file = \"secret.txt\" }");
    let listen = format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}");
    let write = |credential: &str| {
        fs::write(path("collector.toml"), scene.text(&listen).replace(SECRET, credential)).unwrap();
    };
    write(secret);
    let mut strict = scene.run(&["--strict"]);
    strict.hears("settings.client_secret: cannot read secret.txt");
    assert_eq!(strict.end().code(), Some(2));
    let mut process = scene.run(&[]);
    let address = process.address();
    let told = process.hears("a feed is left out");
    assert!(
        told.contains("feed tenant-1-scores: settings.client_secret") && told.contains("fault=\"operator\""),
        "{told}"
    );
    lines(&path("out/tenant-2.ndjson"), 15);
    let page = get(&address, None).await.1;
    assert!(page.contains("a feed is left out: ") && page.contains("cannot read secret.txt"), "{page}");
    let metric = async |value: u8| {
        let metrics = get(&format!("{address}/metrics"), None).await.1;
        let line = format!("collector_feeds_left_out {value}");
        assert!(metrics.lines().any(|known| known == line), "{line} in {metrics}");
    };
    metric(1).await;
    fs::write(path("secret.txt"), &scene.secrets[0].1).unwrap();
    process.hears("took the configuration of 2 feeds");
    lines(&path("out/tenant-1.ndjson"), 15);
    metric(0).await;
    // A running feed continues with its present credential.
    fs::remove_file(path("secret.txt")).unwrap();
    process.hears("a feed goes on as it was");
    process.hears("took the configuration of 1 feeds");
    metric(0).await;
    // A file that a setting of the plugin names is watched, too.
    write(token);
    process.hears("feed tenant-1-scores: settings.federated_token_file: found a file that cannot be read");
    process.hears("took the configuration of 1 feeds");
    fs::write(path("token"), crate::credentials::FEDERATED).unwrap();
    process.hears("took the configuration of 2 feeds");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_surrounds_a_secret_is_removed_and_the_rest_is_sent_as_it_stands() {
    let mut scene = Scene::new().await;
    let secret = "“8y~8Q\0 s~ecret”";
    scene.simulator.with(|world| world.estate.tenants[0].client_secret = secret.to_owned());
    scene.secrets.push(("PADDED".to_owned(), format!("\u{a0}{}\u{200b}\n", secret.replace('\0', ""))));
    fs::write(scene.folder.path().join("secret.txt"), format!("\u{feff}{secret}\r\n")).unwrap();
    let told = |credential: &str, command: &[&str]| {
        let text = scene.text("").replace(SECRET, credential);
        fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
        let output = scene.command(&[command, &["-c", "collector.toml"]].concat()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("s~ecret") && !said.contains("8y~8Q"), "{said}");
        (output.status.code(), said)
    };
    let file = "client_secret = { file = \"secret.txt\" }";
    for command in ["poll", "check"] {
        let (status, said) = told(file, &[command]);
        assert_eq!(status, Some(0), "{said}");
        for words in [
            "feed tenant-1-scores: settings.client_secret: a byte order mark at its beginning was removed",
            "feed tenant-1-scores: settings.client_secret: has a typographic quotation mark as characters 1, 16, where",
            "feed tenant-1-scores: settings.client_secret: has a NUL as character 7, where",
        ] {
            assert_eq!(said.matches(words).count(), 1, "{words} in {said}");
        }
    }
    scene.simulator.with(|world| world.estate.tenants[0].client_secret = secret.replace('\0', ""));
    let (status, said) = told("client_secret = { env = \"PADDED\" }", &["poll"]);
    assert_eq!(status, Some(0), "{said}");
    let words = "white space at its beginning and a zero-width space and white space at its end were removed";
    assert!(said.contains(words), "{said}");
    // If a user puts a secret in the place of a name, no message shows it.
    for credential in ["{ env = \"8y~8Q~s~ecretAbcDef.1\" }", "{ file = \"8y~8Q~s~ecretAbcDef.1\" }"] {
        let (status, said) = told(&format!("client_secret = {credential}"), &["poll"]);
        assert_eq!(status, Some(3));
        assert!(said.contains("a secret itself does not belong there"), "{said}");
    }
    let (status, said) = told("client_secret = { env = \"${NOBODY}\" }", &["poll"]);
    assert!(status == Some(3) && said.contains("expected the name alone, NOBODY"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_climbs_with_the_others_where_one_credential_cannot_be_read() {
    let scene = Scene::new().await;
    let text = scene.text("").replace(SECRET, "client_secret = { env = \"NOBODY\" }");
    fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    let check = |arguments: &[&str]| {
        let output =
            scene.command(&[&["check", "-c", "collector.toml", "--json"], arguments].concat()).output().unwrap();
        let reports = output.stdout.split_inclusive(|byte| *byte == b'\n');
        let reports: Vec<Value> = reports.map(|line| serde_json::from_slice(line).unwrap()).collect();
        (output.status.code(), reports)
    };
    let (status, reports) = check(&[]);
    let feeds: Vec<_> = reports.iter().map(|report| (report["feed"].as_str(), report["ok"].as_bool())).collect();
    assert_eq!(status, Some(3));
    assert_eq!(feeds, [(Some("tenant-1-scores"), Some(false)), (Some("tenant-2-scores"), Some(true))]);
    let step = &reports[0]["steps"][0];
    assert_eq!((step["status"].as_str(), step["code"].as_str()), (Some("failed"), Some("credential-unreadable")));
    assert!(step["cause"].as_str().unwrap().contains("found no variable NOBODY"), "{step}");
    assert!(step["fix"].as_str().unwrap().contains("collector.toml:"), "{step}");
    assert_eq!(reports[0]["steps"][1]["status"], "not-reached");
    let (status, reports) = check(&["--strict"]);
    assert_eq!((status, reports[1]["steps"][1]["status"].as_str()), (Some(2), Some("not-reached")));
}

/// With a thread that hangs, all time limits of the process are a tenth of the usual ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_in_which_a_thread_hangs_ends_by_itself_or_when_told() {
    let scene = Scene::new().await;
    scene.write("[collector]\nlisten = \"127.0.0.1:0\"\n");
    let lost = "ends: the collector's loop did not turn for 120 s, in which it starts what is due";
    let overdue = "ends: told to stop, the process did not within 20 s";
    for (place, signal, words) in [
        ("loop-turn:1", None, lost),
        ("loop-turn:1", Some("TERM"), overdue),
        ("loop-turn:1", Some("INT"), overdue),
        ("poll-begin:1", Some("TERM"), overdue),
        ("commit-begin:1", Some("TERM"), overdue),
    ] {
        let mut command = scene.command(&["run", "-c", "collector.toml"]);
        command.env(failpoint::VARIABLE, format!("{place}:hang"));
        let mut process = Process::start(command);
        process.hears("a test lets this thread hang");
        if let Some(signal) = signal {
            process.signal(signal);
        } else {
            process.hears("the collector's loop does not turn for 15 s: it starts what is due");
        }
        let line = process.hears(words);
        assert!(line.contains("ERROR") && line.contains("fault=\"harness\""), "{place}: {line}");
        assert_eq!(process.end().code(), Some(1), "{place} {signal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_with_a_state_tells_what_is_new_and_then_nothing() {
    let scene = Scene::new().await;
    scene.write("");
    let poll = || {
        let output = scene.command(&["poll", "-c", "collector.toml", "--state", "poll.db"]).output().unwrap();
        let events: Vec<Value> = output
            .stdout
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!scene.folder.path().join("poll.db-wal").exists(), "the file is whole by itself");
        events
    };
    assert_eq!(poll().len(), 30);
    assert_eq!(poll(), Vec::<Value>::new());
    scene.simulator.with(|world| world.estate.tenants[0].subscriptions[0].controls[0].unhealthy += 50);
    let changed = poll();
    assert_eq!(changed.len(), 2, "the control and its score");
    assert_eq!(changed[0]["unmapped"]["change"]["drivers"][0]["uid"], changed[1]["finding_info"]["uid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_cannot_deliver_says_so_and_keeps_the_events() {
    let scene = Scene::new().await;
    scene.write("[[sink]]\nid = \"down\"\ntype = \"http\"\nurl = \"http://127.0.0.1:9/events\"\n");
    let output = scene.command(&["poll", "-c", "collector.toml", "--state", "poll.db"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("sink down: 15 events of tenant tenant-1 were not delivered"), "{said}");
    assert!(said.contains("http://127.0.0.1:9/events cannot be reached: "), "why, too: {said}");
    assert!(said.contains("(connection-refused, receiver)"), "{said}");
    scene.write("[[sink]]\nid = \"down\"\ntype = \"stdout\"\n");
    let output = scene.command(&["poll", "-c", "collector.toml", "--state", "poll.db"]).output().unwrap();
    assert_eq!(output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_of_a_configuration_is_told_at_once_with_status_2() {
    let scene = Scene::new().await;
    let folder = scene.folder.path().join("conf");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.toml"), scene.text("[[sink]]\nid = \"nobody\"\ntype = \"file\"\npath = \"x\"\n")).unwrap();
    fs::write(
        folder.join("b.toml"),
        "[[sink]]\nid = \"lake\"\ntype = \"stdout\"\n\
         [[feed]]\nid = \"tenant-1-scores\"\ntenant = \"t\"\ninterval = \"soon\"\nsinks = []\n[feed.settings]\n\
         [[feed]]\nid = \"c\"\ntenant = 5\nsinks = [\"lake\"]\nextra = 1\n[feed.settings]\nclient_secret = { env = \"NOBODY\" }\n\
         [[feed]]\nid = \"d\"\ntenant = \"t\"\nsinks = [\"lake\"]\n[feed.settings]\nclient_secret = { file = \"no-such\" }\n\
         [[feed]]\nid = \"e\"\ntenant = \"t\"\nsinks = [\"lake\"]\n[feed.settings]\nclient_key = \"k\"\n",
    )
    .unwrap();
    fs::write(scene.folder.path().join("conf/ca.pem"), scene.simulator.ca_pem()).unwrap();
    let output = scene.command(&["run", "-c", "conf"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8_lossy(&output.stderr);
    for expected in [
        "conf/b.toml:5: feed[0].id: found \"tenant-1-scores\" a second time, the first is at conf/a.toml:",
        "conf/b.toml:7: feed[0].interval: found \"soon\", expected a duration",
        "conf/b.toml:8: feed[0].sinks: found an empty list, expected the id of a [[sink]]",
        "conf/b.toml:12: feed c: tenant: found 5, expected an id",
        "conf/b.toml:14: feed c: extra: unknown key",
        "conf/b.toml:16: feed c: settings.client_secret: found no variable NOBODY",
        "conf/b.toml:22: feed d: settings.client_secret: cannot read conf/no-such",
        "conf/b.toml:28: feed e: settings.client_key: found `k`",
        "feed e: settings.client_secret",
    ] {
        assert!(said.contains(expected), "{expected} in\n{said}");
    }
    assert!(said.lines().all(|line| line.starts_with("error: conf/")), "{said}");
}
