//! How an embedded gateway reaches a peer: TCP and TLS to any of the peer's own gateways, in turn from a random one on.

use std::{io, sync::Arc};

use rustls::pki_types::InvalidDnsNameError;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    options::Peer,
    outgoing::Connect,
    region::entropy,
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
    #[error("it has no address")]
    NoAddress,
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
        let mut last = DialError::NoAddress;
        for address in turns(&self.peer.addrs, entropy()) {
            match self.dial(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Dial {
    async fn dial(&self, address: &str) -> Result<TlsStream<TcpStream>, DialError> {
        let name = tls::server_name(&self.peer.name)?;
        let stream = TcpStream::connect(address).await.map_err(DialError::Connect)?;
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        let handshake = TlsConnector::from(self.credentials.client()).connect(name, stream);
        handshake.await.map_err(|error| DialError::Broken(error.into()))
    }
}

/// Each address once, from a random one on.
pub(crate) fn turns(addresses: &[String], entropy: u64) -> impl Iterator<Item = &str> {
    let first = entropy.checked_rem(addresses.len() as u64).unwrap_or_default() as usize;
    let (before, after) = addresses.split_at(first);
    after.iter().chain(before).map(String::as_str)
}
