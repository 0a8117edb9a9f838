//! How an embedded gateway reaches a peer: TCP and TLS to the peer's own gateway.

use std::{io, sync::Arc};

use rustls::pki_types::InvalidDnsNameError;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    options::Peer,
    outgoing::Connect,
    tls::{self, Credentials},
};

/// See the head of this file.
pub(crate) struct Dial {
    pub(crate) peer: Peer,
    pub(crate) credentials: Arc<Credentials>,
}

/// Why a peer cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the region's name is no DNS label: {0}")]
    Name(#[from] InvalidDnsNameError),
    #[error(transparent)]
    Broken(tls::Broken),
}

impl Connect for Dial {
    type Stream = TlsStream<TcpStream>;
    type Error = DialError;

    async fn connect(&self) -> Result<Self::Stream, DialError> {
        let name = tls::server_name(&self.peer.name)?;
        let stream = TcpStream::connect(&self.peer.addr).await.map_err(DialError::Connect)?;
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        let handshake = TlsConnector::from(self.credentials.client()).connect(name, stream);
        handshake.await.map_err(|error| DialError::Broken(error.into()))
    }
}
