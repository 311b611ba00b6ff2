//! A poll through a proxy: Debian's tinyproxy over loopback, with a private CA behind it; and proxies that fail.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};

use host_harness::collector::once::{self, Output, Report};
use host_harness::config::{self, admission};
use host_harness::sink;
use source_host::limits::Limits;
use source_host::network::address::Cidr;
use source_host::network::client::{Network, NetworkError};
use source_host::network::proxy::Proxy;
use source_host::network::{OutgoingRequest, Transport, TransportError};
use source_simulator::Simulator;
use source_simulator::estate::Estate;

use crate::support::tinyproxy::Tinyproxy;
use crate::support::{PATIENCE, host, noon};

/// Tinyproxy accepts letters and digits only.
const USER: &str = "collector:passwordOfTests";

/// A proxy that hears one request and answers with this line.
fn answering(line: &'static str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let lines = BufReader::new(socket.try_clone().unwrap()).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let _ = sender.send(head.join("\n"));
        let _ = socket.write_all(format!("{line}\r\ncontent-length: 0\r\n\r\n").as_bytes());
    });
    (address, heard)
}

/// Polls one feed with these lines in `[network]` and these variables.
async fn poll(
    simulator: &Simulator,
    line: &str,
    more: &[(&str, &str)],
    edit: fn(String) -> String,
) -> (Report, String) {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    fs::write(&ca_file, simulator.ca_pem()).unwrap();
    let (text, mut variables) = simulator.configuration(ca_file.to_str().unwrap());
    variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let environment = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let text = edit(text.replacen("[network]", &format!("[network]\n{line}"), 1));
    let config = config::parse(Path::new("test.toml"), &text, Some("contoso-scores"), &environment);
    let checked = admission::check(&host(), config, None, &noon()).await.unwrap();
    let feeds = once::open(&checked, &noon()).await.unwrap();
    let (mut events, mut people) = (Vec::new(), Vec::new());
    let report = once::poll(&feeds, &noon(), Output { events: &mut events, people: &mut people }).await.unwrap();
    let people = String::from_utf8(people).unwrap();
    assert!(!people.contains("passwordOf"), "{people}");
    (report, people)
}

async fn simulator() -> Simulator {
    Simulator::start(([127, 0, 0, 1], 0).into(), Estate::default(), None).await.unwrap()
}

#[tokio::test]
async fn a_poll_goes_through_the_configured_proxy() {
    let (simulator, proxy) = (simulator().await, Tinyproxy::start(None));
    let line = format!("proxy = \"http://127.0.0.1:{}\"", proxy.port);
    let (report, people) = poll(&simulator, &line, &[], |text| text).await;
    assert_eq!((report.status(), report.events), (0, 30), "{people}");
    assert!(proxy.connections(simulator.url()) >= 1, "{}", proxy.said());
}

#[tokio::test]
async fn a_poll_goes_through_the_proxy_of_the_environment_but_for_its_exceptions() {
    let (simulator, proxy) = (simulator().await, Tinyproxy::start(None));
    let address = format!("127.0.0.1:{}", proxy.port);
    let port = simulator.url().rsplit_once(':').unwrap().1;
    let (exception, other) = (format!("127.0.0.0/8:{port}"), format!("127.0.0.0/8:{}", proxy.port));
    for (no_proxy, through) in [(exception.as_str(), false), ("127.0.0.1", false), ("*", false), (&other, true)] {
        let before = proxy.connections(simulator.url());
        let (report, people) =
            poll(&simulator, "", &[("HTTPS_PROXY", &address), ("NO_PROXY", no_proxy)], |text| text).await;
        assert_eq!((report.status(), report.events), (0, 30), "{people}");
        assert_eq!(proxy.connections(simulator.url()) > before, through, "{no_proxy}");
    }
}

#[tokio::test]
async fn a_proxy_gets_the_user_and_the_password_of_its_address() {
    let (simulator, proxy) = (simulator().await, Tinyproxy::start(Some(USER)));
    let line = "proxy = { env = \"PROXY_ADDRESS\" }";
    let address = |user: &str| format!("http://{user}127.0.0.1:{}", proxy.port);
    let (report, people) =
        poll(&simulator, line, &[("PROXY_ADDRESS", &address(&format!("{USER}@")))], |text| text).await;
    assert_eq!((report.status(), report.events), (0, 30), "{people}");
    for (user, why) in [
        ("", "asks for a sign-in (407)"),
        ("collector:passwordOfOthers@", "does not connect: it refuses to, does not accept its user"),
    ] {
        let (report, people) = poll(&simulator, line, &[("PROXY_ADDRESS", &address(user))], |text| text).await;
        assert_eq!(report.status(), 1);
        let expected = format!("the proxy {} {why}", address(""));
        assert!(people.contains(&expected) && people.contains("(proxy-failed, operator)"), "{expected} in {people}");
    }
}

/// Sends a request through this proxy, with these addresses allowed.
async fn sent(proxy: &str, allowed: Vec<Cidr>, url: &str) -> TransportError {
    let network = Network::new(None, allowed).unwrap().through(Proxy::new(proxy, "").unwrap());
    let transport = network.transport(&Limits::default()).unwrap();
    let (method, url) = ("GET".to_owned(), url.parse().unwrap());
    transport.send(OutgoingRequest { method, url, headers: Vec::new(), body: Vec::new() }).await.unwrap_err()
}

#[tokio::test]
async fn names_are_resolved_by_the_proxy_which_may_stand_at_a_private_address() {
    let (proxy, heard) = answering("HTTP/1.1 403 Forbidden");
    let error = sent(&proxy, Vec::new(), "https://no-such-name.invalid:8443/x").await;
    assert!(heard.recv_timeout(PATIENCE).unwrap().starts_with("CONNECT no-such-name.invalid:8443 HTTP/1.1"));
    assert_eq!(
        error.to_string(),
        format!("the proxy {proxy} does not connect: it refuses to, or cannot reach the service")
    );
}

#[tokio::test]
async fn a_proxy_that_asks_who_is_there_is_no_service_with_or_without_tls() {
    for scheme in ["https", "http"] {
        let (proxy, _heard) = answering("HTTP/1.1 407 Proxy Authentication Required");
        let error = sent(&proxy, Vec::new(), &format!("{scheme}://service.invalid/")).await;
        assert!(matches!(error, TransportError::Proxy { .. }), "{scheme}: {error}");
        assert!(error.to_string().contains("asks for a sign-in (407): `check` names"), "{scheme}: {error}");
    }
}

#[tokio::test]
async fn what_a_proxy_must_not_reach_for_us_is_judged_before_it_is_asked() {
    for url in [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/x",
        "https://localhost./",
        "https://a.localhost/",
    ] {
        let (proxy, heard) = answering("HTTP/1.1 200 OK");
        let error = sent(&proxy, Vec::new(), url).await;
        assert!(matches!(error, TransportError::AddressProhibited { .. }), "{url}: {error}");
        assert!(heard.try_recv().is_err(), "{url}");
    }
    let (proxy, heard) = answering("HTTP/1.1 502 Bad Gateway");
    sent(&proxy, vec!["127.0.0.0/8".parse().unwrap()], "https://localhost/").await;
    assert!(heard.recv_timeout(PATIENCE).unwrap().starts_with("CONNECT localhost:443"));
}

#[tokio::test]
async fn an_origin_that_is_not_allowed_is_refused_before_the_proxy_is_asked() {
    let (simulator, proxy) = (simulator().await, Tinyproxy::start(None));
    let forget =
        |text: String| text.lines().filter(|line| !line.starts_with("allow = ")).collect::<Vec<_>>().join("\n");
    let line = format!("proxy = \"http://127.0.0.1:{}\"", proxy.port);
    let (report, people) = poll(&simulator, &line, &[], forget).await;
    assert_eq!(report.status(), 1);
    assert!(people.contains("(request-denied, operator)"), "{people}");
    assert!(!proxy.said().contains("CONNECT 127"), "{}", proxy.said());
}

#[tokio::test]
async fn a_proxy_that_makes_no_connection_is_named_as_the_fault() {
    for (user, why) in [
        ("", "it refuses to, or cannot reach the service"),
        ("user:secret@", "it refuses to, does not accept its user and password, or cannot reach the service"),
    ] {
        let (proxy, _heard) = answering("HTTP/1.1 502 Bad Gateway");
        let error = sent(&proxy.replace("//", &format!("//{user}")), Vec::new(), "https://service.example/").await;
        assert!(error.to_string().contains(&format!("does not connect: {why}")), "{error}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named_as_the_fault() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = sent(&format!("http://u:passwordOfTests@{free}"), Vec::new(), "https://service.invalid/").await;
    assert_eq!(error.to_string(), format!("the proxy http://{free} cannot be reached: the connection was refused"));
    let error = sent("http://no-such-proxy.invalid:3128", Vec::new(), "https://service.invalid/").await;
    let expected = "the proxy http://no-such-proxy.invalid:3128 cannot be reached: its name does not resolve";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn requests_name_the_embedders_product_and_else_the_crate() {
    let version = env!("CARGO_PKG_VERSION");
    for (product, expected) in
        [(None, format!("source-host/{version}")), (Some("collector/2.1"), "collector/2.1".into())]
    {
        let (address, heard) = answering("HTTP/1.1 200 OK");
        let network = Network::new(None, vec!["127.0.0.0/8".parse().unwrap()]).unwrap();
        let network = product.map_or(Ok(network.clone()), |product| network.clone().with_product(product)).unwrap();
        let transport = network.transport(&Limits::default()).unwrap();
        let (method, url) = ("GET".to_owned(), address.parse().unwrap());
        transport.send(OutgoingRequest { method, url, headers: Vec::new(), body: Vec::new() }).await.unwrap();
        let head = heard.recv_timeout(PATIENCE).unwrap().to_ascii_lowercase();
        assert!(head.contains(&format!("user-agent: {expected}\n")), "{head}");
    }
    let refused = Network::new(None, Vec::new()).unwrap().with_product("two\nlines").map(drop);
    assert!(matches!(refused, Err(NetworkError::Product(_))), "{refused:?}");
}

#[tokio::test]
async fn requests_of_the_collector_name_the_collector() {
    let (proxy, heard) = answering("HTTP/1.1 403 Forbidden");
    poll(&simulator().await, &format!("proxy = {proxy:?}"), &[], |text| text).await;
    let head = heard.recv_timeout(PATIENCE).unwrap().to_ascii_lowercase();
    assert!(head.contains(&format!("user-agent: host-harness/{}", env!("CARGO_PKG_VERSION"))), "{head}");
}

#[tokio::test]
async fn a_sink_goes_through_the_proxy_with_its_user_and_password() {
    let (address, heard) = answering("HTTP/1.1 200 OK");
    let proxy = Proxy::new(&address.replacen("http://", "http://u:p@", 1), "").unwrap();
    let client = sink::http::client(Network::new(None, Vec::new()).unwrap().tls(), &proxy).unwrap();
    let answer = client.post("http://receiver.invalid/events").body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let head = heard.recv_timeout(PATIENCE).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post http://receiver.invalid/events http/1.1"), "{head}");
    assert!(head.contains("proxy-authorization: basic dtpw"), "{head}");
}
