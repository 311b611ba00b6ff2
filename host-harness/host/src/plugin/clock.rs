//! The clock that a plugin sees, which counts from the start of its call. In a pure call, the clock stands still, and
//! there are no timers.

use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::clocks::{WasiClocksCtx, WasiClocksCtxView};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi_io::poll::DynPollable;

/// The clock of one call. It reveals nothing of the host's clock.
pub(crate) struct CallClock {
    begun: Option<Instant>,
    timers: WasiClocksCtx,
}

impl CallClock {
    /// Makes a clock that begins now.
    pub fn running() -> CallClock {
        CallClock { begun: Some(Instant::now()), timers: WasiClocksCtx::default() }
    }

    /// Makes a clock that always shows the same time.
    pub fn standing() -> CallClock {
        CallClock { begun: None, timers: WasiClocksCtx::default() }
    }

    fn now(&self) -> u64 {
        let elapsed = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The clock, and the table of its timers.
pub(crate) struct ClockView<'a> {
    pub clock: &'a mut CallClock,
    pub table: &'a mut ResourceTable,
}

impl monotonic_clock::Host for ClockView<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.now())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let wait = when.saturating_sub(self.clock.now());
        self.subscribe_duration(wait)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        if self.clock.begun.is_none() {
            return Err(wasmtime::Error::msg("it set a timer, which the rules for this call do not allow"));
        }
        let mut timers = WasiClocksCtxView { ctx: &mut self.clock.timers, table: self.table };
        monotonic_clock::Host::subscribe_duration(&mut timers, duration)
    }
}
