//! The proxy that tests go through: Debian's tinyproxy, unpacked into the target folder, which needs no root.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

/// Unpacks tinyproxy where it is neither installed nor unpacked. A test says what to do where this did not help.
pub fn ensure(workspace: &Path) {
    let folder = workspace.join("target/tinyproxy");
    let installed = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&installed).chain([folder.join("usr/bin")]);
    if folders.map(|folder| folder.join("tinyproxy")).any(|file| file.is_file()) {
        return;
    }
    let _ = fs::create_dir_all(&folder);
    // Lists of packages of its own: those of the machine may be absent, and are another's to refresh.
    let script = "set -e
        mkdir -p lists/partial cache
        apt='apt-get -qq -o Dir::State::Lists=lists -o Dir::Cache=cache -o APT::Sandbox::User='
        apt-get -qq download tinyproxy-bin || { $apt update && $apt download tinyproxy-bin; }
        dpkg -x tinyproxy-bin_*.deb .";
    let unpacked = Command::new("sh").args(["-c", script]).current_dir(&folder).stdout(Stdio::null()).status();
    if !unpacked.is_ok_and(|status| status.success()) {
        eprintln!("warning: tinyproxy could not be had from Debian; tests that need it will say so");
    }
}
