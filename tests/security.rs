//! The tables of SECURITY.md, made from the rows that the tests run.

use std::fmt::Write;

use crate::{admission, egress, foreign, hostile_service, limits, shares, tricks};

/// A table about one subject.
pub struct Table {
    /// The subject.
    pub title: &'static str,
    /// A sentence that says how the rows are tested.
    pub how: &'static str,
    /// Names of the columns.
    pub columns: &'static [&'static str],
    /// Cells in the order of the columns.
    pub rows: Vec<Vec<String>>,
}

/// Every table. A test of a promise adds its table here.
pub fn tables() -> Vec<Table> {
    vec![
        limits::table(),
        foreign::table(),
        tricks::cases::table(),
        admission::table(),
        shares::table(),
        tricks::imports::imports(),
        egress::attempts(),
        egress::addresses(),
        hostile_service::table(),
    ]
}

/// Returns all text below the line that says that the text is generated.
pub fn text() -> String {
    let mut text = String::new();
    for Table { title, how, columns, rows } in tables() {
        writeln!(text, "\n### {title}\n\n{how}\n").unwrap();
        writeln!(text, "| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len())).unwrap();
        for row in rows {
            assert_eq!(row.len(), columns.len(), "{title}: {row:?}");
            writeln!(text, "| {} |", row.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
                .unwrap();
        }
    }
    text
}
