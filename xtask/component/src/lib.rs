//! Builds the plugin: links the guest for wasm32-unknown-unknown and makes a component of it. The build script of
//! `host-harness`, which embeds the component, and `cargo xtask build` share this crate.

#![expect(clippy::disallowed_methods, reason = "cargo tells build scripts of itself in the environment")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The target without any system interface, so that the component imports only what its own code names.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// File name of the component.
pub const FILE: &str = "azure-secure-score.wasm";

/// Package of the plugin.
pub const PACKAGE: &str = "azure-secure-score";

/// Builds the component of a package and returns its bytes. `scratch` is cargo's target folder; it must not be that of
/// a cargo that is running, whose lock would never be released.
pub fn build(workspace: &Path, scratch: &Path, package: &str) -> Result<Vec<u8>, String> {
    if !target_is_installed() {
        return Err(format!("the target {TARGET} is missing; add it with: rustup target add {TARGET}"));
    }
    encode(&link(workspace, scratch, package)?)
}

/// Makes a component of a module that was linked for [`TARGET`] against the contract.
pub fn encode(module: &[u8]) -> Result<Vec<u8>, String> {
    let encode = || wit_component::ComponentEncoder::default().validate(true).module(module)?.encode();
    encode().map_err(|error| format!("failed to make a component of the module: {error:#}"))
}

/// Says whether the standard library for the target is installed.
pub fn target_is_installed() -> bool {
    let folder = output(&rustc(), &["--print", "target-libdir", "--target", TARGET]);
    folder.is_some_and(|folder| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
}

fn link(workspace: &Path, scratch: &Path, package: &str) -> Result<Vec<u8>, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(workspace)
        .args(["rustc", "--locked", "--package", package, "--lib", "--crate-type", "cdylib"])
        .args(["--profile", "plugin", "--target", TARGET, "--target-dir"])
        .arg(scratch)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(workspace).join("\x1f"))
        .env("RUSTC", rustc())
        // Settings for the outer cargo must not affect this one: every build must give the same bytes.
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .map_err(|error| format!("failed to start cargo: {error}"))?;
    if !status.success() {
        return Err("failed to build the guest; cargo says why above".to_owned());
    }
    let file = scratch.join(TARGET).join(format!("plugin/{}.wasm", package.replace('-', "_")));
    fs::read(&file).map_err(|error| format!("failed to read {}: {error}", file.display()))
}

/// Compiler flags that make builds reproducible. Panic messages contain paths: the folders of the workspace, of cargo
/// and of the sysroot get names that are the same on every machine. With `rust-src` installed, the sysroot's own files
/// appear under their real path.
fn rustflags(workspace: &Path) -> Vec<String> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let sysroot = output(&rustc(), &["--print", "sysroot"]);
    let version = output(&rustc(), &["--version", "--verbose"]).unwrap_or_default();
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or("unknown");
    let mut names = vec![(workspace.to_path_buf(), "/workspace".to_owned())];
    names.extend(home.map(|home| (home, "/cargo".to_owned())));
    names.extend(sysroot.map(|sysroot| (Path::new(&sysroot).join("lib/rustlib/src/rust"), format!("/rustc/{commit}"))));
    names.into_iter().map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display())).collect()
}

fn rustc() -> PathBuf {
    env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from)
}

fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
