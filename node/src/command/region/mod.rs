//! REGION: the other regions, from where a client stands. The same data as `/status`.
//!
//! STATUS, LAG and TOKEN look at every stripe, so they do not run inside a transaction, which may hold them. In a transaction
//! WAIT and AWAIT wait for nobody.
//!
//! In a cluster all of it is about the node that is asked, and its slots: WAIT about what this node has stamped, a token as well,
//! and AWAIT about what has arrived here. A client that has written to several nodes joins their tokens by commas, and waits
//! at each node that it is about to read from.
//!
//! ADD and REMOVE change which other regions there are: see `peers`. RESTAMP brings back what was stamped in the future: see `restamp`. DIGEST, ROWS, FETCH and MERGE are what `meridian region verify` is made of: see `digest`, `rows` and `record`. Each is a
//! matter of the slots' primary, and whoever asks another node is told MOVED, as for a key.

mod digest;
mod peers;
mod record;
mod restamp;
mod rows;
#[cfg(test)]
mod tests;

use clock::RegionId;
use node_core::{
    cluster::{Access, Route},
    slot::SlotRange,
    store::Token,
};

pub(super) use self::{
    digest::digest,
    peers::{add, remove},
    record::{fetch, merge},
    restamp::restamp,
    rows::rows,
};
use super::{
    Context, Done, Failure,
    replication::is_replica,
    waiting,
    words::{self, entries_wanted, utf8},
};
use crate::admin::Status;

/// `REGION STATUS`: the text of `/status`.
pub(super) fn status(call: Context<'_, '_, '_>) -> Done {
    let status = Status::of(call.server(), call.keyspace.now());
    let text = serde_json::to_string_pretty(&status)
        .map_err(|error| Failure::from(format!("ERR cannot describe the region: {error}")))?;
    call.reply.verbatim(&text);
    Ok(())
}

/// `REGION LAG [region]`: for each other region, how old what is missing here of its writes may be, in seconds.
pub(super) fn lag(call: Context<'_, '_, '_>) -> Done {
    let now = call.keyspace.now();
    let mut links = call.server().links.status(now).r#in;
    if let Some(name) = call.args.get(2) {
        links.retain(|link| link.from.as_bytes() == name);
        if links.is_empty() {
            return Err(format!("ERR no such region '{}'", utf8(name)).into());
        }
    }
    call.reply.map(links.len());
    for link in links {
        call.reply.text(&link.from);
        call.reply.double(link.lag_seconds);
    }
    Ok(())
}

/// `REGION WAIT numregions timeout`, once there is nothing more to wait for: how many other regions have all that this node
/// has written.
pub(super) fn wait(call: Context<'_, '_, '_>) -> Done {
    waiting::count_and_timeout(call.args, 2)?;
    let waiting = call.session.waiting.take();
    refuse_replica(&call)?;
    call.reply.count(waiting.map_or(0, |waiting| waiting.reached(call.worker.server.as_ref())));
    Ok(())
}

/// `REGION TOKEN`: what stands for all that this node has written.
pub(super) fn token(call: Context<'_, '_, '_>) -> Done {
    refuse_replica(&call)?;
    let store = &call.server().store;
    let token = Token::new(store.origin(), store.last_stamp());
    call.reply.text(&token.to_string());
    Ok(())
}

/// `REGION AWAIT token timeout`, once there is nothing more to wait for: 1 if what the token stands for has arrived here, as
/// far as it is of this node's slots, else 0.
pub(super) fn await_token(call: Context<'_, '_, '_>) -> Done {
    waiting::token_and_timeout(call.args)?;
    let waiting = call.session.waiting.take();
    refuse_replica(&call)?;
    call.reply.count(waiting.map_or(0, |waiting| waiting.reached(call.worker.server.as_ref())));
    Ok(())
}

/// A replica stamps nothing, and does not know of other regions.
fn refuse_replica(call: &Context<'_, '_, '_>) -> Result<(), Failure> {
    if is_replica(call.server()) { Err(Failure::text("ERR ask the primary: this node is a replica")) } else { Ok(()) }
}

/// Refuses slots that are not this node's to speak for, in the words of a redirection.
fn refuse_others(call: &Context<'_, '_, '_>, slots: &SlotRange) -> Result<(), Failure> {
    let Some(cluster) = &call.server().cluster else { return Ok(()) };
    let leased = cluster.has_lease(call.keyspace.now().monotonic);
    let access = Access { leased, over_tls: call.session.over_tls, ..Access::default() };
    let routing = cluster.routing();
    let other = slots.iter().map(|slot| (slot, routing.route(slot, access))).find(|(_, route)| *route != Route::Here);
    other.map_or(Ok(()), |(slot, route)| Err(route.error(slot).to_string().into()))
}

/// Entries that CONFLICTS returns unless asked for more or less.
const CONFLICTS: usize = 10;

/// `REGION CONFLICTS [count | RESET]`: the latest concurrent writes of one key, of which one is lost; the latest first. For each a map: the
/// key, when it was found here in milliseconds since 1970, and the stamps of both sides, each with its region and the time of the write.
pub(super) fn conflicts(call: Context<'_, '_, '_>) -> Done {
    let server = call.worker.server.clone();
    let what = call.args.get(2);
    if what.is_some_and(|word| words::is(word, "reset")) {
        server.store.ledger().clear();
        call.reply.ok();
        return Ok(());
    }
    let conflicts = server.store.ledger().latest(entries_wanted(what, CONFLICTS)?);
    let name = |region: RegionId| {
        let own = &server.config.region;
        let own = (own.id == region).then(|| own.name.to_string());
        own.or_else(|| server.regions.name(region)).unwrap_or_else(|| region.to_string())
    };
    call.reply.array(conflicts.len());
    for conflict in conflicts {
        call.reply.map(4);
        call.reply.text("key");
        call.reply.bulk(&conflict.key);
        call.reply.text("found");
        call.reply.integer(conflict.found.unix_ms().cast_signed());
        for (side, stamp) in [("winner", conflict.winner), ("loser", conflict.loser)] {
            call.reply.text(side);
            call.reply.map(3);
            call.reply.text("region");
            call.reply.text(&name(stamp.origin.region()));
            call.reply.text("written");
            call.reply.integer(stamp.time.unix_ms().cast_signed());
            call.reply.text("stamp");
            call.reply.text(&stamp.to_string());
        }
    }
    Ok(())
}
