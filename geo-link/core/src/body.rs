//! The body of a batch: feed items, column by column.
//!
//! Records of one moment are alike: they are of one origin, their stamps lie close together, their keys share
//! prefixes, their values share fields. Laid out row by row those likenesses are 100 bytes apart and broken up by
//! numbers that are like nothing. Laid out by column, lz4 finds them, and numbers become small differences.
//!
//! ```text
//! body    = column length * 9 (varint), then the columns in this order
//! kinds   = one byte per item: what it is (low seven bits), and whether its origin is a new one (high bit)
//! origins = two bytes, little-endian, for each new origin
//! times   = per stamp, the difference to the stamp before it (zigzag varint, modulo 2^64)
//! slots   = two bytes, little-endian: one for a slot's begin and end, two for a flush
//! seens   = per slot's end: count, then origin and time (zigzag difference to the time before it) of each;
//!           per claim: origin, epoch, count (varints), then the first and last slot of each run
//! expiries= per value that expires, the difference in ms to the expiry before it (zigzag varint)
//! lengths = per record the key's length, per value also the value's (varint)
//! keys, values = the bytes
//! ```
//!
//! A record's slot is not sent: it is a function of the key, and so no sender can put a key into a slot where it does
//! not belong.
//!
//! # Reading
//! [`Layout::of`] cuts the columns, reads all stamps and knows their range, without looking at keys and values. So
//! whoever must decide by time (is this batch too far ahead of the clock?) can do so before anything is applied.
//! [`Layout::items`] then gives items that borrow from the body. Every length is checked; an error in the middle ends
//! the items. What was applied before it does no harm: records are states, and nothing was marked as seen.

use std::sync::Arc;

use clock::{Origin, Stamp, Time};
use integer_encoding::VarInt;
use node_core::{
    slot::{Slot, SlotRange, SlotSet},
    store::{Expiry, FeedItem, Record, Seen, State},
};

use crate::limits::ORIGINS_MAX;

/// Why a body's columns make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The columns are longer or shorter than the body, or than what the kinds call for.
    #[error("column of {0} has the wrong length")]
    Length(&'static str),
    /// A number is not a varint, or out of range.
    #[error("number out of range in the column of {0}")]
    Number(&'static str),
    /// An item of a kind that does not exist.
    #[error("unknown kind of item {0}")]
    Kind(u8),
    /// Two bytes that name no origin, or a first item without one.
    #[error("no origin")]
    Origin,
    /// A slot past the last, or an empty run of slots.
    #[error("no such slot")]
    Slot,
    /// The envelope says another range of stamps.
    #[error("stamps outside the range of the envelope")]
    Range,
}

/// The least and the greatest time of a batch's stamps, and of what it says of `seen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// The least.
    pub first: Time,
    /// The greatest.
    pub last: Time,
}

impl TimeRange {
    /// No stamps at all.
    pub const EMPTY: Self = Self { first: Time::MAX, last: Time::ZERO };

    fn add(&mut self, time: Time) {
        self.first = self.first.min(time);
        self.last = self.last.max(time);
    }
}

/// What an item is; the low seven bits of its byte.
mod kind {
    pub(super) const VALUE: u8 = 0;
    pub(super) const EXPIRING: u8 = 1;
    pub(super) const TOMBSTONE: u8 = 2;
    pub(super) const EVICTED: u8 = 3;
    pub(super) const FLUSH: u8 = 4;
    pub(super) const BEGIN: u8 = 5;
    pub(super) const BEGIN_WHOLE: u8 = 6;
    pub(super) const END: u8 = 7;
    pub(super) const END_WHOLE: u8 = 8;
    pub(super) const WATERMARK: u8 = 9;
    pub(super) const SPEAKS: u8 = 10;
    /// Set if the item's origin is another than that of the item before.
    pub(super) const NEW_ORIGIN: u8 = 0x80;

    pub(super) const fn has_stamp(kind: u8) -> bool {
        !matches!(kind, BEGIN | BEGIN_WHOLE | END | SPEAKS)
    }
}

/// Collects items into columns. Reused from batch to batch.
#[derive(Debug)]
pub struct BodyWriter {
    kinds: Vec<u8>,
    origins: Vec<u8>,
    times: Vec<u8>,
    slots: Vec<u8>,
    seens: Vec<u8>,
    expiries: Vec<u8>,
    lengths: Vec<u8>,
    keys: Vec<u8>,
    values: Vec<u8>,
    last: Last,
    range: TimeRange,
}

/// What the next number is a difference to.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    origin: u16,
    time: u64,
    seen: u64,
    expiry: u64,
}

impl Default for BodyWriter {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            origins: Vec::new(),
            times: Vec::new(),
            slots: Vec::new(),
            seens: Vec::new(),
            expiries: Vec::new(),
            lengths: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            last: Last::default(),
            range: TimeRange::EMPTY,
        }
    }
}

impl BodyWriter {
    /// An empty body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an item. Returns by how many bytes the body grew.
    pub fn push(&mut self, item: &FeedItem<'_>) -> usize {
        let before = self.bytes();
        match item {
            FeedItem::Record { record, .. } => self.put_record(record),
            FeedItem::Flush { slots, stamp } => {
                self.put_stamped(kind::FLUSH, *stamp);
                self.put_slot(slots.first);
                self.put_slot(slots.last);
            }
            FeedItem::SlotBegin { slot, whole } => {
                self.kinds.push(if *whole { kind::BEGIN_WHOLE } else { kind::BEGIN });
                self.put_slot(*slot);
            }
            FeedItem::SlotEnd { slot, floor, seen } => {
                match floor {
                    Some(floor) => self.put_stamped(kind::END_WHOLE, *floor),
                    None => self.kinds.push(kind::END),
                }
                self.put_slot(*slot);
                self.put_seen(seen);
            }
            FeedItem::Speaks { origin, epoch, slots } => {
                self.kinds.push(kind::SPEAKS);
                self.put_claim(*origin, *epoch, slots);
            }
            FeedItem::Watermark { origin, time } => {
                self.put_stamped(kind::WATERMARK, Stamp { time: *time, origin: *origin });
            }
        }
        self.bytes() - before
    }

    /// How many items there are.
    pub const fn count(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// How many bytes the columns hold.
    pub fn bytes(&self) -> usize {
        self.columns().iter().map(|column| column.len()).sum()
    }

    /// The range of all stamps.
    pub const fn range(&self) -> TimeRange {
        self.range
    }

    /// Writes the body to `out`, which is cleared before, and begins anew.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.clear();
        for column in self.columns() {
            put_varint(out, column.len() as u64);
        }
        for column in self.columns() {
            out.extend_from_slice(column);
        }
        self.clear();
    }

    fn clear(&mut self) {
        for column in self.columns_mut() {
            column.clear();
            if column.capacity() > crate::limits::BUFFER_BYTES_KEPT {
                *column = Vec::new();
            }
        }
        self.last = Last::default();
        self.range = TimeRange::EMPTY;
    }

    fn put_record(&mut self, record: &Record<'_>) {
        let (kind, value) = match record.state {
            State::Value { bytes, expiry: None } => (kind::VALUE, Some(bytes)),
            State::Value { bytes, expiry: Some(expiry) } => {
                put_difference(&mut self.expiries, &mut self.last.expiry, expiry.unix_ms());
                (kind::EXPIRING, Some(bytes))
            }
            State::Tombstone => (kind::TOMBSTONE, None),
            State::Evicted => (kind::EVICTED, None),
        };
        self.put_stamped(kind, record.stamp);
        put_varint(&mut self.lengths, record.key.len() as u64);
        self.keys.extend_from_slice(record.key);
        if let Some(value) = value {
            put_varint(&mut self.lengths, value.len() as u64);
            self.values.extend_from_slice(value);
        }
    }

    fn put_stamped(&mut self, kind: u8, stamp: Stamp) {
        let origin = stamp.origin.bits();
        let is_new = origin != self.last.origin;
        if is_new {
            self.origins.extend_from_slice(&origin.to_le_bytes());
            self.last.origin = origin;
        }
        self.kinds.push(if is_new { kind | kind::NEW_ORIGIN } else { kind });
        put_difference(&mut self.times, &mut self.last.time, stamp.time.ntp64());
        self.range.add(stamp.time);
    }

    fn put_slot(&mut self, slot: Slot) {
        self.slots.extend_from_slice(&slot.number().to_le_bytes());
    }

    fn put_seen(&mut self, seen: &Seen) {
        put_varint(&mut self.seens, seen.iter().len() as u64);
        for (origin, time) in seen.iter() {
            self.seens.extend_from_slice(&origin.bits().to_le_bytes());
            put_difference(&mut self.seens, &mut self.last.seen, time.ntp64());
            self.range.add(time);
        }
    }

    fn put_claim(&mut self, origin: Origin, epoch: u64, slots: &SlotSet) {
        let ranges = slots.ranges();
        self.seens.extend_from_slice(&origin.bits().to_le_bytes());
        put_varint(&mut self.seens, epoch);
        put_varint(&mut self.seens, ranges.len() as u64);
        for range in ranges {
            self.seens.extend_from_slice(&range.first.number().to_le_bytes());
            self.seens.extend_from_slice(&range.last.number().to_le_bytes());
        }
    }

    const fn columns(&self) -> [&Vec<u8>; COLUMNS] {
        let Self { kinds, origins, times, slots, seens, expiries, lengths, keys, values, .. } = self;
        [kinds, origins, times, slots, seens, expiries, lengths, keys, values]
    }

    const fn columns_mut(&mut self) -> [&mut Vec<u8>; COLUMNS] {
        let Self { kinds, origins, times, slots, seens, expiries, lengths, keys, values, .. } = self;
        [kinds, origins, times, slots, seens, expiries, lengths, keys, values]
    }
}

/// Where the columns of a body lie, found once and kept beside the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Where each column begins; the last is where the body ends.
    bounds: [usize; COLUMNS + 1],
    range: TimeRange,
}

/// What is left to read of each column.
#[derive(Clone, Copy, Debug, Default)]
struct Columns<'a> {
    kinds: &'a [u8],
    origins: &'a [u8],
    times: &'a [u8],
    slots: &'a [u8],
    seens: &'a [u8],
    expiries: &'a [u8],
    lengths: &'a [u8],
    keys: &'a [u8],
    values: &'a [u8],
}

impl Layout {
    /// Cuts the columns and reads the stamps of `count` items.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn of(bytes: &[u8], count: usize) -> Result<Self, BodyError> {
        let bounds = cut(bytes)?;
        let columns = Columns::new(bytes, &bounds);
        if columns.kinds.len() != count {
            return Err(BodyError::Length("kinds"));
        }
        let mut reader = Items::new(columns);
        let mut range = TimeRange::EMPTY;
        for byte in columns.kinds {
            let kind = byte & !kind::NEW_ORIGIN;
            if kind > kind::SPEAKS {
                return Err(BodyError::Kind(kind));
            }
            if kind::has_stamp(kind) {
                range.add(reader.take_stamp(*byte)?.time);
            }
            match kind {
                kind::END | kind::END_WHOLE => reader.take_seen()?.iter().for_each(|(_, time)| range.add(time)),
                kind::SPEAKS => drop(reader.take_claim()?),
                _ => {}
            }
        }
        ended("origins", reader.columns.origins).and(ended("times", reader.columns.times))?;
        Ok(Self { bounds, range })
    }

    /// The range of all stamps, as they were read.
    pub const fn range(&self) -> TimeRange {
        self.range
    }

    /// The items of the body whose layout this is, in their order; after an error there are none.
    pub fn items<'a>(&self, bytes: &'a [u8]) -> Items<'a> {
        Items::new(Columns::new(bytes, &self.bounds))
    }
}

/// The items of a body.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    columns: Columns<'a>,
    last: Last,
    has_failed: bool,
}

impl<'a> Items<'a> {
    const fn new(columns: Columns<'a>) -> Self {
        Self { columns, last: Last { origin: 0, time: 0, seen: 0, expiry: 0 }, has_failed: false }
    }

    fn take_item(&mut self, byte: u8) -> Result<FeedItem<'a>, BodyError> {
        match byte & !kind::NEW_ORIGIN {
            kind @ (kind::VALUE | kind::EXPIRING | kind::TOMBSTONE | kind::EVICTED) => self.take_record(byte, kind),
            kind::FLUSH => {
                let stamp = self.take_stamp(byte)?;
                let (first, last) = (self.take_slot()?, self.take_slot()?);
                let slots = SlotRange::new(first.number()..last.number() + 1).ok_or(BodyError::Slot)?;
                Ok(FeedItem::Flush { slots, stamp })
            }
            kind @ (kind::BEGIN | kind::BEGIN_WHOLE) => {
                Ok(FeedItem::SlotBegin { slot: self.take_slot()?, whole: kind == kind::BEGIN_WHOLE })
            }
            kind @ (kind::END | kind::END_WHOLE) => {
                let floor = if kind == kind::END_WHOLE { Some(self.take_stamp(byte)?) } else { None };
                Ok(FeedItem::SlotEnd { slot: self.take_slot()?, floor, seen: self.take_seen()? })
            }
            kind::SPEAKS => self.take_claim(),
            kind::WATERMARK => {
                let Stamp { time, origin } = self.take_stamp(byte)?;
                Ok(FeedItem::Watermark { origin, time })
            }
            kind => Err(BodyError::Kind(kind)),
        }
    }

    fn take_record(&mut self, byte: u8, kind: u8) -> Result<FeedItem<'a>, BodyError> {
        let stamp = self.take_stamp(byte)?;
        let key = {
            let length = take_length("lengths", &mut self.columns.lengths)?;
            take("keys", &mut self.columns.keys, length)?
        };
        let expiry = match kind {
            kind::EXPIRING => Some(take_difference("expiries", &mut self.columns.expiries, &mut self.last.expiry)?),
            _ => None,
        };
        let state = match kind {
            kind::TOMBSTONE => State::Tombstone,
            kind::EVICTED => State::Evicted,
            _ => {
                let length = take_length("lengths", &mut self.columns.lengths)?;
                let bytes = take("values", &mut self.columns.values, length)?;
                State::Value { bytes, expiry: expiry.map(Expiry::at_unix_ms) }
            }
        };
        Ok(FeedItem::Record { slot: Slot::of(key), record: Record { key, stamp, state } })
    }

    fn take_stamp(&mut self, byte: u8) -> Result<Stamp, BodyError> {
        if byte & kind::NEW_ORIGIN != 0 {
            self.last.origin = take_u16("origins", &mut self.columns.origins)?;
        }
        let origin = Origin::from_bits(self.last.origin).map_err(|_| BodyError::Origin)?;
        let time = take_difference("times", &mut self.columns.times, &mut self.last.time)?;
        Ok(Stamp { time: Time::from_ntp64(time), origin })
    }

    fn take_slot(&mut self) -> Result<Slot, BodyError> {
        Slot::new(take_u16("slots", &mut self.columns.slots)?).ok_or(BodyError::Slot)
    }

    fn take_seen(&mut self) -> Result<Seen, BodyError> {
        let count = take_length("seens", &mut self.columns.seens)?;
        if count > ORIGINS_MAX {
            return Err(BodyError::Number("seens"));
        }
        let pair = |_| {
            let origin = take_u16("seens", &mut self.columns.seens)?;
            let origin = Origin::from_bits(origin).map_err(|_| BodyError::Origin)?;
            let time = take_difference("seens", &mut self.columns.seens, &mut self.last.seen)?;
            Ok((origin, Time::from_ntp64(time)))
        };
        (0..count).map(pair).collect()
    }

    fn take_claim(&mut self) -> Result<FeedItem<'a>, BodyError> {
        let column = &mut self.columns.seens;
        let origin = Origin::from_bits(take_u16("seens", column)?).map_err(|_| BodyError::Origin)?;
        let (epoch, count) = (take_number("seens", column)?, take_length("seens", column)?);
        let mut slots = SlotSet::new();
        for _ in 0..count {
            let (first, last) = (take_u16("seens", column)?, take_u16("seens", column)?);
            let run = SlotRange::new(first..last.saturating_add(1)).ok_or(BodyError::Slot)?;
            slots.extend(run.iter());
        }
        Ok(FeedItem::Speaks { origin, epoch, slots: Arc::new(slots) })
    }

    /// Whether the columns end where the kinds do.
    fn check_end(&self) -> Result<(), BodyError> {
        let Columns { slots, seens, expiries, lengths, keys, values, .. } = self.columns;
        let rest = [("slots", slots), ("seens", seens), ("expiries", expiries), ("lengths", lengths)];
        rest.into_iter().chain([("keys", keys), ("values", values)]).try_for_each(|(name, rest)| ended(name, rest))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<FeedItem<'a>, BodyError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let item = match self.columns.kinds.split_first() {
            Some((byte, rest)) => {
                self.columns.kinds = rest;
                self.take_item(*byte)
            }
            None => match self.check_end() {
                Ok(()) => return None,
                Err(error) => Err(error),
            },
        };
        self.has_failed = item.is_err();
        Some(item)
    }
}

impl<'a> Columns<'a> {
    /// The columns that lie between `bounds`; those of another body are empty.
    fn new(bytes: &'a [u8], bounds: &[usize; COLUMNS + 1]) -> Self {
        let mut columns = [&[][..]; COLUMNS];
        for (column, bound) in columns.iter_mut().zip(bounds.windows(2)) {
            *column = bytes.get(bound[0]..bound[1]).unwrap_or_default();
        }
        let [kinds, origins, times, slots, seens, expiries, lengths, keys, values] = columns;
        Self { kinds, origins, times, slots, seens, expiries, lengths, keys, values }
    }
}

/// Reads the lengths of the columns and gives their bounds.
fn cut(bytes: &[u8]) -> Result<[usize; COLUMNS + 1], BodyError> {
    let mut rest = bytes;
    let mut bounds = [0; COLUMNS + 1];
    for length in &mut bounds[1..] {
        *length = take_length("columns", &mut rest)?;
    }
    bounds[0] = bytes.len() - rest.len();
    for index in 1..=COLUMNS {
        bounds[index] = bounds[index - 1].checked_add(bounds[index]).ok_or(BodyError::Length("columns"))?;
    }
    if bounds[COLUMNS] == bytes.len() { Ok(bounds) } else { Err(BodyError::Length("columns")) }
}

const COLUMNS: usize = 9;

fn put_varint(out: &mut Vec<u8>, number: u64) {
    let mut bytes = [0; 10];
    let length = number.encode_var(&mut bytes);
    out.extend_from_slice(&bytes[..length]);
}

/// Writes how far `number` lies above `last`, modulo 2^64.
fn put_difference(out: &mut Vec<u8>, last: &mut u64, number: u64) {
    let mut bytes = [0; 10];
    let length = number.wrapping_sub(*last).cast_signed().encode_var(&mut bytes);
    out.extend_from_slice(&bytes[..length]);
    *last = number;
}

fn take_difference(name: &'static str, column: &mut &[u8], last: &mut u64) -> Result<u64, BodyError> {
    let (difference, length) = i64::decode_var(column).ok_or(BodyError::Number(name))?;
    *column = &column[length..];
    *last = last.wrapping_add(difference.cast_unsigned());
    Ok(*last)
}

fn take_length(name: &'static str, column: &mut &[u8]) -> Result<usize, BodyError> {
    usize::try_from(take_number(name, column)?).map_err(|_| BodyError::Number(name))
}

fn take_number(name: &'static str, column: &mut &[u8]) -> Result<u64, BodyError> {
    let (number, length) = u64::decode_var(column).ok_or(BodyError::Number(name))?;
    *column = &column[length..];
    Ok(number)
}

fn take_u16(name: &'static str, column: &mut &[u8]) -> Result<u16, BodyError> {
    let (bytes, rest) = column.split_first_chunk::<2>().ok_or(BodyError::Length(name))?;
    *column = rest;
    Ok(u16::from_le_bytes(*bytes))
}

fn take<'a>(name: &'static str, column: &mut &'a [u8], length: usize) -> Result<&'a [u8], BodyError> {
    let (taken, rest) = column.split_at_checked(length).ok_or(BodyError::Length(name))?;
    *column = rest;
    Ok(taken)
}

const fn ended(name: &'static str, rest: &[u8]) -> Result<(), BodyError> {
    if rest.is_empty() { Ok(()) } else { Err(BodyError::Length(name)) }
}
