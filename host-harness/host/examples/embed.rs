//! Polls every scope of a tenant once and prints the events: SECRET=… embed PLUGIN.wasm SETTINGS.json ORIGIN…

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Context;
use source_host::{Compiler, Feed, Host, Identity, Limits, Network, Origins, Plugin, Secret, Settings, Setup};

#[expect(clippy::disallowed_methods, reason = "a program's own main function may read its environment")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (plugin, settings) = (arguments.next().context("no plugin")?, arguments.next().context("no settings")?);

    // Compiles in this process, without limits: for plugins whose authors one trusts.
    let host = Host::new(Setup { compiler: Compiler::ThisProcess, ..Setup::default() })?;
    let plugin = Plugin::from_file(&host, plugin.as_ref())?;

    // The plugin gets a placeholder of the secret; the host puts the value on declared requests alone.
    let secret = std::env::var("SECRET").context("no SECRET")?;
    let secrets = BTreeMap::from([("client_secret".to_owned(), Secret::new(secret))]);
    let settings = Settings::new(serde_json::from_slice(&std::fs::read(settings)?)?, secrets);

    // A CA of one's own goes with loopback addresses here, for services on this machine.
    let ca_pem = std::env::var("CA_FILE").ok().map(std::fs::read).transpose()?;
    let loopback = ca_pem.iter().map(|_| "127.0.0.0/8".parse()).collect::<Result<_, _>>()?;
    let network = Network::new(ca_pem.as_deref(), loopback)?;

    let transport = network.transport(&Limits::default())?;
    let allowed = Origins::new(arguments)?;
    let identity = Identity::new("contoso", "contoso-prod", allowed, transport);
    let now = (identity.clock)();
    let feed = Feed::open(plugin, settings, identity).await?;
    let found = feed.discover().await.map_err(|failure| anyhow::anyhow!("{}: {}", failure.code, failure.cause))?;
    for scope in &found.scopes {
        let polled = feed.poll(scope, now, None).await;
        for event in polled.batch.iter().flat_map(|batch| &batch.events) {
            std::io::stdout().write_all(&[&event.body[..], b"\n"].concat())?;
        }
        polled.failure.map_or(Ok(()), |failure| anyhow::bail!("{}: {}: {}", scope.id, failure.code, failure.cause))?;
    }
    Ok(())
}
