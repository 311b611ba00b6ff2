//! Compiled plugins in a folder. They run as native code, so that the folder and each file must belong to this user and
//! be writable by nobody else. A digest in each file reveals damage before the engine loads the code.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::cause::Cause;

/// First bytes of each file. The names of files are derived from them, so that files of another format are never
/// opened.
pub(super) const MAGIC: &[u8; 8] = b"cwasm\0\0\x02";

/// Bytes of the header: the magic bytes, the digest, and the length of the code.
const HEADER_BYTES: usize = MAGIC.len() + 32 + 8;

/// A folder of compiled plugins, which need not exist yet.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    pub folder: PathBuf,
}

/// The reason why a cache, or one file in it, is unusable. Each variant says where the problem is, and what was
/// expected.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    /// The folder is unusable: no file in it is read or written.
    #[error("{} {cause}", folder.display())]
    Folder { folder: PathBuf, cause: Cause },
    /// One file is unusable, and may be replaced.
    #[error("{} {cause}", file.display())]
    File { file: PathBuf, cause: Cause },
}

/// An operation on a file or a folder that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot be {done}: {error}")]
struct Undone {
    done: &'static str,
    error: io::Error,
}

/// Makes such an error the cause of another.
fn undone(done: &'static str) -> impl Fn(io::Error) -> Cause {
    move |error| Cause::new(Undone { done, error })
}

impl Cache {
    /// Reads the code under a name; `None` if there is no such file.
    pub(super) fn load(&self, name: &str) -> Result<Option<Vec<u8>>, CacheError> {
        let Some(folder) = self.open()? else { return Ok(None) };
        let unusable = |cause: Cause| CacheError::File { file: self.folder.join(name), cause };
        let unread = |error: io::Error| unusable(undone("read")(error));
        // A pipe is refused below; with this flag, opening it does not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(unusable(Cause::new("is a symbolic link, expected a regular file"))),
            Err(error) => return Err(unread(error.into())),
        };
        let met = file.metadata().map_err(unread)?;
        if !met.is_file() {
            return Err(unusable(Cause::new("is not a regular file, expected one")));
        }
        if let Some((found, _)) = reach_of_others(&met, 0o600) {
            return Err(unusable(Cause::new(found)));
        }
        match code(file, met.len(), name).map_err(unread)? {
            Some(code) => Ok(Some(code)),
            None => Err(unusable(Cause::new("is damaged: its digest or its length is not that of its content"))),
        }
    }

    /// Writes code under a name. An existing entry is replaced as a whole, so that no reader sees a part of a file.
    pub(super) fn store(&self, name: &str, code: &[u8]) -> Result<(), CacheError> {
        let make = || DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        make().map_err(|error| self.unusable(undone("made")(error)))?;
        let folder = self.open()?.ok_or_else(|| self.unusable(Cause::new("is gone")))?;
        let write = || -> io::Result<()> {
            let mut beside = tempfile::NamedTempFile::new_in(&self.folder)?;
            beside.write_all(&header(name, code))?;
            beside.write_all(code)?;
            beside.as_file().sync_all()?;
            let place = self.folder.join(name);
            // A rename replaces anything but a folder.
            if fs::symlink_metadata(&place).is_ok_and(|met| met.is_dir()) {
                fs::remove_dir_all(&place)?;
            }
            beside.persist(place)?;
            Ok(())
        };
        write().map_err(|error| CacheError::File { file: self.folder.join(name), cause: undone("written")(error) })?;
        // The file is complete and in place. A file system that cannot sync folders may lose the file in a power cut,
        // and nothing else.
        let _ = folder.sync_all();
        Ok(())
    }

    /// Opens the folder, if only this user can write it; `None` if it does not exist. A symbolic link to it is
    /// accepted: systemd makes one for a unit with `DynamicUser=`.
    fn open(&self) -> Result<Option<File>, CacheError> {
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&self.folder);
        let folder = match opened {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(undone("opened")(error))),
        };
        let met = folder.metadata().map_err(|error| self.unusable(undone("read")(error)))?;
        match reach_of_others(&met, 0o700) {
            None => Ok(Some(folder)),
            Some((found, command)) => {
                Err(self.unusable(Cause::new(format!("{found}: {command} {}", self.folder.display()))))
            }
        }
    }

    fn unusable(&self, cause: Cause) -> CacheError {
        CacheError::Folder { folder: self.folder.clone(), cause }
    }
}

/// Says how others may write a file or a folder, with the command that prevents it; `None` if others cannot.
fn reach_of_others(met: &Metadata, expected_mode: u32) -> Option<(String, String)> {
    let user = rustix::process::geteuid().as_raw();
    if met.uid() != user {
        let found = format!("belongs to the user {}, expected {user}, the user of this program", met.uid());
        return Some((found, format!("chown {user}")));
    }
    let mode = met.mode() & 0o7777;
    let found = format!("has the mode {mode:04o}, which lets others write it, expected {expected_mode:04o}");
    (mode & 0o022 != 0).then(|| (found, format!("chmod {expected_mode:o}")))
}

fn header(name: &str, code: &[u8]) -> Vec<u8> {
    // The name has a fixed length for each format, so that no part of it can be taken for code.
    let digest = Sha256::new().chain_update(name).chain_update(code).finalize();
    [&MAGIC[..], &digest[..], &(code.len() as u64).to_le_bytes()[..]].concat()
}

/// Reads the code in a file of this many bytes; `None` if the file is damaged. The lengths are compared first, so that
/// a file which grew without bounds is not read.
fn code(mut file: File, bytes: u64, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut found = [0; HEADER_BYTES];
    match file.read_exact(&mut found) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let (_, length) = found.split_at(HEADER_BYTES - 8);
    let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
    if length.checked_add(HEADER_BYTES as u64) != Some(bytes) {
        return Ok(None);
    }
    let mut code = Vec::new();
    file.take(length).read_to_end(&mut code)?;
    Ok((header(name, &code)[..] == found[..]).then_some(code))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const NAME: &str = "0123.cwasm";
    const CODE: &[u8] = b"native code of one plugin";

    /// Makes a cache with [`CODE`] in it, and returns it with the file that holds the code.
    fn kept() -> (tempfile::TempDir, Cache, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let cache = Cache { folder: outer.path().join("cache") };
        cache.store(NAME, CODE).unwrap();
        let file = cache.folder.join(NAME);
        (outer, cache, file)
    }

    fn loads(cache: &Cache) {
        assert_eq!(cache.load(NAME).unwrap().as_deref(), Some(CODE));
    }

    /// Checks that one file is unusable for this reason, and that new code can replace it.
    fn check_replaced(cache: &Cache, reason: &str) {
        let unusable = cache.load(NAME).unwrap_err();
        let told = unusable.to_string();
        let file = cache.folder.join(NAME);
        assert!(matches!(unusable, CacheError::File { .. }) && told.starts_with(file.to_str().unwrap()), "{told}");
        assert!(told.contains(reason), "{told}");
        cache.store(NAME, CODE).unwrap();
        loads(cache);
        assert_eq!(fs::symlink_metadata(file).unwrap().mode() & 0o7777, 0o600);
    }

    fn mode(path: &std::path::Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn code_is_kept_for_its_name_in_a_folder_for_its_owner_alone() {
        let (_outer, cache, file) = kept();
        loads(&cache);
        assert_eq!(cache.load("4567.cwasm").unwrap(), None);
        assert_eq!(fs::metadata(&cache.folder).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), 1, "nothing is left beside it");
        fs::rename(&file, cache.folder.join("4567.cwasm")).unwrap();
        assert!(cache.load("4567.cwasm").is_err(), "code of another plugin");
        assert_eq!(Cache { folder: cache.folder.join("none") }.load(NAME).unwrap(), None);
    }

    #[test]
    fn each_damage_is_found_and_mended() {
        let (_outer, cache, file) = kept();
        let whole = fs::read(&file).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            fs::write(&file, bytes).unwrap();
            check_replaced(&cache, "is damaged");
            fs::write(&file, &whole[..place]).unwrap();
            check_replaced(&cache, "is damaged");
        }
        let mut zeroed = whole.clone();
        zeroed[whole.len() / 4..whole.len() * 3 / 4].fill(0);
        for bytes in [zeroed, [&whole[..], b"\0"].concat(), whole.repeat(2), vec![0; whole.len()]] {
            fs::write(&file, bytes).unwrap();
            check_replaced(&cache, "is damaged");
        }
        File::options().write(true).open(&file).unwrap().set_len(1 << 40).unwrap();
        check_replaced(&cache, "is damaged");
    }

    #[test]
    fn a_file_that_another_user_could_have_chosen_is_not_loaded() {
        let (outer, cache, file) = kept();
        let elsewhere = outer.path().join("elsewhere");
        fs::rename(&file, &elsewhere).unwrap();
        symlink(&elsewhere, &file).unwrap();
        check_replaced(&cache, "is a symbolic link, expected a regular file");
        assert!(elsewhere.exists(), "the link is replaced, and its target stays");
        fs::remove_file(&file).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        check_replaced(&cache, "is not a regular file");
        fs::remove_file(&file).unwrap();
        fs::create_dir_all(file.join("below")).unwrap();
        symlink(&elsewhere, file.join("below/link")).unwrap();
        check_replaced(&cache, "is not a regular file");
        assert!(elsewhere.exists(), "a folder is replaced, and what links in it lead to stays");
        for (found, reason) in
            [(0o602, "has the mode 0602, which lets others write it, expected 0600"), (0o620, "0620")]
        {
            mode(&file, found);
            check_replaced(&cache, reason);
        }
        mode(&file, 0o444);
        loads(&cache);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_neither_read_nor_written() {
        let (outer, cache, file) = kept();
        let expected = format!("which lets others write it, expected 0700: chmod 700 {}", cache.folder.display());
        for found in [0o777, 0o1777, 0o720, 0o702] {
            mode(&cache.folder, found);
            for unusable in [cache.load(NAME).unwrap_err(), cache.store(NAME, b"other").unwrap_err()] {
                assert!(matches!(unusable, CacheError::Folder { .. }), "{unusable}");
                assert!(unusable.to_string().contains(&expected), "{unusable}");
            }
        }
        mode(&cache.folder, 0o755);
        loads(&cache);
        for folder in [outer.path().join("cache").join(NAME), file.join("below")] {
            let no_folder = Cache { folder };
            assert!(matches!(no_folder.load(NAME), Err(CacheError::Folder { .. })));
            assert!(matches!(no_folder.store(NAME, CODE), Err(CacheError::Folder { .. })));
        }
    }

    #[test]
    fn a_link_may_lead_to_the_folder() {
        let (outer, cache, _) = kept();
        let link = Cache { folder: outer.path().join("link") };
        symlink(&cache.folder, &link.folder).unwrap();
        loads(&link);
        link.store(NAME, CODE).unwrap();
        loads(&cache);
    }
}
