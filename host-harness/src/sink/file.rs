//! Appends lines to a file. Lines are synced before they count as delivered, an incomplete line is cut when the file is
//! opened, and a large or old file is rotated.
//!
//! The rotation is our own code: libraries neither sync a line before it counts as delivered nor cut an incomplete
//! line, and they take files of other programs for their own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use source_host::clock::Clock;
use source_host::failpoint;
use source_host::limits::milliseconds;

use super::disk::{Disk, OpenFile};
use super::{DeliveryFuture, SinkClosed, SinkTrouble, Stall, Writer, bodies, lines};
use crate::files::folder;
use crate::limits;
use crate::store::Queued;

/// A file of lines.
pub struct LineFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    rotation: Option<Rotation>,
    open: Option<Box<dyn OpenFile>>,
}

/// When a file is rotated, how many rotated files are kept, and how they are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Size in bytes at which the file is rotated.
    pub bytes: u64,
    /// The periods, counted from 1970 in UTC: a file that was last written in an earlier one is rotated.
    pub every: Option<Duration>,
    /// Number of rotated files that are kept; without it, all are kept.
    pub keep_files: Option<u64>,
    /// The names of rotated files.
    pub aside: Aside,
}

impl LineFile {
    /// Makes a file that is opened at the first write. Without a rotation, the file grows without limit.
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf, rotation: Option<Rotation>) -> LineFile {
        LineFile { disk, path, rotation, open: None }
    }

    /// Appends whole lines and syncs them; `now` is Unix time in milliseconds. After an error, the file is opened again,
    /// and some of the lines may already be in it.
    pub fn append(&mut self, lines: &[u8], now: u64) -> io::Result<()> {
        let appended = self.try_append(lines, now);
        if appended.is_err() {
            self.open = None;
        }
        appended
    }

    fn try_append(&mut self, lines: &[u8], now: u64) -> io::Result<()> {
        let (mut file, modified) = match self.open.take().filter(|file| file.is_at(&self.path)) {
            Some(file) => {
                let modified = file.modified()?;
                (file, modified)
            }
            None => opened(&*self.disk, &self.path)?,
        };
        let size = file.size()?;
        if let Some(rotation) = self.rotation.filter(|rotation| rotation.is_due(size, modified, now)) {
            drop(file);
            self.put_aside(rotation)?;
            (file, _) = opened(&*self.disk, &self.path)?;
        }
        failpoint::pass("file-append");
        let before = file.size()?;
        let written = file.append(lines).and_then(|()| {
            failpoint::pass("file-appended");
            file.sync()
        });
        if let Err(error) = written {
            // Another reader should see an incomplete event only for a short time, and no copy for each attempt to sync.
            let _ = file.truncate(before);
            return Err(error);
        }
        failpoint::pass("file-synced");
        self.open = Some(file);
        Ok(())
    }

    /// Renames the file to the number after the highest one, and removes the oldest file if the number of files is
    /// limited.
    fn put_aside(&self, rotation: Rotation) -> io::Result<()> {
        let aside = self.aside(rotation.aside)?;
        let next = aside.last().map_or(1, |(number, _)| number + 1);
        failpoint::pass("file-rotate");
        self.disk.rename(&self.path, &rotation.aside.path(&self.path, next))?;
        failpoint::pass("file-renamed");
        if let Some(keep) = rotation.keep_files {
            let surplus = (aside.len() as u64 + 1).saturating_sub(keep);
            for (_, path) in aside.iter().take(usize::try_from(surplus).unwrap_or(usize::MAX)) {
                // Delivery continues: a surplus file is no reason to hold events back.
                if let Err(error) = self.disk.remove(path) {
                    tracing::warn!(file = %path.display(), "cannot remove the file, which is one more than are kept: {error}");
                }
            }
        }
        Ok(())
    }

    /// Returns the bytes by which the file and its rotated files may still grow until each rotation removes as much as
    /// was written; `None` if all rotated files are kept.
    pub fn growth(&self) -> io::Result<Option<u64>> {
        let Some(Rotation { bytes, every, keep_files: Some(keep), aside }) = self.rotation else { return Ok(None) };
        let put_aside = self.aside(aside)?;
        let mut growth = keep.saturating_sub(put_aside.len() as u64).saturating_mul(bytes);
        if every.is_some() {
            // A file that was put aside for its age may be followed by a larger one.
            let kept = usize::try_from(keep).unwrap_or(usize::MAX);
            for (_, path) in put_aside.iter().rev().take(kept) {
                // Somebody may have removed the file since the folder was listed.
                let size = self.disk.size(path)?.unwrap_or_default();
                growth = growth.saturating_add(bytes.saturating_sub(size));
            }
        }
        let live = self.disk.size(&self.path)?.unwrap_or_default();
        Ok(Some(growth.saturating_add(bytes.saturating_sub(live))))
    }

    /// Lists the rotated files, the oldest first.
    fn aside(&self, names: Aside) -> io::Result<Vec<(u64, PathBuf)>> {
        let files = self.disk.list(folder(&self.path))?.into_iter();
        let mut aside: Vec<(u64, PathBuf)> = files
            .filter_map(|path| {
                let (live, number) = names.split(path.file_name()?.to_str()?)?;
                (self.path.file_name()? == live).then_some((number, path))
            })
            .collect();
        aside.sort();
        Ok(aside)
    }
}

impl Rotation {
    /// Says whether a file of this size, last written at `modified`, is rotated before the next line.
    fn is_due(self, size: u64, modified: u64, now: u64) -> bool {
        // After the clock was set back, the file stays.
        let is_old = |every| now / milliseconds(every) > modified / milliseconds(every);
        size >= self.bytes || size > 0 && self.every.is_some_and(is_old)
    }
}

/// The naming of rotated files, which never resembles that of another live file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// `NAME.1`, for names that end in a text of the configuration: after another ending, no id can produce this name.
    Numbered,
    /// `NAME.1~`, for names that end in an id, a digit or a dot: an id may be `contoso.1`, but never contains `~`.
    Marked,
}

impl Aside {
    /// Returns the path of a rotated file.
    fn path(self, live: &Path, number: u64) -> PathBuf {
        let mut name = live.as_os_str().to_owned();
        name.push(match self {
            Aside::Numbered => format!(".{number}"),
            Aside::Marked => format!(".{number}~"),
        });
        PathBuf::from(name)
    }

    /// Splits the name of a rotated file into the live file's name and the number.
    pub fn split(self, name: &str) -> Option<(&str, u64)> {
        let name = match self {
            Aside::Numbered => name,
            Aside::Marked => name.strip_suffix('~')?,
        };
        let (live, digits) = name.rsplit_once('.')?;
        let number: u64 = digits.parse().ok().filter(|number| *number < u64::MAX)?;
        (!live.is_empty() && number.to_string() == digits).then_some((live, number))
    }
}

/// Opens a file and mends its end. An incomplete event is the rest of a write that a crash interrupted and that was
/// never acknowledged; it is cut. Any other text without a line end comes from another program, and gets a line end.
/// Also returns when the file was last written before, in Unix milliseconds.
fn opened(disk: &dyn Disk, path: &Path) -> io::Result<(Box<dyn OpenFile>, u64)> {
    failpoint::pass("file-open");
    let mut file = disk.open(path)?;
    let modified = file.modified()?;
    let size = file.size()?;
    let mut end = size;
    while end > 0 {
        let begin = end.saturating_sub(limits::FILE_STEP_BYTES);
        let bytes = file.read(begin, usize::try_from(end - begin).unwrap_or(usize::MAX))?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            end = begin + at as u64 + 1;
            break;
        }
        end = begin;
    }
    if end == size {
        return Ok((file, modified));
    }
    let rest = file.read(end, usize::try_from(size - end).unwrap_or(usize::MAX).min(limits::HALF_EVENT_BYTES + 1))?;
    // Zeros in place of data that was never written are as lost as an incomplete event.
    let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let is_whole = || text.len() == rest.len() && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
    let half_event =
        text.is_empty() || (text.starts_with(b"{") && text.len() <= limits::HALF_EVENT_BYTES && !is_whole());
    let is_own = file.is_own();
    if half_event && is_own {
        tracing::warn!(file = %path.display(), "cut {} bytes of an incomplete event at the end", size - end);
        failpoint::pass("file-cut");
        file.truncate(end)?;
    } else {
        match half_event && !is_own {
            true => tracing::warn!(
                file = %path.display(),
                "the last line is an incomplete event, and was given an end: a file of another user, or one with another \
                 name (a hard link), is not cut"
            ),
            false => {
                tracing::warn!(file = %path.display(), "the last line did not end in a line break, which was added")
            }
        }
        file.append(b"\n")?;
    }
    file.sync()?;
    Ok((file, modified))
}

/// The writer of a partition to a file.
pub struct FileWriter {
    file: Option<LineFile>,
    clock: Clock,
}

impl FileWriter {
    /// Makes a writer to this file.
    pub fn new(file: LineFile, clock: Clock) -> FileWriter {
        FileWriter { file: Some(file), clock }
    }
}

impl Writer for FileWriter {
    fn take<'a>(&'a mut self, batch: &'a [Queued]) -> DeliveryFuture<'a> {
        Box::pin(async move {
            let Some(mut file) = self.file.take() else {
                return Err(Stall::Closed(SinkClosed::WriterLost).into());
            };
            let (lines, now) = (lines(bodies(batch)), (self.clock)());
            // Syncing blocks for milliseconds.
            let written = tokio::task::spawn_blocking(move || {
                let result = file.append(&lines, now);
                (file, result)
            });
            let (file, result) = written.await.map_err(Stall::from)?;
            let path = file.path.clone();
            self.file = Some(file);
            let told = |error: io::Error| SinkTrouble::of_file(format!("cannot write {}: {error}", path.display()));
            result.map_err(|error| Stall::from(told(error)).into()).map(|()| None)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::disk::RealDisk;
    use super::*;

    fn file(folder: &Path, bytes: u64, keep_files: Option<u64>) -> LineFile {
        rotating(folder, Rotation { bytes, every: None, keep_files, aside: Aside::Numbered })
    }

    fn rotating(folder: &Path, rotation: Rotation) -> LineFile {
        LineFile::new(Arc::new(RealDisk), folder.join("a/b.ndjson"), Some(rotation))
    }

    fn read(folder: &Path, name: &str) -> String {
        std::fs::read_to_string(folder.join("a").join(name)).unwrap()
    }

    #[test]
    fn half_an_event_is_cut_when_the_file_is_opened_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(200_000);
        for (found, left) in [
            ("{}\n{\"ha".to_owned(), "{}\n".to_owned()),
            ("{\"half".to_owned(), String::new()),
            ("{}\n\0\0\0".to_owned(), "{}\n".to_owned()),
            (format!("{{}}\n{{\"ha{}", "\0".repeat(500_000)), "{}\n".to_owned()),
            (format!("{{}}\n{long}\n{{\"ha"), format!("{{}}\n{long}\n")),
            (format!("{{}}\n{long}\n"), format!("{{}}\n{long}\n")),
            ("{}\n".to_owned(), "{}\n".to_owned()),
            // The text is not an incomplete event but somebody's line without an end.
            ("{\"precious\": 1}".to_owned(), "{\"precious\": 1}\n".to_owned()),
            ("a\n-----END KEY-----".to_owned(), "a\n-----END KEY-----\n".to_owned()),
            (format!("{{{long}"), format!("{{{long}\n")),
        ] {
            let path = folder.path().join("a");
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("b.ndjson"), &found).unwrap();
            file(folder.path(), 1 << 30, None).append(b"{1}\n", 0).unwrap();
            assert_eq!(read(folder.path(), "b.ndjson"), format!("{left}{{1}}\n"));
        }
    }

    #[test]
    fn a_file_that_somebody_moved_or_removed_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = file(folder.path(), 1 << 30, None);
        file.append(b"first\n", 0).unwrap();
        std::fs::rename(folder.path().join("a/b.ndjson"), folder.path().join("a/moved")).unwrap();
        file.append(b"second\n", 0).unwrap();
        std::fs::remove_file(folder.path().join("a/b.ndjson")).unwrap();
        file.append(b"third\n", 0).unwrap();
        assert_eq!((&*read(folder.path(), "moved"), &*read(folder.path(), "b.ndjson")), ("first\n", "third\n"));
    }

    #[test]
    fn a_large_file_is_put_aside_under_the_next_number() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = file(folder.path(), 8, Some(2));
        for number in 0..5 {
            file.append(format!("line {number}\nmore\n").as_bytes(), 0).unwrap();
        }
        assert_eq!(read(folder.path(), "b.ndjson"), "line 4\nmore\n");
        assert_eq!(read(folder.path(), "b.ndjson.4"), "line 3\nmore\n");
        assert_eq!(read(folder.path(), "b.ndjson.3"), "line 2\nmore\n");
        assert!(!folder.path().join("a/b.ndjson.2").exists());
    }

    const DAY: u64 = 86_400_000;

    /// Appends a line at a time by a writer of its own, as after a restart.
    fn append_at(folder: &Path, time: u64, line: &str, keep_files: Option<u64>) {
        let every = Some(Duration::from_millis(DAY));
        let mut file = rotating(folder, Rotation { bytes: 1 << 30, every, keep_files, aside: Aside::Numbered });
        file.append(line.as_bytes(), time).unwrap();
        file.append(b"more\n", time).unwrap();
        let written = std::fs::File::options().append(true).open(folder.join("a/b.ndjson")).unwrap();
        written.set_modified(std::time::UNIX_EPOCH + Duration::from_millis(time)).unwrap();
    }

    #[test]
    fn a_file_of_an_earlier_day_is_put_aside_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        for (time, line) in [
            (10 * DAY + 5, "one\n"),
            (11 * DAY - 1, "the same day\n"),
            (11 * DAY, "two\n"),
            // The clock was set back.
            (11 * DAY - 7, "earlier\n"),
            (11 * DAY + 7, "two again\n"),
            (15 * DAY, "three\n"),
            (16 * DAY, "four\n"),
        ] {
            append_at(folder.path(), time, line, Some(2));
        }
        assert!(!folder.path().join("a/b.ndjson.1").exists(), "two are kept");
        assert!(!folder.path().join("a/b.ndjson.2").exists(), "two are kept");
        assert_eq!(read(folder.path(), "b.ndjson.3"), "two again\nmore\n");
        assert_eq!(read(folder.path(), "b.ndjson.4"), "three\nmore\n");
        assert_eq!(read(folder.path(), "b.ndjson"), "four\nmore\n");
    }

    #[test]
    fn half_an_event_of_an_earlier_day_is_cut_before_its_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/b.ndjson"), "{}\n{\"ha").unwrap();
        let written = std::fs::File::options().append(true).open(folder.path().join("a/b.ndjson")).unwrap();
        written.set_modified(std::time::UNIX_EPOCH + Duration::from_millis(10 * DAY)).unwrap();
        append_at(folder.path(), 11 * DAY, "{\"next\":1}\n", None);
        assert_eq!(read(folder.path(), "b.ndjson.1"), "{}\n");
        assert_eq!(read(folder.path(), "b.ndjson"), "{\"next\":1}\nmore\n");
    }

    #[test]
    fn a_file_that_was_put_aside_for_its_age_leaves_room_to_larger_ones() {
        let folder = tempfile::tempdir().unwrap();
        let every = Some(Duration::from_millis(DAY));
        let mut file =
            rotating(folder.path(), Rotation { bytes: 10, every, keep_files: Some(2), aside: Aside::Numbered });
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/b.ndjson.1"), "1234\n").unwrap();
        assert_eq!(file.growth().unwrap(), Some(10 + 5 + 10));
        file.append(b"123456789\n", 0).unwrap();
        assert_eq!(file.growth().unwrap(), Some(10 + 5));
    }

    #[test]
    fn the_growth_opens_no_file_and_makes_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join("a").join(name);
        let every = Some(Duration::from_millis(DAY));
        let file = rotating(folder.path(), Rotation { bytes: 10, every, keep_files: Some(3), aside: Aside::Numbered });
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(at("b.ndjson.1"), "1234\n").unwrap();
        std::fs::set_permissions(at("b.ndjson.1"), std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        std::fs::create_dir(at("b.ndjson.2")).unwrap();
        // A link to nothing is listed, as is a file that is removed after the folder was listed.
        std::os::unix::fs::symlink(at("removed"), at("b.ndjson.3")).unwrap();
        assert_eq!(file.growth().unwrap(), Some(5 + 10 + 10 + 10));
        assert!(!at("removed").exists() && !at("b.ndjson").exists());
    }

    #[test]
    fn a_file_grows_until_rotation_removes_as_much_as_is_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(file(folder.path(), 10, None).growth().unwrap(), None);
        let mut file = file(folder.path(), 10, Some(2));
        let mut growths = vec![file.growth().unwrap().unwrap()];
        for _ in 0..8 {
            file.append(b"12345\n", 0).unwrap();
            growths.push(file.growth().unwrap().unwrap());
        }
        assert_eq!(growths, [30, 24, 20, 14, 10, 4, 0, 4, 0]);
    }

    #[test]
    fn only_what_was_put_aside_counts_and_is_removed() {
        let names =
            ["b.ndjson.1", "b.ndjson.1.gz", "b.ndjson.07", "b.ndjson.+8", "b.ndjson.9~", "b.ndjson-2", "xb.ndjson.3"];
        for (aside, old, new) in
            [(Aside::Numbered, "b.ndjson.1", "b.ndjson.2"), (Aside::Marked, "b.ndjson.9~", "b.ndjson.10~")]
        {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("a")).unwrap();
            for name in names {
                std::fs::write(folder.path().join("a").join(name), name).unwrap();
            }
            let mut file = rotating(folder.path(), Rotation { bytes: 8, every: None, keep_files: Some(1), aside });
            file.append(b"the first\n", 0).unwrap();
            file.append(b"the second\n", 0).unwrap();
            assert_eq!(read(folder.path(), new), "the first\n");
            for name in names {
                assert_eq!(folder.path().join("a").join(name).exists(), name != old, "{name} beside {new}");
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_removed_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b.ndjson.1/full")).unwrap();
        let mut file = file(folder.path(), 8, Some(1));
        file.append(b"the first\n", 0).unwrap();
        file.append(b"the second\n", 0).unwrap();
        assert_eq!(read(folder.path(), "b.ndjson.2"), "the first\n");
        assert_eq!(read(folder.path(), "b.ndjson"), "the second\n");
    }
}
