//! Connections across the network: from a primary through a gateway of its region to a gateway of another.
//!
//! The gateway on the way passes bytes and knows nothing of what they say, so it is a place that may hang or end and no more. What
//! comes while a gateway hangs lies in its sockets, and so does at whoever sends what a slow line does not take yet. Either end may close a connection; the other hears of it once that has
//! come to it, or by silence.

use std::{collections::VecDeque, time::Duration};

use sim_wan::model::{ConnectionId, Frame, Room, SendError, Way};

use super::{EndId, Event, LOCAL, World};

/// Chunks that wait in a socket until whoever writes to it makes no more.
const SOCKET_CHUNKS: usize = 4;
/// Until a line is looked at again that waits for the other end.
const AGAIN: Duration = Duration::from_millis(10);

/// A connection, and who has its ends.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) outgoing: Option<EndId>,
    pub(super) split: Option<EndId>,
    /// The gateway through which it goes, and the one to which it leads.
    pub(super) through: usize,
    pub(super) to: usize,
    /// There and back: what the line has not taken yet.
    sockets: [Socket; 2],
}

/// What waits at one end of a connection.
#[derive(Debug, Default)]
struct Socket {
    waiting: VecDeque<Frame<Vec<u8>>>,
    /// It will be looked at.
    is_due: bool,
}

impl Wire {
    /// A connection of a stream, through one gateway to another.
    pub(super) fn new(end: EndId, through: usize, to: usize) -> Self {
        Self { outgoing: Some(end), split: None, through, to, sockets: Default::default() }
    }

    const fn socket(&mut self, way: Way) -> &mut Socket {
        let [there, back] = &mut self.sockets;
        match way {
            Way::There => there,
            Way::Back => back,
        }
    }

    /// Whether the primary may write more to it.
    pub(super) fn has_room(&self) -> bool {
        self.sockets[0].waiting.len() < SOCKET_CHUNKS
    }
}

/// A frame that lies in the sockets of a gateway that hangs.
#[derive(Debug)]
pub(super) struct Held {
    connection: ConnectionId,
    way: Way,
    frame: Frame<Vec<u8>>,
    /// It has crossed the network already.
    has_crossed: bool,
}

impl World {
    /// Sends a frame, from the primary or from the gateway far away.
    pub(super) fn send(&mut self, connection: ConnectionId, way: Way, frame: Frame<Vec<u8>>) {
        let Some(wire) = self.wires.get(&connection) else { return };
        let gateway = wire.through;
        if way == Way::There && self.gateways[gateway].is_stopped {
            return self.gateways[gateway].held.push(Held { connection, way, frame, has_crossed: false });
        }
        self.cross(connection, way, frame);
    }

    fn cross(&mut self, connection: ConnectionId, way: Way, frame: Frame<Vec<u8>>) {
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        let waiting = &mut wire.socket(way).waiting;
        if frame == Frame::Reset {
            waiting.clear();
        }
        waiting.push_back(frame);
        self.empty_socket(connection, way);
    }

    /// Sends what waits at one end of a connection, as far as the line takes it.
    fn empty_socket(&mut self, connection: ConnectionId, way: Way) {
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        let socket = wire.socket(way);
        while let Some(frame) = socket.waiting.pop_front() {
            let size = frame.size();
            // Of a connection that is closed nobody hears anything.
            if let Err(SendError::Full(frame)) = self.network.send(self.now, connection, way, size, frame) {
                socket.waiting.push_front(frame);
                break;
            }
        }
        if socket.waiting.is_empty() || socket.is_due {
            return;
        }
        socket.is_due = true;
        let at = match self.network.room(self.now, connection, way) {
            Room::At(at) => at,
            Room::Now(_) | Room::AfterRelease | Room::Closed => self.now + AGAIN,
        };
        self.at(at, Event::Socket(connection, way));
    }

    /// A line may take more of what waits.
    pub(super) fn look_at_socket(&mut self, connection: ConnectionId, way: Way) {
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        wire.socket(way).is_due = false;
        let end = wire.outgoing.filter(|_| way == Way::There);
        self.empty_socket(connection, way);
        end.into_iter().for_each(|end| self.wake_outgoing_at(end, self.now));
    }

    /// A frame has crossed the network.
    pub(super) fn deliver(&mut self, connection: ConnectionId, way: Way, frame: Frame<Vec<u8>>) {
        let Some(wire) = self.wires.get(&connection) else { return };
        let gateway = if way == Way::There { wire.to } else { wire.through };
        if self.gateways[gateway].is_stopped {
            return self.gateways[gateway].held.push(Held { connection, way, frame, has_crossed: true });
        }
        match way {
            Way::There => self.deliver_there(connection, frame),
            Way::Back => self.deliver_back(connection, frame),
        }
    }

    /// What lay in the sockets of a gateway goes on.
    pub(super) fn let_go(&mut self, gateway: usize) {
        for Held { connection, way, frame, has_crossed } in std::mem::take(&mut self.gateways[gateway].held) {
            if has_crossed {
                self.deliver(connection, way, frame);
            } else {
                self.cross(connection, way, frame);
            }
        }
    }

    fn deliver_there(&mut self, connection: ConnectionId, frame: Frame<Vec<u8>>) {
        match frame {
            Frame::Open => self.let_in(connection),
            Frame::Data(bytes) => {
                let again = self.echo(connection, &bytes);
                self.bytes_to_split(connection, &bytes);
                again.into_iter().for_each(|bytes| self.bytes_again_to_split(connection, &bytes));
            }
            Frame::End | Frame::Reset => {
                if let Some(split) = self.wires.get_mut(&connection).and_then(|wire| wire.split.take()) {
                    self.end_split(split);
                }
                self.forget_if_over(connection);
            }
            Frame::Accept | Frame::Ready => {}
        }
    }

    fn deliver_back(&mut self, connection: ConnectionId, frame: Frame<Vec<u8>>) {
        let Some(end) = self.wires.get(&connection).and_then(|wire| wire.outgoing) else { return };
        match frame {
            Frame::Accept => self.outgoing_connected(end),
            Frame::Data(bytes) => self.bytes_to_outgoing(end, &bytes),
            Frame::End | Frame::Reset => self.break_outgoing(end, connection),
            Frame::Open | Frame::Ready => {}
        }
    }

    /// The primary closes its end.
    pub(super) fn close_outgoing_end(&mut self, connection: ConnectionId) {
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        wire.outgoing = None;
        self.send(connection, Way::There, Frame::End);
        self.forget_if_over(connection);
    }

    /// The gateway far away closes its end.
    pub(super) fn close_split_end(&mut self, connection: ConnectionId) {
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        wire.split = None;
        self.send(connection, Way::Back, Frame::End);
        self.forget_if_over(connection);
    }

    fn forget_if_over(&mut self, connection: ConnectionId) {
        let is_over = |wire: &Wire| wire.outgoing.is_none() && wire.split.is_none();
        if self.wires.get(&connection).is_some_and(is_over) {
            self.wires.remove(&connection);
            self.network.close(connection);
        }
    }

    /// The network has taken a connection down.
    pub(super) fn close_both(&mut self, connection: ConnectionId) {
        let Some(wire) = self.wires.remove(&connection) else { return };
        wire.outgoing.into_iter().for_each(|end| self.break_outgoing(end, connection));
        wire.split.into_iter().for_each(|split| self.end_split(split));
    }

    /// A gateway has ended: so have all connections through it and to it, and the other ends are told.
    pub(super) fn break_wires_of(&mut self, gateway: usize) {
        let through: Vec<_> =
            self.wires.iter().filter(|(_, wire)| wire.through == gateway).map(|(id, _)| *id).collect();
        for connection in through {
            if let Some(end) = self.wires.get_mut(&connection).and_then(|wire| wire.outgoing.take()) {
                self.after(LOCAL, Event::Broken(end, connection));
            }
            self.cross(connection, Way::There, Frame::Reset);
            self.forget_if_over(connection);
        }
        let to: Vec<_> = self.wires.iter().filter(|(_, wire)| wire.to == gateway).map(|(id, _)| *id).collect();
        for connection in to {
            if let Some(split) = self.wires.get_mut(&connection).and_then(|wire| wire.split.take()) {
                self.end_split(split);
            }
            self.cross(connection, Way::Back, Frame::Reset);
            self.forget_if_over(connection);
        }
    }
}
