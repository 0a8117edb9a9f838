//! What is to happen in a region.

use std::{rc::Rc, time::Duration};

use clock::Stamp;
use node_core::cluster::{
    Answer, Assignment, ClusterMap, Epoch, MapCommand, NodeId, Offer, Report, Run, Standing, Term,
};

use super::{
    clients::{Outcome, Request},
    feeds::Frame,
    process::Turn,
    raft::{Proposer, Who},
};

/// What is to happen.
pub(crate) enum Event {
    /// Something for a process. If that is stopped, it waits; if it is gone, so is this.
    For(usize, Run, What),
    /// Something over a connection between processes.
    Frame(Who, u64, Box<Frame>),
    Ask(usize),
    TryAgain(usize, u64),
    Patience(usize, u64),
    Answer(usize, u64, Outcome),
    /// A command for whoever leads.
    Append(Option<Proposer>, MapCommand),
    Commit(u64),
    Elect,
    /// The leader asks whether it still leads.
    Confirm(Asked),
    Operate,
    Fault,
    /// A node fails in a moment that is bad, if that may be now.
    FailNow(usize),
    Heal(usize),
}

/// What concerns one process.
pub(crate) enum What {
    Tick,
    Report,
    Map(usize),
    /// Carry out the map that clients are routed by.
    CarryOut,
    /// Turns that began before have ended.
    Quiet(Rc<ClusterMap>, Box<Assignment>),
    Assign(Box<Assignment>),
    Leadership,
    Outcome(Term, usize),
    Reported(Report, Duration),
    Confirmed(Asked, usize),
    Standing(Duration, Standing),
    Dial(u64),
    Pump(u64),
    HandOver(NodeId),
    LookAtHandOver,
    LookAtMoves,
    /// What became of a change that a mover asked for is known.
    Handed(usize),
    /// A mover tells the target what was prepared, and hears that it knows.
    Prepared {
        by: Who,
        at: Epoch,
    },
    Told(Epoch),
    /// A mover gives, and hears what the target says.
    Give(Who, Offer),
    Answer(Epoch, Answer),
    /// Something is said to the map.
    Say(MapCommand),
    Request(Request),
    Turn(Box<Turn>),
    Wait {
        client: usize,
        attempt: u64,
        stamp: Stamp,
        until: Duration,
    },
}

/// A report that wants an answer.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) by: Who,
    pub(crate) at: Duration,
    pub(crate) leader: Who,
    pub(crate) term: Term,
    pub(crate) map: usize,
}
