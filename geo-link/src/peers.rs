//! The other regions, while they come and go: each with what one end of its links keeps of it.
//!
//! Who has to do with a region holds its entry, and lets go of it when the region is [gone](Entry::gone): removed, or reached
//! elsewhere. A region that comes back, also at once, is another entry.

use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clock::RegionId;
use tokio::sync::{Notify, futures::Notified};
use tokio_util::sync::CancellationToken;

use crate::options::Peer;

/// What is kept of a region.
pub(crate) trait Entry {
    /// Who it is, and where it is reached.
    fn peer(&self) -> &Peer;

    /// Cancelled when this is no longer so. It ends all that goes on with the region.
    fn gone(&self) -> &CancellationToken;
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Peers<T> {
    entries: Mutex<Arc<[Arc<T>]>>,
    changed: Notify,
}

impl<T: Entry> Peers<T> {
    /// These, with what `make` makes of each.
    pub(crate) fn new(peers: &[Peer], make: impl Fn(&Peer) -> T) -> Self {
        let entries = peers.iter().map(|peer| Arc::new(make(peer))).collect();
        Self { entries: Mutex::new(entries), changed: Notify::new() }
    }

    /// All that there are now.
    pub(crate) fn all(&self) -> Arc<[Arc<T>]> {
        self.lock().clone()
    }

    /// The one of which this is true.
    pub(crate) fn find(&self, is_it: impl Fn(&Peer) -> bool) -> Option<Arc<T>> {
        self.lock().iter().find(|entry| is_it(entry.peer())).cloned()
    }

    /// The one of this number.
    pub(crate) fn of(&self, region: RegionId) -> Option<Arc<T>> {
        self.find(|peer| peer.id == region)
    }

    /// From here on there are these. What is kept of those that stay as they were is kept; the others are gone. Returns those.
    pub(crate) fn set(&self, peers: &[Peer], make: impl Fn(&Peer) -> T) -> Vec<Arc<T>> {
        let gone = {
            let mut entries = self.lock();
            let (kept, gone): (Vec<_>, Vec<_>) =
                entries.iter().cloned().partition(|entry| peers.contains(entry.peer()));
            if gone.is_empty() && kept.len() == peers.len() {
                return gone;
            }
            let entry = |peer: &Peer| {
                let kept = kept.iter().find(|entry| entry.peer() == peer);
                kept.cloned().unwrap_or_else(|| Arc::new(make(peer)))
            };
            *entries = peers.iter().map(entry).collect();
            gone
        };
        gone.iter().for_each(|entry| entry.gone().cancel());
        self.changed.notify_waiters();
        gone
    }

    /// Notices each change from this call on.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Locks; nothing that is done under the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Arc<[Arc<T>]>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cancels `ending` when a region is `gone`; never returns.
pub(crate) async fn end_with(gone: &CancellationToken, ending: &CancellationToken) -> Infallible {
    gone.cancelled().await;
    ending.cancel();
    pending().await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clock::RegionId;
    use tokio_util::sync::CancellationToken;

    use super::{Entry, Peers};
    use crate::options::Peer;

    struct Kept(Peer, CancellationToken);

    impl Entry for Kept {
        fn peer(&self) -> &Peer {
            &self.0
        }

        fn gone(&self) -> &CancellationToken {
            &self.1
        }
    }

    fn keep(peer: &Peer) -> Kept {
        Kept(peer.clone(), CancellationToken::new())
    }

    fn peer(id: u8, addr: &str) -> Peer {
        Peer {
            name: format!("region-{id}"),
            id: RegionId::new(id).unwrap(),
            addrs: vec![addr.to_owned()],
            retired: None,
        }
    }

    #[test]
    fn who_stays_as_it_was_is_kept_and_the_others_are_gone() {
        let peers = Peers::new(&[peer(1, "a"), peer(2, "b"), peer(3, "c")], keep);
        let [one, two, three] = [1, 2, 3].map(|id| peers.of(RegionId::new(id).unwrap()).unwrap());
        let gone = peers.set(&[peer(1, "a"), peer(2, "elsewhere"), peer(4, "d")], keep);
        assert_eq!(gone.iter().map(|entry| entry.peer().clone()).collect::<Vec<_>>(), [peer(2, "b"), peer(3, "c")]);
        assert!(Arc::ptr_eq(&one, &peers.of(one.peer().id).unwrap()) && !one.gone().is_cancelled());
        assert!(two.gone().is_cancelled() && three.gone().is_cancelled());
        assert_eq!(peers.of(two.peer().id).unwrap().peer(), &peer(2, "elsewhere"));
        let all = peers.all();
        assert_eq!(all.iter().map(|entry| entry.peer().id.number()).collect::<Vec<_>>(), [1, 2, 4]);
        assert!(peers.set(&[peer(1, "a"), peer(2, "elsewhere"), peer(4, "d")], keep).is_empty());
        assert!(Arc::ptr_eq(&all, &peers.all()), "nothing has changed");
    }

    #[tokio::test]
    async fn who_waits_for_a_change_is_told() {
        let peers = Peers::new(&[], keep);
        let changed = peers.changed();
        peers.set(&[peer(1, "a")], keep);
        changed.await;
    }
}
