//! What the clients ask for: a stream of requests for each, which follows from a seed.
//!
//! A load is of use if what is read can be judged. So every value is written once in a run and names its writer
//! ([`ValueId`]), and what cannot be told apart by its value has keys of its own:
//!
//! | keys | commands | judged as |
//! |---|---|---|
//! | shared | SET, SET with expiry, GET, DEL, reads that follow a client | registers that all regions write |
//! | own | SET, GET, DEL | registers that one region alone uses: linearizable |
//! | counters | INCR, GET | no more than was counted; under concurrent INCR in two regions one is lost |
//! | fading | SET, EXPIRE, GET | EXPIRE stamps a value anew, so that no order of its values follows |
//!
//! A share of all requests may go to one key, which is the same in all regions.

use std::time::Duration;

use config::{Problem, Problems, RegionName, Size, values::duration};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::Deserialize;

use crate::{
    document::{no_region, out_of_range},
    history::{ClientId, Key, Kind, Place, ValueId},
    limits,
};

/// What the clients of a scenario do.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Load {
    /// Clients of each region.
    pub clients: u16,
    /// Operations per second of each region, if they are answered so fast.
    pub rate: u32,
    /// Keys that all regions use; of each other kind there is a quarter as many.
    pub keys: u32,
    /// The share of requests for one shared key, in percent.
    pub hot: u8,
    /// The size of a value.
    pub value_size: Size,
    /// How long values live that are written with an expiry.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ttl: Duration,
    /// The regions that have clients; all of them if none is named.
    pub regions: Vec<RegionName>,
    /// How often each command is chosen.
    pub mix: Mix,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            clients: 4,
            rate: 150,
            keys: 60,
            hot: 0,
            value_size: *limits::VALUE_SIZE.start(),
            ttl: Duration::from_secs(1),
            regions: Vec::new(),
            mix: Mix::default(),
        }
    }
}

/// How often each command is chosen: weights.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mix {
    /// `SET` of a shared key.
    pub set: u16,
    /// `SET` of a shared key with an expiry.
    pub setex: u16,
    /// `GET` of a shared key.
    pub get: u16,
    /// `DEL` of a shared key.
    pub del: u16,
    /// `SET`, `GET` or `DEL` of a key of the region's own.
    pub own: u16,
    /// `INCR` or `GET` of a counter.
    pub incr: u16,
    /// `SET`, `EXPIRE` or `GET` of a fading key.
    pub expire: u16,
    /// `SET` of a shared key, then with a token a `GET` in another region.
    pub follow: u16,
}

impl Default for Mix {
    fn default() -> Self {
        Self { set: 25, setex: 5, get: 35, del: 5, own: 20, incr: 4, expire: 3, follow: 3 }
    }
}

/// What a client is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// About which key.
    pub key: Key,
    /// What.
    pub ask: Ask,
}

/// See [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `SET`, perhaps with an expiry.
    Set(ValueId, Option<Duration>),
    /// `GET`.
    Get,
    /// `DEL`.
    Delete,
    /// `PEXPIRE`.
    Expire(Duration),
    /// `INCR`.
    Increment,
    /// `SET`, and a read in another region that waits for the token.
    Follow(ValueId, Place),
}

impl Load {
    pub(crate) fn check(&self, names: &[&RegionName], problems: &mut Problems) {
        problems.require(limits::CLIENTS.contains(&self.clients), || out_of_range("load.clients", "1 to 64"));
        problems.require(limits::RATE.contains(&self.rate), || out_of_range("load.rate", "1 to 20000 per second"));
        problems.require(limits::KEYS.contains(&self.keys), || out_of_range("load.keys", "1 to 100000"));
        problems.require(self.hot <= 100, || out_of_range("load.hot", "a share of up to 100 percent"));
        problems.require(limits::VALUE_SIZE.contains(&self.value_size), || {
            out_of_range("load.value_size", "a size of 96 bytes to 1 MiB")
        });
        problems.require(self.mix.total() > 0, || Problem::new("a mix of nothing").at("load.mix"));
        for region in &self.regions {
            problems.require(names.contains(&region), || no_region(region, names).at("load.regions"));
        }
    }

    /// Whether a region has clients.
    pub fn has_clients(&self, region: &str) -> bool {
        self.regions.is_empty() || self.regions.iter().any(|name| name.as_str() == region)
    }

    /// All keys that clients in these regions may use.
    pub fn all_keys(&self, regions: &[Place]) -> Vec<Key> {
        let shared = (0..self.keys).map(|number| Key { kind: Kind::Shared, number });
        let fewer = move |kind| (0..self.fewer()).map(move |number| Key { kind, number });
        let own = regions.iter().flat_map(|region| fewer(Kind::Own(*region)));
        shared.chain(own).chain(fewer(Kind::Counter)).chain(fewer(Kind::Fading)).collect()
    }

    fn fewer(&self) -> u32 {
        (self.keys / 4).max(1)
    }
}

impl Mix {
    fn weights(&self) -> [u32; 8] {
        let Self { set, setex, get, del, own, incr, expire, follow } = *self;
        [set, setex, get, del, own, incr, expire, follow].map(u32::from)
    }

    fn total(&self) -> u32 {
        self.weights().iter().sum()
    }
}

/// The requests of one client.
#[derive(Debug)]
pub struct Requests {
    load: Load,
    client: ClientId,
    region: Place,
    /// Where it may follow its writes to.
    others: Vec<Place>,
    random: Pcg64Mcg,
    written: u32,
}

impl Requests {
    /// Of a client in a region; the same seed gives the same requests.
    pub fn new(load: &Load, seed: u64, client: ClientId, region: Place, regions: usize) -> Self {
        let places = (0..regions).filter_map(|index| u8::try_from(index).ok()).map(Place);
        let random = Pcg64Mcg::seed_from_u64(seed.wrapping_mul(1 << 16).wrapping_add(client.0.into()));
        let others = places.filter(|place| *place != region).collect();
        Self { load: load.clone(), client, region, others, random, written: 0 }
    }

    /// The next one.
    pub fn next_request(&mut self) -> Request {
        let mut choice = self.random.random_range(0..self.load.mix.total());
        let chosen = self.load.mix.weights().iter().position(|weight| {
            let is_chosen = choice < *weight;
            choice = choice.saturating_sub(*weight);
            is_chosen
        });
        match chosen.unwrap_or_default() {
            0 => self.of_shared(|requests| Ask::Set(requests.value(), None)),
            1 => self.of_shared(|requests| Ask::Set(requests.value(), Some(requests.load.ttl))),
            2 => self.of_shared(|_| Ask::Get),
            3 => self.of_shared(|_| Ask::Delete),
            4 => self.of_own(),
            5 => self.of_counter(),
            6 => self.of_fading(),
            _ => self.following(),
        }
    }

    fn of_shared(&mut self, ask: impl FnOnce(&mut Self) -> Ask) -> Request {
        let is_hot = self.random.random_range(0..100) < self.load.hot;
        let number = if is_hot { 0 } else { self.random.random_range(0..self.load.keys) };
        Request { key: Key { kind: Kind::Shared, number }, ask: ask(self) }
    }

    fn of_own(&mut self) -> Request {
        let key = self.key(Kind::Own(self.region));
        let ask = match self.random.random_range(0..10) {
            0..4 => Ask::Set(self.value(), None),
            4 => Ask::Delete,
            _ => Ask::Get,
        };
        Request { key, ask }
    }

    fn of_counter(&mut self) -> Request {
        let key = self.key(Kind::Counter);
        Request { key, ask: if self.random.random_range(0..3) == 0 { Ask::Get } else { Ask::Increment } }
    }

    fn of_fading(&mut self) -> Request {
        let key = self.key(Kind::Fading);
        let ask = match self.random.random_range(0..3) {
            0 => Ask::Set(self.value(), None),
            1 => Ask::Expire(self.load.ttl),
            _ => Ask::Get,
        };
        Request { key, ask }
    }

    fn following(&mut self) -> Request {
        let Some(last) = self.others.len().checked_sub(1) else { return self.of_shared(|_| Ask::Get) };
        let to = self.others[self.random.random_range(0..=last)];
        self.of_shared(|requests| Ask::Follow(requests.value(), to))
    }

    fn key(&mut self, kind: Kind) -> Key {
        Key { kind, number: self.random.random_range(0..self.load.fewer()) }
    }

    fn value(&mut self) -> ValueId {
        self.written += 1;
        ValueId { client: self.client, number: self.written }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Ask, Load, Requests};
    use crate::history::{ClientId, Kind, Place};

    fn requests(load: &Load, seed: u64, client: u16) -> Vec<super::Request> {
        let mut requests = Requests::new(load, seed, ClientId(client), Place(0), 2);
        (0..2_000).map(|_| requests.next_request()).collect()
    }

    #[test]
    fn the_same_seed_asks_for_the_same() {
        let load = Load::default();
        assert_eq!(requests(&load, 7, 1), requests(&load, 7, 1));
        assert_ne!(requests(&load, 7, 1), requests(&load, 8, 1));
        assert_ne!(requests(&load, 7, 1), requests(&load, 7, 2));
    }

    #[test]
    fn no_value_is_written_twice_and_every_key_is_read_at_the_end() {
        let load = Load::default();
        let asked: Vec<_> = [1, 2].into_iter().flat_map(|client| requests(&load, 7, client)).collect();
        let values = asked.iter().filter_map(|request| match request.ask {
            Ask::Set(value, _) | Ask::Follow(value, _) => Some(value),
            _ => None,
        });
        let values: Vec<_> = values.collect();
        assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), values.len());
        let keys: BTreeSet<_> = load.all_keys(&[Place(0)]).into_iter().collect();
        assert!(asked.iter().all(|request| keys.contains(&request.key)));
    }

    #[test]
    fn kinds_of_keys_are_not_mixed_and_one_key_may_be_hot() {
        let load = Load { hot: 50, ..Load::default() };
        let asked = requests(&load, 7, 1);
        assert!(asked.iter().all(|request| match request.ask {
            Ask::Increment => request.key.kind == Kind::Counter,
            Ask::Expire(_) => request.key.kind == Kind::Fading,
            Ask::Follow(..) | Ask::Set(_, Some(_)) => request.key.kind == Kind::Shared,
            _ => true,
        }));
        let shared: Vec<_> = asked.iter().filter(|request| request.key.kind == Kind::Shared).collect();
        let hot = shared.iter().filter(|request| request.key.number == 0).count();
        assert!(hot * 3 > shared.len(), "{hot} of {}", shared.len());
    }
}
