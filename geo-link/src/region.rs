//! A region as far as its links are concerned: what the ends of all streams at one store have in common.
//!
//! What the ends share is the core's ([`Links`]); here it is locked, for moments and never across an await, and what comes of a
//! change is carried to the others. Besides it there is what is shown of each peer. Where two locks are held, that of the links was
//! taken first.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    iter,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use clock::{Now, Offset, Origin, OsClock, RegionId, Time};
use geo_link_core::{CloneProgress, Hello, LinkId, Links, LinksEvent, Refusal, Welcomed, Wish};
use node_core::store::{Matrix, Seen, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    GatewayEvent, Host,
    audit::Audits,
    metrics::PeerMetrics,
    options::{LinkOptions, Peer},
    peers::{Entry, Peers},
    status::{InState, InStatus, LinksStatus, OutStatus},
};

/// See the head of this file.
pub struct Region {
    pub(crate) name: String,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<OsClock>,
    pub(crate) options: LinkOptions,
    /// Streams begin and end here. They do not at a replica, and nothing is said of them there.
    is_end: AtomicBool,
    pub(crate) peers: Peers<PeerState>,
    /// The log has news.
    pub(crate) news: Arc<Notify>,
    /// What is wanted of a link may have changed.
    pub(crate) wishes: Notify,
    started: Now,
    links: Mutex<Links<Ending>>,
    pub(crate) host: Box<dyn Host>,
    pub(crate) audits: Audits,
}

/// What ends a stream that arrives.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    token: CancellationToken,
    why: Arc<OnceLock<Refusal>>,
}

/// A peer and the two links with it.
pub(crate) struct PeerState {
    pub(crate) peer: Peer,
    pub(crate) metrics: PeerMetrics,
    out: Mutex<OutStatus>,
    r#in: Mutex<InStatus>,
    /// The streams that arrive, by who stamps what they bring.
    streams: Mutex<BTreeMap<Origin, Shown>>,
    gone: CancellationToken,
}

/// Where a stream that arrives stands.
#[derive(Clone, Copy, Debug)]
struct Shown {
    id: LinkId,
    state: InState,
    clone: Option<CloneProgress>,
}

impl Region {
    pub(crate) fn new(
        name: &str,
        peers: &[Peer],
        options: LinkOptions,
        store: Arc<Store>,
        clock: Arc<OsClock>,
        host: Box<dyn Host>,
    ) -> Self {
        let (started, news) = (clock.now(), Arc::new(Notify::new()));
        let wake = news.clone();
        store.on_news(move || wake.notify_waiters());
        store.update_matrix(|matrix| count_in(matrix, peers));
        let links = Links::new(&store, ids(peers), options.refill, options.heartbeat, started);
        Self {
            name: name.to_owned(),
            options,
            is_end: AtomicBool::new(true),
            peers: Peers::new(peers, |peer| PeerState::new(name, peer)),
            news,
            wishes: Notify::new(),
            started,
            links: Mutex::new(links),
            store,
            clock,
            host,
            audits: Audits::new(),
        }
    }

    /// No stream begins or ends here any more, or none yet: gauges say nothing, not that links are down.
    pub(crate) fn end_life(&self) {
        self.is_end.store(false, Relaxed);
        self.peers.all().iter().for_each(|peer| peer.metrics.say_nothing());
    }

    /// The store has begun another life: what other regions have to say is heard anew. One that has something of them
    /// already need not be cloned into.
    pub(crate) fn begin_life(&self) {
        self.is_end.store(true, Relaxed);
        let peers = self.peers.all();
        peers.iter().for_each(|peer| peer.metrics.begin());
        let ids = peers.iter().map(|peer| peer.peer.id);
        *lock(&self.links) = Links::new(&self.store, ids, self.options.refill, self.options.heartbeat, self.now());
    }

    /// From here on these are the other regions. One that is no more holds nothing back, and what goes on with it ends; one that
    /// is new, or reached elsewhere, is dialled and let in.
    pub fn set_peers(&self, peers: &[Peer]) {
        let gone = self.links(|links| {
            let gone = self.peers.set(peers, |peer| PeerState::new(&self.name, peer));
            let is_one = |region: RegionId| peers.iter().any(|peer| peer.id == region);
            let gone: Vec<_> = gone.into_iter().filter(|peer| !is_one(peer.peer.id)).collect();
            self.store.update_matrix(|matrix| {
                gone.iter().for_each(|peer| matrix.set_member(peer.peer.id, false));
                count_in(matrix, peers);
            });
            links.set_peers(ids(peers), self.now());
            gone
        });
        for peer in gone {
            peer.metrics.say_nothing();
            self.audits.forget(peer.peer.id);
        }
    }

    /// Looks into what all streams share, or changes it, and carries what comes of that to the other ends and to the host.
    pub(crate) fn links<T>(&self, act: impl FnOnce(&mut Links<Ending>) -> T) -> T {
        let mut links = lock(&self.links);
        let done = act(&mut links);
        let events: Vec<LinksEvent> = iter::from_fn(|| links.poll_event()).collect();
        drop(links);
        for event in events {
            match event {
                LinksEvent::WishesChanged => self.wishes.notify_waiters(),
                LinksEvent::Complete => {
                    tracing::debug!("every link has sent what was missing here");
                    self.host.on_event(GatewayEvent::Complete);
                }
            }
        }
        done
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Who stamps the writes of this region, and the time that all those stamps are above.
    pub(crate) fn origin(&self) -> (Origin, Time) {
        let origin = self.store.origin();
        (origin, self.store.matrix().birth(origin))
    }

    /// Whether the store has all that the other regions had when its life began; at once, without peers.
    pub fn is_complete(&self) -> bool {
        lock(&self.links).is_complete()
    }

    /// Somebody knows a younger life of this region than this process is, or another process in the same life.
    pub(crate) fn superseded(&self, by: Origin) {
        if by.region() == self.store.origin().region() {
            tracing::warn!(%by, own = %self.store.origin(), "a peer knows this region in another life");
            self.host.on_event(GatewayEvent::Superseded { by });
        }
    }

    /// Lets the sender of an incoming connection in. The streams that end for it are told so. Returns which stream it is, what is
    /// wanted of it, and what ends it.
    pub(crate) fn admit(&self, peer: &PeerState, hello: &Hello, now: Now) -> Result<(LinkId, Wish, Ending), Refusal> {
        let known = (peer.peer.name.as_str(), peer.peer.id);
        let ending = Ending::new(peer.gone.child_token());
        let Welcomed { id, wish, displaced } = self.links(|links| {
            let welcomed = links.admit(&self.store, known, hello, ending.clone(), now)?;
            // Under the lock, so that of two of one origin the newer is shown.
            peer.show_new(welcomed.id, welcomed.displaced.iter().map(|former| former.id));
            Ok(welcomed)
        })?;
        displaced.into_iter().for_each(|former| former.end.end(former.why));
        Ok((id, wish, ending))
    }

    /// How old what is missing here of a region's writes may be.
    pub fn lag(&self, from: RegionId, now: Now) -> Duration {
        self.lag_by(&self.store.seen_minima(now), from, now)
    }

    /// The same, by what was `seen` in all slots.
    fn lag_by(&self, seen: &Seen, from: RegionId, now: Now) -> Duration {
        lock(&self.links).lag(&self.store, seen, from, self.started, now)
    }

    /// Brings the gauges up to date, for a scrape. A gateway does so each second in any case.
    pub fn refresh_metrics(&self, now: Now) {
        if !self.is_end.load(Relaxed) {
            return;
        }
        let minima = self.store.seen_minima(now);
        for peer in self.peers.all().iter() {
            peer.metrics.r#in.lag.set(self.lag_by(&minima, peer.peer.id, now).as_secs_f64());
        }
    }

    /// The state of all links.
    pub fn status(&self, now: Now) -> LinksStatus {
        if !self.is_end.load(Relaxed) {
            return LinksStatus::default();
        }
        let (peers, minima) = (self.peers.all(), self.store.seen_minima(now));
        let inbound = |peer: &Arc<PeerState>| {
            let lag_seconds = self.lag_by(&minima, peer.peer.id, now).as_secs_f64();
            InStatus { lag_seconds, ..lock(&peer.r#in).clone() }
        };
        LinksStatus {
            out: peers.iter().map(|peer| lock(&peer.out).clone()).collect(),
            r#in: peers.iter().map(inbound).collect(),
        }
    }
}

impl Ending {
    fn new(token: CancellationToken) -> Self {
        Self { token, why: Arc::default() }
    }

    /// Ends the stream, whose sender is told why.
    fn end(&self, why: Refusal) {
        let _ = self.why.set(why);
        self.token.cancel();
    }

    /// Waits until the stream is to end.
    pub(crate) async fn ended(self) {
        self.token.cancelled_owned().await;
    }

    /// What the sender is told of it: that another is in its place, or that it is of no region any more.
    pub(crate) fn why(&self, peer: &Peer) -> Refusal {
        let is_gone = || Refusal::Region(format!("{}, which is no peer of it any more", peer.name));
        self.why.get().cloned().unwrap_or_else(is_gone)
    }
}

impl Entry for PeerState {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn gone(&self) -> &CancellationToken {
        &self.gone
    }
}

impl PeerState {
    fn new(own: &str, peer: &Peer) -> Self {
        let metrics = PeerMetrics::new(own, &peer.name);
        metrics.begin();
        Self {
            metrics,
            out: Mutex::new(OutStatus { to: peer.name.clone(), addr: peer.addrs.join(", "), ..OutStatus::default() }),
            r#in: Mutex::new(InStatus { from: peer.name.clone(), ..InStatus::default() }),
            streams: Mutex::default(),
            gone: CancellationToken::new(),
            peer: peer.clone(),
        }
    }

    /// The span of what is logged of the link to this peer.
    pub(crate) fn span_to(&self, own: &str) -> tracing::Span {
        tracing::info_span!("link", from = own, to = self.peer.name)
    }

    /// Shows how far the peer's clock is off.
    pub(crate) fn show_offset(&self, offset: Offset) {
        if !self.gone.is_cancelled() {
            self.metrics.out.clock_offset.set(offset.seconds());
        }
    }

    /// Changes what is said of the link to this peer.
    pub(crate) fn update_out(&self, change: impl FnOnce(&mut OutStatus)) {
        let mut status = lock(&self.out);
        change(&mut status);
        if !self.gone.is_cancelled() {
            self.metrics.out.up.set(f64::from(u8::from(status.up)));
        }
    }

    /// A stream was let in, and these end for it.
    fn show_new(&self, id: LinkId, former: impl Iterator<Item = LinkId>) {
        let mut streams = lock(&self.streams);
        former.for_each(|former| _ = streams.remove(&former.origin));
        streams.insert(id.origin, Shown { id, state: InState::Waiting, clone: None });
        self.show_all(&streams);
    }

    /// An incoming stream stands there now.
    pub(crate) fn show(&self, id: LinkId, state: InState, clone: Option<CloneProgress>) {
        let mut streams = lock(&self.streams);
        if let Some(stream) = streams.get_mut(&id.origin).filter(|stream| stream.id == id) {
            (stream.state, stream.clone) = (state, clone);
        }
        self.show_all(&streams);
    }

    /// An incoming stream has ended, and why.
    pub(crate) fn ended(&self, id: LinkId, why: String) {
        let mut streams = lock(&self.streams);
        if streams.get(&id.origin).is_some_and(|stream| stream.id == id) {
            streams.remove(&id.origin);
            self.show_all(&streams);
            self.update_in(|status| status.last_error = Some(why));
        }
    }

    /// The link is up if one of its streams is, and stands where the hindmost of them does.
    fn show_all(&self, streams: &BTreeMap<Origin, Shown>) {
        let states = || streams.values().map(|stream| stream.state);
        let clones = streams.values().filter_map(|stream| stream.clone);
        let clone = clones.reduce(|one, other| CloneProgress { slots: one.slots + other.slots, of: one.of + other.of });
        let rank = |state: &InState| match state {
            InState::Held => 0,
            InState::Cloning => 1,
            InState::Waiting => 2,
            InState::Streaming => 3,
            InState::Down => 4,
        };
        let state = states().min_by_key(rank).unwrap_or_default();
        self.update_in(|status| {
            (status.up, status.state, status.streams) = (state != InState::Down, state, streams.len());
            status.clone = clone;
        });
    }

    /// Changes what is said of the link from this peer.
    pub(crate) fn update_in(&self, change: impl FnOnce(&mut InStatus)) {
        let mut status = lock(&self.r#in);
        change(&mut status);
        if !self.gone.is_cancelled() {
            self.metrics.r#in.up.set(f64::from(u8::from(status.up)));
            self.metrics.r#in.held.set(f64::from(u8::from(status.state == InState::Held)));
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("name", &self.name).finish_non_exhaustive()
    }
}

fn ids(peers: &[Peer]) -> impl Iterator<Item = RegionId> {
    peers.iter().map(|peer| peer.id)
}

/// These regions count, in lives after those that are retired.
fn count_in(matrix: &mut Matrix, peers: &[Peer]) {
    for peer in peers {
        matrix.set_member(peer.id, true);
        if let Some(last) = peer.retired {
            matrix.retire(peer.id, last);
        }
    }
}

/// Random bits, from the one source of them in the standard library: for jitter, not for secrets.
pub(crate) fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Locks; what a panic may have left behind is as good as it was, since every change here is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
