//! Attaching: says to every node of the region, each [`ATTACH_INTERVAL`], that this gateway is there, and follows the map.
//!
//! Nodes forget a gateway that is silent for a second, so calls go to each on its own: one that does not answer delays no
//! other. Whom to call is in the map, which any node tells whoever has an older one. Until there is one, and again when no
//! node of the map has answered for [`SEEDS_AFTER`], the seeds of the configuration are called as well: the addresses in the
//! map may all have changed while nobody looked.
//!
//! Left out on purpose: a region that is founded anew under the same addresses. Its map counts from one again, and a gateway
//! that has seen the former takes it for older. Such a gateway is started again.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use config::PeerAddress;
use futures_util::{StreamExt, stream::FuturesUnordered};
use node_core::{
    cluster::{
        ClusterMap, Peer,
        control::{Attach, Request, Response},
        gateways::Attachment,
    },
    limits::GATEWAY_SILENCE_MAX,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::bus::{Bus, CallError, Channel},
    limits::{ATTACH_INTERVAL, ATTACH_PATIENCE, SEEDS_AFTER},
};

/// See the head of this file.
pub(super) struct Attaching {
    attachment: Attachment,
    /// The other regions of the file.
    peers: Vec<Peer>,
    seeds: Vec<Arc<str>>,
    bus: Bus,
    maps: watch::Sender<Arc<ClusterMap>>,
    nodes: Arc<Mutex<Nodes>>,
}

/// The nodes that are called, by address.
type Nodes = BTreeMap<Arc<str>, Called>;

/// What has become of calls to a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Called {
    /// Whether an answer is due.
    waits: bool,
    /// When it let this gateway in last.
    attached: Option<Instant>,
    /// Why it did not, the last time.
    pub(super) error: Option<String>,
}

impl Called {
    /// Whether the node knows this gateway, as far as one can tell.
    pub(super) fn is_attached(&self) -> bool {
        self.is_attached_within(GATEWAY_SILENCE_MAX)
    }

    fn is_attached_within(&self, time: Duration) -> bool {
        self.attached.is_some_and(|at| at.elapsed() < time)
    }
}

/// What others may look at.
#[derive(Clone)]
pub(super) struct View {
    /// The map, as this gateway has it.
    pub(super) maps: watch::Receiver<Arc<ClusterMap>>,
    nodes: Arc<Mutex<Nodes>>,
}

impl View {
    /// The nodes that are called, and what has become of that.
    pub(super) fn nodes(&self) -> Vec<(Arc<str>, Called)> {
        lock(&self.nodes).iter().map(|(address, called)| (address.clone(), called.clone())).collect()
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

type Answered = (Arc<str>, Result<Response, CallError>);

impl Attaching {
    /// What attaches a gateway, by way of these seeds, and what there is to see of it.
    pub(super) fn new(attachment: Attachment, peers: &[Peer], seeds: &[PeerAddress], bus: Bus) -> (Self, View) {
        let (maps, watched) = watch::channel(Arc::new(ClusterMap::new()));
        let nodes = Arc::<Mutex<Nodes>>::default();
        let seeds = seeds.iter().map(|seed| seed.to_string().into()).collect();
        let view = View { maps: watched, nodes: nodes.clone() };
        (Self { attachment, peers: peers.to_vec(), seeds, bus, maps, nodes }, view)
    }

    /// Attaches until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut due = interval(ATTACH_INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut calls = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = due.tick() => {
                    for address in self.to_call() {
                        calls.push(self.call(address));
                    }
                }
                Some((address, outcome)) = calls.next() => self.take(&address, outcome),
            }
        }
    }

    /// Whom to call now: all that are there and from whom no answer is due.
    fn to_call(&self) -> Vec<Arc<str>> {
        let map = self.maps.borrow();
        let mut addresses: Vec<Arc<str>> = map.nodes().map(|(_, node)| node.addresses.bus().into()).collect();
        let mut nodes = lock(&self.nodes);
        let answers = |address| nodes.get(address).is_some_and(|called| called.is_attached_within(SEEDS_AFTER));
        if !addresses.iter().any(answers) {
            addresses.extend(self.seeds.iter().cloned());
        }
        nodes.retain(|address, _| addresses.contains(address));
        addresses.retain(|address| {
            let called = nodes.entry(address.clone()).or_default();
            !std::mem::replace(&mut called.waits, true)
        });
        addresses
    }

    async fn call(&self, address: Arc<str>) -> Answered {
        let map = self.maps.borrow().clone();
        let peers = map.regions().over(&self.peers).iter().map(|peer| peer.id).collect();
        let attach = Attach { gateway: Attachment { peers, ..self.attachment.clone() }, epoch: map.epoch() };
        let peer = self.bus.peer(address.clone());
        let outcome = peer.call(Channel::Control, &Request::Attach(attach), ATTACH_PATIENCE).await;
        (address, outcome)
    }

    fn take(&self, address: &Arc<str>, outcome: Result<Response, CallError>) {
        let outcome = match outcome {
            Ok(Response::Attached(map)) => {
                if let Some(map) = map {
                    self.follow(*map);
                }
                Ok(())
            }
            Ok(Response::Failed(reason)) => Err((true, reason)),
            Ok(other) => Err((true, format!("it does not know gateways: {other:?}"))),
            Err(error) => Err((false, error.to_string())),
        };
        let mut nodes = lock(&self.nodes);
        // It may have left the map meanwhile.
        let Some(called) = nodes.get_mut(address) else { return };
        called.waits = false;
        match outcome {
            Ok(()) => {
                if !called.is_attached() {
                    tracing::info!(%address, "attached to a node");
                }
                (called.attached, called.error) = (Some(Instant::now()), None);
            }
            Err((is_refusal, reason)) => {
                // Once: what a person must put right, and what is out of reach, stays so for a while.
                if called.error.as_ref() != Some(&reason) && is_refusal {
                    tracing::warn!(%address, reason, "a node refuses this gateway");
                }
                called.error = Some(reason);
            }
        }
    }

    /// Takes in another map, if it is newer and of this region.
    fn follow(&self, map: ClusterMap) {
        if map.region() != Some(self.attachment.region) {
            return tracing::warn!(region = ?map.region(), "a node has the map of another region");
        }
        self.maps.send_if_modified(|current| {
            let is_newer = map.epoch() > current.epoch();
            if is_newer {
                tracing::debug!(epoch = %map.epoch(), nodes = map.nodes().len(), "the map has changed");
                *current = Arc::new(map);
            }
            is_newer
        });
    }
}

fn lock(nodes: &Mutex<Nodes>) -> MutexGuard<'_, Nodes> {
    nodes.lock().unwrap_or_else(PoisonError::into_inner)
}
