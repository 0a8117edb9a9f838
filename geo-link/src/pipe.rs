//! A socket with what has arrived on it and what is to leave by it.
//!
//! A link has one task, and that task must read answers while it cannot write, and write answers while it does not
//! want to read. So reading and writing are one operation, [`Pipe::turn`]: it moves what can be moved and waits only
//! if nothing can. It may be dropped at any await without losing a byte, since all its state is in the pipe.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use geo_link_core::Inbox;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, sink},
    time::timeout,
};
use tokio_util::io::poll_read_buf;

use crate::limits::{OUTBOX_BYTES_KEPT, OUTBOX_BYTES_MAX, READ_BYTES};

/// See the head of this file.
#[derive(Debug)]
pub struct Pipe<S> {
    stream: S,
    /// What has arrived.
    pub inbox: Inbox,
    out: Vec<u8>,
    /// How much of `out` was written.
    written: usize,
    needs_flush: bool,
    /// Why nothing can be written any more. Whoever has hung up may have said why, so that is read first.
    unwritable: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pipe<S> {
    /// Around a stream; frames of up to so many bytes are taken.
    pub const fn new(stream: S, frame_bytes_max: usize) -> Self {
        Self {
            stream,
            inbox: Inbox::new(frame_bytes_max),
            out: Vec::new(),
            written: 0,
            needs_flush: false,
            unwritable: None,
        }
    }

    /// Where to append what is to leave.
    pub const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether little enough waits to leave for more to be made.
    pub const fn has_room(&self) -> bool {
        self.out.len() - self.written < OUTBOX_BYTES_MAX
    }

    /// Moves what can be moved; waits if nothing can. Reads only if `wants_bytes`. Returns whether bytes arrived.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` if the peer has closed it.
    pub async fn turn(&mut self, wants_bytes: bool) -> io::Result<bool> {
        poll_fn(|cx| self.poll_turn(cx, wants_bytes)).await
    }

    /// Writes what there is, and closes. If the connection `is_in_order` waits until the other side has closed as well: who closes a socket
    /// with bytes unread resets it, and last words that are on their way can be lost with that. Takes no longer than `patience`.
    pub async fn end(&mut self, is_in_order: bool, patience: Duration) {
        let rest = &self.out[self.written..];
        let stream = &mut self.stream;
        // Whoever does not listen to last words does not hear them.
        let _ = timeout(patience, async move {
            stream.write_all(rest).await?;
            stream.shutdown().await?;
            if is_in_order { copy(stream, &mut sink()).await } else { Ok(0) }
        })
        .await;
    }

    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>, wants_bytes: bool) -> Poll<io::Result<bool>> {
        let has_written = self.unwritable.is_none()
            && self.poll_write_out(cx).unwrap_or_else(|error| {
                self.unwritable = Some(error);
                false
            });
        if !wants_bytes && let Some(error) = self.unwritable.take() {
            return Poll::Ready(Err(error));
        }
        let has_read = wants_bytes && self.poll_read_in(cx).map_err(|error| self.unwritable.take().unwrap_or(error))?;
        if has_written || has_read { Poll::Ready(Ok(has_read)) } else { Poll::Pending }
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let before = self.written;
        while self.written < self.out.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => self.written += count,
                Poll::Pending => break,
            }
        }
        let has_written = self.written > before;
        self.needs_flush |= has_written;
        if self.needs_flush && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.needs_flush = false;
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
            if self.out.capacity() > OUTBOX_BYTES_KEPT {
                self.out = Vec::new();
            }
        }
        Ok(has_written)
    }

    fn poll_read_in(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let buffer = self.inbox.buffer();
        buffer.reserve(READ_BYTES);
        match poll_read_buf(Pin::new(&mut self.stream), cx, buffer)? {
            Poll::Ready(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(_) => Ok(true),
            Poll::Pending => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use geo_link_core::Refusal;
    use tokio::{
        io::{AsyncWriteExt, DuplexStream, duplex},
        task::yield_now,
    };

    use super::Pipe;

    const FRAMES: u16 = 2_000;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    fn pipes() -> [Pipe<DuplexStream>; 2] {
        // Small, so that every write is cut somewhere.
        let (near, far) = duplex(97);
        [near, far].map(|stream| Pipe::new(stream, 1_000))
    }

    /// Takes a turn that may be dropped before it is through.
    async fn turn_or_not(pipe: &mut Pipe<DuplexStream>) {
        tokio::select! {
            biased;
            moved = pipe.turn(true) => drop(moved.unwrap()),
            () = yield_now() => {}
        }
    }

    fn take(pipe: &mut Pipe<DuplexStream>, found: &mut u16) {
        while let Some((_, payload)) = pipe.inbox.next_frame().unwrap() {
            assert_eq!(Refusal::read(payload), Ok(Refusal::Version(*found)));
            *found += 1;
        }
    }

    #[test]
    fn no_byte_is_lost_or_doubled_however_often_a_turn_is_dropped() {
        run(async {
            let [mut near, mut far] = pipes();
            for number in 0..FRAMES {
                Refusal::Version(number).put(near.out());
                Refusal::Version(number).put(far.out());
            }
            let (mut there, mut back) = (0, 0);
            while there < FRAMES || back < FRAMES {
                turn_or_not(&mut near).await;
                turn_or_not(&mut far).await;
                take(&mut far, &mut there);
                take(&mut near, &mut back);
            }
        });
    }

    #[test]
    fn what_is_not_wanted_stays_where_it_is() {
        run(async {
            let [mut near, mut far] = pipes();
            Refusal::Replaced.put(near.out());
            near.turn(false).await.unwrap();
            tokio::select! {
                biased;
                _ = far.turn(false) => panic!("it had nothing to do"),
                () = yield_now() => {}
            }
            assert!(far.turn(true).await.unwrap() && far.inbox.has_frame());
        });
    }

    #[test]
    fn last_words_are_heard_also_by_whom_they_interrupt() {
        run(async {
            let [mut near, mut far] = pipes();
            Refusal::Replaced.put(near.out());
            near.end(false, Duration::from_secs(1)).await;
            drop(near);
            Refusal::Replaced.put(far.out());
            assert!(far.turn(true).await.unwrap() && far.inbox.has_frame());
            assert!(far.turn(true).await.is_err());
        });
    }

    #[test]
    fn last_words_are_said_and_then_the_pipe_is_closed() {
        run(async {
            let [mut near, mut far] = pipes();
            Refusal::Replaced.put(near.out());
            near.end(false, Duration::from_secs(1)).await;
            assert!(far.turn(true).await.unwrap() && far.inbox.has_frame());
            assert_eq!(far.turn(true).await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
            far.stream.shutdown().await.unwrap();
        });
    }
}
