//! The search as it would be if time did not matter, for tests and fuzzers: every way to read every place is gone to its
//! end.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Search;
use crate::credentials::redact::escapes::readings;

/// Where a needle ends, by the place at which it goes on and by how much of it is left.
type Known = BTreeMap<(usize, usize), Option<usize>>;

impl Search {
    /// Where secrets stand, one after the other.
    pub fn plainly(&self, text: &[u8]) -> Vec<Range<usize>> {
        let (mut found, mut at) = (Vec::<Range<usize>>::new(), 0);
        while at < text.len() {
            let ends = self.needles.iter().filter_map(|needle| {
                let end = spelled(text, at, &needle.text, None)?;
                needle.rests.iter().map(|rest| rest.end(text, end)).max()
            });
            match ends.max() {
                Some(end) => {
                    found.push(at..end);
                    at = end;
                }
                None => at += 1,
            }
        }
        found
    }
}

/// The furthest place at which what is left of a needle ends.
fn spelled(text: &[u8], at: usize, left: &[u8], known: Option<&mut Known>) -> Option<usize> {
    if left.is_empty() {
        return Some(at);
    }
    let (is_begun, mut first) = (known.is_some(), Known::new());
    let known = known.unwrap_or(&mut first);
    if let Some(end) = known.get(&(at, left.len())) {
        return *end;
    }
    let mut further = None;
    for (read, next) in readings(text, at).filter(|(read, _)| is_begun || !read.as_bytes().is_empty()) {
        if let Some(left) = left.strip_prefix(read.as_bytes()) {
            further = further.max(spelled(text, next, left, Some(&mut *known)));
        }
    }
    known.insert((at, left.len()), further);
    further
}
