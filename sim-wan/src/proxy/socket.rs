//! A TCP socket that resets its peer unless it was closed in order.
//!
//! A proxy that closes a socket for any reason but an orderly end must say so to the peer; a plain close would send a
//! FIN, and a stream cut short would look like one that is complete. So the reset is what happens by itself, on every
//! way out of a task, and the orderly close is what has to be asked for.

use std::io;

use tokio::net::TcpStream;

/// A socket with TCP_NODELAY; resets its peer when dropped, unless [`close`](Socket::close)d.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    in_order: bool,
}

impl Socket {
    /// Takes an accepted or connected stream.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, in_order: false })
    }

    /// The stream, to read from and write to.
    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Closes it in order: both directions have ended.
    pub(super) fn close(mut self) {
        self.in_order = true;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.in_order {
            // Fails only if the socket is gone, and then there is nobody to reset.
            let _ = self.stream.set_zero_linger();
        }
    }
}
