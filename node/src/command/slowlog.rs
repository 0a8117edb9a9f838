//! SLOWLOG: the commands that took long. What is noted, and how it is cut, stands in [`crate::slowlog`].

use super::{Context, Done, words::entries_wanted};

/// Entries that SLOWLOG GET returns unless asked for more or less; Redis's.
const ENTRIES: usize = 10;

/// `SLOWLOG GET [count]`
pub(super) fn get(call: Context<'_, '_, '_>) -> Done {
    let count = entries_wanted(call.args.get(2), ENTRIES)?;
    let entries = call.server().slowlog.latest(count);
    let reply = call.reply;
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(entry.id.cast_signed());
        reply.integer(entry.unix_seconds.cast_signed());
        reply.integer(entry.took.as_micros() as i64);
        reply.array(entry.arguments.len());
        entry.arguments.iter().for_each(|argument| reply.bulk(argument));
        reply.text(&entry.address);
        reply.text(&entry.name);
    }
    Ok(())
}

/// `SLOWLOG LEN`
pub(super) fn len(call: Context<'_, '_, '_>) -> Done {
    call.reply.count(call.worker.server.slowlog.len());
    Ok(())
}

/// `SLOWLOG RESET`
pub(super) fn reset(call: Context<'_, '_, '_>) -> Done {
    call.server().slowlog.reset();
    call.reply.ok();
    Ok(())
}
