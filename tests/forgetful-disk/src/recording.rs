//! The operations on the files below a folder, in their order.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::platter::Platter;

/// The number of a file in a recording. It stays when the file gets another name.
pub type FileNumber = usize;

/// A change of the disk, or a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A new, empty file.
    Make(PathBuf, FileNumber),
    /// A new folder.
    MakeFolder(PathBuf),
    /// Bytes at an offset.
    Write(FileNumber, u64, Vec<u8>),
    /// Another size.
    Resize(FileNumber, u64),
    /// A file is to have all its bytes after a loss of power.
    Sync(FileNumber),
    /// A folder is to have all its names after a loss of power.
    SyncFolder(PathBuf),
    /// Another name.
    Rename(PathBuf, PathBuf),
    /// A name less.
    Remove(PathBuf),
}

/// A folder whose operations are recorded, until the value is dropped.
pub struct Recording {
    folder: PathBuf,
    begin: Platter,
}

/// The recorded operations of a folder.
pub(crate) struct Recorded {
    pub folder: PathBuf,
    /// The files by device and inode.
    files: HashMap<(u64, u64), FileNumber>,
    next: FileNumber,
    pub operations: Vec<Operation>,
}

static RECORDED: Mutex<Vec<Recorded>> = Mutex::new(Vec::new());

/// The number of recordings, so that calls cost nothing while there are none.
static RECORDINGS: AtomicUsize = AtomicUsize::new(0);

/// The process that records.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// All recordings, locked: the order of the operations is the one in which the system does them. `None` if there is no
/// recording, or in a process that was forked and has not yet begun its program: another thread may have had the lock.
pub(crate) fn recorded() -> Option<MutexGuard<'static, Vec<Recorded>>> {
    let is_recording = RECORDINGS.load(Ordering::SeqCst) > 0 && PROCESS.load(Ordering::SeqCst) == std::process::id();
    is_recording.then(|| RECORDED.lock())
}

impl Recording {
    /// Begins to record a folder. Its present content is safe. Only absolute paths are recorded, without symbolic links.
    pub fn begin(folder: &Path) -> io::Result<Recording> {
        let folder = fs::canonicalize(folder)?;
        let (mut begin, mut files) = (Platter::default(), HashMap::new());
        let mut folders = vec![folder.clone()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next)? {
                let (path, met) =
                    (entry.as_ref().map_or_else(|_| PathBuf::new(), fs::DirEntry::path), entry?.metadata()?);
                if met.is_dir() {
                    begin.add_folder(&path);
                    folders.push(path);
                } else {
                    let number = files.len();
                    files.insert((met.dev(), met.ino()), number);
                    begin.add(&path, number, fs::read(&path)?);
                }
            }
        }
        let next = files.len();
        RECORDED.lock().push(Recorded { folder: folder.clone(), files, next, operations: Vec::new() });
        PROCESS.store(std::process::id(), Ordering::SeqCst);
        RECORDINGS.fetch_add(1, Ordering::SeqCst);
        Ok(Recording { folder, begin })
    }

    /// The recorded folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The disk at the beginning.
    pub fn at_begin(&self) -> Platter {
        self.begin.clone()
    }

    /// The number of operations until now.
    pub fn len(&self) -> usize {
        self.with(|recorded| recorded.operations.len())
    }

    /// Says whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The operations until now.
    pub fn operations(&self) -> Vec<Operation> {
        self.with(|recorded| recorded.operations.clone())
    }

    fn with<T>(&self, read: impl FnOnce(&Recorded) -> T) -> T {
        let recorded = RECORDED.lock();
        let of_folder = recorded.iter().find(|recorded| recorded.folder == self.folder);
        read(of_folder.expect("a folder is recorded until the value is dropped"))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDED.lock().retain(|recorded| recorded.folder != self.folder);
        RECORDINGS.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Recorded {
    /// The number of a file that is recorded.
    pub fn number(&self, inode: (u64, u64)) -> Option<FileNumber> {
        self.files.get(&inode).copied()
    }

    /// Forgets an inode, which another file has now.
    pub fn forget(&mut self, inode: (u64, u64)) {
        self.files.remove(&inode);
    }

    /// Records a new file.
    pub fn make(&mut self, path: &Path, inode: (u64, u64)) {
        self.files.insert(inode, self.next);
        self.operations.push(Operation::Make(path.to_owned(), self.next));
        self.next += 1;
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::os::unix::fs::FileExt;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn each_change_by_the_standard_library_is_recorded_in_its_order() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| folder.path().join(name);
        fs::write(at("before"), "old").unwrap();
        let recording = Recording::begin(folder.path()).unwrap();
        fs::write(other.path().join("elsewhere"), "unseen").unwrap();
        fs::create_dir(at("out")).unwrap();
        let mut file = OpenOptions::new().append(true).create(true).open(at("out/one")).unwrap();
        file.write_all(b"ab").unwrap();
        file.write_all(b"cd").unwrap();
        file.sync_data().unwrap();
        file.set_len(1).unwrap();
        File::open(at("out")).unwrap().sync_all().unwrap();
        fs::rename(at("out/one"), at("out/two")).unwrap();
        OpenOptions::new().write(true).open(at("before")).unwrap().write_all_at(b"N", 1).unwrap();
        fs::write(at("before"), "new").unwrap();
        fs::remove_file(at("before")).unwrap();
        assert_eq!(fs::remove_file(at("none")).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
        assert_eq!(File::open(at("none")).map_err(|error| error.kind()).err(), Some(io::ErrorKind::NotFound));
        let bytes = |text: &str| text.as_bytes().to_vec();
        assert_eq!(
            recording.operations(),
            [
                Operation::MakeFolder(at("out")),
                Operation::Make(at("out/one"), 1),
                Operation::Write(1, 0, bytes("ab")),
                Operation::Write(1, 2, bytes("cd")),
                Operation::Sync(1),
                Operation::Resize(1, 1),
                Operation::SyncFolder(at("out")),
                Operation::Rename(at("out/one"), at("out/two")),
                Operation::Write(0, 1, bytes("N")),
                Operation::Resize(0, 0),
                Operation::Write(0, 0, bytes("new")),
                Operation::Remove(at("before")),
            ]
        );
        drop(recording);
        fs::write(at("after"), "unseen").unwrap();
        assert_eq!(Recording::begin(folder.path()).unwrap().len(), 0);
    }

    #[test]
    #[expect(unsafe_code, reason = "a function that runs between fork and exec")]
    fn a_forked_process_does_not_wait_for_a_recording() {
        let folder = tempfile::tempdir().unwrap();
        let _recording = Recording::begin(folder.path()).unwrap();
        let mut program = Command::new("true");
        // SAFETY: opening a file takes no lock that another thread may have had.
        unsafe { program.pre_exec(|| File::open("/").map(drop)) };
        let held = recorded();
        let ended = program.status();
        drop(held);
        assert!(ended.unwrap().success());
    }
}
