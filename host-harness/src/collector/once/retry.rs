//! Retries of failures that may pass by themselves, for as long as a person at a terminal waits.

use std::future::Future;
use std::time::{Duration, UNIX_EPOCH};

use source_host::clock::Clock;
use source_host::contract::{Failure, Reaction, Scope};
use source_host::credentials::redact;
use source_host::feed::Polled;
use source_host::progress::Doing;

use super::Ready;
use super::reporter::who;
use crate::limits;

/// Retries failures that may pass by themselves, for as long as a person at a terminal waits.
pub(super) async fn with_retries<T, F: Future<Output = Result<T, Failure>>>(
    work: &WorkLabel,
    clock: &Clock,
    attempt: impl Fn() -> F,
) -> Result<T, Failure> {
    let mut budget = RetryBudget::default();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(failure) => budget.after(work, clock, failure).await?,
        }
    }
}

/// The same for a poll.
pub(super) async fn poll_with_retries<F: Future<Output = Polled>>(
    work: WorkLabel,
    clock: &Clock,
    attempt: impl Fn() -> F,
) -> Polled {
    let mut budget = RetryBudget::default();
    loop {
        let polled = attempt().await;
        let Some(failure) = polled.failure.clone() else { return polled };
        if let Err(failure) = budget.after(&work, clock, failure).await {
            return Polled { failure: Some(failure), ..polled };
        }
    }
}

/// The description of work on a feed or a scope, for people who wait for it.
pub(super) struct WorkLabel {
    doing: Doing,
    who: String,
    words: &'static str,
}

impl WorkLabel {
    pub(super) fn of(ready: &Ready, scope: Option<&Scope>, words: &'static str) -> WorkLabel {
        let who = redact::redact(&who(ready, scope), ready.admitted.secrets());
        let doing = ready.admitted.plugin.host().progress().begin(format!("{who}: {words}"));
        WorkLabel { doing, who, words }
    }

    /// Notes a wait, and the attempt that follows it.
    async fn wait(&self, wait: Duration, asked: bool, attempt: usize) {
        let why = if asked { " as the service asks (Retry-After)" } else { "" };
        let of = limits::POLL_RETRIES + 1;
        self.doing.says(format!("{}: waiting {} s{why} before attempt {attempt} of {of}", self.who, wait.as_secs()));
        tokio::time::sleep(wait).await;
        self.doing.says(format!("{}: {}, attempt {attempt} of {of}", self.who, self.words));
    }
}

/// The number of retries of a call, and the time spent waiting.
#[derive(Default)]
struct RetryBudget {
    retries: usize,
    waited: Duration,
}

impl RetryBudget {
    /// Waits until a retry makes sense, or returns the failure.
    async fn after(&mut self, work: &WorkLabel, clock: &Clock, mut failure: Failure) -> Result<(), Failure> {
        let Some(wait) = pause(&failure, self.retries) else { return Err(failure) };
        if self.waited + wait > limits::POLL_WAIT {
            let until = UNIX_EPOCH + Duration::from_millis(clock()) + wait;
            failure.cause +=
                &format!("; it asks to wait {} s, until {}", wait.as_secs(), httpdate::fmt_http_date(until));
            return Err(failure);
        }
        if self.retries >= limits::POLL_RETRIES {
            return Err(failure);
        }
        work.wait(wait, failure.wait_seconds.is_some(), self.retries + 2).await;
        self.waited += wait;
        self.retries += 1;
        Ok(())
    }
}

/// The wait before a retry; `None` if a retry makes no sense.
fn pause(failure: &Failure, retry: usize) -> Option<Duration> {
    match failure.reaction {
        Reaction::Wait | Reaction::TryLater => {
            let backoff = 1 << retry.min(4);
            Some(Duration::from_secs(failure.wait_seconds.map_or(backoff, u64::from)))
        }
        _ => None,
    }
}
