//! The receiving half of a gateway that is a process of its own: splits what arrives by who owns the slots.
//!
//! A stream arrives from one primary of another region, with records of all slots that it owns there. Here those slots are
//! owned by others. So a stream that was let in has a *branch* to each primary of this region: a stream of its
//! own, on which this gateway speaks as the primary over there would, and which ends in the owner's store like any other.
//!
//! What is decided of it is decided by [`Split`](geo_link_core::Split), at whose head stands what holds; here are the connections, and who is let in.
//!
//! The sender is believed for what its certificate says and for nothing else; what it may say of whom is judged by the
//! owners, whose word is what this region knows.

mod stream;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clock::{Now, Origin, OsClock, RegionId};
use geo_link_core::{Applied, LinkId};
pub use geo_link_core::{Owner, Owners};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::{
    accept::{self, Door},
    metrics::BytesMetrics,
    options::{LinkOptions, Peer},
    peers::{Entry, Peers},
    tls::Credentials,
    turned_away::TurnedAway,
};

/// The primaries of this region, as a gateway reaches them.
pub trait Nodes: Send + Sync + 'static {
    /// A connection to one.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Why there is none.
    type Error: fmt::Display + Send;

    /// Who owns which slots, and each change of that.
    fn owners(&self) -> watch::Receiver<Arc<Owners>>;

    /// Connects to this owner, for the part that its slots are of a stream that comes from the region `from`.
    fn connect(&self, owner: Owner, from: String) -> impl Future<Output = Result<Self::Stream, Self::Error>> + Send;
}

/// What all streams that arrive at a gateway share.
pub struct Splitter<N> {
    pub(crate) region: String,
    pub(crate) id: RegionId,
    pub(crate) peers: Peers<Source>,
    pub(crate) links: LinkOptions,
    pub(crate) clock: Arc<OsClock>,
    pub(crate) nodes: Arc<N>,
    streams: Mutex<BTreeMap<Origin, Arrived>>,
}

/// A region from which streams come.
pub(crate) struct Source {
    peer: Peer,
    metrics: BytesMetrics,
    gone: CancellationToken,
}

/// A stream that was let in.
struct Arrived {
    id: LinkId,
    /// Ends it when another takes its place, or its region is gone.
    replaced: CancellationToken,
    status: SplitStatus,
}

/// A stream that arrives at a gateway: a part of `/status`, ready to be made JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SplitStatus {
    /// The region that it comes from.
    pub from: String,
    /// Who stamps what it brings.
    pub origin: String,
    /// Owners that are passed their part, and owners that there are.
    pub branches: usize,
    /// Owners that there are.
    pub owners: usize,
    /// How often the sender was told what is wanted.
    pub rounds: u32,
    /// An owner holds what it was passed: the sender's clock is ahead.
    pub held: bool,
}

impl<N: Nodes> Splitter<N> {
    /// For the region of this name and number, which has these peers.
    pub fn new(region: &str, id: RegionId, peers: &[Peer], links: LinkOptions, clock: Arc<OsClock>, nodes: N) -> Self {
        let peers = Peers::new(peers, |peer| Source::new(peer, region));
        let (region, nodes) = (region.to_owned(), Arc::new(nodes));
        Self { region, id, peers, links, clock, nodes, streams: Mutex::default() }
    }

    /// Accepts streams of other regions at `listener` until `ending`.
    pub async fn run(
        self: Arc<Self>,
        credentials: Arc<Credentials>,
        listener: tokio::net::TcpListener,
        ending: CancellationToken,
    ) {
        accept::run(self, credentials, listener, ending).await;
    }

    /// From here on streams come from these regions. Those of others end.
    pub fn set_peers(&self, peers: &[Peer]) {
        self.peers.set(peers, |peer| Source::new(peer, &self.region));
    }

    /// The streams that arrive now.
    pub fn status(&self) -> Vec<SplitStatus> {
        self.lock().values().map(|entry| entry.status.clone()).collect()
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// A batch from this region was passed on.
    fn count(&self, from: &str, batch: Applied) {
        if let Some(source) = self.peers.find(|peer| peer.name == from) {
            source.metrics.count(batch.raw_bytes, batch.wire_bytes);
        }
    }

    /// Lets a stream in, in the place of the one of the same origin, unless that is younger.
    fn admit(&self, source: &Source, id: LinkId, status: SplitStatus) -> Option<CancellationToken> {
        let mut streams = self.lock();
        if streams.get(&id.origin).is_some_and(|current| current.id.epoch >= id.epoch) {
            return None;
        }
        let replaced = source.gone.child_token();
        let former = streams.insert(id.origin, Arrived { id, replaced: replaced.clone(), status });
        former.into_iter().for_each(|former| former.replaced.cancel());
        Some(replaced)
    }

    fn update(&self, id: LinkId, change: impl FnOnce(&mut SplitStatus)) {
        if let Some(entry) = self.lock().get_mut(&id.origin).filter(|entry| entry.id == id) {
            change(&mut entry.status);
        }
    }

    fn ended(&self, id: LinkId) {
        let mut streams = self.lock();
        if streams.get(&id.origin).is_some_and(|entry| entry.id == id) {
            streams.remove(&id.origin);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Origin, Arrived>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn new(peer: &Peer, to: &str) -> Self {
        let metrics = BytesMetrics::new(&peer.name, to);
        Self { peer: peer.clone(), metrics, gone: CancellationToken::new() }
    }
}

impl Entry for Source {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn gone(&self) -> &CancellationToken {
        &self.gone
    }
}

impl<N: Nodes> Door for Splitter<N> {
    fn knows(&self, region: &str) -> bool {
        self.peers.find(|peer| peer.name == region).is_some()
    }

    fn timeout(&self) -> Duration {
        self.links.timeout
    }

    async fn serve(
        &self,
        names: Vec<String>,
        stream: TlsStream<TcpStream>,
        addr: SocketAddr,
        ending: &CancellationToken,
        turned_away: &TurnedAway,
    ) {
        stream::serve(self, names, stream, addr, ending, turned_away).await;
    }
}

impl<N> fmt::Debug for Splitter<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splitter").field("region", &self.region).finish_non_exhaustive()
    }
}
