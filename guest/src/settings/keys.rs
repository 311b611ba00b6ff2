//! The names of all settings.

use crate::contract::CredentialKind;

/// A setting that holds a credential.
pub struct CredentialSetting {
    /// The setting's name.
    pub name: &'static str,
    /// The kind of credential.
    pub kind: CredentialKind,
    /// The expected value, for the user.
    pub(super) expected: &'static str,
}

/// The setting with the application's client secret.
pub const CLIENT_SECRET: &str = "client_secret";

/// All settings that hold a credential, of which a user gives one.
pub const CREDENTIALS: [CredentialSetting; 3] = [
    CredentialSetting { name: CLIENT_SECRET, kind: CredentialKind::Secret, expected: "the client secret's Value" },
    CredentialSetting {
        name: "client_certificate",
        kind: CredentialKind::KeyPair,
        expected: "PEM of the private key and the certificate, by `{ file = … }` or `{ env = … }`",
    },
    CredentialSetting {
        name: "federated_token_file",
        kind: CredentialKind::TokenFile,
        expected: "the path of the file in which the other identity provider leaves its token",
    },
];

/// Every key, to find the nearest one to an unknown key.
pub const KEYS: &[&str] = &[
    "client_key",
    "client_id",
    CREDENTIALS[0].name,
    "client_secret_expires",
    CREDENTIALS[1].name,
    CREDENTIALS[2].name,
    "token_url",
    "tenant_id",
    "subscription_id",
    "exclude_subscriptions",
    "delegated",
    "cloud",
    "authority",
    "endpoint",
    "audience",
    "events",
    "definitions",
    "class",
    "ocsf_version",
    "emit",
    "snapshot_every",
    "raw",
    "entity_resolution",
    "extension_version",
];
