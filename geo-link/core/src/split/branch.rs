//! A branch: what one owner gets of a stream, on a connection to it.
//!
//! It comes and goes with its connection. While there is none, or the owner has not said what it wants, items for it are let
//! fall; from then on nothing may be passed to it until the sender begins a round that takes that into account.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use clock::{Now, Origin, RegionId, Time};
use node_core::{
    slot::SlotSet,
    store::{FeedItem, Polled, Seen, SeenTable},
};

use super::Owner;
use crate::{
    audit::Audit,
    frame::{FrameKind, Malformed, Refusal, Want},
    sender::{LinkEnd, Phase, Sender, SenderEvent, SenderOptions},
};

/// A branch among all that a stream ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchId(pub(super) u64);

/// See the head of this file.
#[derive(Debug)]
pub struct Branch {
    id: BranchId,
    owner: Owner,
    sender: Sender,
    is_connected: bool,
    /// What the owner wants, if it has said so since the last round: from then on that is out of date.
    want: Option<Want>,
    /// The sender's round takes that into account: what comes is passed on.
    is_in: bool,
    /// Something was pushed that is not sealed yet.
    has_items: bool,
    /// Batches of the stream of which this owner got a part: the stream's number, and that of the part.
    parts: VecDeque<(u64, u64)>,
}

/// Why a branch ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BranchEnd {
    /// The link on it has.
    #[error("{0}")]
    End(#[from] LinkEnd),
    /// What the owner says makes no sense.
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

impl BranchEnd {
    /// Whom the owner knows as younger than the sender.
    pub const fn superseded_by(&self) -> Option<Origin> {
        match self {
            Self::End(LinkEnd::Refused(Refusal::Superseded(by))) => Some(*by),
            _ => None,
        }
    }
}

impl Branch {
    /// To this owner, not connected yet.
    pub(super) fn new(id: BranchId, owner: Owner, options: SenderOptions, is_complete: bool) -> Self {
        let (mut sender, parts) = (Sender::new(options), VecDeque::new());
        sender.set_complete(is_complete);
        Self { id, owner, sender, is_connected: false, want: None, is_in: false, has_items: false, parts }
    }

    /// Which it is.
    pub const fn id(&self) -> BranchId {
        self.id
    }

    /// To whom.
    pub const fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Whether what comes is passed on.
    pub const fn is_in(&self) -> bool {
        self.is_in
    }

    /// Whether the owner has said what it wants, and the sender does not know.
    pub const fn is_waiting(&self) -> bool {
        self.want.is_some()
    }

    /// Whether the owner was asked what it wants, and has not said it.
    pub const fn is_asked(&self) -> bool {
        self.sender.is_asking()
    }

    /// Whether the owner holds what it was passed: the sender's clock is ahead.
    pub const fn is_held(&self) -> bool {
        self.sender.is_held()
    }

    /// Bytes that the owner was passed and has not applied.
    pub const fn in_flight_bytes(&self) -> usize {
        self.sender.in_flight_bytes()
    }

    /// The regions that the owner cannot hear.
    pub(super) const fn deaf(&self) -> &BTreeSet<RegionId> {
        self.sender.deaf()
    }

    /// When to connect, in monotonic time.
    pub(super) fn dial_at(&self) -> Option<Duration> {
        (self.sender.phase() == Phase::Down).then(|| self.sender.poll_timeout(true)).flatten()
    }

    pub(super) const fn dial(&mut self, now: Now) {
        self.sender.dial(now);
    }

    /// Returns whether that was waited for.
    pub(super) fn connected(&mut self, now: Now) -> bool {
        let was_dialling = self.sender.phase() == Phase::Dialling;
        if was_dialling {
            self.is_connected = true;
            self.sender.handle_connected(now);
        }
        was_dialling
    }

    /// There is no connection, or none any more.
    pub(super) fn lost(&mut self, now: Now, entropy: u64) {
        self.is_connected = false;
        self.want = None;
        (self.is_in, self.has_items) = (false, false);
        self.parts.clear();
        self.sender.handle_lost(now, entropy);
    }

    /// Asks the owner what it wants, unless it has said so since the last round.
    pub(super) fn ask(&mut self) {
        if self.want.is_none() {
            self.sender.ask();
        }
    }

    /// Passes on what the sender holds of this owner's slots.
    pub(super) fn tell(&mut self, audit: &Audit) {
        self.sender.tell(&audit.of(&self.owner.slots));
    }

    /// The sender begins a round that takes what this owner wants into account. Returns whether it is to clone, and the table.
    pub(super) fn join_round(&mut self) -> Option<(bool, SeenTable)> {
        self.is_in = self.want.is_some();
        self.parts.clear();
        match self.want.take()? {
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

    pub(super) fn handle_frame(&mut self, now: Now, kind: FrameKind, payload: &[u8]) -> Result<(), Malformed> {
        self.sender.handle_frame(now, kind, payload)
    }

    /// Does what is to be done after frames have come and time has passed.
    pub(super) fn work(&mut self, now: Now) -> Result<(), BranchEnd> {
        if !self.is_connected {
            return Ok(());
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
        Ok(())
    }

    pub(super) fn poll_transmit(&mut self, now: Now, out: &mut Vec<u8>) {
        if self.is_connected {
            self.sender.poll_transmit(now, out);
        }
    }

    /// Ends it in good order: which it was, and its last words.
    pub(super) fn end(mut self, now: Now) -> (BranchId, Vec<u8>) {
        let mut out = Vec::new();
        self.sender.say_bye();
        self.sender.poll_transmit(now, &mut out);
        (self.id, out)
    }

    /// When to work again if nothing happens before, in monotonic time; `has_room` says whether it could send.
    pub(super) fn poll_timeout(&self, has_room: bool) -> Option<Duration> {
        if !self.is_connected {
            return None;
        }
        // What is due here comes from the sender.
        self.sender.poll_timeout(has_room && self.sender.phase() == Phase::Waiting)
    }
}

/// Counts all slots but those that are `served` as seen, since nobody is there to want anything of them.
pub(super) fn count_as_seen(table: &mut SeenTable, served: &SlotSet, origin: Origin) {
    let mut unserved = SlotSet::all();
    unserved.subtract(served);
    table.advance_all(unserved.ranges(), origin, Time::MAX);
}
