//! The imports that a plugin may have, and the modes of the hostile plugin that abuse each of them.

use std::collections::BTreeSet;

use source_host::plugin::ALLOWED_IMPORTS;

use super::cases::CASES;
use crate::limits::LIMITS;
use crate::mode::Mode;
use crate::security::Table;
use crate::support::hostile::hostile;

/// Each import that a plugin may have, with the modes of the hostile plugin that abuse it.
const ABUSED: &[(&str, &[Mode])] = &[
    ("wasi:http/types", &[Mode::Fields, Mode::Headers, Mode::RequestWords, Mode::AddressBytes]),
    ("wasi:http/outgoing-handler", &[Mode::Requests, Mode::RequestsDenied, Mode::HostDenied, Mode::HttpInNormalize]),
    ("wasi:io/error", &[]),
    ("wasi:io/poll", &[Mode::Pollables, Mode::Handles]),
    ("wasi:io/streams", &[Mode::Zeroes, Mode::RequestBytes]),
    ("wasi:clocks/monotonic-clock", &[Mode::Wait, Mode::ClockInEvent]),
    ("collector:source/log", &[Mode::LogLines, Mode::LogBytes, Mode::LogEscapes, Mode::WordsForged]),
    ("collector:source/credentials", &[Mode::Assertion]),
    ("collector:source/plugin", &[]),
];

/// The table in SECURITY.md.
pub fn imports() -> Table {
    let row = |(import, modes): &(&str, &[Mode])| {
        let modes = if modes.is_empty() {
            "none: types, or the words of an error".to_owned()
        } else {
            modes.iter().map(|mode| mode.word()).collect::<Vec<_>>().join(", ")
        };
        vec![format!("`{import}`"), modes]
    };
    Table {
        title: "Imports that a plugin may have",
        how: "`tests/tricks/imports.rs` has every import that a plugin may have, and the modes of the hostile plugin that abuse it. The tables \"Limits of a plugin\" and \"A plugin that means harm\" have the result of each mode.",
        columns: &["import", "modes"],
        rows: ABUSED.iter().map(row).collect(),
    }
}

#[test]
fn every_allowed_import_is_abused() {
    let abused: Vec<&str> = ABUSED.iter().map(|(import, _)| *import).collect();
    assert_eq!(abused, ALLOWED_IMPORTS);
    let rows: BTreeSet<Mode> =
        CASES.iter().map(|case| case.mode).chain(LIMITS.iter().map(|limit| limit.mode)).collect();
    for (import, modes) in ABUSED {
        let imported = |known: &String| known.split('@').next() == Some(import);
        let has_nothing = ["wasi:io/error", "collector:source/plugin"].contains(import);
        assert_eq!(modes.is_empty(), has_nothing, "{import}");
        assert!(modes.is_empty() || hostile().about().imports.iter().any(imported), "{import}");
        let elsewhere = |mode: &&Mode| !rows.contains(*mode) && ![Mode::LogLines, Mode::LogBytes].contains(*mode);
        assert_eq!(modes.iter().find(elsewhere), None, "{import}");
    }
}
