//! The contract's rules, tried on any plugin. Rules that need settings and answers take them from recordings; without a
//! recording, these rules are reported as not run.

mod bookkeeping;
mod declared;
mod faults;
mod polled;
mod report;

use std::ops::ControlFlow;

use serde_json::Map;
use source_host::cause;
use source_host::limits::Limits;
use source_host::plugin::Plugin;
use source_host::plugin::engine::Host;

use self::bookkeeping::Examination;
pub use self::report::{ConformanceReport, RuleRow, Verdict};
use crate::recording::cassette::Cassette;

/// Every rule, in the order in which they are tried, with its requirement.
pub const RULES: &[(&str, &str)] = &[
    ("component", "compiles within limits, imports what is allowed and exports this contract"),
    ("describe", "describes itself the same way each time: kebab-case names, a JSON Schema with its credentials"),
    ("settings", "names all problems of its settings at once, each by a JSON pointer, with the expected value"),
    (
        "shapes",
        "declares the same requests each time, by upper-case method, bare origin, path, and credentials that it has",
    ),
    ("poll", "sends exactly the recorded requests; its kinds of page and codes of notices are declared"),
    ("requests", "sends only requests of its shapes, with each credential at its place"),
    ("cursors", "ends, and returns no cursor twice"),
    ("failures", "answers faults of the service with the reaction that fits, and a code that it lists"),
    ("normalize", "makes events of the declared classes and kinds, with codes that it lists, also of a failure"),
    ("purity", "gives the same result for the same arguments in a fresh instance"),
    ("state", "reads its own state, and answers a foreign one with a failure, never with a fresh start"),
    ("limits", "stays within the limits of a call, and gives only what the contract allows"),
];

/// Name of the bundled recording that the built-in plugin is tried on.
pub const BUILT_IN: &str = "two-pages";

/// Tries all rules on a plugin.
pub async fn examine(host: &Host, bytes: &[u8], cassettes: &[Cassette], limits: &Limits) -> ConformanceReport {
    let mut examination = Examination { limits: limits.clone(), ..Examination::default() };
    examination.begin("component");
    let _doing = host.progress().begin("trying the rules of the contract on the plugin");
    match Plugin::from_bytes(host, bytes) {
        Ok(plugin) => examination.plugin(&plugin, cassettes).await,
        Err(error) => examination.fail("component", cause::chain(&error)),
    }
    examination.report(cassettes.is_empty())
}

impl Examination {
    async fn plugin(&mut self, plugin: &Plugin, cassettes: &[Cassette]) {
        let ControlFlow::Continue(description) = self.answer(plugin.describe().await) else { return };
        // Requested once more through the plugin itself, which then knows its credentials.
        if plugin.description().await.is_err() {
            return;
        }
        self.describe(plugin, &description).await;
        let nothing = Map::new();
        let settings = cassettes.first().map_or(&nothing, |cassette| &cassette.settings);
        self.settings(plugin, &description, settings).await;
        for cassette in cassettes {
            self.cassette(plugin, &description, cassette).await;
        }
    }
}
