//! An HTTP server that keeps the requests that it receives.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::PATIENCE;

/// A request, with its body decompressed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Post {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// The body as text; what is not UTF-8 is replaced.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Post {
    pub fn lines(&self) -> Vec<String> {
        self.body.lines().map(str::to_owned).collect()
    }
}

/// The answer to a request.
pub enum Reply {
    Status(u16, String),
    /// A status with the header `retry-after`.
    RetryAfter(u16, &'static str),
    /// The connection ends without an answer.
    Cut,
    /// The request is accepted as soon as there is a permit.
    Held(Arc<Semaphore>),
}

pub fn status(status: u16) -> Reply {
    Reply::Status(status, String::new())
}

type Answers = dyn Fn(usize, &Post) -> Reply + Send + Sync;

/// A server that keeps all received requests, and those that it accepted.
pub struct Receiver {
    pub url: String,
    came: Arc<Mutex<Vec<Post>>>,
    accepted: Arc<Mutex<Vec<Post>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Starts a server that answers each request by its number, counted from 0.
    pub async fn start(answers: impl Fn(usize, &Post) -> Reply + Send + Sync + 'static) -> Receiver {
        Receiver::behind(None, answers).await
    }

    /// Starts a server behind TLS, for the name `localhost`.
    pub async fn behind(
        tls: Option<TlsAcceptor>,
        answers: impl Fn(usize, &Post) -> Reply + Send + Sync + 'static,
    ) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = match &tls {
            Some(_) => format!("https://localhost:{}", address.port()),
            None => format!("http://{address}"),
        };
        let (came, accepted) = (Arc::<Mutex<Vec<Post>>>::default(), Arc::<Mutex<Vec<Post>>>::default());
        let answers: Arc<Answers> = Arc::new(answers);
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&came), Arc::clone(&accepted), answers));
        Receiver { url, came, accepted, task }
    }

    /// Starts a server that accepts all requests.
    pub async fn that_accepts() -> Receiver {
        Receiver::start(|_, _| status(200)).await
    }

    pub fn came(&self) -> Vec<Post> {
        self.came.lock().clone()
    }

    /// The number of posts so far.
    pub fn posts(&self) -> usize {
        self.came.lock().len()
    }

    /// Waits until this many requests have arrived.
    pub async fn until(&self, posts: usize) {
        let came = async {
            while self.posts() < posts {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, came).await.expect("posts come");
    }

    /// Returns the lines of all accepted requests.
    pub fn lines(&self) -> Vec<String> {
        self.accepted.lock().iter().flat_map(Post::lines).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    came: Arc<Mutex<Vec<Post>>>,
    accepted: Arc<Mutex<Vec<Post>>>,
    answers: Arc<Answers>,
) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (came, accepted, answers) = (Arc::clone(&came), Arc::clone(&accepted), Arc::clone(&answers));
        let service = service_fn(move |request| {
            let (came, accepted, answers) = (Arc::clone(&came), Arc::clone(&accepted), Arc::clone(&answers));
            async move {
                let post = post(request).await;
                let number = {
                    let mut came = came.lock();
                    came.push(post.clone());
                    came.len() - 1
                };
                let (status, body, wait) = match answers(number, &post) {
                    Reply::Status(status, body) => (status, body, None),
                    Reply::RetryAfter(status, wait) => (status, String::new(), Some(wait)),
                    Reply::Cut => return Err(std::io::Error::other("cut on purpose")),
                    Reply::Held(gate) => {
                        gate.acquire().await.unwrap().forget();
                        (200, String::new(), None)
                    }
                };
                if status < 300 {
                    accepted.lock().push(post);
                }
                let mut response = hyper::Response::builder().status(status);
                if let Some(wait) = wait {
                    response = response.header("retry-after", wait);
                }
                Ok(response.body(Full::new(Bytes::from(body))).unwrap())
            }
        });
        let (http, tls) = (hyper::server::conn::http1::Builder::new(), tls.clone());
        tokio::spawn(async move {
            let Some(tls) = tls else { return drop(http.serve_connection(TokioIo::new(socket), service).await) };
            if let Ok(socket) = tls.accept(socket).await {
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            }
        });
    }
}

async fn post(request: hyper::Request<Incoming>) -> Post {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let headers: BTreeMap<String, String> =
        parts.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let mut bytes = Vec::new();
    match headers.get("content-encoding").map(String::as_str) {
        Some("gzip") => GzDecoder::new(&*body).read_to_end(&mut bytes).unwrap(),
        _ => (&*body).read_to_end(&mut bytes).unwrap(),
    };
    Post { path: parts.uri.to_string(), headers, body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
}
