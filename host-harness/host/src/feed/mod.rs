//! One feed: a plugin with the settings of one tenant. A feed makes the calls of the contract in their order, keeps the
//! token, and returns a scope's events completely or not at all.

mod answered;
mod pages;
mod poll;
mod token;
mod usage;

use std::sync::Arc;

use parking_lot::Mutex as SyncMutex;
use tokio::sync::Mutex;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use self::answered::tell_denied;
pub use self::pages::PollPages;
pub use self::poll::{Polled, keyed_poll_id, poll_id};
use self::token::{HeldToken, refused_twice};
pub use self::usage::{StatusClass, Usage};
use crate::clock::{self, Clock};
use crate::contract::{Credential, Description, Discovery, Failure, Plan, PollResult, Problem, Reaction};
use crate::credentials::settings::{Oddity, Settings};
use crate::failures;
use crate::limits::Limits;
use crate::network::egress::{Egress, News, Origins};
use crate::network::tokens::{Freshness, Tokens};
use crate::network::{Transport, TransportError};
use crate::plugin::Plugin;
use crate::plugin::call::{CallError, CallNetwork, Caller, KeptSearches, WaitAsked};
use crate::plugin::log_share::LogShare;

/// The identity of a feed, and the route of its requests.
#[derive(Clone)]
pub struct Identity {
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// The limits of each call.
    pub limits: Limits,
    /// The origins to which requests may go.
    pub allowed: Arc<Origins>,
    /// The transport of the requests; never shared between tenants.
    pub transport: Arc<dyn Transport>,
    /// Kept answers of token endpoints; shared by all feeds with an equal credential.
    pub tokens: Arc<Tokens>,
    /// The clock.
    pub clock: Clock,
}

impl Identity {
    /// Makes the identity of a feed with the default limits, tokens of its own, and the clock of this machine.
    pub fn new(
        tenant: impl Into<String>,
        feed: impl Into<String>,
        allowed: Origins,
        transport: impl Transport + 'static,
    ) -> Identity {
        Identity {
            tenant: tenant.into(),
            feed: feed.into(),
            limits: Limits::default(),
            allowed: Arc::new(allowed),
            transport: Arc::new(transport),
            tokens: Arc::default(),
            clock: clock::system(),
        }
    }

    /// The same identity with another clock, in Unix milliseconds.
    pub fn at(self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Identity {
        Identity { clock: Arc::new(clock), ..self }
    }
}

/// The reason why a feed cannot start.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The plugin refuses the settings; each problem names its setting.
    #[error("the plugin refuses its settings")]
    Settings(Vec<Problem>),
    /// The call of the plugin failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The host has no transport for the tenant.
    #[error(transparent)]
    Host(#[from] TransportError),
}

/// A feed with accepted settings.
pub struct Feed {
    plugin: Plugin,
    description: Arc<Description>,
    plan: Arc<Plan>,
    settings: Settings,
    caller: Caller,
    clock: Clock,
    token: Mutex<Option<HeldToken>>,
    /// The feed uses only tokens that were fetched after this time, in Unix milliseconds; `None` while every valid
    /// token is accepted.
    tokens_after: SyncMutex<Option<u64>>,
    usage: SyncMutex<Usage>,
    throttled: SyncMutex<Option<WaitAsked>>,
    /// Credentials sent so far.
    carried: SyncMutex<Vec<Credential>>,
}

impl Feed {
    /// Checks the settings with the plugin, whose plan decides which requests may leave.
    pub async fn open(plugin: Plugin, settings: Settings, identity: Identity) -> Result<Feed, FeedError> {
        Feed::open_as(plugin, settings, None, Arc::default(), Arc::default(), identity).await
    }

    /// Opens the feed as `open` does, with the remarks that were already reported about it. If the plan of these
    /// settings is given, the plugin is not asked again.
    pub async fn open_as(
        plugin: Plugin,
        settings: Settings,
        plan: Option<Plan>,
        news: Arc<News>,
        log: Arc<LogShare>,
        identity: Identity,
    ) -> Result<Feed, FeedError> {
        let description = plugin.description().await?;
        let settings = settings.sealing(&description);
        let Identity { tenant, feed, limits, allowed, transport, tokens, clock } = identity;
        let without = Caller { tenant, feed, limits, network: None, log: Some(log) };
        let plan = match plan {
            Some(plan) => Arc::new(plan),
            None => {
                let (prepared, journal) = plugin.prepare(&without, &settings).await;
                tell_denied(journal.first_denied, "", &without, &news);
                Arc::new(prepared?.map_err(FeedError::Settings)?)
            }
        };
        let egress = Arc::new(Egress::new(Arc::clone(&plan), allowed).knowing(news));
        let (freshness, searches) = (Freshness::Any, KeptSearches::default());
        let network = CallNetwork { egress, transport, tokens, freshness, clock: Arc::clone(&clock), searches };
        Ok(Feed {
            plugin,
            description,
            plan,
            settings,
            caller: Caller { network: Some(network), ..without },
            clock,
            token: Mutex::default(),
            tokens_after: SyncMutex::default(),
            usage: SyncMutex::default(),
            throttled: SyncMutex::default(),
            carried: SyncMutex::default(),
        })
    }

    /// The plugin's description of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The requests that may leave, and the oddities of the settings.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Returns the oddities in the real values of credentials, which the plugin never sees.
    pub fn oddities(&self) -> Vec<Oddity> {
        self.settings.oddities(&self.description, self.plugin.validators())
    }

    /// Returns the resources that the feed's calls used since the last reading.
    pub fn take_usage(&self) -> Usage {
        std::mem::take(&mut *self.usage.lock())
    }

    /// The origin whose answer to the last throttled call asked to wait, and until when, in Unix milliseconds. `None`
    /// where the plugin reports a wait that no origin asked for.
    pub fn throttled(&self) -> Option<WaitAsked> {
        self.throttled.lock().clone()
    }

    /// The plugin's fix for one of its codes, with the values of this feed; `None` if the code has no fix.
    pub async fn fix(&self, code: &str) -> Option<String> {
        let row = self.description.diagnoses.iter().find(|row| row.code == code && !row.fix.is_empty())?;
        let failure = Failure::new(Reaction::FixFeed, code, row.cause.clone());
        let poll_result = PollResult::Failure(Failure { fix: Some(row.fix.clone()), ..failure });
        let poll_id = poll_id(&self.caller.feed, "", 0);
        let outcome = self.normalize_as(None, poll_id, &poll_result, None).await.ok()?.outcome?;
        outcome.fix
    }

    /// Searches for the scopes.
    pub async fn discover(&self) -> Result<Discovery, Failure> {
        self.in_time("the search for scopes", self.discover_once()).await
    }

    /// Awaits the work, and returns a failure if the work takes longer than a whole poll may.
    async fn in_time<T>(&self, what: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let (most, before) = (self.caller.limits.poll_time, self.plugin.host().stood_still());
        match tokio::time::timeout(most, work).await {
            Ok(answer) => answer,
            Err(_) => {
                let stood = self.plugin.host().stood_still().saturating_sub(before);
                if !stood.is_zero() {
                    let cause =
                        format!("the process was stopped for {} s during {what}, or got no processor", stood.as_secs());
                    return Err(failures::HOST_STOPPED.because(cause));
                }
                let cause = format!("{what} takes longer than the limit of {} s", most.as_secs_f64());
                Err(failures::POLL_TIME_LIMIT.because(cause))
            }
        }
    }

    async fn discover_once(&self) -> Result<Discovery, Failure> {
        let token = self.token().await?;
        match self.answered(self.plugin.discover(&self.caller, &self.settings, token.as_ref()).await) {
            Err(failure) if failure.reaction == Reaction::RenewToken => {
                let token = self.another_token(token.as_ref()).await?;
                let answer = self.plugin.discover(&self.caller, &self.settings, token.as_ref()).await;
                self.answered(answer).map_err(|failure| refused_twice(failure, Reaction::FixFeed))
            }
            answer => answer,
        }
    }

    /// Returns the number of scopes that the settings alone select; `None` where the service must be asked.
    pub async fn scopes_of_settings(&self) -> Option<usize> {
        let caller = Caller { network: None, ..self.caller.clone() };
        // The plugin may try to ask the service here; the log need not mention that.
        let discover = self.plugin.discover(&caller, &self.settings, None).with_subscriber(NoSubscriber::default());
        let discovery = discover.await.0.ok()?.ok()?;
        Some(discovery.scopes.len() + discovery.skipped.len())
    }

    fn count(&self, change: impl FnOnce(&mut Usage)) {
        change(&mut self.usage.lock());
    }
}
