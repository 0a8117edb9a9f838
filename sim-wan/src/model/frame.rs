//! What a TCP connection sends over a line: the packets that its user can tell apart.
//!
//! A connection is made by three of them (RFC 9293, 3.5): [`Open`](Frame::Open) to the other side, which dials;
//! [`Accept`](Frame::Accept) back, or [`Reset`](Frame::Reset) if nobody listens; [`Ready`](Frame::Ready) to the other
//! side again. So the opener may send after one round trip, and its first bytes arrive after one and a half, right
//! behind `Ready`; the other side may send when that arrives. All of them take their place in line with the data, and
//! are delayed, lost and mended as data is.

/// One thing on its way over a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<T> {
    /// The handshake's first packet, SYN.
    Open,
    /// Its second, SYN and ACK.
    Accept,
    /// Its third, ACK.
    Ready,
    /// Bytes.
    Data(T),
    /// No more data from this side, FIN.
    End,
    /// The connection is gone, RST.
    Reset,
}

impl<T: AsRef<[u8]>> Frame<T> {
    /// The bytes that count against rates and windows: those of the payload alone.
    pub fn size(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.as_ref().len(),
            Self::Open | Self::Accept | Self::Ready | Self::End | Self::Reset => 0,
        }
    }
}
