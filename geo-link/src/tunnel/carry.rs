//! Bytes both ways between two streams, counted as they go, until either side ends.
//!
//! tokio's copying delivers what one side had sent before its end and then closes the other side's way in; but it goes on
//! for as long as the other side likes. A link needs no half of itself, so what remains has [`FAREWELL`].

use std::{
    fmt, io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use metrics::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::reach::WayMetrics;
use crate::{
    limits::{FAREWELL, TUNNEL_BUFFER_BYTES, TUNNEL_SILENCE_MAX},
    tls::Broken,
};

/// What has been carried.
#[derive(Debug)]
pub(super) struct Carried {
    out: Count,
    r#in: Count,
}

/// Bytes of one direction.
struct Count {
    bytes: AtomicU64,
    metric: Counter,
    /// Cancelled by the first.
    begun: CancellationToken,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("an end has closed it")]
    Closed,
    #[error("{0}")]
    Broken(Broken),
    #[error("nothing moved on it")]
    Silent,
    #[error("shutting down")]
    Stopping,
}

impl Carried {
    pub(super) fn new(metrics: &WayMetrics) -> Self {
        Self { out: Count::new(&metrics.out_bytes), r#in: Count::new(&metrics.in_bytes) }
    }

    /// Bytes that went to the other region.
    pub(super) fn out_bytes(&self) -> u64 {
        self.out.bytes.load(Relaxed)
    }

    /// Bytes that came from there.
    pub(super) fn in_bytes(&self) -> u64 {
        self.r#in.bytes.load(Relaxed)
    }

    /// Returns when something has come from the other region.
    pub(super) async fn heard(&self) {
        self.r#in.begun.cancelled().await;
    }

    /// Returns when nothing has moved for [`TUNNEL_SILENCE_MAX`].
    async fn silence(&self) {
        let mut former = None;
        loop {
            let moved = Some((self.out_bytes(), self.in_bytes()));
            if former == moved {
                return;
            }
            former = moved;
            sleep(TUNNEL_SILENCE_MAX).await;
        }
    }
}

impl Count {
    fn new(metric: &Counter) -> Self {
        Self { bytes: AtomicU64::new(0), metric: metric.clone(), begun: CancellationToken::new() }
    }

    fn add(&self, bytes: usize) {
        if self.bytes.fetch_add(bytes as u64, Relaxed) == 0 {
            self.begun.cancel();
        }
        self.metric.increment(bytes as u64);
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(f)
    }
}

/// Carries bytes between a primary and a peer until either ends, and closes both.
pub(super) async fn carry<A, B>(primary: A, peer: B, carried: &Carried, shutdown: &CancellationToken) -> Ended
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let half_closed = CancellationToken::new();
    let mut primary = Counted { stream: primary, count: &carried.out, ended: &half_closed };
    let mut peer = Counted { stream: peer, count: &carried.r#in, ended: &half_closed };
    let last_words = async {
        half_closed.cancelled().await;
        sleep(FAREWELL).await;
    };
    let ended = tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut primary, &mut peer, TUNNEL_BUFFER_BYTES, TUNNEL_BUFFER_BYTES) => {
            copied.map_or_else(|error| Ended::Broken(error.into()), |_| Ended::Closed)
        }
        () = last_words => Ended::Closed,
        () = carried.silence() => Ended::Silent,
        () = shutdown.cancelled() => Ended::Stopping,
    };
    // Each is told, whatever becomes of the other.
    let close = async { tokio::join!(primary.stream.shutdown(), peer.stream.shutdown()) };
    _ = timeout(FAREWELL, close).await;
    ended
}

/// A stream of which it is counted what is read, and noted when there is no more.
struct Counted<'a, S> {
    stream: S,
    count: &'a Count,
    ended: &'a CancellationToken,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        match buffer.filled().len() - before {
            0 if room > 0 => self.ended.cancel(),
            bytes => self.count.add(bytes),
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
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
