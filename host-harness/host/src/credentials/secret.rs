//! A value that must not be shown, and the text of a file that holds one.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use zeroize::Zeroizing;

use crate::credentials::certificates;
use crate::text::{self, Unread};

/// A credential or a token. Its `Debug` says nothing of it; clones share one memory, which the last of them wipes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes a value. A `String` is taken as it is; of a `&str`, the caller keeps a copy.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(Arc::new(Zeroizing::new(value.into())))
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
pub fn read(file: &Path) -> Result<Zeroizing<String>, Unread> {
    let bytes = Zeroizing::new(text::bytes(file)?);
    text::with_mark(bytes.to_vec()).map(Zeroizing::new).or_else(|foreign| {
        certificates::pem_of_utf16(&bytes, foreign).map(Zeroizing::new).ok_or_else(
            || match certificates::told_of_binary(&bytes, file) {
                Some(told) => Unread::Named(told),
                None => Unread::NotUtf8(foreign.message(file)),
            },
        )
    })
}
