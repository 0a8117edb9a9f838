//! The proxy: clients that know nothing of clusters see one server, whichever node they have come to.
//!
//! ```text
//! request -> admit_proxied -+- of this node: executed as any other
//!                           +- of another: into the run -> forward -> upstream -> join -> reply
//! ```
//!
//! # The run
//! What belongs elsewhere is not forwarded one by one. It collects in a *run* until the client's pipeline ends, the run
//! is full, or a command comes that this node answers itself. Then each node is sent its part of the run at once, and
//! the replies leave in the order of the requests. While there is a run, commands on this node's own keys join it, and
//! come back to this node over its own port: that costs less than a round trip for each change of sides. So within a
//! pipeline commands on one slot are carried out in order, those of different shards at the same time, as with any
//! client of a cluster. Who waits for a reply before he sends on sees one order of everything.
//!
//! # Latency instead of errors
//! What the owner does not carry out (MOVED, ASK, TRYAGAIN, CLUSTERDOWN, a connection refused) is sent again, to wherever
//! map and redirections say, for [`FORWARD_MAX`](crate::limits::FORWARD_MAX). So a failover is a delay. Two things end in an error:
//!
//! - A write whose connection broke after it was sent may have been carried out. It is never sent twice: `UNCERTAIN`.
//! - A request that was not carried out while a later one on its slot was: sending it again would turn the order round.
//!   It gets the owner's refusal. This needs a pipeline with several commands on one slot, and a slot in transit.
//!
//! # One server, to the eye
//! INFO and HELLO call this port a standalone server, and CLUSTER is refused, or clients that are good at
//! clusters would look for the other nodes. INFO, CONFIG, CLIENT, REGION are those of this node.
//!
//! # Left out
//! WATCH of keys elsewhere, and transactions on several slots: refused. TLS upstream: nodes are forwarded to at the plain
//! port that they announce, so one without such a port is not reached.

mod forward;
mod join;
mod plan;
mod upstream;

use node_core::{
    cluster::common_slot,
    command::is_of_whole_keyspace,
    command_table::{Command, CommandId, Flags},
    resp::Args,
    slot::{Slot, SlotSet},
};

use self::plan::Request;
pub(crate) use self::upstream::Upstreams;
use super::{execute::Admitted, routed::Routed, session::Replies, session::Session, worker::Worker};
use crate::{
    command::Failure,
    limits::{RUN_BYTES_MAX, RUN_REQUESTS_MAX},
    transaction,
};

/// What is kept of a client of the proxy.
#[derive(Default)]
pub(crate) struct Proxied {
    run: Vec<Request>,
    run_bytes: usize,
    /// What it has written to; what WAIT is about.
    written: SlotSet,
}

/// What is to be done with a request.
enum Plan {
    /// This node answers.
    Here,
    /// It is queued for EXEC.
    Queue,
    /// Others answer; `alone` if nothing may share its run.
    Forward { request: Request, alone: bool },
    /// Nobody does.
    No(Failure),
}

const WATCHES_ELSEWHERE: &str = "ERR WATCH through the proxy takes keys of this node only; connect to their node";
const NOT_ON_KEYS: &str =
    "ERR a transaction through the proxy takes commands on keys only, if the keys are on another node";
const OF_ALL_NODES: &str = "ERR a command on all keys is not allowed in a transaction through the proxy";

impl Proxied {
    /// Whether anything waits to be forwarded.
    pub(super) fn has_run(&self) -> bool {
        !self.run.is_empty()
    }

    fn take_run(&mut self) -> Vec<Request> {
        self.run_bytes = 0;
        std::mem::take(&mut self.run)
    }

    /// Whether a request fits into the run that there is.
    fn has_room(&self, request: &Request, alone: bool) -> bool {
        let is_full = self.run.len() >= RUN_REQUESTS_MAX || self.run_bytes + request.size() > RUN_BYTES_MAX;
        self.run.is_empty() || !(alone || is_full || self.run.iter().any(Request::is_alone))
    }
}

impl Worker {
    /// What becomes of a request of a client of the proxy; `None` if this node executes it like any other.
    #[cold]
    pub(super) fn admit_proxied(
        &self,
        session: &mut Session,
        command: &'static Command,
        args: Args<'_>,
        writes: bool,
        routed: &Routed<'_>,
    ) -> Option<Admitted> {
        let plan = self.plan(session, command, args, writes, routed);
        let proxied = session.proxied.as_mut()?;
        match plan {
            Plan::Forward { request, alone } if proxied.has_room(&request, alone) => {
                proxied.run_bytes += request.size();
                let answers = session.replies == Replies::On;
                proxied.run.push(request.answering(answers));
                if command.id == CommandId::Exec {
                    transaction::forget(session);
                }
                session.client.note_command(command.id);
                session.replies = session.replies.after_command();
                Some(Admitted::Forwarded)
            }
            _ if proxied.has_run() => Some(Admitted::BehindRun),
            Plan::Forward { .. } => unreachable!("an empty run has room"),
            Plan::Here => None,
            Plan::Queue if command.is(Flags::NO_MULTI) => {
                Some(Admitted::No(Failure::text("ERR Command not allowed inside a transaction")))
            }
            Plan::Queue => Some(Admitted::Yes),
            Plan::No(failure) => Some(Admitted::No(failure)),
        }
    }

    fn plan(
        &self,
        session: &mut Session,
        command: &'static Command,
        args: Args<'_>,
        writes: bool,
        routed: &Routed<'_>,
    ) -> Plan {
        if transaction::queues(session, command) {
            return Plan::Queue;
        }
        let alone = |request| Plan::Forward { request, alone: true };
        match command.id {
            CommandId::Exec => {
                let (plan, slot) = plan_transaction(session, writes, routed);
                if let (Some(proxied), true) = (session.proxied.as_mut(), writes) {
                    proxied.written.extend(slot);
                }
                return plan;
            }
            CommandId::Watch if command.keys_of(args).any(|key| !routed.serves([key], false)) => {
                return Plan::No(Failure::text(WATCHES_ELSEWHERE));
            }
            CommandId::Watch => return Plan::Here,
            CommandId::Wait => {
                let proxied = session.proxied.as_ref();
                return Request::wait(args, &routed.map(), proxied.map(|proxied| &proxied.written))
                    .map_or(Plan::Here, alone);
            }
            CommandId::Scan => return Request::scan(args, &routed.map()).map_or(Plan::Here, alone),
            id if is_of_whole_keyspace(id) => return alone(Request::everywhere(command, args, &routed.map())),
            _ => {}
        }
        let Some(proxied) = session.proxied.as_mut() else { return Plan::Here };
        if writes {
            proxied.written.extend(command.keys_of(args).map(Slot::of));
        }
        let forward = |request| Plan::Forward { request, alone: false };
        match common_slot(command.keys_of(args)) {
            Ok(None) => Plan::Here,
            Ok(Some(_)) if !proxied.has_run() && routed.serves(command.keys_of(args), writes) => Plan::Here,
            Ok(Some(slot)) => forward(Request::on_slot(slot, args, writes)),
            Err(_) => match Request::split(command, args) {
                Ok(Some(request)) => forward(request),
                Ok(None) => Plan::Here,
                Err(failure) => Plan::No(failure),
            },
        }
    }
}

/// EXEC: here if all of it is, as a whole elsewhere if its keys are. With it the slot of all keys, if one is concerned.
fn plan_transaction(session: &Session, writes: bool, routed: &Routed<'_>) -> (Plan, Option<Slot>) {
    if !transaction::is_sound(session) {
        return (Plan::Here, None);
    }
    let queued = transaction::queued(session);
    let keys = || queued.clone().flat_map(|(command, args)| command.keys_of(args));
    let no = |failure| (Plan::No(failure), None);
    if queued.clone().any(|(command, _)| is_of_whole_keyspace(command.id)) {
        return no(Failure::text(OF_ALL_NODES));
    }
    let slot = match common_slot(keys()) {
        Err(error) => return no(error.to_string().into()),
        Ok(None) => return (Plan::Here, None),
        Ok(Some(slot)) => slot,
    };
    let watches = transaction::watched_keys(session).next().is_some();
    if (watches || !session.has_run()) && routed.serves(keys(), writes) {
        return (Plan::Here, Some(slot));
    }
    if watches {
        return no(Failure::text(WATCHES_ELSEWHERE));
    }
    if queued.clone().any(|(command, _)| command.keys.is_empty()) {
        return no(Failure::text(NOT_ON_KEYS));
    }
    (Plan::Forward { request: Request::transaction(slot, queued, writes), alone: false }, Some(slot))
}
