//! The end of a stream's part, at an owner of slots: what geo-link's `incoming` does around a [`Receiver`].

use std::{sync::Arc, time::Duration};

use clock::{Now, RegionId};
use geo_link_core::{
    BranchId, Hello, Inbox, LinkEnd, LinkId, Malformed, Receiver, ReceiverEvent, ReceiverOptions, Refusal, Wish,
    check_own, limits::FRAME_BYTES_MAX, of_known_regions,
};
use node_core::{
    cluster::Run,
    slot::SlotSet,
    store::{Claim, FeedItem, Intake, State, Store},
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
pub(super) struct Incoming {
    pub(super) region: usize,
    pub(super) index: usize,
    run: Run,
    pub(super) split: EndId,
    branch: BranchId,
    /// The slots that it is for.
    slots: SlotSet,
    from: usize,
    pub(super) receiver: Receiver,
    inbox: Inbox,
    intake: Intake,
    /// The slots that this node owned when the stream was welcomed.
    owned: Option<Arc<SlotSet>>,
    admitted: Option<Admitted>,
    rowed: Option<Duration>,
    /// Items that were taken in.
    taken: u64,
    broken: Option<Broken>,
    /// What came since it was welcomed last, and may come again.
    heard: Option<Heard>,
    /// Nothing passes any more, and nobody is told.
    is_dead: bool,
    alarm: Alarm,
}

#[derive(Clone, Copy, Debug)]
struct Admitted {
    id: LinkId,
    wish: Wish,
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
        let incoming = Incoming {
            region,
            index,
            run: process.node.run,
            split,
            branch,
            slots,
            from: usize::from(sender.number()) - 1,
            receiver: Receiver::new(options, now),
            inbox: Inbox::new(FRAME_BYTES_MAX),
            intake: Intake::default(),
            owned: None,
            admitted: None,
            rowed: None,
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
        let waits = end.admitted.is_some_and(|admitted| admitted.wish == Wish::Later);
        let inbound = self.inbound[end.region][end.index].as_ref().filter(|_| waits);
        let wish = inbound.and_then(|inbound| inbound.refill.poll_timeout());
        // Who has ended has nothing to do any more.
        let Some(at) = end.receiver.poll_timeout(now).into_iter().chain(wish).min() else { return };
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
        let (mut out, mut replaced, now) = (std::mem::take(&mut self.out), Vec::new(), process.clock.at(self.now));
        let before = (inbound.refill.is_complete(), inbound.refill.cloning(), end.receiver.is_held());
        let worked = end.work(id, process, inbound, now, &mut out, &mut replaced);
        let after = (inbound.refill.is_complete(), inbound.refill.cloning(), end.receiver.is_held());
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
        for (former, refusal) in replaced {
            self.refuse_incoming(former, refusal);
        }
        if after != before {
            self.wishes_changed(region, index);
        }
    }

    /// What is wanted of a stream that waits may have changed.
    pub(super) fn wishes_changed(&mut self, region: usize, index: usize) {
        let waits = |end: &Incoming| {
            (end.region, end.index) == (region, index) && end.admitted.is_some_and(|it| it.wish == Wish::Later)
        };
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
        let (admitted, heard) = (end.admitted.take(), end.heard.take());
        let was_dead = std::mem::replace(&mut end.is_dead, true);
        self.keep_heard(heard);
        if let (Some(admitted), Some(inbound)) = (admitted, self.inbound[region][index].as_mut()) {
            inbound.lost(admitted.id, id);
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
        if let (Some(admitted), Some(inbound)) = (end.admitted, self.inbound[end.region][end.index].as_mut()) {
            inbound.lost(admitted.id, id);
            self.wishes_changed(end.region, end.index);
        }
    }

    /// A node has ended, or is no primary any more: so are the ends at it.
    pub(super) fn lose_all_incoming_at(&mut self, region: usize, index: usize) {
        let is_here = |end: &Incoming| (end.region, end.index) == (region, index);
        let ends: Vec<_> = self.incoming.iter().filter(|(_, end)| is_here(end)).map(|(id, _)| *id).collect();
        for id in ends {
            if let Some(end) = self.incoming.remove(&id).filter(|end| !end.is_dead) {
                self.after(LOCAL, Event::BranchLost { end: id, split: end.split, branch: end.branch });
            }
        }
    }
}

impl Incoming {
    /// Whether it brings what it has, and nothing is being refilled.
    pub(super) fn is_streaming(&self) -> bool {
        self.admitted.is_some() && self.receiver.is_streaming()
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
        replaced: &mut Vec<(EndId, Refusal)>,
    ) -> Result<(), Lost> {
        if process.node.run != self.run {
            return Err(Lost::End);
        }
        loop {
            self.handle_events(id, process, inbound, now, replaced, out)?;
            if self.has_moved(process) {
                self.receiver.say_bye();
                self.receiver.poll_transmit(now, out);
                return Err(Lost::Moved);
            }
            if let Some(batch) = self.receiver.poll_batch(now) {
                self.handle_events(id, process, inbound, now, replaced, out)?;
                self.apply(process, inbound, batch, now)?;
            }
            if !self.receiver.wants_frames() {
                break;
            }
            let Some((kind, payload)) = self.inbox.next_frame()? else { break };
            self.receiver.handle_frame(now, kind, payload)?;
        }
        self.receiver.handle_timeout(now);
        self.handle_events(id, process, inbound, now, replaced, out)?;
        self.poll_wish(process, inbound, now);
        if self.admitted.is_some() && self.rowed.is_none_or(|at| now.monotonic >= at + inbound.heartbeat) {
            self.rowed = Some(now.monotonic);
            self.receiver.set_row(inbound.row(&process.store, now));
            inbound.hear(region_id(self.from), self.receiver.heard(now));
            self.receiver.set_deaf(inbound.deaf(now));
        }
        self.receiver.poll_transmit(now, out);
        Ok(())
    }

    fn handle_events(
        &mut self,
        id: EndId,
        process: &Process,
        inbound: &mut Inbound,
        now: Now,
        replaced: &mut Vec<(EndId, Refusal)>,
        out: &mut Vec<u8>,
    ) -> Result<(), Lost> {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::Greeted(hello) => self.admit(id, process, inbound, &hello, now, replaced),
                ReceiverEvent::Asked => {
                    if let Some(admitted) = &mut self.admitted {
                        admitted.wish = inbound.refill.wish(admitted.id);
                    }
                    self.welcome(process, now);
                }
                ReceiverEvent::Reported { origin, seen } => {
                    process.store.update_matrix(|matrix| matrix.report(origin, &seen));
                }
                ReceiverEvent::Ended(end) => {
                    self.receiver.poll_transmit(now, out);
                    return Err(end.into());
                }
                ReceiverEvent::Held(_) => self.note_held(inbound, true),
                ReceiverEvent::Resumed => self.note_held(inbound, false),
                // Nobody audits here: all that is held is compared after every step.
                ReceiverEvent::Audited(_) | ReceiverEvent::Refused(_) => {}
            }
        }
        Ok(())
    }

    fn note_held(&self, inbound: &mut Inbound, is_held: bool) {
        if let Some(admitted) = &self.admitted {
            inbound.refill.held(admitted.id, is_held);
        }
    }

    /// The sender says who it is: lets it in, or not.
    fn admit(
        &mut self,
        id: EndId,
        process: &Process,
        inbound: &mut Inbound,
        hello: &Hello,
        now: Now,
        replaced: &mut Vec<(EndId, Refusal)>,
    ) {
        let store = &process.store;
        let peer = (NAMES[self.from], region_id(self.from));
        match store.update_matrix(|matrix| inbound.admission.admit(matrix, peer, hello)) {
            Ok(link) => {
                let former = inbound.streams.insert(link.origin, (link, id));
                replaced.extend(former.map(|(_, former)| (former, Refusal::Replaced)));
                let matrix = store.matrix();
                inbound.streams.retain(|origin, (_, end)| {
                    let is_over = origin.region() == link.region() && inbound.admission.is_over(&matrix, *origin);
                    let stays = *origin == link.origin || !is_over;
                    if !stays {
                        replaced.push((*end, Refusal::Superseded(link.origin)));
                    }
                    stays
                });
                let owned = store.owned();
                let wish =
                    inbound.refill.greeted(link, hello.complete, &hello.claim.slots, owned.as_deref(), now.monotonic);
                self.admitted = Some(Admitted { id: link, wish });
                self.welcome(process, now);
            }
            Err(refusal) => self.receiver.refuse(refusal),
        }
    }

    /// Says what is wanted, from here on, of the slots that this node owns.
    fn welcome(&mut self, process: &Process, now: Now) {
        let Some(admitted) = &self.admitted else { return };
        self.owned = process.store.owned();
        let about = self.owned.as_ref().map_or_else(|| self.slots.clone(), |owned| owned.intersection(&self.slots));
        self.heard = Some(Heard::new((self.region, self.index), process, about.clone()));
        self.intake = Intake::of_slots(about);
        self.receiver.welcome(now, Inbound::want(admitted.wish, &process.store, now));
    }

    /// Tells a sender that was told to wait what is wanted of it now.
    fn poll_wish(&mut self, process: &Process, inbound: &mut Inbound, now: Now) {
        let Some(admitted) = self.admitted.as_mut().filter(|admitted| admitted.wish == Wish::Later) else { return };
        let owned = process.store.owned();
        if let Some(wish) = inbound.refill.poll_wish(admitted.id, owned.as_deref(), now.monotonic) {
            admitted.wish = wish;
            self.welcome(process, now);
        }
    }

    /// Slots have come or gone since the stream was welcomed.
    fn has_moved(&self, process: &Process) -> bool {
        let owned = process.store.owned();
        self.admitted.is_some() && owned.as_ref().map(Arc::as_ptr) != self.owned.as_ref().map(Arc::as_ptr)
    }

    fn apply(
        &mut self,
        process: &Process,
        inbound: &mut Inbound,
        batch: geo_link_core::Batch,
        now: Now,
    ) -> Result<(), Lost> {
        let Some(Admitted { id, .. }) = self.admitted else { return Ok(()) };
        let (store, own, matrix) = (&process.store, process.store.origin(), process.store.matrix());
        for item in batch.items() {
            let item = item.map_err(Malformed::from)?;
            self.receiver.check(&item)?;
            check_own(own, &item, |slot| store.promised_in(slot))?;
            let item = of_known_regions(item, |region| matrix.knows(region));
            self.taken += 1;
            let is_record = matches!(item, FeedItem::Record { .. });
            let times = if is_record && self.taken.is_multiple_of(REPLAYED) { 2 } else { 1 };
            for _ in 0..times {
                if !distort(self.broken, self.taken, store, &item, now) {
                    self.intake.take(store, &item, self.receiver.sender_saw(), now).expect("the heap has room");
                }
            }
            if let Some(heard) = &mut self.heard {
                heard.note(&item, self.receiver.sender_saw());
            }
            if let FeedItem::Speaks { origin, epoch, slots } = &item
                && *origin == id.origin
            {
                let claim = Claim { epoch: *epoch, slots: slots.clone() };
                store.update_matrix(|matrix| inbound.admission.claimed(matrix, *origin, &claim));
                inbound.refill.claimed(id, slots);
            }
        }
        if self.receiver.applied(now, batch).has_watermark {
            inbound.refill.watermark(id, store.owned().as_deref());
        }
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
