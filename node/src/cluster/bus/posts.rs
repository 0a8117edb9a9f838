//! Posts: the sending end of a connection on which messages go one way.
//!
//! Nothing is ever sent back, so whatever can be read means that the connection has ended. That is watched, or the first
//! message to a node that has restarted would go to the one that it was.

use std::io;

use futures_util::SinkExt;
use metrics::counter;
use tokio::{io::AsyncReadExt, time::sleep};
use tokio_util::{bytes::Bytes, codec::FramedWrite};

use super::{
    BusStream, calls, codec,
    dialler::Bus,
    lines::{Line, Queue},
};
use crate::admin::metrics::names;

/// The task of a line of posts: connects while there are messages, and loses those that cannot go.
pub(super) async fn run(bus: Bus, line: Line, mut queue: Queue<Bytes>) {
    let mut is_repeated = false;
    while let Some(first) = queue.next().await {
        match bus.dial(&line).await {
            Ok(stream) => {
                is_repeated = false;
                match send(stream, &line, first, &mut queue).await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!(address = %line.address, %error, "connection for gossip has ended"),
                }
            }
            Err(error) => {
                calls::tell(&line, &error, is_repeated);
                is_repeated = true;
                sleep(error.pause()).await;
                count_lost(1 + std::iter::from_fn(|| queue.try_next()).count() as u64);
            }
        }
    }
}

/// Sends messages until there are none for long; an error if the connection ends before.
async fn send(stream: BusStream, line: &Line, first: Bytes, queue: &mut Queue<Bytes>) -> io::Result<()> {
    let (mut reader, writer) = tokio::io::split(stream);
    let write = async {
        let (mut writer, mut next) = (FramedWrite::new(writer, codec(line.channel)), Some(first));
        while let Some(message) = next {
            writer.send(message).await?;
            next = queue.next().await;
        }
        Ok(())
    };
    tokio::select! {
        written = write => written,
        read = reader.read_u8() => Err(read.map_or_else(|error| error, |_| io::ErrorKind::InvalidData.into())),
    }
}

/// Counts messages that were lost.
pub(super) fn count_lost(messages: u64) {
    counter!(names::BUS_POSTS_LOST_TOTAL).increment(messages);
}
