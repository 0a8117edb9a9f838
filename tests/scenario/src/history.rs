//! What the clients of a run saw: each operation with its client, its region, when it was called and answered, and how.
//!
//! # Unknown is not absent
//! A command whose reply was lost may have been carried out, at any time after it was called, or never. So it has an outcome of
//! its own ([`Outcome::Unknown`]). One that was answered with an error was not carried out ([`Outcome::Refused`]), and what it
//! would have written must never be read.
//!
//! # What the faults excuse
//! A primary that dies may take with it what it acknowledged last: [`Loss`] says where and when that may have been. It is noted
//! by whoever did the killing, so an oracle never has to guess what a failure was.
//!
//! All times are distances from the start of the run, on one clock.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Serialize, Serializer};

/// A region, by its place among those of the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place(pub u8);

/// A client, by its number among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ClientId(pub u16);

/// A value, by who wrote it and as which of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId {
    /// Who.
    pub client: ClientId,
    /// Its first value has the number 1.
    pub number: u32,
}

/// What a key is used for; see [`load`](crate::load).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A register of all regions.
    Shared,
    /// A register of one region.
    Own(Place),
    /// A number that is counted up.
    Counter,
    /// A value whose expiry is changed.
    Fading,
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What it is used for.
    pub kind: Kind,
    /// Which of these.
    pub number: u32,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// Who asked.
    pub client: ClientId,
    /// The region that was asked.
    pub region: Place,
    /// About which key.
    pub key: Key,
    /// When the client asked.
    #[serde(serialize_with = "seconds")]
    pub called: Duration,
    /// When it had its answer, or gave up.
    #[serde(serialize_with = "seconds")]
    pub returned: Duration,
    /// What it asked for.
    pub action: Action,
    /// What it was told.
    pub outcome: Outcome,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// `SET`, perhaps with an expiry.
    Set(ValueId, Option<Duration>),
    /// `GET`.
    Get,
    /// `GET` of what the same client wrote in another region, after the token of that was reached.
    Follow(ValueId),
    /// `DEL`.
    Delete,
    /// `FLUSHALL`, as far as this key is concerned.
    Flush,
    /// `PEXPIRE`.
    Expire(Duration),
    /// `INCR`.
    Increment,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// It was done.
    Done,
    /// This was read; none if nothing was there.
    Found(Option<Found>),
    /// The number after it was counted up.
    Number(u64),
    /// Whether there was something to delete or to expire.
    Was(bool),
    /// It was not done.
    Refused(String),
    /// Nobody knows whether it was done.
    Unknown(String),
}

/// What stood at a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Found {
    /// A value of a client.
    Value(ValueId),
    /// A number.
    Number(u64),
    /// What no client writes.
    Strange(String),
}

/// What a region has at a key at the end, when all is quiet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Last {
    /// Where.
    pub region: Place,
    /// Which key.
    pub key: Key,
    /// What; none if it is absent.
    pub found: Option<Found>,
    /// When it expires, in milliseconds since 1970; negative if it does not, or is absent.
    pub expires_ms: i64,
}

/// Writes that a region may have lost, though it had acknowledged them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Where.
    pub region: Place,
    /// What was acknowledged or read there from this time on,
    #[serde(serialize_with = "seconds")]
    pub from: Duration,
    /// up to this time, when what died had been replaced.
    #[serde(serialize_with = "seconds")]
    pub until: Duration,
    /// Whether nobody was left who had what the dead had seen.
    pub whole: bool,
}

/// How far the clocks of a region were ahead in a run, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Skew {
    /// At the least.
    pub least_ms: i64,
    /// At the most.
    pub most_ms: i64,
    /// By how much they may have been set back.
    pub back_ms: u64,
}

/// A whole run as its clients saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct History {
    /// The names of the regions.
    pub regions: Vec<String>,
    /// Everything that was asked for.
    pub operations: Vec<Operation>,
    /// What stood where at the end.
    pub last: Vec<Last>,
    /// The regions that are compared at the end.
    pub judged: Vec<Place>,
    /// The regions that have evicted, or forgotten before all had seen it: what they lack is no loss.
    pub may_miss: Vec<Place>,
    /// What faults may have cost.
    pub losses: Vec<Loss>,
    /// The clocks, in the order of the regions; where there is none they are right.
    pub skews: Vec<Skew>,
    /// How far a region follows clocks that are ahead of its own.
    pub max_drift: Duration,
}

impl Operation {
    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused(_) | Outcome::Unknown(_))
    }

    /// Whether it may have been done.
    pub fn may_be_done(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused(_))
    }

    /// The value that it wrote, if it wrote one.
    pub fn value(&self) -> Option<ValueId> {
        match self.action {
            Action::Set(value, _) => Some(value),
            _ => None,
        }
    }

    /// What it read, if it was a read that was answered.
    pub fn read(&self) -> Option<Option<&Found>> {
        match (&self.action, &self.outcome) {
            (Action::Get | Action::Follow(_), Outcome::Found(found)) => Some(found.as_ref()),
            _ => None,
        }
    }

    /// The value that it read, if it was one.
    pub fn read_value(&self) -> Option<ValueId> {
        match self.read()?? {
            Found::Value(value) => Some(*value),
            _ => None,
        }
    }
}

impl Loss {
    /// Whether something that took place between these times may have been lost.
    pub fn covers(&self, region: Place, from: Duration, to: Duration) -> bool {
        self.region == region && from <= self.until && to >= self.from
    }
}

impl History {
    /// The name of a region.
    pub fn name(&self, region: Place) -> &str {
        self.regions.get(usize::from(region.0)).map_or("?", String::as_str)
    }

    /// Whether a region may have lost what took place in it between these times.
    pub fn may_be_lost(&self, region: Place, from: Duration, to: Duration) -> bool {
        self.losses.iter().any(|loss| loss.covers(region, from, to))
    }

    /// Whether what a region knew at a time may be gone by a later one.
    pub fn may_be_forgotten(&self, region: Place, known: Duration, later: Duration) -> bool {
        let of_region = self.losses.iter().filter(|loss| loss.region == region);
        let mut within = of_region.filter(|loss| known <= loss.until && later >= loss.from);
        within.any(|loss| loss.whole || known >= loss.from)
    }

    /// How far the clocks of any two nodes were apart at the most.
    pub fn apart(&self) -> Duration {
        let most = self.skews.iter().map(|skew| skew.most_ms).max().unwrap_or_default().max(0);
        let least = self.skews.iter().map(|skew| skew.least_ms).min().unwrap_or_default().min(0);
        Duration::from_millis(most.abs_diff(least))
    }

    /// The clocks of a region.
    pub fn skew(&self, region: Place) -> Skew {
        self.skews.get(usize::from(region.0)).copied().unwrap_or_default()
    }

    /// What stood at a key at the end in the regions that are judged.
    pub fn last_of(&self, key: Key) -> impl Iterator<Item = &Last> {
        self.last.iter().filter(move |last| last.key == key && self.judged.contains(&last.region))
    }

    /// The longest time from the start to `end` in which clients had nothing done in a region.
    pub fn longest_pause(&self, region: Place, end: Duration) -> Duration {
        let done = self.operations.iter().filter(|operation| operation.region == region && operation.is_done());
        let mut times: Vec<_> = done.map(|operation| operation.returned.min(end)).collect();
        times.extend([Duration::ZERO, end]);
        times.sort();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// An operation in words.
    pub fn show(&self, operation: &Operation) -> String {
        let Operation { client, region, key, called, returned, action, outcome } = operation;
        let [called, returned] = [called, returned].map(|time| time.as_secs_f64());
        let what = match action {
            Action::Set(value, None) => format!("SET {value}"),
            Action::Set(value, Some(ttl)) => format!("SET {value} PX {}", ttl.as_millis()),
            Action::Get => "GET".to_owned(),
            Action::Follow(value) => format!("GET, after the token of {value}"),
            Action::Delete => "DEL".to_owned(),
            Action::Flush => "FLUSHALL".to_owned(),
            Action::Expire(ttl) => format!("PEXPIRE {}", ttl.as_millis()),
            Action::Increment => "INCR".to_owned(),
        };
        let answer = match outcome {
            Outcome::Done => "done".to_owned(),
            Outcome::Found(None) => "nothing".to_owned(),
            Outcome::Found(Some(found)) => found.to_string(),
            Outcome::Number(number) => number.to_string(),
            Outcome::Was(was) => (if *was { "there was one" } else { "there was none" }).to_owned(),
            Outcome::Refused(error) => format!("refused: {error}"),
            Outcome::Unknown(error) => format!("no answer: {error}"),
        };
        format!("{called:.3} to {returned:.3} s, {}, client {}: {key} {what} -> {answer}", self.name(*region), client.0)
    }
}

impl ValueId {
    /// The bytes of this value, of this length if it is long enough.
    pub fn text(self, len: usize) -> String {
        let name = format!("{self}.");
        format!("{name:.<len$}")
    }
}

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.client.0, self.number)
    }
}

impl Found {
    /// What a client reads out of the bytes of a value.
    pub fn parse(text: &str) -> Self {
        if let Ok(number) = text.parse() {
            return Self::Number(number);
        }
        let value = || {
            let mut words = text.strip_prefix('c')?.split('.');
            let client = ClientId(u16::from_str(words.next()?).ok()?);
            let value = ValueId { client, number: words.next()?.parse().ok()? };
            (value.text(text.len()) == text).then_some(Self::Value(value))
        };
        value().unwrap_or_else(|| Self::Strange(text.chars().take(STRANGE_SHOWN).collect()))
    }
}

/// How many characters of a strange value are kept.
const STRANGE_SHOWN: usize = 40;

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Strange(text) => write!(f, "{text:?}"),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number;
        match self.kind {
            Kind::Shared => write!(f, "shared:{number}"),
            Kind::Own(region) => write!(f, "own:{}:{number}", region.0),
            Kind::Counter => write!(f, "counter:{number}"),
            Kind::Fading => write!(f, "fading:{number}"),
        }
    }
}

/// A time as a trace shows it.
fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ValueId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientId, Found, ValueId};
    use crate::oracles::testing::{HERE, Scribe, THERE, ms};

    #[test]
    fn a_pause_ends_with_what_is_done() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..10, 1);
        scribe.lost_set(HERE, 20..30, 2);
        scribe.set(HERE, 40..50, 3);
        assert_eq!(scribe.history.longest_pause(HERE, ms(60)), ms(40));
        assert_eq!(scribe.history.longest_pause(HERE, ms(100)), ms(50));
        assert_eq!(scribe.history.longest_pause(THERE, ms(60)), ms(60));
    }

    #[test]
    fn a_value_is_known_by_its_bytes_and_by_all_of_them() {
        let value = ValueId { client: ClientId(3), number: 17 };
        for len in [0, 6, 96, 1_000] {
            let text = value.text(len);
            assert_eq!(Found::parse(&text), Found::Value(value), "{text}");
        }
        assert_eq!(value.text(96).len(), 96);
        assert_eq!(Found::parse("42"), Found::Number(42));
        for strange in ["", "c3", "c3.17", "c3.17.x", "hello"] {
            assert_eq!(Found::parse(strange), Found::Strange(strange.to_owned()));
        }
    }
}
