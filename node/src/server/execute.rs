//! What happens to a request between the parser and the command: may it run, now, and what is noted of it.
//!
//! The order of the checks is Redis's, since clients see it: unknown or malformed, not authenticated, (ours) a key that
//! is too long, another node's, out of memory, too few replicas, inside a transaction, paused. A request that is
//! refused changes nothing, except that an open transaction will not execute any more.

use clock::Now;
use node_core::{
    command_table::{self, Command, CommandId, Flags},
    keyspace::Keyspace,
    resp::{Args, Reply, request::is_http},
};

use super::{
    routed::Routed,
    session::{Replies, Session},
    worker::Worker,
};
use crate::{
    cluster::clocks,
    command::{self, Context, Failure, Waiting},
    pause::Paused,
    slowlog,
    stats::{Run, SHORT_NANOS_MAX},
    transaction,
};

/// What a connection does after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The next request.
    Next,
    /// Nothing more, once the reply is written.
    Close,
    /// Nothing, until this same request may run: a pause, or the clock, is in its way.
    Wait,
    /// Nothing, until what has collected for other nodes is carried out.
    Forward,
}

/// One turn of a connection: the clocks are read once, at its start.
pub(crate) struct Turn<'w> {
    now: Now,
    /// The cluster's part in it, if there is one.
    routed: Option<Routed<'w>>,
    /// When the last command ended, or the turn began.
    ticks: u64,
    /// Whether a write of this turn is under the persisted mark.
    covered: bool,
    /// From how many nanoseconds on a command is noted by name.
    note_from_nanos: u64,
    key_bytes_max: usize,
    /// The calls that are yet to be noted.
    run: Run<'w>,
}

impl Worker {
    /// Reads the clocks for what a connection is going to execute.
    #[inline]
    pub(crate) fn begin_turn(&self, session: &Session) -> Turn<'_> {
        let now = self.server.clock.now();
        session.client.note_active(now.monotonic);
        self.stats.turns.add(1);
        let note_from_nanos = self.server.parameters.note_from_nanos();
        let long = if note_from_nanos > SHORT_NANOS_MAX { self.long_ticks } else { 0 };
        Turn {
            now,
            routed: Routed::begin(self, now.monotonic),
            ticks: self.ticks.raw(),
            covered: self.server.mark.covers(now.wall),
            note_from_nanos,
            key_bytes_max: self.server.parameters.key_bytes_max(),
            run: Run::new(&self.stats, &self.ticks, long),
        }
    }

    /// Executes a request, and appends its reply to `output`.
    #[inline]
    pub(crate) fn execute(
        &self,
        session: &mut Session,
        args: Args<'_>,
        output: &mut Vec<u8>,
        turn: &mut Turn<'_>,
    ) -> Flow {
        let start = output.len();
        let command = match command_table::resolve(args) {
            Ok(command) => command,
            Err(_) if session.has_run() => return Flow::Forward,
            Err(_) if is_http(args) => return Flow::Close,
            Err(rejection) => {
                rejection.write(args, &mut Reply::new(output, session.protocol));
                return self.finish_refused(session, None, output, start);
            }
        };
        match self.admit(session, command, args, turn) {
            Admitted::Yes => {}
            Admitted::Later => return Flow::Wait,
            Admitted::Forwarded => return Flow::Next,
            Admitted::BehindRun => return Flow::Forward,
            Admitted::No(_) if session.has_run() => return Flow::Forward,
            Admitted::No(failure) => {
                let failure =
                    if command.id == CommandId::Exec { transaction::abort(session, &failure) } else { failure };
                Reply::new(output, session.protocol).error(failure);
                return self.finish_refused(session, Some(command), output, start);
            }
        }
        if session.transaction.is_some() && transaction::queues(session, command) {
            transaction::queue(self, session, command, args, &mut Reply::new(output, session.protocol));
        } else {
            self.call(session, command, args, output, turn);
        }
        self.finish(session, output, start)
    }

    /// Calls a command that may run, and notes how long it took.
    fn call(
        &self,
        session: &mut Session,
        command: &'static Command,
        args: Args<'_>,
        output: &mut Vec<u8>,
        turn: &mut Turn<'_>,
    ) {
        let start = output.len();
        session.client.note_command(command.id);
        // Before the call, which may be one that shows the numbers.
        turn.run.begin(command.id);
        let mut keyspace = Keyspace::new(&self.server.store, turn.now);
        let mut reply = Reply::new(output, session.protocol);
        let context = Context { worker: self, session, args, keyspace: &mut keyspace, reply: &mut reply };
        if let Err(failure) = command::execute(command.id, context) {
            // A command writes its reply last; what it began is not to stand before the error.
            output.truncate(start);
            Reply::new(output, session.protocol).error(failure);
        }
        let failed = output.get(start) == Some(&b'-');
        let (began, ended) = (turn.ticks, self.ticks.raw());
        turn.ticks = ended;
        // No command on keys shows the numbers, so it may take its time to count in them.
        if failed || command.keys.is_empty() || !turn.run.takes(ended.saturating_sub(began)) {
            let nanos = self.ticks.delta_as_nanos(began, ended);
            self.note(session, command, args, nanos, failed.then(|| &output[start..]), turn);
        }
    }

    /// Notes a call by itself: it took long, or failed (with this reply), or may be followed by a look at the numbers.
    // Apart from the many calls that need none of it.
    #[inline(never)]
    fn note(
        &self,
        session: &Session,
        command: &'static Command,
        args: Args<'_>,
        nanos: u64,
        failure: Option<&[u8]>,
        turn: &Turn<'_>,
    ) {
        self.stats.note_call(command.id, nanos, failure.is_some());
        if let Some(failure) = failure {
            self.server.stats.note_error(failure);
        }
        if nanos >= turn.note_from_nanos {
            slowlog::note(&self.server, &session.client, command, args, nanos, turn.now);
        }
    }

    /// Whether a command may run.
    #[inline]
    fn admit(&self, session: &mut Session, command: &'static Command, args: Args<'_>, turn: &Turn<'_>) -> Admitted {
        if !session.authenticated && !command.is(Flags::NO_AUTH) {
            return Admitted::No(Failure::text("NOAUTH Authentication required."));
        }
        // Keys lie inside the request, so hardly any request is looked at twice.
        if args.extent() > turn.key_bytes_max && has_longer_key(command, args, turn.key_bytes_max) {
            return Admitted::No(Failure::text("ERR key is longer than max-key-len"));
        }
        let is_exec = command.id == CommandId::Exec;
        let queued = if is_exec { transaction::queued_flags(session) } else { Flags::NONE };
        let is = |flag| command.is(flag) || queued.contains(flag);
        let writes = is(Flags::WRITE);
        if let Some(routed) = &turn.routed {
            if session.proxied.is_some()
                && let Some(admitted) = self.admit_proxied(session, command, args, writes, routed)
            {
                return admitted;
            }
            match routed.admit(session, command, args, writes) {
                Admitted::Yes => {}
                other => return other,
            }
        }
        if is(Flags::DENYOOM) && self.server.store.make_room(turn.now.wall).is_err() {
            return Admitted::No(Failure::text("OOM command not allowed when used memory > 'maxmemory'."));
        }
        if writes && turn.routed.as_ref().is_some_and(Routed::lacks_replicas) {
            return Admitted::No(Failure::text("NOREPLICAS Not enough good replicas to write."));
        }
        if writes && turn.routed.as_ref().is_some_and(Routed::is_outvoted) {
            return Admitted::No(Failure::from(clocks::outvoted(self.server.config.clock.max_drift)));
        }
        if session.transaction.is_some() && transaction::is_open(session) {
            if command.is(Flags::NO_MULTI) {
                return Admitted::No(Failure::text("ERR Command not allowed inside a transaction"));
            }
            if transaction::queues(session, command) {
                // Queuing needs neither a pause to be over nor the clock.
                return Admitted::Yes;
            }
        }
        if writes && !turn.covered || Waiting::is_for(command) && self.must_wait(session, command, args) {
            return Admitted::Later;
        }
        match self.server.pause.who() {
            Paused::Nobody => Admitted::Yes,
            Paused::Writes if !writes => Admitted::Yes,
            // Or nobody could end it.
            _ if command.id == CommandId::ClientUnpause => Admitted::Yes,
            _ => Admitted::Later,
        }
    }

    /// Whether there is something to wait for that WAIT, or what is like it, asks for.
    #[cold]
    fn must_wait(&self, session: &mut Session, command: &Command, args: Args<'_>) -> bool {
        // The turn may have begun long before the writes that this is about.
        let now = self.server.clock.now().monotonic;
        if session.waiting.is_none() {
            session.waiting = Waiting::begin(&self.server, command, args, now);
        }
        session.waiting.as_ref().is_some_and(|waiting| !waiting.is_over(&self.server, now))
    }

    /// What follows a refusal, whose reply begins at `start`.
    #[cold]
    fn finish_refused(
        &self,
        session: &mut Session,
        command: Option<&'static Command>,
        output: &mut Vec<u8>,
        start: usize,
    ) -> Flow {
        if let Some(command) = command {
            self.stats.note_rejected(command.id);
        }
        self.server.stats.note_error(&output[start..]);
        transaction::spoil(session);
        self.finish(session, output, start)
    }

    /// What follows every reply, which begins at `start`.
    #[inline(always)]
    fn finish(&self, session: &mut Session, output: &mut Vec<u8>, start: usize) -> Flow {
        if session.replies != Replies::On {
            output.truncate(start);
            session.replies = session.replies.after_command();
        }
        if session.closing {
            return Flow::Close;
        }
        if output.len() > self.server.parameters.output_bytes_max() {
            tracing::warn!(client = session.client.id, bytes = output.len(), "client's output exceeds its limit");
            output.clear();
            return Flow::Close;
        }
        Flow::Next
    }
}

/// Whether a key of the request is longer than `most` bytes.
#[cold]
fn has_longer_key(command: &Command, args: Args<'_>, most: usize) -> bool {
    command.keys_of(args).any(|key| key.len() > most)
}

/// Whether a request may run.
pub(super) enum Admitted {
    Yes,
    /// Not yet.
    Later,
    /// Not here: it has joined the run of what is forwarded.
    Forwarded,
    /// When that run has been carried out.
    BehindRun,
    No(Failure),
}
