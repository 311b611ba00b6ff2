//! A value that must not be shown, and the text of a file that holds one.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::credentials::certificates;
use crate::text::{self, Unread};

/// A credential or a token. Its `Debug` says nothing of it; clones share it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a value.
    pub fn new(value: impl Into<Arc<str>>) -> Secret {
        Secret(value.into())
    }

    /// The value itself, for the one place where it is put on a request.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// The text of a file of a secret with its byte order mark, for who tells of it. PEM may be in UTF-16.
pub fn read(file: &Path) -> Result<String, Unread> {
    let bytes = text::bytes(file)?;
    text::with_mark(bytes.clone()).or_else(|foreign| {
        certificates::pem_of_utf16(&bytes, foreign).ok_or_else(|| match certificates::told_of_binary(&bytes, file) {
            Some(told) => Unread::Named(told),
            None => Unread::Foreign(foreign.told(file)),
        })
    })
}
