//! The search without regard to time, for tests and fuzzers: it follows every reading of every place to its end.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Search;
use crate::credentials::redact::escapes::readings;

/// The ends of a needle, by the place at which the text continues and by the length of the rest of the needle.
type Known = BTreeMap<(usize, usize), Option<usize>>;

impl Search {
    /// Returns the places of the secrets, one after the other.
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

/// Returns the furthest place at which the rest of a needle ends.
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
