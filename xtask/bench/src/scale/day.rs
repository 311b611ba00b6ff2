//! A simulated day of a collector with many scopes: a feed for each customer, whose application reads a thousand
//! subscriptions, each polled once a day.

use std::fs;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use host_harness::collector::schedule::{Schedule, first};
use host_harness::overview::Query;
use host_harness::run;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use source_host::clock::Clock;
use source_host::limits::{DAY, milliseconds};
use source_host::{OutgoingRequest, Transport, TransportFuture};

use crate::blocks;
use crate::process;
use crate::sandbox;
use crate::scale::stage::{ORIGIN, Service, Skipping, Stage, answered};

/// Subscriptions of a customer: a large one, so that work that grows with the scopes of a feed shows.
const SCOPES_OF_CUSTOMER: usize = 1_000;

/// Controls of each subscription: one, so that a million polls take an hour.
const CONTROLS: u32 = 1;

/// The figures of a day.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Day {
    /// Resident bytes while all scopes wait, each polled once.
    resident: f64,
    /// The growth of the resident bytes since the feeds were admitted.
    grown: f64,
    /// The largest resident bytes.
    peak: f64,
    /// Lateness of the first polls.
    first: Lateness,
    /// Lateness of the polls at the scopes' places in the day.
    planned: Lateness,
    /// Number of polls.
    polls: f64,
    /// Microseconds of processor time a planned poll, without the service's.
    poll: f64,
    /// Bytes of the store's files after the day.
    stored: f64,
    /// Seconds until the day was over.
    elapsed: f64,
    /// Seconds of a start with the store of that day.
    restart: f64,
    /// Milliseconds for which one request for the status page keeps the collector's loop.
    page: f64,
}

/// Seconds between the time at which polls were due and their first requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Lateness {
    /// The 99th percentile.
    most_polls: f64,
    longest: f64,
}

/// The figures: the end of the row's name, a description, the unit, and the figure of so many scopes.
pub type Figure = (&'static str, &'static str, &'static str, fn(&Day, f64) -> f64);

/// The figures in the order of the table.
pub const FIGURES: [Figure; 13] = [
    ("memory", "resident memory while all scopes wait", "MB", |day, _| day.resident / 1e6),
    ("scope", "resident memory of a scope that waits", "KiB", |day, scopes| day.grown / scopes / 1024.0),
    ("peak", "largest resident memory", "MB", |day, _| day.peak / 1e6),
    ("first", "lateness of first polls, 99th percentile", "s", |day, _| day.first.most_polls),
    ("first-longest", "lateness of first polls, longest", "s", |day, _| day.first.longest),
    ("lateness", "lateness of planned polls, 99th percentile", "s", |day, _| day.planned.most_polls),
    ("lateness-longest", "lateness of planned polls, longest", "s", |day, _| day.planned.longest),
    ("polls", "polls in the day", "polls", |day, _| day.polls),
    ("poll", "processor time of a planned poll", "µs", |day, _| day.poll),
    ("store", "the store's files after the day", "MB", |day, _| day.stored / 1e6),
    ("elapsed", "time that the day took, elapsed", "s", |day, _| day.elapsed),
    ("restart", "time of a start with that store, elapsed", "s", |day, _| day.restart),
    ("page", "time for which the status page keeps the loop, elapsed", "ms", |day, _| day.page),
];

/// Lives a day with so many scopes, beginning with an empty store.
pub async fn day(scopes: usize) -> Result<Day, String> {
    let begun = Instant::now();
    let clock = Skipping::new();
    let customers = Arc::new(Customers::new(scopes, &clock.read));
    let transport = Arc::clone(&customers) as Arc<dyn Transport>;
    let text = configuration(customers.count());
    let mut stage = Stage::start(clock, &text, (Arc::clone(&customers.service), transport)).await?;
    run::memory::give_back();
    let (admitted, end) = (process::own_resident_bytes()?, (stage.clock.read)() + milliseconds(DAY));
    stage.live(end, scopes as u64).await?;
    stage.rest().await;
    let (resident, first) = (process::own_resident_bytes()?, customers.lateness()?);
    customers.is_planned.store(true, Ordering::SeqCst);
    let (polls, processor, service) = (stage.service.polls(), blocks::time(), stage.service.spent());
    stage.live(end, u64::MAX).await?;
    let (planned, service) = (stage.service.polls() - polls, stage.service.spent() - service);
    let poll = (blocks::time() - processor).saturating_sub(service).as_secs_f64() * 1e6 / planned as f64;
    stage.rest().await;
    let (elapsed, peak) = (begun.elapsed().as_secs_f64(), process::own_peak_bytes()?);
    let asked = Instant::now();
    let draft = stage.collector.draft(&Query::default());
    let page = asked.elapsed().as_secs_f64() * 1e3;
    let snapshot = draft.cleaned();
    if (snapshot.scopes, snapshot.failing_scopes, snapshot.failing_feeds) != (scopes, 0, 0) {
        let (found, failing) = (snapshot.scopes, snapshot.failing_scopes + snapshot.failing_feeds);
        return Err(format!(
            "found {found} scopes, and {failing} scopes and feeds that fail, expected {scopes} and none"
        ));
    }
    let closed = stage.closed().await;
    let stored = bytes_in(closed.folder()).map_err(|error| format!("the store's folder: {error}"))?;
    let asked = Instant::now();
    let stage = closed.opened().await?;
    let restart = asked.elapsed().as_secs_f64();
    stage.pipeline.close().await;
    let (polls, planned) = (customers.service.polls() as f64, customers.lateness()?);
    Ok(Day { resident, grown: resident - admitted, peak, first, planned, polls, poll, stored, elapsed, restart, page })
}

/// Returns the sum of the sizes of the files in a folder.
fn bytes_in(folder: &std::path::Path) -> std::io::Result<f64> {
    let sizes = fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len()));
    Ok(sizes.sum::<std::io::Result<u64>>()? as f64)
}

/// Returns the configuration: a feed for each customer, with all subscriptions that its application can read.
fn configuration(customers: usize) -> String {
    let mut text = format!("[network]\nallow = [\"{ORIGIN}\"]\n[feed_defaults]\ninterval = \"24h\"\n");
    for customer in 0..customers {
        text += &format!(
            "[[feed]]\nid = \"{feed}\"\ntenant = \"{feed}\"\n[feed.settings]\n\
             client_key = \"{customer:08x}-a991-4c3f-8d27-000000000001\"\nclient_secret = \"the-secret-of-{customer}\"\n\
             token_url = \"{tenant}\"\nauthority = \"{ORIGIN}\"\nendpoint = \"{ORIGIN}\"\naudience = \"{ORIGIN}\"\n\
             subscription_id = \"*\"\n",
            feed = feed(customer),
            tenant = tenant(customer),
        );
    }
    text
}

fn feed(customer: usize) -> String {
    format!("customer-{customer}")
}

/// Returns the id of the customer's directory, which begins with the customer's number.
fn tenant(customer: usize) -> String {
    format!("{customer:08x}-7e4a-4b1d-9c55-000000000001")
}

/// Returns the id of a subscription, which begins with the customer's number and its own.
fn subscription(customer: usize, which: usize) -> String {
    format!("{customer:08x}-{which:04x}-4f6b-b1d0-{customer:012x}")
}

/// Returns the numbers at the beginning of a subscription's id.
fn numbers(subscription: &str) -> Option<(usize, usize)> {
    let mut parts = subscription.split('-').map(|part| usize::from_str_radix(part, 16).ok());
    Some((parts.next()??, parts.next()??))
}

/// The customers' subscriptions at the service, and how late their polls begin.
struct Customers {
    service: Arc<Service>,
    clock: Clock,
    scopes: usize,
    /// When each customer's subscriptions were listed.
    listed: Vec<AtomicU64>,
    /// Whether all first polls are over.
    is_planned: AtomicBool,
    /// Lateness in milliseconds of each poll since the last reading.
    late: Mutex<Vec<u32>>,
    token: String,
}

impl Customers {
    fn new(scopes: usize, clock: &Clock) -> Customers {
        Customers {
            service: Arc::new(Service::new(CONTROLS)),
            clock: Arc::clone(clock),
            scopes,
            listed: (0..scopes.div_ceil(SCOPES_OF_CUSTOMER)).map(|_| AtomicU64::default()).collect(),
            is_planned: AtomicBool::new(false),
            late: Mutex::new(Vec::new()),
            token: sandbox::token(),
        }
    }

    fn count(&self) -> usize {
        self.listed.len()
    }

    /// Returns a token that ends with the customer's number.
    fn token(&self, customer: usize) -> String {
        let token = &self.token;
        format!(r#"{{"token_type":"Bearer","expires_in":86399,"access_token":"{token}{customer:08x}"}}"#)
    }

    /// Returns the list of the customer's subscriptions.
    fn list(&self, customer: usize) -> String {
        let before = customer * SCOPES_OF_CUSTOMER;
        let tenant = tenant(customer);
        let subscriptions: Vec<String> = (0..SCOPES_OF_CUSTOMER.min(self.scopes.saturating_sub(before)))
            .map(|which| {
                let id = subscription(customer, which);
                format!(
                    r#"{{"id":"/subscriptions/{id}","subscriptionId":"{id}","displayName":"customer {customer} production {which}","state":"Enabled","tenantId":"{tenant}"}}"#
                )
            })
            .collect();
        format!(r#"{{"value":[{}]}}"#, subscriptions.join(","))
    }

    /// Notes how late a poll begins.
    fn begins(&self, id: &str) {
        let Some((customer, which)) = numbers(id) else { return };
        let Some(listed) = self.listed.get(customer) else { return };
        let now = (self.clock)();
        let due = match self.is_planned.load(Ordering::SeqCst) {
            // The collector plans the first polls in the order of the list.
            false => first(listed.load(Ordering::SeqCst), which as u64),
            // The next place comes after half an interval: this is the place in the last six hours.
            true => Schedule::new(&feed(customer), id, DAY).next_place(now - milliseconds(DAY) / 4 * 3),
        };
        self.late.lock().push(u32::try_from(now.saturating_sub(due)).unwrap_or(u32::MAX));
    }

    /// Returns the lateness of the polls since the last reading.
    fn lateness(&self) -> Result<Lateness, String> {
        let mut late = std::mem::take(&mut *self.late.lock());
        late.sort_unstable();
        let at =
            |index: usize| late.get(index).map(|late| f64::from(*late) / 1e3).ok_or("found no poll, expected some");
        Ok(Lateness { most_polls: at(late.len() * 99 / 100)?, longest: at(late.len().saturating_sub(1))? })
    }
}

impl Transport for Customers {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let path = request.url.path();
        let body = self.service.counted(|| {
            if path == "/subscriptions" {
                let bearer = request.headers.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value);
                let customer = bearer.and_then(|bearer| bearer.get(bearer.len().checked_sub(8)?..));
                let customer = usize::from_str_radix(customer.unwrap_or_default(), 16).ok()?;
                self.listed.get(customer)?.store((self.clock)(), Ordering::SeqCst);
                return Some(self.list(customer));
            }
            if path.ends_with("/token") {
                let customer = path.trim_start_matches('/').split('-').next()?;
                return Some(self.token(usize::from_str_radix(customer, 16).ok()?));
            }
            if path.ends_with("/secureScores") {
                self.begins(path.split('/').nth(2).unwrap_or_default());
            }
            None
        });
        match body {
            Some(body) => Box::pin(ready(Ok(answered(body)))),
            None => self.service.send(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customers(scopes: usize, now: u64) -> Customers {
        Customers::new(scopes, &(Arc::new(move || now) as Clock))
    }

    #[test]
    fn the_last_customer_has_the_remaining_subscriptions() {
        let customers = customers(2_001, 0);
        assert_eq!(customers.count(), 3);
        let ids = |customer| customers.list(customer).matches("subscriptionId").count();
        assert_eq!([ids(0), ids(1), ids(2)], [1_000, 1_000, 1]);
        assert!(customers.list(2).contains(&subscription(2, 0)));
        assert_eq!(numbers(&subscription(2, 999)), Some((2, 999)));
    }

    #[test]
    fn a_first_poll_is_due_at_its_place_in_the_list_and_a_later_one_at_its_place_in_the_day() {
        let id = subscription(0, 20);
        let place = Schedule::new(&feed(0), &id, DAY).next_place(crate::input::NOON);
        let late = |is_planned, listed, now| {
            let customers = customers(1_000, now);
            customers.listed[0].store(listed, Ordering::SeqCst);
            customers.is_planned.store(is_planned, Ordering::SeqCst);
            (0..99).for_each(|_| customers.begins(&id));
            customers.begins(&subscription(0, 0));
            customers.lateness().unwrap()
        };
        let first = late(false, place, place + 3_000);
        assert_eq!((first.most_polls, first.longest), (3.0, 3.0), "the first of the list is due at once");
        let Lateness { longest, .. } = late(false, place - 1_000, place);
        assert_eq!(longest, 1.0);
        let customers = customers(1_000, place + 7_000);
        customers.is_planned.store(true, Ordering::SeqCst);
        customers.begins(&id);
        assert_eq!(customers.lateness().unwrap().longest, 7.0);
        assert!(customers.lateness().is_err(), "a reading takes the polls away");
    }
}
