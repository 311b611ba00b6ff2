//! Clouds: a whole poll from memory, in which each request goes to the names of the cloud and to no others.

use std::sync::Arc;

use azure_secure_score::clouds::CLOUDS;
use host_harness::built_in;
use parking_lot::Mutex;
use serde_json::{Value, json};
use source_host::credentials::settings::Settings;
use source_host::feed::{Feed, Identity};
use source_host::network::egress::Origins;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportFuture};
use source_simulator::estate::Estate;
use source_simulator::service::World;

use crate::support::{NOON, noon, plugin, settings};

/// The service of one cloud, and the requests that it received.
struct Cloud {
    world: Mutex<World>,
    asked: Mutex<Vec<String>>,
}

impl Transport for Cloud {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let place = format!("{} {}{}", request.method, request.url.origin().ascii_serialization(), request.url.path());
        let more = if request.url.as_str().contains("skiptoken") { " next" } else { "" };
        self.asked.lock().push(place + more);
        let answer = self.world.lock().answer(&crate::support::asked(&request));
        let response = IncomingResponse { status: answer.status, headers: answer.headers, body: answer.body };
        Box::pin(std::future::ready(Ok(response)))
    }
}

/// Checks a poll of a tenant by its domain, with all its subscriptions and with these settings.
async fn check(more: Value, allowed: &[&str], authority: &str, endpoint: &str, audience: &str) {
    let mut world = World::new(Estate::default(), None);
    (world.url, world.audience) = (endpoint.to_owned(), Some(audience.to_owned()));
    let tenant = world.estate.tenants[2].clone();
    let cloud = Arc::new(Cloud { world: Mutex::new(world), asked: Mutex::default() });
    let mut all = settings(json!({
        "client_key": tenant.client_id,
        "client_secret": tenant.client_secret,
        "token_url": "northwind.example",
        "subscription_id": "*",
    }));
    all.extend(more.as_object().unwrap().clone());
    let identity = Identity {
        tenant: "northwind".to_owned(),
        feed: "northwind-scores".to_owned(),
        limits: Default::default(),
        allowed: Arc::new(Origins::new(allowed).unwrap()),
        transport: Arc::clone(&cloud) as _,
        tokens: Arc::default(),
        clock: noon(),
    };
    let feed = Feed::open(plugin(), Settings::new(all, Default::default()), identity).await.unwrap();
    let found = feed.discover().await.unwrap();
    let polled = feed.poll(&found.scopes[0], NOON, None).await;
    assert_eq!(polled.failure, None);
    assert_eq!(polled.batch.unwrap().events.len(), 15);
    let subscription = format!("{endpoint}/subscriptions/{}/providers/Microsoft.Security", found.scopes[0].id);
    let expected = [
        format!("POST {authority}/northwind.example/oauth2/v2.0/token"),
        format!("GET {authority}/northwind.example/v2.0/.well-known/openid-configuration"),
        format!("GET {endpoint}/subscriptions"),
        format!("GET {subscription}/secureScores"),
        format!("GET {subscription}/secureScoreControls"),
        format!("GET {subscription}/secureScoreControls next"),
    ];
    assert_eq!(*cloud.asked.lock(), expected);
}

#[tokio::test]
async fn the_public_cloud_is_polled_at_its_own_names() {
    let login = "https://login.microsoftonline.com";
    let endpoint = "https://management.azure.com";
    check(json!({}), built_in::ORIGINS, login, endpoint, endpoint).await;
    check(json!({ "cloud": "public" }), built_in::ORIGINS, login, endpoint, endpoint).await;
}

#[tokio::test]
async fn the_government_cloud_is_polled_at_its_own_names_with_an_audience_of_its_own() {
    let (login, endpoint) = ("https://login.microsoftonline.us", "https://management.usgovcloudapi.net");
    let audience = "https://management.core.usgovcloudapi.net";
    check(json!({ "cloud": "us-government" }), built_in::ORIGINS, login, endpoint, audience).await;
}

#[tokio::test]
async fn any_other_cloud_is_polled_at_three_addresses_that_the_operator_allows() {
    let (login, endpoint) = ("https://login.sovcloud-identity.fr", "https://management.sovcloud-api.fr");
    let more = json!({ "authority": login, "endpoint": endpoint, "audience": endpoint });
    check(more, &[login, endpoint], login, endpoint, endpoint).await;
}

#[test]
fn every_preset_has_a_test_here_and_needs_no_leave() {
    assert_eq!(CLOUDS.iter().map(|cloud| cloud.name).collect::<Vec<_>>(), ["public", "us-government"]);
    let origins: Vec<_> = CLOUDS.iter().flat_map(|cloud| [cloud.authority, cloud.endpoint]).collect();
    assert_eq!(origins, built_in::ORIGINS);
}
