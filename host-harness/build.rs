//! Builds the plugin and leaves the component in `OUT_DIR`, where the library embeds it.

use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "../xtask/src/component.rs"]
mod component;

fn main() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let workspace = workspace.canonicalize().unwrap_or(workspace);
    for watched in [
        "guest/src",
        "guest/Cargo.toml",
        "wit",
        "xtask/src/component.rs",
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    match component::build(&workspace, &out.join("guest"), component::PACKAGE) {
        Ok(bytes) => {
            if let Err(error) = fs::write(out.join(component::FILE), bytes) {
                println!("cargo::error=failed to write the component: {error}");
            }
        }
        Err(error) => println!("cargo::error={error}"),
    }
}
