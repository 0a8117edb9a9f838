//! Batches: a body in its envelope, packed and unpacked.
//!
//! The envelope says, ahead of the body, everything by which a batch can be turned away: whose it is, which in the
//! order, how far its stamps reach, and how large it becomes. So a receiver allocates nothing that it has not checked
//! (a codec of seven bytes can claim two gigabytes), and holds a batch from a clock ahead of its own unapplied.
//!
//! Packing: columns, xxh3 of the raw body, lz4 unless that makes it no smaller. The hash is of the raw body, so it
//! covers the compressor as well; TLS sees to the wire. Unpacking turns that round and ends in a [`Batch`], whose
//! items borrow from the unpacked bytes. Buffers and the compressor's table are kept from batch to batch.

use std::fmt;

use clock::{Origin, Time};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use node_core::store::Seen;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    body::{BodyError, BodyWriter, Items, Layout, TimeRange},
    frame::{FrameKind, Malformed, put_frame, put_payload, read_payload},
    limits::{BUFFER_BYTES_KEPT, COMPRESS_BYTES_MAX, COMPRESS_BYTES_MIN, LZ4_RATIO_MAX, PROTOCOL_VERSION},
    row::{Row, read_origin},
};

/// How a body was made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    Stored = 0,
    /// As an LZ4 block.
    Lz4 = 1,
}

/// What stands before a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who sends.
    pub origin: Origin,
    /// On which of its connections.
    pub epoch: u64,
    /// Which batch of this connection it is, from 1.
    pub sequence: u64,
    /// Which welcome it answers.
    pub round: u32,
    /// When it was sent, on the sender's clock.
    pub sent: Time,
    /// The range of all stamps in it.
    pub range: TimeRange,
    /// What the sender's region has seen in all its slots, now and then.
    pub seen: Option<Seen>,
}

/// The envelope as it is sent, with the body. Positional: fields are added at the end, with a default.
#[derive(Serialize, Deserialize)]
struct Wire<'a>(
    u16,                                             // version
    u16,                                             // origin
    u64,                                             // epoch
    u64,                                             // sequence
    u32,                                             // round
    u32,                                             // count
    u64,                                             // first
    u64,                                             // last
    u8,                                              // codec
    u32,                                             // raw length
    u64,                                             // xxh3 of the raw body
    u64,                                             // sent
    Row,                                             // seen
    #[serde(borrow, with = "serde_bytes")] &'a [u8], // body
);

/// How large a batch was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Items in it.
    pub count: usize,
    /// Bytes of the body before compression.
    pub raw_bytes: usize,
    /// Bytes of the frame.
    pub wire_bytes: usize,
}

/// Packs batches.
pub struct Packer {
    table: CompressTable,
    raw: Vec<u8>,
    compressed: Vec<u8>,
}

impl Default for Packer {
    fn default() -> Self {
        Self { table: CompressTable::large(), raw: Vec::new(), compressed: Vec::new() }
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    /// With empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what `body` has collected to `out` as a frame, and empties it. The range in `envelope` is not looked
    /// at: it is the body's.
    pub fn pack(&mut self, envelope: &Envelope, body: &mut BodyWriter, out: &mut Vec<u8>) -> Packed {
        let (count, range, start) = (body.count(), body.range(), out.len());
        body.finish(&mut self.raw);
        let (codec, bytes) = match compress(&self.raw, &mut self.compressed, &mut self.table) {
            Some(compressed) => (Codec::Lz4, compressed),
            None => (Codec::Stored, &self.raw[..]),
        };
        let wire = Wire(
            PROTOCOL_VERSION,
            envelope.origin.bits(),
            envelope.epoch,
            envelope.sequence,
            envelope.round,
            count as u32,
            range.first.ntp64(),
            range.last.ntp64(),
            codec as u8,
            self.raw.len() as u32,
            xxh3_64(&self.raw),
            envelope.sent.ntp64(),
            envelope.seen.as_ref().map_or_else(Row::default, Row::of),
            bytes,
        );
        put_frame(out, FrameKind::Batch, |out| put_payload(out, &wire));
        let packed = Packed { count, raw_bytes: self.raw.len(), wire_bytes: out.len() - start };
        give_back(&mut self.raw);
        give_back(&mut self.compressed);
        packed
    }
}

/// The body as an LZ4 block, if that is worth it and smaller.
fn compress<'a>(raw: &[u8], out: &'a mut Vec<u8>, table: &mut CompressTable) -> Option<&'a [u8]> {
    if !(COMPRESS_BYTES_MIN..=COMPRESS_BYTES_MAX).contains(&raw.len()) {
        return None;
    }
    out.resize(out.len().max(get_maximum_output_size(raw.len())), 0);
    let length = compress_into_with_table(raw, out, table).ok()?;
    (length < raw.len()).then_some(&out[..length])
}

/// Unpacks batches, into one buffer.
#[derive(Debug, Default)]
pub struct Unpacker {
    raw: Vec<u8>,
}

/// A batch that was unpacked; its items are read from it when they are applied.
#[derive(Debug)]
pub struct Batch {
    /// What stood before the body.
    pub envelope: Envelope,
    /// How large it was.
    pub packed: Packed,
    layout: Layout,
    raw: Vec<u8>,
}

impl Batch {
    /// The items, in their order. An error ends them.
    pub fn items(&self) -> Items<'_> {
        self.layout.items(&self.raw)
    }
}

impl Unpacker {
    /// With an empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Unpacks the payload of a batch's frame, whose body may be up to `raw_bytes_max` long.
    ///
    /// # Errors
    /// [`Malformed`]; nothing larger than `raw_bytes_max` was allocated.
    pub fn unpack(&mut self, payload: &[u8], raw_bytes_max: usize) -> Result<Batch, Malformed> {
        let wire: Wire<'_> = read_payload("batch", payload)?;
        let Wire(version, origin, epoch, sequence, round, count, first, last, codec, raw_bytes, hash, sent, row, body) =
            wire;
        let raw_bytes = raw_bytes as usize;
        if version != PROTOCOL_VERSION {
            return Err(Malformed::Payload("batch", format!("version {version}")));
        }
        if raw_bytes > raw_bytes_max || raw_bytes > body.len().saturating_mul(LZ4_RATIO_MAX) {
            return Err(Malformed::RawLength(raw_bytes));
        }
        let mut raw = std::mem::take(&mut self.raw);
        expand(codec, body, raw_bytes, &mut raw)?;
        if xxh3_64(&raw) != hash {
            return Err(Malformed::Checksum);
        }
        let range = TimeRange { first: Time::from_ntp64(first), last: Time::from_ntp64(last) };
        let layout = Layout::of(&raw, count as usize)?;
        if layout.range() != range {
            return Err(BodyError::Range.into());
        }
        let sent = Time::from_ntp64(sent);
        let envelope =
            Envelope { origin: read_origin(origin)?, epoch, sequence, round, sent, range, seen: row.read()? };
        let packed = Packed { count: count as usize, raw_bytes, wire_bytes: payload.len() + FRAME_HEAD_BYTES };
        Ok(Batch { envelope, packed, layout, raw })
    }

    /// Takes a batch's buffer back, for the next one.
    pub fn recycle(&mut self, batch: Batch) {
        self.raw = batch.raw;
        give_back(&mut self.raw);
    }
}

/// Restores the raw body. Its length has been checked.
fn expand(codec: u8, body: &[u8], raw_bytes: usize, raw: &mut Vec<u8>) -> Result<(), Malformed> {
    raw.clear();
    if codec == Codec::Stored as u8 {
        if body.len() != raw_bytes {
            return Err(Malformed::RawLength(raw_bytes));
        }
        raw.extend_from_slice(body);
        return Ok(());
    }
    if codec != Codec::Lz4 as u8 {
        return Err(Malformed::Codec(codec));
    }
    raw.resize(raw_bytes, 0);
    let length = decompress_into(body, raw).map_err(|error| Malformed::Compression(error.to_string()))?;
    if length == raw_bytes { Ok(()) } else { Err(Malformed::RawLength(raw_bytes)) }
}

/// The length and the kind of a frame.
const FRAME_HEAD_BYTES: usize = 5;

/// Gives a buffer back that a very large batch has blown up.
fn give_back(buffer: &mut Vec<u8>) {
    if buffer.capacity() > BUFFER_BYTES_KEPT {
        *buffer = Vec::new();
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
