//! Metrics, health, and the status page: their content, who may read them, and from where.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use host_harness::collector::StatusSnapshot;
use host_harness::collector::work::Pipeline;
use host_harness::limits;
use host_harness::run::server::{self, StatusRequest, StatusServer};
use host_harness::sink::disk::RealDisk;
use host_harness::store::SharedStore;
use host_harness::store::fleet::MemberId;
use host_harness::store::shards::Shards;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{FILE_SINK, check_metrics};
use crate::support::deliveries::{Pipe, deliveries};
use crate::support::fleet::{Connection, Database};
use crate::support::noon;
use crate::support::process::{PATIENCE, Scene, get, lines};

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
    let (status, metrics) = get(&format!("{address}/metrics?by=feed"), None).await;
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
    assert_eq!(compressed(&format!("{address}/metrics?by=feed")).await.lines().count(), metrics.lines().count());
    let (status, page) = get(&address, None).await;
    assert_eq!(status, 200);
    let (bad, good) = (page.find("tenant-1-scores").unwrap(), page.find("tenant-2-scores").unwrap());
    assert!(bad < good && page.contains("az role assignment create"), "{page}");
    assert!(page.contains("2 feeds, 0 of them failing, and 0 left out; 2 scopes, 1 of them without data"), "{page}");
    assert!(page.contains("tenant can mend it"), "{page}");
    let (status, page_of_tenant) = get(&format!("{address}/tenant?tenant=tenant-2"), None).await;
    assert!(status == 200 && page_of_tenant.contains("over 90 days, now "), "{page_of_tenant}");
    let link = page_of_tenant.split('"').find(|part| part.starts_with("scope?")).unwrap().replace("&amp;", "&");
    let (status, page_of_scope) = get(&format!("{address}/{link}"), None).await;
    assert_eq!(status, 200);
    for part in ["Controls by the points at stake", "would add", "The score did not change in this time."] {
        assert!(page_of_scope.contains(part), "{part} in {page_of_scope}");
    }
    let (status, by_tenant) = get(&format!("{address}/metrics"), None).await;
    let line = r#"collector_events_total{tenant="tenant-2"} 15"#;
    assert!(
        status == 200 && by_tenant.lines().any(|known| known == line) && !by_tenant.contains("feed=\""),
        "{by_tenant}"
    );
    assert_eq!(get(&format!("{address}/metrics?by=scope"), None).await.0, 400);
    let secrets = scene.secrets.iter().map(|(_, secret)| secret.as_str());
    let everything = format!("{page}{page_of_tenant}{page_of_scope}{metrics}{by_tenant}{}", process.heard.join("\n"));
    assert!(secrets.into_iter().all(|secret| !everything.contains(secret)), "a secret is shown");
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
        assert_eq!(get(&format!("{address}/metrics?by=feed"), token).await.0, status, "{token:?}");
        assert_eq!(get(&address, token).await.0, status, "{token:?}");
    }
    assert_eq!(get(&format!("{address}/healthz"), None).await.0, 200, "probes carry no token");
    assert_eq!(get(&format!("{address}/else"), None).await.0, 401, "who has no token does not learn what is there");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let posted = client.post(format!("{address}/else")).send().await.unwrap();
    assert_eq!((posted.status().as_u16(), &posted.headers()["allow"]), (405, &"GET, HEAD".parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_do_not_read_or_say_nothing_keep_nobody_from_health() {
    let scene = Scene::new().await;
    scene.write(&format!("[collector]\nlisten = \"127.0.0.1:0\"\n{FILE_SINK}"));
    let mut process = scene.run(&[]);
    let address = process.address();
    let host = address.strip_prefix("http://").unwrap().to_owned();
    process.hears("collecting 2 feeds");
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
        // At once: the server ends such connections after 10 s. An answer that nobody reads may end sooner.
        if !attack.ends_with("\r\n\r\n") {
            answers("127.0.0.1", "/metrics", 503).await;
        }
        answers("127.0.0.1", "/healthz", 200).await;
        answers("127.0.0.1", "/readyz", 200).await;
        answers("127.0.0.2", "/metrics", 200).await;
    }
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_histories_are_read_at_the_same_time_and_the_others_wait() {
    const PAGES: usize = limits::HISTORY_READERS + 4;
    // Each reading takes a pass, and says before that it has begun.
    let (begun, mut begins) = mpsc::unbounded_channel();
    let (passes, pass) = std::sync::mpsc::channel();
    let pass = Mutex::new(pass);
    let database = Database::new(&Arc::new(AtomicU64::new(0)));
    *database.at_reading.lock() = Arc::new(move || {
        begun.send(()).unwrap();
        pass.lock().recv().unwrap();
    });
    let store: SharedStore = Arc::new(Connection { database, id: MemberId("status".to_owned()) });
    let (deliveries, metrics) = deliveries(&store, Arc::new(RealDisk), Arc::new(Mutex::new(Pipe::default())));
    let (salt, budgets) = (Arc::from(""), Arc::default());
    let pipeline = Pipeline { store, shards: Shards::sole(), deliveries, metrics, clock: noon(), salt, budgets };
    let (questions, mut asked) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(question) = asked.recv().await {
            match question {
                StatusRequest::Snapshot(_, answer) => drop(answer.send(StatusSnapshot::default())),
                StatusRequest::Health(answer) => drop(answer.send(Ok(()))),
            }
        }
    });
    let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, StatusServer::new(pipeline, None, questions)));
    let pages: Vec<_> = (0..PAGES)
        .map(|_| {
            let address = address.clone();
            tokio::spawn(async move { get(&address, None).await.0 })
        })
        .collect();
    for _ in 0..limits::HISTORY_READERS {
        begins.recv().await.unwrap();
    }
    assert_eq!(get(&format!("{address}/healthz"), None).await.0, 200, "probes wait for no history");
    for left in (0..PAGES).rev() {
        assert!(begins.try_recv().is_err(), "a reading too many began");
        passes.send(()).unwrap();
        if left >= limits::HISTORY_READERS {
            begins.recv().await.unwrap();
        }
    }
    for page in pages {
        assert_eq!(page.await.unwrap(), 200);
    }
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
async fn the_status_page_tells_of_sinks_and_of_a_configuration_that_is_not_taken() {
    let scene = Scene::new().await;
    let listen = "[collector]\nlisten = \"127.0.0.1:0\"\n[[sink]]\nid = \"down\"\ntype = \"http\"\n";
    scene.write(&format!("{listen}url = \"http://127.0.0.1:9/\"\n"));
    let mut process = scene.run(&[]);
    let address = process.address();
    process.hears("a delivery failed, and is retried");
    scene.write("[[sinks]]\n");
    process.hears("is not accepted");
    let page = get(&address, None).await.1;
    for part in ["sink down · ", "waiting: 30 events, ", "not accepted", "goes on with the previous one", "unknown key"]
    {
        assert!(page.contains(part), "{part} in {page}");
    }
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
