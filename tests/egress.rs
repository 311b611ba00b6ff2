//! The data that leaves and enters a plugin, observed at the socket and at the guest's border.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use azure_secure_score::link::List;
use host_harness::admitted::tenants::Tenants;
use host_harness::audit::inspect::{self, Sheet};
use host_harness::collector::once;
use host_harness::config;
use host_harness::config::admission;
use host_harness::sink;
use parking_lot::Mutex;
use source_host::contract::{Credential, CredentialUse, Path as ShapePath, Place, Plan, Shape};
use source_host::credentials::redact::Search;
use source_host::credentials::sealed::Sealed;
use source_host::credentials::secret::Secret;
use source_host::feed::{Feed, Identity};
use source_host::limits::Limits;
use source_host::network::address::prohibited;
use source_host::network::client::Network;
use source_host::network::egress::{Egress, Origins};
use source_host::network::proxy::Proxy;
use source_host::network::{OutgoingRequest, Transport};
use source_host::plugin::tap::tapped;
use source_simulator::service::Visit;
use source_simulator::{Simulator, estate::Estate};

use crate::security::Table;
use crate::support::{NOON, host, noon, plugin};

/// A request that must be denied, and the reason.
struct Attempt {
    tries: &'static str,
    method: &'static str,
    url: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    told: &'static str,
}

const fn get(tries: &'static str, url: &'static str, told: &'static str) -> Attempt {
    Attempt { tries, method: "GET", url, headers: &[BEARER], body: "", told }
}

const fn with(tries: &'static str, headers: &'static [(&'static str, &'static str)], told: &'static str) -> Attempt {
    Attempt { tries, method: "GET", url: "https://api.example/a/b", headers, body: "", told }
}

const fn post(tries: &'static str, body: &'static str, told: &'static str) -> Attempt {
    Attempt { tries, method: "POST", url: "https://login.example/token", headers: &[FORM], body, told }
}

const BEARER: (&str, &str) = ("authorization", "Bearer TOKEN");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Requests of a plugin that declared GETs below `https://api.example/a/` with the token, and one POST to
/// `https://login.example/token` with the setting `key` in a field of the form.
const ATTEMPTS: &[Attempt] = &[
    get("another host", "https://evil.example/a/b", "no declared request matches"),
    get("a host that begins like the known one", "https://api.example.evil.example/a/b", "no declared request matches"),
    get("the known host as a user name", "https://api.example@evil.example/a/b", "a user name"),
    get("without TLS", "http://api.example/a/b", "no declared request matches"),
    get("another port", "https://api.example:8443/a/b", "no declared request matches"),
    get("another path", "https://api.example/b", "no declared request matches"),
    get("a path that begins like the known one", "https://api.example/ab", "no declared request matches"),
    get("dot segments", "https://api.example/a/../b", "a dot segment"),
    get("dot segments, encoded", "https://api.example/a/%2e%2e/b", "a dot segment"),
    get("dot segments with a parameter", "https://api.example/a/..;/b", "a dot segment"),
    get("dot segments, encoded twice", "https://api.example/a/%252e%252e/b", "an encoded percent"),
    get("an encoded slash", "https://api.example/a/..%2fb", "an encoded slash"),
    get("a backslash", "https://api.example/a/..\\b", "an encoded slash"),
    get("a fragment", "https://api.example/a/b#c", "a fragment"),
    get("an address as a number", "https://2130706433/a/b", "in another spelling than"),
    get("an address in base 16", "https://0x7f.1/a/b", "in another spelling than"),
    get("an address in base 8", "https://0177.0.0.1/a/b", "in another spelling than"),
    get("IPv4 within IPv6", "https://[::ffff:127.0.0.1]/a/b", "in another spelling than"),
    get("an address that nobody allowed", "https://127.0.0.1/a/b", "no declared request matches"),
    get("a declared origin that the operator does not allow", "https://other.example/a/b", "is not allowed"),
    Attempt { method: "DELETE", ..get("another method", "https://api.example/a/b", "no declared request matches") },
    with("another method in a header", &[BEARER, ("x-http-method-override", "DELETE")], "may change what it means"),
    with("another path in a header", &[BEARER, ("x-original-url", "/admin")], "may change what it means"),
    with("a cookie", &[BEARER, ("cookie", "a=b")], "may change what it means"),
    with("a token of its own", &[("authorization", "Bearer stolen")], "carries no credential of this call"),
    with("the token as a password", &[("authorization", "Basic TOKEN")], "carries no credential of this call"),
    with("the token in another header", &[BEARER, ("x-copy", "TOKEN")], "is in a place for which it was not declared"),
    with("the secret to the API", &[BEARER, ("x-key", "KEY")], "is in a place for which it was not declared"),
    get("the token in the address", "https://api.example/a/b?TOKEN", "is in a place for which it was not declared"),
    with("a header of unknown meaning", &[BEARER, ("x-anything", "a")], "may be a credential that the plugin wrote"),
    get(
        "a key of its own in the address",
        "https://api.example/a/b?code=stolen-key-of-another",
        "looks like a credential",
    ),
    Attempt { body: "a=b", ..get("a body where one reads", "https://api.example/a/b", "a GET with a body") },
    post("a token of another account", "grant=x", "carries no credential of this call"),
    Attempt {
        headers: &[("content-type", "multipart/form-data; boundary=a")],
        ..post("a body into which nobody looks", "--a--", "not a form with the field key")
    },
    post("the secret in another field", "other=KEY", "is in a place for which it was not declared"),
    post("the secret twice", "key=KEY&key=KEY", "twice"),
    post("the token to the token endpoint", "key=TOKEN", "is in a place for which it was not declared"),
];

/// Addresses of a name that must not be dialled.
const ADDRESSES: &[(&str, &str)] = &[
    ("127.0.0.1", "loopback"),
    ("10.0.0.1", "private"),
    ("172.16.0.1", "private"),
    ("192.168.0.1", "private"),
    ("169.254.169.254", "the metadata address of clouds"),
    ("168.63.129.16", "Azure's host"),
    ("100.64.0.1", "behind a carrier's NAT"),
    ("0.0.0.0", "none"),
    ("224.0.0.1", "multicast"),
    ("255.255.255.255", "broadcast"),
    ("::1", "loopback"),
    ("fe80::1", "link-local"),
    ("fd00:ec2::254", "the metadata address of clouds"),
    ("::ffff:10.0.0.1", "IPv4 within IPv6"),
    ("::127.0.0.1", "IPv4 within IPv6, the old way"),
    ("64:ff9b::a9fe:a9fe", "the metadata address through NAT64"),
    ("2002:a00:1::", "a private address through 6to4"),
    ("2001:0:1::1", "Teredo"),
    ("4000::1", "given to nobody"),
];

#[test]
fn each_attempt_stays_and_says_why() {
    let shape = |method: &str, origin: &str, path: ShapePath, credential: Credential, place: Place| Shape {
        method: method.to_owned(),
        origin: origin.to_owned(),
        path,
        credentials: vec![CredentialUse { credential, place }],
        captures: None,
    };
    let key = Credential::Setting("key".to_owned());
    let (field, exact) = (Place::FormField("key".to_owned()), ShapePath::Exact("/token".to_owned()));
    let below =
        |origin: &str| shape("GET", origin, ShapePath::Prefix("/a/".to_owned()), Credential::Token, Place::Bearer);
    let shapes = vec![
        shape("POST", "https://login.example", exact, key.clone(), field),
        below("https://api.example"),
        below("https://other.example"),
    ];
    let allowed = Origins::new(["https://login.example", "https://api.example"]).unwrap();
    let egress = Egress::new(Plan { shapes, warnings: Vec::new() }, Arc::new(allowed));
    let secret = |name: &str| Secret::new(format!("the-real-{name}"));
    let sealed = [Sealed::new(key, secret("key")), Sealed::new(Credential::Token, secret("token"))];
    let filled = |text: &str| text.replace("KEY", &sealed[0].placeholder).replace("TOKEN", &sealed[1].placeholder);
    let judge = |attempt: &Attempt| {
        let url = filled(attempt.url);
        let headers = attempt.headers.iter().map(|(name, value)| ((*name).to_owned(), filled(value)));
        let request = OutgoingRequest {
            method: attempt.method.to_owned(),
            url: url.parse().unwrap(),
            headers: headers.collect(),
            body: filled(attempt.body).into_bytes(),
        };
        egress.judge(&url, request, &sealed).map(|_| ()).map_err(|denial| denial.to_string())
    };
    for good in [get("", "https://api.example/a/b?c=d", ""), post("", "a=b&key=KEY", "")] {
        assert_eq!(judge(&good), Ok(()), "{} leaves", good.url);
    }
    for attempt in ATTEMPTS {
        let told = judge(attempt).expect_err(attempt.tries);
        assert!(told.contains(attempt.told), "{}: {told}", attempt.tries);
        assert!(sealed.iter().all(|sealed| !told.contains(&sealed.placeholder)), "{told}");
    }
}

#[test]
fn each_address_is_not_dialled_unless_it_is_allowed() {
    for (address, what) in ADDRESSES {
        let address: IpAddr = address.parse().unwrap();
        assert!(prohibited(address, &[]).is_some(), "{address}: {what}");
        assert_eq!(prohibited(address, &[address.to_string().parse().unwrap()]), None, "{address}");
    }
}

/// The table in SECURITY.md.
pub fn attempts() -> Table {
    Table {
        title: "Requests that do not leave",
        how: "`tests/egress.rs`: the plugin declared GETs below `https://api.example/a/` with the token, and one POST to \
              `https://login.example/token` with a secret in one field of its form. The host refuses each of these requests.",
        columns: &["the plugin tries", "message"],
        rows: ATTEMPTS.iter().map(|attempt| vec![attempt.tries.to_owned(), format!("… {} …", attempt.told)]).collect(),
    }
}

/// The table in SECURITY.md.
pub fn addresses() -> Table {
    Table {
        title: "Addresses that are not dialled",
        how: "`tests/egress.rs`: the host does not connect to a name with one of these addresses, even if the name has other addresses. An entry in \
              `allow_addresses` permits an address.",
        columns: &["address", "kind"],
        rows: ADDRESSES.iter().map(|(address, what)| vec![format!("`{address}`"), (*what).to_owned()]).collect(),
    }
}

/// The host must allow every request that the plugin makes of a link, by every reader's understanding of the address.
#[test]
fn a_link_that_the_plugin_follows_is_let_out() {
    let token_use = CredentialUse { credential: Credential::Token, place: Place::Bearer };
    let shape = |path: ShapePath| Shape {
        method: "GET".to_owned(),
        origin: "https://api.example".to_owned(),
        path,
        credentials: vec![token_use.clone()],
        captures: None,
    };
    let shapes = vec![shape(ShapePath::Exact("/a".to_owned())), shape(ShapePath::Prefix("/a/b/".to_owned()))];
    let allowed = Origins::new(["https://api.example"]).unwrap();
    let egress = Egress::new(Plan { shapes, warnings: Vec::new() }, Arc::new(allowed));
    let sealed = [Sealed::new(Credential::Token, Secret::new("real"))];
    let bearer = format!("Bearer {}", sealed[0].placeholder);
    let characters: Vec<String> = (0..0x180_u32).filter_map(char::from_u32).map(String::from).collect();
    let encoded = (0..=0xff_u8).map(|byte| format!("%{byte:02x}"));
    let odd = ["%", "%%", "%zz", "..", "/../", "..;x", "%2e%2E/", ";", "//", ""].map(str::to_owned);
    let (mut followed, mut refused) = (0, 0);
    for part in characters.into_iter().chain(encoded).chain(odd) {
        for (path, link) in [
            ("/a", format!("https://API.example:443/a?x={part}y")),
            ("/a", format!("https://api.example/a?{part}{part}")),
            ("/a/b/c", format!("https://api.example/A/B/c?{part}")),
            ("/a/b/c", format!("https://api.example/a/b/c?d={part}&{part}=e")),
            ("/a/b/c", format!("https://api.example/a/b/c{part}d?e")),
            ("/a/b/c", format!("https://api.example/a/b/{part}c")),
        ] {
            let Ok(url) = (List { origin: "https://api.example", path }).follow(&link) else {
                refused += 1;
                continue;
            };
            followed += 1;
            let raw = url.parse::<http::Uri>().unwrap_or_else(|error| panic!("{link:?}: {error}")).to_string();
            let headers = vec![("authorization".to_owned(), bearer.clone())];
            let request =
                OutgoingRequest { method: "GET".to_owned(), url: raw.parse().unwrap(), headers, body: Vec::new() };
            let judged = egress.judge(&raw, request, &sealed);
            assert!(judged.is_ok(), "{link:?}: {}", judged.unwrap_err());
        }
    }
    assert!(followed > 1_000 && refused > 1_000, "{followed} {refused}");
}

async fn simulator(scenario: Option<&'static str>) -> Simulator {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into(), Estate::default(), scenario).await.unwrap();
    simulator.with(|world| world.watch());
    simulator
}

fn network(simulator: &Simulator) -> Network {
    Network::new(Some(simulator.ca_pem().as_bytes()), vec!["127.0.0.0/8".parse().unwrap()]).unwrap()
}

/// Returns the visits of each tenant.
fn by_tenant(simulator: &Simulator) -> BTreeMap<String, Vec<Visit>> {
    let mut tenants: BTreeMap<String, Vec<Visit>> = BTreeMap::new();
    for visit in simulator.with(|world| world.visits().to_vec()) {
        tenants.entry(visit.tenant.clone()).or_default().push(visit);
    }
    tenants
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_serves_two_tenants() {
    let simulator = simulator(None).await;
    let (text, variables) = simulator.configuration("");
    let text = text.lines().filter(|line| !line.starts_with("ca_file")).collect::<Vec<_>>().join("\n");
    let environment = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let config = config::parse(Path::new("test.toml"), &text, None, &environment);
    let checked = admission::check(&host(), config, None, &noon()).await.unwrap();
    let tenants = Tenants::live(network(&simulator));
    for _ in 0..2 {
        for admitted in &checked.feeds {
            let feed = admitted.open(&tenants, &noon()).await.unwrap();
            feed.sign_in().await.unwrap();
            for scope in feed.discover().await.unwrap().scopes {
                assert_eq!(feed.poll(&scope, NOON, None).await.failure, None);
            }
        }
    }
    let visits = by_tenant(&simulator);
    assert_eq!(visits.len(), 4);
    let mut seen = BTreeSet::new();
    for (tenant, visits) in visits {
        let connections: BTreeSet<usize> = visits.iter().map(|visit| visit.connection).collect();
        assert!(connections.len() < visits.len(), "{tenant}: connections are used again by their own tenant");
        assert!(!visits[0].resumed, "{tenant}: its first session is nobody else's");
        assert!(connections.iter().all(|connection| seen.insert(*connection)), "{tenant}: on a connection of another");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tls_session_goes_on_with_another_tenant() {
    let simulator = simulator(None).await;
    let network = network(&simulator);
    let (one, other) = (network.transport(&Limits::default()).unwrap(), network.transport(&Limits::default()).unwrap());
    let ids: Vec<String> =
        simulator.with(|world| world.estate.tenants.iter().map(|tenant| tenant.id.clone()).collect());
    let request = |tenant: &str| OutgoingRequest {
        method: "GET".to_owned(),
        url: format!("{}/{tenant}/v2.0/.well-known/openid-configuration", simulator.url()).parse().unwrap(),
        headers: vec![("connection".to_owned(), "close".to_owned())],
        body: Vec::new(),
    };
    for (transport, tenant) in [(&one, &ids[0]), (&one, &ids[0]), (&other, &ids[1]), (&other, &ids[1])] {
        assert_eq!(transport.send(request(tenant)).await.unwrap().status, 200);
    }
    let resumed: Vec<bool> = simulator.with(|world| world.visits().iter().map(|visit| visit.resumed).collect());
    assert_eq!(resumed, [false, true, false, true], "a session goes on for its own tenant, and for nobody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tls_session_of_a_sink_goes_on_with_another_tenant() {
    let simulator = simulator(None).await;
    let tls = network(&simulator).tls();
    // A sink that separates tenants has a client for each.
    let client = || sink::http::client(tls.clone(), &Proxy::default()).unwrap();
    let (one, other) = (client(), client());
    let ids: Vec<String> =
        simulator.with(|world| world.estate.tenants.iter().map(|tenant| tenant.id.clone()).collect());
    for (client, tenant) in [(&one, &ids[0]), (&one, &ids[0]), (&other, &ids[1]), (&other, &ids[1])] {
        let url = format!("{}/{tenant}/v2.0/.well-known/openid-configuration", simulator.url());
        client.post(&url).header("connection", "close").send().await.unwrap();
    }
    let resumed: Vec<bool> = simulator.with(|world| world.visits().iter().map(|visit| visit.resumed).collect());
    assert_eq!(resumed, [false, true, false, true], "a session goes on for its own tenant, and for nobody else");
}

/// Returns everything that entered the guests of one feed during a poll, and the secrets that must not have entered.
async fn entered(scenario: Option<&'static str>) -> (Vec<(String, Vec<u8>)>, Vec<Secret>) {
    let simulator = simulator(scenario).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tap = Arc::clone(&seen);
    let tap = Arc::new(move |place: &str, bytes: &[u8]| tap.lock().push((place.to_owned(), bytes.to_vec())));
    let plugin = tapped(plugin(), tap);
    let (text, variables) = simulator.configuration("");
    let text = text.lines().filter(|line| !line.starts_with("ca_file")).collect::<Vec<_>>().join("\n");
    let environment = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let config = config::parse(Path::new("test.toml"), &text, Some("contoso-scores"), &environment);
    let identity = Identity {
        tenant: "contoso".to_owned(),
        feed: "contoso-scores".to_owned(),
        limits: Limits::default(),
        allowed: Arc::new(Origins::new(&config.network.allow).unwrap()),
        transport: Arc::new(network(&simulator).transport(&Limits::default()).unwrap()),
        tokens: Arc::default(),
        clock: noon(),
    };
    let settings = config.feeds.into_iter().next().unwrap().settings;
    let feed = Feed::open(plugin, settings, identity).await.unwrap();
    if feed.sign_in().await.is_ok() {
        for scope in feed.discover().await.unwrap().scopes {
            let polled = feed.poll(&scope, NOON, None).await;
            let state = polled.batch.map(|batch| batch.state);
            feed.poll(&scope, NOON + 1, state.as_deref()).await;
        }
    }
    let secrets = simulator.with(|world| {
        let tenants = world.estate.tenants.iter().map(|tenant| tenant.client_secret.as_str());
        tenants.chain(world.tokens()).map(Secret::new).collect()
    });
    drop(feed);
    (std::mem::take(&mut *seen.lock()), secrets)
}

fn leaks(entered: &[(String, Vec<u8>)], secrets: &[Secret]) -> Vec<String> {
    let search = Search::new(secrets);
    let found = entered.iter().filter(|(_, bytes)| search.is_in(bytes));
    found.map(|(place, bytes)| format!("{place}: {}", String::from_utf8_lossy(bytes))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_token_enters_a_guest() {
    for scenario in [None, Some("echo"), Some("token-echo"), Some("token-refused"), Some("reset-in-body")] {
        let (entered, secrets) = entered(scenario).await;
        assert_eq!(leaks(&entered, &secrets), Vec::<String>::new(), "{scenario:?}");
        let places: BTreeSet<&str> = entered.iter().map(|(place, _)| place.as_str()).collect();
        let of_good = ["argument of discover", "argument of poll", "argument of normalize"];
        let of_good = of_good.iter().filter(|_| scenario.is_none());
        let of_all = ["argument of prepare", "argument of fetch-token", "body", "header", "status"];
        for place in of_all.iter().chain(of_good) {
            assert!(places.contains(place), "{scenario:?}: the tap sees {place}, not only {places:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leak_that_is_planted_is_found_at_every_place_and_in_every_spelling() {
    let (entered, secrets) = entered(None).await;
    let secret = secrets[0].expose();
    let base64 = |text: &str| {
        let script = "import base64,sys; sys.stdout.write(base64.urlsafe_b64encode(sys.argv[1].encode()).decode())";
        String::from_utf8(std::process::Command::new("python3").args(["-c", script, text]).output().unwrap().stdout)
            .unwrap()
    };
    let spellings = [
        secret.to_owned(),
        form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        secret.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        secret.bytes().map(|byte| format!("\\u{:04x}", u32::from(byte))).collect(),
        base64(secret),
        base64(&format!("a{secret}")),
        base64(&format!("ab{secret}")),
    ];
    for place in entered.iter().map(|(place, _)| place.as_str()).collect::<BTreeSet<_>>() {
        for spelling in &spellings {
            let (_, bytes) = entered.iter().find(|(known, _)| known == place).unwrap();
            let planted = [bytes, spelling.as_bytes()].concat();
            assert_eq!(leaks(&[(place.to_owned(), planted)], &secrets).len(), 1, "{spelling} as {place}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_is_taken_out_and_the_rest_is_collected() {
    let (entered, _) = entered(Some("echo")).await;
    let bodies = entered.iter().filter(|(place, _)| place == "body").map(|(_, body)| String::from_utf8_lossy(body));
    let echoed: Vec<_> = bodies.filter(|body| body.contains("\"echo\"")).collect();
    assert!(!echoed.is_empty());
    for body in echoed {
        assert!(body.contains("control of [redacted]") && body.contains("\"unicode\":\"[redacted]\""), "{body}");
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
    }
}

/// Returns the page for the first feed of a simulated service, whose configuration is edited.
async fn page(edit: fn(String) -> String) -> (String, serde_json::Value) {
    let simulator = simulator(None).await;
    let (text, variables) = simulator.configuration("");
    let text = text.lines().filter(|line| !line.starts_with("ca_file")).collect::<Vec<_>>().join("\n");
    let environment = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let config = config::parse(Path::new("test.toml"), &edit(text), Some("contoso-scores"), &environment);
    let checked = admission::check(&host(), config, None, &noon()).await.unwrap();
    let ready = once::open(&checked, &noon()).await.unwrap();
    let sheets = [Sheet::of(&ready[0], &Limits::default()).await];
    let (about, description) = (plugin().about().clone(), plugin().describe().await.0.unwrap());
    let text = inspect::text(&about, &description, Some(&sheets));
    assert_eq!(simulator.with(|world| world.visits().len()), 0, "nobody is asked");
    (text, inspect::json(&about, &description, Some(&sheets)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_that_is_signed_has_every_request_its_credential_its_leave_and_how_much_a_day() {
    let (text, json) = page(|text| text).await;
    let feed = &json["feeds"][0];
    assert_eq!((&feed["feed"], &feed["scopes"]), (&"contoso-scores".into(), &2.into()));
    let shapes = feed["shapes"].as_array().unwrap();
    assert_eq!(shapes.len(), 3, "the token, and each subscription");
    assert!(shapes.iter().all(|shape| shape["allowed"] == "operator" && shape["remedy"].is_null()), "{shapes:?}");
    assert_eq!(feed["a_day"]["polls"], 48);
    assert_eq!(feed["a_day"]["requests"]["estimate"], 48 * 2 + 27);
    for words in [
        "`client_secret` in the form field client_secret, and `access_token` of the answer stays with the host; allowed by",
        "/providers/Microsoft.Security/… with the token as bearer; allowed by [network]",
        "for the 2 scopes of its settings, every 3600 s: 48 polls",
        "estimate: 25 controls a subscription",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_what_is_not_allowed_and_what_only_the_service_knows() {
    let edit = |text: String| {
        let lines = text.lines().filter(|line| !line.starts_with("allow = "));
        let lines =
            lines.map(|line| if line.starts_with("subscription_id") { "subscription_id = \"*\"" } else { line });
        lines.collect::<Vec<_>>().join("\n")
    };
    let (text, json) = page(edit).await;
    let feed = &json["feeds"][0];
    assert!(feed["scopes"].is_null() && feed["shapes"][0]["allowed"].is_null(), "{feed}");
    let remedy = feed["shapes"][0]["remedy"].as_str().unwrap();
    assert!(remedy.starts_with("allow = [\"https://127.0.0.1:"), "{remedy}");
    assert!(text.contains(&format!("NOT ALLOWED without `{remedy}` in [network]")), "{text}");
    assert!(text.contains("for each scope that the service names, every 3600 s: 24 polls"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shape_that_was_declared_is_the_only_way_out_of_a_poll() {
    let simulator = simulator(None).await;
    simulator.with(|world| world.scenario = Some("link-climbing"));
    let (text, variables) = simulator.configuration("");
    let text = text.lines().filter(|line| !line.starts_with("ca_file")).collect::<Vec<_>>().join("\n");
    let environment = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let config = config::parse(Path::new("test.toml"), &text, Some("contoso-scores"), &environment);
    let checked = admission::check(&host(), config, None, &noon()).await.unwrap();
    let feed = checked.feeds[0].open(&Tenants::live(network(&simulator)), &noon()).await.unwrap();
    let scopes = feed.discover().await.unwrap().scopes;
    let before = simulator.with(|world| world.visits().len());
    let failure = feed.poll(&scopes[1], NOON, None).await.failure.unwrap();
    assert_eq!(failure.code, "link-refused", "{}", failure.cause);
    let sent = simulator.with(|world| world.visits().len()) - before;
    assert_eq!(sent, 2, "the scores and the first page of the controls, and not what its link names");
}
