//! A credential and its placeholder: the guest gets the placeholder, and the request that leaves gets the credential.

use crate::contract::Credential;
use crate::credentials::secret::Secret;

/// A credential and the placeholder that represents it inside one call.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The placeholder, which the plugin gets.
    pub placeholder: String,
    /// The credential that the placeholder represents.
    pub credential: Credential,
    /// The value, which goes onto the request.
    pub secret: Secret,
    /// The identity that names a signed assertion among kept answers, because the assertion itself differs each time.
    pub identity: Option<Secret>,
}

impl Sealed {
    /// Makes a placeholder for a credential.
    pub fn new(credential: Credential, secret: Secret) -> Sealed {
        Sealed { placeholder: placeholder(), credential, secret, identity: None }
    }

    /// The same credential with its identity in place of its value.
    pub fn named(&self) -> Sealed {
        Sealed { secret: self.identity.clone().unwrap_or_else(|| self.secret.clone()), ..self.clone() }
    }
}

/// The placeholder of a setting in a call that is a function of its arguments. No request replaces it.
pub(crate) fn fixed_placeholder(index: usize) -> String {
    format!("sealed-{index:032x}")
}

/// Makes a placeholder for one call: unguessable, of characters that URLs leave unreserved.
pub(crate) fn placeholder() -> String {
    format!("sealed-{}", uuid::Uuid::new_v4().simple())
}

/// The name of a credential in messages.
pub fn name(credential: &Credential) -> String {
    match credential {
        Credential::Setting(setting) => format!("the credential `{setting}`"),
        Credential::Assertion(setting) => format!("the assertion of `{setting}`"),
        Credential::Token => "the token".to_owned(),
    }
}
