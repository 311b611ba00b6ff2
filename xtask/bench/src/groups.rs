//! The rows in their order, in groups that need the same tools.

use std::path::{Path, PathBuf};

#[cfg(not(feature = "sandbox"))]
use self::{
    no_engine as sandbox_rows, no_engine as vrl_row, no_engine as jq_row, no_engine as python_row,
    no_engine as tenzir_row, no_engine as scale_rows, no_engine as polled_rows, no_engine as start_rows,
    no_engine as client_rows, no_engine as sdk_rows, no_engine as day_rows,
};
#[cfg(feature = "sandbox")]
use crate::client::rows as client_rows;
#[cfg(feature = "sandbox")]
use crate::mapping::{jq_row, python_row, tenzir_row, vrl_row};
use crate::native;
#[cfg(feature = "sandbox")]
use crate::sandbox::rows as sandbox_rows;
#[cfg(feature = "sandbox")]
use crate::scale::{day_rows, polled_rows, rows as scale_rows};
#[cfg(feature = "sandbox")]
use crate::sdk::rows as sdk_rows;
#[cfg(feature = "sandbox")]
use crate::start::rows as start_rows;
use crate::table::Row;

/// The programs and files that rows need, each `None` if it is not there.
#[derive(Debug, Default)]
pub struct Tools {
    /// The component.
    pub plugin: Option<PathBuf>,
    /// The collector's program, `host-harness`.
    pub harness: Option<PathBuf>,
    /// The folder of the peers' own programs.
    pub peers: PathBuf,
    /// The program that runs VRL.
    pub vrl: Option<PathBuf>,
    /// jq.
    pub jq: Option<PathBuf>,
    /// A Python with Microsoft's packages.
    pub python: Option<PathBuf>,
    /// Tenzir.
    pub tenzir: Option<PathBuf>,
    /// The number of subscriptions beside Microsoft's packages.
    pub subscriptions: usize,
    /// The number of scopes of the day.
    pub scopes: usize,
}

/// The number of subscriptions beside Microsoft's packages, unless another is asked for.
const SUBSCRIPTIONS: usize = 200;

/// The number of scopes of the day, unless another is asked for.
const SCOPES: usize = 1_000_000;

impl Tools {
    /// Returns tools of which only the files of this crate are there.
    pub fn none() -> Tools {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        Tools { peers, subscriptions: SUBSCRIPTIONS, scopes: SCOPES, ..Tools::default() }
    }

    /// Returns a tool, or the reason why the rows that need it are left out.
    pub fn need<'a>(&self, tool: &'a Option<PathBuf>, what: &str) -> Result<&'a Path, Stop> {
        tool.as_deref().ok_or_else(|| Stop::Absent(format!("there is no {what}")))
    }
}

/// The reason why there are no rows.
#[derive(Debug)]
pub enum Stop {
    /// Something that the rows need is not there.
    Absent(String),
    /// Something went wrong.
    Error(String),
}

impl From<String> for Stop {
    fn from(error: String) -> Stop {
        Stop::Error(error)
    }
}

/// Rows that need the same tools.
pub struct Group {
    names: &'static [&'static str],
    /// Makes the rows. A group may leave out a row that is not among the names.
    pub rows: fn(&Tools, &[&'static str]) -> Result<Vec<Row>, Stop>,
}

/// The rows of many feeds.
pub const SCALE: [&str; 22] = [
    "scale-poll-10",
    "scale-poll-100",
    "scale-poll-1000",
    "scale-poll-10000",
    "scale-poll-100000",
    "scale-transaction-10",
    "scale-transaction-100",
    "scale-transaction-1000",
    "scale-transaction-10000",
    "scale-transaction-100000",
    "scale-memory-10",
    "scale-memory-100",
    "scale-memory-1000",
    "scale-memory-10000",
    "scale-memory-100000",
    "scale-lateness-10",
    "scale-lateness-100",
    "scale-lateness-1000",
    "scale-lateness-10000",
    "scale-lateness-100000",
    "scale-idle",
    "scale-in-flight",
];

/// The rows of a day with many scopes, which take an hour and are measured only if they are asked for.
const DAY: [&str; 13] = [
    "day-memory",
    "day-scope",
    "day-peak",
    "day-first",
    "day-first-longest",
    "day-lateness",
    "day-lateness-longest",
    "day-polls",
    "day-poll",
    "day-store",
    "day-elapsed",
    "day-restart",
    "day-page",
];

/// All groups in the order of the table.
const GROUPS: [Group; 12] = [
    Group {
        names: &["native-unchanged", "native-snapshot", "native-first", "native-poll"],
        rows: |_, _| Ok(native::rows()),
    },
    Group {
        names: &[
            "sandbox-describe",
            "sandbox-unchanged",
            "sandbox-snapshot",
            "sandbox-first",
            "sandbox-pages",
            "sandbox-poll",
        ],
        rows: sandbox_rows,
    },
    Group { names: &["mapping-vrl"], rows: vrl_row },
    Group { names: &["mapping-jq"], rows: jq_row },
    Group { names: &["mapping-python"], rows: python_row },
    Group { names: &["mapping-tenzir"], rows: tenzir_row },
    Group { names: &["start-cached", "start-empty"], rows: start_rows },
    Group { names: &["client-polls", "client-processor"], rows: client_rows },
    Group { names: &SCALE, rows: scale_rows },
    Group { names: &DAY, rows: day_rows },
    Group { names: &["resident-10", "resident-100", "resident-400"], rows: polled_rows },
    Group { names: &["sdk-poll-processor", "sdk-poll-memory", "sdk-run-processor", "sdk-run-memory"], rows: sdk_rows },
];

/// Returns the names of all rows in their order.
pub fn names() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|group| group.names).copied()
}

/// Makes no row: the engine takes minutes to build, and this build has none.
#[cfg(not(feature = "sandbox"))]
fn no_engine(_: &Tools, _: &[&'static str]) -> Result<Vec<Row>, Stop> {
    Err(Stop::Absent("this build has no engine".to_owned()))
}

/// Returns the groups with a row that was asked for by its name, or else by the beginning of its name, all of them but the
/// day if nothing was asked for; each with the names of those rows.
pub fn asked_for(only: &[String]) -> Result<Vec<(&'static Group, Vec<&'static str>)>, String> {
    let is_meant = |name: &str, asked: &str| {
        if names().any(|known| known == asked) { name == asked } else { name.starts_with(asked) }
    };
    let is_asked_for = |name: &&&str| match only {
        [] => !DAY.contains(*name),
        only => only.iter().any(|asked| is_meant(name, asked)),
    };
    for beginning in only {
        if !names().any(|name| name.starts_with(beginning.as_str())) {
            let names: Vec<&str> = names().collect();
            return Err(format!("found no row {beginning}, expected the beginning of one of: {}", names.join(", ")));
        }
    }
    let groups = GROUPS.iter().map(|group| (group, group.names.iter().filter(is_asked_for).copied().collect()));
    Ok(groups.filter(|(_, names): &(_, Vec<_>)| !names.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_the_beginning_of_their_names() {
        let names = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|only| (*only).to_owned()).collect();
            let groups = asked_for(&only)?;
            Ok(groups.into_iter().map(|(_, names)| names).collect::<Vec<_>>())
        };
        assert_eq!(
            names(&["native-f", "mapping-vrl", "start"]),
            Ok(vec![vec!["native-first"], vec!["mapping-vrl"], vec!["start-cached", "start-empty"]])
        );
        assert_eq!(names(&["scale-poll-10"]), Ok(vec![vec!["scale-poll-10"]]), "no row with more feeds");
        assert_eq!(names(&["day-lateness"]), Ok(vec![vec!["day-lateness"]]));
        assert_eq!(names(&["day"]), Ok(vec![DAY.to_vec()]));
        assert_eq!(names(&[]).map(|groups| groups.len()), Ok(GROUPS.len() - 1), "all groups but the day");
        let Err::<_, String>(error) = names(&["native", "native-x"]) else { panic!("a row that does not exist") };
        assert!(
            error.starts_with("found no row native-x, expected the beginning of one of: native-unchanged"),
            "{error}"
        );
    }
}
