//! PING, ECHO, SELECT, QUIT, RESET, AUTH, HELLO: the connection itself.

use super::{Context, Done};

/// `PING [message]`
pub(super) fn ping(call: Context<'_, '_, '_>) -> Done {
    match call.args.get(1) {
        None => call.reply.pong(),
        Some(message) => call.reply.bulk(message),
    }
    Ok(())
}

/// `ECHO message`
pub(super) fn echo(call: Context<'_, '_, '_>) -> Done {
    call.reply.bulk(&call.args[1]);
    Ok(())
}
