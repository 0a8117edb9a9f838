//! REGION RESTAMP: this node comes back from the future, where a clock that was ahead has taken it.
//!
//! What happens is told in the store (`restamp`). Here it is asked whether it may: of a primary alone, whose clock is right by now, and in
//! a cluster only while every replica that is up follows, since what one of them had and the primary lacks would not come home
//! afterwards.
//!
//! # Whose clock is right
//! Nobody knows. But a node whose clock most other regions contradict, or most of its own, would restamp to where it must be brought back
//! from again. Where there is but one other region and the two contradict each other, it may be that one's clock: then that has to be
//! set right first, too.

use std::time::Duration;

use clock::Now;
use geo_link::OutStatus;
use node_core::{cluster::Health, limits::RESTAMP_DRIFTS};

use super::peers::{can_change, want};
use crate::{
    command::{Context, Done, Failure, replication::is_replica, words},
    regions::Wish,
    server::Server,
};

/// `REGION RESTAMP [DRYRUN]`: what was stamped in the future is stamped anew. OK says that it is under way.
///
/// With DRYRUN a map of what lies there: how many records, in how many slots, and by how many milliseconds the furthest is ahead of the
/// clock, the clock of stamps among it.
pub(in crate::command) fn restamp(call: Context<'_, '_, '_>) -> Done {
    let (server, now) = (call.server(), call.keyspace.now());
    let is_dry = match (call.args.get(2), call.args.len()) {
        (None, _) => false,
        (Some(word), 3) if words::is(word, "dryrun") => true,
        _ => return Err(Failure::SYNTAX),
    };
    if is_replica(server) {
        return Err(Failure::text("ERR ask the primary: this node is a replica"));
    }
    can_change(server)?;
    if is_dry {
        let ahead = server.store.ahead(now.wall.after(server.config.clock.max_drift.saturating_mul(RESTAMP_DRIFTS)));
        call.reply.map(3);
        call.reply.text("records");
        call.reply.count(ahead.records);
        call.reply.text("slots");
        call.reply.count(ahead.slots);
        call.reply.text("ahead-ms");
        call.reply.integer(i64::try_from(ahead.latest.since(now.wall).as_millis()).unwrap_or(i64::MAX));
        return Ok(());
    }
    check_clock(server, now)?;
    check_replicas(server)?;
    want(call, Wish::Restamp)
}

/// Whether nobody has reason to say that this node's clock is wrong.
fn check_clock(server: &Server, now: Now) -> Result<(), Failure> {
    let max_drift = server.config.clock.max_drift;
    if server.cluster.as_ref().is_some_and(|cluster| cluster.is_outvoted()) {
        return Err(Failure::text("ERR the clock of this node disagrees with most of its region: set it right first"));
    }
    let clocks: Vec<_> = server.links.status(now).out.into_iter().filter_map(OtherClock::of).collect();
    let contradicting: Vec<_> = clocks.iter().filter(|clock| clock.contradicts(max_drift)).collect();
    if contradicting.len() * 2 <= clocks.len() {
        return Ok(());
    }
    let named: Vec<_> =
        contradicting.iter().map(|clock| format!("{} ({:+.3} s)", clock.region, clock.offset)).collect();
    let named = named.join(", ");
    Err(format!("ERR the clock of this node disagrees with that of {named}: set right whichever is wrong first").into())
}

/// The clock of another region.
#[derive(Clone, Debug)]
struct OtherClock {
    region: String,
    /// It, minus ours, in seconds.
    offset: f64,
    /// How long it took to ask for it, in seconds.
    round_trip: f64,
}

impl OtherClock {
    fn of(link: OutStatus) -> Option<Self> {
        Some(Self { region: link.to, offset: link.clock_offset_seconds?, round_trip: link.rtt_seconds? })
    }

    /// Whether it is further from ours than is allowed, whichever way the time of asking went into.
    fn contradicts(&self, max_drift: Duration) -> bool {
        self.offset.abs() - self.round_trip / 2.0 > max_drift.as_secs_f64()
    }
}

/// Whether every replica that is up has all that it could return.
fn check_replicas(server: &Server) -> Result<(), Failure> {
    let Some(cluster) = &server.cluster else { return Ok(()) };
    let (map, Some(shared)) = (cluster.map(), cluster.replication()) else {
        return Err(Failure::text("ERR this node is in no cluster yet"));
    };
    let Some((shard, _)) = map.shard_of(shared.me) else {
        return Err(Failure::text("ERR this node is in no shard yet"));
    };
    let mut up = map.replicas(shard).filter(|(_, known)| known.health == Health::Up);
    match up.find(|(replica, _)| !shared.followers.is_online(*replica)) {
        Some((replica, _)) => Err(format!("ERR replica {replica} is not connected: wait until it follows").into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::OtherClock;
    use crate::server::testing::{Client, worker_of};

    #[test]
    fn a_clock_contradicts_by_what_no_round_trip_explains() {
        let contradicts = |offset, round_trip| {
            OtherClock { region: "eu-west".to_owned(), offset, round_trip }.contradicts(Duration::from_millis(500))
        };
        assert!(contradicts(-3_600.0, 0.1) && contradicts(0.6, 0.1));
        assert!(!contradicts(0.4, 0.1) && !contradicts(-0.9, 1.0));
    }

    #[test]
    fn a_node_without_links_has_nobody_to_come_back_to() {
        let worker = worker_of(None);
        Client::of(&worker).gives(&[
            ("REGION RESTAMP SOON", "-ERR syntax error"),
            ("REGION RESTAMP DRYRUN", "-ERR this node has no gateway, see [gateway] in its file"),
            ("REGION RESTAMP", "-ERR this node has no gateway, see [gateway] in its file"),
        ]);
    }
}
