//! The plugin that this program contains: its component, and the origins to which it may send requests without the
//! operator's permission.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use source_host::blame::Blame;
use source_host::plugin::compiler::{CompileError, Compiler};
use source_host::plugin::engine::{Host, HostError, Setup, Trusted};
use source_host::plugin::{About, KnownPlugin, Plugin, PluginError};
use source_host::progress::Progress;

/// The component that is built into this program.
pub const COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/azure-secure-score.wasm"));

/// The component's digest in lower-case hexadecimal.
pub const SHA256: &str = env!("HOST_HARNESS_PLUGIN_SHA256");

/// Name of the built-in plugin.
pub const NAME: &str = "azure-secure-score";

/// Origins of the Microsoft clouds, to which only the built-in plugin may send requests without the operator's
/// permission.
pub const ORIGINS: &[&str] = &[
    "https://login.microsoftonline.com",
    "https://management.azure.com",
    "https://login.microsoftonline.us",
    "https://management.usgovcloudapi.net",
];

/// The observed needs of the built-in plugin, which are used for estimates only.
pub mod needs {
    /// The basis of the numbers.
    pub const BASIS: &str = "25 controls a subscription, one page each, `emit = \"changes\"`";
    /// Number of requests of a poll whose two lists fit on one page each.
    pub const REQUESTS: u64 = 2;
    /// Bytes in the bodies of both lists, for 25 controls with their definitions.
    pub const BYTES: u64 = 48 << 10;
    /// Findings of a subscription: 25 controls and the score. Each gives an event once a day, and another when it
    /// changes.
    pub const EVENTS: u64 = 26;
    /// Bytes of one event: the item and some 3 KiB.
    pub const EVENT_BYTES: u64 = 5 << 10;
    /// Tokens a day: a token is valid for about an hour.
    pub const TOKENS: u64 = 27;
}

/// Knowledge about the built-in plugin, in any version, that the contract has no words for.
pub const KNOWN: KnownPlugin = KnownPlugin {
    name: NAME,
    token_members: &["error_codes", "trace_id"],
    token_headers: &["x-ms-ests-server"],
    blames: &[
        // The route to the service is mended where the collector runs.
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
        // The machine or its files are at fault.
        ("assertion-time", Blame::Operator),
        ("assertion-audience", Blame::Operator),
        ("assertion-malformed", Blame::Operator),
        ("assertion-unavailable", Blame::Operator),
        // Only the configuration has to change.
        ("settings-invalid", Blame::Operator),
        ("credential-missing", Blame::Operator),
        ("tenant-invalid", Blame::Operator),
        ("cloud-mismatch", Blame::Operator),
        ("audience-unknown", Blame::Operator),
        ("scope-invalid", Blame::Operator),
        ("subscription-invalid", Blame::Operator),
        ("all-excluded", Blame::Operator),
        ("token-loop", Blame::Operator),
        // The host signs, and passes the plugin's own arguments on.
        ("assertion-thumbprint", Blame::Harness),
        ("argument-invalid", Blame::Harness),
    ],
};

/// Makes a host that always runs the built-in plugin, and runs other plugins if `compiler` compiles them. Compiled
/// plugins are kept in the folder `cache`, which nobody else may be able to write, because its files run as native
/// code.
pub fn host(cache: Option<PathBuf>, compiler: Compiler) -> Result<Host, HostError> {
    host_with(cache, compiler, Progress::default())
}

/// The same; work in progress is noted in `progress`.
pub fn host_with(cache: Option<PathBuf>, compiler: Compiler, progress: Progress) -> Result<Host, HostError> {
    let trusted = vec![Trusted { sha256: SHA256.to_owned(), name: "the built-in plugin" }];
    Host::new(Setup { cache, compiler, trusted, known: &[KNOWN], progress, ..Setup::default() })
}

/// Loads the built-in plugin.
pub fn plugin(host: &Host) -> Result<Plugin, PluginError> {
    Plugin::from_bytes(host, COMPONENT)
}

/// The plugin that did not load, and the reason.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The built-in plugin.
    #[error("the built-in plugin")]
    BuiltIn(#[source] Arc<PluginError>),
    /// The plugin of a file.
    #[error("{}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The reason.
        #[source]
        error: Arc<PluginError>,
    },
    /// The task that loaded the plugin ended early.
    #[error(transparent)]
    Ended(tokio::task::JoinError),
}

impl LoadError {
    /// Says whether the file was read: then the plugin is at fault, and not the user who named the file.
    pub fn is_of_plugin(&self) -> bool {
        matches!(self, LoadError::File { error, .. } if !matches!(**error, PluginError::Unreadable(_)))
    }

    /// Says whether the host could not start its compiler, which says nothing about the plugin.
    pub fn is_of_compiler(&self) -> bool {
        matches!(self, LoadError::File { error, .. } if matches!(**error, PluginError::Compile(CompileError::Host(_))))
    }
}

/// Loads the plugin of this file, or the built-in one without a file.
pub fn load(host: &Host, file: Option<&Path>) -> Result<Plugin, LoadError> {
    match file {
        None => plugin(host).map_err(|error| refused(None, error.into())),
        Some(file) => Plugin::from_file(host, file).map_err(|error| refused(Some(file), error.into())),
    }
}

/// Adds to an error whether it is that of a file's plugin or of the built-in one.
pub fn refused(file: Option<&Path>, error: Arc<PluginError>) -> LoadError {
    match file {
        None => LoadError::BuiltIn(error),
        Some(file) => LoadError::File { file: file.to_owned(), error },
    }
}

/// Says whether a plugin is the built-in one.
pub fn is(about: &About) -> bool {
    about.sha256 == SHA256
}
