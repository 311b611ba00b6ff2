//! The parts that tests share: one engine with one compiled plugin, and a folder with events for the judge.

pub mod allocations;
pub mod deliveries;
pub mod flaky;
pub mod fleet;
pub mod hostile;
pub mod postgres;
pub mod process;
pub mod receiver;
#[path = "../../xtask/bench/src/input.rs"]
pub mod reference;
pub mod stage;
pub mod test_connection;
pub mod tinyproxy;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use host_harness::admitted::{AdmittedFeed, FeedProfile, FeedVoice};
use host_harness::{built_in, environment};
use serde_json::{Map, Value, json};
use source_host::clock::Clock;
use source_host::credentials::settings::Settings;
use source_host::feed::{Feed, Identity};
use source_host::limits::{CompileLimits, LOG_BYTES_A_MINUTE, Limits};
use source_host::network::Nowhere;
use source_host::network::OutgoingRequest;
use source_host::network::egress::Origins;
use source_host::plugin::Plugin;
use source_host::plugin::compiler::Compiler;
use source_host::plugin::engine::Host;
use source_simulator::answer::Request;

/// Noon of a day in 2026, in Unix milliseconds.
pub const NOON: u64 = 1_790_000_000_000;

pub const SUBSCRIPTION: &str = "00000001-0000-4f6b-b1d0-000000000001";

/// Time after which an expected event counts as missing.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn host() -> Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    let make = || built_in::host(Some(cache()), compiler(patient())).unwrap();
    HOST.get_or_init(make).clone()
}

/// Limits for a compiler that was built without optimisation, on a machine that is busy with other tests.
fn patient() -> CompileLimits {
    CompileLimits {
        cpu_time: Duration::from_secs(300),
        wall_time: Duration::from_secs(900),
        ..CompileLimits::default()
    }
}

/// Returns the path of a program that is installed, or that `cargo xtask test` unpacked into the target folder.
pub fn program(name: &str, package: &str) -> PathBuf {
    let installed = environment::variable("PATH").unwrap_or_default();
    let unpacked = root().join("target").join(name).join("usr/bin");
    let found = std::env::split_paths(&installed).chain([unpacked]).map(|folder| folder.join(name));
    let found = found.into_iter().find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "{name} is missing: install the package `{package}` (Debian, Ubuntu), or run `cargo xtask test`, which \
             unpacks Debian's into target/{name}"
        )
    })
}

/// Returns a command for such a program, with the libraries that were unpacked beside it.
pub fn running(name: &str, package: &str) -> Command {
    let program = program(name, package);
    let libraries = root().join("target").join(name).join("usr/lib");
    let folders = std::fs::read_dir(libraries).into_iter().flatten().flatten().map(|folder| folder.path());
    let mut command = Command::new(&program);
    if program.starts_with(root()) {
        command.env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap());
    }
    command
}

/// The folder that keeps compiled plugins between runs of the tests.
pub fn cache() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// Makes a compiler of the built program, within these limits.
pub fn compiler(limits: CompileLimits) -> Compiler {
    Compiler::Program(env!("CARGO_BIN_EXE_host-harness").into(), limits)
}

pub fn plugin() -> Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| built_in::plugin(&host()).unwrap()).clone()
}

/// Pseudorandom numbers, the same in every run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// The clock of the machine.
pub fn now() -> Clock {
    source_host::clock::system()
}

pub fn noon() -> Clock {
    Arc::new(|| NOON)
}

/// Returns settings of the built-in plugin, with further ones.
pub fn settings(more: Value) -> Map<String, Value> {
    let mut settings = json!({
        "client_key": "00000001-a991-4c3f-8d27-000000000001",
        "client_secret": "a-secret-of-tests",
        "token_url": "00000001-7e4a-4b1d-9c55-000000000001",
        "subscription_id": SUBSCRIPTION,
    });
    for (key, value) in more.as_object().unwrap() {
        settings[key] = value.clone();
    }
    settings.as_object().unwrap().clone()
}

/// Opens a feed that cannot reach anything.
pub async fn feed(more: Value) -> Feed {
    let identity = Identity {
        tenant: "contoso".to_owned(),
        feed: "contoso-scores".to_owned(),
        limits: Limits::default(),
        allowed: Arc::default(),
        transport: Arc::new(Nowhere),
        tokens: Arc::default(),
        clock: noon(),
    };
    Feed::open(plugin(), Settings::new(settings(more), Default::default()), identity).await.unwrap()
}

/// Makes a feed of this tenant that is not admitted yet.
pub async fn unadmitted(tenant: &str, plugin: Plugin, settings: Settings, allowed: Origins) -> AdmittedFeed {
    let profile = FeedProfile {
        tenant: tenant.into(),
        interval: Duration::from_secs(60),
        sinks: Arc::default(),
        contact: None,
        origins: Arc::default(),
        in_clear: Box::default(),
        expiries: Box::default(),
        identity: settings.identity(&plugin.description().await.unwrap()),
        plugin,
        allowed: Arc::new(allowed),
        log_bytes: LOG_BYTES_A_MINUTE,
        clock: source_host::clock::system(),
    };
    AdmittedFeed {
        id: format!("{tenant}-items").into(),
        profile: Arc::new(profile),
        settings,
        plan: None,
        voice: FeedVoice::default(),
    }
}

/// Variables that lead a process through a proxy.
pub const PROXY_VARIABLES: &[&str] = &["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"];

/// Makes a command for the program, without the machine's own proxy.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-harness"));
    for variable in PROXY_VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// Keeps events for the judge, which runs after the tests.
pub fn leave_for_the_judge<'a>(name: &str, events: impl IntoIterator<Item = &'a [u8]>) {
    let folder = root().join("target/judge");
    std::fs::create_dir_all(&folder).unwrap();
    let lines: Vec<u8> = events.into_iter().flat_map(|event| event.iter().copied().chain([b'\n'])).collect();
    std::fs::write(folder.join(format!("{}.ndjson", name.replace('/', "-"))), lines).unwrap();
}

/// Converts a request to the simulated service's type, so that no sockets are needed.
pub fn asked(request: &OutgoingRequest) -> Request {
    Request::new(&request.method, &request.url, &request.headers, &request.body)
}

/// The CPU time of this thread, which other work of the machine does not affect.
pub fn time_on_processor() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}
