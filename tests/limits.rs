//! Every limit of a call in a pair: an amount within it passes, and an amount beyond it ends with an error that names
//! the limit, its value, and whose it was. Documents are made from the same rows.

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use source_host::credentials::settings::Settings;
use source_host::limits::{self, Limits};
use source_host::network::client::Network;
use source_host::network::{OutgoingRequest, Transport};
use source_host::plugin::Plugin;
use source_host::plugin::call::Caller;

use crate::mode::Mode;
use crate::security::Table;
use crate::support::hostile::{hostile, polled, short, unhurried};

/// A limit of a call.
pub struct Limit {
    /// Its name.
    pub name: &'static str,
    /// The mode of the hostile plugin that reaches it.
    pub mode: Mode,
    /// An amount that passes.
    pub within: u32,
    /// An amount that fails.
    pub beyond: u32,
    /// The error of the second amount.
    pub error: &'static str,
    /// Changes the default limits where those would take long to reach; the error is that of the changed limit.
    tighter: fn(Limits) -> Limits,
    /// Bytes of each of the service's answers.
    page_bytes: usize,
}

const fn limit(name: &'static str, mode: Mode, pair: (u32, u32), error: &'static str) -> Limit {
    Limit { name, mode, within: pair.0, beyond: pair.1, error, tighter: |limits| limits, page_bytes: 0 }
}

/// All limits that the hostile plugin can reach by itself.
pub const LIMITS: &[Limit] = &[
    limit("linear memory", Mode::Memory, (48, 80), "its limit on memory in poll, 67108864 bytes"),
    limit("processor time", Mode::Rounds, (1, u32::MAX), "its limit on processor time in poll, 1000 ms"),
    limit("total time", Mode::Wait, (10, 60_000), "its limit on total time in poll, 4000 ms"),
    limit("stack", Mode::Levels, (100, 10_000_000), "its limit on stack in poll, 524288 bytes"),
    limit("handles", Mode::Handles, (200, 257), "its limit on handles in poll, 256"),
    limit("headers of a request", Mode::Fields, (100, 200), "its limit on headers of a request in poll, 131072 bytes"),
    limit("requests of a call", Mode::Requests, (127, 128), "its limit on requests in poll, 128"),
    limit(
        "body of a request",
        Mode::RequestBytes,
        (65_536, 65_537),
        "the body of a request in fetch-token, 65536 bytes",
    ),
    Limit {
        tighter: |limits| Limits { response_bytes: 1 << 20, ..limits },
        page_bytes: 64 << 10,
        ..limit("bodies of all answers", Mode::Requests, (14, 16), "the bodies of all answers in poll, 1048576 bytes")
    },
    Limit {
        tighter: |limits| Limits { event_bytes: 2 << 20, ..limits },
        ..limit("bytes copied", Mode::Copies, (1, 200), "bytes copied between it and the host in normalize, 67108864")
    },
    limit("shapes of requests", Mode::Shapes, (20_000, 20_001), "its limit on shapes of requests in prepare, 20000"),
    limit("path of a shape", Mode::ShapeBytes, (16_384, 16_385), "its limit on a path in prepare, 16384 bytes"),
    limit("method of a shape", Mode::MethodBytes, (256, 257), "its limit on a method in prepare, 256 bytes"),
    limit("origin of a shape", Mode::OriginBytes, (1_026, 1_027), "its limit on an origin in prepare, 1026 bytes"),
    limit("origins of a plan", Mode::Origins, (99, 100), "its limit on different origins of a plan in prepare, 100"),
    limit("sealed key of a shape", Mode::SealedKeyBytes, (256, 257), "its limit on a sealed key in prepare, 256 bytes"),
    limit(
        "credentials on a shape",
        Mode::CredentialUses,
        (16, 17),
        "its limit on credentials on a shape in prepare, 16",
    ),
    limit(
        "place of a credential",
        Mode::PlaceBytes,
        (256, 257),
        "its limit on a place on a request in prepare, 256 bytes",
    ),
    limit(
        "address of a request",
        Mode::AddressBytes,
        (16_384, 16_385),
        "the address of a request in poll, 16384 bytes",
    ),
    limit(
        "list of pollables",
        Mode::Pollables,
        (100, 8_000_000),
        "bytes copied between it and the host in poll, 67108864",
    ),
    Limit {
        tighter: |limits| Limits { scopes: 50, ..limits },
        ..limit("scopes", Mode::Scopes, (50, 51), "its limit on scopes of a discovery in discover, 50")
    },
    Limit {
        tighter: |limits| Limits { scopes: 50, ..limits },
        ..limit("scopes that are skipped", Mode::ScopesSkipped, (49, 50), "scopes of a discovery in discover, 50")
    },
    Limit {
        tighter: |limits| Limits { scope_bytes: 90, ..limits },
        ..limit(
            "bytes of all scopes",
            Mode::Scopes,
            (50, 51),
            "its limit on the bytes of all scopes in discover, 90 bytes",
        )
    },
    limit(
        "id of a scope",
        Mode::ScopeIdBytes,
        (2_048, 2_049),
        "its limit on the id of a scope in discover, 2048 bytes",
    ),
    limit("owner of a scope", Mode::ScopeOwnerBytes, (2_048, 2_049), "its limit on the owner of a scope in discover"),
    limit(
        "plugin data of a scope",
        Mode::PluginDataBytes,
        (4_096, 4_097),
        "the plugin data of a scope in discover, 4096 bytes",
    ),
    limit("notices of an answer", Mode::Notices, (1_000, 1_001), "its limit on notices in discover, 1000"),
    limit("notices of a batch", Mode::NoticesOfBatch, (1_000, 1_001), "its limit on notices in normalize, 1000"),
    limit("notices of all steps", Mode::NoticesOfSteps, (500, 501), "the limit of 1000 notices"),
    limit("pages", Mode::Pages, (100, 101), "more pages than the limit of 100"),
    Limit {
        tighter: |limits| Limits { page_bytes: 1 << 20, ..limits },
        ..limit("bytes of all pages", Mode::PageBytes, (524_288, 524_289), "the limit of 1048576 bytes")
    },
    limit("kind of a page", Mode::KindBytes, (2_048, 2_049), "its limit on a kind of event in poll, 2048 bytes"),
    limit("cursor", Mode::CursorBytes, (65_536, 65_537), "its limit on a cursor in poll, 65536 bytes"),
    Limit {
        tighter: |limits| Limits { events: 50, ..limits },
        ..limit("events", Mode::Events, (50, 51), "its limit on events of a poll in normalize, 50")
    },
    Limit {
        tighter: |limits| Limits { events: 50, ..limits },
        ..limit("figures", Mode::Measures, (50, 51), "its limit on figures of a poll in normalize, 50")
    },
    limit("one event", Mode::EventBytes, (65_536, 65_537), "its limit on one event in normalize, 65536 bytes"),
    limit("uid of an event", Mode::EventUidBytes, (2_048, 2_049), "the uid of an event in normalize, 2048 bytes"),
    limit("subject of a figure", Mode::MeasureSubjectBytes, (2_048, 2_049), "the subject of a figure in normalize"),
    Limit {
        tighter: |limits| Limits { state_bytes: 1_000, ..limits },
        ..limit("state", Mode::StateBytes, (1_000, 1_001), "its limit on state in normalize, 1000 bytes")
    },
];

/// The table in SECURITY.md.
pub fn table() -> Table {
    let row = |limit: &Limit| {
        let Limit { name, mode, within, beyond, error, .. } = limit;
        [(*name).to_owned(), format!("{mode} {within}"), format!("{mode} {beyond}"), format!("… {error} …")].into()
    };
    Table {
        title: "Limits of a plugin",
        how: "`tests/limits.rs` gives the hostile plugin an amount within each limit, which passes, and one beyond it, which fails.",
        columns: &["limit", "passes", "fails", "message"],
        rows: LIMITS.iter().map(row).collect(),
    }
}

/// Says whether the message blames the plugin, as a failure or in an earlier error.
fn is_of_plugin(words: &str) -> bool {
    words.ends_with(", plugin)") || words.starts_with("the plugin exceeded its limit on ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_within_a_limit_passes_and_what_lies_beyond_fails_with_its_name() {
    let mut otherwise = Vec::new();
    for limit in LIMITS {
        let Limit { name, mode, within, beyond, error, tighter, page_bytes } = *limit;
        // The first amount gets the time that a busy machine needs.
        let patient = Limits { cpu_time: Duration::from_secs(20), ..unhurried() };
        if let Err(words) = polled(mode, within, tighter(patient), page_bytes).await.0
            // The plugin's own state is unreadable to it, but the host accepted the state.
            && !(mode == Mode::StateBytes && words.contains("state-odd"))
        {
            otherwise.push(format!("{name}, {within}: {words}"));
        }
        let limits = if mode == Mode::Wait { short() } else { unhurried() };
        match polled(mode, beyond, tighter(limits), page_bytes).await.0 {
            Ok(_) => otherwise.push(format!("{name}: {beyond} passed")),
            Err(words) if !words.contains(error) || !is_of_plugin(&words) => {
                otherwise.push(format!("{name}, {beyond}: {words}"));
            }
            Err(_) => {}
        }
    }
    assert!(otherwise.is_empty(), "{otherwise:#?}");
}

/// Returns the lines that the hostile plugin logs in one poll.
async fn logged(mode: Mode, amount: u32) -> Vec<String> {
    let settings = json!({ "mode": mode.word(), "amount": amount });
    let settings = Settings::new(settings.as_object().unwrap().clone(), Default::default());
    let scope = hostile().discover(&Caller::default(), &settings, None).await.0.unwrap().unwrap().scopes.remove(0);
    hostile().poll(&Caller::default(), &settings, None, &scope, None).await.1.log
}

#[tokio::test]
async fn log_lines_beyond_the_limit_are_dropped_and_long_ones_cut() {
    assert_eq!(logged(Mode::LogLines, 100).await.len(), 100);
    assert_eq!(logged(Mode::LogLines, 101).await.len(), 100);
    assert_eq!(logged(Mode::LogBytes, 2_048).await[0].len(), 2_048);
    assert_eq!(logged(Mode::LogBytes, 2_049).await[0].len(), 2_048);
    assert_eq!(logged(Mode::LogBytes, 65_537 + 2_048).await, Vec::<String>::new());
}

#[tokio::test]
async fn names_and_words_beyond_their_limits_are_cut() {
    let settings = |mode: Mode, amount: usize| {
        let settings = json!({ "mode": mode.word(), "amount": amount });
        Settings::new(settings.as_object().unwrap().clone(), Default::default())
    };
    let named = settings(Mode::ScopeNameBytes, limits::NAME_BYTES + 1);
    let found = hostile().discover(&Caller::default(), &named, None).await.0.unwrap().unwrap();
    assert_eq!(found.scopes[0].name.as_ref().unwrap().len(), limits::NAME_BYTES);
    let problems = |mode: Mode, amount: usize| {
        let settings = settings(mode, amount);
        async move { hostile().prepare(&Caller::default(), &settings).await.0.unwrap().unwrap_err() }
    };
    assert_eq!(problems(Mode::Problems, 50).await.len(), 50);
    assert_eq!(problems(Mode::Problems, 500).await.len(), limits::PROBLEMS);
    assert_eq!(problems(Mode::ProblemBytes, 500).await[0].found.len(), 500);
    assert_eq!(problems(Mode::ProblemBytes, 50_000).await[0].found.len(), limits::WORDS_BYTES);
}

/// Returns the live transport's result for the exact bytes of an answer.
async fn received(answer: Vec<u8>) -> Result<usize, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let serve = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Read::read(&mut stream, &mut [0; 4_096]).unwrap();
        // A client that hits a limit hangs up.
        let _ = stream.write_all(&answer);
    });
    let network = Network::new(None, vec!["127.0.0.0/8".parse().unwrap()]).unwrap();
    let transport = network.transport(&Limits::default()).unwrap();
    let request = OutgoingRequest { method: "GET".to_owned(), url, headers: Vec::new(), body: Vec::new() };
    let response = transport.send(request).await;
    serve.join().unwrap();
    response.map(|response| response.body.len()).map_err(|error| error.to_string())
}

fn with_body(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend(body);
    answer
}

#[tokio::test]
async fn a_body_passes_up_to_its_limit_compressed_or_not() {
    let zipped = |bytes: usize| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b' '; bytes]).unwrap();
        with_body("content-encoding: gzip\r\n", &encoder.finish().unwrap())
    };
    let most = Limits::default().response_body_bytes;
    assert_eq!(received(with_body("", &vec![b' '; most])).await, Ok(most));
    assert_eq!(received(zipped(most)).await, Ok(most));
    for answer in [with_body("", &vec![b' '; most + 1]), zipped(most + 1), zipped(most * 20)] {
        assert_eq!(received(answer).await, Err(format!("the body exceeds {most} bytes")));
    }
}

#[tokio::test]
async fn headers_pass_up_to_their_limits_of_number_and_size() {
    let limits = Limits::default();
    // `content-length` is one of the headers.
    let many = |count: usize| with_body(&"x: y\r\n".repeat(count), b"");
    assert_eq!(received(many(limits.response_headers - 1)).await, Ok(0));
    let long = |bytes: usize| with_body(&format!("x: {}\r\n", "y".repeat(bytes)), b"");
    let rest = "x".len() + "content-length".len() + "0".len();
    assert_eq!(received(long(limits.response_header_bytes - rest)).await, Ok(0));
    for answer in [many(limits.response_headers), long(limits.response_header_bytes - rest + 1)] {
        let error = received(answer).await.unwrap_err();
        assert!(error.contains("the headers exceed"), "{error}");
    }
}

#[test]
fn a_file_beyond_the_size_of_a_plugin_is_refused_unread() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(limits::PLUGIN_BYTES + 1).unwrap();
    let error = Plugin::from_file(&crate::support::host(), file.path()).err().unwrap().to_string();
    assert_eq!(error, "the plugin has more than 67108864 bytes");
}
