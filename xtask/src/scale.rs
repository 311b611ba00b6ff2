//! Measures the collector with thousands of feeds against the simulated service: the lateness of polls, and the
//! resources of an idle collector. The program is built in the profile `measure`; the figures are those of the
//! collector's process only.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{announce, cargo, target_folder};

/// Subscriptions of one tenant, each with its own feed.
const FEEDS_OF_TENANT: usize = 20;

/// Resident memory of an idle collector, in MB of a million bytes.
const MOST_MB: f64 = 60.0;

/// CPU time of an idle collector, in percent of one core.
const MOST_CPU_PERCENT: f64 = 1.0;

/// Percentage of polls that must begin within [`LATE_SECONDS`] of their due time.
const LEAST_IN_TIME_PERCENT: f64 = 99.0;

/// Seconds for [`LEAST_IN_TIME_PERCENT`], which is a bound of the histogram.
const LATE_SECONDS: &str = "5";

/// Time until the collector is idle: connections are dropped a minute after their last use.
const REST: Duration = Duration::from_secs(90);

/// Time for which an idle collector is measured.
const WATCH: Duration = Duration::from_secs(60);

/// A process that ends with this program.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the measurement and prints it; the error names the figure that exceeds its bound.
pub fn measure(feeds: usize) -> Result<(), String> {
    announce("builds host-harness in the profile `measure`, and measures it", "measure");
    // Both packages, as for `cargo xtask bench`: cargo would build the dependencies of one alone with other features.
    let packages = ["build", "--locked", "--profile", "measure", "--package", "benchmark", "--package", "host-harness"];
    cargo(packages.iter())?;
    let program = target_folder().join("measure/host-harness");
    let folder = target_folder().join("scale");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(failed("make a folder"))?;
    let tenants = feeds.div_ceil(FEEDS_OF_TENANT);
    let mut service = Command::new(&program);
    service.args(["simulate", "--tenants", &tenants.to_string(), "--subscriptions", &FEEDS_OF_TENANT.to_string()]);
    let mut service =
        Process(service.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(failed("simulate"))?);
    let (text, variables) = described(&mut service, tenants)?;
    let interval = "[feed_defaults]\ninterval = \"1h\"\n";
    let sink = "[[sink]]\nid = \"lake\"\ntype = \"file\"\npath = \"events.ndjson\"\n";
    let config = format!("[collector]\nlisten = \"127.0.0.1:0\"\n{interval}{sink}{}", split(&text, feeds));
    fs::write(folder.join("collector.toml"), config).map_err(failed("write the configuration"))?;
    let (mut collector, address) = start(&program, &folder, &variables)?;
    eprintln!("{feeds} feeds of {tenants} tenants; the first poll of each takes {} s", feeds / 20);
    let metrics = polled(&mut collector, &address, feeds)?;
    eprintln!("\nwaits {} s, and watches it for {} s", REST.as_secs(), WATCH.as_secs());
    sleep(REST);
    let id = collector.0.id();
    let polls = || get(&address, "/metrics").map(|metrics| value(&metrics, "collector_lateness_seconds_count"));
    let (polls_before, cpu_before) = (polls()?, cpu_seconds(id)?);
    sleep(WATCH);
    let cpu = cpu_seconds(id)? - cpu_before;
    let (memory, anonymous) = (megabytes(id, "VmRSS")?, megabytes(id, "RssAnon")?);
    let polls = polls()? - polls_before;
    let (scraped, peak) = (megabytes(id, "VmRSS")?, megabytes(id, "VmHWM")?);
    let total = value(&metrics, "collector_lateness_seconds_count");
    let bucket = format!("collector_lateness_seconds_bucket{{le=\"{LATE_SECONDS}\"}}");
    let in_time = value(&metrics, &bucket) / total * 100.0;
    let cpu_percent = cpu / WATCH.as_secs_f64() * 100.0;
    let busy = metrics.lines().filter(|line| line.starts_with("collector_guest_cpu_seconds_total{"));
    let busy: f64 = busy.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    let rows = [
        ("feeds", feeds.to_string()),
        (
            "polls that began in time",
            format!("{in_time:.2} % of {total} within {LATE_SECONDS} s (at least {LEAST_IN_TIME_PERCENT} %)"),
        ),
        ("calls of the plugin, a poll", format!("{:.2} ms", busy / total * 1_000.0)),
        ("resident memory, waiting", format!("{memory:.1} MB (at most {MOST_MB} MB; peak {peak:.1} MB)")),
        ("of which backed by no file", format!("{anonymous:.1} MB")),
        ("just after /metrics is read", format!("{scraped:.1} MB")),
        ("CPU, waiting", format!("{cpu_percent:.2} % of a core (at most {MOST_CPU_PERCENT} %; {polls} polls in it)")),
    ];
    let table: String = rows.iter().map(|(name, figure)| format!("{name:<28}{figure}\n")).collect();
    std::io::stdout().write_all(table.as_bytes()).map_err(failed("print the figures"))?;
    if in_time < LEAST_IN_TIME_PERCENT || memory > MOST_MB || cpu_percent > MOST_CPU_PERCENT {
        return Err("a figure is beyond its bound".to_owned());
    }
    Ok(())
}

/// Waits until each feed was polled, and returns the metrics at that moment.
fn polled(collector: &mut Process, address: &str, feeds: usize) -> Result<String, String> {
    let begun = Instant::now();
    loop {
        sleep(Duration::from_secs(5));
        if let Ok(Some(status)) = collector.0.try_wait() {
            return Err(format!("the collector ended with {status}"));
        }
        let metrics = get(address, "/metrics")?;
        let polls = value(&metrics, "collector_lateness_seconds_count");
        eprint!("\r{polls} polls began after {} s ", begun.elapsed().as_secs());
        if polls >= feeds as f64 {
            return Ok(metrics);
        }
    }
}

fn failed<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("failed to {what}: {error}")
}

/// Returns the configuration that the simulated service prints, and the variables of its secrets.
fn described(service: &mut Process, tenants: usize) -> Result<(String, Vec<(String, String)>), String> {
    let lines = BufReader::new(service.0.stdout.take().ok_or("the service has no output")?).lines();
    let (mut text, mut variables) = (String::new(), Vec::new());
    for line in lines {
        let line = line.map_err(failed("read what the service prints"))?;
        match line.strip_prefix("# export ").and_then(|export| export.split_once('=')) {
            Some((name, value)) => variables.push((name.to_owned(), value.to_owned())),
            None => text += &format!("{line}\n"),
        }
        if variables.len() == tenants {
            return Ok((text, variables));
        }
    }
    Err("the service ended early".to_owned())
}

/// The same configuration with a feed for each subscription.
fn split(text: &str, feeds: usize) -> String {
    let mut parts = text.split("[[feed]]");
    let head = parts.next().unwrap_or_default().to_owned();
    let split = parts.flat_map(|part| {
        let (before, rest) = part.split_once("subscription_id = [").unwrap_or((part, ""));
        let (subscriptions, after) = rest.split_once("]\n").unwrap_or_default();
        let (before, after) = (before.to_owned(), after.to_owned());
        subscriptions.split(", ").enumerate().map(move |(number, subscription)| {
            let before = before.replacen("-scores\"", &format!("-{number}\""), 1);
            format!("[[feed]]{before}subscription_id = {subscription}\n{after}")
        })
    });
    std::iter::once(head).chain(split.take(feeds)).collect()
}

/// Starts the collector, and returns the address of its metrics.
fn start(program: &Path, folder: &PathBuf, variables: &[(String, String)]) -> Result<(Process, String), String> {
    let mut command = Command::new(program);
    command.args(["run", "-c", "collector.toml"]).current_dir(folder).envs(variables.iter().cloned());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut collector = Process(command.spawn().map_err(failed("start the collector"))?);
    let mut said = BufReader::new(collector.0.stderr.take().ok_or("the collector says nothing")?);
    let mut address = String::new();
    loop {
        let line = line(&mut said)?;
        if let Some(at) = line.find("http://") {
            address = line[at + "http://".len()..].split('/').next().unwrap_or_default().to_owned();
        }
        if line.contains("collecting ") {
            // All other output is shown.
            std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::stderr()));
            return Ok((collector, address));
        }
    }
}

fn line(said: &mut BufReader<ChildStderr>) -> Result<String, String> {
    let mut line = String::new();
    match said.read_line(&mut line) {
        Ok(0) => Err("the collector ended early".to_owned()),
        Ok(_) => Ok(line),
        Err(error) => Err(failed("read what the collector says")(error)),
    }
}

fn get(address: &str, path: &str) -> Result<String, String> {
    let read = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(failed("read the metrics"))
}

/// Returns the value of a series, 0 if it is missing.
fn value(metrics: &str, series: &str) -> f64 {
    let value = |line: &str| line.strip_prefix(series)?.trim().parse().ok();
    metrics.lines().find_map(value).unwrap_or_default()
}

fn megabytes(process: u32, key: &str) -> Result<f64, String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).map_err(failed("read the memory"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib: Option<f64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.map(|kib| kib * 1.024 / 1_000.0).ok_or_else(|| format!("the system does not tell {key}"))
}

fn cpu_seconds(process: u32) -> Result<f64, String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).map_err(failed("read the CPU time"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    // User and system time, in hundredths of a second.
    let (user, system) = ticks(11).zip(ticks(12)).ok_or("the system does not tell the CPU time")?;
    Ok((user + system) / 100.0)
}
