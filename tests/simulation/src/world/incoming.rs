//! The end of a stream's part, at an owner of slots: what geo-link's `incoming` does around a [`Receiver`] and an [`Incoming`].

use std::time::Duration;

use clock::{Now, RegionId};
use geo_link_core::{
    Batch, BranchId, Displaced, Hello, Inbox, Incoming, LinkEnd, LinkId, Malformed, Receiver, ReceiverEvent,
    ReceiverOptions, Refusal, limits::FRAME_BYTES_MAX,
};
use node_core::{
    cluster::Run,
    store::{FeedItem, State, Store},
};

use super::{EndId, Event, LOCAL, NAMES, TIMEOUT, World, alarm::Alarm, inbound::Inbound, replays::Heard};
use crate::{
    Broken,
    region::{DRIFT_MAX, Process},
};

/// Of so many records one arrives twice.
const REPLAYED: u64 = 16;
/// Of so many records one is lost, in a world in which some are.
const LOST: u64 = 10;
/// How often a process that hangs is tried again to be connected to.
const AGAIN: Duration = Duration::from_millis(20);

/// See the head of this file.
pub(super) struct IncomingEnd {
    pub(super) region: usize,
    pub(super) index: usize,
    run: Run,
    pub(super) split: EndId,
    branch: BranchId,
    from: usize,
    pub(super) receiver: Receiver,
    inbox: Inbox,
    stream: Incoming,
    /// Items that were taken in.
    taken: u64,
    broken: Option<Broken>,
    /// What came since it was welcomed last, and may come again.
    heard: Option<Heard>,
    /// Nothing passes any more, and nobody is told.
    is_dead: bool,
    alarm: Alarm,
}

/// Why a stream's end is no more.
enum Lost {
    End,
    Malformed,
    Moved,
}

impl From<Malformed> for Lost {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<LinkEnd> for Lost {
    fn from(_: LinkEnd) -> Self {
        Self::End
    }
}

impl World {
    /// A gateway connects to a node.
    pub(super) fn accept(&mut self, end: EndId, split: EndId, branch: BranchId, region: usize, index: usize) {
        let Some(it) = self.splits.get(&split) else { return };
        let Some(slots) = it.split.branch(branch).map(|branch| (*branch.owner().slots).clone()) else { return };
        let Some(sender) = it.split.id().map(LinkId::region) else { return };
        let process = &self.regions[region].processes[index];
        let is_cut = self.regions[region].cut_off.is_some_and(|(node, _)| node == index);
        if is_cut {
            return self.after(TIMEOUT, Event::BranchLost { end, split, branch });
        }
        if process.is_up && process.is_stopped {
            return self.after(AGAIN, Event::Connect { end, split, branch, region, index });
        }
        let Some(life) = process.speaks.filter(|_| process.is_up && self.inbound[region][index].is_some()) else {
            return self.after(LOCAL, Event::BranchLost { end, split, branch });
        };
        let now = process.clock.at(self.now);
        let options =
            ReceiverOptions { max_drift: DRIFT_MAX, timeout: TIMEOUT, ..ReceiverOptions::new(life.origin, life.birth) };
        let incoming = IncomingEnd {
            region,
            index,
            run: process.node.run,
            split,
            branch,
            from: usize::from(sender.number()) - 1,
            receiver: Receiver::new(options, now),
            inbox: Inbox::new(FRAME_BYTES_MAX),
            stream: Incoming::new(Some(slots)),
            taken: 0,
            broken: self.options.broken,
            heard: None,
            is_dead: false,
            alarm: Alarm::default(),
        };
        self.incoming.insert(end, Box::new(incoming));
        self.after(LOCAL, Event::Connected { end, split, branch });
        self.rest_incoming(end);
    }

    pub(super) fn bytes_to_owner(&mut self, id: EndId, bytes: &[u8]) {
        let Some(end) = self.incoming.get_mut(&id) else { return };
        end.is_dead |= self.regions[end.region].cut_off.is_some_and(|(node, _)| node == end.index);
        if end.is_dead {
            return;
        }
        end.inbox.buffer().extend_from_slice(bytes);
        let process = &self.regions[end.region].processes[end.index];
        if end.receiver.wants_frames() && !process.is_stopped {
            end.receiver.handle_bytes(process.clock.at(self.now));
        }
        self.drive_incoming(id);
    }

    pub(super) fn wake_incoming_at(&mut self, id: EndId, at: Duration) {
        let at = at.max(self.now);
        if self.incoming.get_mut(&id).is_some_and(|end| end.alarm.set(at)) {
            self.at(at, Event::WakeIncoming(id));
        }
    }

    pub(super) fn wake_incoming(&mut self, id: EndId) {
        if self.incoming.get_mut(&id).is_some_and(|end| end.alarm.rings(self.now)) {
            self.drive_incoming(id);
        }
    }

    fn rest_incoming(&mut self, id: EndId) {
        let Some(end) = self.incoming.get(&id) else { return };
        let process = &self.regions[end.region].processes[end.index];
        let now = process.clock.at(self.now);
        let Some(inbound) = &self.inbound[end.region][end.index] else { return };
        // Who has ended has nothing to do any more.
        let Some(at) = end.stream.poll_timeout(&end.receiver, &inbound.links, now) else { return };
        let at = process.clock.true_time(at);
        self.wake_incoming_at(id, at);
    }

    /// One turn of the loop.
    fn drive_incoming(&mut self, id: EndId) {
        let Some(mut end) = self.incoming.remove(&id) else { return };
        let process = &self.regions[end.region].processes[end.index];
        if process.is_stopped {
            self.incoming.insert(id, end);
            return;
        }
        let Some(inbound) = self.inbound[end.region][end.index].as_mut() else { return };
        let (mut out, mut displaced, now) = (std::mem::take(&mut self.out), Vec::new(), process.clock.at(self.now));
        let worked = end.work(id, process, inbound, now, &mut out, &mut displaced);
        let have_wishes_changed = inbound.have_wishes_changed();
        let (region, index) = (end.region, end.index);
        if let Some(out) = self.take_written(out).filter(|_| !end.is_dead) {
            self.after(LOCAL, Event::ToGateway(id, out));
        }
        self.incoming.insert(id, end);
        if worked.is_err() {
            self.end_incoming(id);
        } else {
            self.rest_incoming(id);
        }
        for Displaced { end, why, .. } in displaced {
            self.refuse_incoming(end, why);
        }
        if have_wishes_changed {
            self.wishes_changed(region, index);
        }
    }

    /// What is wanted of a stream that waits may have changed.
    pub(super) fn wishes_changed(&mut self, region: usize, index: usize) {
        let waits = |end: &IncomingEnd| (end.region, end.index) == (region, index) && end.stream.waits();
        let ends: Vec<EndId> = self.incoming.iter().filter(|(_, end)| waits(end)).map(|(id, _)| *id).collect();
        ends.into_iter().for_each(|id| self.wake_incoming_at(id, self.now));
    }

    pub(super) fn refuse_incoming(&mut self, id: EndId, refusal: Refusal) {
        let Some(end) = self.incoming.get_mut(&id) else { return };
        let now = self.regions[end.region].processes[end.index].clock.at(self.now);
        let mut out = Vec::new();
        end.receiver.refuse(refusal);
        end.receiver.poll_transmit(now, &mut out);
        if !end.is_dead {
            self.after(LOCAL, Event::ToGateway(id, out));
        }
        self.end_incoming(id);
    }

    /// The owner closes a connection, and the gateway hears of it. The end stays until then, so that last words are heard.
    fn end_incoming(&mut self, id: EndId) {
        let Some(end) = self.incoming.get_mut(&id) else { return };
        let (split, branch, region, index) = (end.split, end.branch, end.region, end.index);
        let (link, heard) = (std::mem::take(&mut end.stream).id(), end.heard.take());
        let was_dead = std::mem::replace(&mut end.is_dead, true);
        self.keep_heard(heard);
        if let (Some(link), Some(inbound)) = (link, self.inbound[region][index].as_mut()) {
            inbound.links.lost(link);
            self.wishes_changed(region, index);
        }
        if was_dead {
            self.incoming.remove(&id);
        } else {
            self.after(LOCAL, Event::BranchLost { end: id, split, branch });
            self.after(LOCAL, Event::GatewayLeft(id));
        }
    }

    /// The gateway has closed a connection, or has ended.
    pub(super) fn lose_incoming(&mut self, id: EndId) {
        let Some(mut end) = self.incoming.remove(&id) else { return };
        self.keep_heard(end.heard.take());
        if let (Some(link), Some(inbound)) = (end.stream.id(), self.inbound[end.region][end.index].as_mut()) {
            inbound.links.lost(link);
            self.wishes_changed(end.region, end.index);
        }
    }

    /// A node has ended, or is no primary any more: so are the ends at it.
    pub(super) fn lose_all_incoming_at(&mut self, region: usize, index: usize) {
        let is_here = |end: &IncomingEnd| (end.region, end.index) == (region, index);
        let ends: Vec<_> = self.incoming.iter().filter(|(_, end)| is_here(end)).map(|(id, _)| *id).collect();
        for id in ends {
            if let Some(end) = self.incoming.remove(&id).filter(|end| !end.is_dead) {
                self.after(LOCAL, Event::BranchLost { end: id, split: end.split, branch: end.branch });
            }
        }
    }
}

impl IncomingEnd {
    /// Whether it brings what it has, and nothing is being refilled.
    pub(super) fn is_streaming(&self) -> bool {
        self.stream.id().is_some() && self.receiver.is_streaming()
    }

    /// What came since it was welcomed last.
    pub(super) const fn heard(&self) -> Option<&Heard> {
        self.heard.as_ref()
    }

    /// From which region it comes.
    pub(super) const fn from(&self) -> usize {
        self.from
    }

    /// Does all that can be done now.
    fn work(
        &mut self,
        id: EndId,
        process: &Process,
        inbound: &mut Inbound,
        now: Now,
        out: &mut Vec<u8>,
        displaced: &mut Vec<Displaced<EndId>>,
    ) -> Result<(), Lost> {
        if process.node.run != self.run {
            return Err(Lost::End);
        }
        loop {
            self.handle_events(id, process, inbound, now, displaced, out)?;
            if self.stream.has_moved(&process.store) {
                self.receiver.say_bye();
                self.receiver.poll_transmit(now, out);
                return Err(Lost::Moved);
            }
            if let Some(batch) = self.receiver.poll_batch(now) {
                self.handle_events(id, process, inbound, now, displaced, out)?;
                self.apply(process, inbound, batch, now)?;
            }
            if !self.receiver.wants_frames() {
                break;
            }
            let Some((kind, payload)) = self.inbox.next_frame()? else { break };
            self.receiver.handle_frame(now, kind, payload)?;
        }
        self.receiver.handle_timeout(now);
        self.handle_events(id, process, inbound, now, displaced, out)?;
        let (receiver, store, links) = (&mut self.receiver, &process.store, &mut inbound.links);
        if self.stream.poll_wish(receiver, store, links, now).is_some() {
            self.listen(process);
        }
        self.stream.tell_row(&mut self.receiver, store, links, now);
        self.receiver.poll_transmit(now, out);
        Ok(())
    }

    fn handle_events(
        &mut self,
        id: EndId,
        process: &Process,
        inbound: &mut Inbound,
        now: Now,
        displaced: &mut Vec<Displaced<EndId>>,
        out: &mut Vec<u8>,
    ) -> Result<(), Lost> {
        while let Some(event) = self.receiver.poll_event() {
            let round = self.receiver.round();
            self.stream.handle_event(&event, &mut self.receiver, &process.store, &mut inbound.links, now);
            if self.receiver.round() != round {
                self.listen(process);
            }
            match event {
                ReceiverEvent::Greeted(hello) => self.admit(id, process, inbound, &hello, now, displaced),
                ReceiverEvent::Ended(end) => {
                    self.receiver.poll_transmit(now, out);
                    return Err(end.into());
                }
                // Nobody audits here: all that is held is compared after every step.
                _ => {}
            }
        }
        Ok(())
    }

    /// The sender says who it is: lets it in, or not.
    fn admit(
        &mut self,
        id: EndId,
        process: &Process,
        inbound: &mut Inbound,
        hello: &Hello,
        now: Now,
        displaced: &mut Vec<Displaced<EndId>>,
    ) {
        let (store, peer) = (&process.store, (NAMES[self.from], region_id(self.from)));
        match inbound.links.admit(store, peer, hello, id, now) {
            Ok(welcomed) => {
                displaced.extend(welcomed.displaced);
                let link = (welcomed.id, welcomed.wish);
                self.stream.admitted(&mut self.receiver, store, link, &hello.claim.slots, now);
                self.listen(process);
            }
            Err(refusal) => self.receiver.refuse(refusal),
        }
    }

    /// It was welcomed: what comes from here on may come again.
    fn listen(&mut self, process: &Process) {
        let about = self.stream.about().expect("a stream's part is for slots");
        self.heard = Some(Heard::new((self.region, self.index), process, about));
    }

    fn apply(&mut self, process: &Process, inbound: &mut Inbound, batch: Batch, now: Now) -> Result<(), Lost> {
        let Some(id) = self.stream.id() else { return Ok(()) };
        let (store, matrix) = (&process.store, process.store.matrix());
        for item in batch.items() {
            let item = self.stream.vet(&mut self.receiver, store, &matrix, item.map_err(Malformed::from)?)?;
            self.taken += 1;
            let is_record = matches!(item, FeedItem::Record { .. });
            let times = if is_record && self.taken.is_multiple_of(REPLAYED) { 2 } else { 1 };
            for _ in 0..times {
                if !distort(self.broken, self.taken, store, &item, now) {
                    let claim = self.stream.take(&self.receiver, store, &item, now).expect("the heap has room");
                    claim.iter().for_each(|claim| inbound.links.claimed(store, id, claim));
                }
            }
            if let Some(heard) = &mut self.heard {
                heard.note(&item, self.receiver.sender_saw());
            }
        }
        self.stream.applied(&mut self.receiver, store, &mut inbound.links, batch, now);
        Ok(())
    }
}

/// In a broken world: does something else with an item than to take it in. Returns whether it did.
fn distort(broken: Option<Broken>, taken: u64, store: &Store, item: &FeedItem<'_>, now: Now) -> bool {
    let (slot, record) = match item {
        FeedItem::Record { slot, record } => (slot, record),
        FeedItem::Flush { .. } => return broken == Some(Broken::FlushStaysHome),
        _ => return false,
    };
    let State::Value { bytes, expiry } = record.state else {
        return broken == Some(Broken::LosesRecords) && taken.is_multiple_of(LOST);
    };
    let at = store.address_in(*slot, record.key);
    let mut stripe = store.lock(store.stripe_of(*slot));
    match broken {
        Some(Broken::LosesRecords) => taken.is_multiple_of(LOST),
        Some(Broken::ArrivalDecides) => stripe.write(at, record.key, bytes, expiry, now.wall).is_ok(),
        Some(Broken::TornValues) if bytes.len() > 1 => {
            stripe.write(at, record.key, &bytes[..bytes.len() - 1], expiry, now.wall).is_ok()
        }
        _ => false,
    }
}

/// The number of the region at a place.
pub(super) fn region_id(place: usize) -> RegionId {
    u8::try_from(place + 1).ok().and_then(|id| RegionId::new(id).ok()).expect("a world has few regions")
}
