//! What a call uses, and which limit it met.

use std::fmt;

use wasmtime::ResourceLimiter;

use crate::limits::{self, Limits};

/// Counts what a call uses, and remembers which limit it met.
pub(super) struct Meter {
    pub limits: Limits,
    pub memory_bytes: usize,
    cpu_ticks: u32,
    pub exceeded: Option<(&'static str, String)>,
}

impl Meter {
    pub fn new(limits: Limits) -> Meter {
        Meter { limits, memory_bytes: 0, cpu_ticks: 0, exceeded: None }
    }

    pub fn exceed(&mut self, limit: &'static str, value: impl fmt::Display) {
        self.exceeded.get_or_insert((limit, value.to_string()));
    }

    pub fn tick(&mut self) -> bool {
        self.cpu_ticks += 1;
        let most = self.limits.cpu_time;
        let over = limits::EPOCH_TICK * self.cpu_ticks > most;
        if over {
            self.exceed("time on a processor", format!("{} ms", most.as_millis()));
        }
        over
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes - current.min(self.memory_bytes) + desired;
        if total > self.limits.memory_bytes {
            self.exceed("memory", format!("{} bytes", self.limits.memory_bytes));
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let good = desired <= self.limits.table_elements;
        if !good {
            self.exceed("table elements", self.limits.table_elements);
        }
        Ok(good)
    }
}
