//! The process's use of resources, under the names that all exporters of Prometheus use. Only Linux reports most of it.

use std::fs;
use std::str::FromStr;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The process's use of resources; `None` for each value that this system does not report.
#[derive(Debug, Clone, Default)]
pub struct ProcessUsage {
    /// CPU time of the program, and of the system on its behalf.
    pub cpu_seconds: Option<f64>,
    /// Number of open file descriptors.
    pub open_fds: Option<u64>,
    /// Largest number of open file descriptors.
    pub max_fds: Option<u64>,
    /// Bytes of address space.
    pub virtual_bytes: Option<u64>,
    /// Bytes of resident memory.
    pub resident_bytes: Option<u64>,
    /// Start of the process, in Unix seconds.
    pub started: Option<f64>,
}

impl ProcessUsage {
    /// Reads the present values.
    pub fn now() -> ProcessUsage {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let stat = stat.as_deref().and_then(Stat::read);
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let page = rustix::param::page_size() as u64;
        ProcessUsage {
            cpu_seconds: Some(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9),
            // The count includes the descriptor of the folder itself.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|folder| (folder.count() as u64).saturating_sub(1)),
            max_fds: getrlimit(Resource::Nofile).current,
            virtual_bytes: stat.as_ref().map(|stat| stat.virtual_bytes),
            resident_bytes: stat.as_ref().map(|stat| stat.resident_pages * page),
            started: stat.and_then(|stat| Some(booted()? + stat.started_ticks / ticks())),
        }
    }
}

/// Ticks of the kernel's clock in a second.
fn ticks() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// Start of the machine, in Unix seconds.
fn booted() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// Values of proc_pid_stat(5).
#[derive(Debug, PartialEq)]
struct Stat {
    started_ticks: f64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn read(text: &str) -> Option<Stat> {
        // The name may contain spaces and parentheses. The text after it begins with the third value.
        let (_, rest) = text.rsplit_once(')')?;
        let values: Vec<&str> = rest.split_whitespace().collect();
        fn value<T: FromStr>(values: &[&str], number: usize) -> Option<T> {
            values.get(number - 3)?.parse().ok()
        }
        Some(Stat {
            started_ticks: value(&values, 22)?,
            virtual_bytes: value(&values, 23)?,
            resident_pages: value(&values, 24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let text = "71 (a) (b c) S 1 71 71 0 -1 4194560 2083 0 3 0 17 5 0 0 20 0 3 0 8612345 227557376 3072 1844";
        let stat = Stat { started_ticks: 8_612_345.0, virtual_bytes: 227_557_376, resident_pages: 3_072 };
        assert_eq!(Stat::read(text), Some(stat));
        assert_eq!(Stat::read("71 (a) S 1"), None);
        assert_eq!(Stat::read(""), None);
    }

    #[test]
    fn this_process_is_told_of() {
        let now = ProcessUsage::now();
        assert!(now.cpu_seconds.is_some_and(|seconds| seconds > 0.0));
        if cfg!(target_os = "linux") {
            let unix = source_host::clock::system()() as f64 / 1e3;
            assert!(now.started.is_some_and(|started| (0.0..86_400.0).contains(&(unix - started))), "{now:?}");
            assert!(now.open_fds.is_some_and(|open| (3..10_000).contains(&open)), "{now:?}");
            assert!(now.resident_bytes < now.virtual_bytes && now.resident_bytes > Some(1 << 20), "{now:?}");
        }
    }
}
