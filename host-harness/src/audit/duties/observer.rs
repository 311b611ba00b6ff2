//! The service that the probe's requests reach, if the host lets them: it answers, and keeps each request.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::{OBSERVED_ANSWER_BYTES, OBSERVED_REQUEST_BYTES, OBSERVED_STEPS, OBSERVER_PATIENCE};

/// The origin at which a request arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entrance {
    /// The origin that is declared and allowed.
    Service,
    /// An origin that the probe does not declare.
    Foreign,
    /// An origin that the probe declares, and the operator does not allow.
    Unallowed,
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) entrance: Entrance,
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Arrival {
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// The observations of one run.
#[derive(Debug, Default)]
pub(super) struct Observations {
    pub(super) arrivals: Vec<Arrival>,
    /// Bytes of the endless answer that the host took.
    pub(super) endless_bytes: usize,
    pub(super) steps: BTreeMap<String, usize>,
}

/// The observer of one run.
pub(super) struct Observer {
    pub(super) token: String,
    addresses: [SocketAddr; 3],
    observations: Arc<Mutex<Observations>>,
}

const ENTRANCES: [Entrance; 3] = [Entrance::Service, Entrance::Foreign, Entrance::Unallowed];

impl Observer {
    /// Serves on free ports of loopback, until the process ends.
    pub(super) fn start(token: String) -> io::Result<Observer> {
        let observations = Arc::<Mutex<Observations>>::default();
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listeners = [listen()?, listen()?, listen()?];
        let [service, foreign, unallowed] = listeners.each_ref().map(TcpListener::local_addr);
        let addresses = [service?, foreign?, unallowed?];
        let elsewhere = format!("http://{}", addresses[1]);
        for (entrance, listener) in ENTRANCES.into_iter().zip(listeners) {
            let (token, elsewhere, observations) = (token.clone(), elsewhere.clone(), Arc::clone(&observations));
            std::thread::spawn(move || {
                for connection in listener.incoming().flatten() {
                    let exchange = ObservedExchange {
                        entrance,
                        token: token.clone(),
                        elsewhere: elsewhere.clone(),
                        observations: Arc::clone(&observations),
                    };
                    // A host that breaks off loses its connection and nothing else.
                    std::thread::spawn(move || exchange.serve(connection));
                }
            });
        }
        Ok(Observer { token, addresses, observations })
    }

    pub(super) fn origin(&self, entrance: Entrance) -> String {
        let index = ENTRANCES.iter().position(|one| *one == entrance).unwrap_or_default();
        format!("http://{}", self.addresses[index])
    }

    /// The number of requests so far.
    pub(super) fn count(&self) -> usize {
        self.observations.lock().arrivals.len()
    }

    /// Returns the observations so far.
    pub(super) fn take(&self) -> Observations {
        std::mem::take(&mut *self.observations.lock())
    }
}

/// One request and its answer.
struct ObservedExchange {
    entrance: Entrance,
    token: String,
    elsewhere: String,
    observations: Arc<Mutex<Observations>>,
}

impl ObservedExchange {
    fn serve(self, mut connection: TcpStream) -> io::Result<()> {
        connection.set_read_timeout(Some(OBSERVER_PATIENCE))?;
        connection.set_write_timeout(Some(OBSERVER_PATIENCE))?;
        let Some(arrival) = read(&mut connection, self.entrance)? else { return Ok(()) };
        self.observations.lock().arrivals.push(arrival.clone());
        if arrival.path() == "/data/endless" {
            return self.flood(&mut connection);
        }
        let (status, header, body) = self.answer(&arrival);
        let length = body.len();
        write!(
            connection,
            "HTTP/1.1 {status} Observed\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             {header}connection: close\r\n\r\n{body}"
        )
    }

    /// Returns status, further headers and body.
    fn answer(&self, arrival: &Arrival) -> (u16, String, String) {
        let token = &self.token;
        let plain = |body: &str| (200, String::new(), body.to_owned());
        let is_step = arrival.path().strip_prefix("/data/").and_then(|rest| rest.strip_suffix("/step"));
        if let Some(scope) = is_step {
            let mut observations = self.observations.lock();
            let steps = observations.steps.entry(scope.to_owned()).or_default();
            *steps += 1;
            return if *steps < most_steps(scope) { plain("{}") } else { (410, String::new(), String::new()) };
        }
        match arrival.path() {
            "/token" => plain(
                &serde_json::json!({ "access_token": token, "expires_in": 3_600, "token_type": "Bearer" }).to_string(),
            ),
            "/data/redirect" => (302, format!("location: {}/data/redirected\r\n", self.elsewhere), String::new()),
            "/data/echo/body" => plain(&format!("{{\"you-sent\":\"Bearer {token}\"}}")),
            "/data/echo/header" => (200, format!("x-you-sent: {token}\r\n"), "{}".to_owned()),
            "/data/echo/percent" => {
                let percent: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
                plain(&format!("{{\"you-sent\":\"{percent}\"}}"))
            }
            _ => plain("{}"),
        }
    }

    fn flood(&self, connection: &mut TcpStream) -> io::Result<()> {
        write!(connection, "HTTP/1.1 200 Observed\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n")?;
        let chunk = [b' '; 64 << 10];
        while self.observations.lock().endless_bytes < OBSERVED_ANSWER_BYTES {
            connection.write_all(&chunk)?;
            self.observations.lock().endless_bytes += chunk.len();
        }
        Ok(())
    }
}

/// The step at which the observer ends what a host should have ended.
pub(super) fn most_steps(scope: &str) -> usize {
    OBSERVED_STEPS.iter().find(|(name, _)| *name == scope).map_or(usize::MAX, |(_, steps)| *steps)
}

/// Reads one request; `None` if it is none.
fn read(connection: &mut TcpStream, entrance: Entrance) -> io::Result<Option<Arrival>> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 8 << 10]);
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(head)) = request.parse(&bytes) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers: Vec<(String, String)> =
                request.headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value))).collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or_default();
            let is_chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
            let body = &bytes[head..];
            if body.len() >= length && (!is_chunked || body.ends_with(b"0\r\n\r\n")) {
                let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
                let (method, target, body) = (method.to_owned(), target.to_owned(), text(body));
                return Ok(Some(Arrival { entrance, method, target, headers, body }));
            }
        }
        let count = connection.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..count]);
        if count == 0 || bytes.len() > OBSERVED_REQUEST_BYTES {
            return Ok(None);
        }
    }
}
