//! Polls every scope of a tenant once and prints the events. Usage: embed PLUGIN.wasm SETTINGS.json SECRETS.json
//! ORIGIN…

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Context;
use source_host::{Compiler, Feed, Host, Identity, Limits, Network, Origins, Plugin, Secret, Settings, Setup};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (plugin, settings) = (arguments.next().context("no plugin")?, arguments.next().context("no settings")?);
    let secrets = arguments.next().context("no secrets")?;

    // This host compiles in its own process, without limits, which suits plugins from trusted authors.
    let host = Host::new(Setup { compiler: Compiler::ThisProcess, ..Setup::default() })?;
    let plugin = Plugin::from_file(&host, plugin.as_ref())?;

    // The plugin gets placeholders of the secrets; the host puts the values on declared requests only.
    let secrets: BTreeMap<String, String> = serde_json::from_slice(&std::fs::read(secrets)?)?;
    let secrets = secrets.into_iter().map(|(setting, value)| (setting, Secret::new(value))).collect();
    let settings = Settings::new(serde_json::from_slice(&std::fs::read(settings)?)?, secrets);

    // The network trusts the system's roots and dials public addresses. It also dials this machine, which hosts refuse
    // by default.
    let network = Network::new(None, vec!["127.0.0.0/8".parse()?])?;
    let (allowed, transport) = (Origins::new(arguments)?, network.transport(&Limits::default())?);
    let identity = Identity::new("contoso", "contoso-prod", allowed, transport);
    let now = (identity.clock)();
    let feed = Feed::open(plugin, settings, identity).await?;
    let found = feed.discover().await.map_err(|failure| anyhow::anyhow!("{}: {}", failure.code, failure.cause))?;
    let mut failed = 0;
    for scope in &found.scopes {
        let polled = feed.poll(scope, now, None).await;
        for event in polled.batch.iter().flat_map(|batch| &batch.events) {
            std::io::stdout().write_all(&[&event.body[..], b"\n"].concat())?;
        }
        // A scope that fails does not stop the others.
        if let Some(failure) = polled.failure {
            eprintln!("{}: {}: {}", scope.id, failure.code, failure.cause);
            failed += 1;
        }
    }
    anyhow::ensure!(failed == 0, "{failed} of {} scopes were not collected", found.scopes.len());
    Ok(())
}
