//! Standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic;
use std::sync::OnceLock;

use host_harness::limits;
use source_host::blame::Blame;
use source_host::text;

use super::lines::WaitingLines;

/// Writes a message for people, even if nobody reads it.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::output::say(&format!($($words)*))
    };
}

/// Lines that wait for the thread that writes standard error, if there is one.
static WAITING: OnceLock<WaitingLines> = OnceLock::new();

/// Standard error, on which nothing depends: the work continues if it cannot be written.
pub struct People;

/// Has a thread of its own write standard error from now on. A program that runs for ever must not wait for the reader of
/// its log; the other commands wait, because a person who reads page by page wants every line.
pub fn wait_for_nobody() -> io::Result<()> {
    std::thread::Builder::new().name("log".to_owned()).spawn(|| {
        let waiting = WAITING.get_or_init(waiting_lines);
        waiting.write(io::stderr(), |lines| {
            let fault = Blame::Operator.word();
            tracing::warn!(
                fault,
                lines,
                "lines of the log were dropped, because standard error was not read fast enough"
            );
        })
    })?;
    WAITING.get_or_init(waiting_lines);
    // The hook of the standard library would wait, too.
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = Backtrace::capture();
        let backtrace = match backtrace.status() {
            BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        say(&format!("thread '{}' {panic}{backtrace}", thread.name().unwrap_or("<unnamed>")));
        // The process may end with this panic.
        flush();
    }));
    Ok(())
}

fn waiting_lines() -> WaitingLines {
    WaitingLines::new(limits::LOG_WAITING_BYTES, limits::LOG_PATIENCE)
}

/// Waits for a short time until everything is written.
pub fn flush() {
    if let Some(waiting) = WAITING.get() {
        waiting.flush(limits::LAST_LINES, limits::ALL_LAST_LINES);
    }
}

impl Write for People {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match WAITING.get() {
            Some(waiting) => waiting.push(bytes),
            None => drop(io::stderr().write_all(bytes)),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a message, which may contain text of plugins and services.
pub fn say(words: &str) {
    // Written at once, because another thread may write a message, too.
    let _ = People.write_all(format!("{}\n", text::plain_lines(words)).as_bytes());
}
