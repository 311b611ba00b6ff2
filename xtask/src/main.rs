//! `cargo xtask`: commands that install what they need.

#![expect(clippy::disallowed_methods, reason = "cargo hands commands of a workspace their folders in the environment")]

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use component_builder as component;

mod bench;
mod debian;
mod fuzz;
mod page;
mod scale;

const USAGE: &str = "\
cargo xtask demo          polls several simulated tenants and prints their findings
cargo xtask test          runs all tests
cargo xtask recordings [--check]
                          records tests/cassettes again from the simulated service and shows what differs; with --check
                          nothing is written, and a difference is an error
cargo xtask page [NAME]   tests the status page in Chromium, or the tests with NAME in their name
cargo xtask cluster [SECONDS] [--seed N] [--together] [--tenants N] [--subscriptions N] [--interval N] [--faults NAMES]
                    [--history FILE] [--mutations]
                          runs three collectors on a PostgreSQL with a standby, brings every kind of fault about at least
                          once and for so many seconds, and checks the history; with --mutations, takes safeguards out,
                          which the check must notice
cargo xtask screenshots   makes the pictures of the status page in docs
cargo xtask scale [FEEDS] measures the collector with so many feeds, 10000 by default: memory, CPU, lateness
cargo xtask bench [--native] [--only ROW]... [--pairs N] [--subscriptions N] [--scopes N] [--json]
                  [--write] [--from FILE]
                          measures plugin and collector beside native code, other languages, a bare client and
                          Microsoft's packages, and prints the table; with --write, the figures replace those of
                          docs/performance.md and its plot. `--only neighbours` is the next command,
                          `--only store` fills PostgreSQL and SQLite with many scopes, and `--only day` lives a day with
                          a million scopes, or with `--scopes N` (docs/scale.md)
cargo xtask neighbours [PAIRS [debug]]
                          measures a good tenant beside each mode of the hostile plugin, in 7 pairs of blocks by default
cargo xtask fuzz [WHICH [SECONDS]]
                          runs the fuzzers of `all`, `plugin` or `host`, or one by name, for 60 seconds each
cargo xtask build [FILE]  leaves the plugin for other hosts, by default at azure-secure-score.wasm in the target folder
cargo xtask component MODULE FILE
                          makes a component of the linked module of a plugin: docs/next-plugin.md
cargo xtask help          prints this page";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Usage) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Err(Stop::Told(status)) => ExitCode::from(status),
        Err(Stop::Error(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The reason why a command stopped.
enum Stop {
    /// There is no such command.
    Usage,
    /// The program that cargo started ended with this status, and explained it.
    Told(u8),
    /// Another error.
    Error(String),
}

impl From<String> for Stop {
    fn from(error: String) -> Stop {
        Stop::Error(error)
    }
}

fn command(arguments: &[&str]) -> Result<(), Stop> {
    match arguments {
        ["help" | "--help" | "-h"] => {
            eprintln!("{USAGE}");
            return Ok(());
        }
        ["component", module, file] => return Ok(encode(Path::new(module), Path::new(file))?),
        [
            "demo" | "test" | "recordings" | "scale" | "bench" | "neighbours" | "fuzz" | "build" | "page"
            | "screenshots" | "cluster",
            ..,
        ] => ensure_target()?,
        _ => return Err(Stop::Usage),
    }
    match arguments {
        ["demo", rest @ ..] => demo(rest),
        ["test", rest @ ..] => test(rest),
        ["recordings"] => recordings(false),
        ["recordings", "--check"] => recordings(true),
        ["page"] => page::test(None),
        ["page", name] => page::test(Some(name)),
        ["screenshots"] => page::screenshots(),
        ["cluster", rest @ ..] => cluster(rest),
        ["scale"] => Ok(scale::measure(10_000)?),
        ["scale", feeds] => match feeds.parse() {
            Ok(feeds) => Ok(scale::measure(feeds)?),
            Err(_) => Err(format!("found {feeds:?}, expected a number of feeds").into()),
        },
        ["bench", rest @ ..] => bench::bench(rest),
        ["neighbours"] => neighbours("7", "measure"),
        ["neighbours", pairs] => neighbours(pairs, "measure"),
        ["neighbours", pairs, "debug"] => neighbours(pairs, "debug"),
        ["fuzz"] => Ok(fuzz::fuzz("all", "60")?),
        ["fuzz", which] => Ok(fuzz::fuzz(which, "60")?),
        ["fuzz", which, seconds] => Ok(fuzz::fuzz(which, seconds)?),
        ["build"] => Ok(build(&target_folder().join(component::FILE))?),
        ["build", file] => Ok(build(Path::new(file))?),
        _ => Err(Stop::Usage),
    }
}

fn demo(arguments: &[&str]) -> Result<(), Stop> {
    announce("builds the plugin and host-harness, and runs `host-harness demo`", "debug");
    let fixed = ["run", "--locked", "--package", "host-harness", "--", "demo"];
    passed_on(&mut cargo_with(fixed.iter().chain(arguments)))
}

fn cluster(arguments: &[&str]) -> Result<(), Stop> {
    announce("builds host-harness, and runs three collectors on one database", "debug");
    passed_on(&mut cargo_with(["build", "--locked", "--package", "host-harness"].iter()))?;
    let (root, python) = (workspace(), target_folder().join("python"));
    ["postgres", "faketime"].iter().for_each(|program| debian::ensure_one(&root, program));
    if !python.join("bin/nats-server").exists() {
        let install = ["install", "--disable-pip-version-check", "-r", "tests/requirements.txt"];
        passed_on(Command::new("python3").args(["-m", "venv"]).arg(&python))?;
        passed_on(Command::new(python.join("bin/pip")).args(install).current_dir(&root))?;
    }
    let mut trial = Command::new(python.join("bin/python"));
    trial.arg(root.join("tests/cluster")).arg(target_folder().join("debug/host-harness"));
    let (seconds, options) = match arguments {
        [seconds, options @ ..] if seconds.parse::<u32>().is_ok() => (*seconds, options),
        options => ("0", options),
    };
    passed_on(trial.args(["--seconds", seconds]).args(options))
}

/// Announces cargo's work, and that it takes a while if nothing is built yet.
fn announce(what: &str, profile: &str) {
    let program = if profile == "measure" { "benchmark" } else { "host-harness" };
    let is_built = target_folder().join(profile).join(format!("{program}{}", env::consts::EXE_SUFFIX)).exists();
    let time = match profile {
        "measure" => ": a first build takes some twenty minutes, with --native two",
        _ => ": a first build takes some minutes",
    };
    eprintln!("cargo xtask {what}{}", if is_built { "" } else { time });
}

fn test(arguments: &[&str]) -> Result<(), Stop> {
    announce("builds everything with its tests, and runs them", "debug");
    debian::ensure(&workspace());
    passed_on(&mut cargo_with(["test", "--locked", "--workspace"].iter().chain(arguments)))
}

/// Records all recordings again, rewrites their page, and shows each difference.
fn recordings(checks: bool) -> Result<(), Stop> {
    announce("builds the tests, and records the simulated service", "debug");
    let mut command = cargo_with(["test", "--locked", "--workspace", "--test", "behaviour"].iter());
    command.args(["--", "recordings::", "--nocapture"]);
    if checks {
        command.env_remove("UPDATE_EXPECT");
    } else {
        command.env("UPDATE_EXPECT", "1");
    }
    passed_on(&mut command)
}

/// Prints a row for each mode: the longest wait of a good tenant for a poll, alone and beside the mode.
fn neighbours(pairs: &str, profile: &str) -> Result<(), Stop> {
    if pairs.parse::<usize>().is_err() {
        return Err(format!("found {pairs:?}, expected a number of pairs").into());
    }
    announce("builds the tests, and measures a good tenant beside each mode of the hostile plugin", profile);
    eprintln!("| beside | alone, ms | beside it, ms | median of the differences, ms | worst, ms | deadline missed |");
    eprintln!("|---|---|---|---|---|---|");
    let mut command = cargo_with(["test", "--locked", "--workspace", "--test", "behaviour"].iter());
    if profile != "debug" {
        command.args(["--profile", profile]);
    }
    command.args(["--", "--exact", "neighbours::a_good_tenant_beside_each_hostile_mode", "--nocapture"]);
    passed_on(command.env("NEIGHBOURS", pairs))
}

fn build(file: &Path) -> Result<(), String> {
    eprintln!("cargo xtask builds the plugin: a first build takes a minute");
    written(file, &component::build(&workspace(), &target_folder().join("component"), component::PACKAGE)?)
}

/// Makes a component of a module that somebody else linked.
fn encode(module: &Path, file: &Path) -> Result<(), String> {
    let linked = fs::read(module).map_err(|error| format!("failed to read {}: {error}", module.display()))?;
    written(file, &component::encode(&linked)?)
}

fn written(file: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(file, bytes).map_err(|error| format!("failed to write {}: {error}", file.display()))?;
    eprintln!("{} bytes: {}", bytes.len(), file.display());
    Ok(())
}

/// Adds the target if it is missing: on some machines, rustup does not add it by itself.
fn ensure_target() -> Result<(), String> {
    if component::target_is_installed() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.current_dir(workspace()).args(["target", "add", component::TARGET]);
    let added = rustup.status().is_ok_and(|status| status.success());
    if added && component::target_is_installed() {
        return Ok(());
    }
    Err(format!(
        "the target {0} is missing and `rustup target add {0}` did not help; without rustup, install your distribution's Rust library for {0}",
        component::TARGET
    ))
}

fn cargo(arguments: impl Iterator<Item = impl AsRef<OsStr>>) -> Result<(), String> {
    run(&mut cargo_with(arguments))
}

fn cargo_with(arguments: impl Iterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(cargo_program());
    command.current_dir(workspace()).args(arguments);
    // Cargo set these for this program. A build script that watches them would run again at every change between
    // `cargo xtask` and plain cargo, and with it every crate above (ring's does).
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

fn cargo_program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a command to its end.
fn run(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ended with {status}", command.get_program().display())),
        Err(error) => Err(format!("failed to start {}: {error}", command.get_program().display())),
    }
}

/// The same, with the status of the program that cargo started as the status of this program.
fn passed_on(command: &mut Command) -> Result<(), Stop> {
    let status = command.status().map_err(|error| format!("failed to start cargo: {error}"))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Stop::Told(u8::try_from(code).unwrap_or(1))),
        None => Err(format!("cargo ended with {status}").into()),
    }
}

fn workspace() -> PathBuf {
    // Read at run time: cargo may keep a program that was compiled in another folder.
    let own = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    own.parent().map(Path::to_path_buf).unwrap_or_default()
}

fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}
