//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: commands that run with nothing in between.
//!
//! Between MULTI and EXEC requests are checked and queued. EXEC holds the stripes of every key that the queue names, and
//! of every watched key, in the order of their numbers, and then runs the queue: nobody else sees or changes those keys
//! meanwhile. A queue with a command that may touch any key holds all stripes.
//!
//! WATCH remembers the version of a key, which is the stamp of its value. EXEC compares: also a write that arrived from
//! another region, an eviction or an expiry in between makes it give up. A stamp is never issued twice, so there is no
//! value that went away and came back unnoticed.
//!
//! Redis's rules about errors: what is refused while queuing spoils the transaction, and EXEC says EXECABORT; what fails
//! while executing is an error in its place, and the rest runs.
//!
//! Across regions a transaction is nothing special: its records travel one by one, as any others do.

use std::sync::atomic::Ordering::Relaxed;

use clock::Stamp;
use node_core::{
    command::is_of_whole_keyspace,
    command_table::{Command, CommandId, Flags, Group},
    keyspace::Keyspace,
    resp::{Args, ArgsBuf, Reply},
};

use crate::{
    command::{self, Context, Done, Failure},
    server::{session::Session, worker::Worker},
};

/// What a client has queued and what it watches.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// Between MULTI and EXEC or DISCARD; otherwise keys are watched, no more.
    open: bool,
    /// Something was refused: EXEC will execute nothing.
    spoiled: bool,
    queue: Vec<(&'static Command, ArgsBuf)>,
    /// Bytes of all that is kept, for the bound.
    bytes: usize,
    /// The flags of all queued commands together.
    flags: Flags,
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    key: Box<[u8]>,
    version: Option<Stamp>,
}

impl Default for Transaction {
    fn default() -> Self {
        Self { open: false, spoiled: false, queue: Vec::new(), bytes: 0, flags: Flags::NONE, watched: Vec::new() }
    }
}

impl Transaction {
    /// The keys that EXEC holds; `None` if that must be all.
    fn keys(&self) -> Option<Vec<&[u8]>> {
        // INFO and its like look at all stripes.
        let touches_any = |command: &Command| {
            is_of_whole_keyspace(command.id) || (command.keys.is_empty() && command.group != Group::Connection)
        };
        if self.queue.iter().any(|(command, _)| touches_any(command)) {
            return None;
        }
        let queued = self.queue.iter().flat_map(|(command, args)| command.keys_of(args.as_args()));
        Some(queued.chain(self.watched.iter().map(|watched| &*watched.key)).collect())
    }
}

/// Whether a transaction is open.
pub(crate) fn is_open(session: &Session) -> bool {
    session.transaction.as_ref().is_some_and(|transaction| transaction.open)
}

/// Whether `command` would be queued rather than executed.
pub(crate) fn queues(session: &Session, command: &Command) -> bool {
    use CommandId::{Discard, Exec, Multi, Quit, Reset, Watch};
    is_open(session) && !matches!(command.id, Exec | Discard | Multi | Watch | Quit | Reset)
}

/// The flags of what EXEC would execute.
pub(crate) fn queued_flags(session: &Session) -> Flags {
    session.transaction.as_ref().map_or(Flags::NONE, |transaction| transaction.flags)
}

/// Notes that something was refused: an open transaction will not execute.
pub(crate) fn spoil(session: &mut Session) {
    if let Some(transaction) = session.transaction.as_mut().filter(|transaction| transaction.open) {
        transaction.spoiled = true;
    }
}

/// Whether EXEC would execute what is queued, as far as that is known before.
pub(crate) fn is_sound(session: &Session) -> bool {
    session.transaction.as_ref().is_some_and(|transaction| transaction.open && !transaction.spoiled)
}

/// What is queued, in order.
pub(crate) fn queued(session: &Session) -> impl Iterator<Item = (&'static Command, Args<'_>)> + Clone {
    let queue = session.transaction.as_ref().map_or(&[][..], |transaction| &transaction.queue);
    queue.iter().map(|(command, args)| (*command, args.as_args()))
}

/// The keys that are watched.
pub(crate) fn watched_keys(session: &Session) -> impl Iterator<Item = &[u8]> {
    let watched = session.transaction.as_ref().map_or(&[][..], |transaction| &transaction.watched);
    watched.iter().map(|watched| &*watched.key)
}

/// Queues a request. What all queued requests hold is bounded as one request is.
pub(crate) fn queue(
    worker: &Worker,
    session: &mut Session,
    command: &'static Command,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) {
    let Some(transaction) = session.transaction.as_mut() else { return };
    if command.group == Group::Region {
        // They look at every stripe by themselves, and EXEC may hold them.
        transaction.spoiled = true;
        return reply.error("ERR Command not allowed inside a transaction");
    }
    let args = ArgsBuf::from(args);
    let bytes = transaction.bytes + args.memory() + size_of::<ArgsBuf>();
    if bytes > worker.server.parameters.query_bytes_max.load(Relaxed) as usize {
        transaction.spoiled = true;
        return reply.error("ERR transaction exceeds client-query-buffer-limit");
    }
    transaction.bytes = bytes;
    transaction.flags = transaction.flags.with(command.flags);
    // A spoiled transaction executes nothing, so it need not be kept.
    if !transaction.spoiled {
        transaction.queue.push((command, args));
    }
    session.client.queued.store(transaction.queue.len() as i64, Relaxed);
    reply.queued();
}

/// Gives a transaction up whose EXEC was refused, and says so.
pub(crate) fn abort(session: &mut Session, why: &Failure) -> Failure {
    if !is_open(session) {
        return why.clone();
    }
    forget(session);
    format!("EXECABORT Transaction discarded because of: {why}").into()
}

/// Forgets what is queued and watched.
pub(crate) fn forget(session: &mut Session) {
    session.transaction = None;
    session.client.queued.store(-1, Relaxed);
    session.client.watched.store(0, Relaxed);
}

/// `MULTI`
pub(crate) fn multi(call: Context<'_, '_, '_>) -> Done {
    let transaction = call.session.transaction.get_or_insert_default();
    if transaction.open {
        return Err(Failure::text("ERR MULTI calls can not be nested"));
    }
    transaction.open = true;
    call.session.client.queued.store(0, Relaxed);
    call.reply.ok();
    Ok(())
}

/// `DISCARD`
pub(crate) fn discard(call: Context<'_, '_, '_>) -> Done {
    if !is_open(call.session) {
        return Err(Failure::text("ERR DISCARD without MULTI"));
    }
    forget(call.session);
    call.reply.ok();
    Ok(())
}

/// `WATCH key [key ...]`
pub(crate) fn watch(call: Context<'_, '_, '_>) -> Done {
    if is_open(call.session) {
        return Err(Failure::text("ERR WATCH inside MULTI is not allowed"));
    }
    let now = call.keyspace.now().wall;
    let transaction = call.session.transaction.get_or_insert_default();
    let limit = call.worker.server.parameters.query_bytes_max.load(Relaxed) as usize;
    for key in call.args.from(1).iter() {
        if transaction.watched.iter().any(|watched| &*watched.key == key) {
            continue;
        }
        transaction.bytes += key.len() + size_of::<Watched>();
        if transaction.bytes > limit {
            return Err(Failure::text("ERR watched keys exceed client-query-buffer-limit"));
        }
        let version = call.keyspace.on(key, |stripe, at| stripe.version(at, key, now));
        transaction.watched.push(Watched { key: key.into(), version });
    }
    call.session.client.watched.store(transaction.watched.len(), Relaxed);
    call.reply.ok();
    Ok(())
}

/// `UNWATCH`
pub(crate) fn unwatch(call: Context<'_, '_, '_>) -> Done {
    // Inside a transaction it comes too late to matter: EXEC has compared already.
    if !is_open(call.session) {
        forget(call.session);
    }
    call.reply.ok();
    Ok(())
}

/// `EXEC`
pub(crate) fn exec(call: Context<'_, '_, '_>) -> Done {
    let Some(transaction) = call.session.transaction.take_if(|transaction| transaction.open) else {
        return Err(Failure::text("ERR EXEC without MULTI"));
    };
    forget(call.session);
    if transaction.spoiled {
        return Err(Failure::text("EXECABORT Transaction discarded because of previous errors."));
    }
    match transaction.keys() {
        Some(keys) => call.keyspace.hold(keys.into_iter()),
        None => call.keyspace.hold_all(),
    }
    if transaction.watched.iter().any(|watched| has_changed(call.keyspace, watched)) {
        call.reply.null_array();
        return Ok(());
    }
    call.reply.array(transaction.queue.len());
    for (command, args) in &transaction.queue {
        run(call.worker, call.session, command, args.as_args(), call.keyspace, call.reply);
    }
    Ok(())
}

fn has_changed(keyspace: &mut Keyspace<'_>, watched: &Watched) -> bool {
    let now = keyspace.now().wall;
    keyspace.on(&watched.key, |stripe, at| stripe.version(at, &watched.key, now)) != watched.version
}

/// Runs one command of the queue; an error is its reply.
fn run(
    worker: &Worker,
    session: &mut Session,
    command: &'static Command,
    args: Args<'_>,
    keyspace: &mut Keyspace<'_>,
    reply: &mut Reply<'_>,
) {
    let began = worker.ticks.raw();
    let done = command::execute(command.id, Context { worker, session, args, keyspace, reply });
    let nanos = worker.ticks.delta_as_nanos(began, worker.ticks.raw());
    worker.stats.note_call(command.id, nanos, done.is_err());
    if let Err(failure) = done {
        worker.server.stats.note_error(failure.to_string().as_bytes());
        reply.error(failure);
    }
}
