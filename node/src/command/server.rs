//! TIME, LOLWUT, SHUTDOWN, DEBUG: the server as a whole.

use std::{thread, time::Duration};

use node_core::number;

use super::{
    Context, Done, Failure,
    words::{is, utf8},
};
use crate::limits::DEBUG_SLEEP_MAX;

/// `TIME`
pub(super) fn time(call: Context<'_, '_, '_>) -> Done {
    let now = call.keyspace.now().wall.unix();
    call.reply.array(2);
    call.reply.bulk_integer(now.as_secs().cast_signed());
    call.reply.bulk_integer(now.subsec_micros().into());
    Ok(())
}

/// A meridian: half a circle from pole to pole, and the others beside it.
const ART: &str = r"
            .-'''''-.
         .'  /  |  \  '.
        /   |   |   |   \
       |----|---|---|----|
       |    |   |   |    |
       |----|---|---|----|
        \   |   |   |   /
         '.  \  |  /  .'
            '-.....-'
";

/// `LOLWUT [VERSION version]`
pub(super) fn lolwut(call: Context<'_, '_, '_>) -> Done {
    let region = &call.worker.server.config.region.name;
    let version = env!("CARGO_PKG_VERSION");
    call.reply.verbatim(&format!("{ART}\nMeridian ver. {version}, region {region}\n"));
    Ok(())
}

/// `SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE] [ABORT]`: stops as a signal would. Nothing is saved in any case.
pub(super) fn shutdown(call: Context<'_, '_, '_>) -> Done {
    let mut aborts = false;
    for word in call.args.from(1).iter() {
        match word.to_ascii_lowercase().as_slice() {
            b"nosave" | b"now" | b"force" => {}
            b"save" => return Err(Failure::text("ERR Errors trying to SHUTDOWN. Check logs.")),
            b"abort" => aborts = true,
            _ => return Err(Failure::SYNTAX),
        }
    }
    if aborts {
        return Err(Failure::text("ERR No shutdown in progress."));
    }
    tracing::info!(client = call.session.client.id, "told to shut down by a client");
    call.session.closing = true;
    call.server().stopping.cancel();
    Ok(())
}

/// `DEBUG SLEEP seconds`: makes a worker do nothing for a while. Only where it was built in, since it is a way to keep
/// everybody waiting.
pub(super) fn debug_sleep(call: Context<'_, '_, '_>) -> Done {
    if !cfg!(feature = "debug-commands") {
        return Err(NO_DEBUG);
    }
    let seconds = number::parse_double(&call.args[2]).filter(|seconds| *seconds >= 0.0);
    let seconds = seconds.ok_or(Failure::text("ERR value is not a valid float"))?;
    thread::sleep(Duration::try_from_secs_f64(seconds).unwrap_or(DEBUG_SLEEP_MAX).min(DEBUG_SLEEP_MAX));
    call.reply.ok();
    Ok(())
}

/// `DEBUG SET-ACTIVE-EXPIRE 0|1`
pub(super) fn debug_set_active_expire(call: Context<'_, '_, '_>) -> Done {
    if !cfg!(feature = "debug-commands") {
        return Err(NO_DEBUG);
    }
    let on = !is(&call.args[2], "0");
    call.server().parameters.active_expire.store(on, std::sync::atomic::Ordering::Relaxed);
    call.reply.ok();
    Ok(())
}

const NO_DEBUG: Failure =
    Failure::text("ERR DEBUG command not allowed: it is there only in a build with the feature debug-commands");

/// `DEBUG OBJECT key`
pub(super) fn debug_object(call: Context<'_, '_, '_>) -> Done {
    let (key, now) = (&call.args[2], call.keyspace.now());
    let described = call.keyspace.on(key, |stripe, at| {
        let bytes = stripe.entry_bytes(at, key, now.wall)?;
        let idle = stripe.access(at, key, now.wall)?.idle_seconds;
        let found = stripe.peek(at, key, now.wall)?;
        let (length, stamp) = (found.value.len(), found.stamp);
        let lru = (now.unix_ms() / 1_000).saturating_sub(idle) & 0x00ff_ffff;
        Some(format!(
            "Value at:0x0 refcount:1 encoding:raw serializedlength:{length} lru:{lru} lru_seconds_idle:{idle} \
             slot:{} bytes:{bytes} stamp:{stamp:?}",
            at.slot
        ))
    });
    let described = described.ok_or(Failure::text("ERR no such key"))?;
    call.reply.simple(&utf8(described.as_bytes()));
    Ok(())
}
