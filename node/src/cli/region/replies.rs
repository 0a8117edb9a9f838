//! What the answers of nodes say, or nothing if they are not what was asked for.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use clock::Stamp;
use node_core::{
    resp::Value,
    slot::{SLOTS, SlotRange},
    store::{Digest, Expiry, Kind, Seen, Version},
};

/// What a region knows of a key, but for the value's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) version: Version,
    pub(super) expiry: Option<Expiry>,
    /// A hash of the bytes; 0 of what is no value.
    pub(super) content: u64,
}

impl Row {
    /// Whether a reader would find it at this time, in milliseconds since 1970.
    pub(super) fn is_readable(&self, at_ms: u64) -> bool {
        self.version.kind == Kind::Value && !self.expiry.is_some_and(|expiry| expiry.has_passed(at_ms))
    }
}

/// What a region knows of some keys of a slot.
#[derive(Clone, Debug)]
pub(super) struct SlotRows {
    pub(super) rows: BTreeMap<Vec<u8>, Row>,
    /// Of the slot, read after the rows.
    pub(super) floor: Stamp,
    /// Of the slot, read before the rows.
    pub(super) seen: Seen,
}

/// A reply of REGION DIGEST.
pub(super) struct Portion {
    pub(super) cursor: String,
    /// The first of the parts.
    pub(super) first: usize,
    pub(super) digests: Vec<Digest>,
}

/// Reads a reply of REGION DIGEST.
pub(super) fn portion(reply: &Value) -> Option<Portion> {
    let [cursor, first, digests] = list(reply)? else { return None };
    let (digests, []) = bytes(digests)?.as_chunks() else { return None };
    let digests = digests.iter().map(Digest::from_bytes).collect();
    Some(Portion { cursor: text(cursor)?, first: integer(first)?.try_into().ok()?, digests })
}

/// A reply of REGION ROWS: where it goes on, and what it says.
pub(super) fn page(reply: &Value) -> Option<(String, SlotRows)> {
    let [cursor, floor, seen, rows] = list(reply)? else { return None };
    let stamps = list(seen)?.iter().map(parsed::<Stamp>);
    let seen = stamps.map(|stamp| stamp.map(|stamp| (stamp.origin, stamp.time))).collect::<Option<_>>()?;
    let rows = list(rows)?.iter().map(row).collect::<Option<_>>()?;
    Some((text(cursor)?, SlotRows { rows, floor: parsed(floor)?, seen }))
}

fn row(value: &Value) -> Option<(Vec<u8>, Row)> {
    let [key, stamp, state, expiry, content] = list(value)? else { return None };
    let kind = match bytes(state)? {
        b"VALUE" => Kind::Value,
        b"TOMBSTONE" => Kind::Tombstone,
        b"EVICTED" => Kind::Evicted,
        _ => return None,
    };
    let expiry = integer(expiry).and_then(|ms| u64::try_from(ms).ok()).map(Expiry::at_unix_ms);
    let content = bytes(content).and_then(|text| u64::from_str_radix(str::from_utf8(text).ok()?, 16).ok());
    let version = Version { stamp: parsed(stamp)?, kind };
    Some((bytes(key)?.to_vec(), Row { version, expiry, content: content.unwrap_or_default() }))
}

/// A reply of REGION STATUS.
pub(super) fn status(reply: &Value) -> Option<serde_json::Value> {
    serde_json::from_slice(bytes(reply)?).ok()
}

/// A reply of TIME, since 1970.
pub(super) fn time(reply: &Value) -> Option<Duration> {
    let [seconds, micros] = list(reply)? else { return None };
    Some(Duration::from_secs(parsed(seconds)?) + Duration::from_micros(parsed(micros)?))
}

/// A reply of CLUSTER SLOTS: runs of slots and the addresses of their primaries.
pub(super) fn owners(reply: &Value) -> Option<Vec<(SlotRange, String)>> {
    let run = |run: &Value| {
        let [first, last, primary, ..] = list(run)? else { return None };
        let [host, port, ..] = list(primary)? else { return None };
        let [first, last] = [first, last].map(|slot| integer(slot)?.try_into().ok().filter(|slot| *slot < SLOTS));
        let (host, port) = (text(host)?, integer(port)?);
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Some((SlotRange::new(first?..last? + 1)?, address))
    };
    list(reply)?.iter().map(run).collect()
}

/// The elements of an array.
pub(super) fn list(value: &Value) -> Option<&[Value]> {
    if let Value::Array(values) = value { Some(values) } else { None }
}

/// The bytes of a string.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    if let Value::Bulk(bytes) | Value::Simple(bytes) = value { Some(bytes) } else { None }
}

/// The text of a string.
pub(super) fn text(value: &Value) -> Option<String> {
    String::from_utf8(bytes(value)?.to_vec()).ok()
}

fn parsed<T: FromStr>(value: &Value) -> Option<T> {
    text(value)?.parse().ok()
}

const fn integer(value: &Value) -> Option<i64> {
    if let Value::Integer(number) = value { Some(*number) } else { None }
}

#[cfg(test)]
mod tests {
    use node_core::{resp::Value, store::Digest};

    use super::{owners, page, portion, time};

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.into())
    }

    #[test]
    fn owners_are_the_primaries_of_runs_of_slots() {
        let node = |host: &str| Value::Array(vec![bulk(host), Value::Integer(7_001), bulk("id"), Value::Array(vec![])]);
        let run = |first, last, nodes: &[&str]| {
            let ends = [Value::Integer(first), Value::Integer(last)];
            Value::Array(ends.into_iter().chain(nodes.iter().map(|host| node(host))).collect())
        };
        let reply = Value::Array(vec![run(0, 8_000, &["10.0.0.1", "10.0.0.2"]), run(8_001, 16_383, &["fd00::7"])]);
        let owners: Vec<_> =
            owners(&reply).unwrap().into_iter().map(|(slots, address)| (slots.count(), address)).collect();
        assert_eq!(owners, [(8_001, "10.0.0.1:7001".to_owned()), (8_383, "[fd00::7]:7001".to_owned())]);
    }

    #[test]
    fn what_does_not_fit_the_question_is_nothing() {
        let run = |first, last| Value::Array(vec![Value::Array(vec![Value::Integer(first), Value::Integer(last)])]);
        let misfits = [
            Value::Null,
            bulk("0"),
            Value::Array(vec![]),
            Value::Array(vec![bulk("0"), Value::Integer(0), bulk(&"d".repeat(Digest::SIZE + 1))]),
            Value::Array(vec![bulk("0"), Value::Integer(-1), bulk("")]),
            Value::Array(vec![bulk("0"), bulk("floor"), Value::Array(vec![]), Value::Array(vec![])]),
        ];
        for misfit in misfits {
            assert!(portion(&misfit).is_none() && page(&misfit).is_none() && time(&misfit).is_none(), "{misfit:?}");
        }
        for (first, last) in [(0, 16_384), (5, 4), (-1, 3)] {
            assert!(owners(&run(first, last)).is_none());
        }
    }
}
