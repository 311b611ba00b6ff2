//! The free space on the file system of the state. A full disk would stop all feeds together. Below a floor, therefore,
//! only feeds that keep little may keep more, and they share the remaining space.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::files;
use crate::limits;

/// The key of `[collector]` that sets the floor.
pub const KEY_OF_FLOOR: &str = "min_free_bytes";

/// The space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that the user of this program may still write.
    pub free: u64,
    /// Total bytes.
    pub total: u64,
}

impl Room {
    /// Returns the space of the file system with this folder; `None` if the system does not report it.
    pub fn of(folder: &Path) -> Option<Room> {
        let told = rustix::fs::statvfs(folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
        Some(Room { free: bytes(told.f_bavail), total: bytes(told.f_blocks) })
    }

    /// The default floor: a twentieth of a small file system.
    pub fn floor(&self) -> u64 {
        (self.total / 20).min(limits::FREE_BYTES)
    }
}

/// The free space is below the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowSpace {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that should be free.
    pub floor: u64,
}

impl LowSpace {
    /// The bytes that each feed may keep meanwhile. All shares together equal the floor, so that feeds within their
    /// shares do not use up the remaining space.
    pub fn share(&self, feeds: u64) -> u64 {
        self.floor / feeds.max(1)
    }
}

impl fmt::Display for LowSpace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LowSpace { free, floor } = self;
        write!(formatter, "the state has room for {free} more bytes on its disk, less than {floor} ({KEY_OF_FLOOR})")
    }
}

/// Checks the free space, and remembers it for metrics and status page. Cheap to clone.
#[derive(Clone)]
pub struct FreeSpace(Arc<Watched>);

struct Watched {
    room: Box<dyn Fn() -> Option<Room> + Send + Sync>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    free: Option<u64>,
    low: Option<LowSpace>,
    is_told: bool,
}

impl FreeSpace {
    /// Checks the file system of a file; unknown if the system does not report it.
    pub fn of(file: &Path) -> FreeSpace {
        let folder = files::folder(file).to_owned();
        FreeSpace::new(move || Room::of(&folder))
    }

    /// Checks with the function `room`, which returns `None` if the space is unknown.
    pub fn new(room: impl Fn() -> Option<Room> + Send + Sync + 'static) -> FreeSpace {
        FreeSpace(Arc::new(Watched { room: Box::new(room), seen: Mutex::default() }))
    }

    /// Checks the free space, including the `reusable` pages of the state's file, and logs when it becomes too little
    /// and when it is enough again.
    pub(super) fn look(&self, reusable: u64, floor: Option<u64>) -> Option<LowSpace> {
        let room = (self.0.room)();
        let floor = floor.or_else(|| room.map(|room| room.floor())).unwrap_or(0);
        let free = room.map(|room| room.free.saturating_add(reusable));
        let low = free.filter(|free| *free < floor).map(|free| LowSpace { free, floor });
        let mut seen = self.0.seen.lock();
        (seen.free, seen.low) = (free, low);
        if let Some(low) = low
            && !seen.is_told
        {
            seen.is_told = true;
            tracing::warn!(fault = "operator", "{low}: feeds that keep more than their share of it keep nothing new");
        }
        // Small changes around the floor are not logged.
        if seen.is_told && free.is_none_or(|free| free >= floor.saturating_add(floor / 8)) {
            seen.is_told = false;
            tracing::info!("the state has room on its disk again: all feeds continue");
        }
        low
    }

    /// Bytes that were free at the last commit; `None` if unknown.
    pub fn free(&self) -> Option<u64> {
        self.0.seen.lock().free
    }

    /// The shortage at the last commit, if there was one.
    pub fn low(&self) -> Option<LowSpace> {
        self.0.seen.lock().low
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn the_floor_is_the_configured_one_or_follows_from_the_file_system() {
        let low = |free, total, reusable, floor| {
            FreeSpace::new(move || Some(Room { free, total })).look(reusable, floor).map(|low| low.floor)
        };
        assert_eq!(low(9, 1_000, 0, Some(10)), Some(10));
        assert_eq!(low(10, 1_000, 0, Some(10)), None);
        assert_eq!(low(9, 1_000, 1, Some(10)), None, "the file has room within");
        assert_eq!(low(49, 1_000, 0, None), Some(50));
        assert_eq!(low(50, 1_000, 0, None), None);
        assert_eq!(low(0, u64::MAX, 0, None), Some(limits::FREE_BYTES));
        assert_eq!(FreeSpace::new(|| None).look(0, Some(10)), None);
    }

    #[test]
    fn the_room_of_this_machine_is_known() {
        let space = FreeSpace::of(&std::env::temp_dir().join("collector.db"));
        assert_eq!(space.free(), None);
        assert!(space.look(0, Some(u64::MAX)).is_some());
        assert!(space.free().is_some_and(|free| free > 0) && space.low().is_some());
    }

    #[test]
    fn each_crossing_is_told_once() {
        let free = Arc::new(AtomicU64::new(0));
        let reading = Arc::clone(&free);
        let space = FreeSpace::new(move || Some(Room { free: reading.load(Ordering::SeqCst), total: 1_000 }));
        let log = tempfile::NamedTempFile::new().unwrap();
        let subscriber = tracing_subscriber::fmt().with_writer(Arc::new(log.reopen().unwrap())).finish();
        tracing::subscriber::with_default(subscriber, || {
            for bytes in [500, 99, 50, 100, 99, 112, 99] {
                free.store(bytes, Ordering::SeqCst);
                space.look(0, Some(100));
            }
        });
        let told = std::fs::read_to_string(log.path()).unwrap();
        let told: Vec<bool> = told.lines().map(|line| line.contains("room for 99 more bytes")).collect();
        assert_eq!(told, [true, false, true], "too little, enough, too little");
    }
}
