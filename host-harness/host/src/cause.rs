//! Causes of errors: their text, and a type that keeps a cause where several places hold the same error.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Writes an error and its causes on one line. An error that has a cause does not repeat the cause's text.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut words, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        words += &format!(": {error}");
        cause = error.source();
    }
    words
}

/// The error of another library, or a sentence. Two causes are equal if their texts are equal.
#[derive(Debug, Clone)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl Cause {
    /// Keeps an error, or makes an error of a sentence.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Cause {
        Cause(Arc::from(error.into()))
    }

    /// The error itself, for callers that know its type. An error whose message has the cause's words in it offers the cause
    /// here, and not as its source: `chain` would repeat the words.
    pub fn error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }
}

/// An error of the system with the file that it is about. The message around the error names the attempt.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", file.display())]
pub struct FileFault {
    /// The path.
    pub file: PathBuf,
    /// The error of the system.
    pub error: std::io::Error,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl PartialEq for Cause {
    fn eq(&self, other: &Cause) -> bool {
        chain(self) == chain(other)
    }
}

impl Eq for Cause {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the file is not read")]
    struct Unread(#[source] std::io::Error);

    #[test]
    fn a_cause_is_told_with_its_own_causes_once() {
        let unread = || Cause::new(Unread(std::io::Error::other("no room")));
        assert_eq!(chain(&unread()), "the file is not read: no room");
        assert_eq!(unread(), unread());
        assert_ne!(unread(), Cause::new("the file is not read"));
        let known = unread().error().downcast_ref::<Unread>().map(|Unread(error)| error.kind());
        assert_eq!(known, Some(std::io::ErrorKind::Other), "whoever knows the type finds the error");
    }
}
