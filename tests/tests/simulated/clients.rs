//! Clients, and what they have seen.
//!
//! Each has one request under way. It follows redirections, sends again what was refused for certain, and counts a request
//! as lost if its node ends or says nothing for [`ANSWER_MAX`]: such a write may have been carried out or not. In a world
//! where processes end, a write is followed by `WAIT 1`, and only what that confirms is promised.

use std::{collections::BTreeSet, time::Duration};

use clock::Stamp;
use rand::RngExt;
use scenario::linearizable::{Action, Operation, is_linearizable};

use super::{
    process::Turn,
    raft::Who,
    world::{Event, What, World},
};

/// The keys, which lie in slots of their own.
pub(crate) const KEYS: [&[u8]; 4] = [b"alpha", b"beta", b"gamma", b"delta"];
/// How many clients there are.
pub(crate) const CLIENTS: usize = 4;
/// How long a client waits for an answer.
const ANSWER_MAX: Duration = Duration::from_millis(300);
/// How long `WAIT` waits.
const WAIT_MAX: Duration = Duration::from_millis(200);
/// Between two looks of a `WAIT`.
const WAIT_EVERY_MS: u64 = 10;
/// A client sends again within so many milliseconds, and something new within so many.
const AGAIN_MS: u64 = 12;
const NEXT_MS: u64 = 60;

/// Operations that are shown of a history that is wrong.
const SHOWN: usize = 12;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Get,
    Set(u64),
    Increment,
    Delete,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) client: usize,
    /// Which attempt of all.
    pub(crate) attempt: u64,
    pub(crate) key: &'static [u8],
    pub(crate) command: Command,
    /// Since when it is held, in local time of the node.
    pub(crate) held_since: Option<Duration>,
}

/// What becomes of a request at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It waits, since then in local time.
    Held(Duration),
    /// It is for another node.
    Elsewhere(usize),
    /// Not now.
    Refused,
    /// Nobody is told whether it was carried out.
    Lost,
    Read(Option<u64>),
    Written(u64, Stamp),
    Deleted(bool, Stamp),
    /// What was written has a replica.
    Replicated(bool),
}

/// A client.
#[derive(Default)]
pub(crate) struct Client {
    under_way: Option<UnderWay>,
    at: usize,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    request: Request,
    sent_to: Who,
    called: Duration,
    /// What was answered, while `WAIT` is waited for.
    answered: Option<Action>,
}

/// An operation that has ended, on a key.
struct Ended {
    key: &'static [u8],
    operation: Operation,
}

/// What all clients have seen.
#[derive(Default)]
pub(crate) struct History {
    ended: Vec<Ended>,
    values: u64,
    attempts: u64,
    /// Nothing new is asked for.
    pub(crate) is_over: bool,
}

impl World {
    /// A client asks for something new, unless it waits still or all is over.
    pub(crate) fn ask(&mut self, client: usize) {
        if self.clients[client].under_way.is_some() || self.history.is_over {
            return;
        }
        let key = KEYS[self.random.random_range(0..KEYS.len())];
        let command = match self.random.random_range(0..20) {
            0..6 => {
                self.history.values += 1;
                Command::Set(self.history.values * 1_000)
            }
            6..8 => Command::Delete,
            // The value after a loss may be that from before it again, which would tell nothing.
            8..10 if !self.is_stormy => Command::Increment,
            _ => Command::Get,
        };
        let request = Request { client, attempt: 0, key, command, held_since: None };
        let under_way =
            UnderWay { request, sent_to: (0, self.processes[0].node.run), called: self.now, answered: None };
        self.clients[client].under_way = Some(under_way);
        self.clients[client].at = self.random.random_range(0..self.processes.len());
        self.try_at(client, self.clients[client].at);
    }

    /// Sends the request that is under way.
    pub(crate) fn try_again(&mut self, client: usize, attempt: u64) {
        if self.clients[client].under_way.is_some_and(|one| one.request.attempt == attempt) {
            self.try_at(client, self.clients[client].at);
        }
    }

    /// Sends again after a pause. What was sent before counts as answered.
    fn pause(&mut self, client: usize) {
        self.history.attempts += 1;
        let attempt = self.history.attempts;
        if let Some(under_way) = &mut self.clients[client].under_way {
            under_way.request.attempt = attempt;
            self.after_ms(AGAIN_MS, Event::TryAgain(client, attempt));
        }
    }

    fn try_at(&mut self, client: usize, at: usize) {
        self.history.attempts += 1;
        let process = &self.processes[at];
        let (sent_to, is_up) = ((at, process.node.run), process.is_up);
        let Some(under_way) = &mut self.clients[client].under_way else { return };
        under_way.request.attempt = self.history.attempts;
        under_way.sent_to = sent_to;
        let request = under_way.request;
        if is_up {
            self.after_ms(3, Event::For(sent_to.0, sent_to.1, What::Request(request)));
            self.after(ANSWER_MAX, Event::Patience(client, request.attempt));
        } else {
            // Nobody takes the connection.
            self.clients[client].at = self.random.random_range(0..self.processes.len());
            self.pause(client);
        }
    }

    /// A client has heard nothing for long, or its connection has ended: what it asked for may have been done.
    pub(crate) fn lose(&mut self, client: usize, attempt: u64) {
        let Some(under_way) = self.clients[client].under_way.filter(|one| one.request.attempt == attempt) else {
            return;
        };
        let action = match (under_way.answered, under_way.request.command) {
            (Some(action), _) => Some(action),
            (None, Command::Get) => None,
            (None, Command::Set(value)) => Some(Action::Set(value)),
            (None, Command::Increment) => Some(Action::Increment(None)),
            (None, Command::Delete) => Some(Action::Delete(None)),
        };
        self.end(client, action, false);
    }

    /// All who wait for this process hear that it has ended.
    pub(crate) fn lose_all_at(&mut self, who: Who) {
        for client in 0..self.clients.len() {
            if let Some(one) = self.clients[client].under_way.filter(|one| one.sent_to == who) {
                self.lose(client, one.request.attempt);
            }
        }
    }

    /// A request has come to a node.
    pub(crate) fn request(&mut self, index: usize, request: Request) {
        let length = Duration::from_micros(self.random.random_range(0..4_000));
        let process = &mut self.processes[index];
        process.turns_until = process.turns_until.max(self.now + length);
        let (run, turn) = (process.node.run, process.begin_turn(request, process.clock.at(self.now)));
        self.after(length, Event::For(index, run, What::Turn(Box::new(turn))));
    }

    /// A turn ends.
    pub(crate) fn turn(&mut self, index: usize, turn: &Turn) {
        let process = &mut self.processes[index];
        let (end, run) = (process.clock.at(self.now).monotonic, process.node.run);
        let outcome = process.end_turn(turn, end);
        let mut request = turn.request;
        match outcome {
            Outcome::Held(since) => {
                request.held_since.get_or_insert(since);
                self.after(Duration::from_millis(3), Event::For(index, run, What::Request(request)));
            }
            outcome => {
                if matches!(outcome, Outcome::Read(_) | Outcome::Written(..) | Outcome::Deleted(..)) {
                    let key = String::from_utf8_lossy(request.key);
                    self.note(format!("{index} {:?} {key}: {outcome:?}", request.command));
                }
                self.after_ms(3, Event::Answer(request.client, request.attempt, outcome));
            }
        }
    }

    /// A client has an answer.
    pub(crate) fn answered(&mut self, client: usize, attempt: u64, outcome: Outcome) {
        let Some(under_way) = self.clients[client].under_way.filter(|one| one.request.attempt == attempt) else {
            return;
        };
        match outcome {
            Outcome::Elsewhere(to) => {
                self.clients[client].at = to;
                self.pause(client);
            }
            Outcome::Refused | Outcome::Held(_) => self.pause(client),
            Outcome::Lost => self.lose(client, attempt),
            Outcome::Read(value) => self.end(client, Some(Action::Read(value)), true),
            Outcome::Replicated(is_replicated) => self.end(client, under_way.answered, is_replicated),
            Outcome::Written(value, stamp) if under_way.request.command == Command::Increment => {
                self.wrote(client, Action::Increment(Some(value)), stamp);
            }
            Outcome::Written(value, stamp) => self.wrote(client, Action::Set(value), stamp),
            Outcome::Deleted(was_there, stamp) => self.wrote(client, Action::Delete(Some(was_there)), stamp),
        }
    }

    fn wrote(&mut self, client: usize, action: Action, stamp: Stamp) {
        let Some(under_way) = &mut self.clients[client].under_way else { return };
        if !self.is_stormy {
            return self.end(client, Some(action), true);
        }
        under_way.answered = Some(action);
        let (attempt, (index, run)) = (under_way.request.attempt, under_way.sent_to);
        let until = self.now + WAIT_MAX;
        self.after_ms(3, Event::For(index, run, What::Wait { client, attempt, stamp, until }));
        self.after(ANSWER_MAX, Event::Patience(client, attempt));
    }

    /// `WAIT 1` at a node.
    pub(crate) fn wait(&mut self, index: usize, client: usize, attempt: u64, stamp: Stamp, until: Duration) {
        let process = &self.processes[index];
        let local = process.clock.at(self.now).monotonic;
        let is_replicated = process.store.origin() == stamp.origin && process.is_replicated(stamp.time, local);
        if is_replicated || self.now > until {
            self.after_ms(3, Event::Answer(client, attempt, Outcome::Replicated(is_replicated)));
        } else {
            self.soon(index, WAIT_EVERY_MS, What::Wait { client, attempt, stamp, until });
        }
    }

    /// A request is over: with what was done, if anything may have been, and whether that is promised.
    fn end(&mut self, client: usize, action: Option<Action>, is_promised: bool) {
        let Some(under_way) = self.clients[client].under_way.take() else { return };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).expect("a world is young");
        if let Some(action) = action {
            let returned = is_promised.then(|| nanos(self.now));
            let operation = Operation { called: nanos(under_way.called), returned, action };
            self.history.ended.push(Ended { key: under_way.request.key, operation });
        }
        self.after_ms(NEXT_MS, Event::Ask(client));
    }
}

impl History {
    /// How many operations have ended.
    pub(crate) fn len(&self) -> usize {
        self.ended.len()
    }

    fn ended_of(&self, key: &[u8]) -> Vec<Operation> {
        self.ended.iter().filter(|ended| ended.key == key).map(|ended| ended.operation).collect()
    }

    /// Whether each key was a register.
    ///
    /// What a primary lost before anybody else had it is not promised. So where processes end, writes count that were
    /// replicated, and reads of those; a read of anything else says nothing, and neither do results that hang on it.
    pub(crate) fn check(&self, is_stormy: bool) -> Result<(), String> {
        for key in KEYS {
            let ended = self.ended_of(key);
            let history = if is_stormy { promised(&ended) } else { ended.clone() };
            if let Some(read) = ended.iter().find(|read| is_stormy && goes_back(&ended, read)) {
                return Err(format!("key {} goes back: {read:?}", String::from_utf8_lossy(key)));
            }
            if !is_linearizable(&history) {
                let key = String::from_utf8_lossy(key);
                return Err(format!("key {key} was no register: {}", show(&history)));
            }
        }
        Ok(())
    }
}

/// Whether a read gives a value that was read before, and has been overwritten since for certain. That must not happen even
/// to a value that was never promised.
fn goes_back(history: &[Operation], read: &Operation) -> bool {
    let Action::Read(Some(value)) = read.action else { return false };
    let seen = history.iter().filter(|other| other.action == Action::Read(Some(value)));
    let Some(seen) = seen.filter_map(|other| other.returned).min() else { return false };
    let is_write = |action| !matches!(action, Action::Read(_)) && action != Action::Set(value);
    history.iter().any(|write| {
        is_write(write.action) && write.called > seen && write.returned.is_some_and(|returned| returned < read.called)
    })
}

/// What is left of a history of one key if only what was replicated is promised.
fn promised(history: &[Operation]) -> Vec<Operation> {
    let is_promised = |operation: &&Operation| operation.returned.is_some();
    let sets = history.iter().filter(is_promised).filter_map(|operation| match operation.action {
        Action::Set(value) => Some(value),
        _ => None,
    });
    let sets: BTreeSet<u64> = sets.collect();
    let is_delete = |operation: &&Operation| matches!(operation.action, Action::Delete(_));
    let doubtful = history.iter().filter(|operation| operation.returned.is_none()).filter(is_delete);
    let doubtful = doubtful.map(|operation| operation.called).min().unwrap_or(u64::MAX);
    let counts = |operation: &&Operation| match operation.action {
        Action::Read(Some(value)) => sets.contains(&value),
        Action::Read(None) => operation.returned.is_some_and(|returned| returned < doubtful),
        _ => true,
    };
    let plain = |operation: &Operation| match operation.action {
        // What was there before may have been lost since.
        Action::Delete(_) => Operation { action: Action::Delete(None), ..*operation },
        _ => *operation,
    };
    history.iter().filter(is_promised).filter(counts).map(plain).collect()
}

/// The last operations of the shortest part of a history that is none of a register, one to a line.
fn show(history: &[Operation]) -> String {
    let mut history = history.to_vec();
    history.sort_by_key(|operation| operation.returned);
    let until = |end: u64| -> Vec<Operation> {
        let begun = history.iter().filter(|operation| operation.called < end);
        begun.map(|one| Operation { returned: one.returned.filter(|returned| *returned <= end), ..*one }).collect()
    };
    let ends = history.iter().filter_map(|operation| operation.returned);
    let mut shortest = ends.map(until).find(|part| !is_linearizable(part)).unwrap_or_default();
    shortest.sort_by_key(|operation| operation.called);
    let first = shortest.len().saturating_sub(SHOWN);
    shortest[first..].iter().map(|operation| format!("\n  {operation:?}")).collect()
}
