//! The dialling end of the bus: peers, and how one is reached.
//!
//! A peer is an address and nothing more; it costs nothing to name one. Connections appear at the first call or post and
//! go when nobody has used them for a while. A name is looked up at every attempt, since the address behind it changes
//! when a node moves.

use std::{fmt, io, sync::Arc, time::Duration};

use geo_link::tls::{self, Broken, Credentials};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{error::Elapsed, timeout},
};
use tokio_rustls::{TlsConnector, TlsStream};
use tokio_util::{bytes::Bytes, either::Either};

use super::{
    BusStream, Channel,
    calls::{self, Call, CallError},
    greeting::{self, GreetingError, Verdict},
    limits::{ANSWER_MAX, CALLS_QUEUED, DIAL_MAX, DIAL_PAUSE, POSTS_QUEUED, REFUSED_PAUSE, frame_bytes_max},
    lines::{Line, Lines},
    posts, prepare,
};

/// The dialling end of the bus. A handle: copies are the same bus.
#[derive(Clone)]
pub(crate) struct Bus(Arc<Shared>);

struct Shared {
    credentials: Option<Arc<Credentials>>,
    calls: Lines<Call>,
    posts: Lines<Bytes>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The address cannot be looked up, or nobody listens there.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// It took too long.
    #[error("cannot connect in time")]
    Timeout(#[from] Elapsed),
    /// TLS, or the connection, failed.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// Who listens there is no node.
    #[error("who listens there is no node")]
    Garbage,
    /// The node turned this one away.
    #[error("the node refuses: {0}")]
    Refused(Verdict),
}

impl From<GreetingError> for DialError {
    fn from(error: GreetingError) -> Self {
        match error {
            GreetingError::Garbage => Self::Garbage,
            GreetingError::Io(error) => Self::Broken(error.into()),
        }
    }
}

impl DialError {
    /// Whether somebody must put this right, so that trying again soon is of no use.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Broken(Broken::Certificate(_)) | Self::Garbage | Self::Refused(_))
    }

    /// How long the peer is left alone now.
    pub(super) const fn pause(&self) -> Duration {
        if self.is_refusal() { REFUSED_PAUSE } else { DIAL_PAUSE }
    }
}

impl Bus {
    /// A bus without connections; with credentials, all that it makes are under TLS. Its tasks run on the runtime that this
    /// is called in, whatever thread uses it later.
    pub(crate) fn new(credentials: Option<Arc<Credentials>>) -> Self {
        Self(Arc::new(Shared { credentials, calls: Lines::new(CALLS_QUEUED), posts: Lines::new(POSTS_QUEUED) }))
    }

    /// The node at this address, `HOST:PORT`.
    pub(crate) fn peer(&self, address: impl Into<Arc<str>>) -> Peer {
        Peer { bus: self.clone(), address: address.into() }
    }

    /// Fails the calls that are left, and closes all connections but those of feeds.
    pub(crate) async fn shutdown(&self) {
        self.0.calls.shutdown().await;
        self.0.posts.shutdown().await;
    }

    /// Connects to a node. Takes no longer than [`DIAL_MAX`].
    pub(super) async fn dial(&self, line: &Line) -> Result<BusStream, DialError> {
        timeout(DIAL_MAX, self.reach(line)).await?
    }

    async fn reach(&self, line: &Line) -> Result<BusStream, DialError> {
        let socket = TcpStream::connect(&*line.address).await.map_err(DialError::Connect)?;
        prepare(&socket).map_err(DialError::Connect)?;
        let mut stream = match &self.0.credentials {
            None => Either::Left(socket),
            Some(credentials) => {
                let name = tls::server_name(credentials.region()).map_err(io::Error::other).map_err(Broken::from)?;
                let stream =
                    TlsConnector::from(credentials.client()).connect(name, socket).await.map_err(Broken::from)?;
                Either::Right(Box::new(TlsStream::from(stream)))
            }
        };
        match greeting::dial(&mut stream, line.channel).await? {
            Verdict::Welcome => Ok(stream),
            verdict => Err(DialError::Refused(verdict)),
        }
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("tls", &self.0.credentials.is_some()).finish_non_exhaustive()
    }
}

/// A node, as this one reaches it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    bus: Bus,
    address: Arc<str>,
}

impl Peer {
    /// Asks, and waits for the answer, for `patience` or [`ANSWER_MAX`] if that is less.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::was_sent`] tells whether the peer may have done what it was asked for.
    pub(crate) async fn call<Request: Serialize, Response: DeserializeOwned>(
        &self,
        channel: Channel,
        request: &Request,
        patience: Duration,
    ) -> Result<Response, CallError> {
        let (call, answer) = Call::new(request, frame_bytes_max(channel))?;
        let line = Line { address: self.address.clone(), channel };
        let bus = self.bus.clone();
        self.bus.0.calls.send(line.clone(), call, |calls| calls::run(bus, line, calls))?;
        let answer = timeout(patience.min(ANSWER_MAX), answer).await.map_err(|_| CallError::Timeout)?;
        // A connection that ends drops the calls that wait on it.
        let answer = answer.unwrap_or(Err(CallError::Lost))?;
        rmp_serde::from_slice(&answer).map_err(CallError::Answer)
    }

    /// Sends a message, or loses it. Never waits.
    pub(crate) fn post(&self, message: Bytes) {
        let line = Line { address: self.address.clone(), channel: Channel::Gossip };
        let bus = self.bus.clone();
        if message.len() > frame_bytes_max(line.channel)
            || self.bus.0.posts.send(line.clone(), message, |messages| posts::run(bus, line, messages)).is_err()
        {
            posts::count_lost(1);
        }
    }

    /// Connects for a feed and sends its first frame, which says what is wanted.
    ///
    /// # Errors
    /// [`DialError`]
    pub(crate) async fn connect(&self, first: &[u8]) -> Result<BusStream, DialError> {
        let line = Line { address: self.address.clone(), channel: Channel::Feed };
        let mut stream = self.bus.dial(&line).await?;
        let send = async {
            let length = u32::try_from(first.len()).map_err(io::Error::other)?;
            stream.write_u32(length).await?;
            stream.write_all(first).await?;
            stream.flush().await
        };
        timeout(DIAL_MAX, send).await?.map_err(Broken::from)?;
        Ok(stream)
    }
}
