//! The resources that a call uses, and the limit that it exceeded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

use super::bound::{Bound, LimitAmount};
use crate::credentials::redact;
use crate::limits::Limits;

/// CPU time of one call, by the clock of the thread that works at it, in nanoseconds.
#[derive(Default)]
pub(super) struct Spent {
    done: AtomicU64,
    begun: AtomicU64,
}

impl Spent {
    /// Marks that a thread begins to work at the call.
    pub fn begin(&self) {
        self.begun.store(thread_time(), Ordering::Relaxed);
    }

    /// Marks that the thread pauses its work.
    pub fn pause(&self) {
        self.add(thread_time().saturating_sub(self.begun.load(Ordering::Relaxed)));
    }

    fn add(&self, nanoseconds: u64) {
        self.done.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// The time up to the last pause.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.done.load(Ordering::Relaxed))
    }

    /// The time up to now, for the thread that works at the call.
    fn so_far(&self) -> u64 {
        let now = thread_time().saturating_sub(self.begun.load(Ordering::Relaxed));
        self.done.load(Ordering::Relaxed).saturating_add(now)
    }
}

/// Runs host work on a plugin's or a service's bytes, which may be such that the work takes long: beside the runtime if the
/// work `is_long`, and counted as CPU time of the call. `None` if the work panicked.
pub(super) async fn beside<T: Send + 'static>(
    spent: &Arc<Spent>,
    is_long: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (caller, spent) = (std::thread::current().id(), Arc::clone(spent));
    let work = move || match std::thread::current().id() == caller {
        // The thread that works at the call counts its own time.
        true => work(),
        false => charged(&spent, work),
    };
    redact::aside(is_long, work).await
}

/// Runs host work that no thread counts, and counts it as CPU time of the call.
pub(super) fn charged<T>(spent: &Spent, work: impl FnOnce() -> T) -> T {
    let begun = thread_time();
    let done = work();
    spent.add(thread_time().saturating_sub(begun));
    done
}

fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
    u64::try_from(nanoseconds).unwrap_or_default()
}

/// Counts the resources of a call, and remembers the limit that it exceeded.
pub(super) struct Meter {
    pub limits: Limits,
    pub memory_bytes: usize,
    spent: Arc<Spent>,
    pub exceeded: Option<(Bound, LimitAmount)>,
}

impl Meter {
    pub fn new(limits: Limits, spent: Arc<Spent>) -> Meter {
        Meter { limits, memory_bytes: 0, spent, exceeded: None }
    }

    /// The CPU time of the call.
    pub fn spent(&self) -> &Arc<Spent> {
        &self.spent
    }

    pub fn exceed(&mut self, limit: Bound, value: LimitAmount) {
        self.exceeded.get_or_insert((limit, value));
    }

    /// Says whether the CPU time is used up; called while a thread works at the call.
    pub fn tick(&mut self) -> bool {
        let most = self.limits.cpu_time;
        let over = Duration::from_nanos(self.spent.so_far()) > most;
        if over {
            self.exceed(Bound::ProcessorTime, LimitAmount::Time(most));
        }
        over
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes - current.min(self.memory_bytes) + desired;
        if total > self.limits.memory_bytes {
            self.exceed(Bound::Memory, LimitAmount::bytes(self.limits.memory_bytes));
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let good = desired <= self.limits.table_elements;
        if !good {
            self.exceed(Bound::TableElements, LimitAmount::count(self.limits.table_elements));
        }
        Ok(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_work_of_the_host_keeps_no_worker_and_is_at_the_cost_of_the_call() {
        let spent = Arc::new(Spent::default());
        let work = || {
            let begun = thread_time();
            while thread_time() < begun + 1_000_000 {}
            std::thread::current().id()
        };
        let here = std::thread::current().id();
        assert_eq!(beside(&spent, false, work).await, Some(here));
        assert_eq!(spent.time(), Duration::ZERO, "the thread of the call is counted elsewhere");
        assert_ne!(beside(&spent, true, work).await, Some(here));
        assert!(spent.time() >= Duration::from_millis(1), "{:?}", spent.time());
    }
}
