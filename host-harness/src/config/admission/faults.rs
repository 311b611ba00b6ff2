//! Failures of plugins that are remembered from one reading of a configuration to the next: the same bytes that failed
//! are not tried again, however many feeds name them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use source_host::blame::Blame;
use source_host::digest::ShortDigest;
use source_host::plugin::PluginError;
use source_host::plugin::call::CallError;

use crate::limits;

/// The remembered failures of plugins. Cheap to clone.
#[derive(Clone, Default)]
pub struct Faults {
    /// Failures to load, by the digest of the component.
    pub(super) loads: Tries<Arc<PluginError>>,
    /// Failures of `describe`, by the digest of the component.
    pub(super) descriptions: Tries<CallError>,
    /// Failures of `prepare`, by the digest of the component and of the settings.
    pub(super) plans: Tries<CallError>,
}

/// Makes a call of the plugin an attempt of [`Tries`]: a call that was given up because the process stood still says
/// nothing about the plugin, and is not remembered.
pub(super) fn not_stopped<T>(called: Result<T, CallError>) -> Result<Result<T, CallError>, CallError> {
    match called {
        Err(error) if error.blame() != Blame::Plugin => Ok(Err(error)),
        called => called.map(Ok),
    }
}

/// Attempts that may fail, and their recent failures.
pub(super) struct Tries<E> {
    turns: Arc<Mutex<HashMap<ShortDigest, TryTurn<E>>>>,
}

/// Locked during an attempt; afterwards it holds the failure and its time, if the attempt failed.
type TryTurn<E> = Arc<tokio::sync::Mutex<Option<(E, Instant)>>>;

impl<E> Clone for Tries<E> {
    fn clone(&self) -> Tries<E> {
        Tries { turns: Arc::clone(&self.turns) }
    }
}

impl<E> Default for Tries<E> {
    fn default() -> Tries<E> {
        Tries { turns: Arc::default() }
    }
}

impl<E: Clone> Tries<E> {
    /// Returns the result of the attempt, or the recent failure of an equal one. Equal attempts wait for each other.
    pub(super) async fn once<T>(&self, what: ShortDigest, attempt: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let visit = TryVisit { tries: self, what, turn: Arc::clone(self.turns.lock().entry(what).or_default()) };
        let mut failed = visit.turn.lock().await;
        if let Some((error, at)) = &*failed
            && at.elapsed() < limits::PLUGIN_FAULT_KEPT
        {
            return Err(error.clone());
        }
        let result = attempt.await;
        *failed = result.as_ref().err().map(|error| (error.clone(), Instant::now()));
        result
    }
}

/// One attempt, or one that waits for its turn.
struct TryVisit<'a, E> {
    tries: &'a Tries<E>,
    what: ShortDigest,
    turn: TryTurn<E>,
}

impl<E> Drop for TryVisit<'_, E> {
    fn drop(&mut self) {
        let mut turns = self.tries.turns.lock();
        // Only the map still has the turn, and there is no failure to remember.
        if Arc::strong_count(&self.turn) == 2 && self.turn.try_lock().is_ok_and(|failed| failed.is_none()) {
            turns.remove(&self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::admission::LeftOutReason;

    #[tokio::test]
    async fn a_failure_is_met_once_and_a_success_each_time() {
        let (tries, count) = (Tries::<&str>::default(), AtomicUsize::new(0));
        let attempt = |result: Result<u8, &'static str>| {
            let count = &count;
            async move {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                result
            }
        };
        let (bad, good) = (ShortDigest::of("bad"), ShortDigest::of("good"));
        let both = tokio::join!(tries.once(bad, attempt(Err("broken"))), tries.once(bad, attempt(Err("never"))));
        assert_eq!(both, (Err("broken"), Err("broken")));
        assert_eq!(tries.once(bad, attempt(Ok(1))).await, Err("broken"));
        assert_eq!(count.swap(0, Ordering::Relaxed), 1);
        for _ in 0..2 {
            assert_eq!(tries.once(good, attempt(Ok(1))).await, Ok(1));
        }
        assert_eq!(count.load(Ordering::Relaxed), 2);
        assert_eq!(tries.turns.lock().len(), 1, "only failures are kept");
    }

    #[tokio::test]
    async fn a_call_during_which_the_process_stood_still_is_not_remembered_and_not_blamed_on_the_plugin() {
        let tries = Tries::<CallError>::default();
        let what = ShortDigest::of("what");
        let stood = CallError::Stood { call: "prepare", stood: std::time::Duration::from_secs(90) };
        let why = LeftOutReason::of_call(&stood);
        assert_eq!((why.code(), why.blame()), ("host-stopped", Blame::Harness));
        let first = tries.once(what, std::future::ready(not_stopped::<u8>(Err(stood.clone())))).await;
        assert_eq!(first.flatten(), Err(stood));
        assert_eq!(tries.once(what, std::future::ready(not_stopped(Ok(1)))).await.flatten(), Ok(1));
        let trap = CallError::Trap { call: "prepare", kind: "crash".to_owned(), words: Default::default() };
        assert_eq!(LeftOutReason::of_call(&trap), LeftOutReason::Plugin);
        let broken = tries.once(what, std::future::ready(not_stopped::<u8>(Err(trap.clone())))).await;
        assert_eq!(broken, Err(trap.clone()));
        assert_eq!(tries.once(what, std::future::ready(not_stopped(Ok(1)))).await, Err(trap));
    }

    #[tokio::test]
    async fn an_attempt_that_was_given_up_is_none() {
        let tries = Tries::<&str>::default();
        let what = ShortDigest::of("what");
        let never = tries.once(what, std::future::pending::<Result<u8, &str>>());
        assert!(tokio::time::timeout(std::time::Duration::ZERO, never).await.is_err());
        assert_eq!(tries.once(what, std::future::ready(Ok(1))).await, Ok(1));
        assert!(tries.turns.lock().is_empty());
    }
}
