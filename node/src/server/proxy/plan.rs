//! What is sent for one request of a client of the proxy: its parts, each for one node, and how their replies are joined.
//!
//! A node takes only keys of one slot in a command, so what names several is split by slot, and the parts for one node
//! leave together. Of MSET each part is carried out or not by itself.
//!
//! # SCAN
//! A cursor holds a slot ([`ScanCursor`]), and the slot has an owner: that is all the proxy needs. It asks the owner, keeps of the
//! reply what lies in the run of slots up to the next one that another shard owns, and goes on there. So the
//! cursor stays within 53 bits, and nobody remembers a scan. If the one slot that a scan stands in changes its owner before the next call,
//! keys of that slot may be left out, as with any client that scans a cluster node by node.

use std::{collections::BTreeMap, time::Duration};

use node_core::{
    cluster::{ClusterMap, ShardId},
    command::scan::ScanCursor,
    command_table::{Command, CommandId, Flags},
    number,
    resp::{Args, ArgsBuf, Protocol, Reply},
    slot::{Slot, SlotSet},
};

use super::upstream::Answer;
use crate::{command::Failure, limits::FORWARD_SILENCE_MAX};

/// A request that others answer.
pub(super) struct Request {
    pub(super) parts: Vec<Part>,
    pub(super) join: Join,
    /// Whether the client wants the reply.
    pub(super) answers: bool,
}

/// What one node is sent.
pub(super) struct Part {
    pub(super) target: Target,
    /// As it goes over the wire.
    pub(super) bytes: Vec<u8>,
    /// How many replies it has; the last one counts.
    pub(super) replies: usize,
    pub(super) writes: bool,
    /// How long the node may be silent; `None` for as long as it likes.
    pub(super) silence_max: Option<Duration>,
    pub(super) answer: Option<Answer>,
    /// Why it was not carried out so far: an error without its leading `-`.
    pub(super) refusal: String,
}

/// Who is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The owner of this slot.
    Slot(Slot),
    /// The primary of this shard.
    Shard(ShardId),
}

/// How the replies of the parts become one. An error of any part is the whole reply.
pub(super) enum Join {
    /// There is but one, which is passed on byte for byte.
    One,
    /// The elements of arrays, each at its place; the places of each part.
    Places(Vec<Vec<usize>>),
    /// The first, since all are alike.
    Same,
    /// Integers, added.
    Sum,
    /// The least integer.
    Least,
    /// Arrays, one after the other.
    Concatenate,
    /// Any that is not null.
    Any,
    /// A page of a scan, of the slots before this one; `None` if it is the last run of slots.
    Page(Option<Slot>),
}

impl Part {
    fn new(target: Target, args: Args<'_>, writes: bool) -> Self {
        let mut bytes = Vec::new();
        encode(args, &mut bytes);
        Self {
            target,
            bytes,
            replies: 1,
            writes,
            silence_max: Some(FORWARD_SILENCE_MAX),
            answer: None,
            refusal: String::new(),
        }
    }
}

impl Request {
    fn new(parts: Vec<Part>, join: Join) -> Self {
        Self { parts, join, answers: true }
    }

    pub(super) fn answering(self, answers: bool) -> Self {
        Self { answers, ..self }
    }

    pub(super) fn size(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }

    /// Whether nothing may share its run: it is about more than single slots.
    pub(super) fn is_alone(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.target, Target::Shard(_)))
    }

    /// A command whose keys lie in one slot.
    pub(super) fn on_slot(slot: Slot, args: Args<'_>, writes: bool) -> Self {
        Self::new(vec![Part::new(Target::Slot(slot), args, writes)], Join::One)
    }

    /// A transaction whose keys lie in one slot.
    pub(super) fn transaction<'a>(
        slot: Slot,
        queued: impl Iterator<Item = (&'static Command, Args<'a>)>,
        writes: bool,
    ) -> Self {
        let word = |word: &str| [word].into_iter().collect::<ArgsBuf>();
        let mut part = Part::new(Target::Slot(slot), word("MULTI").as_args(), writes);
        for (_, args) in queued {
            encode(args, &mut part.bytes);
            part.replies += 1;
        }
        encode(word("EXEC").as_args(), &mut part.bytes);
        part.replies += 1;
        Self::new(vec![part], Join::One)
    }

    /// A command on keys of several slots; `None` if it cannot be split.
    ///
    /// # Errors
    /// MSET without the last value.
    pub(super) fn split(command: &Command, args: Args<'_>) -> Result<Option<Self>, Failure> {
        use CommandId as C;
        let width = if command.id == C::Mset { 2 } else { 1 };
        if !matches!(command.id, C::Mget | C::Mset | C::Del | C::Unlink | C::Exists | C::Touch) {
            return Ok(None);
        }
        if !(args.len() - 1).is_multiple_of(width) {
            return Err(Failure::from("ERR wrong number of arguments for 'mset' command".to_owned()));
        }
        let mut by_slot = BTreeMap::<Slot, (ArgsBuf, Vec<usize>)>::new();
        for (place, index) in command.key_indexes(args.len()).enumerate() {
            let (words, places) = by_slot.entry(Slot::of(&args[index])).or_default();
            if places.is_empty() {
                words.push(&args[0]);
            }
            args.from(index).iter().take(width).for_each(|word| words.push(word));
            places.push(place);
        }
        let (mut parts, mut places) = (Vec::new(), Vec::new());
        for (slot, (words, places_of_part)) in by_slot {
            parts.push(Part::new(Target::Slot(slot), words.as_args(), command.is(Flags::WRITE)));
            places.push(places_of_part);
        }
        let join = match command.id {
            C::Mget => Join::Places(places),
            C::Mset => Join::Same,
            _ => Join::Sum,
        };
        Ok(Some(Self::new(parts, join)))
    }

    /// A command on all keys but SCAN: to all primaries.
    pub(super) fn everywhere(command: &Command, args: Args<'_>, map: &ClusterMap) -> Self {
        let part = |(shard, _)| Part::new(Target::Shard(shard), args, command.is(Flags::WRITE));
        let join = match command.id {
            CommandId::Keys => Join::Concatenate,
            CommandId::Randomkey => Join::Any,
            CommandId::Dbsize => Join::Sum,
            _ => Join::Same,
        };
        Self::new(map.shards().map(part).collect(), join)
    }

    /// WAIT: asks all shards that were written to, and all that there are if none was. `None` if it is malformed.
    pub(super) fn wait(args: Args<'_>, map: &ClusterMap, written: Option<&SlotSet>) -> Option<Self> {
        let timeout_ms = u64::try_from(number::parse_i64(&args[2])?).ok()?;
        let silence_max = (timeout_ms > 0).then(|| FORWARD_SILENCE_MAX + Duration::from_millis(timeout_ms));
        let owners = written.into_iter().flat_map(SlotSet::iter).filter_map(|slot| map.owner(slot));
        let mut shards: Vec<_> = owners.collect();
        shards.sort_unstable();
        shards.dedup();
        if shards.is_empty() {
            shards.extend(map.shards().map(|(shard, _)| shard));
        }
        let part = |shard| Part { silence_max, ..Part::new(Target::Shard(shard), args, false) };
        Some(Self::new(shards.into_iter().map(part).collect(), Join::Least))
    }

    /// SCAN: asks the owner of the slot that the cursor stands in. `None` if there is none, or it is malformed.
    pub(super) fn scan(args: Args<'_>, map: &ClusterMap) -> Option<Self> {
        let from = ScanCursor::parse(&args[1]).ok()?.slot();
        let owner = map.owner(from)?;
        let until = Slot::all().skip(usize::from(from.number())).find(|slot| map.owner(*slot) != Some(owner));
        Some(Self::new(vec![Part::new(Target::Shard(owner), args, false)], Join::Page(until)))
    }
}

/// A request on the wire is an array of bulks, as such a reply is.
fn encode(args: Args<'_>, bytes: &mut Vec<u8>) {
    let mut request = Reply::new(bytes, Protocol::Resp2);
    request.array(args.len());
    args.iter().for_each(|word| request.bulk(word));
}
