//! The content of the disk: the bytes and names that a loss of power leaves.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::recording::{FileNumber, Operation};

/// The fate of bytes and names that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All are gone.
    Gone,
    /// Of bytes that were there, each sector is the old or the new one; of bytes that a file was to grow by, the first
    /// ones are there, perhaps with zeros in the place of the others. Each name is the old or the new one. The number
    /// chooses.
    Torn(u64),
    /// All are there.
    There,
}

/// The bytes that a disk writes at once.
const SECTOR: usize = 512;

/// A disk: the content that is safe, and the changes that are not yet.
#[derive(Debug, Clone, Default)]
pub struct Platter {
    files: BTreeMap<FileNumber, Content>,
    names: BTreeMap<PathBuf, Named>,
    changes: Vec<Operation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    File(FileNumber),
    Folder,
}

#[derive(Debug, Clone, Default)]
struct Content {
    safe: Vec<u8>,
    changes: Vec<Operation>,
}

impl Platter {
    pub(crate) fn add(&mut self, path: &Path, number: FileNumber, safe: Vec<u8>) {
        self.files.insert(number, Content { safe, changes: Vec::new() });
        self.names.insert(path.to_owned(), Named::File(number));
    }

    pub(crate) fn add_folder(&mut self, path: &Path) {
        self.names.insert(path.to_owned(), Named::Folder);
    }

    /// Does an operation.
    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Write(number, ..) | Operation::Resize(number, _) => {
                self.files.entry(*number).or_default().changes.push(operation.clone());
            }
            Operation::Sync(number) => {
                let content = self.files.entry(*number).or_default();
                content.safe = content.remains(Fate::There, &mut Dice(0));
                content.changes.clear();
            }
            Operation::SyncFolder(folder) => {
                let is_of_folder = |path: &PathBuf| path.parent() == Some(folder);
                let (synced, others) = std::mem::take(&mut self.changes).into_iter().partition(|change| match change {
                    Operation::Rename(from, to) => is_of_folder(from) || is_of_folder(to),
                    Operation::Make(path, _) | Operation::MakeFolder(path) | Operation::Remove(path) => {
                        is_of_folder(path)
                    }
                    _ => false,
                });
                self.changes = others;
                let synced: Vec<Operation> = synced;
                synced.iter().for_each(|change| name(&mut self.names, change));
            }
            Operation::Make(..) | Operation::MakeFolder(_) | Operation::Rename(..) | Operation::Remove(_) => {
                self.changes.push(operation.clone());
            }
        }
    }

    /// Writes what a loss of power leaves of the folder `from` into another one, which is empty.
    pub fn lose_power(&self, fate: Fate, from: &Path, to: &Path) -> io::Result<()> {
        let mut dice = Dice(if let Fate::Torn(seed) = fate { seed } else { 0 });
        let mut names = self.names.clone();
        for change in &self.changes {
            if fate == Fate::There || fate != Fate::Gone && dice.coin() {
                name(&mut names, change);
            }
        }
        for (path, named) in &names {
            let inside = path.strip_prefix(from).map_err(io::Error::other)?;
            // Names in a folder that has no name are lost with it.
            if inside.ancestors().skip(1).any(|above| above != Path::new("") && !names.contains_key(&from.join(above)))
            {
                continue;
            }
            match named {
                Named::Folder => fs::create_dir(to.join(inside))?,
                Named::File(number) => {
                    let content = self.files.get(number).cloned().unwrap_or_default();
                    fs::write(to.join(inside), content.remains(fate, &mut dice))?;
                }
            }
        }
        Ok(())
    }
}

/// Does a change of names; nothing if there is not what it changes.
fn name(names: &mut BTreeMap<PathBuf, Named>, change: &Operation) {
    match change {
        Operation::Make(path, number) => drop(names.insert(path.clone(), Named::File(*number))),
        Operation::MakeFolder(path) => drop(names.insert(path.clone(), Named::Folder)),
        Operation::Remove(path) => drop(names.remove(path)),
        Operation::Rename(from, to) => {
            if let Some(named) = names.remove(from) {
                names.insert(to.clone(), named);
            }
        }
        _ => {}
    }
}

impl Content {
    /// Returns the bytes after a loss of power.
    fn remains(&self, fate: Fate, dice: &mut Dice) -> Vec<u8> {
        let (mut bytes, mut size, mut grows) = (self.safe.clone(), self.safe.len(), true);
        if fate == Fate::Gone {
            return bytes;
        }
        let mut stays = || fate == Fate::There || dice.coin();
        for change in &self.changes {
            match change {
                Operation::Resize(_, to) => {
                    size = *to as usize;
                    if size < bytes.len() && stays() || size > bytes.len() && grows {
                        bytes.resize(size, 0);
                    }
                }
                Operation::Write(_, offset, written) => {
                    let begin = *offset as usize;
                    size = size.max(begin + written.len());
                    let (mut at, end) = (begin, begin + written.len());
                    while at < end {
                        let next = end.min((at / SECTOR + 1) * SECTOR);
                        let is_growth = next > bytes.len();
                        let is_there = if is_growth { grows && stays() } else { stays() };
                        if is_there {
                            bytes.resize(bytes.len().max(next), 0);
                            bytes[at..next].copy_from_slice(&written[at - begin..next - begin]);
                        }
                        grows &= is_there || !is_growth;
                        at = next;
                    }
                }
                _ => {}
            }
        }
        if size > bytes.len() && stays() {
            bytes.resize(size, 0);
        }
        bytes
    }
}

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn coin(&mut self) -> bool {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str) -> PathBuf {
        Path::new("/disk").join(name)
    }

    fn platter(operations: &[Operation]) -> Platter {
        let mut platter = Platter::default();
        platter.add(&at("old"), 0, vec![1; 1_024]);
        operations.iter().for_each(|operation| platter.apply(operation));
        platter
    }

    /// Returns the names and the bytes that a loss of power leaves.
    fn left(platter: &Platter, fate: Fate) -> BTreeMap<String, Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        platter.lose_power(fate, Path::new("/disk"), folder.path()).unwrap();
        let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        entries.filter(|path| path.is_file()).map(|path| (name(&path), fs::read(&path).unwrap())).collect()
    }

    #[test]
    fn bytes_are_safe_when_their_file_is_synced() {
        let write = Operation::Write(0, 0, vec![2; 1_024]);
        let old = |byte| BTreeMap::from([("old".to_owned(), vec![byte; 1_024])]);
        let written = platter(std::slice::from_ref(&write));
        assert_eq!((left(&written, Fate::Gone), left(&written, Fate::There)), (old(1), old(2)));
        assert_eq!(left(&platter(&[write.clone(), Operation::Sync(0)]), Fate::Gone), old(2));
        assert_eq!(left(&platter(&[Operation::Sync(0), write]), Fate::Gone), old(1));
    }

    #[test]
    fn names_are_safe_when_their_folder_is_synced() {
        let made = [Operation::Make(at("new"), 1), Operation::Write(1, 0, vec![3]), Operation::Sync(1)];
        let renamed = [Operation::Rename(at("old"), at("older"))];
        let removed = [Operation::Remove(at("old"))];
        for (operations, names) in [(&made[..], "new old"), (&renamed, "older"), (&removed, "")] {
            let names_left = |platter: &Platter| left(platter, Fate::Gone).into_keys().collect::<Vec<_>>().join(" ");
            assert_eq!(names_left(&platter(operations)), "old");
            let synced = [operations, &[Operation::SyncFolder("/disk".into())]].concat();
            assert_eq!(names_left(&platter(&synced)), names);
            let elsewhere = [operations, &[Operation::SyncFolder(at("folder"))]].concat();
            assert_eq!(names_left(&platter(&elsewhere)), "old");
        }
    }

    #[test]
    fn what_is_in_a_folder_without_a_name_is_gone() {
        let within =
            [Operation::MakeFolder(at("out")), Operation::Make(at("out/new"), 1), Operation::SyncFolder(at("out"))];
        let folder = tempfile::tempdir().unwrap();
        platter(&within).lose_power(Fate::Gone, Path::new("/disk"), folder.path()).unwrap();
        assert!(!folder.path().join("out").exists());
        let named = [&within[..], &[Operation::SyncFolder("/disk".into())]].concat();
        platter(&named).lose_power(Fate::Gone, Path::new("/disk"), folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join("out/new")).unwrap(), b"");
    }

    #[test]
    fn torn_bytes_are_old_and_new_sectors_and_the_beginning_of_what_grew() {
        let written = platter(&[Operation::Write(0, 512, vec![2; 1_536])]);
        let mut seen = Vec::new();
        for seed in 0..50 {
            let bytes = left(&written, Fate::Torn(seed))["old"].clone();
            assert!(bytes.len().is_multiple_of(512) && (1_024..=2_048).contains(&bytes.len()), "{}", bytes.len());
            let sectors: String = bytes.chunks(512).map(|sector| char::from(b'0' + sector[511])).collect();
            assert!(!sectors.trim_end_matches('0').contains('0'), "{sectors}: zeros in the middle");
            seen.push(sectors);
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ["11", "1100", "112", "1120", "1122", "12", "1200", "122", "1220", "1222"]);
    }
}
