//! The transport of each tenant, with connections that no other tenant uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use source_host::limits::{self, Limits, milliseconds};
use source_host::network::client::Network;
use source_host::network::tokens::Tokens;
use source_host::network::{Transport, TransportError};

type NewTransport = Box<dyn Fn(&str) -> Result<Arc<dyn Transport>, TransportError> + Send + Sync>;

/// The transports of all tenants, and the tokens that they share. Each tenant has a transport of its own, made when
/// needed and dropped after some idle time. Feeds with equal credentials share a token.
pub struct Tenants {
    pub(super) limits: Limits,
    new: Mutex<NewTransport>,
    lines: Mutex<BTreeMap<String, TenantWay>>,
    pub(super) tokens: Arc<Tokens>,
}

struct TenantWay {
    transport: Arc<dyn Transport>,
    used: u64,
}

impl Tenants {
    /// Makes transports with this function, which gets the tenant's id.
    pub fn new(new: impl Fn(&str) -> Result<Arc<dyn Transport>, TransportError> + Send + Sync + 'static) -> Tenants {
        let (limits, tokens) = (Limits::default(), Arc::default());
        Tenants { limits, new: Mutex::new(Box::new(new)), lines: Mutex::default(), tokens }
    }

    /// Makes transports over the network.
    pub fn live(network: Network) -> Tenants {
        let limits = Limits::default();
        Tenants::new(move |_| Ok(Arc::new(network.transport(&limits)?) as Arc<dyn Transport>))
    }

    /// Makes transports over another network from now on. Requests in progress keep their transport.
    pub fn replace(&self, network: Network) {
        let limits = self.limits.clone();
        *self.new.lock() = Box::new(move |_| Ok(Arc::new(network.transport(&limits)?) as Arc<dyn Transport>));
        self.lines.lock().clear();
    }

    /// Divides the requests for tokens among so many collectors, this one included.
    pub fn share_among(&self, collectors: usize) {
        self.tokens.share_among(collectors);
    }

    pub(super) fn transport(&self, tenant: &str, now: u64) -> Result<Arc<dyn Transport>, TransportError> {
        let mut lines = self.lines.lock();
        if let Some(line) = lines.get_mut(tenant) {
            line.used = now;
            return Ok(Arc::clone(&line.transport));
        }
        let transport = self.new.lock()(tenant)?;
        lines.insert(tenant.to_owned(), TenantWay { transport: Arc::clone(&transport), used: now });
        Ok(transport)
    }

    /// Drops transports that were idle for a while, and tokens that have expired.
    pub fn sweep(&self, now: u64) {
        let idle = milliseconds(limits::IDLE_TENANT);
        self.lines.lock().retain(|_, line| now.saturating_sub(line.used) <= idle);
        self.tokens.sweep(now);
    }
}
