//! Stores for tests: in memory, with a free space that a test decides about, or without syncs. No collector uses them.

use std::path::PathBuf;

use rusqlite::Connection;

use super::schema::prepare;
use super::{SqliteStore, classify};
use crate::store::space::FreeSpace;
use crate::store::{StoreError, StoreResult};

/// Makes a store in memory, which ends with the process.
pub fn in_memory() -> StoreResult<SqliteStore> {
    let file = PathBuf::from("memory");
    let opened = Connection::open_in_memory().and_then(|mut connection| {
        prepare(&mut connection)?;
        Ok(connection)
    });
    let connection = opened.map_err(|error| StoreError::of_file(&file, classify(error)))?;
    Ok(SqliteStore { connection, file, space: FreeSpace::new(|| None), _lock: None })
}

/// The store with this check of its free space.
pub fn with_space(store: SqliteStore, space: FreeSpace) -> SqliteStore {
    SqliteStore { space, ..store }
}

/// The store without syncs: a loss of power takes polls that it acknowledged.
pub fn without_syncs(store: SqliteStore) -> StoreResult<SqliteStore> {
    let set = store.connection.pragma_update(None, "synchronous", "OFF");
    set.map_err(|error| StoreError::of_file(&store.file, classify(error)))?;
    Ok(store)
}
