//! What travels between two members: foca's packets, read here before foca sees them.
//!
//! A packet is a header (from whom, to whom, what) and news of members, as postcard. foca itself believes whatever it can
//! decode; this is where what comes from outside is bounded. Everything in a packet has a fixed greatest size, so the bound
//! on the packet bounds all that it can hold.

use bytes::{Buf, BufMut, Bytes};
use foca::{Codec, Header, Member, Message, PostcardCodec};

use super::{GossipError, life::Life};
use crate::limits::GOSSIP_PACKET_BYTES_MAX;

/// A packet, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) header: Header<Life>,
    pub(super) news: Vec<Member<Life>>,
}

impl Packet {
    /// One that this process makes itself.
    pub(super) const fn new(from: Life, to: Life, message: Message<Life>, news: Vec<Member<Life>>) -> Self {
        // The incarnation of the sender is foca's secret; zero says nothing, as a lower one always does.
        Self { header: Header { src: from, src_incarnation: 0, dst: to, message }, news }
    }

    /// Takes apart what came from outside.
    pub(super) fn read(mut bytes: &[u8]) -> Result<Self, GossipError> {
        if bytes.len() > GOSSIP_PACKET_BYTES_MAX {
            return Err(GossipError::TooLong(bytes.len()));
        }
        let header = PostcardCodec.decode_header(&mut bytes).map_err(|_| GossipError::Malformed)?;
        let bears_news = !matches!(header.message, Message::Announce | Message::TurnUndead);
        if matches!(header.message, Message::Broadcast) || (!bears_news && !bytes.is_empty()) {
            return Err(GossipError::Malformed);
        }
        let count = if bytes.is_empty() { 0 } else { bytes.try_get_u16().map_err(|_| GossipError::Malformed)? };
        // Not reserved: the count is only a claim.
        let mut news = Vec::new();
        for _ in 0..count {
            news.push(PostcardCodec.decode_member(&mut bytes).map_err(|_| GossipError::Malformed)?);
        }
        if bytes.is_empty() { Ok(Self { header, news }) } else { Err(GossipError::Malformed) }
    }

    /// The bytes; none if that were too many.
    pub(super) fn write(&self) -> Option<Bytes> {
        let mut bytes = Vec::with_capacity(256).limit(GOSSIP_PACKET_BYTES_MAX);
        PostcardCodec.encode_header(&self.header, &mut bytes).ok()?;
        if !self.news.is_empty() {
            if bytes.remaining_mut() < size_of::<u16>() {
                return None;
            }
            bytes.put_u16(u16::try_from(self.news.len()).ok()?);
            self.news.iter().try_for_each(|member| PostcardCodec.encode_member(member, &mut bytes)).ok()?;
        }
        Some(bytes.into_inner().into())
    }

    /// The third party that the message is about, if there is one.
    pub(super) const fn third(&self) -> Option<Life> {
        match &self.header.message {
            Message::PingReq { target: third, .. }
            | Message::IndirectPing { origin: third, .. }
            | Message::IndirectAck { target: third, .. }
            | Message::ForwardedAck { origin: third, .. } => Some(*third),
            _ => None,
        }
    }

    /// The lives of the node that it is sent to of which it tells or supposes.
    pub(super) fn receiver_lives(&self) -> impl Iterator<Item = Life> {
        let node = self.header.dst.node;
        let told = self.news.iter().map(|member| *member.id()).filter(move |life| life.node == node);
        told.chain([self.header.dst])
    }
}
