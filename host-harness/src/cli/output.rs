//! Standard error.

use std::io::{self, Write};

use source_host::text;

/// Writes a message for people, even if nobody reads it.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::output::say(&format!($($words)*))
    };
}

/// Standard error, on which nothing depends: the work continues if it cannot be written.
pub struct People;

impl Write for People {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
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
