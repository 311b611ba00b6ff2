//! `record`: one live poll of a feed as a recording.

use std::path::Path;

use anyhow::Context;
use host_harness::collector::once;
use host_harness::config::admission::Checked;
use host_harness::files;
use host_harness::recording::record;
use source_host::clock;
use source_host::credentials::redact;

/// Records the one feed of a configuration.
pub async fn record(checked: &Checked, output: &Path, redact_subscriptions: bool) -> anyhow::Result<u8> {
    let admitted = checked.feeds.first().context("no feed was found")?;
    let recorded = record::record(admitted, &checked.network, &clock::system(), redact_subscriptions).await?;
    let text = serde_json::to_string_pretty(&recorded.cassette)? + "\n";
    files::write(output, text.as_bytes()).with_context(|| format!("failed to write {}", output.display()))?;
    for (scope, failure) in &recorded.failures {
        let scope = scope.as_ref().map(|scope| format!("{scope}: ")).unwrap_or_default();
        let words = format!("{scope}{} ({}, {})", failure.cause, failure.code, admitted.plugin.blame(failure));
        let fix = failure.fix.as_deref().unwrap_or_else(|| once::usual_fix(failure));
        say!("error: {}", redact::redact(&format!("{words}\n  fix: {fix}"), admitted.secrets()));
    }
    let exchanges = recorded.cassette.exchanges.len();
    say!("{}: {exchanges} exchanges, which replay to {} events", output.display(), recorded.events);
    Ok(match (recorded.good, recorded.failures.len()) {
        (_, 0) => 0,
        (0, _) => 1,
        _ => 3,
    })
}
