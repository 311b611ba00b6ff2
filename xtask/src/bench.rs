//! `cargo xtask bench`: builds the benchmark and everything that its rows need, and runs it. A row whose peer is
//! unavailable is left out, and the reason is printed.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use component_builder as component;

use crate::{Stop, announce, build, cargo_with, debian, neighbours, passed_on, run, target_folder, workspace};

/// Builds and runs the benchmark in the profile `measure`; with `--native`, the native rows alone.
pub fn bench(arguments: &[&str]) -> Result<(), Stop> {
    match arguments {
        ["--only", "neighbours"] => return neighbours("7", "measure"),
        ["--only", "neighbours", "--pairs", pairs] => return neighbours(pairs, "measure"),
        ["--only", "store", options @ ..] => return store(options),
        _ => {}
    }
    announce("builds the benchmark in the profile `measure`, and measures", "measure");
    let (native, arguments): (Vec<&str>, Vec<&str>) = arguments.iter().partition(|argument| **argument == "--native");
    if !native.is_empty() {
        let fixed =
            ["run", "--locked", "--profile", "measure", "--package", "benchmark", "--no-default-features", "--"];
        let mut command = cargo_with(fixed.iter().chain(&arguments));
        return passed_on(command.args(["--built", how_built()]));
    }
    let plugin = target_folder().join(component::FILE);
    build(&plugin)?;
    let packages = ["build", "--locked", "--profile", "measure", "--package", "benchmark", "--package", "host-harness"];
    run(&mut cargo_with(packages.iter()))?;
    let built = target_folder().join("measure");
    let mut command = Command::new(built.join("benchmark"));
    command.arg("--plugin").arg(plugin).arg("--harness").arg(built.join("host-harness"));
    let asked_for = |row| is_asked_for(&arguments, row);
    let peers = [
        ("--vrl", asked_for("mapping-vrl").then(vrl).flatten()),
        ("--jq", asked_for("mapping-jq").then(|| debian::program(&workspace(), "jq")).flatten()),
        ("--python", (asked_for("mapping-python") || asked_for("sdk-")).then(microsoft).flatten()),
        ("--tenzir", asked_for("mapping-tenzir").then(tenzir).flatten()),
    ];
    for (option, file) in peers {
        if let Some(file) = file {
            command.arg(option).arg(file);
        }
    }
    passed_on(command.args(arguments).args(["--built", how_built()]))
}

/// Measures both stores with many scopes: the databases do the work, so that a program for tests is enough.
fn store(options: &[&str]) -> Result<(), Stop> {
    announce("builds host-harness, and fills databases with scopes", "debug");
    passed_on(&mut cargo_with(["build", "--locked", "--package", "host-harness"].iter()))?;
    debian::ensure_one(&workspace(), "postgres");
    let mut script = Command::new("python3");
    script.arg(workspace().join("xtask/bench/store.py")).arg(target_folder().join("debug/host-harness"));
    passed_on(script.args(options))
}

/// Says how the programs were linked, which users choose by a variable of cargo.
fn how_built() -> &'static str {
    match env::var("CARGO_PROFILE_MEASURE_LTO").as_deref() {
        Ok("off") => "without link-time optimization",
        Ok("thin") | Err(_) => "with thin link-time optimization",
        Ok(_) => "with link-time optimization of another kind",
    }
}

/// Says whether the arguments ask for a row, or for some of the rows whose names begin so.
fn is_asked_for(arguments: &[&str], row: &str) -> bool {
    let only: Vec<&str> = arguments.windows(2).filter(|pair| pair[0] == "--only").map(|pair| pair[1]).collect();
    only.is_empty() || only.iter().any(|only| row.starts_with(only) || only.starts_with(row))
}

/// Builds the program that runs VRL. It has a workspace of its own, since VRL brings three hundred crates along.
fn vrl() -> Option<PathBuf> {
    let folder = target_folder().join("vrl");
    let program = folder.join("release/vrl-peer");
    if !program.exists() {
        eprintln!("cargo xtask builds Vector's language VRL, once: this takes some ten minutes");
    }
    let manifest = workspace().join("xtask/bench/peers/vrl/Cargo.toml");
    let mut command = cargo_with(["build", "--release", "--locked", "--manifest-path"].iter());
    told("VRL", run(command.arg(manifest).arg("--target-dir").arg(folder)))?;
    Some(program)
}

/// Returns a Python with Microsoft's packages, in the versions that the tests use.
fn microsoft() -> Option<PathBuf> {
    python("Microsoft's packages for Python", "python", "tests/requirements.txt")
}

/// Returns Tenzir, in the version that the tests use.
fn tenzir() -> Option<PathBuf> {
    let python = python("Tenzir", "python-detect", "tests/requirements-detect.txt")?;
    Some(python.with_file_name("tenzir"))
}

/// Installs packages of Python into a folder of the target folder, and returns the Python there.
fn python(what: &str, folder: &str, requirements: &str) -> Option<PathBuf> {
    let folder = target_folder().join(folder);
    let program = folder.join("bin/python");
    let requirements = workspace().join(requirements);
    let installed = folder.join("installed.txt");
    let wanted = fs::read(&requirements).ok()?;
    if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Some(program);
    }
    eprintln!("cargo xtask installs {what} into {}", folder.display());
    told(what, run(Command::new("python3").args(["-m", "venv"]).arg(&folder)))?;
    let install = ["-m", "pip", "install", "--disable-pip-version-check", "--requirement"];
    // The standard output is for the figures.
    let mut command = Command::new(&program);
    told(what, run(command.args(install).arg(requirements).stdout(std::io::stderr())))?;
    fs::write(installed, wanted).ok()?;
    Some(program)
}

/// Prints the reason why a peer is unavailable.
fn told(peer: &str, result: Result<(), String>) -> Option<()> {
    result.map_err(|error| eprintln!("warning: {peer} is unavailable: {error}")).ok()
}
