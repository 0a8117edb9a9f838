//! Clients: how they ask, and what they make of answers.
//!
//! Each has one request under way. It follows redirections, sends again what was refused for certain, and counts a request
//! as lost if its node ends or says nothing for [`ANSWER_MAX`]: such a write may have been carried out or not. In a region that
//! is alone, where processes end, a write is followed by `WAIT 1`, and only what that confirms is promised. What they ask for
//! is decided in `load`.

use std::time::Duration;

use clock::Stamp;
use node_core::slot::Slot;
use rand::RngExt;
use scenario::linearizable::Action;

use super::{Event, Region, What, load::Load, process::Turn, raft::Who};

/// The keys of a region that is alone, which lie in slots of their own.
pub(crate) const KEYS: [&[u8]; 4] = [b"alpha", b"beta", b"gamma", b"delta"];
/// How many clients there are.
pub(crate) const CLIENTS: usize = 4;
/// How long a client waits for an answer.
const ANSWER_MAX: Duration = Duration::from_millis(300);
/// How long `WAIT` waits.
const WAIT_MAX: Duration = Duration::from_millis(200);
/// Between two looks of a `WAIT`.
const WAIT_EVERY_MS: u64 = 10;
/// Between two looks whether what a token stands for has arrived.
const AWAIT_EVERY_MS: u64 = 10;
/// A client sends again within so many milliseconds, and something new within so many.
const AGAIN_MS: u64 = 12;
const NEXT_MS: u64 = 60;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Get,
    Set(u64),
    SetFor(u64, Duration),
    Increment,
    Delete,
    Expire(Duration),
    /// `FLUSHALL`, whatever the key.
    Flush,
    /// `GET` of what was written elsewhere, after what this stamp stands for has arrived.
    Follow(u64, Stamp),
}

impl Command {
    pub(crate) const fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::Follow(..))
    }
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
    /// What it waits for has not arrived.
    NotYet,
    /// It is for another node.
    Elsewhere(usize),
    /// Not now.
    Refused,
    /// Nobody is told whether it was carried out.
    Lost,
    Read(Option<u64>),
    Written(u64, Stamp),
    /// A delete, or a change of an expiry: whether there was something.
    Changed(bool, Stamp),
    /// All that the node owned was flushed.
    Flushed(Stamp),
    /// What was written has a replica.
    Replicated(bool),
}

/// A client.
#[derive(Default)]
pub(crate) struct Client {
    pub(super) under_way: Option<UnderWay>,
    pub(super) at: usize,
    /// It is no client of this region: it has come with a token, and goes when it has read.
    pub(super) guest: Option<u16>,
    /// Values that it has written.
    pub(super) values: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct UnderWay {
    pub(super) request: Request,
    sent_to: Who,
    pub(super) called: Duration,
    /// What was answered, while `WAIT` is waited for.
    answered: Option<Action>,
}

impl Region {
    /// A client asks for something new, unless it waits still or all is over.
    pub(crate) fn ask(&mut self, client: usize) {
        if self.clients[client].under_way.is_some() || self.is_over {
            return;
        }
        let (key, command) = self.choose(client);
        self.begin_request(client, key, command);
    }

    pub(super) fn begin_request(&mut self, client: usize, key: &'static [u8], command: Command) {
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
        self.attempts += 1;
        let attempt = self.attempts;
        if let Some(under_way) = &mut self.clients[client].under_way {
            under_way.request.attempt = attempt;
            self.after_ms(AGAIN_MS, Event::TryAgain(client, attempt));
        }
    }

    fn try_at(&mut self, client: usize, at: usize) {
        self.attempts += 1;
        let process = &self.processes[at];
        let (sent_to, is_up) = ((at, process.node.run), process.is_up);
        let Some(under_way) = &mut self.clients[client].under_way else { return };
        under_way.request.attempt = self.attempts;
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
            (None, Command::Set(value)) => Some(Action::Set(value)),
            (None, Command::Increment) => Some(Action::Increment(None)),
            (None, Command::Delete) => Some(Action::Delete(None)),
            (None, _) => None,
        };
        self.end(client, action, Outcome::Lost, false);
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
        if let Some(wrote) = process.wrote.take() {
            if self.make.is_single {
                self.keep_mark(wrote.time());
            }
            self.note_write(index, request.client, wrote);
        }
        match outcome {
            Outcome::Held(since) => {
                request.held_since.get_or_insert(since);
                self.after(Duration::from_millis(3), Event::For(index, run, What::Request(request)));
            }
            Outcome::NotYet => self.after_ms(AWAIT_EVERY_MS, Event::For(index, run, What::Request(request))),
            outcome => {
                if matches!(outcome, Outcome::Read(_) | Outcome::Written(..) | Outcome::Changed(..)) {
                    // What a process reads that has hung meanwhile is heard by nobody.
                    if request.command.writes() || self.waits_for(&request) {
                        self.answered_by.push((index, Slot::of(request.key)));
                    }
                    let key = String::from_utf8_lossy(request.key);
                    note!(self, "{index} {:?} {key}: {outcome:?}", request.command);
                }
                if matches!(outcome, Outcome::Flushed(_)) {
                    self.answers_flush(index);
                }
                self.after_ms(3, Event::Answer(request.client, request.attempt, outcome));
            }
        }
    }

    /// Whether a client still waits for this very request.
    fn waits_for(&self, request: &Request) -> bool {
        self.clients[request.client].under_way.is_some_and(|one| one.request.attempt == request.attempt)
    }

    /// A client has an answer.
    pub(crate) fn answered(&mut self, client: usize, attempt: u64, outcome: Outcome) {
        let Some(under_way) = self.clients[client].under_way.filter(|one| one.request.attempt == attempt) else {
            return;
        };
        match (outcome, under_way.request.command) {
            (Outcome::Elsewhere(to), _) => {
                self.clients[client].at = to;
                self.pause(client);
            }
            (Outcome::Refused, Command::Flush) => {
                // It may be a replica, which does not say who is not.
                self.clients[client].at = self.random.random_range(0..self.processes.len());
                self.pause(client);
            }
            (Outcome::Refused | Outcome::Held(_) | Outcome::NotYet, _) => self.pause(client),
            (Outcome::Flushed(_), _) => self.end(client, None, outcome, true),
            (Outcome::Lost, _) => self.lose(client, attempt),
            (Outcome::Read(value), _) => self.end(client, Some(Action::Read(value)), outcome, true),
            (Outcome::Replicated(is_replicated), _) => self.end(client, under_way.answered, outcome, is_replicated),
            (Outcome::Written(value, stamp), Command::Increment) => {
                self.wrote(client, Action::Increment(Some(value)), stamp, outcome);
            }
            (Outcome::Written(value, stamp), _) => self.wrote(client, Action::Set(value), stamp, outcome),
            (Outcome::Changed(was_there, stamp), _) => {
                self.wrote(client, Action::Delete(Some(was_there)), stamp, outcome);
            }
        }
    }

    fn wrote(&mut self, client: usize, action: Action, stamp: Stamp, outcome: Outcome) {
        let Some(under_way) = &mut self.clients[client].under_way else { return };
        if !self.is_stormy || self.load != Load::Registers {
            return self.end(client, Some(action), outcome, true);
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
    fn end(&mut self, client: usize, action: Option<Action>, outcome: Outcome, is_promised: bool) {
        let Some(under_way) = self.clients[client].under_way.take() else { return };
        match self.load {
            Load::Registers => {
                let returned = is_promised.then_some(self.now);
                if let Some(action) = action {
                    self.history.note(under_way.request.key, under_way.called, returned, action);
                }
            }
            Load::Kinds { .. } => self.record(client, &under_way, outcome),
        }
        if self.clients[client].guest.is_none() {
            self.after_ms(NEXT_MS * self.make.pace, Event::Ask(client));
        }
    }
}
