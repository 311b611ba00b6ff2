//! The one task that writes scopes and commits polls. A transaction whose answer was lost is not repeated before the
//! server has told whether it has it.

use std::collections::HashSet;
use std::sync::Arc;

use source_host::cause::Cause;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Closing;
use super::connection::Link;
use super::writing::{self, FailedWrite, Results, ScopeWrite};
use crate::limits;
use crate::store::budget::StoredBytes;
use crate::store::shards::Lease;
use crate::store::{PollRecord, ScopeRow, StoreError, StoreErrorKind, StorePlace};

type WriteAnswer<T> = oneshot::Sender<Result<T, StoreErrorKind>>;

/// Something to write, and who waits for it.
pub(super) enum Write {
    Commit { poll: Arc<PollRecord>, answer: WriteAnswer<StoredBytes> },
    Scopes { lease: Lease, rows: Vec<ScopeRow>, answer: WriteAnswer<()> },
    Forget { lease: Lease, feed: String, scopes: Vec<String>, answer: WriteAnswer<()> },
    Close { answer: WriteAnswer<()> },
}

const FORGET: &str = "
    WITH held AS (SELECT shard FROM shard WHERE shard = $1 AND epoch = $2 AND holder IS NOT NULL FOR SHARE), gone AS (
        DELETE FROM scope USING held
        WHERE feed = $3 AND scope = ANY ($4) AND scope.shard = held.shard AND standing::json ->> 'watch' <> 'polled'
        RETURNING tenant, feed, number, 64 + octet_length(discovered) + octet_length(standing) AS bytes
    ), states AS (
        DELETE FROM state USING gone WHERE state.scope = gone.number
        RETURNING tenant, feed, 64 + octet_length(value) AS bytes
    ), figures AS (
        DELETE FROM figure USING gone WHERE figure.scope = gone.number
    ), histories AS (
        DELETE FROM history USING gone WHERE history.shard = $1 AND history.scope = gone.number
        RETURNING tenant, feed, 64 + octet_length(subject) + octet_length(kind) + octet_length(title) AS bytes
    ), sums AS (
        SELECT tenant, feed, sum(bytes)::bigint AS bytes FROM (
            SELECT tenant, feed, bytes FROM gone
            UNION ALL SELECT tenant, feed, bytes FROM states
            UNION ALL SELECT tenant, feed, bytes FROM histories
        ) AS every GROUP BY tenant, feed
    ), less AS (
        UPDATE kept SET bytes = kept.bytes - sums.bytes FROM sums
        WHERE kept.tenant = sums.tenant AND kept.feed = sums.feed
    )
    SELECT count(*) FROM held";

/// Starts the task, which ends when it is told to close, or with the last sender.
pub(super) fn start(link: Link, place: StorePlace, me: String, closing: Arc<Closing>) -> mpsc::UnboundedSender<Write> {
    let (sender, waiting) = mpsc::unbounded_channel();
    tokio::spawn(PollWriter { link, place, me, number: 0, closing }.serve(waiting));
    sender
}

struct PollWriter {
    link: Link,
    place: StorePlace,
    me: String,
    /// The number of the last transaction.
    number: i64,
    closing: Arc<Closing>,
}

impl PollWriter {
    async fn serve(mut self, mut waiting: mpsc::UnboundedReceiver<Write>) {
        let mut next = None;
        loop {
            let task = match next.take() {
                Some(task) => task,
                None => match waiting.recv().await {
                    Some(task) => task,
                    None => return,
                },
            };
            match task {
                Write::Commit { poll, answer } => next = self.commit(poll, answer, &mut waiting).await,
                Write::Scopes { lease, rows, answer } => drop(answer.send(self.keep_scopes(lease, &rows).await)),
                Write::Forget { lease, feed, scopes, answer } => {
                    drop(answer.send(self.forget(lease, &feed, &scopes).await));
                }
                Write::Close { answer } => {
                    self.link.end().await;
                    drop(answer.send(Ok(())));
                    return;
                }
            }
        }
    }

    /// Commits a poll together with those that wait behind it. Returns the first task that has to wait for the commit.
    async fn commit(
        &mut self,
        poll: Arc<PollRecord>,
        answer: WriteAnswer<StoredBytes>,
        waiting: &mut mpsc::UnboundedReceiver<Write>,
    ) -> Option<Write> {
        let key = |poll: &PollRecord| (poll.row.feed.clone(), poll.row.scope.id.clone(), poll.row.tenant.clone());
        let mut scopes = HashSet::from([key(&poll)]);
        let (mut polls, mut answers, mut next) = (vec![poll], vec![answer], None);
        while polls.len() < limits::COMMITS_AT_ONCE {
            match waiting.try_recv() {
                // Two polls of one scope are written one after the other.
                Ok(Write::Commit { poll, answer }) if scopes.insert(key(&poll)) => {
                    polls.push(poll);
                    answers.push(answer);
                }
                other => {
                    next = other.ok();
                    break;
                }
            }
        }
        let entries: Vec<ScopeWrite<'_>> = polls.iter().map(|poll| ScopeWrite::of_poll(poll)).collect();
        let results = self.write(&entries).await;
        for (answer, result) in answers.into_iter().zip(results) {
            drop(answer.send(result));
        }
        next
    }

    async fn keep_scopes(&mut self, lease: Lease, rows: &[ScopeRow]) -> Result<(), StoreErrorKind> {
        let mut seen = HashSet::new();
        // Of two rows of one scope, the later one counts.
        let last = rows.iter().rev().filter(|row| seen.insert((&row.feed, &row.scope.id, &row.tenant)));
        let mut entries: Vec<ScopeWrite<'_>> = last.map(|row| ScopeWrite { lease, row, poll: None }).collect();
        entries.reverse();
        if entries.is_empty() {
            return Ok(());
        }
        self.write(&entries).await.into_iter().try_for_each(|result| result.map(drop))
    }

    async fn forget(&self, lease: Lease, feed: &str, scopes: &[String]) -> Result<(), StoreErrorKind> {
        let (shard, epoch) = (lease.shard as i16, i64::from(lease.epoch));
        let rows =
            self.link.rows(FORGET, &[&shard, &epoch, &feed, &scopes], &self.closing, limits::STORE_PATIENCE).await?;
        match rows.first().is_some_and(|row| row.get::<_, i64>(0) > 0) {
            true => Ok(()),
            false => Err(StoreErrorKind::Fenced { shard: lease.shard }),
        }
    }

    /// Writes entries in one transaction; each by itself if that fails because of one of them.
    async fn write(&mut self, entries: &[ScopeWrite<'_>]) -> Results {
        match self.transaction(entries).await {
            Ok(results) => results,
            Err(StoreErrorKind::Full | StoreErrorKind::Other(_)) if entries.len() > 1 => {
                let mut results = Vec::new();
                for entry in entries {
                    let alone = self.transaction(std::slice::from_ref(entry)).await;
                    results.push(alone.and_then(|mut results| results.remove(0)));
                }
                results
            }
            Err(error) => entries.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn transaction(&mut self, entries: &[ScopeWrite<'_>]) -> Result<Results, StoreErrorKind> {
        self.number += 1;
        let (begun, mut pause) = (Instant::now(), limits::STORE_PAUSE);
        let (mut unanswered, mut is_told): (Option<Results>, bool) = (None, false);
        loop {
            let error = match self.attempt(entries).await {
                Ok(Some(results)) => return Ok(results),
                Ok(None) => {
                    let lost = || StoreErrorKind::Other(Cause::new("a transaction has the number of another one"));
                    return unanswered.ok_or_else(lost);
                }
                Err(FailedWrite { error, results, began }) => {
                    // An attempt that began says that the ones before it were not committed.
                    unanswered = if began { results } else { results.or(unanswered) };
                    error
                }
            };
            let is_transient = matches!(&error, StoreErrorKind::Server(fault) if fault.may_pass());
            // While nobody knows whether the transaction was committed, neither answer would be true.
            let is_over = !is_transient || begun.elapsed() >= limits::STORE_PATIENCE;
            if unanswered.is_none() && is_over {
                return Err(error);
            }
            if is_over && !is_told {
                is_told = true;
                let error = StoreError { place: self.place.clone(), what: error.clone() };
                tracing::error!(
                    fault = error.blame().word(),
                    "nobody knows whether the last polls were stored, and all others wait until the state answers: {error}"
                );
            }
            if !self.closing.pause(pause).await {
                return Err(error);
            }
            pause = (pause * 2).min(limits::STORE_LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, entries: &[ScopeWrite<'_>]) -> Result<Option<Results>, FailedWrite> {
        let connection = self.link.connection().await?;
        let written = writing::write(&connection, &self.me, self.number, entries).await;
        if let Err(FailedWrite { error: StoreErrorKind::Server(fault), .. }) = &written
            && fault.asks_to_connect()
        {
            self.link.part(&connection).await;
        }
        written
    }
}
