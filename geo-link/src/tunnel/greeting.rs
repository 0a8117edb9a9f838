//! What a primary and a gateway say to one another before the link's own protocol begins.
//!
//! ```text
//! primary:  Wanted    in the first frame, which whoever takes connections has read
//! gateway:  Verdict   once it has connected to the other region, or will not
//! ```
//! The primary waits for the verdict. That costs nothing, since it could not be heard before, and it buys that the primary
//! knows whether to blame the gateway, the way, or itself.
//!
//! A frame is its length in 4 bytes, big-endian, and a value in MessagePack.

use std::io;

use clock::RegionId;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::limits::{FAREWELL, TUNNEL_NAME_BYTES_MAX, VERDICT_BYTES_MAX, WANTED_BYTES_MAX};

/// What a primary wants of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// To which region it wants to go.
    pub to: RegionId,
    /// What the gateway is to call it in its status and in its log: its id.
    pub from: String,
}

impl Wanted {
    /// The first frame, without its length.
    ///
    /// # Panics
    /// Never: what it consists of can always be written.
    pub fn to_frame(&self) -> Vec<u8> {
        rmp_serde::to_vec(self).expect("a number and a text can be written")
    }

    /// Reads a first frame.
    ///
    /// # Errors
    /// [`TunnelRefusal::Malformed`]
    pub fn read(frame: &[u8]) -> Result<Self, TunnelRefusal> {
        if frame.len() > WANTED_BYTES_MAX {
            return Err(TunnelRefusal::Malformed);
        }
        let wanted: Self = rmp_serde::from_slice(frame).map_err(|_| TunnelRefusal::Malformed)?;
        if wanted.from.len() > TUNNEL_NAME_BYTES_MAX { Err(TunnelRefusal::Malformed) } else { Ok(wanted) }
    }
}

/// What a gateway says to that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Verdict {
    /// From here on its bytes reach a gateway of that region.
    Connected,
    /// They do not, and the connection is closed.
    Refused(TunnelRefusal),
}

/// Why a gateway does not let a primary through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TunnelRefusal {
    /// What it said first cannot be read.
    #[error("it cannot read what is wanted")]
    Malformed,
    /// It does not lead to that region.
    #[error("it does not lead to that region")]
    UnknownRegion,
    /// It carries as much as it may.
    #[error("it carries as many streams as it may")]
    Full,
    /// No gateway of that region takes the connection.
    #[error("no gateway of that region is reached: {0}")]
    Unreachable(String),
    /// It is about to end.
    #[error("it is stopping")]
    Stopping,
}

impl TunnelRefusal {
    /// Whether another way to that region may be better: this one leads there, but not now, or not at all.
    pub const fn is_about_the_way(&self) -> bool {
        matches!(self, Self::UnknownRegion | Self::Unreachable(_))
    }

    /// The label of the metric.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownRegion => "region",
            Self::Full => "full",
            Self::Unreachable(_) => "unreachable",
            Self::Stopping => "stopping",
        }
    }
}

/// Waits for what a gateway says to a [`Wanted`]; once it has said yes the stream leads to the other region.
///
/// # Errors
/// Those of the stream; [`io::ErrorKind::InvalidData`] if what comes is no verdict.
pub async fn hear<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Result<(), TunnelRefusal>> {
    let length = stream.read_u32().await? as usize;
    if length > VERDICT_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what the gateway says is too long"));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    match rmp_serde::from_slice(&frame) {
        Ok(Verdict::Connected) => Ok(Ok(())),
        Ok(Verdict::Refused(refusal)) => Ok(Err(refusal)),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

/// Says what a primary's wish has come to; for no longer than [`FAREWELL`].
pub(super) async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, verdict: &Verdict) -> io::Result<()> {
    let payload = rmp_serde::to_vec(verdict).map_err(io::Error::other)?;
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let frame = [&length.to_be_bytes()[..], &payload].concat();
    let say = async {
        stream.write_all(&frame).await?;
        stream.flush().await
    };
    timeout(FAREWELL, say).await?
}
