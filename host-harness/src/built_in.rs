//! The plugin that this program carries: its component, and the origins that it may talk to without the operator's leave.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use source_host::blame::Blame;
use source_host::plugin::compiler::Compiler;
use source_host::plugin::engine::{Host, HostError, Setup, Trusted};
use source_host::plugin::{About, KnownPlugin, Plugin, PluginError};
use source_host::progress::Progress;

/// The component that is built into this program.
pub const COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/azure-secure-score.wasm"));

/// Its digest, lower-case hexadecimal.
pub const SHA256: &str = env!("HOST_HARNESS_PLUGIN_SHA256");

/// Name of the built-in plugin.
pub const NAME: &str = "azure-secure-score";

/// The Microsoft clouds that the built-in plugin, and no other, may talk to without the operator's leave.
pub const ORIGINS: &[&str] = &[
    "https://login.microsoftonline.com",
    "https://management.azure.com",
    "https://login.microsoftonline.us",
    "https://management.usgovcloudapi.net",
];

/// The built-in plugin in any version, as far as the contract has no words for it.
pub const KNOWN: KnownPlugin = KnownPlugin {
    name: NAME,
    token_members: &["error_codes", "trace_id"],
    token_headers: &["x-ms-ests-server"],
    blames: &[
        // The way to the service: it is mended where the collector runs.
        ("request-denied", Blame::Operator),
        ("address-prohibited", Blame::Operator),
        ("name-not-resolved", Blame::Operator),
        ("proxy-failed", Blame::Operator),
        ("tls-untrusted", Blame::Operator),
        ("redirected", Blame::Operator),
        ("not-the-service", Blame::Operator),
        ("status-unexpected", Blame::Operator),
        ("token-challenged", Blame::Operator),
        ("tenant-restricted", Blame::Operator),
        // The machine.
        ("assertion-time", Blame::Operator),
        ("assertion-audience", Blame::Operator),
        ("assertion-malformed", Blame::Operator),
        ("assertion-unavailable", Blame::Operator),
        // Nothing but the configuration has to change.
        ("settings-invalid", Blame::Operator),
        ("credential-missing", Blame::Operator),
        ("tenant-invalid", Blame::Operator),
        ("cloud-mismatch", Blame::Operator),
        ("audience-unknown", Blame::Operator),
        ("scope-invalid", Blame::Operator),
        ("subscription-invalid", Blame::Operator),
        ("all-excluded", Blame::Operator),
        ("token-loop", Blame::Operator),
        // The host signs, and gives back the plugin's own arguments.
        ("assertion-thumbprint", Blame::Harness),
        ("argument-invalid", Blame::Harness),
    ],
};

/// Sets up an engine that runs the built-in plugin in any case, and others as `compiler` compiles them. Compiled plugins
/// are kept in `cache`, a folder that nobody else may write: the files in it run as native code.
pub fn host(cache: Option<PathBuf>, compiler: Compiler) -> Result<Host, HostError> {
    host_with(cache, compiler, Progress::default())
}

/// The same; what is being done is noted in `progress`.
pub fn host_with(cache: Option<PathBuf>, compiler: Compiler, progress: Progress) -> Result<Host, HostError> {
    let trusted = vec![Trusted { sha256: SHA256.to_owned(), name: "the built-in plugin" }];
    Host::new(Setup { cache, compiler, trusted, known: &[KNOWN], progress })
}

/// The built-in plugin.
pub fn plugin(host: &Host) -> Result<Plugin, PluginError> {
    Plugin::from_bytes(host, COMPONENT)
}

/// Which plugin is not loaded, and why.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The built-in one.
    #[error("the built-in plugin")]
    BuiltIn(#[source] Arc<PluginError>),
    /// That of a file.
    #[error("{}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        error: Arc<PluginError>,
    },
    /// Loading ended before it was done.
    #[error(transparent)]
    Ended(tokio::task::JoinError),
}

impl LoadError {
    /// Whether the file was read: then the plugin is at fault, and not whoever named the file.
    pub fn is_of_plugin(&self) -> bool {
        matches!(self, LoadError::File { error, .. } if !matches!(**error, PluginError::Unreadable(_)))
    }
}

/// The plugin of this file, or the built-in one without a file.
pub fn load(host: &Host, file: Option<&Path>) -> Result<Plugin, LoadError> {
    match file {
        None => plugin(host).map_err(|error| refused(None, error.into())),
        Some(file) => Plugin::from_file(host, file).map_err(|error| refused(Some(file), error.into())),
    }
}

/// Says of which plugin an error is: that of a file, or the built-in one.
pub fn refused(file: Option<&Path>, error: Arc<PluginError>) -> LoadError {
    match file {
        None => LoadError::BuiltIn(error),
        Some(file) => LoadError::File { file: file.to_owned(), error },
    }
}

/// Whether a plugin is the built-in one.
pub fn is(about: &About) -> bool {
    about.sha256 == SHA256
}
