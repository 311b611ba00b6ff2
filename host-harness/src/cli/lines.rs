//! Lines for standard error that a thread of its own writes, so that nobody waits for long while standard error is not
//! read. Beyond a number of bytes, a line waits for a reader, and is dropped and counted if none comes.

use std::collections::VecDeque;
use std::io::Write;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Lines that wait for the thread that writes them.
pub struct WaitingLines {
    most_bytes: usize,
    patience: Duration,
    state: Mutex<QueuedLines>,
    arrived: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct QueuedLines {
    lines: VecDeque<Vec<u8>>,
    /// Bytes of the lines, and of the one that is being written.
    bytes: usize,
    dropped: u64,
    is_writing: bool,
    /// The thread that writes, whose own lines cannot wait for it.
    writer: Option<ThreadId>,
    /// The end of all waits for room, since the queue was full and until half of it is free.
    full_until: Option<Instant>,
}

impl WaitingLines {
    /// Makes an empty queue that takes so many bytes, and in which lines wait for room no longer than `patience`.
    pub fn new(most_bytes: usize, patience: Duration) -> WaitingLines {
        WaitingLines { most_bytes, patience, state: Mutex::default(), arrived: Condvar::new(), written: Condvar::new() }
    }

    /// Takes a line, or counts it if there are too many and no room comes in time. Once the queue is full, further lines
    /// wait until half of it is free.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        let is_own = state.writer == Some(thread::current().id());
        let mut own_end = None;
        while !is_own && (state.full_until.is_some() || state.bytes > 0 && state.bytes + line.len() > self.most_bytes) {
            let end = *state.full_until.get_or_insert_with(|| Instant::now() + self.patience);
            // A queue that is full again before this thread wakes gives it no second wait.
            let end = *own_end.get_or_insert(end);
            if self.written.wait_until(&mut state, end).timed_out() {
                state.dropped += 1;
                return;
            }
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        self.arrived.notify_one();
    }

    /// Writes the lines in order, for ever. Says how many were dropped as soon as half of the queue is free; the line that
    /// says so may go into the queue.
    pub fn write(&self, mut output: impl Write, tell_dropped: impl Fn(u64)) -> ! {
        self.state.lock().writer = Some(thread::current().id());
        loop {
            let line = self.next();
            // A log that cannot be written stops nothing.
            let _ = output.write_all(&line);
            let dropped = self.finish(line.len());
            if dropped > 0 {
                tell_dropped(dropped);
            }
            self.state.lock().is_writing = false;
            self.written.notify_all();
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut state = self.state.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.is_writing = true;
                return line;
            }
            self.arrived.wait(&mut state);
        }
    }

    /// Frees the bytes of a written line, and returns the number of dropped lines if it is time to tell.
    fn finish(&self, bytes: usize) -> u64 {
        let mut state = self.state.lock();
        state.bytes -= bytes;
        if state.bytes > self.most_bytes / 2 {
            return 0;
        }
        state.full_until = None;
        std::mem::take(&mut state.dropped)
    }

    /// Waits until all lines are written, but no longer than `patience` for one line, and `most` for all.
    pub fn flush(&self, patience: Duration, most: Duration) {
        let end = Instant::now() + most;
        let mut state = self.state.lock();
        while state.is_writing || !state.lines.is_empty() {
            let next = end.min(Instant::now() + patience);
            if self.written.wait_until(&mut state, next).timed_out() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Starts a thread that writes to a pipe, of which the end is returned.
    fn piped(most_bytes: usize, patience: Duration) -> (Arc<WaitingLines>, PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        let queue = Arc::new(WaitingLines::new(most_bytes, patience));
        let (writing, telling) = (Arc::clone(&queue), Arc::clone(&queue));
        std::thread::spawn(move || {
            writing.write(writer, |dropped| telling.push(format!("{dropped} dropped\n").as_bytes()))
        });
        (queue, reader)
    }

    #[test]
    fn lines_arrive_in_order_and_are_there_after_a_flush() {
        let (queue, mut reader) = piped(1 << 20, Duration::ZERO);
        let lines: Vec<String> = (0..1_000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| queue.push(line.as_bytes()));
        queue.flush(LONG, LONG);
        let expected = lines.concat();
        let mut found = vec![0; expected.len()];
        reader.read_exact(&mut found).unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), expected);
    }

    #[test]
    fn a_reader_who_is_slower_than_the_lines_gets_them_all() {
        let (queue, mut reader) = piped(100, LONG);
        let reading = std::thread::spawn(move || {
            let mut found = vec![0; 200_000];
            reader.read_exact(&mut found).unwrap();
            found
        });
        // Much more than the pipe and the queue hold.
        let lines: Vec<String> = (0..20_000).map(|number| format!("{number:9}\n")).collect();
        lines.iter().for_each(|line| queue.push(line.as_bytes()));
        assert_eq!(String::from_utf8(reading.join().unwrap()).unwrap(), lines.concat());
        assert_eq!(queue.state.lock().dropped, 0);
    }

    #[test]
    fn a_flush_waits_neither_for_one_line_nor_for_all_for_ever() {
        let queue = WaitingLines::new(100, Duration::ZERO);
        queue.push(b"unread\n");
        let begun = Instant::now();
        queue.flush(Duration::ZERO, LONG);
        queue.flush(LONG, Duration::ZERO);
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_was_dropped_is_told_in_its_place() {
        let (queue, mut reader) = piped(1 << 20, Duration::from_millis(1));
        // More than the pipe and the queue hold.
        let line = format!("{}\n", "x".repeat(9_999));
        for _ in 0..1_000 {
            queue.push(line.as_bytes());
        }
        queue.flush(Duration::ZERO, LONG);
        let (mut found, mut byte) = (Vec::new(), [0]);
        while !found.ends_with(b" dropped\n") {
            reader.read_exact(&mut byte).unwrap();
            found.push(byte[0]);
        }
        let found = String::from_utf8(found).unwrap();
        let (last, whole) =
            found.lines().collect::<Vec<_>>().split_last().map(|(last, all)| (*last, all.len())).unwrap();
        assert_eq!(last, format!("{} dropped", 1_000 - whole));
        assert!(whole > 100, "{whole}");
        queue.push(b"the next\n");
        let mut next = [0; 9];
        reader.read_exact(&mut next).unwrap();
        assert_eq!(&next, b"the next\n");
    }
}
