//! Files that this program writes, and the files of secrets that it reads. The program follows no symbolic link to a
//! file that it writes, and only the owner can read a tenant's files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Mode of a file that only its owner may read or open.
pub const OF_OWNER: u32 = 0o600;

/// Opens a regular file for writing, with these `options`. The last part of the path must not be a symbolic link:
/// otherwise, anyone who can write to the folder could choose the file that is written. A new file gets `mode`.
pub fn open(options: &mut OpenOptions, path: &Path, mode: u32) -> io::Result<File> {
    // A pipe is refused below; with this flag, opening it does not wait for a reader.
    let opened = options.mode(mode).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|error| match (error.raw_os_error(), link(path)) {
        (Some(libc::ELOOP), Some(link)) => refused(&link),
        _ => error,
    })?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(refused("something that is not a regular file, expected a regular file")),
    }
}

/// Writes a whole file that only its owner can read: an existing file is replaced, and processes that have it open keep
/// the old bytes. A device, a pipe or a stream of the process such as `/dev/stdout` receives the bytes.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let is_special = |met: fs::Metadata| !met.is_file() && !met.is_dir() && !met.is_symlink();
    if is_stream(path) || fs::symlink_metadata(path).is_ok_and(is_special) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    if let Some(link) = link(path) {
        return Err(refused(&link));
    }
    let mut beside = tempfile::NamedTempFile::new_in(folder(path))?;
    beside.write_all(bytes)?;
    beside.persist(path).map(drop).map_err(|error| error.error)
}

/// The folder of a path.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Says whether a path leads to a stream of the process: the system itself keeps these links.
pub fn is_stream(path: &Path) -> bool {
    ["/dev/fd", "/proc", "/dev/stdout", "/dev/stderr"].iter().any(|place| path.starts_with(place))
}

/// The message about a symbolic link in place of a file that is to be written; `None` if there is no link.
pub fn link(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    let target = folder(path).join(target);
    Some(format!("a symbolic link to {0}, expected a regular file; write the path {0} itself", target.display()))
}

/// The warning about the mode of a file that holds a secret: others may read it, or its group or others may write it.
///
/// Platforms that give a process its secrets as files make them readable for all users of the container or the unit,
/// who are one: Kubernetes with mode 0644, Docker with 0444. On these platforms, the warning concerns write access
/// only.
pub fn too_open(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.mode() & 0o777;
    let of_kubernetes = fs::read_link(path).is_ok_and(|target| target.starts_with("..data"));
    let of_platform = ["/run/secrets", "/var/run/secrets", "/run/credentials"].iter().any(|at| path.starts_with(at));
    let is_read = mode & 0o004 != 0 && !of_kubernetes && !of_platform;
    let may = match (is_read, mode & 0o002 != 0, mode & 0o020 != 0) {
        (true, true, _) => "every user read and write it",
        (false, true, _) => "every user write it",
        (true, false, true) => "its group write it and every user read it",
        (false, false, true) => "its group write it",
        (true, false, false) => "every user read it",
        (false, false, false) => return None,
    };
    Some(format!("{0} has the mode {mode:04o}, which lets {may}, expected 0600: chmod 600 {0}", path.display()))
}

fn refused(found: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("found {found}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_link_is_not_followed_to_a_file_that_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("victim"), "precious").unwrap();
        for (link, target) in [("to-file", "victim"), ("to-nothing", "none"), ("to-itself", "to-itself")] {
            symlink(target, at(link)).unwrap();
            let opened = open(OpenOptions::new().append(true).create(true), &at(link), OF_OWNER);
            let told = [opened.unwrap_err(), write(&at(link), b"mine").unwrap_err()].map(|error| error.to_string());
            let expected = format!("found a symbolic link to {}, expected a regular file", at(target).display());
            assert!(told.iter().all(|told| told.starts_with(&expected)), "{told:?}");
        }
        assert_eq!(fs::read(at("victim")).unwrap(), b"precious");
        assert!(!at("none").exists());
    }

    #[test]
    fn a_pipe_is_no_file_to_append_to_and_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for read in [false, true] {
            assert!(open(OpenOptions::new().read(read).append(true), &pipe, OF_OWNER).is_err());
        }
    }

    #[test]
    fn what_is_written_as_a_whole_is_its_owners_alone_and_leaves_other_names_of_a_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("other"), "precious").unwrap();
        fs::set_permissions(at("other"), fs::Permissions::from_mode(0o666)).unwrap();
        fs::hard_link(at("other"), at("out")).unwrap();
        for name in ["out", "new"] {
            write(&at(name), b"mine").unwrap();
            assert_eq!((fs::read(at(name)).unwrap(), mode(&at(name))), (b"mine".to_vec(), OF_OWNER), "{name}");
        }
        assert_eq!(fs::read(at("other")).unwrap(), b"precious");
        assert!(write(folder.path(), b"mine").is_err(), "a folder");
        write(Path::new("/dev/null"), b"mine").unwrap();
    }

    #[test]
    fn a_secret_that_others_reach_is_told_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "a-secret-of-tests").unwrap();
        // The layout of a volume in Kubernetes.
        symlink(".", folder.path().join("..data")).unwrap();
        symlink("..data/secret", folder.path().join("projected")).unwrap();
        for (mode, expected, in_kubernetes) in [
            (0o600, None, None),
            (0o400, None, None),
            (0o640, None, None),
            (0o644, Some("0644, which lets every user read it,"), None),
            (0o604, Some("0604, which lets every user read it,"), None),
            (0o660, Some("0660, which lets its group write it,"), Some("0660, which lets its group write it,")),
            (0o664, Some("0664, which lets its group write it and every user read it,"), Some("its group write it,")),
            (0o602, Some("0602, which lets every user write it,"), Some("every user write it,")),
            (0o666, Some("0666, which lets every user read and write it,"), Some("every user write it,")),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            for (name, expected) in [("secret", expected), ("projected", in_kubernetes)] {
                let told = too_open(&folder.path().join(name));
                assert_eq!(told.is_some(), expected.is_some(), "{name} {mode:o}: {told:?}");
                assert!(expected.is_none_or(|words| told.unwrap_or_default().contains(words)), "{name} {mode:o}");
            }
        }
        assert_eq!(too_open(&folder.path().join("none")), None);
    }
}
