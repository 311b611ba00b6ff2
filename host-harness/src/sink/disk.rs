//! The seam to the file system, so that a test can replace it by a disk that is full or whose operations fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use source_host::limits::milliseconds;

use crate::files::{self, folder};
use crate::store::space::Room;

/// The operations that sinks need of a file system.
pub trait Disk: Send + Sync {
    /// Opens a file for appending, and makes the file and its folders if they are missing. The file's name is durable
    /// when the function returns.
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;
    /// Renames a file; the new name is durable when the function returns.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Lists the files of a folder; empty if there is no such folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    /// Returns the size of a file in bytes, without opening it; `None` if it is missing. Anything but a regular file has 0.
    fn size(&self, path: &Path) -> io::Result<Option<u64>>;
    /// Returns the file system to which a file belongs or would belong, by its number, and its space; `None` if unknown.
    fn room(&self, path: &Path) -> Option<(u64, Room)>;
}

/// A file that is appended to.
pub trait OpenFile: Send {
    /// The size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// When the content last changed, in Unix milliseconds.
    fn modified(&self) -> io::Result<u64>;
    /// Reads bytes from an offset on, up to `most` of them.
    fn read(&mut self, offset: u64, most: usize) -> io::Result<Vec<u8>>;
    /// Cuts the file to a size.
    fn truncate(&mut self, size: u64) -> io::Result<()>;
    /// Appends bytes.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all data is safe from a power cut.
    fn sync(&mut self) -> io::Result<()>;
    /// Says whether the file belongs to the user of this program and has no other name. A sink cuts nothing off the files of
    /// others.
    fn is_own(&self) -> bool;
    /// Says whether this path leads to the file, which somebody may have moved or removed.
    fn is_at(&self, path: &Path) -> bool;
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

struct RealFile(File);

/// Says what a path leads to if events cannot be appended and synced there, and what to write instead; `None` for a
/// regular file and for a missing one. A symbolic link is not a regular file.
pub fn unfit(path: &Path) -> Option<String> {
    use std::os::unix::fs::FileTypeExt;
    if files::is_stream(path) {
        return Some("a stream of the process, expected a regular file; write type = \"stdout\"".to_owned());
    }
    let Some(kind) = fs::metadata(path).ok().map(|met| met.file_type()) else { return files::link(path) };
    let found = match kind {
        _ if kind.is_file() => return files::link(path),
        _ if kind.is_dir() => return Some("a folder, expected a regular file in it".to_owned()),
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => {
            return Some("a socket, expected a regular file, or a sink of type = \"http\"".to_owned());
        }
        _ => "a device",
    };
    Some(format!("{found}, expected a regular file; write type = \"stdout\" and redirect standard output there"))
}

/// Makes a folder and its missing parents; their names are durable when the function returns.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = files::folder(folder);
    make(above)?;
    match fs::DirBuilder::new().mode(0o750).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        made => made?,
    }
    sync(above)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        if let Some(unfit) = unfit(path) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("found {unfit}")));
        }
        make(folder(path))?;
        let file = files::open(OpenOptions::new().read(true).append(true).create(true), path, 0o640)?;
        // Without a sync of its folder, the name of a new file can be lost; the file may also be new since a crash.
        sync(folder(path))?;
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync(folder(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(folder) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn size(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(met) => Ok(Some(if met.is_file() { met.len() } else { 0 })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn room(&self, path: &Path) -> Option<(u64, Room)> {
        let mut above = folder(path);
        // The folders of a new file are made with it.
        while !above.is_dir() && above != Path::new(".") {
            above = folder(above);
        }
        Some((fs::metadata(above).ok()?.dev(), Room::of(above)?))
    }
}

impl OpenFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn modified(&self) -> io::Result<u64> {
        let modified = self.0.metadata()?.modified()?;
        Ok(milliseconds(modified.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }

    fn read(&mut self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        self.0.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        (&self.0).take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn is_own(&self) -> bool {
        self.0.metadata().is_ok_and(|met| met.uid() == rustix::process::geteuid().as_raw() && met.nlink() == 1)
    }

    fn is_at(&self, path: &Path) -> bool {
        let number = |met: fs::Metadata| (met.dev(), met.ino());
        let here = self.0.metadata().map(number).ok();
        here.is_some() && here == fs::symlink_metadata(path).map(number).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_appended_to_regular_files_alone() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        fs::write(folder.path().join("victim"), "{\"half\":").unwrap();
        std::os::unix::fs::symlink("victim", folder.path().join("to-file")).unwrap();
        std::os::unix::fs::symlink("none", folder.path().join("to-nothing")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        for (path, expected) in [
            (Path::new("/dev/stdout"), "a stream of the process"),
            (Path::new("/proc/self/fd/1"), "a stream of the process"),
            (Path::new("/dev/null"), "a device"),
            (&link, "a device"),
            (folder.path(), "a folder"),
            (&folder.path().join("socket"), "a socket"),
            (&folder.path().join("to-file"), "a symbolic link to "),
            (&folder.path().join("to-nothing"), "a symbolic link to "),
        ] {
            let told = unfit(path).unwrap_or_default();
            assert!(told.starts_with(expected), "{}: {told}", path.display());
            assert!(RealDisk.open(path).is_err(), "{}", path.display());
        }
        assert_eq!(unfit(&folder.path().join("none")), None);
        assert_eq!(fs::read(folder.path().join("victim")).unwrap(), b"{\"half\":");
    }

    #[test]
    fn a_file_with_another_name_may_be_somebody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(RealDisk.open(&at("live")).unwrap().is_own());
        fs::hard_link(at("live"), at("other")).unwrap();
        assert!(!RealDisk.open(&at("live")).unwrap().is_own());
    }

    #[test]
    fn a_file_that_a_link_took_the_place_of_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let file = RealDisk.open(&at("live")).unwrap();
        assert!(file.is_at(&at("live")));
        fs::rename(at("live"), at("moved")).unwrap();
        std::os::unix::fs::symlink("moved", at("live")).unwrap();
        assert!(!file.is_at(&at("live")));
    }

    #[test]
    fn other_users_read_neither_a_new_file_nor_its_new_folders() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        RealDisk.open(&at("a/b/c.ndjson")).unwrap();
        for path in ["a", "a/b", "a/b/c.ndjson"] {
            assert_eq!(fs::metadata(at(path)).unwrap().mode() & 0o007, 0, "{path}");
        }
    }
}
