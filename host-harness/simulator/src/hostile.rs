//! A service that is malicious or broken: one table of its behaviour and of the collector's reaction. This module
//! writes, byte by byte, the answers that no HTTP library sends.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::answer::{Answer, Request};
use super::certificates::{Authority, CertificateError};

/// One behaviour of a service, and the collector's reaction.
#[derive(Debug)]
pub struct ScriptedService {
    /// Name of the scenario.
    pub name: &'static str,
    /// The behaviour in words for people.
    pub what: &'static str,
    /// Code of the failure; `None` if the scope is collected nevertheless.
    pub code: Option<&'static str>,
    /// The reaction that the failure asks for.
    pub reaction: Reaction,
    act: Act,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    /// An answer in valid HTTP, which `scenario` makes.
    Answer,
    /// An action in place of a connection, for every client.
    Door(Door),
    /// An answer that is written byte by byte in place of the good one, for requests for the controls of the affected
    /// subscription.
    Script(fn(&Answer) -> Vec<ScriptStep>),
    /// The same, with a body that gzip encoded this many times, and with headers that say this about the encoding.
    Encoded(usize, &'static str),
    /// The same up to this many bytes, followed by a reset.
    ResetAt(usize),
}

impl Act {
    /// The steps of the answer, if it is written byte by byte.
    fn script(self, good: &Answer) -> Option<Vec<ScriptStep>> {
        match self {
            Act::Script(steps) => Some(steps(good)),
            Act::Encoded(times, headers) => Some(encoded(good, times, headers)),
            Act::ResetAt(bytes) => Some(reset_at(good, bytes)),
            Act::Answer | Act::Door(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Door {
    Reset,
    ResetAfterHello,
    Silence,
    PlainText,
    OtherName,
    Expired,
    OtherAuthority,
}

enum ScriptStep {
    Send(Vec<u8>),
    /// The same bytes again and again with this pause, until the client goes away.
    Repeat(Vec<u8>, Duration),
    /// Silence until the client goes away.
    Silence,
    Reset,
}

/// The reaction of a failure, by the contract's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// The plugin does not understand the answer.
    FixPlugin,
    /// There is nothing to collect.
    NoData,
    /// The failure may pass by itself.
    TryLater,
}

use Act::{Answer as Plain, Door as At, Encoded, ResetAt, Script};
use Reaction::{FixPlugin, NoData, TryLater};

const fn row(
    name: &'static str,
    what: &'static str,
    code: &'static str,
    reaction: Reaction,
    act: Act,
) -> ScriptedService {
    ScriptedService { name, what, code: Some(code), reaction, act }
}

const fn works(name: &'static str, what: &'static str, act: Act) -> ScriptedService {
    ScriptedService { name, what, code: None, reaction: NoData, act }
}

/// All behaviours.
pub const TABLE: &[ScriptedService] = &[
    row("link-foreign", "`nextLink` to another host", "link-refused", FixPlugin, Plain),
    row(
        "link-lookalike",
        "`nextLink` to the known host with `.evil.example` behind it",
        "link-refused",
        FixPlugin,
        Plain,
    ),
    row(
        "link-userinfo",
        "`nextLink` with the known host as a user name before another",
        "link-refused",
        FixPlugin,
        Plain,
    ),
    row("link-http", "`nextLink` without TLS", "link-refused", FixPlugin, Plain),
    row("link-private", "`nextLink` to a private address", "link-refused", FixPlugin, Plain),
    row("link-metadata", "`nextLink` to the metadata address, written as one number", "link-refused", FixPlugin, Plain),
    row("link-climbing", "`nextLink` out of its path by dot segments", "link-refused", FixPlugin, Plain),
    row("link-other-list", "`nextLink` from the controls to the scores", "link-refused", FixPlugin, Plain),
    row("link-self", "a page that leads to itself", "cursor-repeated", FixPlugin, Plain),
    row("link-loop", "two pages that lead to each other", "cursor-repeated", FixPlugin, Plain),
    row("link-endless", "always one more page", "page-limit", FixPlugin, Plain),
    row("redirect", "302 to another host", "redirected", TryLater, Plain),
    row("redirect-metadata", "307 to the metadata address", "redirected", TryLater, Plain),
    row("type-wrong", "an image in place of the list", "not-the-service", TryLater, Plain),
    row("oversized", "a body of 9 MiB", "answer-too-large", FixPlugin, Plain),
    works(
        "echo",
        "the token in the answer's body and headers, in many spellings; it is collected, and the token taken out",
        Plain,
    ),
    works(
        "echo-lines",
        "the token with zeros and line breaks within it, and its base64 in lines; it is collected without the token",
        Plain,
    ),
    works("echo-utf16", "the token in a page in UTF-16; it is collected, and the token taken out", Plain),
    works("echo-utf16-bare", "the same where no header says that it is UTF-16", Plain),
    works("echo-utf32", "the token in a page in UTF-32; it is collected, and the token taken out", Plain),
    row("echo-piece", "the last sixteen bytes of the token in a page", "credential-echoed", TryLater, Plain),
    row(
        "echo-piece-base64",
        "sixteen bytes from the middle of the token, in base64 in lines",
        "credential-echoed",
        TryLater,
        Plain,
    ),
    row(
        "echo-piece-header",
        "sixteen bytes of the token in a header, percent-encoded",
        "credential-echoed",
        TryLater,
        Plain,
    ),
    row("echo-utf7", "the token in a page in UTF-7", "transport", TryLater, Plain),
    row("body-endless", "a body without end", "answer-too-large", FixPlugin, Script(body_endless)),
    row("body-slow", "a body of one byte a second", "timeout", TryLater, Script(body_slow)),
    row("gzip-bomb", "16 KiB of gzip that become 16 MiB", "answer-too-large", FixPlugin, Script(gzip_bomb)),
    row("gzip-broken", "a body that is declared as gzip and is not gzip", "transport", TryLater, Script(gzip_broken)),
    row("gzip-cut", "gzip that ends before its end", "transport", TryLater, Script(gzip_cut)),
    row("gzip-garbage", "gzip with something else behind it", "transport", TryLater, Script(gzip_garbage)),
    row("gzip-members-many", "10,000 members of gzip, all empty", "transport", TryLater, Script(gzip_many)),
    row(
        "encoding-unasked",
        "a body that is encoded twice, which was not asked for",
        "transport",
        TryLater,
        Encoded(2, "content-encoding: gzip, gzip"),
    ),
    row(
        "encoding-lines",
        "two lines that say so",
        "transport",
        TryLater,
        Encoded(2, "content-encoding: gzip\r\ncontent-encoding: gzip"),
    ),
    row(
        "encoding-unknown",
        "a body in an encoding that was not asked for",
        "transport",
        TryLater,
        Encoded(0, "content-encoding: br"),
    ),
    works("gzip-upper", "gzip that is spelled `GZIP`", Encoded(1, "content-encoding: GZIP")),
    works("gzip-x", "gzip by its old name, `x-gzip`", Encoded(1, "content-encoding: x-gzip")),
    works(
        "gzip-identity",
        "gzip, and `identity` in another line",
        Encoded(1, "content-encoding: gzip\r\ncontent-encoding: identity"),
    ),
    works("gzip-members", "gzip in two members", Script(gzip_members)),
    works("encoding-empty", "an encoding that has no name", Encoded(0, "content-encoding:")),
    works(
        "encoding-identity",
        "the encoding `identity`, which changes nothing",
        Encoded(0, "content-encoding: identity"),
    ),
    row("headers-huge", "a header of 64 KiB", "answer-too-large", FixPlugin, Script(headers_huge)),
    row("headers-many", "1,000 headers", "answer-too-large", FixPlugin, Script(headers_many)),
    row("headers-endless", "a header without end", "answer-too-large", FixPlugin, Script(headers_endless)),
    row("interim-endless", "interim answers without end", "timeout", TryLater, Script(interim_endless)),
    row("length-twice", "two lengths that differ", "transport", TryLater, Script(length_twice)),
    row(
        "length-short",
        "a length that ends in the middle of the list",
        "answer-not-json",
        FixPlugin,
        Script(length_short),
    ),
    row("length-long", "a length beyond the end", "connection-broken", TryLater, Script(length_long)),
    row("chunk-cut", "a chunk that ends early", "connection-broken", TryLater, Script(chunk_cut)),
    row("chunk-broken", "a chunk whose size is not a number", "transport", TryLater, Script(chunk_broken)),
    row("chunk-gzip", "gzip on its way, which nobody takes off", "transport", TryLater, Script(chunk_gzip)),
    row("status-broken", "a first line that is not HTTP", "transport", TryLater, Script(status_broken)),
    row("silence", "no answer at all", "timeout", TryLater, Script(silence)),
    row("reset-before-answer", "a reset once the request is read", "connection-broken", TryLater, ResetAt(0)),
    row("reset-in-status", "a reset in the first line", "connection-broken", TryLater, ResetAt(5)),
    row("reset-in-headers", "a reset among the headers", "connection-broken", TryLater, ResetAt(30)),
    row("reset-in-body", "a reset in the body", "connection-broken", TryLater, ResetAt(400)),
    row("reset-at-once", "a reset before TLS", "connection-broken", TryLater, At(Door::Reset)),
    row(
        "reset-in-handshake",
        "a reset within the TLS handshake",
        "connection-broken",
        TryLater,
        At(Door::ResetAfterHello),
    ),
    row("silence-at-once", "a connection on which nothing is said", "timeout", TryLater, At(Door::Silence)),
    row("tls-none", "plain HTTP where TLS is expected", "tls-untrusted", TryLater, At(Door::PlainText)),
    row("tls-other-name", "a certificate for another name", "tls-untrusted", TryLater, At(Door::OtherName)),
    row("tls-expired", "a certificate that has expired", "tls-untrusted", TryLater, At(Door::Expired)),
    row(
        "tls-other-authority",
        "a certificate of an unknown authority",
        "tls-untrusted",
        TryLater,
        At(Door::OtherAuthority),
    ),
];

/// Finds the behaviour of a scenario.
pub fn named(name: &str) -> Option<&'static ScriptedService> {
    TABLE.iter().find(|case| case.name == name)
}

impl ScriptedService {
    /// Says whether every client that connects is affected, and not the one subscription only.
    pub fn is_at_the_door(&self) -> bool {
        matches!(self.act, Act::Door(_))
    }

    /// Says whether the answer is written byte by byte.
    pub(super) fn is_scripted(&self) -> bool {
        matches!(self.act, Act::Script(_) | Act::Encoded(..) | Act::ResetAt(_))
    }

    /// Says whether this module serves the connections.
    pub fn is_raw(&self) -> bool {
        !matches!(self.act, Act::Answer)
    }
}

/// Serves one connection.
pub(super) async fn serve(
    case: &ScriptedService,
    socket: TcpStream,
    tls: &TlsAcceptor,
    authority: &Authority,
    service: impl Fn(&Request) -> Answer,
) -> std::io::Result<()> {
    let other = |config: Result<_, CertificateError>| config.map(|config| TlsAcceptor::from(Arc::new(config)));
    let tls = match case.act {
        Act::Door(Door::OtherName) => other(authority.server(&["other.example"], true)),
        Act::Door(Door::Expired) => other(authority.server(&["127.0.0.1", "localhost"], false)),
        Act::Door(Door::OtherAuthority) => {
            other(Authority::new("another CA").and_then(|unknown| unknown.server(&["127.0.0.1", "localhost"], true)))
        }
        Act::Door(door) => return stand(door, socket).await,
        Act::Answer | Act::Script(_) | Act::Encoded(..) | Act::ResetAt(_) => Ok(tls.clone()),
    };
    let Ok(tls) = tls else { return Ok(()) };
    let mut stream = tls.accept(socket).await?;
    while let Some(request) = read(&mut stream).await? {
        let answer = service(&request);
        match answer.raw.then(|| case.act.script(&answer)).flatten() {
            Some(steps) => return play(&mut stream, steps).await,
            None => stream.write_all(&written(&answer)).await?,
        }
        stream.flush().await?;
    }
    Ok(())
}

async fn stand(door: Door, mut socket: TcpStream) -> std::io::Result<()> {
    let mut hello = [0; 1024];
    match door {
        Door::Silence => while socket.read(&mut hello).await? > 0 {},
        Door::PlainText => {
            if socket.read(&mut hello).await? == 0 {
                return Ok(());
            }
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await?;
            socket.shutdown().await?;
        }
        Door::ResetAfterHello => {
            if socket.read(&mut hello).await? > 0 {
                socket.set_zero_linger()?;
            }
        }
        _ => socket.set_zero_linger()?,
    }
    Ok(())
}

/// Reads the next request of a connection.
async fn read(stream: &mut TlsStream<TcpStream>) -> std::io::Result<Option<Request>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await? == 0 {
            return Ok(None);
        }
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8_lossy(&head);
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let mut body = vec![0; header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let fields = |text: &[u8]| form_urlencoded::parse(text).into_owned().collect();
    Ok(Some(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: fields(query.as_bytes()),
        bearer: header("authorization").and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned),
        form: fields(&body),
    }))
}

fn written(answer: &Answer) -> Vec<u8> {
    [head(answer, &format!("content-length: {}\r\n", answer.body.len())), answer.body.clone()].concat()
}

async fn play(stream: &mut TlsStream<TcpStream>, steps: Vec<ScriptStep>) -> std::io::Result<()> {
    for step in steps {
        match step {
            ScriptStep::Send(bytes) => stream.write_all(&bytes).await?,
            ScriptStep::Repeat(bytes, pause) => loop {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                tokio::time::sleep(pause).await;
            },
            ScriptStep::Silence => while stream.read(&mut [0; 64]).await? > 0 {},
            ScriptStep::Reset => {
                stream.flush().await?;
                return stream.get_ref().0.set_zero_linger();
            }
        }
    }
    stream.shutdown().await
}

/// The head of an answer, signed as the service does, with these additional headers.
fn head(answer: &Answer, headers: &str) -> Vec<u8> {
    let own = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    format!("HTTP/1.1 {} Said\r\n{}{headers}\r\n", answer.status, own.collect::<String>()).into_bytes()
}

fn sent(parts: &[&[u8]]) -> Vec<ScriptStep> {
    vec![ScriptStep::Send(parts.concat())]
}

fn body_endless(good: &Answer) -> Vec<ScriptStep> {
    let chunk = [format!("{:x}\r\n", 1 << 16).as_bytes(), &[b' '; 1 << 16], b"\r\n"].concat();
    vec![ScriptStep::Send(head(good, "transfer-encoding: chunked\r\n")), ScriptStep::Repeat(chunk, Duration::ZERO)]
}

fn body_slow(good: &Answer) -> Vec<ScriptStep> {
    vec![
        ScriptStep::Send(head(good, "content-length: 1000\r\n")),
        ScriptStep::Repeat(b" ".to_vec(), Duration::from_secs(1)),
    ]
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

fn gzip_bomb(good: &Answer) -> Vec<ScriptStep> {
    let bomb = gzip(&vec![b' '; 16 << 20]);
    sent(&[&head(good, &format!("content-encoding: gzip\r\ncontent-length: {}\r\n", bomb.len())), &bomb])
}

fn gzip_broken(good: &Answer) -> Vec<ScriptStep> {
    sent(&[&head(good, &format!("content-encoding: gzip\r\ncontent-length: {}\r\n", good.body.len())), &good.body])
}

fn gzip_cut(good: &Answer) -> Vec<ScriptStep> {
    let whole = gzip(&good.body);
    in_gzip(good, &whole[..whole.len() - 4])
}

fn gzip_garbage(good: &Answer) -> Vec<ScriptStep> {
    in_gzip(good, &[&gzip(&good.body)[..], b"<!-- injected -->"].concat())
}

fn gzip_many(good: &Answer) -> Vec<ScriptStep> {
    in_gzip(good, &gzip(b"").repeat(10_000))
}

fn gzip_members(good: &Answer) -> Vec<ScriptStep> {
    let (first, second) = good.body.split_at(good.body.len() / 2);
    in_gzip(good, &[gzip(first), gzip(second)].concat())
}

fn in_gzip(good: &Answer, body: &[u8]) -> Vec<ScriptStep> {
    sent(&[&head(good, &format!("content-encoding: gzip\r\ncontent-length: {}\r\n", body.len())), body])
}

fn encoded(good: &Answer, times: usize, headers: &str) -> Vec<ScriptStep> {
    let body = (0..times).fold(good.body.clone(), |body, _| gzip(&body));
    sent(&[&head(good, &format!("{headers}\r\ncontent-length: {}\r\n", body.len())), &body])
}

fn headers_huge(good: &Answer) -> Vec<ScriptStep> {
    let huge = "x".repeat(64 << 10);
    sent(&[&head(good, &format!("x-huge: {huge}\r\ncontent-length: {}\r\n", good.body.len())), &good.body])
}

fn headers_many(good: &Answer) -> Vec<ScriptStep> {
    let many: String = (0..1_000).map(|number| format!("x-{number}: y\r\n")).collect();
    sent(&[&head(good, &format!("{many}content-length: {}\r\n", good.body.len())), &good.body])
}

fn headers_endless(_: &Answer) -> Vec<ScriptStep> {
    vec![
        ScriptStep::Send(b"HTTP/1.1 200 OK\r\nx-endless: ".to_vec()),
        ScriptStep::Repeat(vec![b'x'; 1 << 14], Duration::ZERO),
    ]
}

fn interim_endless(_: &Answer) -> Vec<ScriptStep> {
    vec![ScriptStep::Repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), Duration::from_millis(10))]
}

fn length_twice(good: &Answer) -> Vec<ScriptStep> {
    sent(&[
        &head(good, &format!("content-length: {}\r\ncontent-length: {}\r\n", good.body.len(), good.body.len() / 2)),
        &good.body,
    ])
}

fn length_short(good: &Answer) -> Vec<ScriptStep> {
    sent(&[&head(good, &format!("content-length: {}\r\n", good.body.len() / 2)), &good.body])
}

fn length_long(good: &Answer) -> Vec<ScriptStep> {
    sent(&[&head(good, &format!("content-length: {}\r\n", good.body.len() * 2)), &good.body])
}

fn chunk_cut(good: &Answer) -> Vec<ScriptStep> {
    sent(&[
        &head(good, "transfer-encoding: chunked\r\n"),
        format!("{:x}\r\n", good.body.len() * 2).as_bytes(),
        &good.body,
    ])
}

fn chunk_broken(good: &Answer) -> Vec<ScriptStep> {
    sent(&[&head(good, "transfer-encoding: chunked\r\n"), b"many\r\n", &good.body, b"\r\n0\r\n\r\n"])
}

fn chunk_gzip(good: &Answer) -> Vec<ScriptStep> {
    let body = gzip(&good.body);
    let size = format!("{:x}\r\n", body.len());
    sent(&[&head(good, "transfer-encoding: gzip, chunked\r\n"), size.as_bytes(), &body, b"\r\n0\r\n\r\n"])
}

fn status_broken(good: &Answer) -> Vec<ScriptStep> {
    sent(&[b"HTTP/9.9 abc\r\n\r\n", &good.body])
}

fn silence(_: &Answer) -> Vec<ScriptStep> {
    vec![ScriptStep::Silence]
}

fn reset_at(good: &Answer, bytes: usize) -> Vec<ScriptStep> {
    let mut whole = [&head(good, &format!("content-length: {}\r\n", good.body.len()))[..], &good.body].concat();
    whole.truncate(bytes);
    vec![ScriptStep::Send(whole), ScriptStep::Reset]
}
