//! The beginning of a stream, at the store whose writes it carries to a peer: dials, and carries them for as long as the store
//! has one life.
//!
//! A thin loop around [`SendingEnd`]: bytes in, time, events, items from the feed, bytes out, sleep. Each peer has its own
//! task and its own feed, so a peer that is slow or gone costs the others nothing: its feed is not polled, and that
//! is all.

use std::{io, sync::Arc, time::Duration};

use clock::Now;
use geo_link_core::{
    Audit, LinkEnd, Malformed, Phase, Refusal, Sender, SenderEvent, SenderOptions, Want, answered,
    limits::GREETING_BYTES_MAX,
};
use node_core::store::Feed;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::{JoinError, JoinSet, yield_now},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    ends::SendingEnd,
    limits::{FAREWELL, PUBLISH_INTERVAL},
    options::Peer,
    peers::{Entry, end_with},
    region::{PeerState, Region, entropy},
    status::OutState,
    tls,
};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Dial(String),
    #[error("cannot connect in time")]
    Timeout,
    #[error(transparent)]
    Broken(#[from] tls::Broken),
    #[error("{0}")]
    End(#[from] LinkEnd),
    #[error("shutting down")]
    Shutdown,
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

impl From<Malformed> for Lost {
    fn from(error: Malformed) -> Self {
        Self::End(error.into())
    }
}

/// How a peer is reached.
pub trait Connect {
    /// What connects to it.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;
    /// Why it cannot be reached.
    type Error: std::fmt::Display + Send;

    /// Connects. May be dropped at any await.
    fn connect(&self) -> impl Future<Output = Result<Self::Stream, Self::Error>> + Send;
}

/// Keeps a stream to each peer, as they come and go, until `shutdown`. `way` is how one is reached.
pub(crate) async fn run_all<C: Connect + Send + Sync + 'static>(
    region: &Arc<Region>,
    way: impl Fn(&Peer) -> C,
    shutdown: &CancellationToken,
) {
    let mut streams = JoinSet::new();
    let mut begun: Arc<[Arc<PeerState>]> = Arc::default();
    loop {
        // Made first: it notices what happens from here on.
        let changed = region.peers.changed();
        let peers = region.peers.all();
        let is_new = |peer: &&Arc<PeerState>| !begun.iter().any(|known| Arc::ptr_eq(known, peer));
        for peer in peers.iter().filter(is_new) {
            let (region, peer, connector) = (region.clone(), peer.clone(), way(&peer.peer));
            let (span, ending) = (peer.span_to(&region.name), shutdown.child_token());
            let stream = async move {
                tokio::select! {
                    () = run(&region, &peer, &connector, &ending) => {}
                    never = end_with(peer.gone(), &ending) => match never {},
                }
            };
            streams.spawn(stream.instrument(span));
        }
        begun = peers;
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = changed => {}
        }
        // Those that ended meanwhile, with their peers.
        while let Some(ended) = streams.try_join_next() {
            note_end(ended);
        }
    }
    while let Some(ended) = streams.join_next().await {
        note_end(ended);
    }
}

fn note_end(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a stream panicked");
    }
}

/// Keeps the stream to `peer` until `shutdown`.
async fn run(region: &Region, peer: &PeerState, connector: &impl Connect, shutdown: &CancellationToken) {
    let mut sender = Sender::new(sender_options(region));
    let mut is_repeated = false;
    loop {
        let pause = sender.poll_timeout(true).unwrap_or_default().saturating_sub(region.now().monotonic);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(pause) => {}
        }
        if !sender.poll_dial(region.now()) {
            continue;
        }
        sender.dial(region.now());
        let connected = tokio::select! {
            () = shutdown.cancelled() => return,
            connected = timeout(region.options.timeout, connector.connect()) => match connected {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(Lost::Dial(error.to_string())),
                Err(_) => Err(Lost::Timeout),
            },
        };
        let (lost, was_up) = match connected {
            Ok(stream) => {
                let mut link = Link::new(region, peer, &mut sender, stream);
                let lost = link.serve(shutdown).await;
                (lost, link.was_up)
            }
            Err(lost) => (lost, false),
        };
        if matches!(lost, Lost::Shutdown) {
            return;
        }
        sender.handle_lost(region.now(), entropy());
        peer.update_out(|status| {
            (status.up, status.state) = (false, OutState::Connecting);
            status.last_error = Some(lost.to_string());
        });
        // Once per outage: a peer that stays away is no news, and one that leaves in good order is nobody's fault.
        if matches!(lost, Lost::End(LinkEnd::Bye)) {
            tracing::info!(reason = %lost, addr = peer.peer.addrs.join(", "), "link is closed");
        } else if was_up || !is_repeated {
            tracing::warn!(error = %lost, addr = peer.peer.addrs.join(", "), "link is down");
        } else {
            tracing::debug!(error = %lost, addr = peer.peer.addrs.join(", "), "link is still down");
        }
        is_repeated = true;
    }
}

fn sender_options(region: &Region) -> SenderOptions {
    let (origin, birth) = region.origin();
    let options = &region.options;
    SenderOptions {
        heartbeat: options.heartbeat,
        window_bytes: options.window_bytes,
        batch_bytes: options.batch_bytes,
        batch_delay: options.batch_delay,
        reconnect_min: options.reconnect_min,
        reconnect_max: options.reconnect_max,
        timeout: options.timeout,
        frame_bytes_max: options.frame_bytes_max,
        // Beyond those of whoever carried this life's writes before.
        epoch: region.now().wall.unix_ms(),
        ..SenderOptions::new(&region.name, origin, birth)
    }
}

/// One connection.
struct Link<'a, S> {
    region: &'a Region,
    peer: &'a PeerState,
    end: SendingEnd<'a, S>,
    was_up: bool,
    /// When this was last done, in monotonic time.
    rowed: Option<Duration>,
    published: Option<Duration>,
    audits: watch::Receiver<Option<Arc<Audit>>>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Link<'a, S> {
    fn new(region: &'a Region, peer: &'a PeerState, sender: &'a mut Sender, stream: S) -> Self {
        Self {
            region,
            peer,
            end: SendingEnd::new(sender, stream, GREETING_BYTES_MAX),
            was_up: false,
            rowed: None,
            published: None,
            audits: region.audits.subscribe(),
        }
    }

    /// Serves the connection until it ends, and says why it did.
    async fn serve(&mut self, shutdown: &CancellationToken) -> Lost {
        self.end.sender.set_complete(self.region.is_complete());
        self.end.sender.set_claim(self.region.store.claim());
        self.end.sender.handle_connected(self.region.now());
        let lost = loop {
            if let Err(lost) = self.work() {
                break lost;
            }
            if let Err(lost) = self.rest(shutdown).await {
                break lost;
            }
            // There may always be more to send; others have their turn all the same.
            yield_now().await;
        };
        self.end.end(self.region.now(), matches!(lost, Lost::Shutdown), FAREWELL).await;
        lost
    }

    /// Does all that can be done now.
    fn work(&mut self) -> Result<(), Lost> {
        let now = self.region.now();
        self.end.take_in(now)?;
        while let Some(event) = self.end.sender.poll_event() {
            self.handle_event(event)?;
        }
        self.fetch(now);
        self.put_out(now);
        self.publish(now);
        Ok(())
    }

    /// Waits until there is something to do.
    async fn rest(&mut self, shutdown: &CancellationToken) -> Result<(), Lost> {
        let region = self.region;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(Lost::Shutdown),
            rested = self.end.rest(&region.store, &region.news, || region.now()) => Ok(rested?),
        }
    }

    fn handle_event(&mut self, event: SenderEvent) -> Result<(), Lost> {
        match event {
            SenderEvent::Greeted { origin, birth } => {
                let (store, peer) = (&self.region.store, self.peer.peer.id);
                match store.update_matrix(|matrix| answered(matrix, peer, origin, birth)) {
                    Ok(()) => self.greeted(origin),
                    Err(refusal) => self.end.sender.refuse(refusal),
                }
            }
            SenderEvent::Wanted(want) => self.start_feed(want),
            SenderEvent::Reported { origin, seen } => {
                self.region.store.update_matrix(|matrix| matrix.report(origin, &seen));
            }
            SenderEvent::Held(true) => tracing::warn!("the peer holds our batches: our clock is ahead of its"),
            SenderEvent::Held(false) => tracing::info!("the peer goes on with our batches"),
            SenderEvent::Refused(Refusal::Superseded(by)) => self.region.superseded(by),
            SenderEvent::Refused(_) => {}
            SenderEvent::Ended(end) => return Err(end.into()),
        }
        // What happened shows at once.
        self.published = None;
        Ok(())
    }

    fn greeted(&mut self, origin: clock::Origin) {
        self.was_up = true;
        self.peer.metrics.out.connects.increment(1);
        self.peer.update_out(|status| {
            status.connects += 1;
            status.last_error = None;
        });
        tracing::info!(%origin, "link is up");
    }

    fn start_feed(&mut self, want: Want) {
        let (store, Some(consumer)) = (&self.region.store, self.end.sender.peer()) else { return };
        self.end.feed = want.feed(store, consumer);
        if let Some(feed) = &self.end.feed {
            let (slots, records) = (feed.slots_waiting(), feed.backlog(store));
            tracing::info!(slots, records, "sending what the peer lacks");
        }
    }

    /// Fills a batch from the feed, if one is due.
    fn fetch(&mut self, now: Now) {
        let store = &self.region.store;
        let Some((sender, feed)) = self.end.due(now) else { return };
        let relayed = feed.relayed().clone();
        sender.fill(feed, store, now);
        if *feed.relayed() != relayed {
            tracing::info!(regions = ?feed.relayed(), "relaying regions that the peer cannot hear");
        }
    }

    /// Puts out what is ready.
    fn put_out(&mut self, now: Now) {
        if self.rowed.is_none_or(|at| now.monotonic >= at + self.region.options.heartbeat) {
            self.rowed = Some(now.monotonic);
            self.end.sender.set_row(self.region.links(|links| links.row(&self.region.store, now)));
        }
        self.tell_audit(now);
        if let Some(packed) = self.end.put_out(now) {
            self.peer.metrics.out.bytes.count(packed.raw_bytes, packed.wire_bytes);
        }
    }

    /// Tells the peer what is held here, if that was summed anew.
    fn tell_audit(&mut self, now: Now) {
        if !self.audits.has_changed().unwrap_or(false) {
            return;
        }
        let is_current = self.region.is_current(self.peer.peer.id, now);
        if let Some(audit) = &*self.audits.borrow_and_update() {
            let mut audit = Audit::clone(audit);
            audit.is_current = is_current;
            self.end.sender.tell(&audit);
        }
    }

    /// Brings status and gauges up to date, now and then.
    fn publish(&mut self, now: Now) {
        if self.published.is_some_and(|at| now.monotonic < at + PUBLISH_INTERVAL) {
            return;
        }
        self.published = Some(now.monotonic);
        let (sender, feed) = (&*self.end.sender, self.end.feed.as_ref());
        let slots_waiting = feed.map_or(0, Feed::slots_waiting);
        let estimate = sender.estimate();
        if let Some(estimate) = estimate {
            self.peer.show_offset(estimate.offset);
            self.region.links(|links| links.measured(self.peer.peer.id, estimate));
        }
        self.peer.update_out(|status| {
            status.up = sender.is_up();
            status.state = match sender.phase() {
                _ if sender.is_held() => OutState::Held,
                Phase::Down | Phase::Dialling | Phase::Greeting => OutState::Connecting,
                Phase::Waiting => OutState::Waiting,
                Phase::Streaming if slots_waiting > 0 => OutState::Scanning,
                Phase::Streaming => OutState::Tailing,
            };
            status.rtt_seconds = estimate.map(|estimate| estimate.rtt.as_secs_f64());
            status.clock_offset_seconds = estimate.map(|estimate| estimate.offset.seconds());
            status.slots_waiting = slots_waiting;
            status.backlog_records = feed.map_or(0, |feed| feed.backlog(&self.region.store));
            status.window_bytes = sender.in_flight_bytes();
        });
    }
}
