//! A disk that loses power, and with it the bytes and names that were not synced.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use host_harness::files::folder;
use host_harness::sink::disk::{Disk, OpenFile};
use host_harness::store::space::Room;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The fate of unsynced bytes in a power cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rest {
    Nothing,
    /// A beginning that ends within a line stays.
    Torn,
    /// Everything stays, including unsynced names.
    All,
}

/// The behaviour of a sync.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sync {
    Honest,
    /// The disk only claims to sync.
    Nothing,
}

/// The disk as one process sees it, until the power cut.
#[derive(Clone)]
pub struct Mounted {
    platter: Arc<Mutex<Platter>>,
    is_off: Arc<AtomicBool>,
    pub went_off: Arc<Notify>,
}

impl Mounted {
    pub fn new(platter: &Arc<Mutex<Platter>>, operations: usize) -> Mounted {
        platter.lock().left = operations;
        Mounted { platter: Arc::clone(platter), is_off: Arc::default(), went_off: Arc::default() }
    }

    /// Performs one operation, unless the power is off.
    fn operate<T>(&self, operation: impl FnOnce(&mut Platter) -> T) -> io::Result<T> {
        let mut platter = self.platter.lock();
        if self.is_off.load(Ordering::SeqCst) || platter.left == 0 {
            self.is_off.store(true, Ordering::SeqCst);
            self.went_off.notify_one();
            return Err(io::Error::other("no power"));
        }
        platter.left -= 1;
        Ok(operation(&mut platter))
    }
}

impl Disk for Mounted {
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let file = self.operate(|platter| {
            let next = platter.files.len();
            let file = *platter.names.entry(path.to_owned()).or_insert(next);
            if file == next {
                platter.files.push(Content::default());
            }
            file
        })?;
        self.operate(Platter::sync_names)?;
        Ok(Box::new(Handle { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(|platter| {
            let file = platter.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            platter.names.insert(to.to_owned(), file);
            io::Result::Ok(())
        })??;
        self.operate(Platter::sync_names)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(|platter| platter.names.remove(path).map(drop).ok_or(io::ErrorKind::NotFound))??;
        Ok(())
    }

    fn list(&self, of: &Path) -> io::Result<Vec<PathBuf>> {
        self.operate(|platter| platter.names.keys().filter(|path| folder(path) == of).cloned().collect())
    }

    fn size(&self, path: &Path) -> io::Result<Option<u64>> {
        self.operate(|platter| platter.names.get(path).map(|file| platter.files[*file].bytes.len() as u64))
    }

    fn room(&self, _: &Path) -> Option<(u64, Room)> {
        None
    }
}

/// The durable content of a disk, and the content that the system shows.
pub struct Platter {
    sync: Sync,
    pub files: Vec<Content>,
    pub names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Operations until the power cut.
    left: usize,
}

impl Platter {
    pub fn new(sync: Sync) -> Platter {
        let (names, durable_names) = (BTreeMap::new(), BTreeMap::new());
        Platter { sync, files: Vec::new(), names, durable_names, left: usize::MAX }
    }

    fn sync_names(&mut self) {
        if self.sync == Sync::Honest {
            self.durable_names = self.names.clone();
        }
    }

    /// Leaves the content that the next process finds.
    pub fn lose_power(&mut self, rest: Rest) {
        for Content { bytes, durable } in &mut self.files {
            let unsynced = bytes.strip_prefix(&**durable).map(<[u8]>::len);
            match (rest, unsynced) {
                (Rest::All, _) => {}
                (Rest::Torn, Some(unsynced)) => bytes.truncate(durable.len() + unsynced * 2 / 3),
                (Rest::Nothing, _) | (Rest::Torn, None) => bytes.clone_from(durable),
            }
            durable.clone_from(bytes);
        }
        match rest {
            Rest::All => self.durable_names = self.names.clone(),
            Rest::Nothing | Rest::Torn => self.names = self.durable_names.clone(),
        }
    }
}

#[derive(Default)]
pub struct Content {
    pub bytes: Vec<u8>,
    durable: Vec<u8>,
}

struct Handle {
    disk: Mounted,
    file: usize,
}

impl OpenFile for Handle {
    fn size(&self) -> io::Result<u64> {
        self.disk.operate(|platter| platter.files[self.file].bytes.len() as u64)
    }

    /// This disk has no clock.
    fn modified(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn read(&mut self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        self.disk.operate(|platter| {
            let bytes = &platter.files[self.file].bytes[offset as usize..];
            bytes[..most.min(bytes.len())].to_vec()
        })
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.disk.operate(|platter| platter.files[self.file].bytes.truncate(size as usize))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // The power may fail in the middle.
        let (begin, end) = bytes.split_at(bytes.len() / 2);
        self.disk.operate(|platter| platter.files[self.file].bytes.extend_from_slice(begin))?;
        self.disk.operate(|platter| platter.files[self.file].bytes.extend_from_slice(end))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.operate(|platter| {
            let sync = platter.sync;
            let Content { bytes, durable } = &mut platter.files[self.file];
            if sync == Sync::Honest {
                durable.clone_from(bytes);
            }
        })
    }

    fn is_own(&self) -> bool {
        true
    }

    fn is_at(&self, path: &Path) -> bool {
        self.disk.platter.lock().names.get(path) == Some(&self.file)
    }
}
