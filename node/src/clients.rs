//! Who is connected: one record per client, shared between its connection and those who list, close or count clients.
//!
//! The connection alone writes most of a record, with relaxed stores once per turn; CLIENT LIST on another worker reads
//! them. What others write is the order to close: a flag, and the waker of the connection's task. The waker is kept
//! rather than taken, so that the connection registers it once in its life and not at every wait.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::Waker,
    time::Duration,
};

use node_core::command_table::{Command, CommandId, TABLE};

/// All clients of a node.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    last_id: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    connected: AtomicUsize,
    by_id: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    /// Takes in a client, unless there are `max` already.
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: SocketAddr,
        local: SocketAddr,
        fd: i32,
        now: Duration,
        max: usize,
    ) -> Option<Admission> {
        if self.connected.fetch_add(1, Relaxed) >= max {
            self.connected.fetch_sub(1, Relaxed);
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        self.accepted.fetch_add(1, Relaxed);
        let id = self.last_id.fetch_add(1, Relaxed) + 1;
        let client = Arc::new(Client::new(id, address, local, fd, now));
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner).insert(id, client.clone());
        Some(Admission { client, clients: self.clone() })
    }

    /// Everybody who is not to be closed already, in the order of arrival.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        let by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        by_id.values().filter(|client| !client.is_closing()).cloned().collect()
    }

    /// How many are connected.
    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Relaxed)
    }

    /// How many were ever admitted.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// How many were turned away at the bound.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Tells every connection to end after the turn that it is at.
    pub(crate) fn close_all(&self) {
        self.all().iter().for_each(|client| client.close());
    }

    /// Closes who has said nothing for `timeout`.
    pub(crate) fn close_idle(&self, now: Duration, timeout: Duration) {
        let idle =
            |client: &&Arc<Client>| !client.blocked.load(Relaxed) && now.saturating_sub(client.active()) > timeout;
        self.all().iter().filter(idle).for_each(|client| client.close());
    }
}

/// A client's place among the clients; leaves it when dropped, however the connection ends.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) client: Arc<Client>,
    clients: Arc<Clients>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.clients.by_id.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.client.id);
        self.clients.connected.fetch_sub(1, Relaxed);
    }
}

/// What others may know of a client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) local: SocketAddr,
    /// The number of the socket, for those who look for it from outside.
    pub(crate) fd: i32,
    /// When it came, on the monotonic clock.
    pub(crate) since: Duration,
    /// When it last said something, in nanoseconds on the monotonic clock.
    active: AtomicU64,
    /// The number of the last command, plus one.
    command: AtomicU32,
    /// The version of the protocol.
    pub(crate) protocol: AtomicU8,
    /// Commands queued in a transaction; -1 outside of one.
    pub(crate) queued: AtomicI64,
    pub(crate) watched: AtomicUsize,
    /// Bytes of an unfinished request.
    pub(crate) pending_bytes: AtomicUsize,
    /// Bytes of replies that the client has not taken.
    pub(crate) unsent_bytes: AtomicUsize,
    pub(crate) no_evict: AtomicBool,
    pub(crate) no_touch: AtomicBool,
    /// Waits for a pause to end, or for the clock.
    pub(crate) blocked: AtomicBool,
    labels: Mutex<Labels>,
    closing: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// What a client says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels {
    pub(crate) name: String,
    pub(crate) library: String,
    pub(crate) library_version: String,
}

impl Client {
    fn new(id: u64, address: SocketAddr, local: SocketAddr, fd: i32, now: Duration) -> Self {
        Self {
            id,
            address,
            local,
            fd,
            since: now,
            active: AtomicU64::new(now.as_nanos() as u64),
            command: AtomicU32::new(0),
            protocol: AtomicU8::new(2),
            queued: AtomicI64::new(-1),
            watched: AtomicUsize::new(0),
            pending_bytes: AtomicUsize::new(0),
            unsent_bytes: AtomicUsize::new(0),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            labels: Mutex::new(Labels::default()),
            closing: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// What it says of itself.
    pub(crate) fn labels(&self) -> Labels {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what it says of itself.
    pub(crate) fn relabel(&self, change: impl FnOnce(&mut Labels)) {
        change(&mut self.labels.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// When it last said something, on the monotonic clock.
    pub(crate) fn active(&self) -> Duration {
        Duration::from_nanos(self.active.load(Relaxed))
    }

    /// Notes that it said something.
    #[inline]
    pub(crate) fn note_active(&self, now: Duration) {
        self.active.store(now.as_nanos() as u64, Relaxed);
    }

    /// Notes its last command.
    #[inline]
    pub(crate) fn note_command(&self, id: CommandId) {
        self.command.store(id as u32 + 1, Relaxed);
    }

    /// Its last command, if there was one.
    pub(crate) fn last_command(&self) -> Option<&'static Command> {
        TABLE.get((self.command.load(Relaxed) as usize).checked_sub(1)?)
    }

    /// Notes how many bytes of an unfinished request it has sent.
    #[inline]
    pub(crate) fn note_pending(&self, bytes: usize) {
        self.pending_bytes.store(bytes, Relaxed);
    }

    /// Notes how many bytes of replies it has not taken.
    #[inline]
    pub(crate) fn note_unsent(&self, bytes: usize) {
        self.unsent_bytes.store(bytes, Relaxed);
    }

    /// Notes whether it waits for something that is not its own affair.
    pub(crate) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Relaxed);
    }

    /// Ends its connection after the turn that it is at.
    pub(crate) fn close(&self) {
        self.closing.store(true, Release);
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }

    /// Whether its connection is to end.
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Acquire)
    }

    /// Says how to wake its connection, from now on.
    pub(crate) fn wake_by(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }
}
