//! The map's log as nodes see it: terms, a leader's last entries that may get lost, and what it takes to be sure of leading.

use std::{collections::VecDeque, rc::Rc};

use node_core::cluster::{ClusterMap, MapCommand, Run, Term};

/// A process of a node: its place, and its run.
pub(crate) type Who = (usize, Run);

/// The log, and who may append to it.
pub(crate) struct Raft {
    pub(crate) term: Term,
    pub(crate) leader: Who,
    /// All maps that there ever were.
    pub(crate) maps: Vec<Rc<ClusterMap>>,
    /// The map that was there when the term's first entry was committed, once it is.
    pub(crate) ready: Option<usize>,
    log: VecDeque<Entry>,
    appended: u64,
}

/// An entry that is not committed yet.
pub(crate) struct Entry {
    number: u64,
    term: Term,
    /// Who waits for the outcome.
    pub(crate) proposer: Option<Proposer>,
    /// None in the first of a term.
    pub(crate) command: Option<MapCommand>,
}

/// Who waits for the outcome of a command.
#[derive(Clone, Copy)]
pub(crate) enum Proposer {
    /// The leader itself, in this term.
    Governor(Who, Term),
    /// A primary whose slots are to change hands.
    Mover(Who),
    /// A primary that says what has become of slots. It looks at the map, not at the outcome.
    Settler(Who),
}

impl Raft {
    /// The first leader has founded the cluster.
    pub(crate) fn new(founded: ClusterMap, leader: Who) -> Self {
        let maps = vec![Rc::new(founded)];
        Self { term: Term(1), leader, maps, ready: Some(0), log: VecDeque::new(), appended: 0 }
    }

    /// The map, as of what is committed.
    pub(crate) fn map(&self) -> &Rc<ClusterMap> {
        self.maps.last().expect("the founding is a map")
    }

    /// The number of the last map.
    pub(crate) fn newest(&self) -> usize {
        self.maps.len() - 1
    }

    /// Another leader, which has the first `kept` of the entries that are not committed yet. Returns the number of its own
    /// first entry, and who waits for what was lost.
    pub(crate) fn elect(&mut self, leader: Who, kept: usize) -> (u64, Vec<Proposer>) {
        let lost = self.log.drain(kept..).filter_map(|entry| entry.proposer).collect();
        (self.term, self.leader, self.ready) = (Term(self.term.0 + 1), leader, None);
        (self.append(None, None), lost)
    }

    /// How many entries are not committed yet.
    pub(crate) fn uncommitted(&self) -> usize {
        self.log.len()
    }

    /// Appends in the present term. Returns the entry's number.
    pub(crate) fn append(&mut self, proposer: Option<Proposer>, command: Option<MapCommand>) -> u64 {
        self.appended += 1;
        self.log.push_back(Entry { number: self.appended, term: self.term, proposer, command });
        self.appended
    }

    /// Whether an entry waits that may be committed with this one: a leader commits entries of its own term.
    pub(crate) fn may_commit(&self, number: u64) -> bool {
        self.log.iter().any(|entry| entry.number == number && entry.term == self.term)
    }

    /// The next entry that is committed with the one of this number.
    pub(crate) fn commit(&mut self, number: u64) -> Option<Entry> {
        self.log.front().filter(|entry| entry.number <= number)?;
        let entry = self.log.pop_front()?;
        if entry.command.is_none() && entry.term == self.term {
            self.ready = Some(self.newest());
        }
        Some(entry)
    }
}
