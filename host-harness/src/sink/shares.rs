//! Shares of disks that are nearly full. One tenant could otherwise fill the disk of event files and dead letters, and
//! the events of all others would wait.
//!
//! Below the floor, a tenant may write an eighth of the free space: its next event must fit, with all that the tenant
//! wrote since the disk became nearly full, into an eighth of the space that is free now. So the space shrinks ever
//! slower and never ends, and tenants that write little go on, however many they are. A file that the free space will
//! hold in any case, because rotation limits it, needs no share. Pure: the room is an argument.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::files::folder;
use crate::limits;
use crate::store::space::{KEY_OF_FLOOR, Room};

/// Bytes that tenants wrote since their disk became nearly full, by disk and tenant.
#[derive(Default)]
pub struct DiskShares(Mutex<BTreeMap<u64, BTreeMap<String, u64>>>);

/// A disk, as seen before some events are written.
#[derive(Debug, Clone)]
pub struct SeenDisk {
    number: u64,
    free: u64,
    floor: u64,
    folder: PathBuf,
}

impl SeenDisk {
    /// Makes what was seen of the disk with the file `path`. Without a configured floor, it follows from the disk's size.
    pub fn new(path: &Path, (number, room): (u64, Room), floor: Option<u64>) -> SeenDisk {
        let floor = floor.unwrap_or_else(|| room.floor());
        SeenDisk { number, free: room.free, floor, folder: folder(path).to_owned() }
    }

    /// The free bytes.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Says whether so many more bytes leave an eighth of the floor free, for the state and for others.
    pub fn holds(&self, bytes: u64) -> bool {
        bytes.saturating_add(self.floor / limits::PARTS_OF_FREE_BYTES) <= self.free
    }

    /// Says whether the disk has less room than the floor.
    pub fn is_low(&self) -> bool {
        self.free < self.floor
    }
}

impl fmt::Display for SeenDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SeenDisk { free, floor, folder, .. } = self;
        write!(
            formatter,
            "the disk of {} has room for {free} more bytes, less than {floor} ({KEY_OF_FLOOR}), and the next \
             event of the tenant does not fit into its share; make room, and its events are written",
            folder.display()
        )
    }
}

impl DiskShares {
    /// Says whether these bytes of a tenant may be written.
    pub fn fits(&self, disk: &SeenDisk, tenant: &str, bytes: u64) -> bool {
        let mut disks = self.0.lock();
        // Small changes around the floor leave the counts as they are.
        if disk.free >= disk.floor.saturating_add(disk.floor / 8) {
            disks.remove(&disk.number);
        }
        let written = disks.get(&disk.number).and_then(|tenants| tenants.get(tenant)).copied().unwrap_or_default();
        !disk.is_low() || written.saturating_add(bytes) <= disk.free / limits::PARTS_OF_FREE_BYTES
    }

    /// Counts these bytes of a tenant if they may be written, and says whether they may.
    pub fn take(&self, disk: &mut SeenDisk, tenant: &str, bytes: u64) -> bool {
        let fits = self.fits(disk, tenant, bytes);
        if fits && disk.is_low() {
            *self.0.lock().entry(disk.number).or_default().entry(tenant.to_owned()).or_default() += bytes;
        }
        if fits {
            disk.free = disk.free.saturating_sub(bytes);
        }
        fits
    }

    /// Takes back bytes that were not written.
    pub fn give_back(&self, disk: &SeenDisk, tenant: &str, bytes: u64) {
        if let Some(written) = self.0.lock().get_mut(&disk.number).and_then(|tenants| tenants.get_mut(tenant)) {
            *written = written.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(free: u64) -> SeenDisk {
        SeenDisk::new(Path::new("/data/a.ndjson"), (7, Room { free, total: u64::MAX }), Some(1_000))
    }

    #[test]
    fn below_the_floor_each_tenant_has_a_part_of_what_is_left() {
        let shares = DiskShares::default();
        let mut low = disk(800);
        assert!(!shares.take(&mut low, "much", 101));
        assert!(shares.take(&mut low, "much", 100) && low.free() == 700);
        assert!(!shares.take(&mut low, "much", 1));
        assert!(shares.take(&mut low, "little", 80));
        shares.give_back(&low, "much", 100);
        assert!(shares.take(&mut low, "much", 70));
    }

    #[test]
    fn enough_room_ends_the_count_and_a_little_more_than_the_floor_does_not() {
        let shares = DiskShares::default();
        assert!(shares.take(&mut disk(u64::MAX), "much", 1 << 40) && shares.take(&mut disk(800), "much", 100));
        assert!(shares.fits(&disk(1_000), "much", 1 << 40) && !shares.fits(&disk(800), "much", 1));
        assert!(shares.fits(&disk(1_125), "much", 1) && shares.fits(&disk(800), "much", 100));
    }

    #[test]
    fn whoever_writes_all_that_it_may_leaves_room_for_others() {
        let (shares, mut low) = (DiskShares::default(), disk(999_999));
        low.floor = 1_000_000;
        for number in 0..20 {
            let tenant = format!("much-{number}");
            while shares.take(&mut low, &tenant, 100) {}
            assert!(shares.take(&mut low, &format!("little-{number}"), 100), "beside {number}");
        }
        assert!(low.free() > 10_000, "{}", low.free());
    }
}
