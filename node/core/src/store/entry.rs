//! How a record lies in its block: one allocation, header inline.
//!
//! ```text
//! byte  0        flags: kind, wide, expires; zero marks a block that is not in use
//!       1 ..  4  access: when or how often it was used, for eviction (24 bits)
//!       4 ..  6  origin of the stamp
//!       6 .. 14  time of the stamp
//!      14 .. 17  narrow: length of the key (8 bits), of the value (16 bits)
//!   or 14 .. 22  wide: length of the key (32 bits), of the value (32 bits)
//!      then 8    expiry, milliseconds since the Unix epoch, if it expires
//!      then      key, value
//! ```
//!
//! So a short key and value cost 17 bytes beyond themselves, 25 with an expiry. All numbers are little-endian.
//! Redis spends 16 on the object, 3 to 5 on each string header, 24 on the dictionary's entry, and another 24 on the
//! entry in the dictionary of expiries.

use clock::{Origin, Stamp, Time};

use super::{
    heap::{Handle, Heap, HeapFull},
    record::{Expiry, Kind, Record, State, Version},
};

const KIND_MASK: u8 = 0b0000_0011;
const WIDE: u8 = 0b0000_0100;
const EXPIRES: u8 = 0b0000_1000;

const ACCESS: usize = 1;
const STAMP: usize = 4;
const LENGTHS: usize = 14;
const NARROW_END: usize = LENGTHS + 3;
const WIDE_END: usize = LENGTHS + 8;
const EXPIRY_SIZE: usize = 8;

/// An entry as it lies in the heap.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a>(&'a [u8]);

impl<'a> Entry<'a> {
    #[inline]
    pub(super) fn at(heap: &'a Heap, handle: Handle) -> Self {
        Self(heap.bytes(handle))
    }

    /// As [`at`](Self::at), for an entry of which more than the header is about to be read.
    #[inline]
    pub(super) fn fetch(heap: &'a Heap, handle: Handle) -> Self {
        Self(heap.fetch(handle))
    }

    #[inline]
    pub(super) fn kind(self) -> Kind {
        kind_of(self.0[0]).expect("a live block begins with its kind")
    }

    #[inline]
    pub(super) fn stamp(self) -> Stamp {
        let origin = u16::from_le_bytes(self.array(STAMP));
        Stamp {
            time: Time::from_ntp64(u64::from_le_bytes(self.array(STAMP + 2))),
            origin: Origin::from_bits(origin).expect("a stored stamp was a stamp before"),
        }
    }

    pub(super) fn version(self) -> Version {
        Version { stamp: self.stamp(), kind: self.kind() }
    }

    /// The 24 bits that eviction keeps.
    #[inline]
    pub(super) fn access(self) -> u32 {
        u32::from_le_bytes([self.0[1], self.0[2], self.0[3], 0])
    }

    #[inline]
    pub(super) fn expiry(self) -> Option<Expiry> {
        let (_, _, end) = self.lengths();
        self.expires().then(|| Expiry::at_unix_ms(u64::from_le_bytes(self.array(end))))
    }

    #[inline]
    pub(super) fn key(self) -> &'a [u8] {
        let (key, _, end) = self.lengths();
        let start = end + self.expiry_size();
        &self.0[start..start + key]
    }

    #[inline]
    pub(super) fn value(self) -> &'a [u8] {
        let (key, value, end) = self.lengths();
        let start = end + self.expiry_size() + key;
        &self.0[start..start + value]
    }

    /// Whether it is a value without an end.
    #[inline]
    pub(super) fn is_lasting(self) -> bool {
        self.0[0] & (KIND_MASK | EXPIRES) == kind_bits(Kind::Value)
    }

    /// Whether it is a value, and another of `length` bytes, with an end or not, would have the same header.
    #[inline]
    fn has_shape_of(self, length: usize, expires: bool) -> bool {
        self.kind() == Kind::Value && self.expires() == expires && self.lengths().1 == length
    }

    /// Whether it is a value that has not ended.
    pub(super) fn is_readable(self, now_ms: u64) -> bool {
        self.kind() == Kind::Value && !self.expiry().is_some_and(|expiry| expiry.has_passed(now_ms))
    }

    pub(super) fn record(self) -> Record<'a> {
        let state = match self.kind() {
            Kind::Value => State::Value { bytes: self.value(), expiry: self.expiry() },
            Kind::Tombstone => State::Tombstone,
            Kind::Evicted => State::Evicted,
        };
        Record { key: self.key(), stamp: self.stamp(), state }
    }

    #[inline]
    fn expires(self) -> bool {
        self.0[0] & EXPIRES != 0
    }

    #[inline]
    fn expiry_size(self) -> usize {
        if self.expires() { EXPIRY_SIZE } else { 0 }
    }

    /// Length of key and value, and where the header's fixed part ends.
    #[inline]
    fn lengths(self) -> (usize, usize, usize) {
        let header: [u8; NARROW_END] = self.array(0);
        if header[0] & WIDE == 0 {
            let [.., key, low, high] = header;
            (usize::from(key), usize::from(u16::from_le_bytes([low, high])), NARROW_END)
        } else {
            let key = u32::from_le_bytes(self.array(LENGTHS)) as usize;
            (key, u32::from_le_bytes(self.array(LENGTHS + 4)) as usize, WIDE_END)
        }
    }

    #[inline]
    fn array<const N: usize>(self, at: usize) -> [u8; N] {
        *self.0[at..].first_chunk().expect("a header lies whole in its block")
    }
}

/// Writes `record` to a new block.
///
/// # Errors
/// [`HeapFull`]; nothing changed.
pub(super) fn store(heap: &mut Heap, record: &Record<'_>, access: u32) -> Result<Handle, HeapFull> {
    let layout = Layout::of(record);
    let handle = heap.allocate(layout.size)?;
    layout.write(heap.bytes_mut(handle), record, access);
    Ok(handle)
}

/// Writes `record` where an entry of the same key lies, or to another block if it does not fit there. The old
/// block, if left, is released.
///
/// # Errors
/// [`HeapFull`]; nothing changed.
pub(super) fn replace(heap: &mut Heap, handle: Handle, record: &Record<'_>, access: u32) -> Result<Handle, HeapFull> {
    let layout = Layout::of(record);
    if heap.fits(handle, layout.size) {
        heap.resize_large(handle, layout.size);
        layout.write(heap.bytes_mut(handle), record, access);
        return Ok(handle);
    }
    let new = heap.allocate(layout.size)?;
    layout.write(heap.bytes_mut(new), record, access);
    heap.release(handle);
    Ok(new)
}

/// Writes a value over one of the same length where the header stays as long as it is. Returns `false`, and does nothing,
/// where that is not so.
#[inline]
pub(super) fn replace_in_place(
    heap: &mut Heap,
    handle: Handle,
    stamp: Stamp,
    value: &[u8],
    expiry: Option<Expiry>,
) -> bool {
    let block = heap.bytes_mut(handle);
    let entry = Entry(block);
    if !entry.has_shape_of(value.len(), expiry.is_some()) {
        return false;
    }
    let (key, _, end) = entry.lengths();
    write_stamp(block, stamp);
    let mut start = end + key;
    if let Some(expiry) = expiry {
        block[end..end + EXPIRY_SIZE].copy_from_slice(&expiry.unix_ms().to_le_bytes());
        start += EXPIRY_SIZE;
    }
    block[start..start + value.len()].copy_from_slice(value);
    true
}

/// Sets the 24 bits that eviction keeps to what `after` makes of them. Returns the entry.
#[inline]
pub(super) fn touch(heap: &mut Heap, handle: Handle, after: impl FnOnce(u32) -> u32) -> Entry<'_> {
    let block = heap.bytes_mut(handle);
    let before = Entry(block).access();
    let after = after(before);
    // Most touches within a second change nothing, and leave the cache line alone.
    if after != before {
        write_access(block, after);
    }
    Entry(block)
}

/// Gives the value at `handle` a new stamp and `length` bytes, of which the old ones stay and new ones are zero;
/// only where that can be done in place. The caller then writes into [`value_mut`].
pub(super) fn restamp_in_place(heap: &mut Heap, handle: Handle, stamp: Stamp, length: usize) -> bool {
    let entry = Entry::at(heap, handle);
    let (_, old, end) = entry.lengths();
    if length != old {
        let wide = entry.0[0] & WIDE != 0;
        let size = end + entry.expiry_size() + entry.key().len() + length;
        if !wide || u32::try_from(length).is_err() || !heap.resize_large(handle, size) {
            return false;
        }
        heap.bytes_mut(handle)[LENGTHS + 4..WIDE_END].copy_from_slice(&(length as u32).to_le_bytes());
    }
    write_stamp(heap.bytes_mut(handle), stamp);
    true
}

/// Gives what is at `handle` another stamp.
pub(super) fn set_stamp(heap: &mut Heap, handle: Handle, stamp: Stamp) {
    write_stamp(heap.bytes_mut(handle), stamp);
}

/// Gives the value at `handle` a new stamp and another end; only where it has one, so that the header stays as long as
/// it is.
pub(super) fn set_expiry_in_place(heap: &mut Heap, handle: Handle, stamp: Stamp, expiry: Expiry) {
    let entry = Entry::at(heap, handle);
    debug_assert!(entry.expires(), "there is no room for an end");
    let (_, _, end) = entry.lengths();
    let block = heap.bytes_mut(handle);
    write_stamp(block, stamp);
    block[end..end + EXPIRY_SIZE].copy_from_slice(&expiry.unix_ms().to_le_bytes());
}

/// The value's bytes, to be written.
pub(super) fn value_mut(heap: &mut Heap, handle: Handle) -> &mut [u8] {
    let entry = Entry::at(heap, handle);
    let (key, value, end) = entry.lengths();
    let start = end + entry.expiry_size() + key;
    &mut heap.bytes_mut(handle)[start..start + value]
}

/// How a record will lie in a block.
struct Layout {
    flags: u8,
    size: usize,
}

impl Layout {
    fn of(record: &Record<'_>) -> Self {
        let (kind, value, expires) = match record.state {
            State::Value { bytes, expiry } => (Kind::Value, bytes.len(), expiry.is_some()),
            State::Tombstone => (Kind::Tombstone, 0, false),
            State::Evicted => (Kind::Evicted, 0, false),
        };
        let narrow = record.key.len() <= usize::from(u8::MAX) && value <= usize::from(u16::MAX);
        let header = if narrow { NARROW_END } else { WIDE_END } + if expires { EXPIRY_SIZE } else { 0 };
        Self {
            flags: kind_bits(kind) | if narrow { 0 } else { WIDE } | if expires { EXPIRES } else { 0 },
            size: header + record.key.len() + value,
        }
    }

    fn write(&self, block: &mut [u8], record: &Record<'_>, access: u32) {
        let (value, expiry) = match record.state {
            State::Value { bytes, expiry } => (bytes, expiry),
            State::Tombstone | State::Evicted => (&[][..], None),
        };
        let block = &mut block[..self.size];
        block[0] = self.flags;
        write_access(block, access);
        write_stamp(block, record.stamp);
        let mut end = if self.flags & WIDE == 0 {
            let [low, high] = (value.len() as u16).to_le_bytes();
            block[LENGTHS..NARROW_END].copy_from_slice(&[record.key.len() as u8, low, high]);
            NARROW_END
        } else {
            // Keys and values are bounded far below 4 GiB before they get here.
            block[LENGTHS..LENGTHS + 4].copy_from_slice(&(record.key.len() as u32).to_le_bytes());
            block[LENGTHS + 4..WIDE_END].copy_from_slice(&(value.len() as u32).to_le_bytes());
            WIDE_END
        };
        if let Some(expiry) = expiry {
            block[end..end + EXPIRY_SIZE].copy_from_slice(&expiry.unix_ms().to_le_bytes());
            end += EXPIRY_SIZE;
        }
        let (key, rest) = block[end..].split_at_mut(record.key.len());
        key.copy_from_slice(record.key);
        rest.copy_from_slice(value);
    }
}

#[inline]
fn write_access(block: &mut [u8], access: u32) {
    let [a, b, c, _] = access.to_le_bytes();
    block[ACCESS..STAMP].copy_from_slice(&[a, b, c]);
}

#[inline]
fn write_stamp(block: &mut [u8], stamp: Stamp) {
    block[STAMP..STAMP + 2].copy_from_slice(&stamp.origin.bits().to_le_bytes());
    block[STAMP + 2..LENGTHS].copy_from_slice(&stamp.time.ntp64().to_le_bytes());
}

const fn kind_bits(kind: Kind) -> u8 {
    match kind {
        Kind::Evicted => 1,
        Kind::Tombstone => 2,
        Kind::Value => 3,
    }
}

const fn kind_of(flags: u8) -> Option<Kind> {
    match flags & KIND_MASK {
        1 => Some(Kind::Evicted),
        2 => Some(Kind::Tombstone),
        3 => Some(Kind::Value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, Origin, RegionId, Stamp, Time};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{Entry, replace, replace_in_place, restamp_in_place, set_expiry_in_place, store, touch, value_mut};
    use crate::store::{
        heap::Heap,
        record::{Expiry, Record, State},
    };

    fn stamp(time: u64) -> Stamp {
        Stamp { time: Time::from_ntp64(time), origin: Origin::new(RegionId::MAX, Incarnation::new(77)) }
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was_stored(
            key in proptest::collection::vec(any::<u8>(), 0..400),
            lengths in proptest::collection::vec(0..70_000_usize, 1..5),
            expiry in any::<Option<u64>>(),
            time in any::<u64>(),
            access in 0..1_u32 << 24,
        ) {
            let mut heap = Heap::new();
            let tombstone = Record { key: &key, stamp: stamp(time), state: State::Tombstone };
            let mut handle = store(&mut heap, &tombstone, 0).unwrap();
            prop_assert_eq!(Entry::at(&heap, handle).record(), tombstone);
            for length in lengths {
                let value: Vec<u8> = (0..length).map(|i| i as u8).collect();
                let state = State::Value { bytes: &value, expiry: expiry.map(Expiry::at_unix_ms) };
                let record = Record { key: &key, stamp: stamp(time), state };
                handle = replace(&mut heap, handle, &record, 0).unwrap();
                touch(&mut heap, handle, |_| access);
                let entry = Entry::at(&heap, handle);
                prop_assert_eq!(entry.record(), record);
                prop_assert_eq!(entry.access(), access);
            }
        }

        #[test]
        fn a_value_takes_the_place_of_one_of_its_length_and_of_no_other(
            lengths in [0..70_000_usize, 0..70_000_usize],
            same in any::<bool>(),
            ends in any::<[Option<u64>; 2]>(),
        ) {
            let mut heap = Heap::new();
            let lengths = if same { [lengths[0]; 2] } else { lengths };
            let (old, new) = (vec![7; lengths[0]], vec![9; lengths[1]]);
            let [before, after] = ends.map(|end| end.map(Expiry::at_unix_ms));
            let record = Record { key: b"k", stamp: stamp(1), state: State::Value { bytes: &old, expiry: before } };
            let next = Record { key: b"k", stamp: stamp(2), state: State::Value { bytes: &new, expiry: after } };
            let handle = store(&mut heap, &record, 5).unwrap();
            let replaced = replace_in_place(&mut heap, handle, stamp(2), &new, after);
            prop_assert_eq!(replaced, lengths[0] == lengths[1] && before.is_some() == after.is_some());
            prop_assert_eq!(Entry::at(&heap, handle).record(), if replaced { next } else { record });
            prop_assert_eq!(Entry::at(&heap, handle).access(), 5);
        }

        #[test]
        fn another_end_changes_nothing_else(length in 0..70_000_usize, ends in any::<[u64; 2]>()) {
            let mut heap = Heap::new();
            let value = vec![7; length];
            let [before, after] = ends.map(|ms| Some(Expiry::at_unix_ms(ms)));
            let record = Record { key: b"k", stamp: stamp(1), state: State::Value { bytes: &value, expiry: before } };
            let handle = store(&mut heap, &record, 5).unwrap();
            set_expiry_in_place(&mut heap, handle, stamp(2), after.unwrap());
            let state = State::Value { bytes: &value, expiry: after };
            prop_assert_eq!(Entry::at(&heap, handle).record(), Record { key: b"k", stamp: stamp(2), state });
            prop_assert_eq!(Entry::at(&heap, handle).access(), 5);
        }

        #[test]
        fn growing_in_place_keeps_what_was_there(start in 1..80_000_usize, more in 0..5_000_usize) {
            let mut heap = Heap::new();
            let value = vec![7; start];
            let record = Record { key: b"k", stamp: stamp(1), state: State::Value { bytes: &value, expiry: None } };
            let handle = store(&mut heap, &record, 0).unwrap();
            if restamp_in_place(&mut heap, handle, stamp(2), start + more) {
                value_mut(&mut heap, handle)[start..].fill(9);
                let entry = Entry::at(&heap, handle);
                prop_assert_eq!(entry.stamp(), stamp(2));
                prop_assert!(entry.value()[..start].iter().all(|byte| *byte == 7));
                prop_assert!(entry.value()[start..].iter().all(|byte| *byte == 9));
                prop_assert_eq!(entry.value().len(), start + more);
            } else {
                prop_assert_eq!(Entry::at(&heap, handle).record(), record);
            }
        }
    }
}
