//! Sign-in without a shared secret: by certificate, and by the token of another identity provider. The key and the
//! files stay outside the plugin.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host_harness::collector::once::{self, Output, Report};
use host_harness::config;
use host_harness::config::admission;
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair as NewKey};
use serde_json::Value;
use source_host::clock::Clock;
use source_host::credentials::assertion::{self, CredentialError, KeyPair};
use source_host::credentials::redact::Search;
use source_host::credentials::secret::Secret;
use source_host::feed::{Feed, Identity};
use source_host::limits::Limits;
use source_host::network::client::Network;
use source_host::network::egress::Origins;
use source_host::plugin::tap::tapped;
use source_simulator::assertion::Registered;
use source_simulator::{Simulator, estate::Estate};
use time::{Duration, OffsetDateTime};

use crate::support::tinyproxy::Tinyproxy;
use crate::support::{NOON, host, noon, plugin};

pub const RSA: &str = include_str!("credentials/rsa.pem");
const RSA_PKCS1: &str = include_str!("credentials/rsa-pkcs1.pem");
const RSA_SHORT: &str = include_str!("credentials/rsa-1024.pem");
const EC: &str = include_str!("credentials/ec-sec1.pem");

/// A token in the form of another identity provider's.
pub const FEDERATED: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0.c2lnbmVk";

const CERTIFICATE: &str = "client_certificate = { file = \"app.pem\" }";
const TOKEN_FILE: &str = "federated_token_file = \"token\"";

#[tokio::test]
async fn a_certificate_signs_in_with_the_claims_of_microsofts_own_client() {
    let scene = Scene::new(&certificate(365)).await;
    let (report, people) = scene.poll(CERTIFICATE, "").await;
    assert_eq!((report.status(), report.events, people.as_str()), (0, 30, ""));
    let sign_in = scene.last_sign_in();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        keys(&sign_in["form"]),
        ["client_assertion", "client_assertion_type", "client_id", "grant_type", "scope"]
    );
    assert_eq!((sign_in["header"]["alg"].as_str(), sign_in["header"]["typ"].as_str()), (Some("PS256"), Some("JWT")));
    let claims = &sign_in["claims"];
    assert_eq!(keys(claims), ["aud", "exp", "iat", "iss", "jti", "nbf", "sub"]);
    let endpoint = format!("{}/{}/oauth2/v2.0/token", scene.simulator.url(), sign_in["tenant"].as_str().unwrap());
    assert_eq!(claims["aud"], endpoint);
    assert_eq!((&claims["iss"], &claims["sub"]), (&sign_in["form"]["client_id"], &sign_in["form"]["client_id"]));
    assert_eq!((&claims["nbf"], &claims["iat"]), (&Value::from(NOON / 1_000), &Value::from(NOON / 1_000)));
    assert_eq!(claims["exp"], NOON / 1_000 + 600);
}

#[tokio::test]
async fn no_key_no_assertion_and_no_signed_token_enters_a_guest() {
    let scene = Scene::new(&certificate(365)).await;
    let token_file = format!("federated_token_file = {:?}", scene.folder.path().join("token"));
    for credential in [CERTIFICATE, &token_file] {
        let entered = Arc::new(Mutex::new(Vec::new()));
        let tap = Arc::clone(&entered);
        let tap = Arc::new(move |place: &str, bytes: &[u8]| tap.lock().push((place.to_owned(), bytes.to_vec())));
        let plugin = tapped(plugin(), tap);
        let config = config::parse(&scene.file(), &scene.text(credential, ""), Some("contoso-scores"), &|_| None);
        let ca_file = scene.simulator.ca_pem();
        let network = Network::new(Some(ca_file.as_bytes()), config.network.allow_addresses.clone()).unwrap();
        let identity = Identity {
            tenant: "contoso".to_owned(),
            feed: "contoso-scores".to_owned(),
            limits: Limits::default(),
            allowed: Arc::new(Origins::new(&config.network.allow).unwrap()),
            transport: Arc::new(network.transport(&Limits::default()).unwrap()),
            tokens: Arc::default(),
            clock: noon(),
        };
        let settings = config.feeds.into_iter().next().unwrap().settings;
        let feed = Feed::open(plugin, settings, identity).await.unwrap();
        for scope in feed.discover().await.unwrap().scopes {
            assert_eq!(feed.poll(&scope, NOON, None).await.failure, None);
        }
        let assertion = scene.last_sign_in()["form"]["client_assertion"].as_str().unwrap_or(FEDERATED).to_owned();
        let tokens: Vec<String> = scene.simulator.with(|world| world.tokens().map(str::to_owned).collect());
        assert!(!tokens.is_empty());
        let key = RSA.lines().filter(|line| !line.starts_with('-')).map(str::to_owned);
        let secrets: Vec<Secret> =
            key.chain(tokens).chain([assertion, FEDERATED.to_owned()]).map(Secret::new).collect();
        let search = Search::new(&secrets);
        let entered = entered.lock();
        for (place, bytes) in &*entered {
            assert!(!search.is_in(bytes), "{credential}, {place}: {}", String::from_utf8_lossy(bytes));
        }
        let places: BTreeSet<&str> = entered.iter().map(|(place, _)| place.as_str()).collect();
        assert!(places.contains("answer of client-assertion"), "{places:?}");
    }
}

#[tokio::test]
async fn a_certificate_comes_from_the_environment_too_and_its_key_as_pkcs_1() {
    let scene = Scene::new(&certificate(365)).await;
    let (report, people) = scene.poll("client_certificate = { env = \"APP_PEM\" }", "").await;
    assert_eq!((report.status(), report.events), (0, 30), "{people}");
}

#[tokio::test]
async fn a_token_of_another_identity_provider_signs_in_as_it_is() {
    let scene = Scene::new(&certificate(365)).await;
    let (report, people) = scene.poll(TOKEN_FILE, "").await;
    assert_eq!((report.status(), report.events, people.as_str()), (0, 30, ""));
    assert_eq!(scene.last_sign_in()["claims"]["iss"], "https://issuer.example");
}

#[tokio::test]
async fn both_go_through_a_proxy() {
    let (scene, proxy) = (Scene::new(&certificate(365)).await, Tinyproxy::start(None));
    for credential in [CERTIFICATE, TOKEN_FILE] {
        let before = proxy.connections(scene.simulator.url());
        let network = format!("proxy = \"http://127.0.0.1:{}\"", proxy.port);
        let (report, people) = scene.poll(credential, &network).await;
        assert_eq!((report.status(), report.events), (0, 30), "{people}");
        assert!(proxy.connections(scene.simulator.url()) > before);
    }
}

#[tokio::test]
async fn a_token_file_is_read_again_at_each_use() {
    let scene = Scene::new(&certificate(365)).await;
    let checked = scene.checked(TOKEN_FILE, "").await.unwrap();
    let feeds = once::open(&checked, &noon()).await.unwrap();
    let renewed = FEDERATED.replace("c2lnbmVk", "cmVuZXdlZA");
    fs::write(scene.folder.path().join("token"), &renewed).unwrap();
    scene.simulator.with(|world| world.federated = vec![renewed]);
    feeds[0].feed.sign_in().await.unwrap();
    fs::remove_file(scene.folder.path().join("token")).unwrap();
    let again = once::open(&checked, &noon()).await.unwrap();
    let failure = again[0].feed.sign_in().await.unwrap_err();
    assert_eq!(failure.code, "assertion-unavailable");
    assert!(failure.cause.contains("`federated_token_file`: it cannot be read; found a file"), "{}", failure.cause);
    assert!(failure.cause.contains("token: No such file"), "{}", failure.cause);
}

#[tokio::test]
async fn what_does_not_sign_in_says_what_to_mend() {
    let stranger = CertificateParams::new(Vec::new()).unwrap();
    let stranger = stranger.self_signed(&NewKey::from_pem(RSA).unwrap()).unwrap().pem();
    let scene = Scene::new(&stranger).await;
    fs::write(scene.folder.path().join("app.pem"), format!("{}{RSA}", certificate(365))).unwrap();
    let (report, people) = scene.poll(CERTIFICATE, "").await;
    assert_eq!(report.status(), 1);
    assert!(people.contains("(assertion-unregistered, tenant)") && people.contains("az ad app credential"), "{people}");
    scene.simulator.with(|world| {
        world.certificates.push(Registered::read(&certificate(365)).unwrap());
        world.now = Some(NOON / 1_000 + 86_400);
    });
    let (_, people) = scene.poll(CERTIFICATE, "").await;
    assert!(people.contains("(assertion-time, operator)") && people.contains("NTP"), "{people}");
    scene.simulator.with(|world| world.federated.clear());
    let (_, people) = scene.poll(TOKEN_FILE, "").await;
    assert!(people.contains("(federation-mismatch, tenant)"), "{people}");
}

#[tokio::test]
async fn a_key_that_cannot_sign_is_found_before_any_request() {
    let (ec_key, ec_certificate) = ec_certificate();
    let good = certificate(365);
    let scene = Scene::new(&good).await;
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFHDBOBgkqhkiG9w0BBQ0wQTApBgkqhkiG9w0BBQwwHAQI\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (pem, found) in [
        (String::from("no PEM at all"), "no PEM"),
        (good.clone(), "no private key among its parts"),
        (RSA.to_owned(), "a private key without its certificate"),
        (format!("{RSA}{ec_certificate}"), "a private key and a certificate that do not belong together"),
        (format!("{ec_key}{ec_certificate}"), "a key of another algorithm than RSA, such as an EC key"),
        (format!("{EC}{ec_certificate}"), "an EC key"),
        (format!("{RSA_SHORT}{good}"), "an RSA key of less than 2048 bits"),
        (format!("{encrypted}{good}"), "a private key that is encrypted"),
    ] {
        fs::write(scene.folder.path().join("app.pem"), &pem).unwrap();
        let problems = scene.checked(CERTIFICATE, "").await.err().unwrap();
        let expected =
            format!("feed contoso-scores: settings.client_certificate: found {found}, expected PEM of an RSA");
        assert!(problems.contains(&expected), "{expected} in {problems}");
    }
    let missing = scene.checked("client_certificate = { file = \"none.pem\" }", "").await.err().unwrap();
    assert!(missing.contains("settings.client_certificate: cannot read") && missing.contains("none.pem"), "{missing}");
}

#[tokio::test]
async fn a_file_that_holds_no_token_is_found_before_any_request() {
    let scene = Scene::new(&certificate(365)).await;
    fs::write(scene.folder.path().join("empty"), "\n").unwrap();
    for (value, found) in [
        ("none", "found a file that cannot be read ("),
        ("empty", "found a file without a signed token ("),
        (FEDERATED, "found the token itself, where the path of its file belongs, expected the path of a file"),
    ] {
        let problems = scene.checked(&format!("federated_token_file = {value:?}"), "").await.err().unwrap();
        let expected = format!("feed contoso-scores: settings.federated_token_file: {found}");
        assert!(problems.contains(&expected) && !problems.contains("eyJ"), "{expected} in {problems}");
    }
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_told() {
    for (days, words) in [
        (31, None),
        (30, Some("`client_certificate` expires in 30 days, on ")),
        (29, Some("`client_certificate` expires in 29 days, on ")),
        (6, Some("`client_certificate` expires in 6 days, on ")),
        (-1, Some("`client_certificate` expired on ")),
    ] {
        let scene = Scene::new(&certificate(days)).await;
        let checked = scene.checked(CERTIFICATE, "").await.unwrap();
        let end = (NOON as i64 + days * 86_400_000) as u64;
        assert_eq!(*checked.feeds[0].expiries, [("client_certificate".to_owned(), end / 1_000 * 1_000)]);
        let (report, people) = scene.poll(CERTIFICATE, "").await;
        assert_eq!(report.status(), 0);
        assert_eq!(people.contains("warning: "), words.is_some(), "{people}");
        assert!(people.contains(words.unwrap_or_default()), "{people}");
    }
}

/// A transport that keeps the bodies of requests, and answers with a token for an hour.
struct Counting(Mutex<Vec<Vec<u8>>>);

impl source_host::network::Transport for Counting {
    fn send(&self, request: source_host::network::OutgoingRequest) -> source_host::network::TransportFuture<'_> {
        self.0.lock().push(request.body);
        let body = br#"{"token_type":"Bearer","expires_in":3600,"access_token":"a-token"}"#.to_vec();
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Box::pin(std::future::ready(Ok(source_host::network::IncomingResponse { status: 200, headers, body })))
    }
}

/// Signs feeds in, each of a tenant and with one value of this setting, and compares the number of requests sent so
/// far.
async fn signed_in(setting: &str, feeds: &[(&str, String, usize)]) -> Vec<String> {
    let transport = Arc::new(Counting(Mutex::default()));
    let tokens = Arc::default();
    let open = |tenant: &str, value: &str| {
        let mut settings = crate::support::settings(serde_json::json!({ setting: value }));
        settings.remove("client_secret");
        let identity = Identity {
            tenant: tenant.to_owned(),
            feed: format!("{tenant}-scores"),
            limits: Default::default(),
            allowed: Arc::new(source_host::network::egress::Origins::new(host_harness::built_in::ORIGINS).unwrap()),
            transport: Arc::clone(&transport) as _,
            tokens: Arc::clone(&tokens),
            clock: noon() as Clock,
        };
        Feed::open(
            crate::support::plugin(),
            source_host::credentials::settings::Settings::new(settings, Default::default()),
            identity,
        )
    };
    for (tenant, value, requests) in feeds {
        open(tenant, value).await.unwrap().sign_in().await.unwrap();
        assert_eq!(transport.0.lock().len(), *requests, "{tenant}");
    }
    let sent = transport.0.lock();
    sent.iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect()
}

#[tokio::test]
async fn feeds_with_one_certificate_share_a_token_though_each_assertion_differs() {
    let (first, another) = (certificate(365), certificate(366));
    let feeds = [
        ("contoso", format!("{first}{RSA}"), 1),
        ("contoso", format!("{first}{RSA}"), 1),
        ("fabrikam", format!("{RSA}\n{first}{another}"), 1),
        ("fabrikam", format!("{another}{RSA}"), 2),
    ];
    let sent = signed_in("client_certificate", &feeds).await;
    assert!(sent.iter().all(|body| body.contains("client_assertion=eyJ")));
}

#[tokio::test]
async fn feeds_share_a_token_whose_files_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, token: &str| {
        fs::write(folder.path().join(name), token).unwrap();
        folder.path().join(name).to_string_lossy().into_owned()
    };
    let feeds = [
        ("contoso", write("a", FEDERATED), 1),
        ("fabrikam", write("b", &format!("{FEDERATED}\n")), 1),
        ("northwind", write("c", &FEDERATED.replace("c2lnbmVk", "cmVuZXdlZA")), 2),
    ];
    assert!(signed_in("federated_token_file", &feeds).await[0].contains(FEDERATED));
}

#[test]
fn an_assertion_is_verified_to_the_last_part() {
    let pem = certificate(365);
    let pair = KeyPair::read(&format!("{pem}{RSA}")).unwrap();
    assert!(KeyPair::read(&format!("\u{feff}{pem}\u{feff}{RSA}")).is_ok(), "put together from two files with marks");
    let registered = [Registered::read(&pem).unwrap()];
    let (client, audience) = ("11111111-2222-3333-4444-555555555555", "https://login.example/t/oauth2/v2.0/token");
    let made = |client: &str, audience: &str, now| pair.assertion(client, audience, now).unwrap().expose().to_owned();
    let good = made(client, audience, NOON);
    let found = |assertion: &str, now: u64| {
        let audiences = [audience.to_owned()];
        let found = source_simulator::assertion::refusal(assertion, client, &audiences, &registered, now / 1_000);
        found.map(|(code, _)| code)
    };
    assert_eq!(found(&good, NOON), None);
    assert_eq!(found(&good, NOON + 2_000_000), Some(700_024));
    assert_eq!(found(&good, NOON - 2_000_000), Some(700_024));
    assert_eq!(found(&made("another", audience, NOON), NOON), Some(700_021));
    assert_eq!(found(&made(client, "https://other.example", NOON), NOON), Some(700_023));
    assert_eq!(found(&format!("{}AAAA", &good[..good.len() - 4]), NOON), Some(700_027));
    assert_ne!(good, made(client, audience, NOON));
}

#[test]
fn a_token_has_three_parts_and_a_bounded_file() {
    for (text, expected) in [(FEDERATED, true), ("", false), ("a.b.c", false), ("eyJ.a", false), ("eyJ/.a.b", false)] {
        assert_eq!(assertion::is_token(text), expected, "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "x".repeat(40_000)).unwrap();
    let Err(CredentialError::Unfit(why)) = assertion::read_token(&file) else {
        panic!("a file that is too large is read")
    };
    assert!(why.contains("more than 32768 bytes"), "{why}");
    assert!(matches!(assertion::read_token(Path::new("/no/such/file")), Err(CredentialError::Unreadable { .. })));
}

/// Makes a certificate for the key, valid until this many days after noon.
pub fn certificate(days: i64) -> String {
    let noon = OffsetDateTime::from_unix_timestamp(NOON as i64 / 1_000).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    (params.not_before, params.not_after) = (noon - Duration::days(90), noon + Duration::days(days));
    params.self_signed(&NewKey::from_pem(RSA).unwrap()).unwrap().pem()
}

fn ec_certificate() -> (String, String) {
    let key = NewKey::generate().unwrap();
    let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    (key.serialize_pem(), certificate.pem())
}

/// A simulated service that trusts the certificate and the token, and a folder with both.
struct Scene {
    simulator: Simulator,
    folder: tempfile::TempDir,
    secrets: Vec<(String, String)>,
}

impl Scene {
    async fn new(certificate: &str) -> Scene {
        let simulator = Simulator::start(([127, 0, 0, 1], 0).into(), Estate::default(), None).await.unwrap();
        simulator.with(|world| {
            world.certificates.push(Registered::read(certificate).unwrap());
            world.federated.push(FEDERATED.to_owned());
            world.now = Some(NOON / 1_000);
        });
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", simulator.ca_pem());
        write("app.pem", &format!("{certificate}{RSA}"));
        write("token", &format!("{FEDERATED}\n"));
        let (_, secrets) = simulator.configuration("ca.pem");
        Scene { simulator, folder, secrets }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("azure.toml")
    }

    /// Returns the configuration with one line in place of the secret, and another in `[network]`.
    fn text(&self, credential: &str, network: &str) -> String {
        let (text, _) = self.simulator.configuration("ca.pem");
        let lines = text.lines().map(|line| if line.starts_with("client_secret") { credential } else { line });
        lines.collect::<Vec<_>>().join("\n").replacen("[network]", &format!("[network]\n{network}"), 1)
    }

    async fn checked(&self, credential: &str, network: &str) -> Result<admission::Checked, String> {
        let environment = |name: &str| {
            let known = self.secrets.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            known.or_else(|| (name == "APP_PEM").then(|| format!("{}{RSA_PKCS1}", certificate(365))))
        };
        let config = config::parse(&self.file(), &self.text(credential, network), Some("contoso-scores"), &environment);
        admission::check(&host(), config, None, &noon()).await.map_err(|error| match error {
            config::StartError::Configuration(problems) => {
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            }
            other => other.to_string(),
        })
    }

    async fn poll(&self, credential: &str, network: &str) -> (Report, String) {
        let checked = self.checked(credential, network).await.unwrap();
        let feeds = once::open(&checked, &noon()).await.unwrap();
        let (mut events, mut people) = (Vec::new(), Vec::new());
        let output = Output { events: &mut events, people: &mut people };
        let report = once::poll(&feeds, &noon(), output).await.unwrap();
        (report, String::from_utf8(people).unwrap())
    }

    fn last_sign_in(&self) -> Value {
        self.simulator.with(|world| world.sign_ins().last().unwrap().clone())
    }
}
