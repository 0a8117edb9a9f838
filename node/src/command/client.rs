//! CLIENT: who is connected, under which name, and who shall not be any more.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use node_core::{number, resp::Args};

use super::{
    Context, Done, Failure,
    words::{is, is_yes, utf8},
};
use crate::{clients::Client, limits::CLIENT_NAME_BYTES, pause::Paused, server::session::Replies};

/// `CLIENT ID`
pub(super) fn id(call: Context<'_, '_, '_>) -> Done {
    call.reply.integer(call.session.client.id.cast_signed());
    Ok(())
}

/// `CLIENT GETNAME`
pub(super) fn getname(call: Context<'_, '_, '_>) -> Done {
    let name = call.session.client.labels().name;
    call.reply.bulk_or_null(Some(name.as_bytes()).filter(|name| !name.is_empty()));
    Ok(())
}

/// `CLIENT SETNAME connection-name`
pub(super) fn setname(call: Context<'_, '_, '_>) -> Done {
    set_name(&call.session.client, &call.args[2])?;
    call.reply.ok();
    Ok(())
}

/// Names a client.
///
/// # Errors
/// If the name could be mistaken in a list of clients.
pub(super) fn set_name(client: &Client, name: &[u8]) -> Done {
    let name =
        label(name).ok_or(Failure::text("ERR Client names cannot contain spaces, newlines or special characters."))?;
    client.relabel(|labels| labels.name = name);
    Ok(())
}

/// A text that can stand in a list of clients; empty is nothing.
fn label(text: &[u8]) -> Option<String> {
    let printable = text.iter().all(|byte| (b'!'..=b'~').contains(byte));
    (printable && text.len() <= CLIENT_NAME_BYTES).then(|| utf8(text).into_owned())
}

/// `CLIENT SETINFO LIB-NAME|LIB-VER value`
pub(super) fn setinfo(call: Context<'_, '_, '_>) -> Done {
    let (option, value) = (&call.args[2], label(&call.args[3]));
    let client = &call.session.client;
    let name = utf8(option).to_ascii_lowercase();
    if !matches!(name.as_str(), "lib-name" | "lib-ver") {
        return Err(format!("ERR Unrecognized option '{}'", utf8(option)).into());
    }
    let value = value.ok_or_else(|| format!("ERR {name} cannot contain spaces, newlines or special characters."))?;
    client.relabel(|labels| {
        *if name == "lib-name" { &mut labels.library } else { &mut labels.library_version } = value;
    });
    call.reply.ok();
    Ok(())
}

/// `CLIENT INFO`
pub(super) fn info(call: Context<'_, '_, '_>) -> Done {
    let line = describe(&call.session.client, call.keyspace.now().monotonic);
    call.reply.verbatim(&line);
    Ok(())
}

/// `CLIENT LIST [TYPE type | ID client-id ...]`
pub(super) fn list(call: Context<'_, '_, '_>) -> Done {
    let mut clients = call.server().clients.all();
    match (call.args.get(2), call.args.get(3)) {
        (None, _) => {}
        (Some(word), Some(kind)) if is(word, "type") && call.args.len() == 4 => {
            if !is_type(kind)? {
                clients.clear();
            }
        }
        (Some(word), Some(_)) if is(word, "id") => {
            let ids: Result<Vec<_>, _> = call.args.from(3).iter().map(client_id).collect();
            let ids = ids.map_err(|_| Failure::text("ERR Invalid client ID"))?;
            clients.retain(|client| ids.contains(&client.id));
        }
        _ => return Err(Failure::SYNTAX),
    }
    let now = call.keyspace.now().monotonic;
    let lines: String = clients.iter().map(|client| describe(client, now)).collect();
    call.reply.verbatim(&lines);
    Ok(())
}

/// Whether clients are of this type: all are normal ones.
fn is_type(kind: &[u8]) -> Result<bool, Failure> {
    match kind.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(true),
        b"master" | b"replica" | b"slave" | b"pubsub" => Ok(false),
        _ => Err(format!("ERR Unknown client type '{}'", utf8(kind)).into()),
    }
}

fn client_id(text: &[u8]) -> Result<u64, Failure> {
    let id = number::parse_i64(text).filter(|id| *id > 0);
    id.map(i64::cast_unsigned).ok_or(Failure::text("ERR client-id should be greater than 0"))
}

/// One line of CLIENT LIST, with the fields of Redis 7.0 and the two of 7.2 that name the library.
fn describe(client: &Client, now: Duration) -> String {
    let labels = client.labels();
    let seconds = |since: Duration| now.saturating_sub(since).as_secs();
    let queued = client.queued.load(Relaxed);
    let mut flags = String::new();
    for (set, flag) in [
        (queued >= 0, 'x'),
        (client.blocked.load(Relaxed), 'b'),
        (client.no_evict.load(Relaxed), 'e'),
        (client.no_touch.load(Relaxed), 'T'),
    ] {
        if set {
            flags.push(flag);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let (pending, unsent) = (client.pending_bytes.load(Relaxed), client.unsent_bytes.load(Relaxed));
    let mut line = format!("id={} addr={} laddr={} fd={}", client.id, client.address, client.local, client.fd);
    // A string takes every write.
    let _ = write!(line, " name={} age={} idle={}", labels.name, seconds(client.since), seconds(client.active()));
    let _ =
        write!(line, " flags={flags} db=0 sub=0 psub=0 ssub=0 multi={queued} watch={}", client.watched.load(Relaxed));
    let _ = write!(line, " qbuf={pending} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={unsent} oll=0");
    let _ = write!(line, " omem={unsent} tot-mem={} events=r", size_of::<Client>() + pending + unsent);
    let _ = write!(line, " cmd={} user=default redir=-1", client.last_command().map_or("NULL", |command| command.name));
    let _ = write!(line, " resp={}", client.protocol.load(Relaxed));
    let _ = writeln!(line, " lib-name={} lib-ver={}", labels.library, labels.library_version);
    line
}

/// Whom CLIENT KILL closes: those whom every filter names.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    address: Option<String>,
    local: Option<String>,
    of_other_type: bool,
    max_age: Option<Duration>,
    includes_self: bool,
}

impl Filter {
    /// Pairs of a name and a value, or an address alone, which is the form of old.
    fn parse(args: Args<'_>) -> Result<(Self, bool), Failure> {
        let mut filter = Self::default();
        if args.len() == 1 {
            filter.address = Some(utf8(&args[0]).into_owned());
            filter.includes_self = true;
            return Ok((filter, true));
        }
        let mut words = args.iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or(Failure::SYNTAX)?;
            match word.to_ascii_lowercase().as_slice() {
                b"id" => filter.id = Some(client_id(value)?),
                b"addr" => filter.address = Some(utf8(value).into_owned()),
                b"laddr" => filter.local = Some(utf8(value).into_owned()),
                b"type" => filter.of_other_type |= !is_type(value)?,
                b"user" if value == b"default" => {}
                b"user" => return Err(format!("ERR No such user '{}'", utf8(value)).into()),
                b"skipme" => filter.includes_self = !is_yes(value).ok_or(Failure::SYNTAX)?,
                b"maxage" => {
                    let seconds = number::parse_i64(value).and_then(|seconds| seconds.try_into().ok());
                    filter.max_age = Some(Duration::from_secs(seconds.ok_or(Failure::NOT_AN_INTEGER)?));
                }
                _ => return Err(Failure::SYNTAX),
            }
        }
        Ok((filter, false))
    }

    fn takes(&self, client: &Client, now: Duration) -> bool {
        let address = |wanted: &Option<String>, is: String| wanted.as_ref().is_none_or(|wanted| *wanted == is);
        self.id.is_none_or(|id| id == client.id)
            && address(&self.address, client.address.to_string())
            && address(&self.local, client.local.to_string())
            && !self.of_other_type
            && self.max_age.is_none_or(|least| now.saturating_sub(client.since) >= least)
    }
}

/// `CLIENT KILL ip:port` and `CLIENT KILL [ID id] [TYPE type] [ADDR a] [LADDR a] [USER u] [SKIPME yes|no] [MAXAGE s]`
pub(super) fn kill(call: Context<'_, '_, '_>) -> Done {
    let (filter, is_old_form) = Filter::parse(call.args.from(2))?;
    let (own, now) = (call.session.client.id, call.keyspace.now().monotonic);
    let mut closed = 0;
    for client in call.server().clients.all() {
        let own = client.id == own;
        if !filter.takes(&client, now) || own && !filter.includes_self {
            continue;
        }
        closed += 1;
        if own {
            // After the reply, which says that it was done.
            call.session.closing = true;
        } else {
            client.close();
        }
    }
    match (is_old_form, closed) {
        (true, 0) => return Err(Failure::text("ERR No such client")),
        (true, _) => call.reply.ok(),
        (false, closed) => call.reply.integer(closed),
    }
    Ok(())
}

/// `CLIENT NO-EVICT ON|OFF` and `CLIENT NO-TOUCH ON|OFF`: noted and shown. Clients are never evicted here.
pub(super) fn set_flag(
    call: Context<'_, '_, '_>,
    flag: impl FnOnce(&Arc<Client>) -> &std::sync::atomic::AtomicBool,
) -> Done {
    let on = match call.args[2].to_ascii_lowercase().as_slice() {
        b"on" => true,
        b"off" => false,
        _ => return Err(Failure::SYNTAX),
    };
    flag(&call.session.client).store(on, Relaxed);
    call.reply.ok();
    Ok(())
}

/// `CLIENT REPLY ON|OFF|SKIP`
pub(super) fn replies(call: Context<'_, '_, '_>) -> Done {
    call.session.replies = match call.args[2].to_ascii_lowercase().as_slice() {
        b"on" => Replies::On,
        b"off" => Replies::Off,
        b"skip" => Replies::SkipNext,
        _ => return Err(Failure::SYNTAX),
    };
    // Not seen unless replies are on.
    call.reply.ok();
    Ok(())
}

/// `CLIENT PAUSE timeout [WRITE|ALL]`
pub(super) fn pause(call: Context<'_, '_, '_>) -> Done {
    let ms = number::parse_i64(&call.args[2]).ok_or(Failure::text("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Failure::text("ERR timeout is negative"))?;
    let who = match call.args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"all") => Paused::All,
        Some(b"write") => Paused::Writes,
        Some(_) => return Err(Failure::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let end = call.keyspace.now().monotonic.saturating_add(Duration::from_millis(ms));
    call.server().pause.begin(who, end);
    call.reply.ok();
    Ok(())
}

/// `CLIENT UNPAUSE`
pub(super) fn unpause(call: Context<'_, '_, '_>) -> Done {
    call.server().pause.end();
    call.reply.ok();
    Ok(())
}

/// `CLIENT UNBLOCK client-id [TIMEOUT|ERROR]`: no command blocks, so there is nobody to unblock.
pub(super) fn unblock(call: Context<'_, '_, '_>) -> Done {
    number::parse_i64(&call.args[2]).ok_or(Failure::NOT_AN_INTEGER)?;
    if call.args.get(3).is_some_and(|how| !is(how, "timeout") && !is(how, "error")) {
        return Err(Failure::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
    }
    call.reply.integer(0);
    Ok(())
}

/// `CLIENT TRACKING ON|OFF`: off it is.
pub(super) fn tracking(call: Context<'_, '_, '_>) -> Done {
    if is(&call.args[2], "off") {
        call.reply.ok();
        return Ok(());
    }
    Err(Failure::text("ERR client side caching is not supported"))
}

/// `CLIENT GETREDIR`
pub(super) fn getredir(call: Context<'_, '_, '_>) -> Done {
    call.reply.integer(-1);
    Ok(())
}
