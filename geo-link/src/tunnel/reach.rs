//! The way to a peer: any of its gateways, dialled in turn from a random one on, so that no one of them gets all streams
//! and none that is gone keeps a stream from the others.

use std::{
    convert::Infallible,
    future::pending,
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use metrics::{Counter, Gauge, counter, gauge};
use rustls::pki_types::InvalidDnsNameError;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{TunnelPeerStatus, TunnelRefusal, carry::Carried};
use crate::{
    dial::turns,
    limits::{TUNNEL_DIAL_MAX, TUNNEL_REACH_MAX, TUNNEL_REASON_CHARS_MAX},
    names,
    options::Peer,
    peers::Entry,
    region::entropy,
    tls::{self, Broken, Credentials},
};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) peer: Peer,
    pub(super) metrics: WayMetrics,
    open: AtomicUsize,
    failures: AtomicU64,
    last_error: Mutex<Option<String>>,
    gone: CancellationToken,
}

/// What is measured of the way to a peer. A handle costs some nanoseconds to use, a name some hundred.
pub(super) struct WayMetrics {
    pub(super) out_bytes: Counter,
    pub(super) in_bytes: Counter,
    streams: Gauge,
    dial_failures: Counter,
}

/// Why one address did not lead there.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("cannot connect in time")]
    Timeout,
    #[error("the region's name is no DNS label: {0}")]
    Name(#[from] InvalidDnsNameError),
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl Entry for Way {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn gone(&self) -> &CancellationToken {
        &self.gone
    }
}

impl Way {
    pub(super) fn new(peer: &Peer) -> Self {
        Self {
            peer: peer.clone(),
            metrics: WayMetrics::new(&peer.name),
            open: AtomicUsize::new(0),
            failures: AtomicU64::new(0),
            last_error: Mutex::default(),
            gone: CancellationToken::new(),
        }
    }

    /// Connects to any of the peer's gateways. Returns the connection, and the address that led there. Takes no longer than
    /// [`TUNNEL_REACH_MAX`].
    ///
    /// # Errors
    /// [`TunnelRefusal::Unreachable`], with what stood in the way last.
    pub(super) async fn reach(
        &self,
        credentials: &Credentials,
    ) -> Result<(TlsStream<TcpStream>, String), TunnelRefusal> {
        let mut last = "it has no address".to_owned();
        let attempts = async {
            for address in turns(&self.peer.addrs, entropy()) {
                match self.dial(address, credentials).await {
                    Ok(stream) => return Some((stream, address.to_owned())),
                    Err(error) => {
                        last = format!("{address}: {error}").chars().take(TUNNEL_REASON_CHARS_MAX).collect();
                        self.failed(&last);
                    }
                }
            }
            None
        };
        let reached = timeout(TUNNEL_REACH_MAX, attempts).await.unwrap_or_default();
        reached.ok_or(TunnelRefusal::Unreachable(last))
    }

    /// Notes, once the peer has said something on a stream, that nothing is wrong any more; never returns. That a connection
    /// was made says too little: with TLS 1.3 it is made before the peer has looked at this end's certificate.
    pub(super) async fn until_well(&self, carried: &Carried) -> Infallible {
        carried.heard().await;
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
        pending().await
    }

    async fn dial(&self, address: &str, credentials: &Credentials) -> Result<TlsStream<TcpStream>, DialError> {
        let name = tls::server_name(&self.peer.name)?;
        let attempt = async {
            let stream = TcpStream::connect(address).await.map_err(DialError::Connect)?;
            stream.set_nodelay(true).map_err(DialError::Connect)?;
            let stream = TlsConnector::from(credentials.client()).connect(name, stream).await;
            stream.map_err(|error| DialError::Broken(error.into()))
        };
        timeout(TUNNEL_DIAL_MAX, attempt).await.unwrap_or(Err(DialError::Timeout))
    }

    /// Notes that an address did not lead there. Aloud once per outage: that a peer stays away is no news.
    pub(super) fn failed(&self, error: &str) {
        self.failures.fetch_add(1, Relaxed);
        self.metrics.dial_failures.increment(1);
        let former = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).replace(error.to_owned());
        if former.is_none() {
            tracing::warn!(to = self.peer.name, error, "a gateway of another region is not reached");
        } else {
            tracing::debug!(to = self.peer.name, error, "a gateway of another region is still not reached");
        }
    }

    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Relaxed);
        self.metrics.streams.increment(1.0);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Relaxed);
        self.metrics.streams.decrement(1.0);
    }

    pub(super) fn status(&self) -> TunnelPeerStatus {
        TunnelPeerStatus {
            region: self.peer.name.clone(),
            id: self.peer.id.number(),
            addrs: self.peer.addrs.clone(),
            streams: self.open.load(Relaxed),
            dial_failures: self.failures.load(Relaxed),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl WayMetrics {
    pub(super) fn new(to: &str) -> Self {
        let bytes = |direction: &'static str| counter!(names::TUNNEL_BYTES_TOTAL, "to" => to.to_owned(), "direction" => direction);
        Self {
            out_bytes: bytes("out"),
            in_bytes: bytes("in"),
            streams: gauge!(names::TUNNELS, "to" => to.to_owned()),
            dial_failures: counter!(names::TUNNEL_DIAL_FAILURES_TOTAL, "to" => to.to_owned()),
        }
    }
}

impl std::fmt::Debug for WayMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WayMetrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::turns;

    #[test]
    fn each_address_has_its_turn_and_each_may_be_first() {
        let addresses = ["a", "b", "c"].map(str::to_owned);
        for (entropy, expected) in [(0, "abc"), (1, "bca"), (2, "cab"), (3, "abc"), (u64::MAX, "abc")] {
            assert_eq!(turns(&addresses, entropy).collect::<String>(), expected);
        }
        assert_eq!(turns(&[], 7).count(), 0);
    }
}
