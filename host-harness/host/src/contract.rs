//! The contract as wasmtime binds it, and what the host adds to its records.

#[expect(missing_docs, reason = "generated from the documented WIT")]
mod generated {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "collector:source/plugin-code",
        imports: { default: async },
        exports: { default: async },
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
    });
}

#[doc(hidden)]
pub use generated::collector::source::log::Level as LogLevel;
pub(crate) use generated::collector::source::{credentials, log};
pub(crate) use generated::exports::collector::source::plugin::Guest;
pub use generated::exports::collector::source::plugin::{
    Batch, Context, Credential, CredentialKind, CredentialUse, DeclaredCredential, Description, Diagnosis, Discovery,
    Event, EventKind, Failure, Identifier, IdentifierKind, Measure, Notice, Page, Path, Place, Plan, PollResult,
    PollStep, Problem, Reaction, Scope, Shape, SkippedScope, Token,
};
pub use generated::{PluginCode, PluginCodePre};

/// The versions of the contract that this host accepts, with any patch version.
pub const ACCEPTED: &[&str] = &["0.2"];

/// The exported interface, without its version.
pub const INTERFACE: &str = "collector:source/plugin";

impl Scope {
    /// The scope's name and id for people, or the id alone.
    pub fn called(&self) -> String {
        match &self.name {
            Some(name) => format!("{name} ({})", self.id),
            None => self.id.clone(),
        }
    }
}

#[cfg(test)]
impl Description {
    /// Makes a plugin's description with this settings schema and nothing else.
    pub(crate) fn with_schema(settings_schema: &str) -> Description {
        Description {
            name: "plugin".to_owned(),
            version: "1.0.0".to_owned(),
            events: Vec::new(),
            settings_schema: settings_schema.to_owned(),
            credentials: Vec::new(),
            interval_seconds: 1,
            refresh_seconds: None,
            response_headers: Vec::new(),
            identifiers: Vec::new(),
            diagnoses: Vec::new(),
        }
    }
}

impl Failure {
    /// Makes a failure with a code of the plugin. The table [`crate::failures`] makes the failures of the host.
    pub fn new(reaction: Reaction, code: &str, cause: String) -> Failure {
        Failure {
            reaction,
            wait_seconds: None,
            code: code.to_owned(),
            cause,
            fix: None,
            status: None,
            service_code: None,
            request_id: None,
        }
    }
}
