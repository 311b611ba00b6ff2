//! Programs that tests run and that the machine may lack: Debian's packages, unpacked into the target folder without
//! root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// The programs, each with the Debian packages that contain it.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("tinyproxy", &["tinyproxy-bin"]),
    ("promtool", &["prometheus"]),
    ("jq", &["jq", "libjq1", "libonig5"]),
    (
        "syslog-ng",
        &["syslog-ng-core", "libivykis0", "libnet1", "libwrap0", "libpcre3", "libjson-c5", "libglib2.0-0", "libcap2"],
    ),
    ("rsyslogd", &["rsyslog", "libestr0", "libfastjson4"]),
    ("logrotate", &["logrotate", "libpopt0", "libacl1", "libselinux1"]),
    ("faketime", &["faketime", "libfaketime"]),
    (
        "postgres",
        &[
            "postgresql-15",
            "postgresql-client-15",
            "libpq5",
            "libicu72",
            "libxml2",
            "libldap-2.5-0",
            "libsasl2-2",
            "libgssapi-krb5-2",
            "libkrb5-3",
            "libkrb5support0",
            "libk5crypto3",
            "libkeyutils1",
        ],
    ),
];

/// The folder of Debian's PostgreSQL.
const POSTGRES: &str = "usr/lib/postgresql/15/bin";

/// Lets a command find Chromium, installed or unpacked with everything that it needs and this machine lacks.
pub fn with_chromium(workspace: &Path, command: &mut Command) -> Result<(), String> {
    let installed = env::var_os("PATH").unwrap_or_default();
    if let Some(file) = env::split_paths(&installed).map(|folder| folder.join("chromium")).find(|file| file.is_file()) {
        command.env("CHROMIUM", file);
        return Ok(());
    }
    let folder = workspace.join("target/chromium");
    let program = folder.join("usr/lib/chromium/chromium");
    // The script writes this file last: without it, the script did not end.
    let fonts = folder.join("fonts.conf");
    if !fonts.is_file() {
        eprintln!("cargo xtask unpacks Chromium of Debian into the target folder: 150 MB");
        let _ = fs::create_dir_all(&folder);
        // The machine's C library stays: a program finds it by an absolute path.
        let script = "set -e
            mkdir -p lists/partial cache/archives/partial
            options='-qq -o APT::Sandbox::User= -o Debug::NoLocking=1'
            apt=\"apt-get $options -o Dir::State::Lists=$PWD/lists -o Dir::Cache=$PWD/cache\"
            $apt update
            $apt install --download-only --no-install-recommends chromium fonts-dejavu-core
            for package in cache/archives/*.deb; do
                case $package in */libc6_*) ;; *) dpkg -x \"$package\" . ;; esac
                rm \"$package\"
            done
            test -x usr/lib/chromium/chromium
            printf '<fontconfig><dir>/usr/share/fonts</dir><dir>%s/usr/share/fonts</dir><cachedir>%s/fonts</cachedir></fontconfig>' \"$PWD\" \"$PWD\" >fonts.new
            mv fonts.new fonts.conf";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(&folder).stdout(Stdio::null());
        if !shell.status().is_ok_and(|status| status.success()) {
            return Err(
                "Debian's chromium is neither installed nor can it be unpacked: `apt-get install chromium`".to_owned()
            );
        }
    }
    let libraries =
        ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"];
    let libraries = env::join_paths(libraries.iter().map(|libraries| folder.join(libraries)));
    let libraries = libraries.map_err(|error| error.to_string())?;
    command.env("CHROMIUM", program).env("CHROMIUM_LIBRARIES", libraries).env("FONTCONFIG_FILE", fonts);
    Ok(())
}

/// Unpacks every program that is neither installed nor unpacked. If that fails, the test says what to do.
pub fn ensure(workspace: &Path) {
    PROGRAMS.iter().for_each(|(program, _)| ensure_one(workspace, program));
}

/// Unpacks one of the programs, if it is neither installed nor unpacked.
pub fn ensure_one(workspace: &Path, name: &str) {
    for (program, packages) in PROGRAMS.iter().filter(|(program, _)| *program == name) {
        unpack(&workspace.join("target").join(program), program, packages);
    }
}

/// Returns one of the programs, installed or unpacked.
pub fn program(workspace: &Path, name: &str) -> Option<PathBuf> {
    let (program, packages) = PROGRAMS.iter().find(|(program, _)| *program == name)?;
    let folder = workspace.join("target").join(program);
    unpack(&folder, program, packages);
    file(&folder, program)
}

/// Returns the file of a program that is installed or unpacked.
fn file(folder: &Path, program: &str) -> Option<PathBuf> {
    let installed = env::var_os("PATH").unwrap_or_default();
    // Debian's PostgreSQL is not in PATH, even where it is installed.
    let installed = env::split_paths(&installed).chain([Path::new("/").join(POSTGRES)]);
    let unpacked = ["usr/bin", "usr/sbin", POSTGRES].map(|part| folder.join(part));
    let folders = installed.chain(unpacked);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn unpack(folder: &Path, program: &str, packages: &[&str]) {
    if file(folder, program).is_some() {
        return;
    }
    eprintln!("cargo xtask unpacks {program} of Debian into the target folder");
    let _ = fs::create_dir_all(folder);
    // Uses its own lists of packages: those of the machine may be absent, and only root may refresh them.
    let script = "set -e
        mkdir -p lists/partial cache
        apt='apt-get -qq -o Dir::State::Lists=lists -o Dir::Cache=cache -o APT::Sandbox::User='
        apt-get -qq download \"$@\" || { $apt update && $apt download \"$@\"; }
        for package in *.deb; do dpkg -x \"$package\" .; rm \"$package\"; done";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).args(packages).current_dir(folder).stdout(Stdio::null());
    if !shell.status().is_ok_and(|status| status.success()) {
        eprintln!("warning: Debian's {program} is unavailable; tests that need it will say so");
    }
}
