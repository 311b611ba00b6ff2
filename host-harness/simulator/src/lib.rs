//! The simulated Entra ID and Azure Resource Manager: real sockets, and TLS with its own CA, for the demo, the tests
//! and any other client. On loopback, clients that cannot add a CA get the same without TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub mod answer;
pub mod assertion;
mod certificates;
pub mod day;
pub mod estate;
pub mod gateways;
pub mod hostile;
pub mod scenario;
pub mod service;

use answer::{Answer, Request};
use certificates::Authority;
pub use certificates::CertificateError;
use day::Moment;
use estate::Estate;
use service::{Visit, World};

/// The reason why a simulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The simulator cannot listen on the address.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        error: std::io::Error,
    },
    /// The address is not loopback, where others would read what goes over http.
    #[error("found the address {0}, expected one of this machine alone without TLS, such as 127.0.0.1:0 or [::1]:0")]
    Exposed(SocketAddr),
    /// The simulator has no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A running service, which stops when the value is dropped.
pub struct Simulator {
    url: String,
    ca_pem: Option<String>,
    world: Arc<Mutex<World>>,
    task: tokio::task::JoinHandle<()>,
}

impl Simulator {
    /// Starts to listen; port 0 takes a free port.
    pub async fn start(
        listen: SocketAddr,
        estate: Estate,
        scenario: Option<&'static str>,
    ) -> Result<Simulator, SimulatorError> {
        let (listener, address) = listening(listen).await?;
        let authority = Authority::new("host-harness simulate CA")?;
        let ca_pem = authority.pem();
        let tls = authority.server(&["localhost", "127.0.0.1", "::1", &address.ip().to_string()], true)?;
        let doors = Doors { tls: TlsAcceptor::from(Arc::new(tls)), authority };
        Ok(Simulator::behind(
            Some(doors),
            listener,
            format!("https://{address}"),
            World::new(estate, scenario),
            Some(ca_pem),
        ))
    }

    /// Starts to listen without TLS, on loopback only.
    pub async fn without_tls(
        listen: SocketAddr,
        estate: Estate,
        scenario: Option<&'static str>,
    ) -> Result<Simulator, SimulatorError> {
        if !listen.ip().is_loopback() {
            return Err(SimulatorError::Exposed(listen));
        }
        let (listener, address) = listening(listen).await?;
        Ok(Simulator::behind(None, listener, format!("http://{address}"), World::new(estate, scenario), None))
    }

    fn behind(
        doors: Option<Doors>,
        listener: TcpListener,
        url: String,
        mut world: World,
        ca_pem: Option<String>,
    ) -> Simulator {
        world.url.clone_from(&url);
        let world = Arc::new(Mutex::new(world));
        let task = tokio::spawn(accept(listener, doors.map(Arc::new), Arc::clone(&world)));
        Simulator { url, ca_pem, world, task }
    }

    /// Origin of both services.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// PEM of the CA that signed the service's certificate; empty without TLS.
    pub fn ca_pem(&self) -> &str {
        self.ca_pem.as_deref().unwrap_or_default()
    }

    /// Reads or changes the state of the service.
    pub fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.world.lock())
    }

    /// The facts that a client needs. `ca_file` is null without TLS.
    pub fn about(&self, ca_file: &str) -> Value {
        self.with(|world| {
            let tenants = world.estate.tenants.iter().map(|tenant| {
                json!({
                    "tenant_id": tenant.id,
                    "client_id": tenant.client_id,
                    "client_secret": tenant.client_secret,
                    "subscriptions": tenant.subscriptions.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
                })
            });
            let tenants: Vec<Value> = tenants.collect();
            let ca_file = self.ca_pem.as_ref().map(|_| ca_file);
            json!({ "url": self.url, "ca_file": ca_file, "audience": world.audience(), "tenants": tenants })
        })
    }

    /// A configuration for `host-harness` that polls all tenants, and the variables that the configuration needs.
    pub fn configuration(&self, ca_file: &str) -> (String, Vec<(String, String)>) {
        self.with(|world| {
            let url = &world.url;
            let ca = self.ca_pem.as_ref().map(|_| format!("ca_file = {ca_file:?}\n")).unwrap_or_default();
            let mut text = format!("[network]\n{ca}allow = [{url:?}]\nallow_addresses = [\"127.0.0.0/8\", \"::1\"]\n");
            let mut variables = Vec::new();
            for tenant in &world.estate.tenants {
                let name = &tenant.name;
                let variable = format!("{}_SECRET", name.to_uppercase().replace('-', "_"));
                let listed: Vec<&str> = tenant.subscriptions.iter().map(|one| one.id.as_str()).collect();
                let subscriptions = if world.more_to_come { "\"*\"".to_owned() } else { format!("{listed:?}") };
                text += &format!(
                    "\n[[feed]]\nid = \"{name}-scores\"\ntenant = \"{name}\"\n[feed.settings]\nclient_key = {:?}\n\
                     client_secret = {{ env = {variable:?} }}\ntoken_url = {:?}\nsubscription_id = {subscriptions}\n\
                     authority = {url:?}\nendpoint = {url:?}\naudience = {:?}\n",
                    tenant.client_id,
                    tenant.id,
                    world.audience(),
                );
                variables.push((variable, tenant.client_secret.clone()));
            }
            (text, variables)
        })
    }

    /// Serves until the caller drops the future.
    pub async fn serve(mut self) {
        let _ = (&mut self.task).await;
    }

    /// Serves a day of this estate. Each moment lasts this long, and the evening lasts for ever. `told` is called with
    /// each moment.
    pub async fn serve_day(&self, estate: &Estate, moment_lasts: Duration, told: impl Fn(Moment)) {
        for moment in Moment::ALL {
            self.with(|world| world.estate = day::at(estate, moment));
            told(moment);
            tokio::time::sleep(moment_lasts).await;
        }
        std::future::pending().await
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on an address, and returns it with its port.
async fn listening(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), SimulatorError> {
    let unheard = |error| SimulatorError::Listen { address: listen, error };
    let listener = TcpListener::bind(listen).await.map_err(unheard)?;
    let address = listener.local_addr().map_err(unheard)?;
    Ok((listener, address))
}

/// The TLS settings with which connections are accepted.
struct Doors {
    tls: TlsAcceptor,
    authority: Authority,
}

async fn accept(listener: TcpListener, doors: Option<Arc<Doors>>, world: Arc<Mutex<World>>) {
    let mut connections = 0;
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        // Otherwise, the first answer over TLS waits until the client acknowledges its session tickets, for up to 40 ms.
        let _ = socket.set_nodelay(true);
        connections += 1;
        let (doors, world) = (doors.clone(), Arc::clone(&world));
        let scenario = world.lock().scenario;
        // A client that goes away, or an answer that is cut off on purpose, ends this connection only.
        tokio::spawn(async move {
            let Some(doors) = doors else { return serve_http(socket, world, connections, false).await };
            if let Some(case) = scenario.and_then(hostile::named).filter(|case| case.is_raw()) {
                let _ =
                    hostile::serve(case, socket, &doors.tls, &doors.authority, |request| world.lock().answer(request))
                        .await;
                return;
            }
            let Ok(stream) = doors.tls.accept(socket).await else { return };
            let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            serve_http(stream, world, connections, resumed).await;
        });
    }
}

async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    world: Arc<Mutex<World>>,
    connection: usize,
    resumed: bool,
) {
    let service = service_fn(move |request| {
        let world = Arc::clone(&world);
        async move { Ok::<_, Infallible>(respond(request, &world, connection, resumed).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

type ResponseBody = BoxBody<Bytes, std::io::Error>;

async fn respond(
    request: hyper::Request<Incoming>,
    world: &Mutex<World>,
    connection: usize,
    resumed: bool,
) -> hyper::Response<ResponseBody> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let fields = |text: &[u8]| form_urlencoded::parse(text).into_owned().collect();
    let bearer = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    let request = Request {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: fields(parts.uri.query().unwrap_or_default().as_bytes()),
        bearer: bearer.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned),
        form: fields(&body),
    };
    let mut world = world.lock();
    let answer = world.answer(&request);
    if let Some(tenant) = world.tenant_of(&request) {
        world.note(Visit { connection, resumed, tenant });
    }
    response(answer)
}

fn response(answer: Answer) -> hyper::Response<ResponseBody> {
    let mut builder = hyper::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    let body = Bytes::from(answer.body);
    let body = if answer.cut || answer.raw {
        builder = builder.header("content-length", body.len());
        let half = body.slice(..body.len() / 2);
        let broken = Err(std::io::Error::other("cut on purpose"));
        BodyExt::boxed(StreamBody::new(stream::iter([Ok(Frame::data(half)), broken])))
    } else {
        Full::new(body).map_err(|never| match never {}).boxed()
    };
    builder.body(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let mut seen = HashSet::new();
        assert!(scenario::names().all(|name| seen.insert(name)));
        assert_eq!(scenario::named("forbidden"), Some("forbidden"));
        assert_eq!(scenario::named("forbiden"), None);
    }

    #[test]
    fn every_scenario_says_in_one_line_of_its_own_what_it_does() {
        let mut seen = HashSet::new();
        for scenario::ScenarioInfo { name, what, .. } in scenario::all() {
            assert!(what.len() > 8 && !what.contains('\n') && seen.insert(what.clone()), "{name}: {what}");
        }
        assert!(scenario::all().map(|about| about.kind).is_sorted(), "one kind after the other");
    }
}
