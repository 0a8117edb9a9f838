//! The door of an embedded gateway: accepts links from other regions, and hears by their certificates who they are.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    incoming,
    limits::INCOMING_MAX,
    region::Region,
    tls::{self, Credentials},
    turned_away::TurnedAway,
};

/// Who serves the connections that are accepted.
pub(crate) trait Door: Send + Sync + 'static {
    /// Whether a region of this name may come in.
    fn knows(&self, region: &str) -> bool;

    /// How long a handshake may take.
    fn timeout(&self) -> Duration;

    /// Serves a connection whose certificate names these regions, until it ends.
    fn serve(
        &self,
        names: Vec<String>,
        stream: TlsStream<TcpStream>,
        addr: SocketAddr,
        ending: &CancellationToken,
        turned_away: &TurnedAway,
    ) -> impl Future<Output = ()> + Send;
}

impl Door for Region {
    fn knows(&self, region: &str) -> bool {
        self.peers.find(|peer| peer.name == region).is_some()
    }

    fn timeout(&self) -> Duration {
        self.options.timeout
    }

    async fn serve(
        &self,
        names: Vec<String>,
        stream: TlsStream<TcpStream>,
        addr: SocketAddr,
        ending: &CancellationToken,
        turned_away: &TurnedAway,
    ) {
        incoming::serve(self, names, None, stream, &addr.to_string(), ending, turned_away).await;
    }
}

/// Why a connection did not come to be.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("no handshake in time")]
    Timeout,
    #[error("the peer's certificate names no region that is configured here, but {0:?}")]
    Stranger(Vec<String>),
    #[error(transparent)]
    Broken(#[from] tls::Broken),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

/// Accepts links until `shutdown`, and then waits for those that it has accepted.
pub(crate) async fn run(
    door: Arc<impl Door>,
    credentials: Arc<Credentials>,
    listener: TcpListener,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(INCOMING_MAX));
    let turned_away = Arc::new(TurnedAway::default());
    let mut tasks = JoinSet::new();
    loop {
        let (stream, addr) = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (door, credentials) = (door.clone(), credentials.clone());
        let (shutdown, turned_away) = (shutdown.clone(), turned_away.clone());
        tasks.spawn(async move {
            let (stream, _permit) = stream;
            serve(&*door, &credentials, stream, addr, &shutdown, &turned_away).await;
        });
    }
    while tasks.join_next().await.is_some() {}
}

type Permitted = (TcpStream, tokio::sync::OwnedSemaphorePermit);

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> (Permitted, SocketAddr) {
    loop {
        let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, addr)) => return ((stream, permit), addr),
            Err(error) => {
                // Out of descriptors, or a client that was gone before it was accepted.
                tracing::warn!(%error, "cannot accept a link");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends.
async fn serve(
    door: &impl Door,
    credentials: &Credentials,
    stream: TcpStream,
    addr: SocketAddr,
    shutdown: &CancellationToken,
    turned_away: &TurnedAway,
) {
    let greeted = tokio::select! {
        () = shutdown.cancelled() => return,
        greeted = timeout(door.timeout(), handshake(door, credentials, stream)) => greeted.unwrap_or(Err(Refused::Timeout)),
    };
    match greeted {
        Ok((stream, names)) => {
            door.serve(names, stream, addr, shutdown, turned_away).await;
        }
        Err(why) => turned_away.note("tls", &addr.to_string(), &why),
    }
}

/// Both ends show their certificates. Returns the regions that the peer's names.
async fn handshake(
    door: &impl Door,
    credentials: &Credentials,
    stream: TcpStream,
) -> Result<(TlsStream<TcpStream>, Vec<String>), Refused> {
    stream.set_nodelay(true)?;
    // Our answers to a peer that is gone must fail some time, also while its batches are held and nothing is read.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(door.timeout() * 2))?;
    let stream = TlsAcceptor::from(credentials.server()).accept(stream).await?;
    let names = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(tls::regions_of).unwrap_or_default();
    if names.iter().any(|name| door.knows(name)) { Ok((stream, names)) } else { Err(Refused::Stranger(names)) }
}

/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
