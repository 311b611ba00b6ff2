//! The store on a thread of its own. All its tenants are in one shard, since its lock keeps other collectors out.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::{io, thread};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::SqliteStore;
use super::reading::SqliteReader;
use crate::limits;
use crate::store::budget::StoredBytes;
use crate::store::reading::StoreReader;
use crate::store::shards::Lease;
use crate::store::space::FreeSpace;
use crate::store::{
    Backlog, FeedRow, Keep, KeptRow, Partition, PollRecord, Queued, ScopeRow, Store, StoreError, StoreErrorKind,
    StorePlace, StoreResult, Throttle,
};

type StoreJob = Box<dyn FnOnce(&mut SqliteStore) + Send>;

/// A task for the thread of a store.
enum StoreTask {
    Job(StoreJob),
    /// A question that changes nothing, and is about nothing that waits to be committed.
    Reading(StoreJob),
    Commit(PollToCommit),
    /// Closes the store, and answers when it is closed.
    Close(oneshot::Sender<StoreResult<()>>),
}

/// A poll that ended, and its recipient's place.
struct PollToCommit {
    record: Arc<PollRecord>,
    answer: oneshot::Sender<StoreResult<StoredBytes>>,
}

/// Does the tasks of a store until it is told to close.
fn serve(mut store: SqliteStore, tasks: mpsc::Receiver<StoreTask>) {
    let mut next = None;
    while let Some(task) = next.take().or_else(|| tasks.recv().ok()) {
        match task {
            StoreTask::Job(job) | StoreTask::Reading(job) => job(&mut store),
            StoreTask::Commit(first) => next = commit(&mut store, first, &tasks),
            StoreTask::Close(answer) => {
                let closed = store.close();
                // The database closes its files and frees the lock before the answer.
                drop(store);
                // Tasks that still wait get no answer.
                drop(tasks);
                drop(answer.send(closed));
                return;
            }
        }
    }
}

/// Commits a poll together with those that wait behind it: a sync of the disk takes longer than all their statements.
/// Returns the first task that has to wait for the commit.
fn commit(store: &mut SqliteStore, first: PollToCommit, tasks: &mpsc::Receiver<StoreTask>) -> Option<StoreTask> {
    let (mut polls, mut next) = (vec![first], None);
    while polls.len() < limits::COMMITS_AT_ONCE {
        match tasks.try_recv() {
            Ok(StoreTask::Commit(poll)) => polls.push(poll),
            Ok(StoreTask::Reading(job)) => job(store),
            other => {
                next = other.ok();
                break;
            }
        }
    }
    let records: Vec<&PollRecord> = polls.iter().map(|poll| &*poll.record).collect();
    let committed = store.commit_all(&records);
    for (poll, kept) in polls.into_iter().zip(committed) {
        drop(poll.answer.send(kept));
    }
    next
}

/// The handle of a store on its thread. The thread ends when it is told to close, or with the handle.
pub struct SqliteHandle {
    tasks: mpsc::Sender<StoreTask>,
    file: PathBuf,
    place: StorePlace,
    space: FreeSpace,
}

impl SqliteHandle {
    /// Moves a store to its own thread.
    pub fn start(store: SqliteStore) -> io::Result<SqliteHandle> {
        let (file, space) = (store.file.clone(), store.space());
        let (tasks, waiting) = mpsc::channel();
        thread::Builder::new().name("store".to_owned()).spawn(move || serve(store, waiting))?;
        Ok(SqliteHandle { tasks, place: StorePlace::File(file.clone()), file, space })
    }

    /// Runs a question on the store, and waits for its answer.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut SqliteStore) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (answer, waiting) = oneshot::channel();
        self.give(StoreTask::Job(Box::new(move |store| drop(answer.send(question(store))))), waiting).await
    }

    async fn give<T>(&self, task: StoreTask, waiting: oneshot::Receiver<StoreResult<T>>) -> StoreResult<T> {
        let stopped = || StoreError { place: self.place.clone(), what: StoreErrorKind::Stopped };
        self.tasks.send(task).map_err(|_| stopped())?;
        waiting.await.unwrap_or_else(|_| Err(stopped()))
    }
}

#[async_trait]
impl Store for SqliteHandle {
    async fn salt(&self) -> StoreResult<String> {
        self.ask(SqliteStore::salt).await
    }

    async fn feeds(&self, _shards: &[Lease]) -> StoreResult<Vec<FeedRow>> {
        self.ask(SqliteStore::feeds).await
    }

    async fn keep_feed(&self, _lease: Lease, row: FeedRow) -> StoreResult<()> {
        self.ask(move |store| store.keep_feed(&row)).await
    }

    async fn scopes(&self, _shards: &[Lease]) -> StoreResult<Vec<ScopeRow>> {
        self.ask(SqliteStore::scopes).await
    }

    async fn state(&self, tenant: &str, feed: &str, scope: &str) -> StoreResult<Option<Vec<u8>>> {
        let (tenant, feed, scope) = (tenant.to_owned(), feed.to_owned(), scope.to_owned());
        let (answer, waiting) = oneshot::channel();
        let question = move |store: &mut SqliteStore| drop(answer.send(store.state(&tenant, &feed, &scope)));
        self.give(StoreTask::Reading(Box::new(question)), waiting).await
    }

    async fn commit(&self, record: Arc<PollRecord>) -> StoreResult<StoredBytes> {
        let (answer, waiting) = oneshot::channel();
        self.give(StoreTask::Commit(PollToCommit { record, answer }), waiting).await
    }

    async fn kept(&self, _shards: &[Lease]) -> StoreResult<Vec<KeptRow>> {
        self.ask(SqliteStore::kept).await
    }

    async fn keep_scopes(&self, _lease: Lease, rows: Vec<ScopeRow>) -> StoreResult<()> {
        self.ask(move |store| store.keep_scopes(&rows)).await
    }

    async fn forget_scopes(&self, _lease: Lease, feed: &str, scopes: Vec<String>) -> StoreResult<()> {
        let feed = feed.to_owned();
        self.ask(move |store| store.forget_scopes(&feed, &scopes)).await
    }

    async fn keep_throttle(&self, throttle: Throttle) -> StoreResult<()> {
        self.ask(move |store| store.keep_throttle(&throttle)).await
    }

    async fn throttles(&self, now: u64) -> StoreResult<Vec<Throttle>> {
        self.ask(move |store| store.throttles(now)).await
    }

    async fn backlog(&self, _shards: &[Lease]) -> StoreResult<Vec<Backlog>> {
        self.ask(SqliteStore::backlog).await
    }

    async fn queued(
        &self,
        _shards: &[Lease],
        partition: &Partition,
        without: Vec<String>,
        events: usize,
        bytes: usize,
    ) -> StoreResult<Vec<Queued>> {
        let partition = partition.clone();
        self.ask(move |store| store.queued(&partition, &without, events, bytes)).await
    }

    async fn acknowledge(&self, events: &[Queued]) -> StoreResult<()> {
        let numbers: Vec<i64> = events.iter().map(|event| event.number).collect();
        self.ask(move |store| store.acknowledge(&numbers)).await
    }

    async fn keep_delivered(&self, events: &[Queued], keep: Keep) -> StoreResult<()> {
        let numbers: Vec<i64> = events.iter().map(|event| event.number).collect();
        self.ask(move |store| store.keep_delivered(&numbers, keep)).await
    }

    async fn close(&self) -> StoreResult<()> {
        let (answer, waiting) = oneshot::channel();
        self.give(StoreTask::Close(answer), waiting).await
    }

    async fn prune(&self, before: u64, now: u64) -> StoreResult<()> {
        self.ask(move |store| store.prune(before, now)).await
    }

    fn reader(&self) -> StoreResult<Box<dyn StoreReader>> {
        Ok(Box::new(SqliteReader::open(&self.file)?))
    }

    fn space(&self) -> &FreeSpace {
        &self.space
    }

    fn place(&self) -> &StorePlace {
        &self.place
    }
}
