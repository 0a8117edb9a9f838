//! Histories made by hand: times in milliseconds, values by their numbers, one shared key unless another is named.

use std::{ops::Range, time::Duration};

use super::Finding;
use crate::{
    history::{Action, ClientId, Found, History, Key, Kind, Last, Operation, Outcome, Place, ValueId},
    order::Order,
};

pub(crate) const HERE: Place = Place(0);
pub(crate) const THERE: Place = Place(1);
pub(crate) const KEY: Key = Key { kind: Kind::Shared, number: 0 };
pub(crate) const OWN: Key = Key { kind: Kind::Own(HERE), number: 0 };
pub(crate) const COUNTER: Key = Key { kind: Kind::Counter, number: 0 };

/// Writes a history down.
#[derive(Debug)]
pub(crate) struct Scribe {
    pub(crate) history: History,
    pub(crate) key: Key,
}

impl Default for Scribe {
    fn default() -> Self {
        let history = History {
            regions: vec!["here".to_owned(), "there".to_owned()],
            judged: vec![HERE, THERE],
            max_drift: Duration::from_millis(500),
            ..History::default()
        };
        Self { history, key: KEY }
    }
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn value(number: u32) -> ValueId {
    ValueId { client: ClientId(1), number }
}

impl Scribe {
    pub(crate) fn note(&mut self, region: Place, times: Range<u64>, action: Action, outcome: Outcome) {
        let (called, returned) = (ms(times.start), ms(times.end));
        let operation = Operation { client: ClientId(1), region, key: self.key, called, returned, action, outcome };
        self.history.operations.push(operation);
    }

    pub(crate) fn set(&mut self, region: Place, times: Range<u64>, number: u32) {
        self.note(region, times, Action::Set(value(number), None), Outcome::Done);
    }

    pub(crate) fn set_for(&mut self, region: Place, times: Range<u64>, number: u32, ttl: u64) {
        self.note(region, times, Action::Set(value(number), Some(ms(ttl))), Outcome::Done);
    }

    pub(crate) fn lost_set(&mut self, region: Place, times: Range<u64>, number: u32) {
        self.note(region, times, Action::Set(value(number), None), Outcome::Unknown("gone".to_owned()));
    }

    pub(crate) fn refused_set(&mut self, region: Place, times: Range<u64>, number: u32) {
        self.note(region, times, Action::Set(value(number), None), Outcome::Refused("no".to_owned()));
    }

    pub(crate) fn delete(&mut self, region: Place, times: Range<u64>) {
        self.note(region, times, Action::Delete, Outcome::Was(true));
    }

    pub(crate) fn read(&mut self, region: Place, times: Range<u64>, number: Option<u32>) {
        let found = number.map(|number| Found::Value(value(number)));
        self.note(region, times, Action::Get, Outcome::Found(found));
    }

    /// How many complaints an oracle has of what was written down.
    pub(crate) fn complaints(&self, oracle: for<'a> fn(&'a History, &Order<'a>) -> Finding) -> usize {
        judge(oracle, &self.history).violations.len()
    }

    /// What stands at the key in both regions at the end.
    pub(crate) fn ends(&mut self, numbers: [Option<u32>; 2]) {
        for (region, number) in [HERE, THERE].into_iter().zip(numbers) {
            let found = number.map(|number| Found::Value(value(number)));
            self.history.last.push(Last { region, key: self.key, found, expires_ms: -1 });
        }
    }
}

pub(crate) fn judge(judge: for<'a> fn(&'a History, &Order<'a>) -> Finding, history: &History) -> Finding {
    judge(history, &Order::new(history))
}

/// A history in which all went well, with something to judge for everybody.
pub(crate) fn well() -> Scribe {
    let mut scribe = Scribe::default();
    scribe.set(HERE, 0..1, 1);
    scribe.read(HERE, 2..3, Some(1));
    scribe.set(THERE, 2..4, 2);
    scribe.read(HERE, 60..61, Some(2));
    scribe.delete(HERE, 62..63);
    scribe.read(HERE, 64..65, None);
    scribe.read(THERE, 64..65, Some(2));
    scribe.set(HERE, 66..67, 3);
    scribe.note(THERE, 68..140, Action::Follow(value(3)), Outcome::Found(Some(Found::Value(value(3)))));
    scribe.ends([Some(3), Some(3)]);
    scribe.key = OWN;
    scribe.set(HERE, 0..1, 11);
    scribe.read(HERE, 2..3, Some(11));
    scribe.ends([Some(11), Some(11)]);
    scribe
}
