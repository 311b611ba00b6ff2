//! The pages that the steps of one poll give, held to the limits of a poll.

use std::collections::HashSet;

use crate::contract::{Failure, Notice, Page, PollStep};
use crate::failures;
use crate::limits::{Limits, NAME_BYTES};
use crate::text;

/// The results of a poll's steps so far.
#[derive(Debug, Default)]
pub struct PollPages {
    /// The pages, in order.
    pub pages: Vec<Page>,
    /// The warnings.
    pub notices: Vec<Notice>,
    bytes: usize,
    cursors: HashSet<String>,
}

impl PollPages {
    /// Adds a step and returns the cursor of the next step, if there is one. Steps that run in a loop or exceed the
    /// limits of a poll are a failure of the plugin.
    pub fn add(&mut self, step: PollStep, limits: &Limits) -> Result<Option<String>, Failure> {
        self.bytes += step.pages.iter().map(|page| page.body.len()).sum::<usize>();
        if self.bytes > limits.page_bytes {
            let cause = format!("the pages of the poll exceed the limit of {} bytes", limits.page_bytes);
            return Err(failures::PAGE_BYTES_LIMIT.because(cause));
        }
        self.pages.extend(step.pages);
        self.notices.extend(step.notices);
        if self.notices.len() > limits.notices {
            let cause = format!("the steps of the poll exceed the limit of {} notices", limits.notices);
            return Err(failures::NOTICE_LIMIT.because(cause));
        }
        let too_many = || {
            let cause = format!("the poll has more pages than the limit of {}", limits.pages);
            Err(failures::PAGE_LIMIT.because(cause))
        };
        if self.pages.len() > limits.pages {
            return too_many();
        }
        let Some(next) = step.next else { return Ok(None) };
        if !self.cursors.insert(next.clone()) {
            let cause = format!(
                "the links of the pages form a loop: page {} leads back to one that was read, {}",
                self.pages.len(),
                text::plain(text::cut(&next, NAME_BYTES))
            );
            return Err(failures::CURSOR_REPEATED.because(cause));
        }
        // A step may have no page.
        if self.pages.len().max(self.cursors.len()) >= limits.pages {
            return too_many();
        }
        Ok(Some(next))
    }
}
