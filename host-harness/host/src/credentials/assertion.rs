//! Credentials that prove an application's identity without a shared secret: assertions that the host signs with the
//! application's certificate (RFC 7523, PS256), and assertions that another identity provider writes to a file. Keys
//! and files never reach the plugin.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{KeyPair as _, RSA_PSS_SHA256, RsaKeyPair};
use serde_json::json;
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use zeroize::Zeroizing;

use crate::cause::{Cause, FileFault};
use crate::credentials::certificates::{self, KeyKind};
use crate::credentials::expiry::Validity;
use crate::credentials::secret::Secret;
use crate::credentials::spelling;
use crate::limits::{ASSERTION_LIFE, TOKEN_FILE_BYTES};
use crate::text;

// Errors of ring, which have no type. `a_key_that_cannot_sign_is_found_before_any_request` in `tests/credentials.rs`
// provokes both.

/// The key is for another algorithm.
const WRONG_ALGORITHM: &str = "WrongAlgorithm";

/// The key is shorter than ring accepts.
const TOO_SMALL: &str = "TooSmall";

/// A private key and the certificate that belongs to it.
pub struct KeyPair {
    key: RsaKeyPair,
    /// SHA-256 of the certificate.
    thumbprint: [u8; 32],
    /// When the certificate is valid.
    pub validity: Validity,
}

/// The reason why a credential is unusable. It reveals nothing of the credential's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("a file that cannot be read ({cause}{})", looks.map_or(String::new(), |looks| format!("; the value {looks}")))]
    Unreadable {
        /// The file, and the error of the system.
        cause: Cause,
        /// A description of the value, where the value looks like something else than a path.
        looks: Option<&'static str>,
    },
    /// The file was read, and its content is not a credential of this kind.
    #[error("{0}")]
    Unfit(String),
}

fn unfit<T>(found: impl Into<String>) -> Result<T, CredentialError> {
    Err(CredentialError::Unfit(found.into()))
}

impl KeyPair {
    /// Reads PEM with an RSA key (PKCS#8 or PKCS#1) and its certificate, in any order and among other certificates of a
    /// chain.
    pub fn read(pem: &str) -> Result<KeyPair, CredentialError> {
        let parts = certificates::parts(pem);
        let (kind, der) = certificates::private_key(pem, &parts).map_err(CredentialError::Unfit)?;
        let key = match kind {
            KeyKind::Pkcs8 => RsaKeyPair::from_pkcs8(der),
            KeyKind::Pkcs1 => RsaKeyPair::from_der(der),
            KeyKind::Ec => return unfit("an EC key"),
        };
        let key = key.or_else(|rejected| match rejected.to_string().as_str() {
            WRONG_ALGORITHM => unfit("a key of another algorithm than RSA, such as an EC key"),
            TOO_SMALL => unfit("an RSA key of less than 2048 bits"),
            words => unfit(format!("a private key that cannot be used ({words})")),
        })?;
        for der in certificates::chain(&parts).map_err(CredentialError::Unfit)? {
            let Ok(certificate) = Certificate::from_der(der) else {
                return unfit("a certificate that cannot be read");
            };
            let certificate = certificate.tbs_certificate();
            let public = certificate.subject_public_key_info().subject_public_key.raw_bytes();
            if public == key.public_key().as_ref() {
                let validity = Validity::of(certificate);
                return Ok(KeyPair { key, thumbprint: Sha256::digest(der).into(), validity });
            }
        }
        unfit(certificates::STRANGERS)
    }

    /// Identifies an assertion by everything in it but the time, which differs each time. Equal key pairs have equal
    /// identities. The identity is not secret, and it proves possession of the key only to the host, which derives it
    /// from a whole pair.
    pub fn identity(&self, client_id: &str, audience: &str) -> Secret {
        Secret::new(json!([base64url(self.thumbprint), client_id, audience]).to_string())
    }

    /// Signs an assertion that names the application to this audience, valid from `now`, in Unix milliseconds.
    pub fn assertion(&self, client_id: &str, audience: &str, now: u64) -> Result<Secret, CredentialError> {
        let now = now / 1_000;
        let header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": base64url(self.thumbprint) });
        let claims = json!({
            "aud": audience,
            "iss": client_id,
            "sub": client_id,
            "jti": uuid::Uuid::new_v4().to_string(),
            "nbf": now,
            "iat": now,
            "exp": now + ASSERTION_LIFE.as_secs(),
        });
        let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        if self.key.sign(&RSA_PSS_SHA256, &random, signed.as_bytes(), &mut signature).is_err() {
            return unfit("a private key that does not sign");
        }
        Ok(Secret::new(format!("{signed}.{}", base64url(signature))))
    }
}

/// Reads the assertion in a file. The host reads the file each time, because the identity provider renews it.
pub fn read_token(file: &Path) -> Result<Secret, CredentialError> {
    let bytes = text::bytes_up_to(file, TOKEN_FILE_BYTES);
    let bytes = bytes.map_err(|error| {
        let cause = Cause::new(FileFault { file: file.to_owned(), error });
        CredentialError::Unreadable { cause, looks: None }
    })?;
    if bytes.len() as u64 > TOKEN_FILE_BYTES {
        return unfit(format!("a file with more than {TOKEN_FILE_BYTES} bytes ({})", file.display()));
    }
    match text::utf8(bytes).map(Zeroizing::new) {
        Err(foreign) => unfit(format!("a file that {}", foreign.message(file))),
        Ok(text) => match spelling::trimmed(&text).text {
            token if is_token(token) => Ok(Secret::new(token)),
            _ => unfit(format!("a file without a signed token ({})", file.display())),
        },
    }
}

/// Says whether a text has the form of a signed token: three parts of base64url.
pub fn is_token(text: &str) -> bool {
    let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map(Zeroizing::new);
    let part = |part: &str| !part.is_empty() && decoded(part).is_ok();
    text.starts_with("eyJ") && text.split('.').count() == 3 && text.split('.').all(part)
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
