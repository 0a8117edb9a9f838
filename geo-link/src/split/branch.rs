//! A branch: what one owner gets of a stream, on a connection to it.
//!
//! It comes and goes with its connection. While there is none, or the owner has not said what it wants, items for it are let
//! fall; from then on nothing may be passed to it until the sender begins a round that takes that into account.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    task::Context,
    time::Duration,
};

use clock::{Now, Origin, RegionId, Time};
use geo_link_core::{
    Audit, LinkEnd, Malformed, Phase, Refusal, Sender, SenderEvent, SenderOptions, Want, limits::GREETING_BYTES_MAX,
};
use node_core::{
    slot::SlotSet,
    store::{FeedItem, Polled, Seen, SeenTable},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Owner;
use crate::{limits::FRAMES_PER_TURN, pipe::Pipe, region::entropy};

/// See the head of this file.
pub(super) struct Branch<S> {
    pub(super) owner: Owner,
    sender: Sender,
    pipe: Option<Pipe<S>>,
    /// What the owner wants, once it has said so.
    want: Option<Want>,
    /// The sender's round takes that into account: what comes is passed on.
    is_in: bool,
    /// Something was pushed that is not sealed yet.
    has_items: bool,
    /// Batches of the stream of which this owner got a part: the stream's number, and that of the part.
    parts: VecDeque<(u64, u64)>,
}

/// Why a branch ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    End(#[from] LinkEnd),
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

impl Lost {
    /// Whom the owner knows as younger than the sender.
    pub(super) const fn superseded_by(&self) -> Option<Origin> {
        match self {
            Self::End(LinkEnd::Refused(Refusal::Superseded(by))) => Some(*by),
            _ => None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Branch<S> {
    /// To this owner, not connected yet.
    pub(super) fn new(owner: Owner, options: SenderOptions, is_complete: bool) -> Self {
        let (mut sender, parts) = (Sender::new(options), VecDeque::new());
        sender.set_complete(is_complete);
        Self { owner, sender, pipe: None, want: None, is_in: false, has_items: false, parts }
    }

    /// Whether a connection is being made.
    pub(super) fn is_dialling(&self) -> bool {
        self.sender.phase() == Phase::Dialling
    }

    /// Whether what comes is passed on.
    pub(super) const fn is_in(&self) -> bool {
        self.is_in
    }

    /// Whether the owner has said what it wants, and the sender does not know.
    pub(super) const fn is_waiting(&self) -> bool {
        self.want.is_some() && !self.is_in
    }

    pub(super) const fn is_held(&self) -> bool {
        self.sender.is_held()
    }

    /// The regions that the owner cannot hear.
    pub(super) const fn deaf(&self) -> &BTreeSet<RegionId> {
        self.sender.deaf()
    }

    /// When to connect, in monotonic time.
    pub(super) fn dial_at(&self) -> Option<Duration> {
        (self.sender.phase() == Phase::Down).then(|| self.sender.poll_timeout(true)).flatten()
    }

    pub(super) fn dial(&mut self, now: Now) {
        self.sender.dial(now);
    }

    pub(super) fn connected(&mut self, now: Now, stream: S) {
        self.pipe = Some(Pipe::new(stream, GREETING_BYTES_MAX));
        self.sender.handle_connected(now);
    }

    /// There is no connection, or none any more.
    pub(super) fn lost(&mut self, now: Now) {
        self.pipe = None;
        self.want = None;
        (self.is_in, self.has_items) = (false, false);
        self.parts.clear();
        self.sender.handle_lost(now, entropy());
    }

    /// What the owner has may have changed: it is asked once more.
    pub(super) fn ask(&mut self) {
        self.sender.ask();
    }

    /// Passes on what the sender holds of this owner's slots.
    pub(super) fn tell(&mut self, audit: &Audit) {
        self.sender.tell(&audit.of(&self.owner.slots));
    }

    /// The sender begins a round that takes what this owner wants into account. Returns whether it is to clone, and the table.
    pub(super) fn join_round(&mut self) -> Option<(bool, &SeenTable)> {
        self.is_in = self.want.is_some();
        self.parts.clear();
        match self.want.as_ref()? {
            Want::Clone(seen) => Some((true, seen)),
            Want::Resume(seen) => Some((false, seen)),
            Want::Later => None,
        }
    }

    /// Whether an item could be pushed now; if this owner gets none it can as well.
    pub(super) fn takes_items(&self) -> bool {
        !self.is_in || self.sender.takes_items()
    }

    /// Passes an item on.
    pub(super) fn push(&mut self, item: &FeedItem<'_>) {
        if self.is_in {
            self.sender.push(item);
            self.has_items = true;
        }
    }

    /// What was pushed is this owner's part of the stream's batch of that number.
    pub(super) fn seal(&mut self, now: Now, batch: u64, row: Option<&Seen>) {
        if let Some(row) = row {
            self.sender.set_row(row.clone());
        }
        if std::mem::take(&mut self.has_items) {
            self.sender.fed(now, Polled::Drained);
            self.parts.push_back((batch, self.sender.latest()));
        }
    }

    /// The first batch of the stream of which this owner has not applied its part.
    pub(super) fn first_open(&mut self) -> Option<u64> {
        let acknowledged = self.sender.acknowledged();
        while self.parts.pop_front_if(|(_, part)| *part <= acknowledged).is_some() {}
        self.parts.front().map(|(batch, _)| *batch)
    }

    /// Does all that can be done now.
    ///
    /// # Errors
    /// [`Lost`]; the shell calls [`lost`](Self::lost).
    pub(super) fn work(&mut self, now: Now) -> Result<(), Lost> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        for _ in 0..FRAMES_PER_TURN {
            let Some((kind, payload)) = pipe.inbox.next_frame()? else { break };
            self.sender.handle_frame(now, kind, payload)?;
        }
        self.sender.handle_timeout(now);
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Wanted(want) => {
                    // What is under way from here answers what it wanted before, and will be let be over there.
                    self.want = Some(want);
                    (self.is_in, self.has_items) = (false, false);
                    self.parts.clear();
                }
                SenderEvent::Ended(end) => return Err(end.into()),
                // Rows come with the owners' own streams, and who speaks for what is judged there.
                SenderEvent::Greeted { .. }
                | SenderEvent::Reported { .. }
                | SenderEvent::Held(_)
                | SenderEvent::Refused(_) => {}
            }
        }
        if pipe.has_room() {
            self.sender.poll_transmit(now, pipe.out());
        }
        Ok(())
    }

    /// Moves bytes. Returns whether any were.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        self.pipe.as_mut().map_or(Ok(false), |pipe| Ok(pipe.poll_turn(cx, true)?.is_ready()))
    }

    /// When to work again if nothing happens before, in monotonic time.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let has_room = self.pipe.as_ref().is_some_and(Pipe::has_room);
        // What is due here comes from the sender.
        self.pipe.as_ref().and_then(|_| self.sender.poll_timeout(has_room && self.sender.phase() == Phase::Waiting))
    }

    /// Ends in good order.
    pub(super) async fn finish(mut self, now: Now, patience: Duration) {
        if let Some(pipe) = &mut self.pipe {
            self.sender.say_bye();
            self.sender.poll_transmit(now, pipe.out());
            pipe.finish(patience).await;
        }
    }
}

/// Counts all slots but those that are `served` as seen, since nobody is there to want anything of them.
pub(super) fn count_as_seen(table: &mut SeenTable, served: &SlotSet, origin: Origin) {
    let mut unserved = SlotSet::all();
    unserved.subtract(served);
    unserved.ranges().iter().for_each(|slots| table.advance(slots, origin, Time::MAX));
}
