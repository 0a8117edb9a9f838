//! The listening end of the bus: who is let in, and where what they say goes.
//!
//! A connection is served in one task from its acceptance to its end. Until it has said what it is for it counts as half
//! open, and there are few of those; afterwards it is one of the node's peers, or, if it is for a feed, its handler's.

use std::{
    future::Future,
    io,
    net::{self, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{SinkExt, StreamExt, stream::FuturesUnordered};
use geo_link::tls::{self, Broken, Credentials};
use metrics::counter;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_util::{
    bytes::{Buf, BufMut, Bytes, BytesMut},
    codec::{Framed, FramedRead},
    either::Either,
    sync::CancellationToken,
};

use super::{
    BusStream, Channel,
    calls::NUMBER_BYTES,
    codec,
    greeting::{self, GreetingError, Verdict},
    limits::{
        ACCEPT_REST, CALLS_IN_FLIGHT, CONNECTIONS_MAX, GREETING_MAX, HALF_OPEN_MAX, REFUSED_LOG_INTERVAL,
        frame_bytes_max,
    },
    prepare,
};
use crate::admin::metrics::names;

/// What a node does with what its peers say. Futures are dropped unfinished when their connection ends.
pub(crate) trait Handlers: Send + Sync + 'static {
    /// Answers a call of the Raft group.
    fn raft(&self, request: Bytes) -> impl Future<Output = Result<Vec<u8>, Malformed>> + Send;

    /// Answers a report, or what an operator wants.
    fn control(&self, request: Bytes) -> impl Future<Output = Result<Vec<u8>, Malformed>> + Send;

    /// Takes a message of gossip. The address is that of the connection, not the one at which the sender is reached.
    fn gossip(&self, from: SocketAddr, message: Bytes);

    /// Takes a connection for a feed. It is the handler's from here on: to hold, to bound in number, and to end.
    fn feed(&self, arrival: Arrival);
}

/// A request that cannot be read: who sent it is disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be read")]
pub(crate) struct Malformed;

impl From<rmp_serde::decode::Error> for Malformed {
    fn from(_: rmp_serde::decode::Error) -> Self {
        Self
    }
}

/// A connection for a feed.
pub(crate) struct Arrival {
    /// Where it comes from.
    pub(crate) from: SocketAddr,
    /// The first frame: what is wanted.
    pub(crate) first: Bytes,
    /// All that follows.
    pub(crate) stream: BusStream,
}

/// Why a connection was not let in, or was ended.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it said nothing in time")]
    Timeout,
    #[error(transparent)]
    Tls(#[from] Broken),
    #[error("its certificate is of {0:?} and not of this region")]
    Region(Vec<String>),
    #[error("what it says is not the protocol of nodes")]
    Garbage,
    #[error("{0:?}")]
    Verdict(Verdict),
    #[error("it sent what cannot be read: {0}")]
    Malformed(#[from] io::Error),
    #[error("its request cannot be read")]
    Request(#[from] Malformed),
}

impl Refused {
    /// The label of the metric.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Tls(_) => "tls",
            Self::Region(_) => "region",
            Self::Garbage | Self::Malformed(_) | Self::Request(_) => "malformed",
            Self::Verdict(Verdict::Full) => "full",
            Self::Verdict(_) => "version",
        }
    }

    /// Connections that merely end are no news.
    fn is_loss(&self) -> bool {
        match self {
            Self::Tls(Broken::Io(_)) => true,
            // What a codec or TLS takes offence at is `InvalidData`; everything else is the network.
            Self::Malformed(error) => error.kind() != io::ErrorKind::InvalidData,
            _ => false,
        }
    }
}

/// Serves the peers that connect, until `stopping`; returns when all that were served have been closed.
///
/// # Errors
/// If the socket cannot be used at all.
pub(crate) async fn listen(
    socket: net::TcpListener,
    credentials: Option<Arc<Credentials>>,
    handlers: Arc<impl Handlers>,
    stopping: CancellationToken,
) -> io::Result<()> {
    let socket = TcpListener::from_std(socket)?;
    let (half_open, open) = (Arc::new(Semaphore::new(HALF_OPEN_MAX)), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let door = Arc::new(Door { credentials, handlers, half_open, open, told: Mutex::new(None) });
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            let (socket, from, room) = door.accept(&socket).await;
            while let Some(ended) = connections.try_join_next() {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection from another node panicked");
                }
            }
            let (door, stopping) = (door.clone(), stopping.clone());
            connections.spawn(async move { _ = stopping.run_until_cancelled(door.serve(socket, from, room)).await });
        }
    };
    _ = stopping.run_until_cancelled(accept).await;
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// What all connections share.
struct Door<H> {
    credentials: Option<Arc<Credentials>>,
    handlers: Arc<H>,
    half_open: Arc<Semaphore>,
    open: Arc<Semaphore>,
    /// When the log last told of a refusal.
    told: Mutex<Option<Instant>>,
}

impl<H: Handlers> Door<H> {
    async fn accept(&self, socket: &TcpListener) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        let room = self.half_open.clone().acquire_owned().await.expect("nobody closes the semaphore");
        loop {
            match socket.accept().await {
                Ok((stream, from)) => return (stream, from, room),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of another node");
                    sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    /// Serves a connection until it ends.
    async fn serve(&self, socket: TcpStream, from: SocketAddr, half_open: OwnedSemaphorePermit) {
        let greeted = timeout(GREETING_MAX, self.greet(socket, from)).await.unwrap_or(Err(Refused::Timeout));
        drop(half_open);
        let outcome = match greeted {
            Ok(Some((channel, stream, _room))) => self.converse(channel, stream, from).await,
            Ok(None) => Ok(()),
            Err(refused) => Err(refused),
        };
        if let Err(refused) = outcome {
            self.tell(&refused, from);
        }
    }

    /// Finds out who it is and what it wants; `None` if that is a feed, which is its handler's now.
    async fn greet(
        &self,
        socket: TcpStream,
        from: SocketAddr,
    ) -> Result<Option<(Channel, BusStream, OwnedSemaphorePermit)>, Refused> {
        prepare(&socket)?;
        let (mut stream, regions) = self.authenticate(socket).await?;
        let wanted = greeting::listen(&mut stream).await.map_err(|error| match error {
            GreetingError::Garbage => Refused::Garbage,
            GreetingError::Io(error) => Refused::Tls(error.into()),
        })?;
        // A stranger hears only that it is one.
        let is_stranger = matches!((&self.credentials, &regions), (Some(own), Some(names)) if !names.iter().any(|name| name == own.region()));
        let room = self.open.clone().try_acquire_owned();
        let (verdict, refused) = match (wanted, room) {
            _ if is_stranger => (Verdict::Region, Refused::Region(regions.unwrap_or_default())),
            (Err(verdict), _) => (verdict, Refused::Verdict(verdict)),
            (Ok(_), Err(_)) => (Verdict::Full, Refused::Verdict(Verdict::Full)),
            (Ok(channel), Ok(room)) => {
                greeting::answer(&mut stream, Verdict::Welcome).await?;
                if channel != Channel::Feed {
                    return Ok(Some((channel, stream, room)));
                }
                let first = first_frame(&mut stream).await?;
                self.handlers.feed(Arrival { from, first, stream });
                return Ok(None);
            }
        };
        greeting::answer(&mut stream, verdict).await?;
        Err(refused)
    }

    /// The stream, and the regions that the peer's certificate names; none are asked for without TLS.
    async fn authenticate(&self, socket: TcpStream) -> Result<(BusStream, Option<Vec<String>>), Refused> {
        let Some(credentials) = &self.credentials else { return Ok((Either::Left(socket), None)) };
        let stream = TlsAcceptor::from(credentials.server()).accept(socket).await.map_err(Broken::from)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let regions = certificate.map(tls::regions_of).unwrap_or_default();
        Ok((Either::Right(Box::new(TlsStream::from(stream))), Some(regions)))
    }

    async fn converse(&self, channel: Channel, stream: BusStream, from: SocketAddr) -> Result<(), Refused> {
        match channel {
            Channel::Raft => answer(stream, channel, |request| self.handlers.raft(request)).await,
            Channel::Control => answer(stream, channel, |request| self.handlers.control(request)).await,
            Channel::Gossip => {
                let mut messages = FramedRead::new(stream, codec(channel));
                while let Some(message) = messages.next().await {
                    self.handlers.gossip(from, message?.freeze());
                }
                Ok(())
            }
            Channel::Feed => Ok(()),
        }
    }

    /// Counts a refusal, and says so, but not all the time: who is refused tries again.
    fn tell(&self, refused: &Refused, from: SocketAddr) {
        if refused.is_loss() {
            tracing::debug!(%from, reason = %refused, "a node's connection was lost");
            return;
        }
        counter!(names::BUS_REFUSED_TOTAL, "reason" => refused.reason()).increment(1);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= REFUSED_LOG_INTERVAL) {
            *told = Some(Instant::now());
            tracing::warn!(%from, reason = %refused, "a connection to the bus was refused");
        } else {
            tracing::debug!(%from, reason = %refused, "a connection to the bus was refused");
        }
    }
}

/// Reads requests and writes their answers, in the order in which they are ready. While an answer is written no request
/// is read: that is the back-pressure on a peer that asks and does not listen.
async fn answer<F: Future<Output = Result<Vec<u8>, Malformed>>>(
    stream: BusStream,
    channel: Channel,
    handle: impl Fn(Bytes) -> F,
) -> Result<(), Refused> {
    let mut frames = Framed::new(stream, codec(channel));
    let mut handled = FuturesUnordered::new();
    loop {
        tokio::select! {
            request = frames.next(), if handled.len() < CALLS_IN_FLIGHT => {
                let Some(mut request) = request.transpose()? else { return Ok(()) };
                let number = request.try_get_u64().map_err(|_| Malformed)?;
                let answer = handle(request.freeze());
                handled.push(async move { (number, answer.await) });
            }
            Some((number, answer)) = handled.next() => {
                let answer = answer?;
                let mut frame = BytesMut::with_capacity(NUMBER_BYTES + answer.len());
                frame.put_u64(number);
                frame.put_slice(&answer);
                frames.send(frame.freeze()).await?;
            }
        }
    }
}

/// Reads the first frame of a feed and not a byte more: the rest is the handler's.
async fn first_frame(stream: &mut BusStream) -> io::Result<Bytes> {
    let length = stream.read_u32().await? as usize;
    if length > frame_bytes_max(Channel::Feed) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the first frame of a feed is too long"));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(frame.into())
}
