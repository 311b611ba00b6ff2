//! The names of all settings.

/// Settings that hold a credential: one of them, and what belongs there.
pub const CREDENTIALS: &[(&str, &str)] = &[
    ("client_secret", "the client secret's Value"),
    ("client_certificate", "PEM of the private key and the certificate, by `{ file = … }` or `{ env = … }`"),
    ("federated_token_file", "the path of the file in which the other identity provider leaves its token"),
];

/// Every key, for the nearest one to an unknown key.
pub const KEYS: &[&str] = &[
    "client_key",
    "client_id",
    "client_secret",
    "client_secret_expires",
    "client_certificate",
    "federated_token_file",
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
    "emit",
    "snapshot_every",
    "raw",
    "entity_resolution",
    "extension_version",
];

/// Settings that this version does not have, though a later one is to have them.
pub const LATER: &[&str] = &["ocsf_version"];
