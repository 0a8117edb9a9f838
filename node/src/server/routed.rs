//! The cluster's part in a turn: whether a request is for this node, and whether it may answer.
//!
//! What holds for a turn is found once, at its start: the routing, and whether the lease runs by the turn's own reading
//! of the clock. [`Turns`](node_core::turns::Turns) knows of the turn from before that until its end, so that who publishes
//! another routing can wait until nobody goes by the former one.
//!
//! # Keys and slots
//! All keys of a command lie in one slot (CROSSSLOT), all keys of the commands of a transaction too. Keys that are
//! only watched may lie elsewhere, as in Redis, but at this node: EXEC looks at them. Commands without keys are executed
//! wherever they come, but for those that write, which concern all that a node holds.
//!
//! # The lease, twice
//! A primary whose lease is over may have been replaced. So it neither writes nor reads on. A turn that began under the
//! lease may all the same be stopped in the middle for as long as it takes to be replaced (SIGSTOP, a pause of the
//! whole machine), and go on. For reads that does no harm: they were asked for while the lease ran, so what they saw
//! was current at a moment between request and reply. But a write that nobody has received is lost by the promotion,
//! and its reply would come after that. So before replies leave, the clock is read again if anything was written
//! ([`Worker::may_acknowledge`]). What is left is the moment between that look and the system call; a write
//! acknowledged in it is one that "a primary lost before any replica had it", and `WAIT` closes that.

use std::{mem, sync::Arc, time::Duration};

use arc_swap::Guard;
use node_core::{
    cluster::{Access, ClusterMap, Role, Route, Routing, common_slot},
    command_table::{Command, CommandId, Flags},
    resp::Args,
    slot::SlotRange,
    turns::InTurn,
};

use super::{execute::Admitted, session::Session, worker::Worker};
use crate::{cluster::Cluster, command::Failure, limits::HOLD_MAX, transaction};

/// See the head of this file.
pub(super) struct Routed<'w> {
    cluster: &'w Cluster,
    routing: Guard<Arc<Routing>>,
    leased: bool,
    now: Duration,
    _turn: InTurn<'w>,
}

/// What is decided about keys: nothing stands against them, or this.
type Decided = Result<(), Against>;

enum Against {
    /// They are held; the request is to come again.
    Held,
    /// They are refused with this error.
    Refused(String),
}

impl<'w> Routed<'w> {
    /// Begins a turn at `now`, in monotonic time. `None` if the node is in no cluster.
    #[inline]
    pub(super) fn begin(worker: &'w Worker, now: Duration) -> Option<Self> {
        let cluster = worker.server.cluster.as_deref()?;
        // First of all: from here on others wait for this turn.
        let turn = worker.server.turns.begin(worker.index);
        Some(Self { cluster, routing: cluster.routing(), leased: cluster.has_lease(now), now, _turn: turn })
    }

    /// Whether the cluster lets a command run here and now; `writes` says whether it, or what EXEC would execute,
    /// writes.
    #[inline]
    pub(super) fn admit(&self, session: &mut Session, command: &Command, args: Args<'_>, writes: bool) -> Admitted {
        let access = self.access(session, writes);
        let decided = if command.id == CommandId::Exec {
            self.decide_on_transaction(session, access)
        } else {
            self.decide(command.keys_of(args), access)
        };
        if let Err(Against::Held) = decided {
            session.cluster.held_since.get_or_insert(self.now);
            return Admitted::Later;
        }
        session.cluster.held_since = None;
        // Stands for a command or a transaction: MULTI and what is queued leave it as it is.
        session.cluster.asking &= command.id == CommandId::Multi || transaction::queues(session, command);
        match decided {
            Err(Against::Refused(why)) => {
                if command.id == CommandId::Exec {
                    // As in Redis: EXEC that belongs elsewhere gives the transaction up, and its error is the
                    // redirection.
                    transaction::forget(session);
                }
                Admitted::No(Failure::from(why))
            }
            _ => {
                // A redirection may be told whatever becomes of the lease; only a write is a promise.
                session.cluster.has_written |= writes;
                Admitted::Yes
            }
        }
    }

    /// Whether this node serves these keys, which lie in one slot, now and to any client.
    pub(super) fn serves<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>, writes: bool) -> bool {
        let access = Access { writes, leased: self.leased, ..Access::default() };
        self.decide(keys, access).is_ok()
    }

    /// The map that the turn goes by, or a younger one.
    pub(super) fn map(&self) -> Arc<ClusterMap> {
        self.cluster.map()
    }

    /// Whether this is a primary that too few replicas follow to write.
    #[inline]
    pub(super) fn lacks_replicas(&self) -> bool {
        !self.cluster.has_enough_replicas() && self.routing.role() == Some(Role::Primary)
    }

    /// Whether this is a primary whose clock disagrees with most of the region.
    #[inline]
    pub(super) fn is_outvoted(&self) -> bool {
        self.cluster.is_outvoted() && self.routing.role() == Some(Role::Primary)
    }

    fn access(&self, session: &Session, writes: bool) -> Access {
        let state = &session.cluster;
        Access {
            writes,
            readonly_session: state.readonly,
            asking: state.asking,
            over_tls: session.over_tls,
            leased: self.leased,
            waited: state.held_since.is_some_and(|since| self.now.saturating_sub(since) >= HOLD_MAX),
        }
    }

    #[inline]
    fn decide<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>, access: Access) -> Decided {
        let slot = common_slot(keys).map_err(|error| Against::Refused(error.to_string()))?;
        let route = slot.map_or_else(|| self.routing.route_keyless(access), |slot| self.routing.route(slot, access));
        match route {
            Route::Here => Ok(()),
            Route::Hold => Err(Against::Held),
            // Without keys no redirection names a slot.
            _ => Err(Against::Refused(route.error(slot.unwrap_or(SlotRange::ALL.first)).to_string())),
        }
    }

    /// Decides on all that EXEC would execute and look at.
    fn decide_on_transaction(&self, session: &Session, access: Access) -> Decided {
        if !transaction::is_sound(session) {
            // EXEC is an error in itself.
            return Ok(());
        }
        let queued = transaction::queued(session);
        self.decide(queued.clone().flat_map(|(command, args)| command.keys_of(args)), access)?;
        if queued.clone().any(|(command, _)| command.keys.is_empty() && command.is(Flags::WRITE)) {
            self.decide([], access)?;
        }
        transaction::watched_keys(session).try_for_each(|key| self.decide([key], access))
    }
}

impl Worker {
    /// Whether the replies of a turn may leave: what it wrote is this node's to acknowledge still.
    ///
    /// If not, the client is told nothing, by the end of its connection: its write may or may not come to be lost, and
    /// an error would claim that it is.
    #[inline]
    pub(super) fn may_acknowledge(&self, session: &mut Session) -> bool {
        !mem::take(&mut session.cluster.has_written)
            || self.server.cluster.as_ref().is_none_or(|cluster| cluster.has_lease(self.server.clock.now().monotonic))
    }
}

#[cfg(test)]
#[path = "routed_tests.rs"]
mod tests;
