//! Standard error.

use std::io::{self, Write};

use source_host::text;

/// Says something to people, who may not listen.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::output::say(&format!($($words)*))
    };
}

/// Standard error, on which nothing depends: where nobody can write to it, the work goes on.
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

/// Says something; words of plugins and services are among them.
pub fn say(words: &str) {
    // At once: another thread may say something, too.
    let _ = People.write_all(format!("{}\n", text::plain_lines(words)).as_bytes());
}
