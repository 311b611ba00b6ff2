//! Runs every input of the fuzzers' corpus through the same checks, so that the tests find again what a fuzzer found
//! once.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::root;

#[path = "../fuzz/src/guest.rs"]
mod guest;
#[path = "../fuzz/src/host.rs"]
mod host;
#[path = "../fuzz/src/hostile.rs"]
mod hostile;

fn check(targets: impl IntoIterator<Item = (&'static str, fn(&[u8]))>) {
    for (target, check) in targets {
        let files = std::fs::read_dir(root().join("fuzz/corpus").join(target)).unwrap();
        let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "{target}");
        for file in files {
            // The test shows its output when a check panics.
            eprintln!("{}", file.display());
            check(&std::fs::read(&file).unwrap());
        }
    }
}

#[test]
fn the_plugin_withstands_the_corpus() {
    check(guest::targets());
}

#[test]
fn the_host_withstands_the_corpus() {
    check(host::targets());
}

#[test]
fn the_host_withstands_the_corpus_of_attacks() {
    check(hostile::targets());
}

#[test]
fn every_corpus_has_its_fuzzer() {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(root().join("fuzz").join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    let targets: BTreeSet<String> = [guest::targets(), host::targets(), hostile::targets()]
        .iter()
        .flat_map(BTreeMap::keys)
        .map(|name| (*name).to_owned())
        .collect();
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("fuzz_targets"), targets);
}
