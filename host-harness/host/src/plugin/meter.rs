//! What a call uses, and which limit it met.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

use super::bound::{Amount, Bound};
use crate::limits::Limits;

/// Time on a processor that is spent on one call, by the clock of whatever thread works at it. In nanoseconds.
#[derive(Default)]
pub(super) struct Spent {
    done: AtomicU64,
    begun: AtomicU64,
}

impl Spent {
    /// A thread begins to work at the call.
    pub fn begin(&self) {
        self.begun.store(thread_time(), Ordering::Relaxed);
    }

    /// It stops, at least for now.
    pub fn pause(&self) {
        self.done.store(self.so_far(), Ordering::Relaxed);
    }

    /// What was spent, to the last pause.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.done.load(Ordering::Relaxed))
    }

    /// What was spent, as the thread sees it that works at the call now.
    fn so_far(&self) -> u64 {
        let now = thread_time().saturating_sub(self.begun.load(Ordering::Relaxed));
        self.done.load(Ordering::Relaxed).saturating_add(now)
    }
}

fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
    u64::try_from(nanoseconds).unwrap_or_default()
}

/// Counts what a call uses, and remembers which limit it met.
pub(super) struct Meter {
    pub limits: Limits,
    pub memory_bytes: usize,
    spent: Arc<Spent>,
    pub exceeded: Option<(Bound, Amount)>,
}

impl Meter {
    pub fn new(limits: Limits, spent: Arc<Spent>) -> Meter {
        Meter { limits, memory_bytes: 0, spent, exceeded: None }
    }

    pub fn exceed(&mut self, limit: Bound, value: Amount) {
        self.exceeded.get_or_insert((limit, value));
    }

    /// Whether the time on a processor is over; asked while a thread works at the call.
    pub fn tick(&mut self) -> bool {
        let most = self.limits.cpu_time;
        let over = Duration::from_nanos(self.spent.so_far()) > most;
        if over {
            self.exceed(Bound::ProcessorTime, Amount::Time(most));
        }
        over
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes - current.min(self.memory_bytes) + desired;
        if total > self.limits.memory_bytes {
            self.exceed(Bound::Memory, Amount::bytes(self.limits.memory_bytes));
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let good = desired <= self.limits.table_elements;
        if !good {
            self.exceed(Bound::TableElements, Amount::count(self.limits.table_elements));
        }
        Ok(good)
    }
}
