//! The acceptor: takes connections from the listening sockets and hands them to the workers in turn.
//!
//! It runs on a thread of its own, so that a worker at its limit does not keep others' clients waiting, and it is the one
//! place that knows how many there may be. A client beyond `maxclients` gets Redis's error and is closed at once.

use std::{
    io,
    net::{self, SocketAddr},
    os::fd::AsRawFd,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use super::{Server, tls::Handshakes};
use crate::{
    clients::Admission,
    limits::{ACCEPT_REST, KEEPALIVE, LISTEN_BACKLOG},
};

/// A connection on its way to a worker.
pub(crate) struct Arrival {
    pub(crate) stream: net::TcpStream,
    pub(crate) admission: Admission,
    /// Does the handshake first, if the client came by the TLS port.
    pub(crate) tls: Option<TlsAcceptor>,
    /// What this node does not own is forwarded for it.
    pub(crate) proxied: bool,
}

/// A socket that listens, and how.
pub(crate) struct Door {
    pub(crate) listener: net::TcpListener,
    pub(crate) tls: Option<Arc<Handshakes>>,
    /// Its clients know nothing of clusters.
    pub(crate) proxied: bool,
}

/// Binds a listening socket. `SO_REUSEADDR`, so that a restart need not wait for old connections to be forgotten.
pub(crate) fn bind(address: SocketAddr) -> io::Result<net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Accepts at all doors until the server stops.
pub(crate) async fn run(server: Arc<Server>, doors: Vec<Door>, workers: Vec<mpsc::Sender<Arrival>>) -> io::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for door in doors {
        let listener = TcpListener::from_std(door.listener)?;
        let (server, workers) = (server.clone(), workers.clone());
        tasks.spawn(async move {
            let stopping = server.stopping.clone();
            tokio::select! {
                () = accept(&server, &listener, door.tls.as_deref(), door.proxied, &workers) => {}
                () = stopping.cancelled() => {}
            }
        });
    }
    drop(workers);
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn accept(
    server: &Server,
    listener: &TcpListener,
    tls: Option<&Handshakes>,
    proxied: bool,
    workers: &[mpsc::Sender<Arrival>],
) {
    for worker in workers.iter().cycle() {
        let arrival = loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    if let Some(arrival) = admit(server, stream, address, tls.map(Handshakes::acceptor)).await {
                        break Arrival { proxied, ..arrival };
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        };
        if worker.send(arrival).await.is_err() {
            // The workers end only after this.
            return;
        }
    }
}

/// Counts a client in and prepares its socket; turns it away if there are too many.
async fn admit(
    server: &Server,
    mut stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
) -> Option<Arrival> {
    let (now, max) = (server.clock.now().monotonic, server.parameters.max_clients.load(Relaxed));
    let local = stream.local_addr().ok()?;
    let Some(admission) = server.clients.admit(address, local, stream.as_raw_fd(), now, max as usize) else {
        if tls.is_none() {
            // Best effort: whoever does not take it at once does not get it.
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            let _ = stream.shutdown().await;
        }
        return None;
    };
    let prepared = prepare(&stream).and_then(|()| stream.into_std());
    match prepared {
        Ok(stream) => Some(Arrival { stream, admission, tls, proxied: false }),
        Err(error) => {
            tracing::debug!(%error, "client is gone already");
            None
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}
