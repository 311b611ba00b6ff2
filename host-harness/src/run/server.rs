//! Metrics, health and the status page over HTTP, for operators and for Prometheus. The few paths are distinguished
//! without a router: the slots of connections, the time limits of an exchange, the token before an unknown path and 405
//! before both would be our own code with a router, too.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::StatusCode;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use source_host::credentials::secret::Secret;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::collector::StatusSnapshot;
use crate::collector::work::Pipeline;
use crate::limits;
use crate::metrics::{self, MetricsLevel, SinkCounts};
use crate::overview::Query;
use crate::run::page::{Page, SinkSummary, question};
use crate::run::slots::{ConnectionSlot, ConnectionSlots};
use crate::run::writing::WriteTimeout;
use crate::store::{StoreError, Waiting};

/// A question of the status server to the collector.
pub enum StatusRequest {
    /// Whether the collector works; the answer is the store's error, if it has one.
    Health(oneshot::Sender<Result<(), StoreError>>),
    /// The answer to a question about all scopes.
    Snapshot(Query, oneshot::Sender<StatusSnapshot>),
}

/// The data from which answers are made.
pub struct StatusServer {
    /// The store, sinks and metrics of polls.
    pub pipeline: Pipeline,
    /// The token that a client must present for anything beyond health.
    pub token: Option<Secret>,
    /// The channel to the collector.
    pub questions: mpsc::Sender<StatusRequest>,
    /// Permits for reading histories.
    readers: Arc<Semaphore>,
}

/// Serves until the task is dropped. A connection carries one request and ends after its answer.
pub async fn serve(listener: TcpListener, server: StatusServer) {
    let (server, slots) = (Arc::new(server), Arc::new(ConnectionSlots::default()));
    loop {
        let Ok((socket, peer)) = listener.accept().await else {
            // The process has no free socket; open ones will be closed.
            tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            continue;
        };
        let server = Arc::clone(&server);
        slots.spawn(peer.ip(), move |slot| async move {
            let service = service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, Infallible>(server.answer(slot, &request).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(limits::STATUS_REQUEST).keep_alive(false);
            let socket = TokioIo::new(WriteTimeout::new(socket, limits::STATUS_WRITE));
            // A client that goes away, or does not read, is no fault.
            let _ = tokio::time::timeout(limits::STATUS_EXCHANGE, http.serve_connection(socket, service)).await;
        });
    }
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// The system's error.
    #[source]
    pub error: io::Error,
}

/// Listens on an address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|error| ListenError { address, error })
}

type HttpResponse = hyper::Response<UnsyncBoxBody<Bytes, Infallible>>;

impl StatusServer {
    /// Makes a server.
    pub fn new(pipeline: Pipeline, token: Option<Secret>, questions: mpsc::Sender<StatusRequest>) -> StatusServer {
        StatusServer { pipeline, token, questions, readers: Arc::new(Semaphore::new(limits::HISTORY_READERS)) }
    }

    async fn answer(&self, slot: ConnectionSlot, request: &hyper::Request<Incoming>) -> HttpResponse {
        if self.token.is_none() && !names_this_machine(request) {
            return text(
                421,
                "without a token in [collector] only localhost, 127.0.0.1 or [::1] is answered\n".to_owned(),
            );
        }
        if !matches!(*request.method(), hyper::Method::GET | hyper::Method::HEAD) {
            return with(hyper::header::ALLOW, "GET, HEAD", text(405, "only GET\n".to_owned()));
        }
        match request.uri().path() {
            // Health probes carry no token, and learn only yes or no.
            "/healthz" => self.health().await,
            "/readyz" => self.health().await,
            _ if slot == ConnectionSlot::HealthOnly => text(503, "too many connections at the moment\n".to_owned()),
            _ if !self.may_read(request) => {
                let words = "the token of [collector] is needed: authorization: Bearer …\n";
                with(hyper::header::WWW_AUTHENTICATE, "Bearer", text(401, words.to_owned()))
            }
            "/metrics" => {
                let level = match MetricsLevel::asked(request.uri().query().unwrap_or_default()) {
                    Ok(level) => level,
                    Err(found) => return text(400, format!("found by={found:?}, expected tenant or feed\n")),
                };
                let pipeline = self.pipeline.clone();
                let gzip = reads_gzip(request.headers());
                streamed(metrics::CONTENT_TYPE, gzip, move |output| {
                    pipeline.metrics.scrape(pipeline.deliveries.outboxes(), level).write(output)
                })
            }
            path => match question(path, request.uri().query().unwrap_or_default()) {
                Some((query, reloads)) => self.page(query, reloads, reads_gzip(request.headers())).await,
                None => text(404, "this server has: /metrics /healthz /readyz / /tenant /scope\n".to_owned()),
            },
        }
    }

    /// Answers with a page. The history is read beside the collector, on a connection of its own.
    async fn page(&self, query: Query, reloads: bool, gzip: bool) -> HttpResponse {
        // Nobody closes the semaphore. A client that waits too long is disconnected.
        let permit = Arc::clone(&self.readers).acquire_owned().await;
        let asked = query.clone();
        let Some(snapshot) = self.ask(|answer| StatusRequest::Snapshot(asked, answer)).await else {
            return text(503, "the collector does not answer\n".to_owned());
        };
        let pipeline = self.pipeline.clone();
        let now = (pipeline.clock)();
        let mut page = Page { query, snapshot, reloads, now, ..Page::default() };
        let status = if page.is_found() { StatusCode::OK } else { StatusCode::NOT_FOUND };
        let mut response = streamed("text/html; charset=utf-8", gzip, move |output| {
            page.sinks = sinks(&pipeline, &page.snapshot);
            if let Err(error) = pipeline.store.reader().and_then(|reader| page.read(&*reader)) {
                page.trouble = Some(error.to_string());
            }
            drop(permit);
            page.write(output)
        });
        *response.status_mut() = status;
        response
    }

    fn may_read(&self, request: &hyper::Request<Incoming>) -> bool {
        let Some(token) = &self.token else { return true };
        let shown = request.headers().get(hyper::header::AUTHORIZATION).map(hyper::header::HeaderValue::as_bytes);
        let split = shown.and_then(|shown| shown.split_at_checked("Bearer ".len()));
        let shown =
            split.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer ")).map_or(&b""[..], |(_, shown)| shown);
        // The comparison takes the same time for a wrong token as for the right one.
        token.expose().as_bytes().ct_eq(shown).into()
    }

    async fn health(&self) -> HttpResponse {
        match self.ask(StatusRequest::Health).await {
            Some(Ok(())) => text(200, "ok\n".to_owned()),
            Some(Err(_)) | None => text(503, "not well; the log says why\n".to_owned()),
        }
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> StatusRequest) -> Option<T> {
        let (answer, waiting) = oneshot::channel();
        let asked = async {
            self.questions.send(question(answer)).await.ok()?;
            waiting.await.ok()
        };
        tokio::time::timeout(limits::STATUS_ANSWER, asked).await.ok()?
    }
}

/// Says whether every host name in a request means this machine. A page elsewhere may let its own name resolve to this
/// machine, and the browser of its reader then sends that name.
fn names_this_machine<B>(request: &hyper::Request<B>) -> bool {
    let names = request.headers().get_all(hyper::header::HOST).iter().map(|name| name.to_str().unwrap_or_default());
    names.chain(request.uri().authority().map(|authority| authority.as_str())).all(is_this_machine)
}

/// Says whether a name, with or without a port, always means this machine.
fn is_this_machine(name: &str) -> bool {
    let Ok(authority) = name.parse::<hyper::http::uri::Authority>() else { return false };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    !name.contains('@')
        && (host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback()))
}

fn text(status: u16, text: String) -> HttpResponse {
    content(status, "text/plain; charset=utf-8", text)
}

fn with(name: hyper::header::HeaderName, value: &'static str, mut response: HttpResponse) -> HttpResponse {
    response.headers_mut().insert(name, hyper::header::HeaderValue::from_static(value));
    response
}

fn content(status: u16, kind: &'static str, body: String) -> HttpResponse {
    response(status, kind).body(Full::new(Bytes::from(body)).boxed_unsync()).unwrap_or_default()
}

fn response(status: u16, kind: &'static str) -> hyper::http::response::Builder {
    let builder = hyper::Response::builder().status(status).header("content-type", kind);
    let builder = builder.header("cache-control", "no-store").header("x-content-type-options", "nosniff");
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    builder.header("content-security-policy", policy)
}

/// Returns the work of each sink, over all tenants.
fn sinks(pipeline: &Pipeline, snapshot: &StatusSnapshot) -> Vec<SinkSummary> {
    let mut rows = pipeline.metrics.sinks();
    for ((sink, _), Waiting { events, bytes }) in pipeline.deliveries.outboxes().waiting {
        let of_sink = &mut rows.entry(sink).or_default().1;
        *of_sink = Waiting { events: of_sink.events + events, bytes: of_sink.bytes + bytes };
    }
    let summary = |(sink, (counts, waiting)): (String, (SinkCounts, Waiting))| {
        let failing = snapshot.sinks.iter().filter(|row| row.sink == sink).find_map(|row| row.failing.as_ref());
        let SinkCounts { delivered, dead_letters: refused, last_delivered, .. } = counts;
        let trouble = failing.map(|failing| format!("{}: {}", failing.trouble.code, failing.trouble.why));
        SinkSummary { sink, waiting, delivered, refused, last_delivered, trouble }
    };
    rows.into_iter().map(summary).collect()
}

/// Sends a text while it is written: the metrics of ten thousand feeds have 40 MB.
fn streamed(
    kind: &'static str,
    gzip: bool,
    write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result + Send + 'static,
) -> HttpResponse {
    let (sender, receiver) = mpsc::channel::<Bytes>(2);
    tokio::task::spawn_blocking(move || {
        let chunks = BufWriter::with_capacity(limits::METRICS_CHUNK_BYTES, Chunks(sender));
        // A client that goes away is no fault.
        let _ = match gzip {
            true => {
                let mut text = ByteWriter(GzEncoder::new(chunks, Compression::fast()));
                write(&mut text).map_err(io::Error::other).and_then(|()| text.0.finish()?.flush())
            }
            false => {
                let mut text = ByteWriter(chunks);
                write(&mut text).map_err(io::Error::other).and_then(|()| text.0.flush())
            }
        };
    });
    let frames = stream::unfold(receiver, async |mut receiver| {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(chunk)), receiver))
    });
    let builder = response(200, kind).header("vary", "accept-encoding");
    let builder = if gzip { builder.header("content-encoding", "gzip") } else { builder };
    builder.body(StreamBody::new(frames).boxed_unsync()).unwrap_or_default()
}

fn reads_gzip(headers: &hyper::HeaderMap) -> bool {
    let values = headers.get_all(hyper::header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings =
        values.flat_map(|value| value.split(',')).map(|coding| coding.split_once(';').unwrap_or((coding, "")));
    let refused = |weight: &str| weight.trim().strip_prefix("q=").and_then(|weight| weight.parse().ok()) == Some(0.0);
    codings.any(|(coding, weight)| coding.trim().eq_ignore_ascii_case("gzip") && !refused(weight))
}

/// Sends the bytes that are written to it.
struct Chunks(mpsc::Sender<Bytes>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes text as bytes.
struct ByteWriter<W>(W);

impl<W: Write> fmt::Write for ByteWriter<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for name in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9464", "127.1.2.3", "[::1]", "[::1]:9464"] {
            assert!(is_this_machine(name), "{name}");
        }
        for name in
            ["", "evil.example", "localhost.evil.example", "evil.example:9464", "127.0.0.1.evil.example", "10.0.0.1"]
        {
            assert!(!is_this_machine(name), "{name}");
        }
        for name in ["evil@localhost", "localhost@evil", "0.0.0.0", "[::]", "2130706433", "localhost/", "a, localhost"]
        {
            assert!(!is_this_machine(name), "{name}");
        }
        let names = |hosts: &[&str], target: &str| {
            let builder = hyper::Request::builder().uri(target);
            names_this_machine(
                &hosts.iter().fold(builder, |builder, host| builder.header("host", *host)).body(()).unwrap(),
            )
        };
        assert!(names(&["localhost"], "/") && names(&[], "/"), "a probe of HTTP/1.0 names nobody");
        assert!(!names(&["localhost", "evil.example"], "/"));
        assert!(!names(&["localhost"], "http://evil.example/"));
    }

    /// Bytes that were written and are not read yet, and the most that there were.
    #[derive(Default)]
    struct OnTheWay([AtomicUsize; 2]);

    impl OnTheWay {
        fn writes(&self, bytes: usize) {
            let now = self.0[0].fetch_add(bytes, Ordering::SeqCst) + bytes;
            self.0[1].fetch_max(now, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_long_answer_is_never_in_memory_as_a_whole() {
        const LINE: &str = "collector_polls_total{tenant=\"contoso\",feed=\"prod\"} 17\n";
        const LINES: usize = 300_000;
        let on_the_way = Arc::new(OnTheWay::default());
        let written = Arc::clone(&on_the_way);
        let mut response = streamed("text/plain", false, move |output| {
            (0..LINES).try_for_each(|_| {
                written.writes(LINE.len());
                output.write_str(LINE)
            })
        });
        let mut read = 0;
        while let Some(frame) = response.body_mut().frame().await {
            let bytes = frame.unwrap().into_data().unwrap().len();
            assert!(bytes <= limits::METRICS_CHUNK_BYTES, "{bytes} bytes");
            on_the_way.0[0].fetch_sub(bytes, Ordering::SeqCst);
            read += bytes;
        }
        // Two chunks wait, one is read, one is being written, and one is full.
        let most = on_the_way.0[1].load(Ordering::SeqCst);
        assert!(read == LINES * LINE.len() && read > 100 * limits::METRICS_CHUNK_BYTES, "{read} bytes");
        assert!(most <= 5 * limits::METRICS_CHUNK_BYTES + LINE.len(), "{most} bytes at once");
    }

    #[test]
    fn gzip_is_for_those_who_ask_for_it() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("x-gzip-like", false),
        ] {
            let headers = [(hyper::header::ACCEPT_ENCODING, value.parse().unwrap())].into_iter().collect();
            assert_eq!(reads_gzip(&headers), expected, "{value}");
        }
        assert!(!reads_gzip(&hyper::HeaderMap::new()));
    }
}
