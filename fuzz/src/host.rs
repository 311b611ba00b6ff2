//! Properties of the host that must hold for any bytes of a configuration, of a cassette, or of a plugin's requests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path as File;
use std::sync::{Arc, LazyLock};

use azure_secure_score::contract as native;
use azure_secure_score::discover::{self, Found};
use azure_secure_score::http::Request;
use azure_secure_score::pages::PollPosition;
use azure_secure_score::settings::{Settings, Subscriptions};
use azure_secure_score::{prepare, settings, token};
use host_harness::built_in;
use host_harness::config::{self, Config};
use host_harness::recording::cassette::Cassette;
use host_harness::recording::replay;
use source_host::contract::{Credential, CredentialUse, Path, Place, Plan, Shape};
use source_host::credentials::sealed::Sealed;
use source_host::credentials::secret::Secret;
use source_host::network::OutgoingRequest;
use source_host::network::address::{Cidr, prohibited};
use source_host::network::egress::{Egress, Judged, Origins, canonical};
use source_host::plugin::Plugin;
use source_host::plugin::compiler::Compiler;
use tokio::runtime::Runtime;
use url::Url;

const KEY: &str = "the-real-client-secret-of-the-tenant";
const TOKEN: &str = "the-real-token-of-the-tenant";

fn sealed() -> Vec<Sealed> {
    let one = |placeholder: &str, credential, secret| Sealed {
        placeholder: placeholder.to_owned(),
        credential,
        secret: Secret::new(secret),
        identity: None,
    };
    vec![
        one("sealed-key", Credential::Setting("client_secret".to_owned()), KEY),
        one("sealed-token", Credential::Token, TOKEN),
    ]
}

/// Says whether an input contains the secrets that it must not get: the fuzzer learns them from comparisons.
fn knows_secrets(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.contains(KEY) || lower.contains(TOKEN)
}

/// Checks any request: if it leaves, it goes to an allowed origin by every reader's understanding, with each credential
/// at its place.
pub fn requests(data: &[u8]) {
    const LOGIN: &str = "https://login.example";
    const API: &str = "https://api.example:8443";
    static EGRESS: LazyLock<Egress> = LazyLock::new(|| {
        let shape = |method: &str, origin: &str, path, credential, place| Shape {
            method: method.to_owned(),
            origin: origin.to_owned(),
            path,
            credentials: vec![CredentialUse { credential, place }],
            captures: None,
        };
        let field = Place::FormField("client_secret".to_owned());
        let key = Credential::Setting("client_secret".to_owned());
        let below = |path: &str| Path::Prefix(path.to_owned());
        let shapes = vec![
            shape("POST", LOGIN, Path::Exact("/t/token".to_owned()), key, field),
            shape("GET", API, below("/a/"), Credential::Token, Place::Bearer),
            shape("GET", "https://other.example", below("/"), Credential::Token, Place::Bearer),
        ];
        Egress::new(Plan { shapes, warnings: Vec::new() }, Arc::new(allowed(&[LOGIN, API])))
    });

    let text = String::from_utf8_lossy(data);
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let (method, raw) = lines.next().and_then(|line| line.split_once(' ')).unwrap_or_default();
    addresses(raw, data);
    if knows_secrets(&text) {
        return;
    }
    // In the sandbox, addresses that hyper cannot parse are refused earlier.
    let Ok(uri) = raw.parse::<http::Uri>() else { return };
    let raw = uri.to_string();
    let Ok(url) = Url::parse(&raw) else { return };
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let request = OutgoingRequest { method: method.to_owned(), url, headers, body: body.as_bytes().to_vec() };
    let sealed = sealed();
    let (request, shape) = match EGRESS.judge(&raw, request, &sealed) {
        Ok(judged) => (judged.request, judged.shape),
        Err(denial) => {
            assert!(!denial.reason.is_empty());
            assert!(!denial.to_string().contains(KEY) && !denial.to_string().contains(TOKEN));
            return;
        }
    };
    check_leaving(&request, shape, &raw, &uri, &[LOGIN, API]);
    for sealed in &sealed {
        assert!(!carries(&request, &sealed.placeholder), "a placeholder leaves: {raw}");
    }
    check_carried(&request, shape);
}

/// Checks that each credential is at its place, and only there.
fn check_carried(request: &OutgoingRequest, shape: &Shape) {
    let field = format!("client_secret={KEY}");
    let body = String::from_utf8_lossy(&request.body).into_owned();
    match shape.method.as_str() {
        "POST" => {
            assert!(!carries(request, TOKEN));
            assert!(!body.contains(KEY) || body.split('&').filter(|pair| **pair == field).count() == 1, "{body}");
            assert!(!request.headers.iter().any(|(_, value)| value.contains(KEY)));
        }
        _ => {
            assert!(!carries(request, KEY));
            assert!(!body.contains(TOKEN) && !request.url.as_str().contains(TOKEN));
            let bearing = request.headers.iter().filter(|(_, value)| value.contains(TOKEN));
            let bearing: Vec<_> = bearing.map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert!(bearing.is_empty() || bearing == [("authorization", format!("Bearer {TOKEN}").as_str())]);
        }
    }
}

/// Checks with two parsers that the address is at an allowed origin and below the shape's path.
fn check_leaving(request: &OutgoingRequest, shape: &Shape, raw: &str, uri: &http::Uri, allowed: &[&str]) {
    let url = &request.url;
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(url), "{raw}");
    let origin = url.origin().ascii_serialization();
    assert!(allowed.contains(&origin.as_str()), "{raw}");
    assert_eq!(canonical(&shape.origin), Some(origin), "{raw}");
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{raw}");
    assert_eq!(uri.scheme_str(), Some(url.scheme()), "{raw}");
    assert_eq!(uri.host().map(host), url.host_str().map(host), "{raw}");
    assert_eq!(uri.port_u16().or(url.port_or_known_default()), url.port_or_known_default(), "{raw}");
    assert!(raw.split(['/', '?']).nth(2).is_some_and(|authority| !authority.contains('@')), "{raw}");
    for path in [url.path(), uri.path()] {
        match &shape.path {
            Path::Exact(exact) => assert_eq!(path, exact, "{raw}"),
            Path::Prefix(prefix) => assert!(path.starts_with(prefix) && path.len() > prefix.len(), "{raw}"),
        }
        assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{raw}");
    }
}

/// Normalizes a host: its letter case and the spelling of an IPv6 address do not matter.
fn host(text: &str) -> String {
    let address = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')?.parse::<Ipv6Addr>().ok());
    address.map_or(text.to_ascii_lowercase(), |address| address.to_string())
}

fn carries(request: &OutgoingRequest, text: &str) -> bool {
    request.url.as_str().contains(text)
        || request.headers.iter().any(|(name, value)| name.contains(text) || value.contains(text))
        || String::from_utf8_lossy(&request.body).contains(text)
}

fn allowed(origins: &[&str]) -> Origins {
    Origins::new(origins).unwrap_or_else(|error| unreachable!("{error}"))
}

/// Checks that the meaning of an origin and an address does not depend on their spelling.
fn addresses(text: &str, data: &[u8]) {
    if let Some(origin) = canonical(text) {
        assert_eq!(canonical(&origin).as_ref(), Some(&origin), "{text}");
        let url = Url::parse(text).expect("an origin is an address");
        assert_eq!(url.origin().ascii_serialization(), origin);
        assert!(matches!(url.scheme(), "http" | "https"));
    }
    if let Ok(range) = text.parse::<Cidr>() {
        let address =
            text.split('/').next().and_then(|address| address.parse().ok()).expect("it opens with an address");
        assert!(range.contains(address));
        assert_eq!(prohibited(address, &[range]), None);
    }
    if let Some(four) = data.first_chunk::<4>() {
        let address = Ipv4Addr::from(*four);
        let special = address.is_loopback()
            || address.is_private()
            || address.is_link_local()
            || address.is_unspecified()
            || address.is_multicast()
            || address.is_broadcast()
            || address.is_documentation();
        let plain = prohibited(IpAddr::V4(address), &[]);
        assert!(!special || plain.is_some(), "{address}");
        assert_eq!(prohibited(IpAddr::V6(address.to_ipv6_mapped()), &[]), plain, "{address}");
    }
    if let Some(sixteen) = data.first_chunk::<16>() {
        let address = Ipv6Addr::from(*sixteen);
        let special = address.is_loopback()
            || address.is_unspecified()
            || address.is_multicast()
            || address.is_unique_local()
            || address.is_unicast_link_local();
        assert!(!special || prohibited(IpAddr::V6(address), &[]).is_some(), "{address}");
    }
}

/// Checks any settings of the plugin: every problem names its setting and reveals no secret, or every request of later
/// calls has a declared shape.
pub fn shapes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // Only the host knows whether a name with `xn--` can be decoded; and nobody can guess a real placeholder.
    let lower = text.to_ascii_lowercase();
    if knows_secrets(&text) || lower.contains("xn--") || lower.contains("sealed-") {
        return;
    }
    match settings::read(&text) {
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                assert!(problem.setting.is_empty() || problem.setting.starts_with('/'), "{}", problem.setting);
                assert!(!problem.found.is_empty() && !problem.expected.is_empty());
            }
        }
        Ok((settings, subscriptions, warnings)) => {
            assert_eq!(Settings::trusted(&text).as_ref(), Ok(&settings));
            assert_eq!(Subscriptions::trusted(&text).as_ref(), Ok(&subscriptions));
            let credential = Some(settings::Credential::Secret("sealed-key".to_owned()));
            let settings = Settings { credential, ..settings };
            let plan = plan(prepare::plan(&settings, &subscriptions, warnings));
            let origins: BTreeSet<&str> = plan.shapes.iter().map(|shape| shape.origin.as_str()).collect();
            let allowed = Origins::default().with_credentials_over_http(&origins);
            let allowed = allowed.unwrap_or_else(|error| panic!("{error}"));
            let egress = Egress::new(plan.clone(), Arc::new(allowed));
            for request in made(&settings, &subscriptions) {
                leaves(&egress, &request);
            }
        }
    }
}

/// Returns the first requests of the contract's calls.
fn made(settings: &Settings, subscriptions: &Subscriptions) -> Vec<Request> {
    let mut requests =
        vec![token::request(settings, |_, _, _| unreachable!("a secret needs no host")).expect("there is a secret")];
    requests.extend(discover::tenant_request(settings));
    let found = Found::new(settings, subscriptions, "20ff7fc3-e762-44dd-bd96-b71116dcdc23".to_owned());
    let bearer = Some("sealed-token");
    requests.extend(found.next_request(bearer).expect("no page was read"));
    let scopes = found.discovery().map(|discovery| discovery.scopes).unwrap_or_default();
    for scope in scopes.iter().take(4) {
        for event in &settings.events {
            let place = PollPosition::read(settings, scope, Some(event.name())).expect("its own cursor");
            requests.extend([place.request(bearer), place.without_expansion().request(bearer)]);
        }
    }
    requests
}

fn leaves(egress: &Egress, request: &Request) {
    let uri = request.url.parse::<http::Uri>().unwrap_or_else(|error| panic!("{}: {error}", request.url));
    let url = Url::parse(&request.url).unwrap_or_else(|error| panic!("{}: {error}", request.url));
    let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
    headers.extend(request.bearer.as_ref().map(|bearer| ("authorization".to_owned(), format!("Bearer {bearer}"))));
    if request.form.is_some() {
        headers.push(("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
    }
    let method = if request.form.is_some() { "POST" } else { "GET" };
    let body = request.form.clone().unwrap_or_default().into_bytes();
    let outgoing = OutgoingRequest { method: method.to_owned(), url, headers, body };
    let raw = uri.to_string();
    match egress.judge(&raw, outgoing, &sealed()) {
        Err(denial) => panic!("{method} {raw} was not declared: {denial}"),
        Ok(Judged { request: leaving, shape, .. }) => {
            let origin = canonical(&shape.origin).expect("an origin that was declared");
            check_leaving(&leaving, shape, &raw, &uri, &[origin.as_str()]);
            assert_eq!(carries(&leaving, KEY), request.form.is_some());
            assert_eq!(carries(&leaving, TOKEN), request.bearer.is_some());
        }
    }
}

/// Converts the plan to the host's type.
fn plan(plan: native::Plan) -> Plan {
    let credential = |credential| match credential {
        native::Credential::Setting(setting) => Credential::Setting(setting),
        native::Credential::Assertion(setting) => Credential::Assertion(setting),
        native::Credential::Token => Credential::Token,
    };
    let place = |place| match place {
        native::Place::FormField(field) => Place::FormField(field),
        native::Place::Header(header) => Place::Header(header),
        native::Place::Bearer => Place::Bearer,
    };
    let path = |path| match path {
        native::Path::Exact(path) => Path::Exact(path),
        native::Path::Prefix(path) => Path::Prefix(path),
    };
    let shapes = plan.shapes.into_iter().map(|shape| Shape {
        method: shape.method,
        origin: shape.origin,
        path: path(shape.path),
        credentials: shape
            .credentials
            .into_iter()
            .map(|used| CredentialUse { credential: credential(used.credential), place: place(used.place) })
            .collect(),
        captures: shape.captures,
    });
    Plan { shapes: shapes.collect(), warnings: Vec::new() }
}

/// Checks any text: the result is a consistent configuration, or problems that point into the text. No secret is
/// revealed.
pub fn configs(data: &[u8]) {
    const VALUE: &str = "what-the-variable-holds";
    let text = String::from_utf8_lossy(data);
    // There are no files beside it.
    let file = File::new("/nowhere/collector.toml");
    let environment = |name: &str| (name != "NOBODY").then(|| VALUE.to_owned());
    let read = |only: Option<&str>| config::parse(file, &text, only, &environment);
    let config = read(None);
    let last_line = text.matches('\n').count() + 1;
    for problem in config.problems.iter().chain(&config.warnings) {
        assert_eq!(problem.place.at.file, file);
        assert!(problem.place.at.line.is_none_or(|line| line.get() <= last_line), "{problem}");
        assert!(!problem.message.is_empty());
        assert!(!problem.to_string().contains(VALUE), "{problem}");
    }
    assert_eq!(config.problems, read(None).problems);
    if config.problems.is_empty() {
        check_config(&config);
        let first = config.feeds[0].id.clone();
        let only = read(Some(&first));
        assert!(only.problems.is_empty() && only.feeds.len() == 1 && only.feeds[0].id == first);
    }
    read(Some("none"));
}

fn check_config(config: &Config) {
    assert!(!config.feeds.is_empty() && !config.sinks.is_empty());
    let sinks: BTreeSet<&str> = config.sinks.iter().map(|sink| sink.id.as_str()).collect();
    assert_eq!(sinks.len(), config.sinks.len());
    let ids: BTreeSet<&str> = config.feeds.iter().map(|feed| feed.id.as_str()).collect();
    assert_eq!(ids.len(), config.feeds.len());
    let is_id = |id: &str| {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        (1..=64).contains(&id.len()) && id.bytes().all(good) && !id.starts_with(['.', '_', '-'])
    };
    for feed in &config.feeds {
        assert!(is_id(&feed.id) && is_id(&feed.tenant), "{:?} {:?}", feed.id, feed.tenant);
        assert!(!feed.sinks.is_empty() && feed.sinks.iter().all(|sink| sinks.contains(sink.as_str())));
        assert!(feed.interval.as_ref().is_none_or(|interval| (1..=31 * 86_400).contains(&interval.time.as_secs())));
    }
    for origin in &config.network.allow {
        assert_eq!(canonical(origin).as_ref(), Some(origin));
    }
    let exposed = config.collector.listen.is_some_and(|address| !address.ip().is_loopback());
    assert!(!exposed || config.collector.token.is_some());
    assert!(config.collector.polls > 0 && config.collector.polls_of_tenant > 0);
}

/// Returns a runtime and a plugin that play cassettes. The plugin is compiled at the first call, which takes seconds.
pub fn player() -> &'static (Runtime, Plugin) {
    static PLAYER: LazyLock<(Runtime, Plugin)> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let own = std::env::current_exe().expect("this program");
        let host = built_in::host(Some(own.with_file_name("plugins")), Compiler::Nobody).expect("an engine");
        (runtime, built_in::plugin(&host).expect("the built-in plugin"))
    });
    &PLAYER
}

/// Checks any text: the result is an error, or a cassette that is written as it was read and that plays twice in the
/// same way.
pub fn cassettes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let cassette = match Cassette::read(&text) {
        Ok(cassette) => cassette,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let written = serde_json::to_string(&cassette).expect("a cassette is JSON");
    let again = Cassette::read(&written).expect("what was written is read");
    assert_eq!(serde_json::to_string(&again).expect("a cassette is JSON"), written);
    let (runtime, plugin) = player();
    let [first, second] = [&cassette, &again].map(|cassette| runtime.block_on(replay::play(plugin, cassette)));
    match (first, second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first.lines(), second.lines());
            assert_eq!(first.expected(), second.expected());
        }
        (Err(first), Err(second)) => assert_eq!(first.to_string(), second.to_string()),
        (first, second) => panic!("{} and {} of the same cassette", first.is_ok(), second.is_ok()),
    }
}

/// Returns the targets by name.
pub fn targets() -> BTreeMap<&'static str, fn(&[u8])> {
    BTreeMap::from([
        ("requests", requests as fn(&[u8])),
        ("shapes", shapes),
        ("configs", configs),
        ("cassettes", cassettes),
    ])
}
