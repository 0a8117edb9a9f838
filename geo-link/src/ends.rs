//! The two ends of a stream with their connections: what either does wherever it stands, be it between regions or within one.
//!
//! Both go round in turns: take in what has arrived, do what that leads to, put out what is ready, rest until there is more. A turn is
//! bounded, and between two of them others have theirs. What an end is for, and what else wakes it, is its owner's: those are `outgoing`
//! and `incoming` here, and a feed's two ends in a cluster.

use std::{io, time::Duration};

use clock::Now;
use geo_link_core::{Malformed, Packed, Receiver, Sender};
use node_core::store::{Feed, Store};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    pin,
    sync::Notify,
    task::yield_now,
    time::{Instant, sleep_until},
};

use crate::{limits::FRAMES_PER_TURN, pipe::Pipe};

/// A sender with its connection, and the feed that it sends from once it knows what is wanted.
#[derive(Debug)]
pub struct SendingEnd<'a, S> {
    /// It outlives its connections.
    pub sender: &'a mut Sender,
    /// The connection.
    pub pipe: Pipe<S>,
    /// What to send from.
    pub feed: Option<Feed>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> SendingEnd<'a, S> {
    /// On a new connection, which takes frames of up to so many bytes.
    pub const fn new(sender: &'a mut Sender, stream: S, frame_bytes_max: usize) -> Self {
        Self { sender, pipe: Pipe::new(stream, frame_bytes_max), feed: None }
    }

    /// Takes in what has arrived, and what time brings.
    ///
    /// # Errors
    /// [`Malformed`]; the connection is to be closed.
    pub fn take_in(&mut self, now: Now) -> Result<(), Malformed> {
        for _ in 0..FRAMES_PER_TURN {
            let Some((kind, payload)) = self.pipe.inbox.next_frame()? else { break };
            self.sender.handle_frame(now, kind, payload)?;
        }
        self.sender.handle_timeout(now);
        Ok(())
    }

    /// The sender and the feed to fill a batch from, if one is due.
    ///
    /// One batch per turn, however little is left of it once compressed: whoever catches up delays nobody else.
    pub fn due(&mut self, now: Now) -> Option<(&mut Sender, &mut Feed)> {
        let feed = self.feed.as_mut().filter(|_| self.pipe.has_room() && self.sender.poll_items(now))?;
        Some((self.sender, feed))
    }

    /// Puts out what is ready, if there is room. Returns the size of the batch, if one was among it.
    pub fn put_out(&mut self, now: Now) -> Option<Packed> {
        if self.pipe.has_room() { self.sender.poll_transmit(now, self.pipe.out()) } else { None }
    }

    /// Waits until there is something to do. May be dropped at any await.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` if the peer has closed it.
    pub async fn rest(&mut self, store: &Store, news: &Notify, clock: impl Fn() -> Now) -> io::Result<()> {
        let now = clock();
        let news = news.notified();
        pin!(news);
        let wants_news = self.sender.wants_news();
        if wants_news {
            // Ask to be woken by the next append, and look once more whether there was one before that.
            news.as_mut().enable();
            store.await_news();
            if self.feed.as_ref().is_some_and(|feed| feed.has_news(store)) {
                self.sender.handle_news(now);
            }
        }
        let has_room = self.pipe.has_room();
        let deadline = self.sender.poll_timeout(has_room).unwrap_or(now.monotonic);
        tokio::select! {
            biased;
            has_read = self.pipe.turn(true) => drop(has_read?),
            () = news, if wants_news => self.sender.handle_news(clock()),
            () = yield_now(), if has_room && self.sender.poll_items(now) => {}
            () = sleep_until(instant(now, deadline)) => {}
        }
        Ok(())
    }

    /// Ends the connection: one that `is_in_order` with a good-bye, which the peer is given time to hear; any other with what is left to be
    /// said, such as why. Takes no longer than `patience`.
    pub async fn end(&mut self, now: Now, is_in_order: bool, patience: Duration) {
        if is_in_order {
            self.sender.say_bye();
        }
        self.sender.poll_transmit(now, self.pipe.out());
        self.pipe.end(is_in_order, patience).await;
    }
}

/// A receiver with its connection.
#[derive(Debug)]
pub struct ReceivingEnd<S> {
    /// It lives as long as its connection.
    pub receiver: Receiver,
    /// The connection.
    pub pipe: Pipe<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ReceivingEnd<S> {
    /// On a new connection, which takes frames of up to so many bytes.
    pub const fn new(receiver: Receiver, stream: S, frame_bytes_max: usize) -> Self {
        Self { receiver, pipe: Pipe::new(stream, frame_bytes_max) }
    }

    /// Takes in the next frame, if it is wanted by now and there is one. Returns whether that was so.
    ///
    /// # Errors
    /// [`Malformed`]; the connection is to be closed.
    pub fn take_in(&mut self, now: Now) -> Result<bool, Malformed> {
        if !self.receiver.wants_frames() {
            return Ok(false);
        }
        let Some((kind, payload)) = self.pipe.inbox.next_frame()? else { return Ok(false) };
        self.receiver.handle_frame(now, kind, payload)?;
        Ok(true)
    }

    /// Puts out what is ready, if there is room.
    pub fn put_out(&mut self, now: Now) {
        if self.pipe.has_room() {
            self.receiver.poll_transmit(now, self.pipe.out());
        }
    }

    /// Waits until there is something to do, but not beyond `deadline`, in monotonic time. May be dropped at any await.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` if the peer has closed it.
    pub async fn rest(&mut self, deadline: Duration, clock: impl Fn() -> Now) -> io::Result<()> {
        let wants_frames = self.receiver.wants_frames();
        let has_frames = wants_frames && self.pipe.inbox.has_frame();
        tokio::select! {
            biased;
            has_read = self.pipe.turn(wants_frames) => {
                if has_read? {
                    self.receiver.handle_bytes(clock());
                }
            }
            () = yield_now(), if has_frames => {}
            () = sleep_until(instant(clock(), deadline)) => {}
        }
        Ok(())
    }

    /// Ends the connection with what is left to be said: one that `is_in_order` so that the peer has time to hear it. Takes no longer than
    /// `patience`.
    pub async fn end(&mut self, now: Now, is_in_order: bool, patience: Duration) {
        self.receiver.poll_transmit(now, self.pipe.out());
        self.pipe.end(is_in_order, patience).await;
    }
}

/// When that is, by tokio's clock.
fn instant(now: Now, deadline: Duration) -> Instant {
    Instant::now() + deadline.saturating_sub(now.monotonic)
}
