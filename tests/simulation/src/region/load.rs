//! What clients ask for, and what is written down of it.

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use clock::{Origin, Stamp, Time};
use node_core::{
    slot::{Slot, SlotRange, SlotSet},
    store::{Address, SeenTable, Store},
};
use rand::RngExt;
use scenario::history::{self, Action, ClientId, Key, Kind, Operation, Place, ValueId};

use super::{
    Process, Region,
    clients::{Client, Command, KEYS, Outcome, UnderWay},
};
use crate::names::{COUNTERS, FADING, LASTING, OWN, SHARED, found, key_of, keys, name_of, number_of, value_of};

/// What clients are there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// To see whether a few keys are registers, in a region that is alone.
    Registers,
    /// To use keys of all kinds, in one of several regions.
    Kinds {
        /// Which region.
        place: Place,
        /// The number of its first client among those of all regions.
        first: u16,
    },
}

impl Load {
    /// The slots that a region has.
    pub(super) fn slots(self) -> &'static SlotSet {
        match self {
            Self::Registers => &ALL_SLOTS,
            Self::Kinds { .. } => &KEY_SLOTS,
        }
    }

    /// Counts the slots that nobody uses as seen, whatever there is to be seen of whomever the store knows.
    pub(super) fn count_unused_as_seen(self, seen: &mut SeenTable, store: &Store) {
        if self == Self::Registers {
            return;
        }
        let known = (0..store.stripes()).flat_map(|index| store.lock(index).seen().origins().collect::<Vec<_>>());
        let known: BTreeSet<Origin> = known.chain([store.origin()]).collect();
        for slots in UNUSED.iter() {
            known.iter().for_each(|origin| seen.advance(slots, *origin, Time::MAX));
        }
    }
}

/// All slots.
static ALL_SLOTS: LazyLock<SlotSet> = LazyLock::new(SlotSet::all);
/// The slots of the keys that are used. All others belong to a shard that is down, all the time: a feed that looks for something in
/// 16,384 empty slots is most of what a world would do otherwise.
static KEY_SLOTS: LazyLock<SlotSet> = LazyLock::new(|| keys().map(|(_, name)| Slot::of(name)).collect());

/// All others.
static UNUSED: LazyLock<Vec<SlotRange>> = LazyLock::new(|| {
    let mut unused = SlotSet::all();
    unused.subtract(&KEY_SLOTS);
    unused.ranges().to_vec()
});

/// A client that has written something here and is to read it in another region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errand {
    client: ClientId,
    key: &'static [u8],
    value: u64,
    stamp: Stamp,
}

/// What was stamped here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// By which node.
    pub(crate) index: usize,
    pub(crate) key: Key,
    pub(crate) name: &'static [u8],
    /// Where the key lives: in every store alike, since all of a world are seeded alike.
    pub(crate) address: Address,
    pub(crate) stamp: Stamp,
    /// Its value; none of a delete, or of what had a value before.
    pub(crate) value: Option<u64>,
    /// It is one of many keys that were flushed at once, under one stamp.
    pub(crate) is_flush: bool,
    pub(crate) at: Duration,
}

/// What a turn has stamped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrote {
    /// A key, and its value; none of a delete.
    One { key: &'static [u8], stamp: Stamp, value: Option<u64> },
    /// Everything was flushed.
    All(Stamp),
}

impl Wrote {
    /// When, by its stamp.
    pub(super) const fn time(&self) -> Time {
        match self {
            Self::One { stamp, .. } | Self::All(stamp) => stamp.time,
        }
    }
}

/// How long values live that expire, and what expiries are changed to.
const TTL_MS: std::ops::Range<u64> = 100..1_500;
/// Of so many values that all regions share one is followed to another region.
const FOLLOWED: u32 = 8;
/// Of so many requests one is a FLUSHALL, where there are any.
const FLUSHES: u32 = 150;

impl Region {
    /// What a client asks for next.
    pub(super) fn choose(&mut self, client: usize) -> (&'static [u8], Command) {
        match self.load {
            Load::Registers => self.choose_of_register(),
            Load::Kinds { place, first } => self.choose_of_kinds(place, first + client as u16, client),
        }
    }

    fn choose_of_register(&mut self) -> (&'static [u8], Command) {
        let key = KEYS[self.random.random_range(0..KEYS.len())];
        let command = match self.random.random_range(0..20) {
            0..6 => {
                self.values += 1;
                Command::Set(self.values * 1_000)
            }
            6..8 => Command::Delete,
            // The value after a loss may be that from before it again, which would tell nothing.
            8..10 if !self.is_stormy => Command::Increment,
            _ => Command::Get,
        };
        (key, command)
    }

    fn choose_of_kinds(&mut self, place: Place, id: u16, client: usize) -> (&'static [u8], Command) {
        if self.make.flushes && self.random.random_ratio(1, FLUSHES) {
            return (name_of(Key { kind: Kind::Shared, number: 0 }), Command::Flush);
        }
        let random = &mut self.random;
        let ttl = Duration::from_millis(random.random_range(TTL_MS) * self.make.pace);
        let mut value = || {
            self.clients[client].values += 1;
            number_of(ValueId { client: ClientId(id), number: self.clients[client].values })
        };
        let mut key = |kind, numbers| Key { kind, number: random.random_range(numbers) };
        let (shared, mortal) = (key(Kind::Shared, 0..SHARED), key(Kind::Shared, LASTING..SHARED));
        let (own, counter, fading) =
            (key(Kind::Own(place), 0..OWN), key(Kind::Counter, 0..COUNTERS), key(Kind::Fading, 0..FADING));
        let (key, command) = match random.random_range(0..100) {
            0..25 => (shared, Command::Set(value())),
            25..30 => (mortal, Command::SetFor(value(), ttl)),
            30..63 => (shared, Command::Get),
            63..69 => (mortal, Command::Delete),
            69..77 => (own, Command::Set(value())),
            77..86 => (own, Command::Get),
            86..88 => (own, Command::Delete),
            88..92 => (counter, Command::Increment),
            92..94 => (counter, Command::Get),
            94..96 => (fading, Command::Set(value())),
            96..98 => (fading, Command::Expire(ttl)),
            _ => (fading, Command::Get),
        };
        (name_of(key), command)
    }

    /// A client of another region has come with a token.
    pub(crate) fn visit(&mut self, errand: &Errand) {
        let Errand { client: ClientId(id), key, value, stamp } = *errand;
        let is_free = |client: &Client| client.guest.is_some() && client.under_way.is_none();
        let place = self.clients.iter().position(is_free).unwrap_or_else(|| {
            self.clients.push(Client::default());
            self.clients.len() - 1
        });
        self.clients[place].guest = Some(id);
        self.begin_request(place, key, Command::Follow(value, stamp));
    }

    /// Writes down what has become of a request.
    pub(super) fn record(&mut self, client: usize, under_way: &UnderWay, outcome: Outcome) {
        let Load::Kinds { place, first } = self.load else { return };
        let request = under_way.request;
        let id = ClientId(self.clients[client].guest.unwrap_or(first + client as u16));
        if request.command == Command::Flush {
            return self.record_flush(id, under_way, outcome);
        }
        let key = key_of(request.key);
        let value = |number| value_of(number).expect("clients write values of theirs");
        let action = match request.command {
            Command::Get => Action::Get,
            Command::Set(number) => Action::Set(value(number), None),
            Command::SetFor(number, ttl) => Action::Set(value(number), Some(ttl)),
            Command::Increment => Action::Increment,
            Command::Delete => Action::Delete,
            Command::Expire(ttl) => Action::Expire(ttl),
            Command::Follow(number, _) => Action::Follow(value(number)),
            Command::Flush => return,
        };
        let outcome = match (outcome, request.command) {
            (Outcome::Read(number), _) => history::Outcome::Found(number.map(found)),
            (Outcome::Written(number, _), Command::Increment) => history::Outcome::Number(number),
            (Outcome::Written(..), _) => history::Outcome::Done,
            (Outcome::Changed(was, _), _) => history::Outcome::Was(was),
            _ if !request.command.writes() => return,
            _ => history::Outcome::Unknown("no answer".to_owned()),
        };
        let (called, returned) = (under_way.called, self.now);
        self.operations.push(Operation { client: id, region: place, key, called, returned, action, outcome });
    }

    /// Takes note of what a node has stamped; now and then who wrote it goes to read it elsewhere.
    pub(super) fn note_write(&mut self, index: usize, client: usize, wrote: Wrote) {
        let Load::Kinds { first, .. } = self.load else { return };
        let (name, stamp, value) = match wrote {
            Wrote::One { key, stamp, value } => (key, stamp, value),
            Wrote::All(stamp) => return self.note_flush(index, stamp),
        };
        let key = key_of(name);
        let address = self.processes[index].store.address(name);
        self.written.push(Written { index, key, name, address, stamp, value, is_flush: false, at: self.now });
        let is_plain = matches!(key.kind, Kind::Shared) && value.is_some() && !self.is_over;
        if let Some(value) = value.filter(|_| is_plain && self.random.random_ratio(1, FOLLOWED)) {
            let client = ClientId(first + client as u16);
            self.errands.push(Errand { client, key: name, value, stamp });
        }
    }

    /// The place of the primary of a slot, by the map.
    pub(crate) fn owner_index(&self, slot: Slot) -> Option<usize> {
        let map = self.raft.map();
        let primary = map.shard(map.owner(slot)?)?.primary;
        self.processes.iter().position(|process| process.node.id == primary)
    }

    /// The primary of a key's slot, by the map.
    pub(crate) fn owner(&self, name: &[u8]) -> Option<&Process> {
        self.owner_index(Slot::of(name)).map(|index| &self.processes[index])
    }

    /// Whether it may have evicted, or forgotten before all had seen it: what it lacks then is no loss.
    pub(crate) const fn may_miss(&self) -> bool {
        self.make.may_miss
    }

    /// Whether what was written here at a time may have died with its primary.
    pub(crate) fn may_have_lost(&self, at: Duration) -> bool {
        self.injuries.iter().any(|it| at >= it.from && it.until.is_none_or(|until| at <= until))
    }
}
