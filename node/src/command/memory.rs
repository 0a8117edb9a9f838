//! MEMORY: where it goes. MEMORY USAGE, which asks about a key, is in the core.

use std::sync::atomic::Ordering::Relaxed;

use node_core::store::EvictionPolicy;

use super::{Context, Done};
use crate::process;

/// `MEMORY STATS`
pub(super) fn stats(call: Context<'_, '_, '_>) -> Done {
    let (mut keys, mut log) = (0, 0);
    for index in 0..call.keyspace.store().stripes() {
        call.keyspace.on_stripe(index, |stripe| {
            keys += stripe.census().values;
            log += stripe.log_bytes();
        });
    }
    let server = call.server();
    let settings = server.store.settings();
    let (used, resident) = (settings.used_bytes() as u64, process::resident_bytes());
    let peak = server.peak_bytes.fetch_max(used, Relaxed).max(used);
    let fields = [
        ("peak.allocated", peak),
        ("total.allocated", used),
        ("startup.allocated", 0),
        ("replication.backlog", log as u64),
        ("clients.slaves", 0),
        ("clients.normal", 0),
        ("overhead.total", log as u64),
        ("keys.count", keys as u64),
        ("keys.bytes-per-key", used / (keys as u64).max(1)),
        ("dataset.bytes", used),
        ("tombstone.bytes", settings.tombstone_bytes() as u64),
        ("allocator.resident", resident),
    ];
    let reply = call.reply;
    reply.map(fields.len() + 1);
    for (field, value) in fields {
        reply.text(field);
        reply.integer(value.cast_signed());
    }
    reply.text("fragmentation");
    reply.double(resident as f64 / used.max(1) as f64);
    Ok(())
}

/// `MEMORY DOCTOR`
pub(super) fn doctor(call: Context<'_, '_, '_>) -> Done {
    let settings = call.server().store.settings();
    let (used, limit) = (settings.used_bytes(), settings.max_memory());
    let text = if limit == 0 {
        "There is no limit on memory: maxmemory is 0. A cache should have one, or the kernel will set it.\n"
    } else if used > limit / 10 * 9 && settings.policy() == EvictionPolicy::NoEviction {
        "Memory is nearly full, and the policy noeviction lets nothing go: writes will soon be refused.\n"
    } else if settings.tombstone_bytes() > settings.tombstone_budget() / 10 * 9 {
        "The budget for tombstones is nearly used up: a region has been away for long, or lags. Soon the oldest will be \
         forgotten early, which costs misses and never a wrong answer.\n"
    } else {
        "Nothing is wrong with memory.\n"
    };
    call.reply.verbatim(text);
    Ok(())
}

/// `MEMORY MALLOC-STATS`
pub(super) fn malloc_stats(call: Context<'_, '_, '_>) -> Done {
    call.reply.verbatim("Stats not supported for the current allocator");
    Ok(())
}

/// `MEMORY PURGE`: mimalloc gives memory back by itself.
pub(super) fn purge(call: Context<'_, '_, '_>) -> Done {
    call.reply.ok();
    Ok(())
}
