//! The public interface of the crate is enough for an embedder: a feed's futures can move between threads, and all
//! paths begin at the root.

use source_host::contract::Scope;
use source_host::{Cidr, Feed, Host, Identity, Network, NetworkError, Plugin, Proxy, Settings, Tokens, Transport};

fn is_send<T: Send>(_: T) {}

fn is_shared<T: Send + Sync + 'static>() {}

/// Compiled but never run.
#[expect(dead_code, reason = "the compiler is the test")]
fn a_feed_is_polled_from_any_thread(
    plugin: Plugin,
    settings: Settings,
    identity: Identity,
    feed: &Feed,
    scope: &Scope,
) {
    is_send(Feed::open(plugin, settings, identity));
    is_send(feed.sign_in());
    is_send(feed.discover());
    is_send(feed.poll(scope, 0, None));
    is_send(feed.fix("a-code"));
}

/// Compiled but never run: every type that a network takes has a path from the root.
#[expect(dead_code, reason = "the compiler is the test")]
fn a_network_is_made(address: Cidr, proxy: Proxy) -> Result<Network, NetworkError> {
    Ok(Network::new(None, vec![address])?.through(proxy))
}

#[test]
fn what_an_embedder_holds_is_shared_by_threads() {
    is_shared::<Host>();
    is_shared::<Plugin>();
    is_shared::<Feed>();
    is_shared::<Network>();
    is_shared::<Tokens>();
    is_shared::<Box<dyn Transport>>();
}
