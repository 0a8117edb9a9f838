//! From a name on the wire to a row, in a few nanoseconds.
//!
//! A name is looked at as two words of eight bytes, its first and its last (they overlap when it is shorter than
//! sixteen), with the bit set that tells lower from upper case. Since the names in the table are letters only, two
//! names with the same words and the same length are the same name in whatever case: hashing takes one
//! multiplication and comparing takes three comparisons, and there is no loop over bytes.
//!
//! The index is built by the compiler. A quarter of its places is taken, so nearly every name is found at its first
//! place. Only containers and plain commands are in it; a container has so few subcommands that they are looked
//! through.

use super::{Command, TABLE};

/// Places of the index; a power of two.
const PLACES: usize = 512;
/// An odd constant without structure (2^64 divided by the golden ratio).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
/// In every byte the bit that tells lower from upper case.
const CASE_BITS: u64 = 0x2020_2020_2020_2020;
/// Longest name of which two words of eight bytes show every byte.
const NAME_BYTES_MAX: usize = 16;
/// A place without a command.
const FREE: u8 = u8::MAX;

/// For each place the row of a command, or [`FREE`].
static INDEX: [u8; PLACES] = index();
/// The name of each row. Those of subcommands are never looked at.
static NAMES: [Name; TABLE.len()] = names();

const _: () = assert!(TABLE.len() < FREE as usize && TABLE.len() * 2 < PLACES, "the index must grow with the table");

/// A name in no case.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    head: u64,
    tail: u64,
    len: usize,
}

impl Name {
    #[inline]
    const fn new(name: &[u8]) -> Self {
        let (head, tail) = ends(name);
        Self { head: head | CASE_BITS, tail: tail | CASE_BITS, len: name.len() }
    }

    /// Where the search for it begins.
    #[inline]
    const fn place(self) -> usize {
        let mixed = (self.head ^ self.tail.rotate_left(44) ^ self.len as u64).wrapping_mul(MIX);
        (mixed >> (u64::BITS - PLACES.ilog2())) as usize
    }
}

/// Finds a command, but no subcommand, by its name in any case.
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    let name = Name::new(name);
    let mut place = name.place();
    loop {
        let row = INDEX[place];
        if row == FREE {
            return None;
        }
        if NAMES[usize::from(row)] == name {
            return Some(&TABLE[usize::from(row)]);
        }
        place = (place + 1) % PLACES;
    }
}

/// The first and the last bytes of a name: all of them, up to [`NAME_BYTES_MAX`].
#[inline]
const fn ends(name: &[u8]) -> (u64, u64) {
    if let (Some(head), Some(tail)) = (name.first_chunk(), name.last_chunk()) {
        return (u64::from_le_bytes(*head), u64::from_le_bytes(*tail));
    }
    if let (Some(head), Some(tail)) = (name.first_chunk(), name.last_chunk()) {
        return (u32::from_le_bytes(*head) as u64, u32::from_le_bytes(*tail) as u64);
    }
    match name {
        [] => (0, 0),
        [first, ..] => (*first as u64, (name[name.len() / 2] as u64) << 8 | name[name.len() - 1] as u64),
    }
}

const fn names() -> [Name; TABLE.len()] {
    let mut names = [Name::new(b""); TABLE.len()];
    let mut row = 0;
    while row < TABLE.len() {
        names[row] = Name::new(TABLE[row].name.as_bytes());
        row += 1;
    }
    names
}

const fn index() -> [u8; PLACES] {
    let mut index = [FREE; PLACES];
    let mut row = 0;
    while row < TABLE.len() {
        let name = TABLE[row].name.as_bytes();
        assert!(name.len() <= NAME_BYTES_MAX && is_lower_case(name), "the index takes short names of letters only");
        let mut place = Name::new(name).place();
        while index[place] != FREE {
            place = (place + 1) % PLACES;
        }
        index[place] = row as u8;
        row += 1 + TABLE[row].subcommand_count as usize;
    }
    index
}

const fn is_lower_case(mut name: &[u8]) -> bool {
    while let [first, rest @ ..] = name {
        if !first.is_ascii_lowercase() {
            return false;
        }
        name = rest;
    }
    true
}
