//! A value that must not be shown, and the text of a file that holds such a value.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use zeroize::Zeroizing;

use crate::credentials::certificates;
use crate::text::{self, Unread};

/// A credential or a token. Its `Debug` output reveals nothing. Clones share one memory, which the last of them wipes.
///
/// ```
/// use source_host::Secret;
///
/// let secret = Secret::new("the value");
/// assert_eq!(format!("{secret:?}"), "Secret(…)");
/// assert_eq!(secret.expose(), "the value");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Makes a secret of a value. A `String` is moved; of a `&str`, the caller keeps a copy.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(Arc::new(Zeroizing::new(value.into())))
    }

    /// The value itself, for the place that puts it on a request.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Reads the text of a file that holds a secret. The byte order mark stays, so that the caller can mention it. PEM may
/// be in UTF-16.
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
