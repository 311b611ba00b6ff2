//! Fuzzing: runs the fuzzers of `fuzz/` one after the other, each for some seconds, with cargo-fuzz on the pinned
//! compiler. New inputs stay in the target folder; people copy valuable ones into `fuzz/corpus`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::{cargo_program, run, target_folder, workspace};

/// The version that is installed if the machine has none.
const CARGO_FUZZ: &str = "0.13.2";

/// Fuzzers with their dictionaries; those of the plugin build within a minute.
const PLUGIN: &[(&str, &str)] = &[
    ("errors", "json"),
    ("documents", "json"),
    ("pages", "json"),
    ("polls", "json"),
    ("state", "json"),
    ("days", "json"),
];

/// Fuzzers of the host, which depend on wasmtime.
const HOST: &[(&str, &str)] = &[
    ("requests", "requests"),
    ("shapes", "settings"),
    ("configs", "config"),
    ("cassettes", "cassette"),
    ("secrets", "secrets"),
    ("seals", "tokens"),
    ("events", "json"),
    ("logs", "secrets"),
    ("plans", "plans"),
];

/// Runs one fuzzer by name, those of `plugin` or of `host`, or `all`.
pub fn fuzz(chosen: &str, seconds: &str) -> Result<(), String> {
    let seconds: u32 = seconds.parse().map_err(|_| format!("found {seconds:?}, expected a number of seconds"))?;
    let groups = [(PLUGIN, "plugin"), (HOST, "host")].into_iter();
    let all: Vec<_> = groups
        .flat_map(|(fuzzers, group)| fuzzers.iter().map(move |(name, dictionary)| (*name, *dictionary, group)))
        .collect();
    let fuzzers: Vec<_> = all.iter().filter(|(name, _, group)| [*name, *group, "all"].contains(&chosen)).collect();
    if fuzzers.is_empty() {
        let names: Vec<_> = all.iter().map(|(name, ..)| *name).collect();
        return Err(format!("found {chosen:?}, expected all, plugin, host or one of: {}", names.join(", ")));
    }
    let tools = cargo_fuzz()?;
    for (name, dictionary, group) in fuzzers {
        let found = target_folder().join("fuzz").join(name);
        fs::create_dir_all(&found).map_err(|error| format!("failed to make {}: {error}", found.display()))?;
        let folder = workspace().join("fuzz");
        let mut command = Command::new(cargo_program());
        command.current_dir(workspace()).env("PATH", &tools);
        // No sanitizer: sanitizers need an unstable compiler, and there is no unsafe code.
        command.args(["fuzz", "run", "--sanitizer", "none"]);
        if *group == "host" {
            command.args(["--features", "host"]);
        }
        command.arg(name).arg(&found).arg(folder.join("corpus").join(name)).arg("--");
        command.arg(format!("-dict={}", folder.join(format!("dictionaries/{dictionary}.dict")).display()));
        command.args([format!("-max_total_time={seconds}").as_str(), "-timeout=25", "-print_final_stats=1"]);
        eprintln!("{name}: {seconds} s");
        run(&mut command)?;
    }
    Ok(())
}

/// Returns a search path with cargo-fuzz on it, which is installed into the target folder if the machine lacks it.
fn cargo_fuzz() -> Result<OsString, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = target_folder().join("tools");
    let folders: Vec<PathBuf> = env::split_paths(&path).chain([tools.join("bin")]).collect();
    if !folders.iter().any(|folder| has_cargo_fuzz(folder)) {
        let mut install = Command::new(cargo_program());
        eprintln!("cargo xtask installs cargo-fuzz {CARGO_FUZZ} into the target folder, which takes half a minute");
        install.args(["install", "--debug", "--locked", "--version", CARGO_FUZZ, "--root"]).arg(&tools);
        run(install.arg("cargo-fuzz"))?;
    }
    env::join_paths(folders).map_err(|error| error.to_string())
}

fn has_cargo_fuzz(folder: &Path) -> bool {
    folder.join(format!("cargo-fuzz{}", env::consts::EXE_SUFFIX)).is_file()
}
