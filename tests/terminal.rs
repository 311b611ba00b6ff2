//! The program on a pseudo-terminal, which `script` of util-linux provides.

use std::path::Path;
use std::process::{Command, Stdio};

use host_harness::recording::bundled::RECORDINGS;

use crate::support::process::Scene;
use crate::support::{PROXY_VARIABLES, root};

/// Environment variables that affect colours; tests set those that they need.
const COLOUR_VARIABLES: &[&str] = &["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI", "TERM", "COLORTERM"];

/// The exit status of a command line, and everything on the terminal.
pub struct Shown {
    pub status: Option<i32>,
    pub screen: String,
}

/// Runs a shell command on its own terminal; `host-harness` is replaced by the program.
pub fn shown(line: &str, variables: &[(&str, &str)]) -> Shown {
    let program = env!("CARGO_BIN_EXE_host-harness");
    let line = line.replace("host-harness", &format!("'{program}'"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg");
    let mut command = Command::new("script");
    // Without its own messages, the screen has only those of the program; the status is the program's.
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null()).current_dir(root());
    for variable in COLOUR_VARIABLES.iter().chain(PROXY_VARIABLES).chain(&["RUST_LOG"]) {
        command.env_remove(variable);
    }
    command.env("SHELL", "/bin/sh").env("XDG_CACHE_HOME", cache).envs(variables.iter().copied());
    let output = command.output().expect("`script` of util-linux (Debian: bsdutils) gives the terminal");
    Shown { status: output.status.code(), screen: String::from_utf8_lossy(&output.stdout).into_owned() }
}

/// Variables of a terminal with colours, and of terminals without.
const COLOURED: &[(&str, &str)] = &[("TERM", "xterm-256color")];
const PLAIN: [&[(&str, &str)]; 2] = [&[("TERM", "xterm-256color"), ("NO_COLOR", "1")], &[("TERM", "dumb")]];

#[test]
fn every_command_runs_on_a_terminal_and_writes_no_escape_code_where_colours_are_off() {
    for (line, status) in [
        ("host-harness demo", 0),
        ("host-harness demo --plugin no-such-file.wasm", 2),
        ("host-harness inspect", 0),
        ("host-harness inspect --json", 0),
        ("host-harness check -c no-such-file.toml", 2),
        ("host-harness poll -c no-such-file.toml", 2),
        ("host-harness run -c no-such-file.toml", 2),
        ("host-harness run --log-format json -c no-such-file.toml", 2),
        ("host-harness record -c no-such-file.toml --feed a -o /dev/null", 2),
        ("host-harness replay", 0),
        ("host-harness replay tests/cassettes/two-pages.json", 0),
        ("host-harness replay tests/cassettes/forbidden.json", 1),
        ("host-harness conformance", 0),
        ("host-harness simulate --scenario no-such-scenario", 2),
        ("host-harness simulate --list", 0),
        ("host-harness completions bash", 0),
        ("host-harness man", 0),
        ("host-harness man poll", 0),
        ("host-harness --help", 0),
        ("host-harness --version", 0),
        ("host-harness sing", 2),
    ] {
        for variables in [COLOURED, PLAIN[0], PLAIN[1]] {
            let Shown { status: found, screen } = shown(line, variables);
            assert_eq!(found, Some(status), "{line} {variables:?}: {screen}");
            for sign in ["panicked", "crate feature is required"] {
                assert!(!screen.contains(sign), "{line} {variables:?}: {screen}");
            }
            assert!(variables == COLOURED || !screen.contains('\x1b'), "{line} {variables:?}: {screen:?}");
        }
    }
}

#[test]
fn the_table_of_recordings_fits_a_narrow_terminal_and_keeps_the_verdict() {
    let Shown { status, screen } = shown("host-harness replay", &[("TERM", "dumb"), ("COLUMNS", "60")]);
    assert_eq!(status, Some(0), "{screen}");
    let rows: Vec<&str> = screen.lines().map(str::trim_end).filter(|line| line.contains("  ok  ")).collect();
    assert_eq!(rows.len(), RECORDINGS.len(), "{screen}");
    assert!(rows.iter().all(|row| row.chars().count() <= 60), "{screen}");
    assert!(rows.iter().any(|row| row.ends_with('…')), "{screen}");
}

#[test]
fn the_help_of_every_command_has_an_example_and_no_escape_code_where_colours_are_off() {
    let Shown { screen, .. } = shown("host-harness --help", PLAIN[0]);
    let listed = screen.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands: Vec<&str> = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let commands: Vec<&str> = commands.into_iter().filter(|name| !name.is_empty() && *name != "help").collect();
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        let Shown { status, screen } = shown(&format!("host-harness {command} --help"), PLAIN[0]);
        assert!(status == Some(0) && screen.contains("Example"), "{command} {status:?}: {screen}");
        assert!(!screen.contains('\x1b') && !screen.contains("panicked"), "{command}: {screen:?}");
    }
}

#[test]
fn the_log_and_the_usage_have_colours_on_a_terminal_that_has_them() {
    for line in ["RUST_LOG=debug host-harness demo >/dev/null", "host-harness sing"] {
        assert!(shown(line, COLOURED).screen.contains("\x1b["), "{line}");
    }
    let piped = shown("host-harness sing 2>&1 | cat", COLOURED);
    assert!(piped.screen.contains("sing") && !piped.screen.contains('\x1b'), "{:?}", piped.screen);
}

#[test]
fn the_demo_shows_people_a_few_events_in_full_and_how_to_get_all() {
    let Shown { status, screen } = shown("env -u CARGO host-harness demo", COLOURED);
    assert_eq!(status, Some(0), "{screen}");
    for words in ["\r\n  \"class_uid\": 99402001,\r\n", "fabrikam-scores  ", "host-harness demo > findings.ndjson"] {
        assert!(screen.contains(words), "expected {words:?} in {screen}");
    }
    assert!((2..=3).contains(&screen.matches("\"raw_data\":").count()), "{screen}");
    let piped = shown("host-harness demo 2>/dev/null | cat", COLOURED).screen;
    let events: Vec<&str> = piped.lines().collect();
    assert!(events.len() >= 40 && events.iter().all(|event| event.starts_with("{\"class_uid\":99402001,")), "{piped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_ask_the_service_run_on_a_terminal_and_say_what_came_of_it() {
    let scene = Scene::new().await;
    let file = scene.write("").display().to_string();
    let text = std::fs::read_to_string(&file).unwrap();
    let feed = text.split_once("[[feed]]\nid = \"").and_then(|(_, rest)| rest.split('"').next()).unwrap();
    for (line, words) in [
        (format!("check '{file}'"), "checked 2 feeds in "),
        (format!("poll '{file}' >/dev/null"), " events; scopes: 2 good, 0 failed"),
        (format!("poll '{file}' --state '{file}.db' >/dev/null"), " events; scopes: 2 good, 0 failed"),
        (format!("inspect -c '{file}'"), feed),
        (format!("record '{file}' --feed {feed} -o '{file}.json'"), "exchanges, which replay to"),
    ] {
        for variables in [COLOURED, PLAIN[0], PLAIN[1]] {
            let secrets = scene.secrets.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let variables: Vec<(&str, &str)> = variables.iter().copied().chain(secrets).collect();
            let Shown { status, screen } = shown(&format!("host-harness {line}"), &variables);
            assert!(status == Some(0) && screen.contains(words), "{line} {status:?}: {screen}");
            assert!(!screen.contains("panicked") && !screen.contains('\x1b'), "{line}: {screen:?}");
        }
    }
}
