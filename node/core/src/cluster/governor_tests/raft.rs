//! Raft as the governor sees it: terms, a log of which a leader's end may get lost, and what it takes to be sure of leading.

use std::{collections::VecDeque, rc::Rc};

use crate::cluster::{ClusterMap, MapCommand, Run, Term};

/// The log, and who may append to it.
pub(super) struct Raft {
    pub(super) term: Term,
    /// The node of the term's leader, and its run.
    pub(super) leader: (usize, Run),
    /// All maps that there ever were.
    pub(super) maps: Vec<Rc<ClusterMap>>,
    /// The map that was there when the term's first entry was committed, once it is.
    pub(super) ready: Option<usize>,
    log: VecDeque<Entry>,
    appended: u64,
}

/// An entry that is not committed yet.
pub(super) struct Entry {
    number: u64,
    term: Term,
    /// Who waits for its outcome.
    pub(super) proposer: Option<(usize, Run)>,
    /// None in the first of a term.
    pub(super) command: Option<MapCommand>,
}

impl Raft {
    /// The first leader has founded the cluster.
    pub(super) fn new(founded: ClusterMap, leader: (usize, Run)) -> Self {
        let maps = vec![Rc::new(founded)];
        Self { term: Term(1), leader, maps, ready: Some(0), log: VecDeque::new(), appended: 0 }
    }

    /// The map, as of what is committed.
    pub(super) fn map(&self) -> &Rc<ClusterMap> {
        self.maps.last().expect("the founding is a map")
    }

    /// Another leader, which has the first `kept` of the entries that are not committed yet. Returns its own first entry.
    pub(super) fn elect(&mut self, leader: (usize, Run), kept: usize) -> u64 {
        self.log.truncate(kept);
        (self.term, self.leader, self.ready) = (Term(self.term.0 + 1), leader, None);
        self.append(None, None)
    }

    /// How many entries are not committed yet.
    pub(super) fn uncommitted(&self) -> usize {
        self.log.len()
    }

    /// Appends in the present term. Returns the entry's number.
    pub(super) fn append(&mut self, proposer: Option<(usize, Run)>, command: Option<MapCommand>) -> u64 {
        self.appended += 1;
        self.log.push_back(Entry { number: self.appended, term: self.term, proposer, command });
        self.appended
    }

    /// Whether an entry waits that may be committed with this one: a leader commits entries of its own term.
    pub(super) fn may_commit(&self, number: u64) -> bool {
        self.log.iter().any(|entry| entry.number == number && entry.term == self.term)
    }

    /// The next entry that is committed with the one of this number.
    pub(super) fn commit(&mut self, number: u64) -> Option<Entry> {
        self.log.front().filter(|entry| entry.number <= number)?;
        let entry = self.log.pop_front()?;
        if entry.command.is_none() && entry.term == self.term {
            self.ready = Some(self.maps.len() - 1);
        }
        Some(entry)
    }
}
