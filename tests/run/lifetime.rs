//! The start and the end of a process: signals, the lock of the state, and a log or an output without a reader.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use host_harness::limits;
use source_simulator::estate::Estate;

use super::FILE_SINK;
use crate::support::process::{Process, Scene, lines, until};

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
async fn it_ends_in_time_though_nobody_reads_its_output() {
    let scene = Scene::new().await;
    scene.simulator.with(|world| world.estate = Estate::sized(2, 20));
    scene.write("[feed_defaults]\ninterval = \"1s\"\n[feed_defaults.settings]\nemit = \"snapshot\"\n");
    let mut process = scene.run(&[]);
    process.hears("collecting 2 feeds");
    let state = scene.folder.path().join("collector.db");
    let reader = rusqlite::Connection::open_with_flags(state, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    // A pipe holds 64 KiB; more than one batch waits behind it.
    until(|| reader.query_row("SELECT count(*) FROM outbox", [], |row| row.get::<_, u32>(0)).unwrap_or(0) >= 500);
    process.signal("TERM");
    process.hears("stopping: polls");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_it_starts_is_taken() {
    let scene = Scene::new().await;
    let text = scene.text(FILE_SINK).replace("\"ca.pem\"", "\"/dev/stdin\"");
    fs::write(scene.folder.path().join("collector.toml"), text).unwrap();
    let pem = fs::read_to_string(scene.folder.path().join("ca.pem")).unwrap() + &"\n".repeat(100_000);
    // The process waits for data from the pipe.
    let (pipe, mut run) = (scene.piped_input().0, scene.command(&["run", "-c", "collector.toml"]));
    run.stdin(scene.piped_input().1);
    let mut process = Process::start(run);
    takes_signals(&process);
    process.signal("HUP");
    fs::write(&pipe, &pem).unwrap();
    process.hears("collecting 2 feeds");
    // The process reads the pipe again, because it was told to.
    fs::write(&pipe, &pem).unwrap();
    process.hears("loaded the configuration of 2 feeds");
    drop(process);
    let mut run = scene.command(&["run", "-c", "collector.toml"]);
    run.stdin(scene.piped_input().1);
    let mut process = Process::start(run);
    takes_signals(&process);
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0));
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

/// Fills a pipe, so that a further write waits for a reader.
fn fill(pipe: &std::io::PipeWriter) {
    let flags = rustix::fs::fcntl_getfl(pipe).unwrap();
    rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut writer: &std::io::PipeWriter = pipe;
    while writer.write(&[b'\n'; 512]).is_ok() {}
    rustix::fs::fcntl_setfl(pipe, flags).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_though_nobody_reads_its_log_and_the_lines_come_when_somebody_does() {
    let scene = Scene::new().await;
    scene.write(FILE_SINK);
    for reads in [false, true] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut reader = Some(reader);
        fill(&writer);
        let mut command = scene.command(&["run", "-c", "collector.toml"]);
        command.stdout(Stdio::null()).stderr(writer);
        let mut child = command.spawn().unwrap();
        // The pipe ends with the process.
        drop(command);
        lines(&scene.folder.path().join("out/tenant-2.ndjson"), 15);
        let log = reader.take_if(|_| reads);
        let log = log.map(|reader| std::thread::spawn(move || std::io::read_to_string(reader).unwrap()));
        let told = Instant::now();
        Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(told.elapsed() < limits::SHUTDOWN, "{:?}", told.elapsed());
        // A pipe whose reader is gone keeps no writer waiting.
        drop(reader);
        if let Some(log) = log {
            let log = log.join().unwrap();
            let at = |words: &str| log.find(words).unwrap_or_else(|| panic!("{words:?} in {log}"));
            assert!(at("collecting 2 feeds") < at("stop"), "{log}");
        }
        fs::remove_dir_all(scene.folder.path().join("out")).unwrap();
        fs::remove_file(scene.folder.path().join("collector.db")).unwrap();
    }
}

/// For the thread that watches the others, time passes ten times as fast, except where the process is told twice. Release
/// builds have no failpoints.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_process_in_which_a_thread_hangs_ends_by_itself_or_when_told() {
    let scene = Scene::new().await;
    scene.write("[collector]\nlisten = \"127.0.0.1:0\"\n");
    let lost = "ending: the collector's loop was stuck for 120 s, in which it starts due jobs";
    let overdue = "ending: told to stop, the process did not stop within its 20 s";
    let at_once = "ending: told to stop a second time, the process did not stop";
    for (place, signals, words) in [
        ("loop-turn:1", [].as_slice(), lost),
        ("loop-turn:1", &["TERM"], overdue),
        ("loop-turn:1", &["INT"], overdue),
        ("loop-turn:1", &["TERM", "INT"], at_once),
        ("poll-begin:1", &["TERM"], overdue),
        ("commit-begin:1", &["TERM"], overdue),
    ] {
        let pace = if signals.len() == 2 { 1 } else { 10 };
        let mut command = scene.command(&["run", "-c", "collector.toml"]);
        command.env(source_host::failpoint::VARIABLE, format!("{place}:hang:{pace}"));
        let mut process = Process::start(command);
        process.hears("a test lets this thread hang");
        for signal in signals {
            process.signal(signal);
        }
        if signals.is_empty() {
            process.hears("the collector's loop has been stuck for 15 s: it starts due jobs");
        }
        let line = process.hears(words);
        assert!(line.contains("ERROR") && line.contains("fault=\"harness\""), "{place}: {line}");
        assert_eq!(process.end().code(), Some(1), "{place} {signals:?}");
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
