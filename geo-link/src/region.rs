//! A region as far as its links are concerned, which is what the ends of all streams at one store share: the store, the clock,
//! who is let in, the refill, and what is known of each peer.
//!
//! Everything here is locked for moments and never across an await. Where two locks are held, that of `inbound` was
//! taken first.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use clock::{Estimate, Incarnation, Now, Origin, OsClock, RegionId, Time};
use geo_link_core::{Admission, Hearing, Hello, LinkId, Refill, Refusal, Want, Wish, announce, certainly_ahead, lag};
use node_core::store::{Claim, Matrix, Seen, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    GatewayEvent, Host,
    audit::Audits,
    metrics::PeerMetrics,
    options::{LinkOptions, Peer},
    peers::{Entry, Peers},
    status::{CloneProgress, InState, InStatus, LinksStatus, OutStatus},
};

/// See the head of this file.
pub struct Region {
    pub(crate) name: String,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<OsClock>,
    pub(crate) links: LinkOptions,
    /// Streams begin and end here. They do not at a replica, and nothing is said of them there.
    is_end: AtomicBool,
    pub(crate) peers: Peers<PeerState>,
    /// The log has news.
    pub(crate) news: Arc<Notify>,
    /// What is wanted of a link may have changed.
    pub(crate) wishes: Notify,
    started: Now,
    inbound: Mutex<Inbound>,
    row: Mutex<Row>,
    pub(crate) host: Box<dyn Host>,
    pub(crate) audits: Audits,
}

/// Who is let in, and who refills.
struct Inbound {
    admission: Admission,
    refill: Refill,
}

/// What this region has seen in all its slots, as of a while ago.
struct Row {
    at: Option<Duration>,
    seen: Seen,
}

/// A peer and the two links with it.
pub(crate) struct PeerState {
    pub(crate) peer: Peer,
    pub(crate) metrics: PeerMetrics,
    out: Mutex<OutStatus>,
    r#in: Mutex<InStatus>,
    /// How far the peer's clock is certainly ahead of ours.
    ahead: Mutex<Duration>,
    /// The streams that arrive, by who stamps what they bring.
    streams: Mutex<Incoming>,
    gone: CancellationToken,
}

/// The streams that arrive from a peer.
#[derive(Debug)]
struct Incoming {
    by_origin: BTreeMap<Origin, Stream>,
    hearing: Hearing,
}

/// A stream that arrives.
#[derive(Debug)]
struct Stream {
    id: LinkId,
    /// Ends it.
    ending: CancellationToken,
    state: InState,
    clone: Option<CloneProgress>,
}

impl Region {
    pub(crate) fn new(
        name: &str,
        peers: &[Peer],
        links: LinkOptions,
        store: Arc<Store>,
        clock: Arc<OsClock>,
        host: Box<dyn Host>,
    ) -> Self {
        let (started, news) = (clock.now(), Arc::new(Notify::new()));
        let wake = news.clone();
        store.on_news(move || wake.notify_waiters());
        let refill = Refill::new(peers.len(), links.refill);
        store.update_matrix(|matrix| count_in(matrix, peers));
        let peers = Peers::new(peers, |peer| PeerState::new(name, peer, started));
        Self {
            name: name.to_owned(),
            links,
            is_end: AtomicBool::new(true),
            peers,
            news,
            wishes: Notify::new(),
            started,
            inbound: Mutex::new(Inbound { admission: Admission::new(), refill }),
            row: Mutex::new(Row { at: None, seen: Seen::new() }),
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
        let refill = Refill::of_store(&self.store, self.now(), peers.len(), self.links.refill);
        *lock(&self.inbound) = Inbound { admission: Admission::new(), refill };
    }

    /// From here on these are the other regions. One that is no more holds nothing back, and what goes on with it ends; one that
    /// is new, or reached elsewhere, is dialled and let in.
    pub fn set_peers(&self, peers: &[Peer]) {
        let mut inbound = lock(&self.inbound);
        let gone = self.peers.set(peers, |peer| PeerState::new(&self.name, peer, self.now()));
        let is_one = |region: RegionId| peers.iter().any(|peer| peer.id == region);
        let gone: Vec<_> = gone.into_iter().filter(|peer| !is_one(peer.peer.id)).collect();
        for peer in &gone {
            peer.metrics.say_nothing();
            self.audits.forget(peer.peer.id);
        }
        self.store.update_matrix(|matrix| {
            gone.iter().for_each(|peer| matrix.set_member(peer.peer.id, false));
            count_in(matrix, peers);
        });
        let was_complete = inbound.refill.is_complete();
        inbound.refill.set_peers(peers.len());
        let has_completed = inbound.refill.is_complete() && !was_complete;
        drop(inbound);
        self.refill_changed(true, has_completed);
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
        lock(&self.inbound).refill.is_complete()
    }

    /// Whether this link sends a clone.
    pub(crate) fn is_cloning(&self, id: LinkId) -> bool {
        lock(&self.inbound).refill.cloning() == Some(id.region())
    }

    /// Takes note of who answers for a peer. Only the one node of a region speaks for it by its answer; what the primaries of a
    /// cluster have to say comes with their streams.
    pub(crate) fn announce(&self, peer: &PeerState, origin: Origin, birth: Time) -> Result<(), Refusal> {
        if origin.incarnation() == Incarnation::UNBORN && origin.region() == peer.peer.id {
            return Ok(());
        }
        self.store.update_matrix(|matrix| announce(matrix, peer.peer.id, origin, birth, &Claim::all()))
    }

    /// A peer says for which slots one of its origins speaks from now on.
    pub(crate) fn claimed(&self, id: LinkId, claim: &Claim) {
        let mut inbound = lock(&self.inbound);
        self.store.update_matrix(|matrix| inbound.admission.claimed(matrix, id.origin, claim));
        inbound.refill.claimed(id, &claim.slots);
    }

    /// Takes note of what a peer has seen.
    pub(crate) fn report(&self, origin: Origin, seen: &Seen) {
        self.store.update_matrix(|matrix| matrix.report(origin, seen));
    }

    /// Somebody knows a younger life of this region than this process is, or another process in the same life.
    pub(crate) fn superseded(&self, by: Origin) {
        if by.region() == self.store.origin().region() {
            tracing::warn!(%by, own = %self.store.origin(), "a peer knows this region in another life");
            self.host.on_event(GatewayEvent::Superseded { by });
        }
    }

    /// Lets the sender of an incoming connection in, in the place of whichever connection was the stream of its origin
    /// before; that one is told to end, and so are those of origins whose life is over. Returns what ends this one.
    pub(crate) fn admit(&self, peer: &PeerState, hello: &Hello) -> Result<(LinkId, CancellationToken), Refusal> {
        let known = (peer.peer.name.as_str(), peer.peer.id);
        let mut inbound = lock(&self.inbound);
        let id = self.store.update_matrix(|matrix| inbound.admission.admit(matrix, known, hello))?;
        let token = peer.gone.child_token();
        let matrix = self.store.matrix();
        let mut streams = lock(&peer.streams);
        let stream = Stream { id, ending: token.clone(), state: InState::Waiting, clone: None };
        let former = streams.by_origin.insert(id.origin, stream);
        former.into_iter().for_each(|former| former.ending.cancel());
        streams.by_origin.retain(|origin, stream| {
            let stays = *origin == id.origin || !inbound.admission.is_over(&matrix, *origin);
            if !stays {
                stream.ending.cancel();
            }
            stays
        });
        Ok((id, token))
    }

    /// The regions from which nothing arrives.
    pub(crate) fn deaf(&self, now: Now) -> BTreeSet<RegionId> {
        let is_deaf = |peer: &&Arc<PeerState>| lock(&peer.streams).hearing.is_deaf(now);
        self.peers.all().iter().filter(is_deaf).map(|peer| peer.peer.id).collect()
    }

    /// What to want of a link that was let in.
    pub(crate) fn greeted(&self, id: LinkId, hello: &Hello, now: Now) -> Wish {
        let (slots, owned) = (&hello.claim.slots, self.store.owned());
        let wish = lock(&self.inbound).refill.greeted(id, hello.complete, slots, owned.as_deref(), now.monotonic);
        self.wishes.notify_waiters();
        wish
    }

    /// What to want now of a link that is waiting, if that has changed.
    pub(crate) fn poll_wish(&self, id: LinkId, now: Now) -> Option<Wish> {
        lock(&self.inbound).refill.poll_wish(id, self.store.owned().as_deref(), now.monotonic)
    }

    /// When to ask again, in monotonic time.
    pub(crate) fn wish_timeout(&self) -> Option<Duration> {
        lock(&self.inbound).refill.poll_timeout()
    }

    /// What to want of a link that asks.
    pub(crate) fn wish(&self, id: LinkId) -> Wish {
        lock(&self.inbound).refill.wish(id)
    }

    /// What to tell a link of which this is wanted.
    pub(crate) fn want(&self, wish: Wish, now: Now) -> Want {
        match wish {
            Wish::Clone => Want::Clone(self.store.seen_table(now)),
            Wish::Resume => Want::Resume(self.store.seen_table(now)),
            Wish::Later => Want::Later,
        }
    }

    /// The round trip to a peer was measured.
    pub(crate) fn set_distance(&self, to: RegionId, rtt: Duration) {
        lock(&self.inbound).refill.set_distance(to, rtt);
    }

    /// A watermark came on a link.
    pub(crate) fn watermark(&self, id: LinkId) {
        let mut inbound = lock(&self.inbound);
        let (was_cloning, was_complete) = (inbound.refill.cloning(), inbound.refill.is_complete());
        inbound.refill.watermark(id, self.store.owned().as_deref());
        let (is_cloning, is_complete) = (inbound.refill.cloning(), inbound.refill.is_complete());
        drop(inbound);
        self.refill_changed(was_cloning != is_cloning, is_complete && !was_complete);
    }

    /// What comes on a link may not be applied for now, or may again.
    pub(crate) fn held(&self, id: LinkId, is_held: bool) {
        let mut inbound = lock(&self.inbound);
        let was_complete = inbound.refill.is_complete();
        inbound.refill.held(id, is_held);
        let is_complete = inbound.refill.is_complete();
        drop(inbound);
        self.refill_changed(true, is_complete && !was_complete);
    }

    /// An incoming link is gone.
    pub(crate) fn lost(&self, id: LinkId) {
        let mut inbound = lock(&self.inbound);
        let was_complete = inbound.refill.is_complete();
        inbound.refill.lost(id);
        let is_complete = inbound.refill.is_complete();
        drop(inbound);
        self.refill_changed(true, is_complete && !was_complete);
    }

    /// Why a connection was told to end: another has its place, or there is none for its region.
    pub(crate) fn why_replaced(&self, peer: &PeerState, id: LinkId) -> Refusal {
        if peer.gone.is_cancelled() {
            return Refusal::Region(format!("{}, which is no peer of it any more", peer.peer.name));
        }
        let matrix = self.store.matrix();
        let another = matrix.speakers(id.region()).map(|(origin, _)| origin).find(|origin| *origin != id.origin);
        let by_another_life = another.filter(|_| lock(&self.inbound).admission.is_over(&matrix, id.origin));
        by_another_life.map_or(Refusal::Replaced, Refusal::Superseded)
    }

    /// What this region has seen in all its slots, at most half a heartbeat old.
    pub(crate) fn row(&self, now: Now) -> Seen {
        let mut row = lock(&self.row);
        if row.at.is_none_or(|at| now.monotonic >= at + self.links.heartbeat / 2) {
            row.seen = self.store.seen_minima(now);
            row.at = Some(now.monotonic);
        }
        row.seen.clone()
    }

    /// How old what is missing here of a region's writes may be.
    pub fn lag(&self, from: RegionId, now: Now) -> Duration {
        self.lag_by(&self.store.seen_minima(now), from, now)
    }

    /// The same, by what was `seen` in all slots.
    pub(crate) fn lag_by(&self, seen: &Seen, from: RegionId, now: Now) -> Duration {
        let ahead = self.peers.of(from).map_or(Duration::ZERO, |peer| *lock(&peer.ahead));
        lag(self.store.seen_of(from, seen, self.started.wall), ahead, now.wall)
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

    fn refill_changed(&self, wishes_may_differ: bool, has_completed: bool) {
        if wishes_may_differ {
            self.wishes.notify_waiters();
        }
        if has_completed {
            tracing::debug!("every link has sent what was missing here");
            self.host.on_event(GatewayEvent::Complete);
        }
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
    fn new(own: &str, peer: &Peer, now: Now) -> Self {
        let metrics = PeerMetrics::new(own, &peer.name);
        metrics.begin();
        Self {
            metrics,
            out: Mutex::new(OutStatus { to: peer.name.clone(), addr: peer.addrs.join(", "), ..OutStatus::default() }),
            r#in: Mutex::new(InStatus { from: peer.name.clone(), ..InStatus::default() }),
            ahead: Mutex::new(Duration::ZERO),
            streams: Mutex::new(Incoming { by_origin: BTreeMap::new(), hearing: Hearing::new(now) }),
            gone: CancellationToken::new(),
            peer: peer.clone(),
        }
    }

    /// The span of what is logged of the link to this peer.
    pub(crate) fn span_to(&self, own: &str) -> tracing::Span {
        tracing::info_span!("link", from = own, to = self.peer.name)
    }

    /// Takes note of what is known of the peer's clock.
    pub(crate) fn set_estimate(&self, estimate: Estimate) {
        if !self.gone.is_cancelled() {
            self.metrics.out.clock_offset.set(estimate.offset.seconds());
        }
        *lock(&self.ahead) = certainly_ahead(estimate);
    }

    /// Changes what is said of the link to this peer.
    pub(crate) fn update_out(&self, change: impl FnOnce(&mut OutStatus)) {
        let mut status = lock(&self.out);
        change(&mut status);
        if !self.gone.is_cancelled() {
            self.metrics.out.up.set(f64::from(u8::from(status.up)));
        }
    }

    /// An incoming stream stands there now.
    pub(crate) fn show(&self, id: LinkId, state: InState, clone: Option<CloneProgress>) {
        let mut streams = lock(&self.streams);
        if let Some(stream) = streams.by_origin.get_mut(&id.origin).filter(|stream| stream.id == id) {
            (stream.state, stream.clone) = (state, clone);
        }
        self.show_all(&streams);
    }

    /// An incoming stream was last heard at `at`, in monotonic time.
    pub(crate) fn hear(&self, at: Duration) {
        lock(&self.streams).hearing.hear(at);
    }

    /// An incoming stream has ended, and why. Returns whether it was the one of its origin.
    pub(crate) fn ended(&self, id: LinkId, why: String) {
        let mut streams = lock(&self.streams);
        if streams.by_origin.get(&id.origin).is_some_and(|stream| stream.id == id) {
            streams.by_origin.remove(&id.origin);
            self.show_all(&streams);
            self.update_in(|status| status.last_error = Some(why));
        }
    }

    /// The link is up if one of its streams is, and stands where the hindmost of them does.
    fn show_all(&self, streams: &Incoming) {
        let states = || streams.by_origin.values().map(|stream| stream.state);
        let clones = streams.by_origin.values().filter_map(|stream| stream.clone);
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
            (status.up, status.state, status.streams) = (state != InState::Down, state, streams.by_origin.len());
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
