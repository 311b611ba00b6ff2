//! A process that the benchmark starts: its processor time and its memory, as the system counts them.

use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A process that ends with this program's interest in it.
pub struct Process(pub Child);

/// The use of resources by a process that ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The processor time of all its threads, and of the children that it waited for.
    pub processor: Duration,
    /// The largest resident memory that was seen, in bytes. The memory is looked at every few milliseconds.
    pub peak_bytes: f64,
}

/// The time between two looks at the memory.
const LOOK: Duration = Duration::from_millis(2);

impl Process {
    /// Starts a process.
    pub fn start(command: &mut Command) -> Result<Process, String> {
        let started = command.spawn();
        started.map(Process).map_err(|error| format!("failed to start {}: {error}", command.get_program().display()))
    }

    /// Waits for the end of the process, which must be a success.
    pub fn ended(mut self) -> Result<Ended, String> {
        let mut peak_bytes = 0.0;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(self.pid()?), options).map_err(|error| error.to_string())?.is_none() {
            peak_bytes = self.peak_bytes().unwrap_or(peak_bytes);
            sleep(LOOK);
        }
        // The process has ended, and its figures stay until it is waited for.
        let processor = self.processor()?;
        let status = self.0.wait().map_err(|error| error.to_string())?;
        if status.success() {
            Ok(Ended { processor, peak_bytes })
        } else {
            Err(format!("a process ended with {status}"))
        }
    }

    /// Asks the process to end.
    pub fn stop(&self) -> Result<(), String> {
        kill_process(self.pid()?, Signal::TERM).map_err(|error| format!("failed to stop a process: {error}"))
    }

    /// Returns the processor time so far.
    pub fn processor(&self) -> Result<Duration, String> {
        let text = self.proc("stat")?;
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // User and system time of the process, and of the children that it waited for.
        let ticks = (11..15).map(|index| fields.get(index).and_then(|text| text.parse::<u64>().ok()));
        let ticks: u64 = ticks.sum::<Option<u64>>().ok_or_else(|| format!("found {text:?}, expected times"))?;
        Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100))
    }

    /// Returns the largest resident memory so far; `None` once the process has ended.
    pub fn peak_bytes(&self) -> Option<f64> {
        bytes(&self.proc("status").ok()?, "VmHWM:")
    }

    /// Returns the resident memory.
    pub fn resident_bytes(&self) -> Result<f64, String> {
        bytes(&self.proc("status")?, "VmRSS:").ok_or_else(|| "the system does not tell the resident memory".to_owned())
    }

    fn proc(&self, name: &str) -> Result<String, String> {
        let file = format!("/proc/{}/{name}", self.0.id());
        std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))
    }

    fn pid(&self) -> Result<Pid, String> {
        Pid::from_raw(self.0.id().cast_signed()).ok_or_else(|| "a process has the number 0".to_owned())
    }
}

/// Returns the resident memory of this process.
#[cfg(feature = "sandbox")]
pub fn own_resident_bytes() -> Result<f64, String> {
    own_bytes("VmRSS:")
}

/// Returns the largest resident memory of this process so far.
#[cfg(feature = "sandbox")]
pub fn own_peak_bytes() -> Result<f64, String> {
    own_bytes("VmHWM:")
}

#[cfg(feature = "sandbox")]
fn own_bytes(key: &str) -> Result<f64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    bytes(&status, key).ok_or_else(|| "the system does not tell the resident memory".to_owned())
}

fn bytes(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kib| kib * 1024.0)
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
