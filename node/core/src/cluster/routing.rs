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
//! ours are all at the source until the map flips, and then all at the target. So the source goes on serving the slot,
//! commands on several keys included, and says neither ASK nor TRYAGAIN. Between the last record that it hands over and
//! the flip lies a moment in which neither may answer: then the slot is *held* on both, and a request waits
//! ([`Route::Hold`]) until the map flips or the holder gives up. It does not wait for ever: if that takes too long, the
//! shell says so by [`Access::waited`], and now Redis's words for a slot in transit are the truth:
//!
//! - The source says ASK: the target is the one to know, this once; nothing is settled.
//! - The target says TRYAGAIN as long as its own map has not flipped, to who was ASKed there as to who came by himself.
//!   It must not execute the command before: the move may still fail, and the source serve the slot again without it.
//!
//! A client that goes to the target with ASKING before anything is held gets TRYAGAIN for the same reason.

use std::{collections::BTreeMap, fmt};

use super::{
    id::{Epoch, NodeId, ShardId},
    map::{Addresses, ClusterMap, Role},
};
use crate::slot::{Slot, SlotSet};

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Routing {
    epoch: Epoch,
    /// What this node is, if it is in the cluster.
    role: Option<Role>,
    /// Whether any slot of this node is held.
    holds: bool,
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
    /// To the node at this `HOST:PORT`, but only this time.
    Ask(&'r str),
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
            Self::Ask(to) => write!(f, "ASK {slot} {to}"),
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
        Self::holding(map, me, &SlotSet::new())
    }

    /// What `me` needs of a map, where these slots are held. That matters for those which `me` serves, or is about to.
    pub fn holding(map: &ClusterMap, me: NodeId, held: &SlotSet) -> Self {
        let mine = map.shard_of(me).map(|(shard, _)| shard);
        let role = map.role(me);
        let (mut ways, mut indexes) = (Vec::new(), BTreeMap::new());
        let slots = Slot::all().map(|slot| {
            let kind = (map.owner(slot), map.target(slot), held.contains(slot));
            *indexes.entry(kind).or_insert_with(|| {
                ways.push(Way::new(map, kind, mine.zip(role)));
                (ways.len() - 1) as u16
            })
        });
        let slots = slots.collect();
        let holds = ways.iter().any(Way::is_held);
        Self { epoch: map.epoch(), role, holds, slots, ways }
    }

    /// Of which map this is.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What this node is, if it is in the cluster.
    pub const fn role(&self) -> Option<Role> {
        self.role
    }

    /// Whether any slot is held that this node serves or is about to.
    pub const fn holds(&self) -> bool {
        self.holds
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
            _ if !access.leased => Route::Down,
            _ if self.holds => Route::TryAgain,
            _ => Route::Here,
        }
    }
}

/// All that matters to one node about a slot.
#[derive(Clone, Debug)]
struct Way {
    part: Part,
    held: bool,
    /// Where the owner's primary is.
    owner: Option<Place>,
    /// Where the primary is that the slot is moving to.
    target: Option<Place>,
}

/// What a node is to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The primary of its owner.
    Serves,
    /// A replica of its owner.
    Follows,
    /// The primary of the shard that it is moving to.
    Awaits,
    /// None of these.
    None,
}

impl Way {
    fn new(
        map: &ClusterMap,
        (owner, target, held): (Option<ShardId>, Option<ShardId>, bool),
        mine: Option<(ShardId, Role)>,
    ) -> Self {
        let part = match mine {
            Some((shard, Role::Primary)) if owner == Some(shard) => Part::Serves,
            Some((shard, Role::Replica)) if owner == Some(shard) => Part::Follows,
            Some((shard, Role::Primary)) if target == Some(shard) => Part::Awaits,
            _ => Part::None,
        };
        let place = |shard: Option<ShardId>| {
            let primary = map.node(map.shard(shard?)?.primary)?;
            Some(Place::new(&primary.addresses))
        };
        Self { part, held, owner: place(owner), target: place(target) }
    }

    /// Whether a request may have to wait.
    fn is_held(&self) -> bool {
        self.held && matches!(self.part, Part::Serves | Part::Awaits)
    }

    fn route(&self, access: Access) -> Route<'_> {
        let Some(owner) = &self.owner else { return Route::Unserved };
        let moved = Route::Moved(owner.at(access.over_tls));
        match self.part {
            // Before anything is said of the lease: a new primary's is on its way.
            Part::Serves | Part::Awaits if self.held && !access.waited => Route::Hold,
            Part::Serves if !access.leased => Route::Down,
            Part::Serves if self.held => {
                self.target.as_ref().map_or(Route::TryAgain, |target| Route::Ask(target.at(access.over_tls)))
            }
            Part::Serves => Route::Here,
            Part::Follows if access.readonly_session && !access.writes => Route::Here,
            Part::Awaits if self.held || access.asking => Route::TryAgain,
            Part::Follows | Part::Awaits | Part::None => moved,
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

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;
