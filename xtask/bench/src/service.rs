//! The simulated service in a process of its own, and `host-harness` as its client.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Ended, Process};

/// The simulated service, and a folder with a configuration for it.
pub struct Service {
    harness: PathBuf,
    _process: Process,
    /// The facts that a client needs, as `simulate --json` prints them.
    pub about: Value,
    folder: TempDir,
}

impl Service {
    /// Starts the service with so many tenants, each with so many subscriptions.
    pub fn start(harness: &Path, tenants: usize, subscriptions: usize) -> Result<Service, String> {
        let mut command = Command::new(harness);
        command.args(["simulate", "--json", "--tenants", &tenants.to_string()]);
        command.args(["--subscriptions", &subscriptions.to_string()]).stdout(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let stdout = process.0.stdout.take().ok_or("the simulated service has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(|error| error.to_string())?;
        let about = serde_json::from_str(&line).map_err(|error| format!("the simulated service: {error}"))?;
        let folder = tempfile::tempdir().map_err(|error| format!("failed to make a temporary folder: {error}"))?;
        Ok(Service { harness: harness.to_owned(), _process: process, about, folder })
    }

    /// Writes the configuration: a feed for each tenant, polled every so many seconds.
    pub fn configure(&self, interval_seconds: u32, polls: usize) -> Result<(), String> {
        let url = &self.about["url"];
        let mut text = format!(
            "[collector]\nstate = \"collector.db\"\nlisten = \"127.0.0.1:0\"\nmax_polls = {polls}\n\
             max_polls_per_tenant = {polls}\n\n[network]\nca_file = {}\nallow = [{url}]\n\
             allow_addresses = [\"127.0.0.0/8\"]\n\n[[sink]]\nid = \"file\"\ntype = \"file\"\n\
             path = \"events.ndjson\"\n\n[feed_defaults]\ninterval = \"{interval_seconds}s\"\n",
            self.about["ca_file"]
        );
        for (number, tenant) in self.tenants().iter().enumerate() {
            text += &format!(
                "\n[[feed]]\nid = \"feed-{number}\"\ntenant = \"tenant-{number}\"\n[feed.settings]\n\
                 client_key = {}\nclient_secret = {{ env = \"SECRET_{number}\" }}\ntoken_url = {}\n\
                 subscription_id = {}\nauthority = {url}\nendpoint = {url}\naudience = {}\n",
                tenant["client_id"], tenant["tenant_id"], tenant["subscriptions"], self.about["audience"]
            );
        }
        fs::write(self.file("collector.toml"), text).map_err(|error| format!("the configuration: {error}"))
    }

    /// Returns a command of `host-harness` with the configuration; its compiled plugin stays in the folder.
    pub fn command(&self, name: &str) -> Result<Command, String> {
        let log = File::create(self.file("log")).map_err(|error| format!("failed to make a file: {error}"))?;
        let mut command = Command::new(&self.harness);
        command.args([name, "-c", "collector.toml", "--cache", "cache"]).current_dir(self.folder.path());
        let tenants = self.tenants().iter().enumerate();
        let secret = |tenant: &Value| tenant["client_secret"].as_str().unwrap_or_default().to_owned();
        command.envs(tenants.map(|(number, tenant)| (format!("SECRET_{number}"), secret(tenant))));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// Runs a command to its end; the error has the end of its log.
    pub fn ended(&self, command: &mut Command) -> Result<Ended, String> {
        Process::start(command)?.ended().map_err(|error| self.explained(&error))
    }

    /// Returns an error with the end of the log.
    pub fn explained(&self, error: &str) -> String {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        format!("{error}; its last lines:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// Returns a file of the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tenants(&self) -> &[Value] {
        self.about["tenants"].as_array().map_or(&[], Vec::as_slice)
    }
}

/// A collector that runs.
pub struct Collector<'a> {
    service: &'a Service,
    process: Process,
    address: String,
}

/// The time until a collector serves its metrics.
const START: Duration = Duration::from_secs(60);

impl<'a> Collector<'a> {
    /// Starts `run`, and waits until it serves its metrics.
    pub fn start(service: &'a Service) -> Result<Collector<'a>, String> {
        let process = Process::start(&mut service.command("run")?)?;
        let begun = Instant::now();
        while begun.elapsed() < START {
            let log = fs::read_to_string(service.file("log")).unwrap_or_default();
            let address = log.split("http://").nth(1).and_then(|rest| rest.split_once('/'));
            if let Some((address, _)) = address.filter(|_| log.contains("collecting ")) {
                return Ok(Collector { service, process, address: address.to_owned() });
            }
            sleep(Duration::from_millis(5));
        }
        Err(service.explained("the collector does not start"))
    }

    /// Returns the number of polls that ended.
    pub fn polls(&self) -> Result<f64, String> {
        let read = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(&self.address)?;
            // An answer to HTTP/1.0 comes in no chunks.
            write!(stream, "GET /metrics HTTP/1.0\r\nhost: {}\r\n\r\n", self.address)?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|error| self.service.explained(&format!("failed to read the metrics: {error}")))?;
        let polls = text.lines().filter(|line| line.starts_with("collector_polls_total{"));
        let number = |line: &str| {
            let number = line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok());
            number.ok_or_else(|| format!("the metrics have the line {line:?}, expected a number at its end"))
        };
        polls.map(number).sum()
    }

    /// Returns the processor time so far.
    pub fn processor(&self) -> Result<Duration, String> {
        self.process.processor()
    }

    /// Returns the resident memory.
    pub fn resident_bytes(&self) -> Result<f64, String> {
        self.process.resident_bytes()
    }

    /// Ends the collector.
    pub fn ended(self) -> Result<Ended, String> {
        self.process.stop()?;
        self.process.ended().map_err(|error| self.service.explained(&error))
    }
}
