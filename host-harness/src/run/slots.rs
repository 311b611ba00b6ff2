//! The slots of the status server: limits for connections in total and from one address, and some further slots for
//! health checks only. Whoever holds many connections cannot keep a supervisor from its answer.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::limits;

/// The requests that a connection may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionSlot {
    /// All requests.
    Full,
    /// Health checks only, because the full slots are taken.
    HealthOnly,
}

/// The slots that are taken.
#[derive(Default)]
pub(super) struct ConnectionSlots(Mutex<TakenSlots>);

#[derive(Default)]
struct TakenSlots {
    /// Full slots, by address.
    of_all: HashMap<IpAddr, usize>,
    /// Slots for health checks, the oldest first.
    of_health: VecDeque<(u64, IpAddr, Option<AbortHandle>)>,
    next: u64,
}

impl ConnectionSlots {
    /// Serves a connection in the slot that is available for it.
    pub(super) fn spawn<F>(self: &Arc<ConnectionSlots>, peer: IpAddr, serve: impl FnOnce(ConnectionSlot) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let peer = network_of(peer);
        let (id, slot) = self.0.lock().take(peer);
        let held = HeldSlot { slots: Arc::clone(self), peer, id, slot };
        let served = serve(slot);
        let task = tokio::spawn(async move {
            let _held = held;
            served.await;
        });
        if slot == ConnectionSlot::HealthOnly {
            let oldest = self.0.lock().surplus(id, task.abort_handle());
            oldest.inspect(AbortHandle::abort);
        }
    }
}

impl TakenSlots {
    /// Takes a slot for a connection from an address, and returns it with its number.
    fn take(&mut self, peer: IpAddr) -> (u64, ConnectionSlot) {
        self.next += 1;
        let in_all: usize = self.of_all.values().sum();
        let of_peer = self.of_all.entry(peer).or_default();
        if *of_peer < limits::STATUS_CONNECTIONS_OF_PEER && in_all < limits::STATUS_CONNECTIONS {
            *of_peer += 1;
            return (self.next, ConnectionSlot::Full);
        }
        if *of_peer == 0 {
            self.of_all.remove(&peer);
        }
        self.of_health.push_back((self.next, peer, None));
        (self.next, ConnectionSlot::HealthOnly)
    }

    /// Records the handle that ends a slot for health checks. If there are too many, returns the handle of the one to
    /// end.
    fn surplus(&mut self, id: u64, end: AbortHandle) -> Option<AbortHandle> {
        let taken = self.of_health.iter_mut().find(|(taken, _, _)| *taken == id)?;
        taken.2 = Some(end);
        if self.of_health.len() <= limits::HEALTH_CONNECTIONS {
            return None;
        }
        let oldest = self.oldest_of_most()?;
        self.of_health.remove(oldest)?.2
    }

    /// Finds the oldest slot for health checks of the address that has the most of them; if several addresses have the
    /// most, the oldest slot among theirs.
    fn oldest_of_most(&self) -> Option<usize> {
        let count = |peer: &IpAddr| self.of_health.iter().filter(|(_, other, _)| other == peer).count();
        let oldest_last = self.of_health.iter().enumerate().rev();
        oldest_last.max_by_key(|(_, (_, peer, _))| count(peer)).map(|(place, _)| place)
    }
}

/// A slot, which is freed when the value is dropped.
struct HeldSlot {
    slots: Arc<ConnectionSlots>,
    peer: IpAddr,
    id: u64,
    slot: ConnectionSlot,
}

impl Drop for HeldSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.0.lock();
        match self.slot {
            ConnectionSlot::Full => {
                let left = taken.of_all.get_mut(&self.peer).map(|count| {
                    *count -= 1;
                    *count
                });
                if left == Some(0) {
                    taken.of_all.remove(&self.peer);
                }
            }
            ConnectionSlot::HealthOnly => taken.of_health.retain(|(id, _, _)| *id != self.id),
        }
    }
}

/// Returns the network of an address: a host of IPv6 usually has a whole network of 64 bits.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tokio::sync::mpsc;

    /// Opens connections from these addresses that never end by themselves. Returns their slots, and the numbers of the
    /// connections that were ended.
    async fn held(peers: &[&str]) -> (Vec<ConnectionSlot>, BTreeSet<usize>) {
        let (slots, (ended, mut ends)) = (Arc::new(ConnectionSlots::default()), mpsc::unbounded_channel());
        struct Ending(usize, mpsc::UnboundedSender<usize>);
        impl Drop for Ending {
            fn drop(&mut self) {
                let _ = self.1.send(self.0);
            }
        }
        let mut got = Vec::new();
        for (number, peer) in peers.iter().enumerate() {
            let ending = Ending(number, ended.clone());
            slots.spawn(peer.parse().unwrap(), |slot| {
                got.push(slot);
                async move {
                    let _ending = ending;
                    std::future::pending().await
                }
            });
        }
        let taken = {
            let taken = slots.0.lock();
            taken.of_all.values().sum::<usize>() + taken.of_health.len()
        };
        let mut gone = BTreeSet::new();
        while gone.len() < peers.len() - taken {
            gone.extend(ends.recv().await);
        }
        (got, gone)
    }

    #[tokio::test]
    async fn one_address_has_no_more_than_its_places_and_the_newest_may_ask_for_health() {
        let (got, gone) = held(&["10.0.0.1"; 40]).await;
        assert!(got.iter().take(16).all(|slot| *slot == ConnectionSlot::Full));
        assert!(got.iter().skip(16).all(|slot| *slot == ConnectionSlot::HealthOnly));
        assert_eq!(gone, (16..24).collect(), "the oldest that may ask for health alone make room");
    }

    #[tokio::test]
    async fn whoever_holds_most_makes_room_first() {
        let mut peers = ["10.0.0.1"; 80];
        (peers[20], peers[21]) = ("10.0.0.2", "::ffff:10.0.0.3");
        let (got, gone) = held(&peers).await;
        assert_eq!((got[20], got[21]), (ConnectionSlot::Full, ConnectionSlot::Full));
        assert!(!gone.contains(&20) && !gone.contains(&21));
        let mut many: Vec<String> = (0..64).map(|peer| format!("10.0.1.{peer}")).collect();
        many.push("10.9.9.9".to_owned());
        many.extend((0..40).map(|peer| format!("2001:db8::{peer:x}")));
        let (got, gone) = held(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert!(got[64..].iter().all(|slot| *slot == ConnectionSlot::HealthOnly));
        assert!(!gone.contains(&64), "a network of IPv6 is one address");
    }

    #[tokio::test]
    async fn where_each_address_holds_one_the_newest_still_gets_its_answer() {
        let peers: Vec<String> = (0..120).map(|peer| format!("10.0.1.{peer}")).collect();
        let (got, gone) = held(&peers.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert!(got[64..].iter().all(|slot| *slot == ConnectionSlot::HealthOnly));
        assert_eq!(gone, (64..64 + gone.len()).collect(), "the oldest make room");
        assert!(!gone.is_empty());
    }
}
