//! A credential and its placeholder: the guest gets the second, the request that leaves gets the first.

use crate::contract::Credential;
use crate::credentials::secret::Secret;

/// A credential and the placeholder that stands for it inside one call.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// What the plugin has.
    pub placeholder: String,
    /// Which credential it is.
    pub credential: Credential,
    /// What goes onto the request.
    pub secret: Secret,
    /// What names it among kept answers, where it is signed, and another each time.
    pub identity: Option<Secret>,
}

impl Sealed {
    /// Mints a placeholder for a credential.
    pub fn new(credential: Credential, secret: Secret) -> Sealed {
        Sealed { placeholder: placeholder(), credential, secret, identity: None }
    }

    /// The same with what names it in place of it.
    pub fn named(&self) -> Sealed {
        Sealed { secret: self.identity.clone().unwrap_or_else(|| self.secret.clone()), ..self.clone() }
    }
}

/// The placeholder of a setting in a call that is a function of its arguments: it stands for nothing on any request.
pub(crate) fn fixed_placeholder(index: usize) -> String {
    format!("sealed-{index:032x}")
}

/// A name for a secret inside one call: unguessable, of URL-unreserved characters.
pub(crate) fn placeholder() -> String {
    format!("sealed-{}", uuid::Uuid::new_v4().simple())
}

/// A credential as people call it.
pub fn name(credential: &Credential) -> String {
    match credential {
        Credential::Setting(setting) => format!("the credential `{setting}`"),
        Credential::Assertion(setting) => format!("the assertion of `{setting}`"),
        Credential::Token => "the token".to_owned(),
    }
}
