//! What must happen also when nobody asks for it: one thread, a round every [`HOUSEKEEPING_INTERVAL`].
//!
//! In this order, since each step makes the next one cheaper or truer:
//! 1. the persisted mark, first of all, because workers may be waiting for it;
//! 2. the clock is corrected, once a second;
//! 3. the frontier, up to which forgetting costs nothing;
//! 4. values that have ended are swept, and tombstones forgotten;
//! 5. silent clients are closed, a pause that is over ends, and the rates for INFO are worked out;
//! 6. what an operator wants of this region: others that are added or removed are written down, and come and go; what was stamped in the
//!    future is stamped anew, in a life that is on disk before it begins, while there is no link;
//! 7. certificates that were renewed are taken, every [`CERTIFICATES_INTERVAL`].
//!
//! # How much it sweeps
//! As Redis's active expiry: stripe by stripe, some [`SWEEP_VISITS`] entries under one hold of a lock, and again the same
//! stripe while more than a quarter of what was visited had ended; no longer than [`SWEEP_MAX`] in all. So the effort
//! follows the amount of what has ended, within a quarter of one core, and no command waits longer than one hold.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use clock::{
    Correction, HighWater, Now, Origin, State, Time,
    limits::{MARK_ABOVE_STAMPS, REANCHOR_INTERVAL},
};
use node_core::{
    cluster::{RegionChange, Regions},
    limits::RESTAMP_DRIFTS,
    store::{Ahead, Restamping},
};
use tokio::sync::mpsc;

use crate::{
    certificates::Certificates,
    limits::{CERTIFICATES_INTERVAL, COLLECT_ITEMS, HOUSEKEEPING_INTERVAL, RATES_INTERVAL, SWEEP_MAX, SWEEP_VISITS},
    links::Links,
    regions::Wish,
    server::Server,
    state::{StateDir, StateDirError},
    stats::Totals,
};

/// The thread's state.
pub(crate) struct Housekeeping {
    server: Arc<Server>,
    /// Where the mark is kept, if anywhere.
    dir: Option<StateDir>,
    /// What was said of other regions, and what is wanted of them; in a cluster others see to that.
    regions: (Regions, Option<mpsc::Receiver<Wish>>),
    certificates: Certificates,
    marks: HighWater,
    reanchored: Duration,
    /// When files of certificates were looked at last.
    certificates_at: Duration,
    /// The totals when the rates were worked out last.
    measured: (Duration, Totals),
    /// The stripe where the sweep goes on.
    stripe: usize,
}

impl Housekeeping {
    /// Takes over the state directory, and persists the first mark: without it no write is covered.
    pub(crate) fn new(server: Arc<Server>, dir: Option<StateDir>, said: Regions, certificates: Certificates) -> Self {
        let marks = HighWater::resume(dir.as_ref().map_or(Time::MAX, |dir| dir.state().mark));
        let reanchored = server.clock.now().monotonic;
        let measured = (reanchored, server.stats.since_start());
        let regions = (said, server.cluster.is_none().then(|| server.regions.take_wishes()).flatten());
        let mut housekeeping = Self {
            server,
            dir,
            regions,
            certificates,
            marks,
            reanchored,
            certificates_at: reanchored,
            measured,
            stripe: 0,
        };
        housekeeping.keep_mark();
        housekeeping
    }

    /// Rounds until the node stops.
    pub(crate) fn run(mut self) {
        while !self.server.stopping.is_cancelled() {
            self.round();
            thread::park_timeout(HOUSEKEEPING_INTERVAL);
        }
        // Until the connections have ended somebody may still wait for the mark.
        while self.server.clients.connected() > 0 {
            self.keep_mark();
            thread::park_timeout(HOUSEKEEPING_INTERVAL);
        }
        self.note_superseded();
    }

    /// Writes down a younger life of this region that a peer knows of, so that the next start is younger still.
    fn note_superseded(&mut self) {
        let (Some(by), Some(dir)) = (self.server.links.superseded_by(), &mut self.dir) else { return };
        if let Err(error) = dir.write(State { incarnation: by.incarnation(), ..dir.state() }) {
            tracing::error!(%error, "cannot persist the younger life of this region");
        }
    }

    fn round(&mut self) {
        self.keep_mark();
        let now = self.server.clock.now();
        if now.monotonic.saturating_sub(self.reanchored) >= REANCHOR_INTERVAL {
            self.reanchored = now.monotonic;
            report(self.server.clock.reanchor());
        }
        self.server.store.advance_frontier(now);
        self.sweep(now);
        if let Some(timeout) = self.server.parameters.timeout() {
            self.server.clients.close_idle(now.monotonic, timeout);
        }
        self.server.pause.expire(now.monotonic);
        self.measure(now.monotonic);
        self.carry_out_wishes();
        if now.monotonic.saturating_sub(self.certificates_at) >= CERTIFICATES_INTERVAL {
            self.certificates_at = now.monotonic;
            self.certificates.look();
        }
    }

    fn carry_out_wishes(&mut self) {
        while let Some(wish) = self.regions.1.as_mut().and_then(|wishes| wishes.try_recv().ok()) {
            match wish {
                Wish::Change(change) => self.change_regions(&change),
                Wish::Restamp => self.restamp(),
            }
        }
    }

    /// Has another region come or go, once that is on disk.
    fn change_regions(&mut self, change: &RegionChange) {
        let (Some(dir), (said, _)) = (&self.dir, &mut self.regions) else { return };
        let mut next = said.clone();
        if let Err(refused) = next.apply(self.server.config.region.id, change) {
            tracing::warn!(%refused, ?change, "the other regions stay as they are");
            return;
        }
        if let Err(error) = dir.write_regions(&next) {
            tracing::error!(%error, ?change, "cannot write down what was said of other regions, so they stay as they are");
            return;
        }
        *said = next;
        if let Some(peers) = self.server.regions.follow(said) {
            self.server.links.set_peers(&peers);
        }
    }

    /// Goes on in a younger life, in which what was stamped in the future is stamped anew.
    fn restamp(&mut self) {
        // Nothing arrives from here on, so that what is stamped lies above all that did.
        self.server.links.stop();
        match self.begin_restamped_life() {
            Ok(Ahead { records, slots, .. }) => {
                let origin = self.server.store.origin();
                tracing::warn!(records, slots, %origin, "what lay in the future was restamped");
            }
            Err(error) => tracing::error!(%error, "cannot write down another life, so nothing is restamped"),
        }
        if let Err(error) = Links::start(&self.server) {
            tracing::error!(error = format!("{error:#}"), "cannot go on without links");
            self.server.stopping.cancel();
        }
    }

    fn begin_restamped_life(&mut self) -> Result<Ahead, StateDirError> {
        let Some(dir) = &mut self.dir else { return Ok(Ahead::default()) };
        let server = &self.server;
        let present = server.clock.now().wall.after(server.config.clock.max_drift.saturating_mul(RESTAMP_DRIFTS));
        // What is stamped lies a little above that, and must not lie above the mark.
        let state = State { mark: dir.state().mark.max(present.after(MARK_ABOVE_STAMPS)), ..dir.state().next_life() };
        dir.write(state)?;
        self.marks.persisted(state.mark);
        server.mark.advance(self.marks.mark());
        let life = Origin::new(server.config.region.id, state.incarnation);
        let ahead = server.store.restamp(Restamping { life, birth: present }, present);
        server.mark.begin_anew();
        self.keep_mark();
        Ok(ahead)
    }

    /// Works out what happens per second, and what memory held at its peak.
    fn measure(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.measured.0);
        if elapsed >= RATES_INTERVAL {
            let totals = self.server.stats.since_start();
            self.server.rates.update(&self.measured.1, &totals, elapsed);
            self.measured = (now, totals);
        }
        let used = self.server.store.settings().used_bytes() as u64;
        self.server.peak_bytes.fetch_max(used, Relaxed);
    }

    /// Persists a new mark if it is time to.
    fn keep_mark(&mut self) {
        let Some(dir) = &mut self.dir else { return };
        if self.server.mark.goes_back() {
            self.marks = HighWater::resume(Time::ZERO);
        }
        let (store, now) = (&self.server.store, self.server.clock.now());
        let reached = (0..store.stripes()).map(|index| store.lock(index).watermark(now.wall)).max();
        let reached = reached.unwrap_or(Time::ZERO).max(self.server.mark.wanted());
        let Some(mark) = self.marks.poll(now.wall, reached) else { return };
        match dir.write(State { mark, ..dir.state() }) {
            Ok(()) => {
                self.marks.persisted(mark);
                self.server.mark.advance(self.marks.mark());
            }
            // Writes wait while the disk is full, and go on when it is not; the next round tries again.
            Err(error) => tracing::error!(%error, "cannot persist the clock's mark; writes will wait"),
        }
    }

    fn sweep(&mut self, began: Now) {
        let stripes = self.server.store.stripes();
        for _ in 0..stripes {
            let mut more = true;
            while more {
                if self.server.clock.now().monotonic.saturating_sub(began.monotonic) > SWEEP_MAX {
                    return;
                }
                more = self.sweep_once(began.wall);
            }
            self.stripe = (self.stripe + 1) % stripes;
        }
    }

    /// Sweeps and collects in one stripe; returns whether it deserves another hold.
    fn sweep_once(&self, now: Time) -> bool {
        let mut stripe = self.server.store.lock(self.stripe);
        let expired_many = self.server.parameters.active_expire.load(Relaxed) && {
            let swept = stripe.sweep(now, SWEEP_VISITS);
            !swept.complete && swept.expired * 4 > swept.visited
        };
        let forgets_more = stripe.collect(COLLECT_ITEMS);
        expired_many || forgets_more
    }
}

/// Says what an operator should look at: a clock that was set.
fn report(correction: Correction) {
    match correction {
        Correction::Slewed | Correction::TooSoon => {}
        Correction::JumpedAhead(by) => tracing::warn!(?by, "the system clock was set ahead and is followed"),
        Correction::Braked(by) => tracing::warn!(?by, "the system clock was set back and is waited for"),
        Correction::JumpedBack(by) => tracing::warn!(?by, "the system clock was set back and is followed"),
    }
}
