//! All lines of a WAN, the connections that cross them, and the faults that befall them.
//!
//! A connection crosses two lines: the one from its opener's region to the other, and the one back. The network keeps
//! the two together (what resets one half resets the other), knows lines by the names of their regions, cuts regions
//! off and heals them, and carries out a [`Schedule`]. Like a [`Line`] it has no clock.
//!
//! # Order of events
//! [`Network::poll`] takes changes and lines in order of time: at the same moment first the schedule, then the lines in
//! the order in which they were added. Connections are walked in the order of their numbers. So a run depends on the
//! seed and the calls alone, whatever the granularity of the polls.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use serde::Serialize;

use super::{
    ConnectionId,
    line::{Bounds, Line, LineEvent, LineStats, OpenError, Room, SendError},
    schedule::{Schedule, set_all},
    settings::{LineChange, LineSettings, State},
};
use crate::limits;

/// The lines of a WAN and the connections across them.
#[derive(Debug)]
pub struct Network<T> {
    seed: u64,
    bounds: Bounds,
    lines: Vec<NamedLine<T>>,
    by_name: BTreeMap<(String, String), LineId>,
    connections: BTreeMap<ConnectionId, Crossing>,
    opened: u64,
    schedule: Schedule,
    closed: VecDeque<(ConnectionId, CloseReason)>,
}

#[derive(Debug)]
struct NamedLine<T> {
    from: String,
    to: String,
    line: Line<T>,
}

/// The two lines of a connection.
#[derive(Clone, Copy, Debug)]
struct Crossing {
    there: LineId,
    back: LineId,
}

impl Crossing {
    fn line(self, way: Way) -> LineId {
        match way {
            Way::There => self.there,
            Way::Back => self.back,
        }
    }
}

/// A line of a network, by the order in which lines were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineId(usize);

impl LineId {
    /// The line that was added after `index` others.
    pub const fn new(index: usize) -> Self {
        Self(index)
    }
}

/// A direction, seen from who opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// From the opener to the other side.
    There,
    /// From the other side to the opener.
    Back,
}

impl Way {
    /// The other way.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::There => Self::Back,
            Self::Back => Self::There,
        }
    }
}

/// Something that a network gives out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// A chunk arrived. It stays charged until [`Network::release`] is called with its size.
    Delivered {
        /// Whose.
        connection: ConnectionId,
        /// In which direction.
        way: Way,
        /// What was said when it was sent, in bytes.
        size: usize,
        /// What was sent.
        payload: T,
    },
    /// The network took the connection down: both ends find it reset, at once.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a network takes a connection down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// A line that it crosses went into [`State::Reset`].
    Reset,
    /// Nothing got through for [`limits::GIVE_UP`], or for [`limits::HANDSHAKE_GIVE_UP`] while it was opening.
    TimedOut,
}

/// A fault or its end, by the names of regions.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Other settings for one line.
    Line {
        /// The region where it begins.
        from: String,
        /// The region where it ends.
        to: String,
        /// What changes.
        change: LineChange,
    },
    /// Every line between one of these regions and one of the others becomes a black hole, both ways.
    Partition(Vec<String>),
    /// Every line is up again. Delays, jitter, rates and losses stay.
    Heal,
}

/// Why a change cannot be made. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChange {
    /// No such line.
    #[error("there is no link {from} -> {to}; the links are {}", known.join(", "))]
    UnknownLink {
        /// The region where it would begin.
        from: String,
        /// The region where it would end.
        to: String,
        /// The lines that there are, as `from -> to`.
        known: Vec<String>,
    },
    /// No line begins or ends in that region.
    #[error("there is no region {region}; the regions are {}", known.join(", "))]
    UnknownRegion {
        /// The name that was given.
        region: String,
        /// The regions that there are.
        known: Vec<String>,
    },
    /// The partition has only one side.
    #[error("a partition has two sides: name at least one region, and not all of {}", known.join(", "))]
    OneSided {
        /// The regions that there are.
        known: Vec<String>,
    },
}

/// Why a line cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddLineError {
    /// It is there already.
    #[error("link {from} -> {to} is given twice")]
    Duplicate {
        /// The region where it begins.
        from: String,
        /// The region where it ends.
        to: String,
    },
    /// It would lead from a region to itself.
    #[error("link {region} -> {region} leads nowhere: within a region there is no WAN")]
    Loop {
        /// The region.
        region: String,
    },
    /// There are [`limits::LINES`] already.
    #[error("a network has at most {} links", limits::LINES)]
    TooMany,
}

/// One line as an operator sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkView<'a, D> {
    /// The region where it begins.
    pub from: &'a str,
    /// The region where it ends.
    pub to: &'a str,
    /// Its settings, or what it did.
    #[serde(flatten)]
    pub detail: D,
}

impl<T> Network<T> {
    /// A network without lines, whose randomness comes from `seed`, with these bounds for each line.
    pub fn new(seed: u64, bounds: Bounds) -> Self {
        Self {
            seed,
            bounds,
            lines: Vec::new(),
            by_name: BTreeMap::new(),
            connections: BTreeMap::new(),
            opened: 0,
            schedule: Schedule::default(),
            closed: VecDeque::new(),
        }
    }

    /// Adds the line of one ordered pair of regions.
    ///
    /// # Errors
    /// [`AddLineError`] if it is there already, leads nowhere, or is one too many.
    pub fn add_line(&mut self, from: &str, to: &str, settings: LineSettings) -> Result<LineId, AddLineError> {
        if from == to {
            return Err(AddLineError::Loop { region: from.to_owned() });
        }
        if self.line(from, to).is_some() {
            return Err(AddLineError::Duplicate { from: from.to_owned(), to: to.to_owned() });
        }
        if self.lines.len() >= limits::LINES {
            return Err(AddLineError::TooMany);
        }
        let id = LineId(self.lines.len());
        let line = Line::new(settings, self.bounds, self.seed, id.0 as u64);
        self.lines.push(NamedLine { from: from.to_owned(), to: to.to_owned(), line });
        self.by_name.insert((from.to_owned(), to.to_owned()), id);
        Ok(id)
    }

    /// The line from one region to another.
    pub fn line(&self, from: &str, to: &str) -> Option<LineId> {
        // The key is owned so that the map needs no borrowed pair; this is no hot path.
        self.by_name.get(&(from.to_owned(), to.to_owned())).copied()
    }

    /// Every region, once, in alphabetical order.
    pub fn regions(&self) -> BTreeSet<&str> {
        self.lines.iter().flat_map(|named| [named.from.as_str(), named.to.as_str()]).collect()
    }

    /// Every line with its settings, in the order in which they were added.
    pub fn links(&self) -> impl Iterator<Item = LinkView<'_, LineSettings>> {
        self.lines.iter().map(|named| named.view(*named.line.settings()))
    }

    /// Every line with what it did, in the order in which they were added.
    pub fn stats(&self) -> impl Iterator<Item = LinkView<'_, LineStats>> {
        self.lines.iter().map(|named| named.view(named.line.stats()))
    }

    /// The settings of one line.
    ///
    /// # Panics
    /// If the id is that of another network.
    pub fn settings(&self, line: LineId) -> &LineSettings {
        self.lines[line.0].line.settings()
    }

    /// Opens a connection across two lines. It sends no handshake: see [`Frame`](super::Frame) for one.
    ///
    /// # Errors
    /// [`OpenError`] if one of the lines takes no connection at present.
    ///
    /// # Panics
    /// If an id is that of another network.
    pub fn open(&mut self, there: LineId, back: LineId) -> Result<ConnectionId, OpenError> {
        let connection = ConnectionId::new(self.opened);
        self.opened += 1;
        self.lines[there.0].line.open(connection)?;
        if let Err(error) = self.lines[back.0].line.open(connection) {
            self.lines[there.0].line.close(connection);
            return Err(error);
        }
        self.connections.insert(connection, Crossing { there, back });
        Ok(connection)
    }

    /// Forgets a connection and all that it still had on its lines.
    pub fn close(&mut self, connection: ConnectionId) {
        let Some(crossing) = self.connections.remove(&connection) else { return };
        self.lines[crossing.there.0].line.close(connection);
        self.lines[crossing.back.0].line.close(connection);
    }

    /// Whether `connection` may send in this direction at `now`: see [`Line::room`].
    pub fn room(&self, now: Duration, connection: ConnectionId, way: Way) -> Room {
        match self.connections.get(&connection) {
            Some(crossing) => self.lines[crossing.line(way).0].line.room(now, connection),
            None => Room::Closed,
        }
    }

    /// Sends a chunk: see [`Line::send`].
    ///
    /// # Errors
    /// [`SendError`], with the payload, if the connection is closed or a bound is reached.
    pub fn send(
        &mut self,
        now: Duration,
        connection: ConnectionId,
        way: Way,
        size: usize,
        payload: T,
    ) -> Result<(), SendError<T>> {
        match self.connections.get(&connection) {
            Some(crossing) => self.lines[crossing.line(way).0].line.send(now, connection, size, payload),
            None => Err(SendError::Closed(payload)),
        }
    }

    /// The receiver has taken a delivered chunk: see [`Line::release`].
    pub fn release(&mut self, connection: ConnectionId, way: Way, size: usize) {
        if let Some(crossing) = self.connections.get(&connection) {
            self.lines[crossing.line(way).0].line.release(connection, size);
        }
    }

    /// Makes a change at once.
    ///
    /// # Errors
    /// [`InvalidChange`] if it names what there is not; nothing is changed then.
    pub fn change(&mut self, change: &Change) -> Result<(), InvalidChange> {
        let changes = self.resolve(change)?;
        self.apply(changes);
        Ok(())
    }

    /// Puts a change on the schedule.
    ///
    /// # Errors
    /// [`InvalidChange`] if it names what there is not; nothing is put there then.
    pub fn schedule(&mut self, at: Duration, change: &Change) -> Result<(), InvalidChange> {
        let changes = self.resolve(change)?;
        self.schedule.add(at, changes);
        Ok(())
    }

    /// When `poll` has something next; none if only input can change that.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if !self.closed.is_empty() {
            return Some(Duration::ZERO);
        }
        self.next_line().map(|(due, _)| due).into_iter().chain(self.schedule.next_at()).min()
    }

    /// The next event at or before `now`. Call it until there is none.
    pub fn poll(&mut self, now: Duration) -> Option<Event<T>> {
        loop {
            if let Some((connection, reason)) = self.closed.pop_front() {
                return Some(Event::Closed { connection, reason });
            }
            let next = self.next_line();
            let lines_at = next.map_or(Duration::MAX, |(due, _)| due);
            if let Some(changes) = self.schedule.take_due(now.min(lines_at)) {
                self.apply(changes);
                continue;
            }
            let (due, line) = next?;
            if due > now {
                return None;
            }
            match self.lines[line.0].line.poll(due) {
                Some(LineEvent::Delivered { connection, size, payload }) => {
                    let way = self.way_over(connection, line);
                    return Some(Event::Delivered { connection, way, size, payload });
                }
                Some(LineEvent::TimedOut { connection }) => self.take_down(connection, CloseReason::TimedOut),
                None => {}
            }
        }
    }

    /// The line that has something first, and when.
    fn next_line(&self) -> Option<(Duration, LineId)> {
        let timeouts = self.lines.iter().enumerate();
        timeouts.filter_map(|(index, named)| Some((named.line.poll_timeout()?, LineId(index)))).min()
    }

    fn way_over(&self, connection: ConnectionId, line: LineId) -> Way {
        match self.connections.get(&connection) {
            Some(crossing) if crossing.there == line => Way::There,
            _ => Way::Back,
        }
    }

    fn take_down(&mut self, connection: ConnectionId, reason: CloseReason) {
        if self.connections.contains_key(&connection) {
            self.close(connection);
            self.closed.push_back((connection, reason));
        }
    }

    fn apply(&mut self, changes: Vec<(LineId, LineChange)>) {
        for (line, change) in changes {
            for connection in self.lines[line.0].line.change(&change) {
                self.take_down(connection, CloseReason::Reset);
            }
        }
    }

    /// What a change means for each line.
    fn resolve(&self, change: &Change) -> Result<Vec<(LineId, LineChange)>, InvalidChange> {
        match change {
            Change::Line { from, to, change } => match self.line(from, to) {
                Some(line) => Ok(vec![(line, *change)]),
                None => Err(InvalidChange::UnknownLink {
                    from: from.clone(),
                    to: to.clone(),
                    known: self.lines.iter().map(|named| format!("{} -> {}", named.from, named.to)).collect(),
                }),
            },
            Change::Partition(side) => Ok(set_all(self.across(side)?, State::Blackhole)),
            Change::Heal => Ok(set_all((0..self.lines.len()).map(LineId), State::Up)),
        }
    }

    /// The lines with exactly one end in one of these regions.
    fn across(&self, side: &[String]) -> Result<Vec<LineId>, InvalidChange> {
        let regions = self.regions();
        let known = || regions.iter().map(|&region| region.to_owned()).collect();
        let side: BTreeSet<&str> = side.iter().map(String::as_str).collect();
        if let Some(&region) = side.difference(&regions).next() {
            return Err(InvalidChange::UnknownRegion { region: region.to_owned(), known: known() });
        }
        if side.is_empty() || side.len() == regions.len() {
            return Err(InvalidChange::OneSided { known: known() });
        }
        let cut = |named: &NamedLine<T>| side.contains(named.from.as_str()) != side.contains(named.to.as_str());
        Ok(self.lines.iter().enumerate().filter(|(_, named)| cut(named)).map(|(index, _)| LineId(index)).collect())
    }
}

impl<T> NamedLine<T> {
    fn view<D>(&self, detail: D) -> LinkView<'_, D> {
        LinkView { from: &self.from, to: &self.to, detail }
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
