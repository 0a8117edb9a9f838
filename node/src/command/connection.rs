//! PING, ECHO, SELECT, AUTH, HELLO, RESET, QUIT: the connection itself.
//!
//! There is one user, `default`, and one database, 0. AUTH and HELLO know Redis's access control lists no further than
//! that: every other user is one whose password is wrong.

use std::sync::atomic::Ordering::Relaxed;

use node_core::{
    cluster::Role,
    number,
    resp::{Args, Protocol},
};

use super::{Context, Done, Failure, client};
use crate::{
    server::session::{Replies, Session},
    transaction,
};

/// The version of Redis whose behaviour clients may expect.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// `PING [message]`
pub(super) fn ping(call: Context<'_, '_, '_>) -> Done {
    match (call.args.get(1), call.args.len()) {
        (None, _) => call.reply.pong(),
        (Some(message), 2) => call.reply.bulk(message),
        _ => return Err(Failure::text("ERR wrong number of arguments for 'ping' command")),
    }
    Ok(())
}

/// `ECHO message`
pub(super) fn echo(call: Context<'_, '_, '_>) -> Done {
    call.reply.bulk(&call.args[1]);
    Ok(())
}

/// `SELECT index`
pub(super) fn select(call: Context<'_, '_, '_>) -> Done {
    match number::parse_i64(&call.args[1]) {
        None => Err(Failure::NOT_AN_INTEGER),
        Some(0) => {
            call.reply.ok();
            Ok(())
        }
        Some(_) => Err(Failure::text("ERR DB index is out of range")),
    }
}

/// `QUIT`
pub(super) fn quit(call: Context<'_, '_, '_>) -> Done {
    call.session.closing = true;
    call.reply.ok();
    Ok(())
}

/// `RESET`
pub(super) fn reset(call: Context<'_, '_, '_>) -> Done {
    transaction::forget(call.session);
    let authenticated = !call.server().parameters.needs_password();
    let session = call.session;
    session.authenticated = authenticated;
    session.replies = Replies::On;
    session.cluster.readonly = false;
    session.cluster.asking = false;
    set_protocol(session, Protocol::Resp2);
    session.client.relabel(|labels| labels.name.clear());
    session.client.no_evict.store(false, Relaxed);
    session.client.no_touch.store(false, Relaxed);
    call.reply.set_protocol(Protocol::Resp2);
    call.reply.simple("RESET");
    Ok(())
}

/// `AUTH [username] password`
pub(super) fn auth(call: Context<'_, '_, '_>) -> Done {
    let parameters = &call.worker.server.parameters;
    let (user, password) = match call.args.len() {
        2 if !parameters.needs_password() => {
            return Err(Failure::text(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        2 => (&b"default"[..], &call.args[1]),
        3 => (&call.args[1], &call.args[2]),
        _ => return Err(Failure::SYNTAX),
    };
    authenticate(&call, user, password)?;
    call.session.authenticated = true;
    call.reply.ok();
    Ok(())
}

fn authenticate(call: &Context<'_, '_, '_>, user: &[u8], password: &[u8]) -> Done {
    if user == b"default" && call.server().parameters.is_password(password) {
        return Ok(());
    }
    Err(Failure::text("WRONGPASS invalid username-password pair or user is disabled."))
}

/// What HELLO asks for.
#[derive(Default)]
struct Wishes<'a> {
    protocol: Option<Protocol>,
    credentials: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

impl<'a> Wishes<'a> {
    /// `[protover [AUTH username password] [SETNAME clientname]]`
    fn parse(args: Args<'a>) -> Result<Self, Failure> {
        let mut wishes = Self::default();
        let mut words = args.iter();
        let Some(version) = words.next() else { return Ok(wishes) };
        let version = number::parse_i64(version)
            .ok_or(Failure::text("ERR Protocol version is not an integer or out of range"))?;
        let known = Protocol::from_version(version);
        wishes.protocol = Some(known.ok_or(Failure::text("NOPROTO unsupported protocol version"))?);
        while let Some(word) = words.next() {
            let unknown = || {
                let option = String::from_utf8_lossy(word);
                Failure::from(format!("ERR Syntax error in HELLO option '{option}'"))
            };
            match word.to_ascii_lowercase().as_slice() {
                b"auth" => {
                    let (Some(user), Some(password)) = (words.next(), words.next()) else { return Err(unknown()) };
                    wishes.credentials = Some((user, password));
                }
                b"setname" => wishes.name = Some(words.next().ok_or_else(unknown)?),
                _ => return Err(unknown()),
            }
        }
        Ok(wishes)
    }
}

/// `HELLO [protover [AUTH username password] [SETNAME clientname]]`
pub(super) fn hello(call: Context<'_, '_, '_>) -> Done {
    let wishes = Wishes::parse(call.args.from(1))?;
    if let Some((user, password)) = wishes.credentials {
        authenticate(&call, user, password)?;
        call.session.authenticated = true;
    }
    if !call.session.authenticated {
        return Err(Failure::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = wishes.name {
        client::set_name(&call.session.client, name)?;
    }
    if let Some(protocol) = wishes.protocol {
        set_protocol(call.session, protocol);
        call.reply.set_protocol(protocol);
    }
    let cluster = call.worker.server.cluster.as_ref();
    let mode = if cluster.is_some() && call.session.proxied.is_none() { "cluster" } else { "standalone" };
    let is_replica = call.session.proxied.is_none()
        && cluster.is_some_and(|cluster| cluster.routing().role() == Some(Role::Replica));
    let (session, reply) = (call.session, call.reply);
    reply.map(7);
    for (field, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.text(field);
        reply.text(value);
    }
    reply.text("proto");
    reply.integer(session.protocol.version().into());
    reply.text("id");
    reply.integer(session.client.id.cast_signed());
    for (field, value) in [("mode", mode), ("role", if is_replica { "replica" } else { "master" })] {
        reply.text(field);
        reply.text(value);
    }
    reply.text("modules");
    reply.array(0);
    Ok(())
}

fn set_protocol(session: &mut Session, protocol: Protocol) {
    session.protocol = protocol;
    session.client.protocol.store(protocol.version(), Relaxed);
}
