//! The gateway: one thread on which all links of a region live.
//!
//! One thread, because links share little with the workers but the stripes' locks, and a thread of its own keeps
//! compression and TLS off the path of clients. Its tasks: one that accepts, one per incoming connection, one per peer that
//! dials, and one that keeps the lag's gauge. All are held by [`serve`], and end before it does.
//!
//! Shutting down: nothing new is accepted or dialled, each link says goodbye and has a second to be heard, the thread
//! ends. What was not acknowledged will be asked for again by whoever needs it.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use clock::{Origin, OsClock, Time};
use node_core::store::Store;
use tokio::{task::JoinSet, time::interval};
use tokio_util::sync::CancellationToken;

use crate::{
    accept, audit,
    dial::Dial,
    limits::{FAREWELL, LAG_INTERVAL},
    options::{GatewayOptions, Peer, TlsMaterial},
    outgoing,
    region::Region,
    tls::{self, Credentials, TlsError},
};

/// What the process must act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayEvent {
    /// A peer knows a younger life of this region, or another process in the same one: the memory of the region's
    /// incarnations was lost. The process persists one beyond `by` and ends; started again, it is a new life.
    Superseded {
        /// Whom the peer knows.
        by: Origin,
    },
    /// This region has all that the others had when it started.
    Complete,
}

/// The process around a gateway. Called on the gateway's thread, so nothing here may wait.
///
/// A closure that takes the events is one as well: a process that persists no mark.
pub trait Host: Send + Sync + 'static {
    /// Something happened that the process must act on.
    fn on_event(&self, event: GatewayEvent);

    /// Whether what is stamped up to `time` elsewhere may be taken in: a local write may be stamped right above it, and no
    /// stamp may be issued above the persisted mark. If it may not, the process sees to it that it soon may; the link asks
    /// again every [`MARK_RECHECK`](crate::limits::MARK_RECHECK).
    fn covers(&self, time: Time) -> bool {
        let _ = time;
        true
    }
}

impl<F: Fn(GatewayEvent) + Send + Sync + 'static> Host for F {
    fn on_event(&self, event: GatewayEvent) {
        self(event);
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {error}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The certificates are of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The thread or its runtime cannot be made.
    #[error("cannot start the gateway's thread: {0}")]
    Thread(io::Error),
}

/// A running gateway. Dropping it shuts it down.
#[derive(Debug)]
pub struct Gateway {
    region: Arc<Region>,
    credentials: Arc<Credentials>,
    local_addr: SocketAddr,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Starts a gateway on a thread of its own, in the process `host`.
    ///
    /// Install the metrics recorder before, or nothing is measured. The store's [`on_news`](Store::on_news) is taken.
    ///
    /// # Errors
    /// [`StartError`]; nothing was started.
    pub fn start(
        options: &GatewayOptions,
        store: Arc<Store>,
        clock: Arc<OsClock>,
        host: impl Host,
    ) -> Result<Self, StartError> {
        let listen = |error| StartError::Listen { addr: options.listen, error };
        let listener = TcpListener::bind(options.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        let credentials = Arc::new(Credentials::new(&options.name, tls::LINK, &options.tls)?);
        let region = Region::new(&options.name, &options.peers, options.links, store, clock, Box::new(host));
        let region = Arc::new(region);
        let shutdown = CancellationToken::new();
        let (started, has_started) = mpsc::sync_channel(1);
        let body = {
            let (region, credentials, shutdown) = (region.clone(), credentials.clone(), shutdown.clone());
            move || run(region, credentials, listener, shutdown, &started)
        };
        let thread = thread::Builder::new().name("gateway".into()).spawn(body).map_err(StartError::Thread)?;
        let gateway = Self { region, credentials, local_addr, shutdown, thread: Some(thread) };
        match has_started.recv() {
            Ok(Ok(())) => Ok(gateway),
            Ok(Err(error)) => Err(StartError::Thread(error)),
            Err(_) => Err(StartError::Thread(io::Error::other("the gateway's thread ended at once"))),
        }
    }

    /// Where links of other regions arrive.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What is known of its links, and who is at their other ends.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Takes other certificates, for connections made from now on. Links that are up stay up.
    ///
    /// # Errors
    /// [`TlsError`]; those that were in use still are.
    pub fn reload_tls(&self, material: &TlsMaterial) -> Result<(), TlsError> {
        self.credentials.reload(material)
    }

    /// Shuts down: links say goodbye, the thread ends.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the gateway's thread panicked");
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The gateway's thread.
fn run(
    region: Arc<Region>,
    credentials: Arc<Credentials>,
    listener: TcpListener,
    shutdown: CancellationToken,
    started: &mpsc::SyncSender<io::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return drop(started.send(Err(error))),
        };
        // The other end waits for this, so it is there.
        let _ = started.send(Ok(()));
        serve(region, credentials, listener, shutdown).await;
    });
    // A look-up of a name may hang for longer than anybody wants to wait.
    runtime.shutdown_timeout(FAREWELL);
}

/// Serves all links until `shutdown`.
async fn serve(
    region: Arc<Region>,
    credentials: Arc<Credentials>,
    listener: tokio::net::TcpListener,
    shutdown: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    tasks.spawn(accept::run(region.clone(), credentials.clone(), listener, shutdown.clone()));
    let (ends, until) = (region.clone(), shutdown.clone());
    tasks.spawn(async move {
        let way = |peer: &Peer| Dial { peer: peer.clone(), credentials: credentials.clone() };
        outgoing::run_all(&ends, way, &until).await;
    });
    let (audited, until) = (region.clone(), shutdown.clone());
    tasks.spawn(async move { audit::run(&audited, &until).await });
    tasks.spawn(keep_lag(region, shutdown));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of the gateway panicked");
        }
    }
}

/// Keeps the lag's gauge up to date.
async fn keep_lag(region: Arc<Region>, shutdown: CancellationToken) {
    let mut ticks = interval(LAG_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => region.refresh_metrics(region.now()),
        }
    }
}
