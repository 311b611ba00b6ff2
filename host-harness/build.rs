//! Builds the plugin, or takes a component that is built already, and leaves it in `OUT_DIR`, where the library embeds
//! it, beside a list of the recordings. The script also finds the commit and the plugin's digest, which the program shows
//! with its version.

#![expect(clippy::disallowed_methods, reason = "a build script takes its arguments from the environment")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use component_builder as component;
use sha2::{Digest, Sha256};

/// Variable with the commit of a build without git, for example from an archive of the sources.
const COMMIT: &str = "HOST_HARNESS_COMMIT";

/// A component that the program carries.
struct Carried {
    /// File name, in `OUT_DIR` and in a package.
    file: &'static str,
    /// Package and folder of its sources.
    sources: [&'static str; 2],
    /// Variable with the file of a component that is built already, for machines without the sources or the target.
    variable: &'static str,
}

const PLUGIN: Carried =
    Carried { file: component::FILE, sources: [component::PACKAGE, "guest"], variable: "HOST_HARNESS_PLUGIN" };

/// The plugin of `conformance --host`.
const PROBE: Carried = Carried {
    file: "conformance-probe.wasm",
    sources: ["conformance-probe", "host-harness/probe"],
    variable: "HOST_HARNESS_PROBE",
};

fn main() {
    // Read at run time: cargo may keep a script that was compiled in another folder.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let workspace = package.join("..").canonicalize().unwrap_or_else(|_| package.clone());
    println!("cargo::rerun-if-env-changed={COMMIT}");
    println!("cargo::rustc-env={COMMIT}={}", commit(&workspace).unwrap_or_else(|| "unknown".to_owned()));
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let listed = recordings(&package.join("recordings")).and_then(|list| {
        fs::write(out.join("recordings.rs"), list)
            .map_err(|error| format!("failed to write the list of recordings: {error}"))
    });
    if let Err(error) = listed {
        println!("cargo::error={error}");
    }
    for carried in [PLUGIN, PROBE] {
        let left = carried.component(&package, &workspace, &out).and_then(|bytes| {
            if carried.file == PLUGIN.file {
                println!("cargo::rustc-env=HOST_HARNESS_PLUGIN_SHA256={:x}", Sha256::digest(&bytes));
            }
            fs::write(out.join(carried.file), bytes).map_err(|error| format!("failed to write the component: {error}"))
        });
        if let Err(error) = left {
            println!("cargo::error={error}");
        }
    }
}

impl Carried {
    /// Returns the component: the file that the environment names, else a build of the sources, else the file in the
    /// package.
    fn component(&self, package: &Path, workspace: &Path, out: &Path) -> Result<Vec<u8>, String> {
        let Carried { file, sources: [sources, folder], variable } = *self;
        println!("cargo::rerun-if-env-changed={variable}");
        let read = |file: &Path| {
            watch(file);
            fs::read(file).map_err(|error| format!("failed to read the component {}: {error}", file.display()))
        };
        let within = package.join(file);
        match env::var_os(variable).filter(|named| !named.is_empty()) {
            Some(named) => read(&workspace.join(named)),
            None if workspace.join(folder).join("Cargo.toml").exists() => {
                let own = ["src", "Cargo.toml"].map(|watched| format!("{folder}/{watched}"));
                let own = own.iter().map(String::as_str);
                for watched in own.chain(["wit", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"]) {
                    watch(&workspace.join(watched));
                }
                component::build(workspace, &scratch(out), sources)
            }
            None if within.exists() => read(&within),
            None => Err(format!(
                "found neither the sources of {sources} beside this package nor {file} in it, expected the file of a \
                 component in the variable {variable} of the environment; `cargo xtask build` makes one of the plugin from \
                 the sources, and `host-harness conformance --probe FILE` writes the other"
            )),
        }
    }
}

/// Lists the recordings of a folder, each with the document beside it, as an array of Rust.
fn recordings(folder: &Path) -> Result<String, String> {
    const ENDING: &str = ".json";
    const EXPECTED: &str = ".expected.json";
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let unread = |error| format!("failed to read the folder of recordings {}: {error}", folder.display());
    // A folder is watched with all that is in it.
    watch(&folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(unread)? {
        let file = entry.map_err(unread)?.file_name().to_string_lossy().into_owned();
        names.extend(file.strip_suffix(ENDING).filter(|_| !file.ends_with(EXPECTED)).map(str::to_owned));
    }
    names.sort();
    let mut list = "&[".to_owned();
    for name in names {
        let [cassette, expected] = [ENDING, EXPECTED].map(|ending| folder.join(format!("{name}{ending}")));
        if !expected.exists() {
            println!(
                "cargo::warning=found {} without {} beside it; the program carries the recording once `host-harness replay \
                 --update` has written that document",
                cassette.display(),
                expected.display()
            );
            continue;
        }
        list += &format!(
            "BundledRecording {{ name: {name:?}, cassette: include_str!({cassette:?}), expected: include_str!({expected:?}) }},"
        );
    }
    Ok(list + "]")
}

/// The folder in which cargo builds the plugin, beside the profiles; `cargo xtask build` uses it too. `OUT_DIR` has
/// another name for each profile and each set of features, so that the guest's dependencies would be built anew in each
/// of them.
fn scratch(out: &Path) -> PathBuf {
    // OUT_DIR is target/PROFILE/build/PACKAGE/out.
    match (out.ancestors().nth(2), out.ancestors().nth(4)) {
        (Some(build), Some(target)) if build.ends_with("build") => target.join("component"),
        _ => out.join("guest"),
    }
}

/// The commit of the sources, from the environment or from git.
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
    // A commit of an outer repository does not describe sources that merely lie within it.
    let top = fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()?;
    if top != workspace {
        return None;
    }
    // Git writes each commit and each checkout to the log of HEAD.
    for file in ["HEAD", "logs/HEAD"] {
        let file = workspace.join(git(&["rev-parse", "--git-path", file])?);
        if file.exists() {
            watch(&file);
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// Asks cargo to run the script again when the file changes. Cargo takes a missing file for changed each time.
fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
