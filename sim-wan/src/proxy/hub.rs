//! Where sockets and model meet: the network behind a lock, the real time, and the inbox of each end of a connection.
//!
//! Ends put what they read into the network; the [`pacer`](super::pacer) takes out what is due and puts it into the
//! inbox of the other end. One lock guards the whole network. It is held for microseconds, never across an await, and
//! contended by two threads only; a lock per line would buy nothing and cost the order of events between lines.
//!
//! The time is read under that lock, so the network never sees it go back. Inboxes are unbounded channels and yet hold
//! no more than the window of a connection: what lies in them is not yet released, and so still charged to the line.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc},
    time,
};
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use crate::model::{
    Change, ConnectionId, Event, Frame, InvalidChange, LineId, Network, OpenError, Room, SendError, Way,
};

/// What crosses a line between two sockets.
pub(crate) type Packet = Frame<Bytes>;

/// The network in real time.
#[derive(Debug)]
pub(crate) struct Hub {
    started: Instant,
    alarm: Alarm,
    exchange: Mutex<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    network: Network<Packet>,
    doors: HashMap<ConnectionId, Arc<Door>>,
}

/// What the hub keeps of a connection.
#[derive(Debug)]
struct Door {
    /// The inbox of the target's end, for what goes there, and that of the client's end, for what comes back.
    inboxes: PerWay<mpsc::UnboundedSender<Packet>>,
    /// Told when a receiver has taken something.
    released: PerWay<Notify>,
    taken_down: CancellationToken,
}

#[derive(Debug)]
struct PerWay<T> {
    there: T,
    back: T,
}

impl<T> PerWay<T> {
    fn of(&self, way: Way) -> &T {
        match way {
            Way::There => &self.there,
            Way::Back => &self.back,
        }
    }
}

/// An open connection. The network forgets it when this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    hub: Arc<Hub>,
    id: ConnectionId,
    door: Arc<Door>,
}

/// What an end of a connection receives.
pub(super) type Inbox = mpsc::UnboundedReceiver<Packet>;

/// The connection is gone, and with it whatever was still to be sent.
#[derive(Debug)]
pub(super) struct Gone;

impl Hub {
    pub(super) fn new(network: Network<Packet>) -> Self {
        let started = Instant::now();
        let exchange = Exchange { network, doors: HashMap::new() };
        Self { started, alarm: Alarm::new(started), exchange: Mutex::new(exchange) }
    }

    /// What the pacer waits on.
    pub(super) fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Opens a connection, and gives the inboxes of the target's end and of the client's.
    pub(super) fn open(self: &Arc<Self>, there: LineId, back: LineId) -> Result<(Connection, Inbox, Inbox), OpenError> {
        let (to_target, at_target) = mpsc::unbounded_channel();
        let (to_client, at_client) = mpsc::unbounded_channel();
        let door = Arc::new(Door {
            inboxes: PerWay { there: to_target, back: to_client },
            released: PerWay { there: Notify::new(), back: Notify::new() },
            taken_down: CancellationToken::new(),
        });
        let mut exchange = self.lock();
        let id = exchange.network.open(there, back)?;
        exchange.doors.insert(id, Arc::clone(&door));
        drop(exchange);
        Ok((Connection { hub: Arc::clone(self), id, door }, at_target, at_client))
    }

    /// Puts all that is due into the inboxes, and says when something is due next.
    pub(super) fn deliver_due(&self) -> Option<Duration> {
        let mut exchange = self.lock();
        let Exchange { network, doors } = &mut *exchange;
        let now = self.now();
        while let Some(event) = network.poll(now) {
            match event {
                Event::Delivered { connection, way, size, payload } => {
                    let taken = doors.get(&connection).is_some_and(|door| door.inboxes.of(way).send(payload).is_ok());
                    if !taken {
                        // That end is closed already; nobody else will release it.
                        network.release(connection, way, size);
                    }
                }
                Event::Closed { connection, reason } => {
                    tracing::debug!(%connection, ?reason, "connection taken down");
                    if let Some(door) = doors.get(&connection) {
                        door.taken_down.cancel();
                    }
                }
            }
        }
        network.poll_timeout()
    }

    /// Changes the network from now on.
    pub(crate) fn change(&self, change: &Change) -> Result<(), InvalidChange> {
        self.lock().network.change(change)?;
        tracing::info!(?change, "network changed");
        // A change may have closed connections, which the pacer hands out.
        self.alarm.ring_by(Duration::ZERO);
        Ok(())
    }

    /// Looks at the network.
    pub(crate) fn view<R>(&self, look: impl FnOnce(&Network<Packet>) -> R) -> R {
        look(&self.lock().network)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Exchange> {
        // A panic under the lock would be a fault of the model; going on shows more of it than a cascade of panics.
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Its number, for logs.
    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns when the network has taken the connection down.
    pub(super) async fn taken_down(&self) {
        self.door.taken_down.cancelled().await;
    }

    /// Waits until the line takes more, and says how many bytes.
    pub(super) async fn room(&self, way: Way) -> Result<usize, Gone> {
        loop {
            let (room, now) = {
                let exchange = self.hub.lock();
                let now = self.hub.now();
                (exchange.network.room(now, self.id, way), now)
            };
            match room {
                Room::Now(bytes) => return Ok(bytes),
                // In whole milliseconds, as tokio counts: well within the queue that waits for the transmitter.
                Room::At(at) => time::sleep(at.saturating_sub(now)).await,
                Room::AfterRelease => self.door.released.of(way).notified().await,
                Room::Closed => return Err(Gone),
            }
        }
    }

    /// Sends a packet, and waits for room first if others took it.
    pub(super) async fn send(&self, way: Way, mut packet: Packet) -> Result<(), Gone> {
        loop {
            let (sent, next) = {
                let mut exchange = self.hub.lock();
                let now = self.hub.now();
                let sent = exchange.network.send(now, self.id, way, packet.size(), packet);
                (sent, exchange.network.poll_timeout())
            };
            match sent {
                Ok(()) => {
                    self.hub.alarm.ring_by(next.unwrap_or(Duration::ZERO));
                    return Ok(());
                }
                Err(SendError::Closed(_)) => return Err(Gone),
                Err(SendError::Full(back)) => packet = back,
            }
            self.room(way).await?;
        }
    }

    /// The end that received a packet of this size has done with it.
    pub(super) fn release(&self, way: Way, size: usize) {
        self.hub.lock().network.release(self.id, way, size);
        self.door.released.of(way).notify_one();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut exchange = self.hub.lock();
        exchange.network.close(self.id);
        exchange.doors.remove(&self.id);
    }
}
