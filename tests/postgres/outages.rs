//! Servers and connections that are lost: a poll is written once, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use host_harness::limits;
use host_harness::store::fleet::FleetStore;
use host_harness::store::shards::Lease;
use host_harness::store::{PollRecord, Store, StoreErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{all, new_on, open, poll};
use crate::support::PATIENCE;
use crate::support::postgres::Server;

/// A relay between a store and its server, which can swallow the answer to a commit.
struct Relay {
    port: u16,
    /// While set, a connection that sends COMMIT reaches the server, and is cut before the answer.
    cuts: Arc<AtomicBool>,
    /// While set, new connections are refused.
    is_closed: Arc<AtomicBool>,
    /// While set, a connection that sends COMMIT is cut before the server hears of it.
    swallows: Arc<AtomicBool>,
    /// While set, connections are taken and kept, and carry nothing, as those of a machine that hangs.
    hangs: Arc<AtomicBool>,
}

impl Relay {
    async fn to(port: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let [cuts, is_closed, swallows, hangs] = std::array::from_fn(|_| Arc::<AtomicBool>::default());
        let relay = Relay {
            port: listener.local_addr().unwrap().port(),
            cuts: Arc::clone(&cuts),
            is_closed: Arc::clone(&is_closed),
            swallows: Arc::clone(&swallows),
            hangs: Arc::clone(&hangs),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if is_closed.load(Ordering::SeqCst) {
                    continue;
                }
                let (cuts, is_closed) = (Arc::clone(&cuts), Arc::clone(&is_closed));
                let (swallows, hangs) = (Arc::clone(&swallows), Arc::clone(&hangs));
                tokio::spawn(async move { carry(client, port, &cuts, &is_closed, &swallows, &hangs).await });
            }
        });
        relay
    }
}

async fn carry(
    client: TcpStream,
    port: u16,
    cuts: &AtomicBool,
    is_closed: &AtomicBool,
    swallows: &AtomicBool,
    hangs: &AtomicBool,
) {
    let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let answers = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut bytes = vec![0; 1 << 20];
    // The body of an event goes to the server together with the commit.
    while let Ok(count) = from_client.read(&mut bytes).await {
        if count == 0 {
            break;
        }
        if hangs.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        let is_commit = contains(&bytes[..count], b"event body");
        if is_commit && swallows.swap(false, Ordering::SeqCst) {
            break;
        }
        let cut = is_commit && cuts.swap(false, Ordering::SeqCst);
        if cut {
            answers.abort();
            is_closed.store(true, Ordering::SeqCst);
        }
        to_server.write_all(&bytes[..count]).await.unwrap();
        if cut {
            // The server hears everything before the connection ends.
            tokio::time::sleep(Duration::from_millis(300)).await;
            break;
        }
    }
    answers.abort();
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A poll with one event, by whose body the relay knows the exchange that commits.
fn marked(lease: Lease, uid: &str) -> Arc<PollRecord> {
    let mut record = poll(lease, "contoso", "prod", "one", &[uid]);
    record.events[0].body = format!("event body {uid}").into_bytes();
    Arc::new(record)
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_done_twice() {
    let server = Server::shared();
    let shared = new_on(server).await;
    let relay = Relay::to(server.port).await;
    let url = format!("postgres://{0}@127.0.0.1:{1}/{0}", shared.database, relay.port);
    let store = Arc::new(open(&url).await.unwrap());
    let lease = shared.lease("contoso");
    store.commit(marked(lease, "a")).await.unwrap();
    relay.cuts.store(true, Ordering::SeqCst);
    let (again, record) = (Arc::clone(&store), marked(lease, "b"));
    let commit = tokio::spawn(async move { again.commit(record).await });
    let committed = async {
        while shared.waiting("lake", None, None).await.len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, committed).await.expect("the server has the transaction");
    assert!(!commit.is_finished(), "nobody told the store");
    relay.is_closed.store(false, Ordering::SeqCst);
    let kept = commit.await.unwrap().unwrap();
    assert_eq!(shared.waiting("lake", None, None).await, ["a", "b"]);
    assert_eq!(kept.feed, store.kept(&shared.leases).await.unwrap()[0].bytes);
    // And one that the server never heard of is done.
    relay.swallows.store(true, Ordering::SeqCst);
    store.commit(marked(lease, "c")).await.unwrap();
    assert_eq!(shared.waiting("lake", None, None).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_server_that_hangs_is_left_for_the_one_that_took_its_place() {
    let server = Server::shared();
    let shared = new_on(server).await;
    let relay = Relay::to(server.port).await;
    let (relayed, direct) = (relay.port, server.port);
    let url = format!("postgres://{0}@127.0.0.1:{relayed},127.0.0.1:{direct}/{0}", shared.database);
    let store = Arc::new(open(&url).await.unwrap());
    let lease = shared.lease("contoso");
    store.renew(&super::member("one")).await.unwrap();
    store.commit(marked(lease, "a")).await.unwrap();
    relay.hangs.store(true, Ordering::SeqCst);
    let again = Arc::clone(&store);
    let commit = tokio::spawn(async move { again.commit(marked(lease, "b")).await });
    // The first renewal waits for the server that hangs, and the next one finds the other server.
    assert!(store.renew(&super::member("one")).await.is_err());
    store.renew(&super::member("one")).await.unwrap();
    let committed = tokio::time::timeout(PATIENCE, commit).await.expect("the commit goes to the other server");
    committed.unwrap().unwrap();
    assert_eq!(shared.waiting("lake", None, None).await, ["a", "b"]);
}

#[tokio::test]
async fn a_lost_commit_is_answered_as_it_is_though_the_shard_has_gone() {
    let server = Server::shared();
    let shared = new_on(server).await;
    let relay = Relay::to(server.port).await;
    let store =
        Arc::new(open(&format!("postgres://{0}@127.0.0.1:{1}/{0}", shared.database, relay.port)).await.unwrap());
    let lease = shared.lease("contoso");
    store.commit(marked(lease, "a")).await.unwrap();
    relay.cuts.store(true, Ordering::SeqCst);
    let (again, record) = (Arc::clone(&store), marked(lease, "b"));
    let commit = tokio::spawn(async move { again.commit(record).await });
    while shared.waiting("lake", None, None).await.len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let taken = all(&shared.store, "one").await;
    assert_eq!(taken.len(), 256);
    relay.is_closed.store(false, Ordering::SeqCst);
    commit.await.unwrap().unwrap();
    let error = store.commit(marked(lease, "c")).await.unwrap_err();
    assert_eq!(error.what, StoreErrorKind::Fenced { shard: lease.shard });
}

#[tokio::test]
async fn a_server_that_crashes_and_comes_back_has_every_answered_poll() {
    let server = Server::start("");
    let shared = new_on(&server).await;
    let lease = shared.lease("contoso");
    let (port, store) = (server.port, Arc::clone(&shared.store));
    store.commit(marked(lease, "a")).await.unwrap();
    let folder = server.crash();
    let again = Arc::clone(&store);
    let commit = tokio::spawn(async move { again.commit(marked(lease, "b")).await });
    let server = Server::again(folder, port);
    commit.await.unwrap().unwrap();
    assert_eq!(shared.waiting("lake", None, None).await, ["a", "b"]);
    assert_eq!(store.renew(&super::member("one")).await.unwrap().members.len(), 1);
    let folder = server.crash();
    let begun = std::time::Instant::now();
    let error = store.commit(marked(lease, "c")).await.unwrap_err();
    assert!(begun.elapsed() >= limits::STORE_PATIENCE, "{:?}", begun.elapsed());
    assert!(error.to_string().contains("cannot be reached") || error.to_string().contains("was lost"), "{error}");
    store.close().await.unwrap();
    assert_eq!(store.salt().await.unwrap_err().what, StoreErrorKind::Stopped);
    std::fs::remove_dir_all(folder).unwrap();
}
