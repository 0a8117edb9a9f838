//! Tunnels: the sending half of a gateway that is a process of its own.
//!
//! # Why
//! The primaries of a cluster each carry their own writes to each other region: what is sent, and what is conflated, is
//! decided where the log is. What they lack is a way out: their network may have none, and the region's key is not to lie
//! on every node. A gateway has both. A primary connects to it, says in its first frame to which region it wants to go
//! ([`greeting`]), and the gateway connects to one of that region's gateways, under TLS with the region's certificate. From
//! then on it passes bytes both ways, unchanged. The protocol of links is spoken by the two ends alone.
//!
//! # What holds
//! - **It holds nothing.** A stream has two buffers of [`TUNNEL_BUFFER_BYTES`](crate::limits::TUNNEL_BUFFER_BYTES); when they are full the faster side waits.
//!   Nothing is acknowledged here, so nothing is lost with a gateway but time.
//! - **The two halves of a stream end together.** When one side has ended, what it had sent is delivered, and the other side
//!   is closed; it has [`FAREWELL`](crate::limits::FAREWELL) for last words.
//! - **A stream that is dead is found out.** Links are never silent, at least a heartbeat goes each way. A stream on which
//!   nothing has moved for [`TUNNEL_SILENCE_MAX`](crate::limits::TUNNEL_SILENCE_MAX) has no living ends, and is closed. The ends themselves notice sooner.
//! - **One stream harms no other.** Each is served by a future of its own; there are at most [`TUNNELS_MAX`].
//!
//! # Files
//! `greeting` (what the two ends say first); `reach` (the way to a peer); `carry` (bytes both ways); here is who is let
//! through, and what is known of it.
//!
//! Left out on purpose: a look into what passes. A gateway that understood links would have to be upgraded with them.

mod carry;
pub mod greeting;
mod reach;
mod status;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use metrics::counter;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::Semaphore,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{
    carry::{Carried, Ended},
    greeting::{Verdict, Wanted},
    reach::Way,
};
pub use self::{
    greeting::TunnelRefusal,
    status::{StreamStatus, TunnelPeerStatus, TunnelsStatus},
};
use crate::{
    Peer, TlsMaterial,
    limits::TUNNELS_MAX,
    names,
    peers::{Entry, Peers, end_with},
    tls::{Broken, Credentials, LINK, TlsError},
};

/// The protocol that tunnels to other regions name in the handshake: that of links, which is spoken on them.
pub const PROTOCOL: &[u8] = LINK;

/// How they are built.
#[derive(Clone, Debug)]
pub struct TunnelOptions {
    /// The name of the region from which it leads.
    pub region: String,
    /// The regions to which it leads.
    pub peers: Vec<Peer>,
    /// The region's certificate for links.
    pub tls: TlsMaterial,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Tunnels {
    credentials: Credentials,
    ways: Peers<Way>,
    room: Semaphore,
    next: AtomicU64,
    streams: Mutex<BTreeMap<u64, Arc<Stream>>>,
}

/// A stream that is being carried.
#[derive(Debug)]
struct Stream {
    from: String,
    to: String,
    address: String,
    since: Instant,
    carried: Carried,
}

impl Tunnels {
    /// None yet. Install the metrics recorder before, or nothing is measured.
    ///
    /// # Errors
    /// [`TlsError`]: the certificates are of no use.
    pub fn new(options: &TunnelOptions) -> Result<Self, TlsError> {
        Ok(Self {
            credentials: Credentials::new(&options.region, PROTOCOL, &options.tls)?,
            ways: Peers::new(&options.peers, Way::new),
            room: Semaphore::new(TUNNELS_MAX),
            next: AtomicU64::new(0),
            streams: Mutex::default(),
        })
    }

    /// From here on it leads to these regions. Streams to those that are gone end.
    pub fn set_peers(&self, peers: &[Peer]) {
        self.ways.set(peers, Way::new);
    }

    /// Takes other certificates, for connections made from now on. Streams that are open stay open.
    ///
    /// # Errors
    /// [`TlsError`]; those that were in use still are.
    pub fn reload_tls(&self, material: &TlsMaterial) -> Result<(), TlsError> {
        self.credentials.reload(material)
    }

    /// Serves a primary that has connected and whose first frame this is, until its stream ends or `shutdown` comes.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        first: &[u8],
        mut primary: S,
        shutdown: &CancellationToken,
    ) {
        let Err(refusal) = self.admit(first, &mut primary, shutdown).await else { return };
        counter!(names::TUNNEL_REFUSED_TOTAL, "reason" => refusal.reason()).increment(1);
        tracing::debug!(%refusal, "a primary is not let through");
        // Who does not listen to that does not hear it.
        let _ = greeting::answer(&mut primary, &Verdict::Refused(refusal)).await;
    }

    /// What is being carried, and how its ways are.
    pub fn status(&self) -> TunnelsStatus {
        TunnelsStatus {
            peers: self.ways.all().iter().map(|way| way.status()).collect(),
            streams: self.streams().values().map(|stream| stream.status()).collect(),
        }
    }

    /// Lets a primary through, and carries its stream to the end; an error if that does not begin.
    async fn admit<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        first: &[u8],
        primary: &mut S,
        shutdown: &CancellationToken,
    ) -> Result<(), TunnelRefusal> {
        let wanted = Wanted::read(first)?;
        let way = self.ways.of(wanted.to).ok_or(TunnelRefusal::UnknownRegion)?;
        let ending = shutdown.child_token();
        let _room = self.room.try_acquire().map_err(|_| TunnelRefusal::Full)?;
        let (peer, address) = tokio::select! {
            reached = way.reach(&self.credentials) => reached?,
            // It has nothing to say before it is answered, unless it has gone.
            said = primary.read_u8() => return said.map_or(Ok(()), |_| Err(TunnelRefusal::Malformed)),
            () = shutdown.cancelled() => return Err(TunnelRefusal::Stopping),
        };
        if greeting::answer(primary, &Verdict::Connected).await.is_err() {
            return Ok(());
        }
        let stream = Arc::new(Stream {
            from: wanted.from,
            to: way.peer.name.clone(),
            address,
            since: Instant::now(),
            carried: Carried::new(&way.metrics),
        });
        let _open = self.open(stream.clone(), &way);
        tracing::info!(from = stream.from, to = stream.to, address = stream.address, "a stream is open");
        let ended = tokio::select! {
            ended = carry::carry(primary, peer, &stream.carried, &ending) => ended,
            never = way.until_well(&stream.carried) => match never {},
            never = end_with(way.gone(), &ending) => match never {},
        };
        tracing::info!(from = stream.from, to = stream.to, reason = %ended, "a stream has ended");
        if let Ended::Broken(error @ (Broken::Certificate(_) | Broken::Tls(_))) = ended
            && stream.carried.in_bytes() == 0
        {
            // With TLS 1.3 who dials learns only now that its certificate is refused.
            way.failed(&format!("{}: {error}", stream.address));
        }
        Ok(())
    }

    /// Notes that a stream is open, for as long as what is returned lives.
    fn open<'a>(&'a self, stream: Arc<Stream>, way: &'a Way) -> Open<'a> {
        let number = self.next.fetch_add(1, Relaxed);
        way.opened();
        self.streams().insert(number, stream);
        Open { tunnels: self, way, number }
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Stream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    fn status(&self) -> StreamStatus {
        StreamStatus {
            from: self.from.clone(),
            to: self.to.clone(),
            addr: self.address.clone(),
            seconds: self.since.elapsed().as_secs_f64(),
            out_bytes: self.carried.out_bytes(),
            in_bytes: self.carried.in_bytes(),
        }
    }
}

/// A stream in the table.
struct Open<'a> {
    tunnels: &'a Tunnels,
    way: &'a Way,
    number: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.tunnels.streams().remove(&self.number);
        self.way.closed();
    }
}
