//! Privileges that the program gives up, observed from outside. Only Linux reports them.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Instant;

use rustix::process::geteuid;
use serde_json::Value;
use source_host::plugin::compiler::COMMAND;

use crate::support;
use crate::support::process::PATIENCE;

/// The id of a user that owns nothing; only root can start a program as another user.
const NOBODY: u32 = 65_534;

/// Makes a command of a user who is not root, because nothing is hidden from root.
fn of_a_user(program: &str) -> Command {
    let mut command = Command::new(program);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
    }
    command
}

/// Makes a command for the built program. The test opens the file, because the user may not be able to enter its
/// folder.
fn built(arguments: &[&str]) -> Command {
    let mut command = of_a_user("/proc/self/fd/0");
    command.env_clear().args(arguments).stdin(File::open(env!("CARGO_BIN_EXE_host-harness")).unwrap());
    command
}

struct Running(Child, #[expect(dead_code, reason = "the program writes to it")] BufReader<ChildStdout>);

impl Running {
    /// Starts the simulated service, and waits until it takes connections.
    fn new() -> Running {
        let mut child = built(&["simulate", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut String::new()).unwrap();
        Running(child, lines)
    }

    fn place(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0.id())
    }

    fn told(&self, name: &str) -> String {
        fs::read_to_string(self.place(name)).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the words of the line with this beginning.
fn line<'a>(text: &'a str, beginning: &str) -> Vec<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(beginning)).unwrap();
    line.split_whitespace().collect()
}

#[test]
fn the_program_gains_no_privileges_and_leaves_no_core_file() {
    let running = Running::new();
    assert_eq!(line(&running.told("status"), "NoNewPrivs:"), ["1"]);
    assert_eq!(line(&running.told("limits"), "Max core file size"), ["0", "0", "bytes"]);
}

#[test]
fn other_processes_of_its_user_cannot_read_its_environment_and_memory() {
    let running = Running::new();
    let read = |name| of_a_user("cat").arg(running.place(name)).output().unwrap();
    assert!(read("status").status.success());
    for name in ["environ", "maps", "mem"] {
        let read = read(name);
        let said = String::from_utf8_lossy(&read.stderr).into_owned();
        assert!(said.contains("Permission denied") && read.stdout.is_empty(), "{name}: {said}");
    }
}

#[test]
fn plugins_are_compiled_and_run_by_a_program_whose_memory_is_hidden() {
    let inspected = built(&["inspect", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&inspected.stderr);
    let page: Value = serde_json::from_slice(&inspected.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(page["name"], "azure-secure-score");
}

/// Says whether all threads of a process have a filter of system calls, and can gain no privileges.
fn is_fenced_in(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    threads
        .map(|thread| fs::read_to_string(thread.path().join("status")).unwrap())
        .all(|status| line(&status, "Seccomp:") == ["2"] && line(&status, "NoNewPrivs:") == ["1"])
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn a_compiler_is_fenced_in_before_it_reads_the_first_byte_of_a_plugin() {
    let numbers = [1 << 30, 600, 1 << 20].map(|number: u64| number.to_string());
    let mut command = support::command();
    command.arg(COMMAND).args(numbers).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut compiler = command.spawn().unwrap();
    let begun = Instant::now();
    // Its standard input stays empty meanwhile.
    while !is_fenced_in(compiler.id()) {
        assert!(
            begun.elapsed() < PATIENCE,
            "{}",
            fs::read_to_string(format!("/proc/{}/status", compiler.id())).unwrap()
        );
        thread::yield_now();
    }
    compiler.stdin.take().unwrap().write_all(&wat::parse_str("(component)").unwrap()).unwrap();
    let made = compiler.wait_with_output().unwrap();
    assert!(made.status.success() && made.stderr.is_empty(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(made.stdout.starts_with(b"\x7fELF"));
}

/// Without the page map, every page that a plugin may use would be cleared after each call.
#[test]
fn the_engine_still_knows_which_pages_a_call_touched() {
    if !geteuid().is_root() {
        return; // The open files of the process are hidden, too.
    }
    support::host();
    let page_map = |folder: String| {
        let files = fs::read_dir(folder).unwrap().flatten().filter_map(|file| fs::read_link(file.path()).ok());
        files.into_iter().any(|file| file.ends_with("pagemap"))
    };
    assert!(page_map("/proc/self/fd".to_owned()));
    assert!(page_map(Running::new().place("fd")));
}
