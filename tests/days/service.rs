//! The simulated service of the ten days: scores that move, controls that come and go, and troubles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportFuture};
use source_simulator::answer;
use source_simulator::estate::{Estate, Subscription};
use source_simulator::service::World;

use super::{HOUR, SUBSCRIPTIONS, TENANTS, searched};
use crate::support::{Dice, NOON};

/// Makes a service with a story for each subscription.
pub fn service(now: &Arc<AtomicU64>, days: u64) -> Service {
    let estate = Estate::sized(TENANTS, SUBSCRIPTIONS);
    let mut dice = Dice::new(42);
    let mut stories = BTreeMap::new();
    for (index, tenant) in estate.tenants.iter().enumerate() {
        for (which, subscription) in tenant.subscriptions.iter().enumerate() {
            let story = Story::new(subscription, searched(index, which), days, &mut dice);
            stories.insert(subscription.id.clone(), story);
        }
    }
    let mut world = World::new(estate, None);
    world.url = "https://sim.example".to_owned();
    Service { world: Mutex::new(world), stories, asked: Mutex::default(), now: Arc::clone(now) }
}

/// The interval at which the service recomputes.
const STEP: u64 = 8 * HOUR;

/// A problem with a subscription at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The service answers 503.
    Outage,
    /// The application lost its role.
    Forbidden,
    /// Both lists are empty.
    Empty,
    /// The list of subscriptions lacks it.
    Unlisted,
    /// The list of subscriptions says that it is disabled.
    Disabled,
}

/// The history of one subscription.
pub struct Story {
    /// The subscription after each recomputation.
    pub steps: Vec<Subscription>,
    /// Start, end and kind of each problem.
    pub troubles: Vec<(u64, u64, Trouble)>,
}

impl Story {
    fn new(base: &Subscription, searched: bool, days: u64, dice: &mut Dice) -> Story {
        let (mut now, mut gone) = (base.clone(), BTreeMap::new());
        let steps = (0..=days * 3).map(|step| {
            for (index, control) in now.controls.iter_mut().enumerate() {
                if dice.roll(4) == 0 {
                    control.healthy = (control.healthy + dice.roll(4) as u32).saturating_sub(1).max(1);
                    control.unhealthy = (control.unhealthy + dice.roll(4) as u32).saturating_sub(2);
                }
                // Sometimes a large number of resources breaks, and is mended later.
                match dice.roll(40) {
                    0 => control.unhealthy += 20,
                    1 => control.unhealthy = 0,
                    2 if index > 0 => drop(gone.insert(control.id, step + 1 + dice.roll(4))),
                    _ => {}
                }
            }
            let mut seen = now.clone();
            seen.controls.retain(|control| gone.get(control.id).is_none_or(|until| *until <= step));
            seen
        });
        let steps = steps.collect();
        let mut troubles = Vec::new();
        let mut hour = 12 + dice.roll(48);
        while hour < days * 24 {
            let until = hour + 3 + dice.roll(30);
            let kinds = [Trouble::Outage, Trouble::Forbidden, Trouble::Empty, Trouble::Unlisted, Trouble::Disabled];
            let trouble = kinds[dice.roll(if searched { 5 } else { 3 }) as usize];
            troubles.push((NOON + hour * HOUR, NOON + until * HOUR, trouble));
            hour = until + 24 + dice.roll(96);
        }
        Story { steps, troubles }
    }

    pub fn trouble(&self, now: u64) -> Option<Trouble> {
        self.troubles.iter().find(|(from, until, _)| (*from..*until).contains(&now)).map(|(.., trouble)| *trouble)
    }

    pub fn at(&self, now: u64) -> &Subscription {
        &self.steps[((now - NOON) / STEP) as usize]
    }
}

/// The requests to the service, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Search { now: u64, subscription: String },
    Poll { now: u64, subscription: String },
}

/// The service, as the stories determine it.
pub struct Service {
    pub world: Mutex<World>,
    pub stories: BTreeMap<String, Story>,
    pub asked: Mutex<Vec<Asked>>,
    pub now: Arc<AtomicU64>,
}

impl Service {
    fn answer(&self, request: &OutgoingRequest) -> answer::Answer {
        let now = self.now.load(Ordering::SeqCst);
        let segments: Vec<&str> = request.url.path().trim_matches('/').split('/').collect();
        let unavailable = || answer::arm_error(503, "ServerTimeout", "The request timed out.");
        let mut world = self.world.lock();
        match segments.as_slice() {
            ["subscriptions"] => {
                let token = crate::support::asked(request).bearer.unwrap();
                let tenant = world.tenant_of_token(&token).unwrap();
                let tenant = world.estate.tenants.iter_mut().find(|known| known.id == tenant).unwrap();
                // The first subscription of each tenant is the one that a search looks for.
                let id = tenant.subscriptions[0].id.clone();
                self.asked.lock().push(Asked::Search { now, subscription: id.clone() });
                let trouble = self.stories[&id].trouble(now);
                if trouble == Some(Trouble::Outage) {
                    return unavailable();
                }
                let whole = tenant.subscriptions.clone();
                tenant.subscriptions[0].state = if trouble == Some(Trouble::Disabled) { "Disabled" } else { "Enabled" };
                if trouble == Some(Trouble::Unlisted) {
                    tenant.subscriptions.remove(0);
                }
                let tenant = tenant.id.clone();
                let answer = world.answer(&crate::support::asked(request));
                world.estate.tenants.iter_mut().find(|known| known.id == tenant).unwrap().subscriptions = whole;
                answer
            }
            ["subscriptions", id, .., collection] => {
                let story = &self.stories[*id];
                if *collection == "secureScores" {
                    self.asked.lock().push(Asked::Poll { now, subscription: (*id).to_owned() });
                }
                let subscriptions = world.estate.tenants.iter_mut().flat_map(|tenant| &mut tenant.subscriptions);
                let subscription = subscriptions.into_iter().find(|known| known.id == *id).unwrap();
                *subscription = story.at(now).clone();
                match story.trouble(now) {
                    Some(Trouble::Outage) => return unavailable(),
                    Some(Trouble::Forbidden) => {
                        return answer::arm_error(
                            403,
                            "AuthorizationFailed",
                            "The client does not have authorization.",
                        );
                    }
                    Some(Trouble::Empty) => subscription.controls.clear(),
                    _ => {}
                }
                world.answer(&crate::support::asked(request))
            }
            _ => world.answer(&crate::support::asked(request)),
        }
    }
}

impl Transport for Service {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let answer::Answer { status, headers, body, .. } = self.answer(&request);
        Box::pin(std::future::ready(Ok(IncomingResponse { status, headers, body })))
    }
}
