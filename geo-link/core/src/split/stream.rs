//! A stream that arrives, and its branches; see the head of [`split`](super).

use std::{sync::Arc, time::Duration};

use clock::{Incarnation, Now, Origin, RegionId, Time};
use node_core::{
    slot::{SlotRange, SlotSet},
    store::{FeedItem, SeenTable},
};

use super::{
    Owner, Owners,
    branch::{Branch, BranchEnd, BranchId, count_as_seen},
};
use crate::{
    admission::LinkId,
    batch::Batch,
    frame::{FrameKind, Hello, Malformed, Refusal, Want},
    limits::{FRAME_BYTES_MAX, OWNERS_PATIENCE, ROUND_INTERVAL},
    receiver::{Applied, Receiver, ReceiverEvent, ReceiverOptions},
    sender::{LinkEnd, SenderOptions},
};

/// How a stream is split.
#[derive(Clone, Copy, Debug)]
pub struct SplitOptions {
    /// The region of the owners.
    pub region: RegionId,
    /// How often a branch says that it is alive.
    pub heartbeat: Duration,
    /// How many bytes may be on their way to one owner before it has applied them.
    pub window_bytes: usize,
    /// About how many bytes of items go into one batch, before compression.
    pub batch_bytes: usize,
    /// The first pause before an owner is connected to again.
    pub reconnect_min: Duration,
    /// How long the sender or an owner may be silent before its connection is given up.
    pub timeout: Duration,
    /// The longest frame that is taken, in bytes.
    pub frame_bytes_max: usize,
}

impl SplitOptions {
    /// The defaults, in this region.
    pub const fn new(region: RegionId) -> Self {
        Self {
            region,
            heartbeat: Duration::from_millis(50),
            window_bytes: 32 * 1024 * 1024,
            batch_bytes: 64 * 1024,
            reconnect_min: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
            frame_bytes_max: FRAME_BYTES_MAX,
        }
    }
}

/// What the shell must know or do.
#[derive(Clone, Debug)]
pub enum SplitEvent {
    /// The sender says who it is. The shell answers with [`Split::admit`] or [`Split::refuse`].
    Greeted(Hello),
    /// The connection is of no use any more.
    Ended(LinkEnd),
}

/// A stream that arrives at a gateway.
#[derive(Debug)]
pub struct Split {
    options: SplitOptions,
    receiver: Receiver,
    admitted: Option<Admitted>,
    /// Who owned what when the branches were last arranged, and the branch to each.
    arranged: Arc<Owners>,
    branches: Vec<Branch>,
    branches_made: u64,
    /// The last batch that was split.
    split: u64,
    /// When the sender was last told what is wanted.
    welcomed: Option<Duration>,
    /// When all owners were asked what they want, because one of them has said so anew.
    asked: Option<Duration>,
}

#[derive(Debug)]
struct Admitted {
    hello: Hello,
    /// When it was let in.
    at: Duration,
    /// Counts the arrangements of branches.
    arrangements: u64,
}

impl Split {
    /// A connection that was just made.
    pub fn new(options: SplitOptions, now: Now) -> Self {
        let speaker = Origin::new(options.region, Incarnation::UNBORN);
        let receiver = ReceiverOptions {
            timeout: options.timeout,
            frame_bytes_max: options.frame_bytes_max,
            // The owners hold what is too far ahead of them.
            max_drift: Duration::from_secs(u64::from(u32::MAX)),
            ..ReceiverOptions::new(speaker, Time::ZERO)
        };
        Self {
            options,
            receiver: Receiver::new(receiver, now),
            admitted: None,
            arranged: Arc::default(),
            branches: Vec::new(),
            branches_made: 0,
            split: 0,
            welcomed: None,
            asked: None,
        }
    }

    /// Which stream this is, once it was let in.
    pub fn id(&self) -> Option<LinkId> {
        self.hello().map(|hello| LinkId { origin: hello.origin, epoch: hello.epoch })
    }

    /// What the sender said of itself, once it was let in.
    pub fn hello(&self) -> Option<&Hello> {
        self.admitted.as_ref().map(|stream| &stream.hello)
    }

    /// Who owned what when the branches were last arranged.
    pub const fn arranged(&self) -> &Arc<Owners> {
        &self.arranged
    }

    /// The branches, at the places of their owners.
    pub fn branches(&self) -> impl ExactSizeIterator<Item = &Branch> {
        self.branches.iter()
    }

    /// The branch of this number, if it is still there.
    pub fn branch(&self, id: BranchId) -> Option<&Branch> {
        self.branches.iter().find(|branch| branch.id() == id)
    }

    /// How often the sender was told what is wanted.
    pub const fn rounds(&self) -> u32 {
        self.receiver.round()
    }

    /// Whether an owner holds what it was passed: the sender's clock is ahead.
    pub fn is_held(&self) -> bool {
        self.branches.iter().any(Branch::is_held)
    }

    /// Whether a frame of the sender may be handed in: only if its items could be passed on.
    pub fn wants_frames(&self) -> bool {
        self.receiver.wants_frames() && self.takes_items()
    }

    /// Bytes have come from the sender, if not yet a frame.
    pub const fn handle_bytes(&mut self, now: Now) {
        self.receiver.handle_bytes(now);
    }

    /// A frame of the sender came. Hand in none unless [`wants_frames`](Self::wants_frames).
    ///
    /// # Errors
    /// [`Malformed`]; the connection is to be closed.
    pub fn handle_frame(&mut self, now: Now, kind: FrameKind, payload: &[u8]) -> Result<(), Malformed> {
        self.receiver.handle_frame(now, kind, payload)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.receiver.handle_timeout(now);
    }

    /// An owner is connected to. Returns whether that is still wanted.
    pub fn handle_connected(&mut self, now: Now, id: BranchId) -> bool {
        self.find(id).is_some_and(|branch| branch.connected(now))
    }

    /// An owner cannot be connected to, or is not any more. The next attempt comes after a pause, whose jitter is taken from
    /// `entropy`.
    pub fn handle_branch_lost(&mut self, now: Now, id: BranchId, entropy: u64) {
        if let Some(branch) = self.find(id) {
            branch.lost(now, entropy);
        }
    }

    /// A frame of an owner came.
    ///
    /// # Errors
    /// [`BranchEnd`]; the shell closes that connection and calls [`handle_branch_lost`](Self::handle_branch_lost).
    pub fn handle_branch_frame(
        &mut self,
        now: Now,
        id: BranchId,
        kind: FrameKind,
        payload: &[u8],
    ) -> Result<(), BranchEnd> {
        self.find(id).map_or(Ok(()), |branch| Ok(branch.handle_frame(now, kind, payload)?))
    }

    /// Does what a branch has to do after frames have come and time has passed.
    ///
    /// # Errors
    /// [`BranchEnd`]; the shell closes that connection and calls [`handle_branch_lost`](Self::handle_branch_lost). If the owner
    /// says by whom the sender is superseded, that is for the sender to hear, and the stream is to end.
    pub fn work_branch(&mut self, now: Now, id: BranchId) -> Result<(), BranchEnd> {
        self.find(id).map_or(Ok(()), |branch| branch.work(now))
    }

    /// Lets the sender in that has greeted so, to these owners.
    pub fn admit(&mut self, hello: Hello, now: Now, owners: Arc<Owners>) {
        self.admitted = Some(Admitted { hello, at: now.monotonic, arrangements: 0 });
        let none_yet = self.arrange(now, owners);
        debug_assert!(none_yet.is_empty(), "whoever is not let in has no branches");
    }

    /// Does not let the sender in, or not any longer: the last frame says why.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.receiver.refuse(refusal);
    }

    /// The process shuts down: the last frame says so.
    pub fn say_bye(&mut self) {
        self.receiver.say_bye();
    }

    /// Ends all branches. Returns them, with their last words.
    pub fn end_branches(&mut self, now: Now) -> Vec<(BranchId, Vec<u8>)> {
        std::mem::take(&mut self.branches).into_iter().map(|branch| branch.end(now)).collect()
    }

    /// A branch for each owner that there is now; those whose owners are as they were stay. Returns those that do not, with
    /// their last words.
    pub fn arrange(&mut self, now: Now, owners: Arc<Owners>) -> Vec<(BranchId, Vec<u8>)> {
        let Some(stream) = &mut self.admitted else { return Vec::new() };
        stream.arrangements += 1;
        let mut former = std::mem::take(&mut self.branches);
        for owner in owners.iter() {
            let stays = former.iter().position(|branch| branch.owner() == owner);
            let branch = match stays {
                Some(place) => former.swap_remove(place),
                None => {
                    self.branches_made += 1;
                    let options = branch_options(&self.options, stream);
                    Branch::new(BranchId(self.branches_made), owner.clone(), options, stream.hello.complete)
                }
            };
            self.branches.push(branch);
        }
        self.arranged = owners;
        former.into_iter().map(|branch| branch.end(now)).collect()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<SplitEvent> {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::Greeted(hello) => return Some(SplitEvent::Greeted(hello)),
                ReceiverEvent::Asked => self.branches.iter_mut().for_each(Branch::ask),
                ReceiverEvent::Audited(audit) => self.branches.iter_mut().for_each(|branch| branch.tell(&audit)),
                ReceiverEvent::Ended(end) => return Some(SplitEvent::Ended(end)),
                // Rows go on to the owners, who know what to make of them, and hold what they must.
                ReceiverEvent::Reported { .. }
                | ReceiverEvent::Held(_)
                | ReceiverEvent::Resumed
                | ReceiverEvent::Refused(_) => {}
            }
        }
        None
    }

    /// The next owner to connect to.
    pub fn poll_dial(&mut self, now: Now) -> Option<(BranchId, Owner)> {
        let is_due = |branch: &&mut Branch| branch.dial_at().is_some_and(|at| at <= now.monotonic);
        let branch = self.branches.iter_mut().find(is_due)?;
        branch.dial(now);
        Some((branch.id(), branch.owner().clone()))
    }

    /// Tells the sender what is wanted, if owners have said so anew. Returns of how many slots, and whether they are cloned, if it
    /// was told.
    pub fn begin_round(&mut self, now: Now) -> Option<(usize, bool)> {
        let stream = self.admitted.as_ref()?;
        if self.welcomed.is_some() {
            if !self.branches.iter().any(Branch::is_waiting) {
                return None;
            }
            // What the others said for the last round was sent to them since, and would be sent again.
            self.asked.get_or_insert(now.monotonic);
            self.branches.iter_mut().for_each(Branch::ask);
        }
        if now.monotonic < self.round_at(stream) {
            return None;
        }
        let (mut is_clone, mut seen, mut served) = (false, SeenTable::new(SlotRange::ALL), SlotSet::new());
        for branch in &mut self.branches {
            let slots = branch.owner().slots.clone();
            if let Some((clones, theirs)) = branch.join_round() {
                is_clone |= clones;
                slots.ranges().iter().for_each(|slots| seen.join_range(slots, &theirs));
                served.add(&slots);
            }
        }
        count_as_seen(&mut seen, &served, stream.hello.origin);
        let want = match (served.is_empty(), is_clone) {
            (true, _) => Want::Later,
            (false, true) => Want::Clone(seen),
            (false, false) => Want::Resume(seen),
        };
        self.receiver.welcome(now, want);
        (self.welcomed, self.asked) = (Some(now.monotonic), None);
        Some((served.len(), is_clone))
    }

    /// Passes each owner its part of the next batch, if every branch takes items. Returns what the batch was, if there was one.
    ///
    /// # Errors
    /// [`Malformed`]; the connection is to be closed.
    pub fn poll_batch(&mut self, now: Now) -> Result<Option<Applied>, Malformed> {
        if !self.takes_items() {
            return Ok(None);
        }
        self.receiver.poll_batch(now).map(|batch| self.split(now, batch)).transpose()
    }

    /// Appends what is to be sent to the sender: what was applied, and what the owners say of themselves.
    pub fn poll_transmit(&mut self, now: Now, out: &mut Vec<u8>) {
        self.receiver.poll_transmit(now, out);
    }

    /// Takes note of what the owners have applied, and of what they say of themselves.
    pub fn answer(&mut self) {
        let open = self.branches.iter_mut().filter_map(Branch::first_open).min();
        self.receiver.acknowledge(open.map_or(self.split, |open| open - 1));
        let is_held = self.is_held();
        self.receiver.set_held_behind(is_held);
        let deaf = self.branches.iter().flat_map(Branch::deaf).copied().collect();
        self.receiver.set_deaf(deaf);
    }

    /// Appends what is to be sent to an owner.
    pub fn poll_branch_transmit(&mut self, now: Now, id: BranchId, out: &mut Vec<u8>) {
        if let Some(branch) = self.find(id) {
            branch.poll_transmit(now, out);
        }
    }

    /// When to work again if nothing happens before, in monotonic time. `has_room` says of a branch whether the shell could send
    /// something to its owner now.
    pub fn poll_timeout(&self, now: Now, has_room: impl Fn(BranchId) -> bool) -> Duration {
        let Some(stream) = &self.admitted else {
            return self.receiver.poll_timeout(now).unwrap_or(now.monotonic);
        };
        let of_branch = |branch: &Branch| [branch.poll_timeout(has_room(branch.id())), branch.dial_at()];
        let branches = self.branches.iter().flat_map(of_branch).flatten();
        let is_waiting = self.branches.iter().any(Branch::is_waiting) || self.welcomed.is_none();
        let round = is_waiting.then(|| self.round_at(stream));
        let all = branches.chain(self.receiver.poll_timeout(now)).chain(round);
        all.min().unwrap_or(now.monotonic + OWNERS_PATIENCE)
    }

    /// When the next round may begin.
    fn round_at(&self, stream: &Admitted) -> Duration {
        let all_are_known = self.branches.iter().all(|branch| branch.is_waiting() || branch.is_in());
        let answers = || match self.asked {
            Some(asked) if self.branches.iter().any(Branch::is_asked) => asked + OWNERS_PATIENCE,
            _ => Duration::ZERO,
        };
        match self.welcomed {
            None if all_are_known => stream.at,
            None => stream.at + OWNERS_PATIENCE,
            Some(at) => answers().max(at + ROUND_INTERVAL),
        }
    }

    /// Passes each owner its part of a batch.
    fn split(&mut self, now: Now, batch: Batch) -> Result<Applied, Malformed> {
        for item in batch.items() {
            let item = item?;
            self.receiver.check(&item)?;
            match &item {
                FeedItem::Record { slot, .. } | FeedItem::SlotBegin { slot, .. } | FeedItem::SlotEnd { slot, .. } => {
                    if let Some(place) = self.arranged.place_of(*slot) {
                        self.branches[place].push(&item);
                    }
                }
                FeedItem::Flush { slots, stamp } => {
                    for branch in &mut self.branches {
                        let theirs = branch.owner().slots.clone();
                        for slots in theirs.ranges_in(slots) {
                            branch.push(&FeedItem::Flush { slots, stamp: *stamp });
                        }
                    }
                }
                FeedItem::Speaks { .. } | FeedItem::Watermark { .. } => {
                    self.branches.iter_mut().for_each(|branch| branch.push(&item));
                }
            }
        }
        self.split = batch.envelope.sequence;
        let row = batch.envelope.seen.as_ref();
        self.branches.iter_mut().for_each(|branch| branch.seal(now, self.split, row));
        Ok(self.receiver.passed_on(now, batch))
    }

    fn takes_items(&self) -> bool {
        self.branches.iter().all(Branch::takes_items)
    }

    fn find(&mut self, id: BranchId) -> Option<&mut Branch> {
        self.branches.iter_mut().find(|branch| branch.id() == id)
    }
}

/// How a branch of this stream speaks: as its sender would.
fn branch_options(options: &SplitOptions, stream: &Admitted) -> SenderOptions {
    let hello = &stream.hello;
    SenderOptions {
        claim: hello.claim.clone(),
        // Later than any of an earlier connection of this sender, through whichever gateway.
        epoch: hello.epoch.wrapping_shl(2 * CONNECTION_BITS) + (stream.arrangements << CONNECTION_BITS),
        heartbeat: options.heartbeat,
        window_bytes: options.window_bytes,
        batch_bytes: options.batch_bytes,
        reconnect_min: options.reconnect_min,
        reconnect_max: OWNERS_PATIENCE,
        timeout: options.timeout,
        frame_bytes_max: options.frame_bytes_max,
        ..SenderOptions::new(&hello.name, hello.origin, hello.birth)
    }
}

/// The low bits of a branch's epoch count its connections, as many above them the arrangements; the rest is the sender's epoch.
const CONNECTION_BITS: u32 = 10;

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
