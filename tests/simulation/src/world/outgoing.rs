//! The beginning of a stream, at the primary whose writes it carries: what geo-link's `outgoing` does around a [`Sender`].

use std::{collections::BTreeMap, time::Duration};

use clock::{Incarnation, Now};
use geo_link_core::{
    Inbox, LinkEnd, Phase, Refusal, Sender, SenderEvent, SenderOptions, answered, limits::FRAME_BYTES_MAX,
};
use node_core::{
    cluster::{Life, Run},
    store::{Feed, Store},
};
use rand::{Rng, RngExt};
use sim_wan::model::{ConnectionId, Frame, Way};

use super::{BATCH_BYTES, EndId, Event, NAMES, TIMEOUT, World, alarm::Alarm, inbound::Inbound, wires::Wire};
use crate::region::Process;

/// See the head of this file.
pub(super) struct Outgoing {
    pub(super) region: usize,
    pub(super) index: usize,
    pub(super) to: usize,
    pub(super) sender: Sender,
    pub(super) feed: Option<Feed>,
    connection: Option<ConnectionId>,
    inbox: Inbox,
    rowed: Option<Duration>,
    /// When it is woken next, in true time.
    alarm: Alarm,
}

impl World {
    /// Streams begin and end with the lives of primaries; what hangs goes on when it can.
    pub(super) fn follow_lives(&mut self, region: usize) {
        self.follow_map(region);
        self.follow_node(region);
        for index in 0..self.regions[region].processes.len() {
            let process = &self.regions[region].processes[index];
            let life = process.speaks.filter(|_| process.is_up).map(|life| (process.node.run, life));
            let known = self.inbound[region][index].as_ref().map(|inbound| (inbound.run, inbound.life));
            if life != known {
                self.end_streams_at(region, index);
                if let Some((run, life)) = life {
                    self.begin_streams_at(region, index, run, life);
                }
            }
        }
        self.follow_members(region);
        self.wake_all_of(region);
    }

    fn begin_streams_at(&mut self, region: usize, index: usize, run: Run, life: Life) {
        let process = &self.regions[region].processes[index];
        let now = process.clock.at(self.now);
        let (peers, ids) = (process.peers.clone(), process.peers.iter().map(|peer| peer.id));
        let places: Vec<usize> = ids.map(|id| usize::from(id.number()) - 1).collect();
        self.inbound[region][index] =
            Some(Inbound::new(run, life, &process.store, peers, (self.options.heartbeat(), now)));
        places.into_iter().for_each(|to| self.begin_stream_at(region, index, life, to));
    }

    /// A stream begins, to another region.
    pub(super) fn begin_stream_at(&mut self, region: usize, index: usize, life: Life, to: usize) {
        let now = self.regions[region].processes[index].clock.at(self.now);
        let id = self.next_end();
        let sender = Sender::new(SenderOptions {
            heartbeat: self.options.heartbeat(),
            timeout: TIMEOUT,
            window_bytes: self.window_bytes(),
            batch_bytes: BATCH_BYTES,
            // Beyond those of whoever carried this life's writes before.
            epoch: now.wall.unix_ms(),
            ..SenderOptions::new(NAMES[region], life.origin, life.birth)
        });
        let outgoing = Outgoing {
            region,
            index,
            to,
            sender,
            feed: None,
            connection: None,
            inbox: Inbox::new(FRAME_BYTES_MAX),
            rowed: None,
            alarm: Alarm::default(),
        };
        self.outgoing.insert(id, Box::new(outgoing));
        self.wake_outgoing_at(id, self.now);
    }

    fn end_streams_at(&mut self, region: usize, index: usize) {
        self.inbound[region][index] = None;
        let of_node = |end: &Outgoing| (end.region, end.index) == (region, index);
        let ends: Vec<EndId> = self.outgoing.iter().filter(|(_, end)| of_node(end)).map(|(id, _)| *id).collect();
        ends.into_iter().for_each(|id| self.end_outgoing(id));
        self.lose_all_incoming_at(region, index);
    }

    /// A stream ends for good.
    pub(super) fn end_outgoing(&mut self, id: EndId) {
        if let Some(connection) = self.outgoing.remove(&id).and_then(|end| end.connection) {
            self.close_outgoing_end(connection);
        }
    }

    fn wake_all_of(&mut self, region: usize) {
        let ends: Vec<EndId> =
            self.outgoing.iter().filter(|(_, end)| end.region == region).map(|(id, _)| *id).collect();
        ends.into_iter().for_each(|id| self.wake_outgoing_at(id, self.now));
        let ends: Vec<EndId> =
            self.incoming.iter().filter(|(_, end)| end.region == region).map(|(id, _)| *id).collect();
        ends.into_iter().for_each(|id| self.wake_incoming_at(id, self.now));
    }

    /// The log of a node has something new.
    pub(super) fn tell_news(&mut self, region: usize, index: usize) {
        let process = &self.regions[region].processes[index];
        let now = process.clock.at(self.now);
        let mut due = Vec::new();
        for (id, end) in &mut self.outgoing {
            if (end.region, end.index) == (region, index) && end.sender.wants_news() {
                end.sender.handle_news(now);
                due.push(*id);
            }
        }
        due.into_iter().for_each(|id| self.rest_outgoing(id));
    }

    pub(super) fn wake_outgoing_at(&mut self, id: EndId, at: Duration) {
        let at = at.max(self.now);
        if self.outgoing.get_mut(&id).is_some_and(|end| end.alarm.set(at)) {
            self.at(at, Event::WakeOutgoing(id));
        }
    }

    pub(super) fn wake_outgoing(&mut self, id: EndId) {
        if self.outgoing.get_mut(&id).is_some_and(|end| end.alarm.rings(self.now)) {
            self.drive_outgoing(id);
        }
    }

    pub(super) fn outgoing_connected(&mut self, id: EndId) {
        let Some(end) = self.outgoing.get_mut(&id) else { return };
        let process = &self.regions[end.region].processes[end.index];
        let inbound = self.inbound[end.region][end.index].as_ref();
        end.inbox = Inbox::new(FRAME_BYTES_MAX);
        end.sender.set_complete(inbound.is_some_and(|inbound| inbound.links.is_complete()));
        end.sender.set_claim(process.store.claim());
        end.sender.handle_connected(process.clock.at(self.now));
        self.drive_outgoing(id);
    }

    pub(super) fn bytes_to_outgoing(&mut self, id: EndId, bytes: &[u8]) {
        let Some(end) = self.outgoing.get_mut(&id) else { return };
        end.inbox.buffer().extend_from_slice(bytes);
        self.drive_outgoing(id);
    }

    /// A connection is no more, or does not come about.
    pub(super) fn break_outgoing(&mut self, id: EndId, connection: ConnectionId) {
        let Some(end) = self.outgoing.get(&id) else { return };
        if end.connection == Some(connection) {
            self.lose_outgoing(id);
        }
    }

    pub(super) fn give_up_dialling(&mut self, id: EndId, connection: ConnectionId) {
        if self.outgoing.get(&id).is_some_and(|end| end.sender.phase() == Phase::Dialling) {
            self.break_outgoing(id, connection);
        }
    }

    fn lose_outgoing(&mut self, id: EndId) {
        let entropy = self.random.next_u64();
        let Some(end) = self.outgoing.get_mut(&id) else { return };
        let now = self.regions[end.region].processes[end.index].clock.at(self.now);
        let connection = end.connection.take();
        end.feed = None;
        end.sender.handle_lost(now, entropy);
        if let Some(connection) = connection {
            self.close_outgoing_end(connection);
        }
        self.rest_outgoing(id);
    }

    /// One turn of the loop.
    fn drive_outgoing(&mut self, id: EndId) {
        let Some(mut end) = self.outgoing.remove(&id) else { return };
        let process = &self.regions[end.region].processes[end.index];
        if process.is_stopped {
            // What has come lies in its socket.
            self.outgoing.insert(id, end);
            return;
        }
        let now = process.clock.at(self.now);
        let has_ended = if end.connection.is_some() {
            let inbound = self.inbound[end.region][end.index].as_mut();
            let (mut out, mut superseded) = (std::mem::take(&mut self.out), None);
            let peer = self.regions[end.to].make.id;
            let has_room = end.connection.is_none_or(|connection| has_room(&self.wires, connection));
            let worked = inbound.map_or(Ok(()), |inbound| {
                end.work(process, inbound, (peer, has_room), now, (&mut out, &mut superseded))
            });
            let (region, index) = (end.region, end.index);
            if let Some(by) = superseded {
                self.regions[region].now = self.now;
                self.regions[region].superseded(index, by);
            }
            if let (Some(out), Some(connection)) = (self.take_written(out), end.connection) {
                self.send(connection, Way::There, Frame::Data(out));
            }
            worked.is_err()
        } else {
            let dials = end.sender.poll_dial(now);
            if dials {
                end.sender.dial(now);
                end.connection = self.dial(id, end.region, end.index, end.to);
            }
            dials && end.connection.is_none()
        };
        self.outgoing.insert(id, end);
        if has_ended {
            self.lose_outgoing(id);
        } else {
            self.rest_outgoing(id);
        }
    }

    /// Sleeps until there is something to do.
    fn rest_outgoing(&mut self, id: EndId) {
        let Some(end) = self.outgoing.get_mut(&id) else { return };
        let process = &self.regions[end.region].processes[end.index];
        let now = process.clock.at(self.now);
        if end.sender.wants_news() {
            process.store.await_news();
            if end.feed.as_ref().is_some_and(|feed| feed.has_news(&process.store)) {
                end.sender.handle_news(now);
            }
        }
        let has_room = end.connection.is_none_or(|connection| has_room(&self.wires, connection));
        if let Some(at) = end.sender.poll_timeout(has_room) {
            let at = process.clock.true_time(at);
            self.wake_outgoing_at(id, at);
        }
    }

    /// Dials a gateway of another region through one of the own.
    fn dial(&mut self, id: EndId, region: usize, index: usize, to: usize) -> Option<ConnectionId> {
        let is_reached = self.regions[region].cut_off.is_none_or(|(node, _)| node != index);
        let is_up = |gateway: &usize| self.gateways[*gateway].is_up;
        let through: Vec<usize> = self.gateways_of(region).filter(|gateway| is_reached && is_up(gateway)).collect();
        let there: Vec<usize> = self.gateways_of(to).collect();
        if through.is_empty() {
            return None;
        }
        let through = through[self.random.random_range(0..through.len())];
        let there = there[self.random.random_range(0..there.len())];
        let connection = self.network.open(self.lines[&(region, to)], self.lines[&(to, region)]).ok()?;
        self.wires.insert(connection, Wire::new(id, through, there));
        self.send(connection, Way::There, Frame::Open);
        self.after(TIMEOUT, Event::DialTimeout(id, connection));
        Some(connection)
    }
}

impl Outgoing {
    /// Whether a connection stands that has been greeted.
    pub(super) const fn is_up(&self) -> bool {
        self.sender.is_up()
    }

    /// Whether it waits for a connection that is being made.
    pub(super) const fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// Does all that can be done now.
    fn work(
        &mut self,
        process: &Process,
        inbound: &mut Inbound,
        (peer, has_room): (clock::RegionId, bool),
        now: Now,
        (out, superseded): (&mut Vec<u8>, &mut Option<Incarnation>),
    ) -> Result<(), LinkEnd> {
        let store = &process.store;
        while let Some((kind, payload)) = self.inbox.next_frame().map_err(LinkEnd::from)? {
            self.sender.handle_frame(now, kind, payload).map_err(LinkEnd::from)?;
        }
        self.sender.handle_timeout(now);
        let mut ended = Ok(());
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Greeted { origin, birth } => {
                    if let Err(refusal) = store.update_matrix(|matrix| answered(matrix, peer, origin, birth)) {
                        self.sender.refuse(refusal);
                    }
                }
                SenderEvent::Wanted(want) => {
                    self.feed = self.sender.peer().and_then(|consumer| want.feed(store, consumer));
                }
                SenderEvent::Reported { origin, seen } => {
                    store.update_matrix(|matrix| matrix.report(origin, &seen));
                }
                SenderEvent::Ended(end) => ended = Err(end),
                SenderEvent::Refused(Refusal::Superseded(by)) if by.region() == store.origin().region() => {
                    *superseded = Some(by.incarnation());
                }
                SenderEvent::Held(_) | SenderEvent::Refused(_) => {}
            }
        }
        if let Some(estimate) = self.sender.estimate() {
            inbound.links.measured(peer, estimate);
        }
        if !has_room {
            return ended;
        }
        loop {
            self.fetch(store, now);
            if self.rowed.is_none_or(|at| now.monotonic >= at + inbound.links.heartbeat()) {
                self.rowed = Some(now.monotonic);
                self.sender.set_row(inbound.links.row(store, now));
            }
            if self.sender.poll_transmit(now, out).is_none() {
                return ended;
            }
        }
    }

    /// Fills a batch from the feed, if one is due.
    fn fetch(&mut self, store: &Store, now: Now) {
        if let Some(feed) = self.feed.as_mut().filter(|_| self.sender.poll_items(now)) {
            self.sender.fill(feed, store, now);
        }
    }
}

/// Whether more may be written to a connection.
fn has_room(wires: &BTreeMap<ConnectionId, Wire>, connection: ConnectionId) -> bool {
    wires.get(&connection).is_none_or(Wire::has_room)
}
