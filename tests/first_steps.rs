//! Ten set-ups that new users break. Each is checked, mended as the text says, and checked again.

use std::net::SocketAddr;
use std::sync::Arc;

use host_harness::check::Question;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::test_connection::Set;

const CLIENT: &str = "00000001-a991-4c3f-8d27-000000000001";
const SUBSCRIPTION: &str = "00000001-0001-4f6b-b1d0-000000000001";

/// Checks a broken set-up: the step that reports the problem, words of the cause, and words of the fix.
async fn check_broken(set: &Set, question: Question, cause: &str, fix: &str) {
    let (report, words) = set.check().await;
    let step = report.stopped().unwrap_or_else(|| panic!("nothing is wrong in {words}"));
    let trouble = step.trouble.as_ref().unwrap();
    assert_eq!(step.question, question, "{words}");
    assert!(trouble.cause.contains(cause), "expected {cause:?} in {words}");
    assert!(trouble.fix.contains(fix), "expected {fix:?} in {words}");
}

async fn check_mended(set: &Set) {
    let (report, words) = set.check().await;
    assert!(report.ok() && report.sample.is_some(), "{words}");
}

#[tokio::test]
async fn a_wrong_secret() {
    let mut set = Set::new(None).await;
    let right = std::mem::replace(&mut set.variables[0].1, "Zz8Q~an-older-secret.of-this-app".to_owned());
    check_broken(
        &set,
        Question::Credential,
        "AADSTS7000215",
        &format!("az ad app credential reset --id {CLIENT} --append"),
    )
    .await;
    set.variables[0].1 = right;
    check_mended(&set).await;
}

#[tokio::test]
async fn the_secrets_id_in_place_of_its_value() {
    let mut set = Set::new(None).await;
    let right = std::mem::replace(&mut set.variables[0].1, "5f0c2a8e-3f51-4f4c-9a3d-2f1f0b7d9c11".to_owned());
    check_broken(&set, Question::Credential, "AADSTS7000215", "the secret's Value, not its Secret ID").await;
    // The warning comes before anything is sent.
    let (_, words) = set.check().await;
    assert!(
        words.contains("warning: ") && words.contains("settings.client_secret: ") && words.contains("GUID"),
        "{words}"
    );
    set.variables[0].1 = right;
    check_mended(&set).await;
}

#[tokio::test]
async fn a_wrong_tenant() {
    let mut set = Set::new(None).await;
    set.edit("token_url", "token_url = \"00000009-7e4a-4b1d-9c55-000000000009\"");
    check_broken(&set, Question::Credential, "AADSTS90002", "put the Directory (tenant) ID into `token_url`").await;
    set.edit("token_url", "token_url = \"00000001-7e4a-4b1d-9c55-000000000001\"");
    check_mended(&set).await;
}

#[tokio::test]
async fn another_cloud() {
    let mut set = Set::new(None).await;
    let audience = set.text.lines().find(|line| line.starts_with("audience")).unwrap().to_owned();
    set.edit("audience", "cloud = \"us-government\"");
    check_broken(&set, Question::Credential, "AADSTS500011", "check `cloud`, or `audience`").await;
    set.edit("cloud", &audience);
    check_mended(&set).await;
}

#[tokio::test]
async fn no_role() {
    let set = Set::new(Some("forbidden")).await;
    let fix = format!(
        "az role assignment create --assignee {CLIENT} --role \"Security Reader\" --scope /subscriptions/{SUBSCRIPTION}"
    );
    check_broken(&set, Question::Permission, "AuthorizationFailed", &fix).await;
    set.simulator.with(|world| world.scenario = None);
    check_mended(&set).await;
}

#[tokio::test]
async fn a_mistyped_subscription() {
    let mut set = Set::new(None).await;
    set.edit("subscription_id", "subscription_id = \"00000001-0001-4f6b-b1d0-00000000001\"");
    check_broken(
        &set,
        Question::Settings,
        "found `00000001-0001-4f6b-b1d0-00000000001`, expected a subscription ID",
        "azure.toml:",
    )
    .await;
    set.edit("subscription_id", "subscription_id = \"00000001-0001-4f6b-b1d0-000000000011\"");
    check_broken(&set, Question::Permission, "SubscriptionNotFound", "compare `subscription_id` with: az account list")
        .await;
    set.edit("subscription_id", &format!("subscription_id = \"{SUBSCRIPTION}\""));
    check_mended(&set).await;
}

#[tokio::test]
async fn a_proxy_in_the_way() {
    let mut set = Set::new(None).await;
    // Only the proxy leads out: at the service's address, nobody listens.
    let service = set.simulator.url().to_owned();
    let there = free_address();
    set.text = set.text.replace(&service, &format!("https://{there}"));
    set.simulator.with(|world| world.url = format!("https://{there}"));
    check_broken(
        &set,
        Question::Connect,
        "the connection is refused",
        "name the proxy that it has to use: `proxy = \"http://",
    )
    .await;

    let proxy = Proxy::start(&service, Some("Basic dXNlcjpwYXNzOndvcmQ=")).await;
    // The fix is applied with a wrong address first.
    set.edit("[network]", &format!("[network]\nproxy = \"http://{}\"", free_address()));
    check_broken(&set, Question::Connect, "the proxy cannot be reached", "check `proxy` in [network]").await;
    set.edit("proxy", &format!("proxy = \"{}\"", service.replace("https", "http")));
    check_broken(&set, Question::Connect, "the answer is not from a proxy", "check host and port of `proxy`").await;
    set.edit("proxy", &format!("proxy = \"http://{}\"", proxy.address));
    check_broken(&set, Question::Connect, "407", "`proxy = { env = \"PROXY_ADDRESS\" }` in [network]").await;
    set.edit("proxy", "proxy = { env = \"PROXY_ADDRESS\" }");
    set.variables.push(("PROXY_ADDRESS".to_owned(), format!("http://user:wrong@{}", proxy.address)));
    check_broken(&set, Question::Connect, "does not accept its user and password", "%40").await;
    set.variables.last_mut().unwrap().1 = format!("http://user:pass%3Aword@{}", proxy.address);
    check_mended(&set).await;
    let (report, words) = set.check().await;
    assert!(words.contains(&format!("through the proxy http://{}", proxy.address)), "{words}");
    assert!(!words.contains("word@") && report.ok(), "{words}");

    // A proxy for which a user and a password in its address are useless, whether they are there or not.
    let windows = Proxy::start("https://service/windows", Some("Negotiate ticket")).await;
    let useless = ("and takes Negotiate, NTLM", "such as px or cntlm");
    set.variables.last_mut().unwrap().1 = format!("http://user:word@{}", windows.address);
    check_broken(&set, Question::Connect, useless.0, useless.1).await;
    set.variables.pop();
    set.edit("proxy", &format!("proxy = \"http://{}\"", windows.address));
    check_broken(&set, Question::Connect, useless.0, useless.1).await;

    // A proxy that refuses the service.
    let refusing = Proxy::start("https://refused", None).await;
    set.edit("proxy", &format!("proxy = \"http://{}\"", refusing.address));
    check_broken(&set, Question::Connect, "403", "allow 127.0.0.1, port ").await;
}

/// Returns an address at which nobody listens: it was bound and freed.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A proxy that connects to one service, whatever it is asked for.
struct Proxy {
    address: SocketAddr,
}

impl Proxy {
    /// Starts a proxy that accepts this authorization; a service that is not an address is refused.
    async fn start(service: &str, authorization: Option<&'static str>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, service) = (listener.local_addr().unwrap(), service.trim_start_matches("https://").to_owned());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let mut socket = BufReader::new(socket);
                    let (mut head, mut line) = (String::new(), String::new());
                    while socket.read_line(&mut line).await.is_ok_and(|bytes| bytes > 2) {
                        head += &std::mem::take(&mut line).to_lowercase();
                    }
                    let shown = authorization
                        .is_none_or(|value| head.contains(&format!("authorization: {value}").to_lowercase()));
                    let answer = match (shown, service.contains(':')) {
                        (false, _) if service.ends_with("/windows") => {
                            "407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM"
                        }
                        (false, _) => "407 Proxy Authentication Required",
                        (_, false) => "403 Forbidden",
                        _ => "200 Connection established",
                    };
                    let _ = socket.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await;
                    if answer.starts_with("200") {
                        let mut service = TcpStream::connect(&service).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut socket, &mut service).await;
                    }
                });
            }
        });
        Proxy { address }
    }
}

#[tokio::test]
async fn an_unknown_ca() {
    let mut set = Set::new(None).await;
    let line = set.text.lines().find(|line| line.starts_with("ca_file")).unwrap().to_owned();
    set.edit("ca_file", "# no CA");
    check_broken(&set, Question::Tls, "UnknownIssuer", "`ca_file = \"corporate-ca.pem\"` in [network]").await;
    set.edit("# no CA", &line);
    check_mended(&set).await;
}

#[tokio::test]
async fn a_clock_that_is_off() {
    let mut set = Set::new(None).await;
    let right = set.clock.clone();
    set.clock = Arc::new(|| 1_577_836_800_000);
    check_broken(&set, Question::Tls, "Wed, 01 Jan 2020", "set the clock: timedatectl").await;
    set.clock = right;
    check_mended(&set).await;
}

#[tokio::test]
async fn a_subscription_that_is_not_onboarded() {
    let set = Set::new(Some("not-onboarded")).await;
    check_broken(&set, Question::Score, "no secure score for the subscription yet", "enable Foundational CSPM").await;
    set.simulator.with(|world| world.scenario = None);
    check_mended(&set).await;
}
