//! Builds the plugin, or takes one that is built, and leaves the component in `OUT_DIR`, where the library embeds it; and finds
//! out the commit and the plugin's digest, which the program tells of its own build.

#![expect(clippy::disallowed_methods, reason = "a build script takes its arguments from the environment")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use component_builder as component;
use sha2::{Digest, Sha256};

/// Names the commit where there is no git, for example in a build from an archive of the sources.
const COMMIT: &str = "HOST_HARNESS_COMMIT";

/// Names the file of a component that is built already, for where the plugin's sources or the target are missing.
const PLUGIN: &str = "HOST_HARNESS_PLUGIN";

fn main() {
    // Asked at run time: a script that cargo kept may have been compiled in another folder.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let workspace = package.join("..").canonicalize().unwrap_or_else(|_| package.clone());
    println!("cargo::rerun-if-env-changed={COMMIT}");
    println!("cargo::rustc-env={COMMIT}={}", commit(&workspace).unwrap_or_else(|| "unknown".to_owned()));
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    match plugin(&package, &workspace, &out) {
        Ok(bytes) => {
            println!("cargo::rustc-env=HOST_HARNESS_PLUGIN_SHA256={:x}", Sha256::digest(&bytes));
            if let Err(error) = fs::write(out.join(component::FILE), bytes) {
                println!("cargo::error=failed to write the component: {error}");
            }
        }
        Err(error) => println!("cargo::error={error}"),
    }
}

/// The component: the one that the environment names; built, where the sources are; else the one in the package.
fn plugin(package: &Path, workspace: &Path, out: &Path) -> Result<Vec<u8>, String> {
    println!("cargo::rerun-if-env-changed={PLUGIN}");
    let read = |file: &Path| {
        watch(file);
        fs::read(file).map_err(|error| format!("failed to read the component {}: {error}", file.display()))
    };
    let within = package.join(component::FILE);
    match env::var_os(PLUGIN).filter(|named| !named.is_empty()) {
        Some(named) => read(&workspace.join(named)),
        None if workspace.join("guest/Cargo.toml").exists() => {
            for watched in ["guest/src", "guest/Cargo.toml", "wit", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
                watch(&workspace.join(watched));
            }
            component::build(workspace, &scratch(out), component::PACKAGE)
        }
        None if within.exists() => read(&within),
        None => Err(format!(
            "found neither the plugin's sources beside this package nor {} in it, expected the file of a component in the \
             variable {PLUGIN} of the environment; `cargo xtask build` makes one from the sources",
            component::FILE
        )),
    }
}

/// Where cargo builds the plugin: one folder beside the profiles, which `cargo xtask build` uses, too. `OUT_DIR` has another
/// name for each profile and each set of features, and in each of them the guest's dependencies would be built anew.
fn scratch(out: &Path) -> PathBuf {
    // OUT_DIR is target/PROFILE/build/PACKAGE/out.
    match (out.ancestors().nth(2), out.ancestors().nth(4)) {
        (Some(build), Some(target)) if build.ends_with("build") => target.join("component"),
        _ => out.join("guest"),
    }
}

/// The commit of the sources: as the environment says, or as git knows it.
fn commit(workspace: &Path) -> Option<String> {
    let given = env::var(COMMIT).ok().filter(|given| !given.is_empty());
    if let Some(given) = given {
        let plain = |character: &char| character.is_ascii_alphanumeric() || "._+-".contains(*character);
        return Some(given.chars().filter(plain).collect());
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(workspace).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // Sources that lie within another repository are not of its commit.
    let top = fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()?;
    if top != workspace {
        return None;
    }
    // Each commit and each checkout is noted in the log of HEAD.
    for file in ["HEAD", "logs/HEAD"] {
        let file = workspace.join(git(&["rev-parse", "--git-path", file])?);
        if file.exists() {
            watch(&file);
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// A file that is missing counts as changed each time.
fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
