//! A simulated service without sockets whose failures a test chooses, a folder with a state, and a clock that jumps.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::Value;
use source_host::network::{self, IncomingResponse, OutgoingRequest, Transport};
use source_simulator::answer;
use source_simulator::estate::Estate;
use source_simulator::service::World;
use tokio::sync::watch;

use crate::support::NOON;
use crate::support::stage::{Secrets, Stage};

/// A folder with a state, a service and a clock.
pub struct Scene {
    pub folder: tempfile::TempDir,
    pub service: Arc<Service>,
    pub now: Arc<AtomicU64>,
}

impl Scene {
    pub fn new(estate: Estate) -> Scene {
        let now = Arc::new(AtomicU64::new(NOON));
        let mut world = World::new(estate, None);
        world.url = "https://sim.example".to_owned();
        let service = Service {
            world: Mutex::new(world),
            trouble: Mutex::new(Box::new(|_, _| None)),
            asked: Mutex::default(),
            now: Arc::clone(&now),
            held: watch::Sender::new(None),
        };
        Scene { folder: tempfile::tempdir().unwrap(), service: Arc::new(service), now }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("collector.toml")
    }

    pub async fn start(&self, text: &str) -> Stage {
        let transport = Arc::clone(&self.service) as Arc<dyn Transport>;
        Stage::start(&self.file(), text, &Secrets::new(), &self.now, transport).await
    }

    pub async fn reload(&self, stage: &mut Stage, text: &str) {
        stage.reload(&self.file(), text, &Secrets::new(), false).await;
    }

    /// Reloads the same file, as SIGHUP does.
    pub async fn hang_up(&self, stage: &mut Stage, text: &str) {
        stage.reload(&self.file(), text, &Secrets::new(), true).await;
    }

    /// Writes a feed of the first tenant of the estate.
    pub fn feed(&self, id: &str, tenant: usize, subscriptions: &str, more: &str) -> String {
        let world = self.service.world.lock();
        let known = &world.estate.tenants[tenant];
        format!(
            "[[feed]]\nid = {id:?}\ntenant = \"tenant-{tenant}\"\n[feed.settings]\nclient_key = {:?}\n\
             client_secret = {:?}\ntoken_url = {:?}\nauthority = \"https://sim.example\"\n\
             endpoint = \"https://sim.example\"\naudience = \"https://sim.example\"\n\
             subscription_id = {subscriptions}\n{more}\n",
            known.client_id, known.client_secret, known.id
        )
    }
}

/// The simulated service without sockets, and the time and path of the requests that it received.
pub struct Service {
    pub world: Mutex<World>,
    pub trouble: Mutex<Trouble>,
    pub asked: Mutex<Vec<(u64, String)>>,
    pub now: Arc<AtomicU64>,
    /// Answers to paths that contain this text are held back.
    pub held: watch::Sender<Option<String>>,
}

impl Service {
    /// Returns the times of requests for paths that contain this text.
    pub fn times(&self, part: &str) -> Vec<u64> {
        let asked = self.asked.lock();
        asked.iter().filter(|(_, path)| path.contains(part)).map(|(now, _)| *now).collect()
    }

    /// Returns the number of requests for a subscription's scores.
    pub fn polls(&self, subscription: &str) -> usize {
        self.times(&format!("{subscription}/providers/Microsoft.Security/secureScores")).len()
    }

    pub fn answer_with(&self, trouble: impl Fn(&str, u64) -> Option<answer::Answer> + Send + Sync + 'static) {
        *self.trouble.lock() = Box::new(trouble);
    }
}

impl Transport for Service {
    fn send(&self, request: OutgoingRequest) -> network::TransportFuture<'_> {
        let (now, path) = (self.now.load(Ordering::SeqCst), request.url.path().to_owned());
        self.asked.lock().push((now, path.clone()));
        let trouble = (self.trouble.lock())(&path, now);
        let answer = trouble.unwrap_or_else(|| self.world.lock().answer(&crate::support::asked(&request)));
        let answer::Answer { status, headers, body, .. } = answer;
        let mut held = self.held.subscribe();
        Box::pin(async move {
            let is_free = |held: &Option<String>| held.as_ref().is_none_or(|part| !path.contains(part));
            held.wait_for(is_free).await.unwrap();
            Ok(IncomingResponse { status, headers, body })
        })
    }
}

/// Returns the answer in place of the service's own, given the path and the time.
pub type Trouble = Box<dyn Fn(&str, u64) -> Option<answer::Answer> + Send + Sync>;

pub const SECOND: u64 = 1_000;
pub const HOUR: u64 = 3_600 * SECOND;
pub const DAY: u64 = 24 * HOUR;

pub const NETWORK: &str = "[network]\nallow = [\"https://sim.example\"]\n";

/// Id of a subscription of a tenant of `Estate::sized`, both counted from 0.
pub fn subscription(tenant: u32, which: u32) -> String {
    let number = tenant + 1;
    format!("{number:08x}-{which:04x}-4f6b-b1d0-{number:012x}")
}

pub fn list(subscriptions: &[String]) -> String {
    format!("{subscriptions:?}")
}

/// Returns activity and last part of each finding, or the code of an outcome.
pub fn told(events: &[Value]) -> Vec<(u64, String)> {
    let told = |event: &Value| {
        let finding = event["finding_info"]["uid"].as_str().unwrap().rsplit('/').next().unwrap();
        let what = if finding == "secure-score-collection" { event["status_code"].as_str().unwrap() } else { finding };
        (event["activity_id"].as_u64().unwrap(), what.to_owned())
    };
    events.iter().map(told).collect()
}

pub fn throttled(seconds: &str) -> Option<answer::Answer> {
    let answer = answer::arm_error(429, "SubscriptionRequestsThrottled", "Number of 'read' requests exceeded.");
    Some(answer.with("retry-after", seconds))
}

pub fn forbidden() -> Option<answer::Answer> {
    Some(answer::arm_error(403, "AuthorizationFailed", "The client does not have authorization."))
}

pub fn secret_refused() -> answer::Answer {
    answer::entra_error(401, "invalid_client", 7_000_215, "Invalid client secret provided.", "")
}
