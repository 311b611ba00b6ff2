//! What a call uses, and which limit it met.

use std::borrow::Cow;
use std::fmt;

use wasmtime::ResourceLimiter;

use crate::contract::{Batch, Failure};
use crate::limits::{self, Limits};
use crate::redact;

use super::{CallError, LastWords};

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

    fn exceed(&mut self, limit: &'static str, value: impl fmt::Display) {
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

/// What a batch may hold. An event that is no line of JSON would break every reader behind this host.
pub(super) fn within_limits(
    answer: Result<Batch, Failure>,
    limits: &Limits,
) -> Result<Result<Batch, Failure>, CallError> {
    let Ok(batch) = &answer else { return Ok(answer) };
    let over = |limit, value: Cow<'_, str>| {
        Err(CallError::Limit { call: "normalize", limit, value: value.into_owned(), words: LastWords::default() })
    };
    if batch.events.len() > limits.events {
        return over("events of a poll", limits.events.to_string().into());
    }
    if let Some(odd) =
        batch.measures.iter().find(|one| ![one.value, one.maximum, one.weight].iter().all(|it| it.is_finite()))
    {
        return Err(CallError::Trap {
            call: "normalize",
            kind: format!("the figure of {} is no number", redact::cut(&odd.subject, 64)),
            words: LastWords::default(),
        });
    }
    if batch.state.len() > limits.state_bytes {
        return over("state", format!("{} bytes", limits.state_bytes).into());
    }
    for event in &batch.events {
        if event.body.len() > limits.event_bytes {
            return over("one event", format!("{} bytes", limits.event_bytes).into());
        }
        let line = event.body.starts_with(b"{")
            && !event.body.contains(&b'\n')
            && serde_json::from_slice::<serde::de::IgnoredAny>(&event.body).is_ok();
        if !line {
            return Err(CallError::Trap {
                call: "normalize",
                kind: format!("event {} is not one JSON object on one line", redact::cut(&event.uid, 64)),
                words: LastWords::default(),
            });
        }
    }
    Ok(answer)
}
