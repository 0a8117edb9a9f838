//! REGION: the other regions, from where a client stands. The same data as `/status`.
//!
//! STATUS and LAG look at every stripe, so they do not run inside a transaction, which may hold them. WAIT, TOKEN, AWAIT
//! and CONFLICTS are not there yet and say so.

use super::{Context, Done, Failure, words::utf8};
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

/// What is not there yet.
pub(super) fn unavailable(_: Context<'_, '_, '_>) -> Done {
    Err(Failure::text("ERR this subcommand of REGION is not available in this version; try REGION HELP"))
}
