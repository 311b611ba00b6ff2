//! One run of a host's command with the probe.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;

use super::PROBE;
use super::evidence::Evidence;
use super::observer::{Entrance, Observer};
use crate::limits::{
    HOST_LOOK, HOST_OUTPUT_BYTES, HOST_TRIAL_PATIENCES, PROBE_CURSOR_BYTES, PROBE_LOG_LINES, PROBE_MEMORY_MIB,
    PROBE_PAGE_BYTES, PROBE_PAGES, PROBE_REQUESTS,
};

/// The reason why a host's command cannot be tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The command does not start.
    #[error("the command {0:?} cannot be started")]
    Command(OsString, #[source] io::Error),
    /// The observer or its files failed.
    #[error("the observer failed")]
    Observer(#[from] io::Error),
    /// The trial was stopped, and the command was killed.
    #[error("the trial was stopped")]
    Stopped,
}

/// Variables with the same values as the four arguments.
const VARIABLES: [&str; 4] = ["PROBE_PLUGIN", "PROBE_SETTINGS", "PROBE_SECRETS", "PROBE_ORIGIN"];

/// Runs the command once, with these scopes.
pub(super) fn run(
    command: &[OsString],
    scopes: &[&str],
    with_unallowed: bool,
    patience: Duration,
    stop: &AtomicBool,
) -> Result<Evidence, TrialError> {
    let folder = tempfile::tempdir()?;
    let name = folder.path().file_name().unwrap_or_default().to_string_lossy();
    let unique: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    // With characters that percent-encoding changes.
    let (key, token) = (format!("conformance+key/{unique}"), format!("conformance+token/{unique}"));
    let observer = Observer::start(token)?;
    let backwards = |text: &str| text.chars().rev().collect::<String>();
    let mut settings = json!({
        "origin": observer.origin(Entrance::Service),
        "foreign": observer.origin(Entrance::Foreign),
        "mirrored_key": backwards(&key),
        "mirrored_token": backwards(&observer.token),
        "breaches": scopes,
        "pages": PROBE_PAGES,
        "page_bytes": PROBE_PAGE_BYTES,
        "cursor_bytes": PROBE_CURSOR_BYTES,
        "requests": PROBE_REQUESTS,
        "log_lines": PROBE_LOG_LINES,
        "memory_mib": PROBE_MEMORY_MIB,
    });
    if with_unallowed {
        settings["unallowed"] = observer.origin(Entrance::Unallowed).into();
    }
    let write = |name: &str, bytes: &[u8]| -> io::Result<PathBuf> {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).map(|()| file)
    };
    let arguments = [
        write("probe.wasm", PROBE)?.into_os_string(),
        write("settings.json", settings.to_string().as_bytes())?.into_os_string(),
        write("secrets.json", json!({ "key": key }).to_string().as_bytes())?.into_os_string(),
        observer.origin(Entrance::Service).into(),
    ];
    let output = folder.path().join("output");
    let in_time = ended(&mut started(command, &arguments, &output)?, &observer, patience, stop)?;
    let mut printed = Vec::new();
    File::open(&output)?.take(HOST_OUTPUT_BYTES).read_to_end(&mut printed)?;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    Ok(Evidence::of(observer.take(), printed, scopes, in_time, [key, observer.token]))
}

/// Starts the command in a group of its own, with everything that it prints in one file.
fn started(command: &[OsString], arguments: &[OsString; 4], output: &Path) -> Result<Child, TrialError> {
    let [program, rest @ ..] = command else {
        return Err(TrialError::Command(OsString::new(), io::Error::from(io::ErrorKind::NotFound)));
    };
    let output = File::create(output)?;
    let mut started = Command::new(program);
    started.args(rest).args(arguments).envs(VARIABLES.into_iter().zip(arguments)).process_group(0);
    started.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    started.spawn().map_err(|error| TrialError::Command(program.clone(), error))
}

/// Waits for the end of the command; false if it had to be killed, because it sent nothing for this time, or did not end.
/// When the trial is stopped, the command is killed, too: it has a group of its own, which no key of the terminal reaches.
fn ended(child: &mut Child, observer: &Observer, patience: Duration, stop: &AtomicBool) -> Result<bool, TrialError> {
    let begun = Instant::now();
    let (mut last, mut seen) = (begun, 0);
    let is_stopped = || stop.load(Ordering::Relaxed);
    while !is_stopped() && last.elapsed() < patience && begun.elapsed() < patience * HOST_TRIAL_PATIENCES {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        let now_seen = observer.count();
        if now_seen > seen {
            (last, seen) = (Instant::now(), now_seen);
        }
        std::thread::sleep(HOST_LOOK);
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process_group(group, Signal::KILL).map_err(io::Error::from)?;
    }
    child.wait()?;
    if is_stopped() { Err(TrialError::Stopped) } else { Ok(false) }
}
