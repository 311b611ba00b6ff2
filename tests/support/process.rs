//! The program as a process, in a folder with a configuration for a simulated service, and its log.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Once, mpsc};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use serde_json::Value;
use source_simulator::Simulator;
use source_simulator::estate::Estate;

/// Time after which an expected event counts as missing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a configuration for a simulated service.
pub struct Scene {
    pub simulator: Simulator,
    pub folder: tempfile::TempDir,
    /// The variables that the configuration names.
    pub secrets: Vec<(String, String)>,
}

impl Scene {
    /// A scene of two tenants with one subscription each.
    pub async fn new() -> Scene {
        Scene::of(Estate::sized(2, 1)).await
    }

    pub async fn of(estate: Estate) -> Scene {
        compiled();
        let simulator = Simulator::start(([127, 0, 0, 1], 0).into(), estate, None).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), simulator.ca_pem()).unwrap();
        let (_, secrets) = simulator.configuration("ca.pem");
        Scene { simulator, folder, secrets }
    }

    /// Returns the configuration of the simulated service, with `more` before it.
    pub fn text(&self, more: &str) -> String {
        format!("{more}\n{}", self.simulator.configuration("ca.pem").0)
    }

    pub fn write(&self, more: &str) -> PathBuf {
        let file = self.folder.path().join("collector.toml");
        fs::write(&file, self.text(more)).unwrap();
        file
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg");
        let mut command = super::command();
        command.current_dir(self.folder.path()).args(arguments);
        command.env("XDG_CACHE_HOME", cache).env_remove("RUST_LOG").envs(self.secrets.iter().cloned());
        command
    }

    /// Makes a pipe that the program reads as `/dev/stdin`, and the standard input with which the program starts: the
    /// program waits there until something is written to the pipe, each time anew. What is written must be longer than
    /// 64 KiB, which a pipe takes without a reader.
    pub fn piped_input(&self) -> (PathBuf, Stdio) {
        let pipe = self.folder.path().join("input");
        if !pipe.exists() {
            assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        }
        let end = rustix::fs::open(&pipe, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap();
        (pipe, end.into())
    }

    pub fn run(&self, arguments: &[&str]) -> Process {
        Process::start(self.command(&[&["run", "-c", "collector.toml"], arguments].concat()))
    }
}

/// Compiles the plugin once, before any test waits for a process: compiling may take long on a busy machine.
fn compiled() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xdg");
        let inspected = super::command().args(["inspect", "--json"]).env("XDG_CACHE_HOME", cache).output().unwrap();
        assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
    });
}

/// The collector and its output.
pub struct Process {
    pub child: Child,
    said: mpsc::Receiver<String>,
    pub heard: Vec<String>,
}

impl Process {
    pub fn start(mut command: Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, said) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Process { child, said, heard: Vec::new() }
    }

    /// Waits for a line with these words, and returns it.
    pub fn hears(&mut self, words: &str) -> String {
        let begun = Instant::now();
        loop {
            let Ok(line) = self.said.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) else {
                panic!("{words:?} was not said, but: {:#?}", self.heard);
            };
            self.heard.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    pub fn signal(&self, name: &str) {
        Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
    }

    pub fn end(&mut self) -> ExitStatus {
        self.ends_within(PATIENCE).expect("it ends")
    }

    /// Returns the status of the process if it ends within this time.
    pub fn ends_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        loop {
            let status = self.child.try_wait().unwrap();
            if status.is_some() || begun.elapsed() >= time {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns every line that the process has written so far.
    #[cfg(debug_assertions)]
    pub fn all_said(&mut self) -> String {
        self.heard.extend(self.said.try_iter());
        self.heard.join("\n")
    }

    /// Returns the address that the collector serves.
    pub fn address(&mut self) -> String {
        let line = self.hears("serving /metrics");
        line[line.find("http://").unwrap()..].split(['/', '"']).nth(2).map(|host| format!("http://{host}")).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a condition holds.
pub fn until(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "it does not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for this many lines of a file, and returns them; there must not be more.
pub fn lines(file: &Path, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        // A line that is being written does not count.
        if text.matches('\n').count() >= count && text.ends_with('\n') {
            return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {count} lines in {}", text.lines().count(), file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub async fn get(url: &str, token: Option<&str>) -> (u16, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(url);
    let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}
