//! A primary's streams to and from other regions: the connections under [`geo_link::Streams`].
//!
//! To each other region goes one stream, through whichever gateway of this region is the best for it now
//! ([`Gateways::connect_through`]); when that is another, or the one it goes by is silent, the stream breaks and is begun
//! anew. Those that arrive are brought by gateways, each for the slots that this node owns.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use clock::RegionId;
use geo_link::{Connect, Streams};
use node_core::cluster::{Entrance, gateways::Standing};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{
        bus::BusStream,
        gateways::{Gateways, NoWay},
    },
    limits::STREAMS_IN_MAX,
};

/// See the head of this file.
pub(crate) struct Links {
    streams: Arc<Streams>,
    gateways: Arc<Gateways>,
    /// How many streams arrive now.
    arriving: Arc<AtomicUsize>,
}

impl Links {
    /// The ends, and the way there.
    pub(crate) fn new(streams: Arc<Streams>, gateways: Arc<Gateways>) -> Self {
        Self { streams, gateways, arriving: Arc::default() }
    }

    /// The store has begun a life as a primary's: its streams to all other regions begin, and end with `ending`.
    pub(super) fn begin_life(&self, ending: &CancellationToken, connections: &mut JoinSet<()>) {
        self.streams.begin_life();
        let (streams, gateways, ending) = (self.streams.clone(), self.gateways.clone(), ending.clone());
        connections.spawn(async move {
            streams.send(|region| Way { region, gateways: gateways.clone() }, &ending).await;
        });
    }

    /// The life is over, and with it all streams.
    pub(super) fn end_life(&self) {
        self.streams.end_life();
    }

    /// Takes in what a gateway brings, until it or `ending` ends it. One more than there may be is closed.
    pub(super) fn let_in(
        &self,
        entrance: Entrance,
        stream: BusStream,
        ending: &CancellationToken,
        connections: &mut JoinSet<()>,
    ) {
        let arrived = Arrived::one_of(&self.arriving);
        if self.arriving.load(Relaxed) > STREAMS_IN_MAX {
            return tracing::warn!(gateway = entrance.gateway, "too many streams of other regions arrive");
        }
        let (streams, ending) = (self.streams.clone(), ending.clone());
        connections.spawn(async move {
            let Entrance { gateway, region, slots } = entrance;
            streams.receive(&region, slots, stream, &gateway, &ending).await;
            drop(arrived);
        });
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// One of those that arrive, as long as it is there.
struct Arrived(Arc<AtomicUsize>);

impl Arrived {
    fn one_of(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Relaxed);
        Self(all.clone())
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The way to another region.
struct Way {
    region: RegionId,
    gateways: Arc<Gateways>,
}

impl Connect for Way {
    type Stream = Guarded;
    type Error = NoWay;

    async fn connect(&self) -> Result<Guarded, NoWay> {
        let through = self.gateways.connect_through(self.region).await?;
        let (gateways, region) = (self.gateways.clone(), self.region);
        let gateway = through.gateway;
        let displaced = Box::pin(async move { gateways.until_displaced(region, &gateway).await });
        Ok(Guarded { stream: through.stream, displaced })
    }
}

/// A stream that breaks when it should not go by its gateway any more.
struct Guarded {
    stream: BusStream,
    displaced: Pin<Box<dyn Future<Output = Standing> + Send>>,
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.displaced.as_mut().poll(cx) {
            Poll::Ready(Standing::Outranked) => {
                Poll::Ready(Err(io::Error::other("another gateway is the right one now")))
            }
            Poll::Ready(_) => Poll::Ready(Err(io::Error::other("the gateway is gone"))),
            Poll::Pending => Pin::new(&mut self.stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
