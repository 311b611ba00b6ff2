//! The files of a store: the database, which only its owner can read, and a lock beside it that keeps a second
//! collector out while readers stay possible.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use source_host::cause::{Cause, FileFault};

use crate::files;
use crate::store::StoreErrorKind;

/// The lock file beside the database, locked.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is being started has a copy of the handle until it runs
        // its program, and would hold the lock until then.
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the lock of the state ends with the process");
        }
    }
}

/// The lock file cannot be locked, although nobody else holds it.
#[derive(Debug, thiserror::Error)]
#[error("cannot lock {}: {error}", path.display())]
struct Unlocked {
    path: PathBuf,
    error: std::io::Error,
}

/// Takes the lock file beside the database.
pub(super) fn lock(file: &Path) -> Result<Lock, StoreErrorKind> {
    let mut path = file.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let failed = |error: std::io::Error| StoreErrorKind::Unopened(Cause::new(FileFault { file: path.clone(), error }));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut lock = files::open(&mut options, &path, files::OF_OWNER).map_err(failed)?;
    if !holds_a_lock(&mut lock).map_err(failed)? {
        let found = "found a file that holds something else, expected a lock with the number of a process";
        return Err(StoreErrorKind::Unopened(Cause::new(format!("{}: {found}", path.display()))));
    }
    // Everybody who can open the file can hold the lock.
    if lock.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        lock.set_permissions(fs::Permissions::from_mode(files::OF_OWNER)).map_err(failed)?;
    }
    match lock.try_lock() {
        Ok(()) => {
            let written =
                lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));
            // The number of the process helps people; the lock works without it.
            if let Err(error) = written {
                tracing::debug!(%error, "the lock file does not name the process");
            }
            Ok(Lock(lock))
        }
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            let read = lock.read_to_string(&mut process).is_ok();
            Err(StoreErrorKind::Locked { process: process.parse().ok().filter(|_| read) })
        }
        Err(TryLockError::Error(error)) => Err(StoreErrorKind::Other(Cause::new(Unlocked { path, error }))),
    }
}

/// Says whether a file is a lock or empty: the number of the process must not be written into somebody's other file.
fn holds_a_lock(file: &mut File) -> std::io::Result<bool> {
    let mut found = Vec::new();
    file.take(u64::from(u8::MAX)).read_to_end(&mut found)?;
    file.rewind()?;
    // After a loss of power, zeros can stand in place of the number.
    Ok(found.len() <= 10 && found.iter().all(|byte| byte.is_ascii_digit() || *byte == 0))
}

/// Makes a new file that only its owner can read: events and states are the tenants' data.
pub(super) fn private(file: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(file).is_ok() {
        return Ok(());
    }
    files::open(OpenOptions::new().write(true).create_new(true), file, files::OF_OWNER)?.sync_all()?;
    File::open(files::folder(file))?.sync_all()
}
