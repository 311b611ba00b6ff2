//! The work in progress. Code notes its work here, and a reporter reads the notes from time to time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Notes of the work in progress. Cheap to clone; the notes need no reader.
#[derive(Clone, Default)]
pub struct Progress {
    notes: Arc<Mutex<Notes>>,
    announce: Option<Announce>,
}

type Announce = Arc<dyn Fn(&str) + Send + Sync>;

#[derive(Default)]
struct Notes {
    last: u64,
    /// Current notes, in the order in which they began.
    current: Vec<Note>,
}

struct Note {
    number: u64,
    words: String,
    since: Instant,
    is_told: bool,
}

impl Progress {
    /// Makes notes whose announcements are passed on at once.
    pub fn announcing(announce: impl Fn(&str) + Send + Sync + 'static) -> Progress {
        Progress { notes: Arc::default(), announce: Some(Arc::new(announce)) }
    }

    /// Notes work that begins; the note ends when the returned value is dropped.
    pub fn begin(&self, words: impl Into<String>) -> Doing {
        let mut notes = self.notes.lock();
        notes.last += 1;
        let number = notes.last;
        notes.current.push(Note { number, words: words.into(), since: Instant::now(), is_told: false });
        Doing { progress: self.clone(), number }
    }

    /// Announces rare and long work at once.
    pub fn announce(&self, words: &str) {
        if let Some(announce) = &self.announce {
            announce(words);
        }
    }

    /// Returns the work that has lasted this long and was not returned before, as one line.
    pub fn longer_than(&self, time: Duration) -> Option<String> {
        let mut notes = self.notes.lock();
        let long = notes.current.iter_mut().filter(|note| !note.is_told && note.since.elapsed() >= time);
        let mut words = long.map(|note| {
            note.is_told = true;
            note.words.clone()
        });
        let first = words.next()?;
        Some(match words.count() {
            0 => first,
            more => format!("{first} (and {more} more at the same time)"),
        })
    }
}

/// Work in progress.
pub struct Doing {
    progress: Progress,
    number: u64,
}

impl Doing {
    /// Notes the next step of the work.
    pub fn says(&self, words: impl Into<String>) {
        if let Some(note) = self.progress.notes.lock().current.iter_mut().find(|note| note.number == self.number) {
            (note.words, note.since, note.is_told) = (words.into(), Instant::now(), false);
        }
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        self.progress.notes.lock().current.retain(|note| note.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once_and_what_ended_never() {
        let progress = Progress::default();
        let told = || progress.longer_than(Duration::ZERO);
        let (first, _second) = (progress.begin("a"), progress.begin("b"));
        drop(progress.begin("c"));
        assert_eq!(progress.longer_than(Duration::from_secs(3_600)), None);
        assert_eq!(told().as_deref(), Some("a (and 1 more at the same time)"));
        assert_eq!(told(), None);
        first.says("d");
        assert_eq!(told().as_deref(), Some("d"));
    }
}
