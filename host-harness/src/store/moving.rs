//! Moves a state from one store to another of another kind. Rows go over in chunks; the transaction that writes a chunk
//! also writes how far the move came, so that a move that was killed goes on where it ended, and no row comes twice.
//!
//! Both sides have a mark while a move goes on. A collector refuses the target until everything is there, and removes the
//! mark of the source when it opens that: the next attempt then begins anew. The source is closed to collectors before
//! the target opens, so that at no time two places can be collected.

use std::fmt;

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};
use source_host::cause::Cause;
use source_host::failpoint;
use source_host::text::{self, plain};
use uuid::Uuid;

use super::postgres::fault::ServerFault;
use super::{StoreError, StoreErrorKind, StorePlace, StoreResult};

/// The value of a column.
pub type Cell = Value;

/// The row of a part, with the columns of [`MovedPart`].
pub type MovedRow = Vec<Cell>;

/// A part of a state, in the order in which parts are moved: rows refer to rows of earlier parts only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MovedPart {
    /// Tenant, feed, and the digests of its configuration.
    Feeds,
    /// Number, feed, scope, tenant, discovery, standing, and the subject of its figure.
    Scopes,
    /// Number of the scope, and the plugin's state.
    States,
    /// Tenant, number of the scope, subject, time, kind, title, value, maximum, weight.
    Figures,
    /// Tenant, feed, and the bytes that are kept of it.
    Sums,
    /// Number, sink, tenant, feed, scope, uid, time, body.
    Events,
    /// As events, with the time of the delivery and the end of the time for which it is kept.
    Delivered,
    /// Credential, origin, end of the wait.
    Waits,
}

impl MovedPart {
    /// All parts, in their order.
    pub const ALL: [MovedPart; 8] = [
        MovedPart::Feeds,
        MovedPart::Scopes,
        MovedPart::States,
        MovedPart::Figures,
        MovedPart::Sums,
        MovedPart::Events,
        MovedPart::Delivered,
        MovedPart::Waits,
    ];

    /// The name of the part for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            MovedPart::Feeds => "feeds",
            MovedPart::Scopes => "scopes",
            MovedPart::States => "states",
            MovedPart::Figures => "figures",
            MovedPart::Sums => "sums",
            MovedPart::Events => "waiting events",
            MovedPart::Delivered => "delivered events",
            MovedPart::Waits => "waits",
        }
    }

    /// The table of its rows, in each kind of store.
    pub fn table(self) -> &'static str {
        match self {
            MovedPart::Feeds => "feed",
            MovedPart::Scopes => "scope",
            MovedPart::States => "state",
            MovedPart::Figures => "history",
            MovedPart::Sums => "kept",
            MovedPart::Events => "outbox",
            MovedPart::Delivered => "delivered",
            MovedPart::Waits => "throttle",
        }
    }

    /// The names of its columns.
    fn columns(self) -> &'static [&'static str] {
        match self {
            MovedPart::Feeds => &["tenant", "feed", "searched_with", "configured_as"],
            MovedPart::Scopes => &["number", "feed", "scope", "tenant", "discovered", "standing", "figure"],
            MovedPart::States => &["scope", "value"],
            MovedPart::Figures => {
                &["tenant", "scope", "subject", "time", "kind", "title", "value", "maximum", "weight"]
            }
            MovedPart::Sums => &["tenant", "feed", "bytes"],
            MovedPart::Events => &["number", "sink", "tenant", "feed", "scope", "uid", "time", "body"],
            MovedPart::Delivered => {
                &["number", "sink", "tenant", "feed", "scope", "uid", "time", "body", "delivered", "until"]
            }
            MovedPart::Waits => &["credential", "origin", "until"],
        }
    }

    /// Says whether people count the rows: sums follow from the others.
    pub fn is_counted(self) -> bool {
        self != MovedPart::Sums
    }
}

/// The role of a store in a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its rows are being moved to another place.
    Source,
    /// Its rows were moved to another place.
    Left,
    /// Rows of another place are being moved to it.
    Target,
}

impl Role {
    /// The word in the store.
    pub fn word(self) -> &'static str {
        match self {
            Role::Source => "source",
            Role::Left => "left",
            Role::Target => "target",
        }
    }

    /// Reads the word of the store.
    pub fn of(word: &str) -> Option<Role> {
        [Role::Source, Role::Left, Role::Target].into_iter().find(|role| role.word() == word)
    }
}

/// The mark of a store that takes part in a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The id of the move, the same on both sides.
    pub id: String,
    /// The role of this store.
    pub role: Role,
    /// The other place.
    pub other: String,
    /// The progress, at the target.
    pub progress: String,
}

impl Mark {
    /// Returns why a collector may not use the store; `None` if it may, and removes the mark.
    pub fn refusal(&self) -> Option<MoveFault> {
        let other = self.other.clone();
        match self.role {
            Role::Source => None,
            Role::Left => Some(MoveFault::Left { other }),
            Role::Target => Some(MoveFault::Half { other }),
        }
    }
}

/// The point that a move reached.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MoveProgress {
    /// The part that is being moved: its place among all parts.
    pub part: usize,
    /// The key of the part's last row that is there; empty before the first one.
    pub after: Vec<MovedKey>,
    /// Numbers of rows that are there, by part.
    pub rows: Vec<u64>,
}

/// The value of a column of a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MovedKey {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// Why a state cannot be moved or collected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoveFault {
    /// A move to another place was completed.
    #[error("it was moved to {other}; write that place in `state`, or move the state back with `host-harness migrate`")]
    Left {
        /// The other place.
        other: String,
    },
    /// A move from another place was not completed.
    #[error("only a part of {other} has been moved to it; run the same `host-harness migrate` again, which goes on")]
    Half {
        /// The other place.
        other: String,
    },
    /// There is nothing to move.
    #[error("there is no state; see that `--from` names the place of a state")]
    Nothing,
    /// Collectors use it.
    #[error("in use by {}; stop these collectors, or wait 15 s for one that was killed", .0.join(", "))]
    InUse(Vec<String>),
    /// Another move or `redeliver` uses it.
    #[error("another `migrate` or `redeliver` uses it; wait until that has ended")]
    Busy,
    /// The role lacks rights that only the owner of the tables has.
    #[error("a move needs all rights on the tables; run it as their owner")]
    NotOwner,
    /// A collector began to use it during the move.
    #[error("a collector has begun to use it during the move; stop that one, and begin again")]
    Disturbed,
    /// A row has a text that the target cannot hold.
    #[error(
        "found the character NUL (U+0000) in the column {column} of the table {table}, in the row with {row}, expected a \
         text without it: PostgreSQL stores no such text, and no collector writes one; cut the text off there, for example by \
         the statement UPDATE {table} SET {column} = substr({column}, 1, instr({column}, char(0)) - 1) \
         WHERE instr({column}, char(0)) in `sqlite3`, and run the same command again, which goes on"
    )]
    Nul {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The columns that identify the row, with their values.
        row: String,
    },
    /// A disk was full, or a connection was lost: another attempt may succeed.
    #[error("{}; {}", words(cause), resumption(*rows))]
    Interrupted {
        /// The cause.
        cause: Box<StoreErrorKind>,
        /// Numbers of the rows that are at the target and of all rows; `None` before the first one.
        rows: Option<(u64, u64)>,
    },
    /// The target has not the rows that the move wrote.
    #[error(
        "found {found} {part}, expected the {expected} that the move wrote: something else has changed them since, such as a \
         collector that was woken, another program, or the crash of a server that syncs nothing; end that, and {fix}. The \
         state in {from} has all of its rows"
    )]
    Changed {
        /// The name of the part.
        part: &'static str,
        /// Number of the rows that are there.
        found: u64,
        /// Number of the rows that the move wrote.
        expected: u64,
        /// The way to begin anew.
        fix: &'static str,
        /// The place that is moved.
        from: String,
    },
    /// The target holds another state.
    #[error(
        "it holds another state ({scopes} scopes, {events} waiting events); move to an empty database or a new file"
    )]
    Occupied {
        /// Number of its scopes.
        scopes: u64,
        /// Number of its waiting events.
        events: u64,
    },
}

/// The words about a cause in a move, after which no collector connects again or repeats a poll.
fn words(cause: &StoreErrorKind) -> String {
    match cause {
        StoreErrorKind::Full => "the disk is full, expected room for the state; make room there".to_owned(),
        StoreErrorKind::Server(ServerFault::Lost { host, cause }) => {
            format!("the connection to {host} was lost ({cause}); see that the server runs")
        }
        other => other.to_string(),
    }
}

fn resumption(rows: Option<(u64, u64)>) -> String {
    match rows {
        Some((moved, all)) => {
            format!("{moved} of {all} rows of the state are moved; the same command goes on with the others")
        }
        None => "nothing was moved by this attempt; run the same command again".to_owned(),
    }
}

/// Says how much was moved before an error after which the move can go on.
pub fn interrupted(error: StoreError, rows: Option<(u64, u64)>) -> StoreError {
    let may_pass = match &error.what {
        StoreErrorKind::Full | StoreErrorKind::Busy => true,
        StoreErrorKind::Server(fault) => fault.may_pass(),
        _ => false,
    };
    let StoreError { place, what } = error;
    match may_pass {
        true => {
            let what = StoreErrorKind::Move(MoveFault::Interrupted { cause: Box::new(what), rows });
            StoreError { place, what }
        }
        false => StoreError { place, what },
    }
}

impl MoveFault {
    /// Collectors use it: these names come from the store.
    pub fn in_use(names: &[String]) -> MoveFault {
        MoveFault::InUse(names.iter().map(|name| plain(name)).collect())
    }
}

impl MovedKey {
    /// The key as the cell of a row.
    pub(super) fn cell(&self) -> Cell {
        match self {
            MovedKey::Number(number) => Cell::Integer(*number),
            MovedKey::Text(text) => Cell::Text(text.clone()),
        }
    }
}

/// A chunk of a part's rows.
#[derive(Default)]
pub struct Chunk {
    /// The rows, in the order of their keys.
    pub rows: Vec<MovedRow>,
    /// The key of the last one.
    pub last: Vec<MovedKey>,
}

/// A store that no collector uses while its rows are moved.
#[async_trait]
pub trait Movable: Send {
    /// The store's place.
    fn place(&self) -> &StorePlace;
    /// Returns the mark of a move.
    async fn mark(&mut self) -> StoreResult<Option<Mark>>;
    /// Returns the text that salts digests, which identifies the state wherever it is moved to.
    async fn salt(&mut self) -> StoreResult<String>;
    /// Counts the rows of a part.
    async fn count(&mut self, part: MovedPart) -> StoreResult<u64>;
    /// Refuses a store that collectors use.
    async fn unused(&mut self) -> StoreResult<()>;
    /// Closes the store to whoever wrote it, and marks it as the source of a move.
    async fn begin_source(&mut self, id: &str, other: &str) -> StoreResult<()>;
    /// Returns the next rows of a part after a key; no rows at the end. A part that follows from others has none.
    async fn read(&mut self, part: MovedPart, after: &[MovedKey]) -> StoreResult<Chunk>;
    /// Returns the last number that an event had.
    async fn last_event(&mut self) -> StoreResult<i64>;
    /// Marks the source as left, if no collector has used it since it was marked as the source of this move.
    async fn leave(&mut self, id: &str) -> StoreResult<()>;
    /// Empties the store, and marks it as the target of a move. It has this salt from now on.
    async fn begin_target(&mut self, id: &str, other: &str, salt: &str) -> StoreResult<()>;
    /// Says whether the store can hold texts with the character NUL.
    fn holds_nul(&self) -> bool;
    /// Writes rows and the progress in one transaction.
    async fn write(&mut self, id: &str, part: MovedPart, rows: Vec<MovedRow>, progress: &str) -> StoreResult<()>;
    /// Completes the target and removes its mark.
    async fn arrive(&mut self, id: &str, last_event: i64) -> StoreResult<()>;
    /// Closes the store.
    async fn close(&mut self) -> StoreResult<()>;
}

/// The result of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Whether the move had been completed before.
    pub was_complete: bool,
    /// Whether the move went on where an earlier attempt had ended.
    pub went_on: bool,
    /// Number of the rows that are at the target, by part.
    pub rows: Vec<(MovedPart, u64)>,
}

fn fault(store: &dyn Movable, what: MoveFault) -> StoreError {
    StoreError { place: store.place().clone(), what: StoreErrorKind::Move(what) }
}

/// Refuses a source from which no move can begin, before anything is made at a new place.
pub async fn check_source(from: &mut dyn Movable) -> StoreResult<()> {
    match from.mark().await?.and_then(|mark| mark.refusal()) {
        Some(refusal) => Err(fault(from, refusal)),
        None => from.unused().await,
    }
}

/// Moves a state, or goes on with a move of the same two stores. `tells` learns the numbers of the rows that are at the
/// target and of all rows.
pub async fn transfer(
    from: &mut dyn Movable,
    to: &mut dyn Movable,
    tells: impl Fn(u64, u64) + Send + Sync,
) -> StoreResult<Moved> {
    let reached = Mutex::new(None);
    let remembers = |moved, all| {
        *reached.lock() = Some((moved, all));
        tells(moved, all);
    };
    let moved = moved(from, to, remembers).await;
    moved.map_err(|error| interrupted(error, *reached.lock()))
}

async fn moved(
    from: &mut dyn Movable,
    to: &mut dyn Movable,
    tells: impl Fn(u64, u64) + Send + Sync,
) -> StoreResult<Moved> {
    let (source, target) = (from.mark().await?, to.mark().await?);
    let role = |mark: &Option<Mark>| mark.as_ref().map(|mark| mark.role);
    if role(&source) == Some(Role::Target) {
        let other = source.map(|mark| mark.other).unwrap_or_default();
        return Err(fault(from, MoveFault::Half { other }));
    }
    let (salt, there) = (from.salt().await?, to.salt().await?);
    let same = |one: &Option<Mark>, other: &Option<Mark>| {
        one.as_ref().zip(other.as_ref()).is_some_and(|(one, other)| one.id == other.id)
    };
    let goes_on = role(&target) == Some(Role::Target) && same(&source, &target);
    if role(&source) == Some(Role::Left) && !goes_on {
        let other = source.map(|mark| mark.other).unwrap_or_default();
        // A copy of the state has the same salt.
        let is_there = salt == there && role(&target).is_none() && other == to.place().to_string();
        return match is_there {
            true => Ok(Moved { was_complete: true, went_on: false, rows: counted(to).await? }),
            false => Err(fault(from, MoveFault::Left { other })),
        };
    }
    let is_marked = target.is_some();
    let (id, progress) = match target.filter(|_| goes_on) {
        Some(mark) => {
            let unread = |error| StoreErrorKind::Damaged(Cause::new(error));
            let progress = serde_json::from_str(&mark.progress);
            (mark.id, progress.map_err(|error| StoreError { place: to.place().clone(), what: unread(error) })?)
        }
        None => {
            // A part of this state, or what it was before it was moved from there, is replaced; anything else is not.
            let is_own = salt == there && is_marked;
            let (scopes, events) = (to.count(MovedPart::Scopes).await?, to.count(MovedPart::Events).await?);
            let others = scopes + events + to.count(MovedPart::Delivered).await? + to.count(MovedPart::Feeds).await?;
            if others > 0 && !is_own {
                return Err(fault(to, MoveFault::Occupied { scopes, events }));
            }
            let id = Uuid::new_v4().simple().to_string();
            let (here, there) = (from.place().to_string(), to.place().to_string());
            from.begin_source(&id, &there).await?;
            failpoint::pass("move-begun");
            to.begin_target(&id, &here, &salt).await?;
            (id, MoveProgress::default())
        }
    };
    let rows = copy(from, to, &id, progress, tells).await?;
    for (part, moved) in &rows {
        let found = to.count(*part).await?;
        if found != *moved {
            let fix = match to.place() {
                StorePlace::File(_) => "move to a new file",
                StorePlace::Server(_) => {
                    "run DROP SCHEMA host_harness CASCADE there, and then the same command again, which begins anew"
                }
            };
            let (part, expected, from) = (part.name(), *moved, from.place().to_string());
            return Err(fault(to, MoveFault::Changed { part, found, expected, fix, from }));
        }
    }
    let last_event = from.last_event().await?;
    from.leave(&id).await?;
    failpoint::pass("move-left");
    to.arrive(&id, last_event).await?;
    Ok(Moved { was_complete: false, went_on: goes_on, rows })
}

/// Copies the rows that are not there yet. Returns the numbers of those that are there.
async fn copy(
    from: &mut dyn Movable,
    to: &mut dyn Movable,
    id: &str,
    mut progress: MoveProgress,
    tells: impl Fn(u64, u64) + Send + Sync,
) -> StoreResult<Vec<(MovedPart, u64)>> {
    let mut all = 0;
    for part in MovedPart::ALL.into_iter().filter(|part| part.is_counted()) {
        all += from.count(part).await?;
    }
    progress.rows.resize(MovedPart::ALL.len(), 0);
    let tells = |progress: &MoveProgress| {
        let counted = MovedPart::ALL.iter().zip(&progress.rows).filter(|(part, _)| part.is_counted());
        tells(counted.map(|(_, rows)| rows).sum(), all);
    };
    tells(&progress);
    while let Some(part) = MovedPart::ALL.get(progress.part).copied() {
        let chunk = from.read(part, &progress.after).await?;
        if chunk.rows.is_empty() {
            (progress.part, progress.after) = (progress.part + 1, Vec::new());
            continue;
        }
        if !to.holds_nul()
            && let Some(nul) = chunk.rows.iter().find_map(|row| nul(part, row))
        {
            return Err(fault(from, nul));
        }
        progress.after = chunk.last;
        progress.rows[progress.part] += chunk.rows.len() as u64;
        let words = serde_json::to_string(&progress).map_err(|error| StoreError {
            place: to.place().clone(),
            what: StoreErrorKind::Other(Cause::new(error)),
        })?;
        to.write(id, part, chunk.rows, &words).await?;
        failpoint::pass("move-chunk");
        tells(&progress);
    }
    let rows = MovedPart::ALL.into_iter().zip(progress.rows).filter(|(part, _)| part.is_counted());
    Ok(rows.collect())
}

/// Bytes of a cell that a message shows.
const SHOWN_BYTES: usize = 80;

/// The columns that tell people which row of its table a row is.
const TELLING: [&str; 10] =
    ["tenant", "feed", "scope", "number", "sink", "subject", "uid", "time", "credential", "origin"];

/// Returns the first text of a row that has the character NUL.
fn nul(part: MovedPart, row: &[Cell]) -> Option<MoveFault> {
    let cells = || part.columns().iter().copied().zip(row);
    let (column, _) = cells().find(|(_, cell)| matches!(cell, Cell::Text(text) if text.contains('\0')))?;
    let table = match (part, column) {
        // A file has the tenants of these rows in another table.
        (MovedPart::Feeds | MovedPart::Figures, "tenant") => MovedPart::Scopes.table(),
        _ => part.table(),
    };
    let shown = |(column, cell): (&str, &Cell)| match cell {
        Cell::Text(text) => Some(format!("{column} {:?}", text::cut(text, SHOWN_BYTES))),
        Cell::Integer(number) => Some(format!("{column} {number}")),
        _ => None,
    };
    let told = TELLING.iter().filter_map(|told| cells().find(|(column, _)| column == told).and_then(shown));
    Some(MoveFault::Nul { table, column, row: told.collect::<Vec<_>>().join(", ") })
}

async fn counted(store: &mut dyn Movable) -> StoreResult<Vec<(MovedPart, u64)>> {
    let mut rows = Vec::new();
    for part in MovedPart::ALL.into_iter().filter(|part| part.is_counted()) {
        rows.push((part, store.count(part).await?));
    }
    Ok(rows)
}

impl fmt::Display for MovedPart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Reads the key of a row: some of its cells.
pub(super) fn key(row: &[Cell], places: &[usize]) -> Vec<MovedKey> {
    let cell = |place: &usize| match row.get(*place) {
        Some(Cell::Integer(number)) => MovedKey::Number(*number),
        Some(Cell::Text(text)) => MovedKey::Text(text.clone()),
        _ => MovedKey::Number(0),
    };
    places.iter().map(cell).collect()
}
