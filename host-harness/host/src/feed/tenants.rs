//! The way out of each tenant: connections that no other tenant uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::{self, Limits, milliseconds};
use crate::network::client::Network;
use crate::network::tokens::Tokens;
use crate::network::{Transport, TransportError};

type NewTransport = Box<dyn Fn(&str) -> Result<Arc<dyn Transport>, TransportError> + Send + Sync>;

/// The way out of each tenant: a transport of its own, made when it is needed and dropped when it was not needed for a
/// while. The tokens of all: who holds an equal credential has an equal token.
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
    /// Makes transports with this, given the id of the tenant.
    pub fn new(new: impl Fn(&str) -> Result<Arc<dyn Transport>, TransportError> + Send + Sync + 'static) -> Tenants {
        let (limits, tokens) = (Limits::default(), Arc::default());
        Tenants { limits, new: Mutex::new(Box::new(new)), lines: Mutex::default(), tokens }
    }

    /// Transports over the network.
    pub fn live(network: Network) -> Tenants {
        let limits = Limits::default();
        Tenants::new(move |_| Ok(Arc::new(network.transport(&limits)?) as Arc<dyn Transport>))
    }

    /// Makes transports over another network from now on. What runs keeps the one it has.
    pub fn replace(&self, network: Network) {
        let limits = self.limits.clone();
        *self.new.lock() = Box::new(move |_| Ok(Arc::new(network.transport(&limits)?) as Arc<dyn Transport>));
        self.lines.lock().clear();
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

    /// Drops connections that were not used for a while, and tokens that are no longer good.
    pub fn sweep(&self, now: u64) {
        let idle = milliseconds(limits::IDLE_TENANT);
        self.lines.lock().retain(|_, line| now.saturating_sub(line.used) <= idle);
        self.tokens.sweep(now);
    }
}
