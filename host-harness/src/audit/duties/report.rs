//! The result of all duties, for programs and for people.

use serde::Serialize;

use super::evidence::Evidence;
use super::{DUTIES, Duty};

/// The result of all duties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// Whether the host polled, and broke no duty.
    pub ok: bool,
    /// The result of each duty.
    pub duties: Vec<DutyRow>,
    /// The end of what the host printed, where it never polled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub printed: Option<String>,
}

/// The result of one duty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DutyRow {
    /// Name of the duty.
    pub duty: &'static str,
    /// Whether the host keeps the duty.
    pub status: DutyVerdict,
    /// The breach that succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Whether a host keeps a duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DutyVerdict {
    /// The breach was tried and stopped.
    Kept,
    /// The breach succeeded.
    Broken,
    /// The host did not come so far that the breach was tried, or nothing of it can be seen.
    NotSeen,
}

impl HostReport {
    pub(super) fn of(all: &Evidence) -> HostReport {
        let row = |duty: &Duty| {
            let (status, why) = match ((duty.breach)(all), (duty.was_tried)(all)) {
                (Some(why), _) => (DutyVerdict::Broken, Some(why)),
                (None, true) => (DutyVerdict::Kept, None),
                (None, false) => (DutyVerdict::NotSeen, None),
            };
            DutyRow { duty: duty.name, status, why }
        };
        let duties: Vec<DutyRow> = DUTIES.iter().map(row).collect();
        let printed = (!all.polled_any()).then(|| all.last_words());
        let ok = printed.is_none() && duties.iter().all(|row| row.status != DutyVerdict::Broken);
        HostReport { ok, duties, printed }
    }

    /// Says whether every duty was tried.
    pub fn is_complete(&self) -> bool {
        self.duties.iter().all(|row| row.status != DutyVerdict::NotSeen)
    }

    /// The report for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (row, duty) in self.duties.iter().zip(DUTIES) {
            let status = match row.status {
                DutyVerdict::Kept => "kept",
                DutyVerdict::Broken => "BROKEN",
                DutyVerdict::NotSeen => "not seen",
            };
            text += &format!("{:15}  {status:8} {}\n", row.duty, duty.asks);
            if let Some(why) = &row.why {
                text += &format!("{:26}{why}\n", "");
            }
        }
        if let Some(printed) = &self.printed {
            text += &format!("the host polled nothing; it printed:\n{printed}\n");
        }
        text
    }
}
