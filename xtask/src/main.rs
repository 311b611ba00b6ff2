//! `cargo xtask`: the commands that set everything up by themselves.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

mod component;
mod debian;
mod fuzz;
mod scale;

const USAGE: &str = "\
cargo xtask demo          polls several simulated tenants and prints their findings
cargo xtask test          runs all tests
cargo xtask scale [FEEDS] measures the collector with so many feeds, 10000 by default: memory, CPU, lateness
cargo xtask fuzz [WHICH [SECONDS]]
                          runs the fuzzers of `all`, `plugin` or `host`, or one by name, for 60 seconds each
cargo xtask build [FILE]  leaves the plugin for other hosts, by default at azure-secure-score.wasm in the target folder";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["demo", rest @ ..] => ensure_target().and_then(|()| demo(rest)),
        ["test", rest @ ..] => ensure_target().and_then(|()| test(rest)),
        ["scale"] => ensure_target().and_then(|()| scale::measure(10_000)),
        ["scale", feeds] => match feeds.parse() {
            Ok(feeds) => ensure_target().and_then(|()| scale::measure(feeds)),
            Err(_) => Err(format!("found {feeds:?}, expected a number of feeds")),
        },
        ["fuzz"] => ensure_target().and_then(|()| fuzz::fuzz("all", "60")),
        ["fuzz", which] => ensure_target().and_then(|()| fuzz::fuzz(which, "60")),
        ["fuzz", which, seconds] => ensure_target().and_then(|()| fuzz::fuzz(which, seconds)),
        ["build"] => ensure_target().and_then(|()| build(&target_folder().join(component::FILE))),
        ["build", file] => ensure_target().and_then(|()| build(Path::new(file))),
        ["help" | "--help" | "-h"] => {
            eprintln!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &[&str]) -> Result<(), String> {
    let fixed = ["run", "--quiet", "--locked", "--package", "host-harness", "--", "demo"];
    cargo(fixed.iter().chain(arguments))
}

fn test(arguments: &[&str]) -> Result<(), String> {
    debian::ensure(&workspace());
    cargo(["test", "--locked", "--workspace"].iter().chain(arguments))
}

fn build(file: &Path) -> Result<(), String> {
    let bytes = component::build(&workspace(), &target_folder().join("component"), component::PACKAGE)?;
    fs::write(file, &bytes).map_err(|error| format!("failed to write {}: {error}", file.display()))?;
    eprintln!("{} bytes: {}", bytes.len(), file.display());
    Ok(())
}

/// Adds the target where it is missing: on some machines rustup does not by itself.
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
    run(Command::new(cargo_program()).current_dir(workspace()).args(arguments))
}

fn cargo_program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a command of cargo to its end.
fn run(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo ended with {status}")),
        Err(error) => Err(format!("failed to start cargo: {error}")),
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}
