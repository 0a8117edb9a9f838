//! One route: a listening socket in one region, and the connections taken from it to a target in another.

use std::{io, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{end::End, hub::Hub, socket::Socket};
use crate::{
    limits::ACCEPT_REST,
    model::{LineId, Way},
    topology::Target,
};

/// A route whose socket listens.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) hub: Arc<Hub>,
    pub(super) there: LineId,
    pub(super) back: LineId,
    pub(super) target: Target,
    pub(super) listener: TcpListener,
}

impl Route {
    /// Takes connections until stopped, and then resets those that are still open.
    pub(super) async fn run(self, stop: CancellationToken) {
        let route = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => report_panic(ended),
                accepted = route.listener.accept() => match accepted {
                    Ok((client, _)) => { connections.spawn(carry(Arc::clone(&route), client)); }
                    Err(error) => {
                        tracing::warn!(address = %route.target, %error, "accept failed");
                        time::sleep(ACCEPT_REST).await;
                    }
                },
            }
        }
        connections.shutdown().await;
    }
}

/// Carries one connection from its opening to its end.
async fn carry(route: Arc<Route>, client: TcpStream) {
    if let Err(error) = try_carry(&route, client).await {
        tracing::debug!(address = %route.target, %error, "connection lost before it began");
    }
}

async fn try_carry(route: &Route, client: TcpStream) -> io::Result<()> {
    let client = Socket::new(client)?;
    let (connection, at_target, at_client) = match route.hub.open(route.there, route.back) {
        Ok(opened) => opened,
        Err(error) => {
            // Dropping the socket resets the client.
            tracing::debug!(address = %route.target, %error, "connection refused");
            return Ok(());
        }
    };
    let both_ends = async {
        tokio::join!(
            End::new(&connection, Way::There, at_client).run_client(client),
            End::new(&connection, Way::Back, at_target).run_target(&route.target),
        )
    };
    tokio::select! {
        // Dropping the ends resets both sockets.
        () = connection.taken_down() => {}
        _ = both_ends => {}
    }
    Ok(())
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}
