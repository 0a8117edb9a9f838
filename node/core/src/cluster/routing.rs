//! Where a command belongs: what one node derives from the map, so that each request is decided by one array read.
//!
//! The map says who owns a slot; a node asks that for every request, some million times a second. So each map is turned
//! once into a [`Routing`]: for every slot the number of a [`Way`], which says all that matters to *this* node about it.
//! Nobody changes a `Routing`; another map, or slots that begin or cease to be held, make another one.
//!
//! # What a client is told
//! As in the Redis Cluster specification ("MOVED Redirection", "ASK Redirection", "Multiple keys operations"), in the
//! words of Redis 7.0:
//!
//! | the slot | this node | answer |
//! |---|---|---|
//! | has no owner | any | CLUSTERDOWN Hash slot not served |
//! | of this shard | primary under a lease | is executed |
//! | of this shard | primary, lease over | CLUSTERDOWN The cluster is down, to reads too: they might be stale |
//! | of this shard | replica, after READONLY, nothing written | is executed |
//! | of this shard | replica otherwise | MOVED to the primary |
//! | of another shard | any | MOVED to the primary of that |
//!
//! # Slots that move
//! A slot has one owner at any time. Unlike in Redis, where the keys of a moving slot are partly here and partly there,
//! ours are all at the source until it gives the slot, and then all at the target. So the source goes on serving the slot,
//! commands on several keys included. Between the last record that it hands over and the target's word that it serves lies
//! a moment in which neither may answer: then the slot is *held*, and a request waits ([`Route::Hold`]). After that the source
//! says MOVED to the target, which serves, though the map may not say so yet ([`Custody`]).
//!
//! A request does not wait for ever: if a slot is held for too long, the shell says so by [`Access::waited`], and the client is told
//! TRYAGAIN. Redis has ASK for this, but that sends clients to where nobody may answer either, and they give up.
//!
//! Who comes to the target of a move that is prepared is early, by moments: the request waits there as well, since to send it
//! to a source that is about to send it back would only take two turns more. If it is not served then, it goes to the
//! source after all. Of a move that is not prepared the target knows that the source serves it, and says MOVED at once.
//! ASKING changes nothing but the words: TRYAGAIN instead of MOVED.
//!
//! So it is with a replica that is about to take the place of its primary by hand: its former primary may hear of that first and
//! send clients here, so slots that are held at a replica let requests wait that it would send back.

use std::{collections::BTreeMap, fmt};

use super::{
    custody::{Custody, Keeping},
    id::{Epoch, NodeId, ShardId},
    map::{Addresses, ClusterMap, Moving, Role},
};
use crate::slot::{SLOTS, Slot, SlotRange, SlotSet};

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Routing {
    epoch: Epoch,
    /// What this node is, if it is in the cluster.
    role: Option<Role>,
    /// Whether any slot of this node is held.
    holds: bool,
    /// Whether requests may wait, for a slot that is held or that this node is about to take.
    waits: bool,
    /// For each slot the index of its way.
    slots: Box<[u16]>,
    /// Each differs from all others, so there are no more than slots.
    ways: Vec<Way>,
}

/// How a command came, and what it wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// It may change keys.
    pub writes: bool,
    /// The client has said READONLY: it takes what a replica has.
    pub readonly_session: bool,
    /// The client has said ASKING just before.
    pub asking: bool,
    /// The client has come over TLS, and is sent on to a port with TLS.
    pub over_tls: bool,
    /// This node's lease runs.
    pub leased: bool,
    /// It has been held already, as long as anything is.
    pub waited: bool,
}

/// Where a command belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'r> {
    /// To this node.
    Here,
    /// Nowhere for a moment: decide again when there is another routing.
    Hold,
    /// To the node at this `HOST:PORT`, as all of its slot do.
    Moved(&'r str),
    /// Nowhere yet.
    TryAgain,
    /// Nowhere: the slot has no owner.
    Unserved,
    /// Nowhere: this node may not serve what it holds.
    Down,
    /// To a primary, and the command names no key that would tell which.
    ReadOnly,
}

impl Route<'_> {
    /// The error that a client gets, for a command on keys of `slot`.
    pub fn error(self, slot: Slot) -> impl fmt::Display {
        fmt::from_fn(move |f| match self {
            Self::Moved(to) => write!(f, "MOVED {slot} {to}"),
            Self::Here | Self::Hold | Self::TryAgain => f.write_str(TRY_AGAIN),
            Self::Unserved => f.write_str("CLUSTERDOWN Hash slot not served"),
            Self::Down => f.write_str("CLUSTERDOWN The cluster is down"),
            Self::ReadOnly => f.write_str("READONLY You can't write against a read only replica."),
        })
    }
}

/// Redis says this of commands on several keys only; here it is of any.
const TRY_AGAIN: &str = "TRYAGAIN The slot is being handed over";

/// The keys of one command lie in several slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("CROSSSLOT Keys in request don't hash to the same slot")]
pub struct CrossSlot;

/// The slot of all these keys; `None` if there is none.
///
/// # Errors
/// [`CrossSlot`].
#[inline]
pub fn common_slot<'k>(keys: impl IntoIterator<Item = &'k [u8]>) -> Result<Option<Slot>, CrossSlot> {
    let mut keys = keys.into_iter();
    let Some(slot) = keys.next().map(Slot::of) else { return Ok(None) };
    if keys.all(|key| Slot::of(key) == slot) { Ok(Some(slot)) } else { Err(CrossSlot) }
}

impl Routing {
    /// What `me` needs of a map, with no slot held.
    pub fn new(map: &ClusterMap, me: NodeId) -> Self {
        Self::holding(map, me, &SlotSet::new(), None)
    }

    /// What `me` needs of a map, where these slots are held and those are given or taken. To be held matters for those which
    /// `me` serves, or is about to.
    pub fn holding(map: &ClusterMap, me: NodeId, held: &SlotSet, custody: Option<&Custody>) -> Self {
        let mine = map.shard_of(me).map(|(shard, _)| shard);
        let role = map.role(me);
        let custody = custody.filter(|custody| !custody.is_plain());
        let (mut ways, mut indexes, mut slots) = (Vec::new(), BTreeMap::new(), Vec::with_capacity(usize::from(SLOTS)));
        // This is done while requests wait.
        let starts = starts(map, held, custody);
        let ends = starts.iter().skip(1).copied().chain([SLOTS]);
        for (start, end) in starts.iter().zip(ends) {
            let Some(slot) = Slot::new(*start) else { continue };
            let kind = Kind::of(map, slot, map.moving(slot), held.contains(slot), custody);
            let way = *indexes.entry(kind).or_insert_with(|| {
                ways.push(Way::new(map, kind, mine.zip(role)));
                (ways.len() - 1) as u16
            });
            slots.resize(usize::from(end), way);
        }
        let slots = slots.into_boxed_slice();
        let holds = ways.iter().any(|way| way.part == Part::Serves && way.held);
        let is_early = |way: &Way| way.part == Part::Follows && way.held || way.part == Part::Awaits { soon: true };
        let waits = holds || ways.iter().any(is_early);
        Self { epoch: map.epoch(), role, holds, waits, slots, ways }
    }

    /// Of which map this is.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What this node is, if it is in the cluster.
    pub const fn role(&self) -> Option<Role> {
        self.role
    }

    /// Whether any slot is held that this node serves.
    pub const fn holds(&self) -> bool {
        self.holds
    }

    /// Whether requests may wait: for a slot that is held, or that this node is about to take.
    pub const fn waits(&self) -> bool {
        self.waits
    }

    /// Where a command on keys of `slot` belongs.
    #[inline]
    pub fn route(&self, slot: Slot, access: Access) -> Route<'_> {
        let way = &self.ways[usize::from(self.slots[usize::from(slot.number())])];
        if way.part == Part::Serves && access.leased && !way.held {
            return Route::Here;
        }
        way.route(access)
    }

    /// Where a command without keys belongs. One that writes, as FLUSHALL does, concerns all slots of this node.
    #[inline]
    pub fn route_keyless(&self, access: Access) -> Route<'_> {
        match self.role {
            _ if !access.writes => Route::Here,
            Some(Role::Replica) => Route::ReadOnly,
            _ if self.holds && !access.waited => Route::Hold,
            _ if self.holds => Route::TryAgain,
            _ if !access.leased => Route::Down,
            _ => Route::Here,
        }
    }
}

/// Where the runs of neighbouring slots begin that are all of one kind; two that follow one another may be of the same.
fn starts(map: &ClusterMap, held: &SlotSet, custody: Option<&Custody>) -> Vec<u16> {
    // Neighbours mostly move alike.
    let mut moves: Vec<(SlotRange, Moving)> = Vec::new();
    for (slot, moving) in map.moving_slots() {
        let is_next =
            |(run, former): &&mut (SlotRange, Moving)| run.last.number() + 1 == slot.number() && *former == moving;
        match moves.last_mut().filter(is_next) {
            Some((run, _)) => run.last = slot,
            None => moves.push((SlotRange { first: slot, last: slot }, moving)),
        }
    }
    let sets = custody.into_iter().flat_map(Custody::sets).chain([held]);
    let of_sets = sets.flat_map(|slots| slots.ranges().iter().cloned());
    let runs = map.owners().map(|(run, _)| run).chain(moves.into_iter().map(|(run, _)| run)).chain(of_sets);
    let mut starts: Vec<u16> = runs.flat_map(|run| [run.first.number(), run.last.number() + 1]).collect();
    starts.sort_unstable();
    starts.dedup();
    starts
}

/// All that matters to one node about a slot.
#[derive(Clone, Debug)]
struct Way {
    part: Part,
    held: bool,
    /// Where the primary is that others are sent to.
    owner: Option<Place>,
}

/// What a node is to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The primary that keeps it.
    Serves,
    /// A replica of its owner.
    Follows,
    /// The primary of the shard that it is moving to, perhaps within a moment.
    Awaits { soon: bool },
    /// None of these.
    None,
}

/// All that tells the ways of two slots apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    owner: Option<ShardId>,
    target: Option<ShardId>,
    is_prepared: bool,
    is_in_doubt: bool,
    is_held: bool,
    keeping: Keeping,
}

impl Kind {
    fn of(map: &ClusterMap, slot: Slot, moving: Option<Moving>, is_held: bool, custody: Option<&Custody>) -> Self {
        Self {
            owner: map.owner(slot),
            target: moving.map(|moving| moving.to),
            is_prepared: moving.is_some_and(|moving| moving.prepared.is_some()),
            is_in_doubt: moving.as_ref().is_some_and(Moving::is_in_doubt),
            is_held,
            keeping: custody.map_or(Keeping::Plain, |custody| custody.keeping(slot)),
        }
    }
}

impl Way {
    fn new(map: &ClusterMap, kind: Kind, mine: Option<(ShardId, Role)>) -> Self {
        let Kind { owner, target, keeping, .. } = kind;
        let part = match mine {
            Some((shard, Role::Primary)) if keeping == Keeping::Taken && target == Some(shard) => Part::Serves,
            Some((shard, Role::Primary)) if owner == Some(shard) && keeping != Keeping::Gone => Part::Serves,
            Some((shard, Role::Replica)) if owner == Some(shard) => Part::Follows,
            Some((shard, Role::Primary)) if target == Some(shard) => Part::Awaits { soon: kind.is_prepared },
            _ => Part::None,
        };
        // Who has taken a slot need not know what its owner by the map has come to.
        let is_kept_from_all = match keeping {
            Keeping::Given | Keeping::Returning => true,
            Keeping::Plain => kind.is_in_doubt,
            Keeping::Gone | Keeping::Taken => false,
        };
        let owner = if matches!(keeping, Keeping::Gone | Keeping::Taken) { target } else { owner };
        let primary = owner.and_then(|owner| map.node(map.shard(owner)?.primary));
        let owner = primary.map(|primary| Place::new(&primary.addresses));
        Self { part, held: kind.is_held || is_kept_from_all, owner }
    }

    fn route(&self, access: Access) -> Route<'_> {
        let Some(owner) = &self.owner else { return Route::Unserved };
        let moved = Route::Moved(owner.at(access.over_tls));
        match self.part {
            // Before anything is said of the lease: a new primary's is on its way.
            Part::Serves if self.held && !access.waited => Route::Hold,
            Part::Serves if self.held => Route::TryAgain,
            Part::Serves if !access.leased => Route::Down,
            Part::Serves => Route::Here,
            Part::Follows if access.readonly_session && !access.writes => Route::Here,
            Part::Follows if self.held && !access.waited => Route::Hold,
            Part::Awaits { soon: true } if !access.waited => Route::Hold,
            Part::Awaits { .. } if access.asking => Route::TryAgain,
            Part::Follows | Part::Awaits { .. } | Part::None => moved,
        }
    }
}

/// Where clients of either kind reach a node: `HOST:PORT`.
#[derive(Clone, Debug)]
struct Place {
    plain: Box<str>,
    over_tls: Box<str>,
}

impl Place {
    fn new(addresses: &Addresses) -> Self {
        Self { plain: addresses.redis().into(), over_tls: addresses.redis_over_tls().into() }
    }

    fn at(&self, over_tls: bool) -> &str {
        if over_tls { &self.over_tls } else { &self.plain }
    }
}

/// Whether a primary under its lease serves a slot: what a whole routing says of it.
#[cfg(test)]
pub(super) fn serves(map: &ClusterMap, slot: Slot, is_held: bool, custody: &Custody, me: NodeId) -> bool {
    let mine = map.shard_of(me).map(|(shard, _)| shard).zip(map.role(me));
    let way = Way::new(map, Kind::of(map, slot, map.moving(slot), is_held, Some(custody)), mine);
    way.part == Part::Serves && !way.held
}

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;
