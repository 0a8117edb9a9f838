//! One end of a connection: a real socket on one side, the line out and the line in on the other.
//!
//! Client's end and target's end differ in the handshake alone, and are the same code after it. The kernel has accepted
//! the client before the proxy hears of it, so the client's `connect` returns at once; but nothing it sends is read
//! before the handshake has crossed the lines, so it sees of the connection what it would see over a real WAN:
//!
//! ```text
//! client      client's end                                        target's end      target
//!   | connect     |                                                     |              |
//!   |------------>| Open -------------------- line there -------------> |   connect    |
//!   |             |                                                     |------------->|
//!   |             | <--------------------- line back ---------- Accept  |              |
//!   |  (reading)  | Ready, Data… ------------------------------------>  | (reading)    |
//! ```
//!
//! After that an end reads and writes at the same time, until both directions have ended or one was broken. End of
//! stream and reset travel in line with the data, so what was sent before them arrives before them.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use super::{
    hub::{Connection, Gone, Inbox, Packet},
    socket::Socket,
};
use crate::{
    limits::{READ_BLOCK, READ_ROOM_MIN},
    model::{Frame, Way},
    topology::Target,
};

/// One end of a connection.
pub(super) struct End<'a> {
    connection: &'a Connection,
    /// The way of what is read from the socket here.
    out: Way,
    inbox: Inbox,
}

/// Why an end stops before both directions have ended. Its socket is then reset.
#[derive(Debug)]
enum Broken {
    /// The socket here: the other end has to be told.
    Here,
    /// The connection as a whole, or the other end.
    There,
}

impl From<Gone> for Broken {
    fn from(Gone: Gone) -> Self {
        Self::There
    }
}

impl<'a> End<'a> {
    pub(super) fn new(connection: &'a Connection, out: Way, inbox: Inbox) -> Self {
        Self { connection, out, inbox }
    }

    /// Runs the client's end: asks the other side, and lets bytes in when it has answered.
    pub(super) async fn run_client(mut self, client: Socket) {
        // A refused send means that the connection is gone, and then no answer comes either.
        let _ = self.connection.send(self.out, Frame::Open).await;
        if let Some(Frame::Accept) = self.receive().await {
            let _ = self.connection.send(self.out, Frame::Ready).await;
            self.talk(client).await;
        }
    }

    /// Runs the target's end: dials when it is asked to, answers, and lets bytes in when that has arrived.
    pub(super) async fn run_target(mut self, target: &Target) {
        let Some(Frame::Open) = self.receive().await else { return };
        let socket = match TcpStream::connect(target.as_str()).await.and_then(Socket::new) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::debug!(connection = %self.connection.id(), address = %target, %error, "target not reached");
                let _ = self.connection.send(self.out, Frame::Reset).await;
                return;
            }
        };
        let _ = self.connection.send(self.out, Frame::Accept).await;
        if let Some(Frame::Ready) = self.receive().await {
            self.talk(socket).await;
        }
    }

    /// Takes the next packet of the handshake.
    async fn receive(&mut self) -> Option<Packet> {
        let packet = self.inbox.recv().await?;
        self.connection.release(self.out.reverse(), packet.size());
        Some(packet)
    }

    /// Carries bytes both ways, to the end of both.
    async fn talk(mut self, mut socket: Socket) {
        let (reader, writer) = socket.stream().split();
        let outcome = tokio::try_join!(
            read_socket(self.connection, self.out, reader),
            write_socket(self.connection, self.out.reverse(), &mut self.inbox, writer),
        );
        match outcome {
            Ok(_) => socket.close(),
            Err(Broken::There) => {}
            Err(Broken::Here) => {
                drop(socket);
                let _ = self.connection.send(self.out, Frame::Reset).await;
            }
        }
    }
}

/// From the socket into the line, no faster than the line takes it.
async fn read_socket(connection: &Connection, way: Way, mut reader: ReadHalf<'_>) -> Result<(), Broken> {
    let mut block = BytesMut::new();
    loop {
        let most = connection.room(way).await?;
        let Some(bytes) = read_chunk(&mut reader, &mut block, most).await? else { break };
        connection.send(way, Frame::Data(bytes)).await?;
    }
    connection.send(way, Frame::End).await?;
    Ok(())
}

/// Reads what is there, up to `most` bytes, as a slice of `block`. None at the end of the stream.
async fn read_chunk(reader: &mut ReadHalf<'_>, block: &mut BytesMut, most: usize) -> Result<Option<Bytes>, Broken> {
    loop {
        // Wait first: a silent connection then holds no block.
        reader.readable().await.map_err(|_| Broken::Here)?;
        if block.capacity() < READ_ROOM_MIN {
            *block = BytesMut::with_capacity(READ_BLOCK);
        }
        match reader.try_read_buf(&mut block.limit(most)) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(block.split().freeze())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Broken::Here),
        }
    }
}

/// From the line into the socket; what the kernel has taken is released.
async fn write_socket(
    connection: &Connection,
    way: Way,
    inbox: &mut Inbox,
    mut writer: WriteHalf<'_>,
) -> Result<(), Broken> {
    while let Some(packet) = inbox.recv().await {
        let size = packet.size();
        match packet {
            Frame::Data(bytes) => writer.write_all(&bytes).await.map_err(|_| Broken::Here)?,
            Frame::End => {
                writer.shutdown().await.map_err(|_| Broken::Here)?;
                connection.release(way, size);
                return Ok(());
            }
            Frame::Reset => return Err(Broken::There),
            // Each end sends its part of the handshake once, before all else.
            Frame::Open | Frame::Accept | Frame::Ready => {}
        }
        connection.release(way, size);
    }
    Err(Broken::There)
}
