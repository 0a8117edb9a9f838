//! The first bytes of a connection: what it is for, and whether it is taken.
//!
//! ```text
//! dialler:   "MBUS"  version  channel
//! listener:  "MBUS"  version  verdict
//! ```
//! The dialler waits for the verdict before it sends anything else. It costs one round trip per connection, and buys that
//! either end knows why there is none: with TLS 1.3 a client has finished its handshake before the server has looked at
//! its certificate, so a refusal would look like a broken connection.
//!
//! The version counts changes after which the two ends would not understand one another. A listener answers in its own
//! version, so the dialler can say which two they are.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Channel;

/// What both ends begin with.
const MAGIC: [u8; 4] = *b"MBUS";

/// The version of the protocol.
const VERSION: u8 = 1;

/// What a listener says to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Verdict {
    /// It is taken.
    #[error("welcome")]
    Welcome,
    /// The certificate is of another region.
    #[error("it is in another region than this node's certificate")]
    Region,
    /// The version is another.
    #[error("it speaks another version of the protocol")]
    Version,
    /// The channel is unknown.
    #[error("it does not know the channel")]
    Channel,
    /// There are as many connections as there may be.
    #[error("it has as many connections as it may have")]
    Full,
}

impl Verdict {
    const ALL: [Self; 5] = [Self::Welcome, Self::Region, Self::Version, Self::Channel, Self::Full];
}

/// Why there was no greeting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetingError {
    /// What came is none.
    #[error("what it says is not the protocol of nodes")]
    Garbage,
    /// Nothing came, or nothing went.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Says what the connection is for, and waits for the verdict.
///
/// # Errors
/// [`GreetingError`]
pub(crate) async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    channel: Channel,
) -> Result<Verdict, GreetingError> {
    say(stream, channel as u8).await?;
    let (_, verdict) = hear(stream).await?;
    Verdict::ALL.into_iter().find(|known| *known as u8 == verdict).ok_or(GreetingError::Garbage)
}

/// Reads what a connection is for; the verdict, if that speaks against it already.
///
/// # Errors
/// [`GreetingError`]
pub(crate) async fn listen<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Result<Channel, Verdict>, GreetingError> {
    let (version, channel) = hear(stream).await?;
    if version != VERSION {
        return Ok(Err(Verdict::Version));
    }
    Ok(Channel::ALL.into_iter().find(|known| *known as u8 == channel).ok_or(Verdict::Channel))
}

/// Tells the verdict.
///
/// # Errors
/// Those of the stream.
pub(crate) async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, verdict: Verdict) -> io::Result<()> {
    say(stream, verdict as u8).await
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, what: u8) -> io::Result<()> {
    let [a, b, c, d] = MAGIC;
    stream.write_all(&[a, b, c, d, VERSION, what]).await?;
    stream.flush().await
}

async fn hear<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(u8, u8), GreetingError> {
    let mut bytes = [0; MAGIC.len() + 2];
    stream.read_exact(&mut bytes).await?;
    match bytes {
        [a, b, c, d, version, what] if [a, b, c, d] == MAGIC => Ok((version, what)),
        _ => Err(GreetingError::Garbage),
    }
}

#[cfg(test)]
mod tests {
    use super::{Channel, GreetingError, MAGIC, VERSION, Verdict, answer, dial, listen};

    #[tokio::test]
    async fn both_ends_learn_what_the_other_says() {
        for (channel, verdict) in Channel::ALL.into_iter().zip(Verdict::ALL) {
            let (mut here, mut there) = tokio::io::duplex(64);
            let listener = async {
                let heard = listen(&mut there).await.unwrap();
                answer(&mut there, verdict).await.unwrap();
                heard
            };
            let (told, heard) = tokio::join!(dial(&mut here, channel), listener);
            assert_eq!((told.unwrap(), heard), (verdict, Ok(channel)));
        }
    }

    #[tokio::test]
    async fn another_version_channel_or_protocol_is_told_apart() {
        let with = |version, channel| [&MAGIC[..], &[version, channel]].concat();
        assert_eq!(listen(&mut &with(VERSION + 1, 1)[..]).await.unwrap(), Err(Verdict::Version));
        assert_eq!(listen(&mut &with(VERSION, 99)[..]).await.unwrap(), Err(Verdict::Channel));
        assert!(matches!(listen(&mut &b"GET / HTTP/1.1"[..]).await, Err(GreetingError::Garbage)));
        assert!(matches!(listen(&mut &MAGIC[..]).await, Err(GreetingError::Io(_))));
    }
}
