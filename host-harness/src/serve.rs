//! Metrics, health and the status page over HTTP, for operators and for Prometheus.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::collector::{Board, BoardRow};
use crate::contract::Failure;
use crate::secret::Secret;
use crate::work::Keeper;

/// Rows of the status page: what needs somebody comes first.
const ROWS: usize = 500;

/// A collector that does not answer within this time does not work.
const ANSWER: Duration = Duration::from_secs(5);

/// Readers at the same time.
const CONNECTIONS: usize = 64;

/// A reader that sends no whole request within this time is let go.
const REQUEST: Duration = Duration::from_secs(10);

/// What a reader asks the collector's driver.
pub enum Question {
    /// Whether it works; the answer is what does not.
    Health(oneshot::Sender<Result<(), String>>),
    /// How everything stands.
    Board(usize, oneshot::Sender<Board>),
}

/// What answers are made of.
pub struct Desk {
    /// What is counted and what waits.
    pub keeper: Keeper,
    /// What a reader must show to see more than health.
    pub token: Option<Secret>,
    /// The way to the driver.
    pub questions: mpsc::Sender<Question>,
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, desk: Desk) {
    let (desk, places) = (Arc::new(desk), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let Ok((socket, _)) = listener.accept().await else {
            // Out of sockets: those that are open come free.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let desk = Arc::clone(&desk);
                async move { Ok::<_, Infallible>(desk.answer(&request).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(REQUEST);
            // A reader that goes away is nobody's fault.
            let _ = http.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// Listens; the error names the address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen at {address}: {error}"))
}

type Response = hyper::Response<Full<Bytes>>;

impl Desk {
    async fn answer(&self, request: &hyper::Request<Incoming>) -> Response {
        if !matches!(*request.method(), hyper::Method::GET | hyper::Method::HEAD) {
            return text(405, "only GET\n".to_owned());
        }
        match request.uri().path() {
            // Probes carry no token, and learn nothing but yes and no.
            "/healthz" => self.health().await,
            "/readyz" => self.health().await,
            _ if !self.may_read(request) => {
                let mut response =
                    text(401, "the token of [collector] is needed: authorization: Bearer …\n".to_owned());
                let challenge = hyper::header::HeaderValue::from_static("Bearer");
                response.headers_mut().insert(hyper::header::WWW_AUTHENTICATE, challenge);
                response
            }
            "/metrics" => {
                let (waiting, now) = (self.keeper.deliveries.waiting(), (self.keeper.clock)());
                content(200, "text/plain; version=0.0.4; charset=utf-8", self.keeper.metrics.text(&waiting, now))
            }
            "/" => match self.ask(|answer| Question::Board(ROWS, answer)).await {
                Some(board) => content(200, "text/html; charset=utf-8", page(&board, (self.keeper.clock)())),
                None => text(503, "the collector does not answer\n".to_owned()),
            },
            _ => text(404, "known here: /metrics /healthz /readyz /\n".to_owned()),
        }
    }

    fn may_read(&self, request: &hyper::Request<Incoming>) -> bool {
        let Some(token) = &self.token else { return true };
        let shown = request.headers().get(hyper::header::AUTHORIZATION).map(hyper::header::HeaderValue::as_bytes);
        let shown = shown.and_then(|shown| shown.strip_prefix(b"Bearer ")).unwrap_or_default();
        let expected = token.expose().as_bytes();
        // As long for a wrong token as for the right one.
        let differs =
            shown.iter().zip(expected).fold(shown.len() ^ expected.len(), |sum, (a, b)| sum | usize::from(a ^ b));
        differs == 0
    }

    async fn health(&self) -> Response {
        match self.ask(Question::Health).await {
            Some(Ok(())) => text(200, "ok\n".to_owned()),
            Some(Err(_)) | None => text(503, "not well; the log says why\n".to_owned()),
        }
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (answer, waiting) = oneshot::channel();
        let asked = async {
            self.questions.send(question(answer)).await.ok()?;
            waiting.await.ok()
        };
        tokio::time::timeout(ANSWER, asked).await.ok()?
    }
}

fn text(status: u16, text: String) -> Response {
    content(status, "text/plain; charset=utf-8", text)
}

fn content(status: u16, kind: &'static str, body: String) -> Response {
    let builder = hyper::Response::builder().status(status).header("content-type", kind);
    let builder = builder.header("cache-control", "no-store").header("x-content-type-options", "nosniff");
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    builder.header("content-security-policy", policy).body(Full::new(Bytes::from(body))).unwrap_or_default()
}

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#222}table{border-collapse:collapse}\
                     th,td{padding:.3em .8em;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}\
                     .bad{color:#a40000}.fix{color:#555}td.number{text-align:right;white-space:nowrap}";

fn page(board: &Board, now: u64) -> String {
    let Board { feeds, in_flight, total, failing, rows, notes } = board;
    let shown = if rows.len() < *total { format!(", the first {} of them shown", rows.len()) } else { String::new() };
    let body: String = rows.iter().map(|row| line(row, now)).collect();
    let notes: String = notes.iter().map(|note| format!("<p class=\"bad\">{}</p>", escaped(note))).collect();
    format!(
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"30\">\
         <title>Collector</title><style>{STYLE}</style><h1>Collector</h1><p>{feeds} feeds, {total} scopes{shown}; \
         {failing} without data; {in_flight} in flight; {}</p>{notes}<table><tr><th>tenant<th>feed<th>scope<th>score\
         <th>collected<th>next<th>outcome{body}</table></html>\n",
        moment(now)
    )
}

fn line(row: &BoardRow, now: u64) -> String {
    let BoardRow { tenant, feed, scope, contact, failure, due, last_good, figure } = row;
    let scope = scope.as_deref().map_or_else(|| "the whole feed".to_owned(), escaped);
    let contact = contact.as_deref().map(|contact| format!("<br><span class=\"fix\">{}</span>", escaped(contact)));
    let figure = figure.map(|(value, maximum)| format!("{value:.2} / {maximum}")).unwrap_or_default();
    let collected = last_good.map(|time| format!("{} ago", span(now.saturating_sub(time)))).unwrap_or_default();
    let next = due.map(|due| format!("in {}", span(due.saturating_sub(now)))).unwrap_or_default();
    let outcome = match failure {
        None => "collected".to_owned(),
        Some(Failure { code, cause, fix, .. }) => {
            let fix = fix.as_deref().map(|fix| format!("<br><span class=\"fix\">{}</span>", escaped(fix)));
            format!("<span class=\"bad\">{}</span>: {}{}", escaped(code), escaped(cause), fix.unwrap_or_default())
        }
    };
    format!(
        "<tr><td>{}<td>{}{}<td>{scope}<td class=\"number\">{figure}<td class=\"number\">{collected}\
         <td class=\"number\">{next}<td>{outcome}",
        escaped(tenant),
        escaped(feed),
        contact.unwrap_or_default()
    )
}

fn escaped(text: impl AsRef<str>) -> String {
    let mut escaped = String::new();
    for character in text.as_ref().chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A moment as RFC 3339 has it, to the second.
fn moment(milliseconds: u64) -> String {
    let seconds = i64::try_from(milliseconds / 1_000).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

fn span(milliseconds: u64) -> String {
    match milliseconds / 1_000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Reaction;

    #[test]
    fn the_page_shows_what_mends_a_scope_and_lets_no_markup_through() {
        let failure = Failure {
            fix: Some("give <b>Reader</b>".to_owned()),
            ..Failure::of_host(Reaction::MendScope, "forbidden", "no role".to_owned())
        };
        let row = BoardRow {
            tenant: "contoso".to_owned(),
            feed: "prod".to_owned(),
            scope: Some("<script>".to_owned()),
            contact: None,
            failure: Some(failure),
            due: Some(90_000),
            last_good: Some(0),
            figure: Some((23.5, 39.0)),
        };
        let page = page(
            &Board { feeds: 1, in_flight: 0, total: 1, failing: 1, rows: vec![row], notes: vec!["a < b".to_owned()] },
            60_000,
        );
        for part in
            ["forbidden", "give &lt;b&gt;Reader", "&lt;script&gt;", "in 30 s", "60 s ago", "23.50 / 39", "a &lt; b"]
        {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("<script>"));
    }
}
