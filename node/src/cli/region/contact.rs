//! One region, as whoever compares sees it: its map, and a question to whichever primary a slot belongs to.
//!
//! A region is found by any of its nodes and asked like a client of Redis Cluster would: CLUSTER SLOTS, then each primary about its
//! slots. Slots may move and primaries fail over meanwhile; then an answer is a redirection, or there is none, and what was being
//! asked for is asked for again from its start, by another map, a bounded number of times ([`ATTEMPTS_MAX`]). What is asked for
//! in several steps is one thing: a sum that two nodes began would count what moved twice.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use config::PeerAddress;
use node_core::{
    resp::Value,
    slot::{Slot, SlotRange},
    store::{Digest, Parts},
};
use tokio::time::sleep;

use super::{
    connection::{AskError, Connection, Dialler},
    limits::{ATTEMPT_PAUSE, ATTEMPTS_MAX},
    replies::{self, SlotRows, bytes, list, text},
};

/// What a node says of the region that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) id: u8,
}

/// See the head of this file.
pub(super) struct Region {
    pub(super) identity: Identity,
    dialler: Dialler,
    /// Nodes that may be asked for the map.
    known: Vec<String>,
    /// Who holds what, in the order of slots.
    owners: Vec<(SlotRange, String)>,
    connections: BTreeMap<String, Connection>,
    /// How far its clock is ahead of ours.
    ahead: Duration,
}

impl Region {
    /// Asks a node who it is, and what the time is there.
    ///
    /// # Errors
    /// [`AskError`]
    pub(super) async fn meet(dialler: &Dialler, address: &str) -> Result<Self, AskError> {
        let mut connection = dialler.dial(address).await?;
        let misfit = || AskError::Misfit(address.to_owned());
        let status = replies::status(&connection.ask(&[b"REGION", b"STATUS"]).await?).ok_or_else(misfit)?;
        let (name, id) = (status["region"]["name"].as_str(), status["region"]["id"].as_u64());
        let id = id.and_then(|id| u8::try_from(id).ok()).ok_or_else(misfit)?;
        let identity = Identity { name: name.ok_or_else(misfit)?.to_owned(), id };
        let time = connection.ask(&[b"TIME"]).await?;
        let theirs = replies::time(&time).ok_or_else(misfit)?;
        Ok(Self {
            identity,
            dialler: dialler.clone(),
            known: vec![address.to_owned()],
            owners: Vec::new(),
            connections: BTreeMap::from([(address.to_owned(), connection)]),
            ahead: theirs.saturating_sub(now()),
        })
    }

    /// Takes in another of its nodes.
    pub(super) fn join(&mut self, other: Self) {
        self.known.extend(other.known);
        self.connections.extend(other.connections);
        self.ahead = self.ahead.max(other.ahead);
    }

    /// Its primaries, by who holds slots.
    pub(super) fn primaries(&self) -> Vec<String> {
        let mut primaries: Vec<_> = self.owners.iter().map(|(_, address)| address.clone()).collect();
        primaries.sort_unstable();
        primaries.dedup();
        primaries
    }

    /// What a node says in REGION STATUS.
    ///
    /// # Errors
    /// [`AskError`]
    pub(super) async fn status(&mut self, address: &str) -> Result<serde_json::Value, AskError> {
        let reply = self.ask(address, &[b"REGION", b"STATUS"]).await?;
        replies::status(&reply).ok_or_else(|| AskError::Misfit(address.to_owned()))
    }

    /// How far its clock is ahead of ours.
    pub(super) const fn ahead(&self) -> Duration {
        self.ahead
    }

    /// Digests of what it holds in these slots as of `at_ms`, in milliseconds since 1970; one for each of their parts.
    ///
    /// # Errors
    /// [`AskError`]
    pub(super) async fn digests(
        &mut self,
        slots: &SlotRange,
        parts: Parts,
        at_ms: u64,
    ) -> Result<Vec<Digest>, AskError> {
        self.patiently(async |region: &mut Self| region.digests_once(slots, parts, at_ms).await).await
    }

    async fn digests_once(&mut self, slots: &SlotRange, parts: Parts, at_ms: u64) -> Result<Vec<Digest>, AskError> {
        let mut sums = vec![Digest::default(); parts.count(slots)];
        let mut rest = Some(slots.clone());
        while let Some(left) = rest {
            let (mine, address) = self.owner(left.first)?;
            let last = mine.last.min(left.last);
            // Where the node's first part lies among ours.
            let offset = match parts {
                Parts::Slots(_) => parts.count(&SlotRange { first: slots.first, last: left.first }) - 1,
                Parts::Buckets(_) => 0,
            };
            let (word, number) = match parts {
                Parts::Slots(span) => ("SPAN", span),
                Parts::Buckets(buckets) => ("BUCKETS", buckets),
            };
            let ends = [left.first, last].map(|slot| slot.to_string());
            let (at, number, mut cursor) = (at_ms.to_string(), number.to_string(), "0".to_owned());
            loop {
                let words = ["REGION", "DIGEST", &ends[0], &ends[1], &at, &cursor, word, &number];
                let reply = self.ask(&address, &words.map(str::as_bytes)).await?;
                let misfit = || AskError::Misfit(address.clone());
                let portion = replies::portion(&reply).ok_or_else(misfit)?;
                let sums = sums.get_mut(offset + portion.first..).ok_or_else(misfit)?;
                sums.iter_mut().zip(portion.digests).for_each(|(sum, digest)| sum.add(digest));
                cursor = portion.cursor;
                if cursor == "0" {
                    break;
                }
            }
            let next = last.number() + 1;
            rest = SlotRange::new(next..slots.last.number() + 1);
        }
        Ok(sums)
    }

    /// What it knows of the keys in some buckets of a slot.
    ///
    /// # Errors
    /// [`AskError`]
    pub(super) async fn rows(&mut self, slot: Slot, buckets: u16, wanted: &[u16]) -> Result<SlotRows, AskError> {
        self.patiently(async |region: &mut Self| region.rows_once(slot, buckets, wanted).await).await
    }

    async fn rows_once(&mut self, slot: Slot, buckets: u16, wanted: &[u16]) -> Result<SlotRows, AskError> {
        let (_, address) = self.owner(slot)?;
        let mut all: Option<SlotRows> = None;
        let mut cursor = "0".to_owned();
        loop {
            let mut words = vec!["REGION".to_owned(), "ROWS".to_owned(), slot.to_string(), cursor, buckets.to_string()];
            words.extend(wanted.iter().map(u16::to_string));
            let words: Vec<_> = words.iter().map(String::as_bytes).collect();
            let reply = self.ask(&address, &words).await?;
            let (next, page) = replies::page(&reply).ok_or_else(|| AskError::Misfit(address.clone()))?;
            let rows = match all.take() {
                None => page,
                // What was seen first was seen for all of them, and the last floor is the highest.
                Some(rows) => {
                    SlotRows { rows: rows.rows.into_iter().chain(page.rows).collect(), floor: page.floor, ..rows }
                }
            };
            if next == "0" {
                return Ok(rows);
            }
            (cursor, all) = (next, Some(rows));
        }
    }

    /// The record of a key, as the words that [`merge`](Self::merge) takes; none if there is none.
    ///
    /// # Errors
    /// [`AskError`]
    pub(super) async fn fetch(&mut self, key: &[u8]) -> Result<Option<Vec<Vec<u8>>>, AskError> {
        let words: [&[u8]; 3] = [b"REGION", b"FETCH", key];
        let reply = self.ask_owner(Slot::of(key), &words).await?;
        Ok(list(&reply).map(|words| words.iter().filter_map(bytes).map(<[u8]>::to_vec).collect()))
    }

    /// Merges a record. Returns what became of it, in the node's word.
    ///
    /// # Errors
    /// [`AskError`]
    pub(super) async fn merge(&mut self, key: &[u8], record: &[Vec<u8>]) -> Result<String, AskError> {
        let mut words: Vec<&[u8]> = vec![b"REGION", b"MERGE", key];
        words.extend(record.iter().map(Vec::as_slice));
        let reply = self.ask_owner(Slot::of(key), &words).await?;
        text(&reply).ok_or_else(|| AskError::Misfit(self.known[0].clone()))
    }

    async fn ask_owner(&mut self, slot: Slot, words: &[&[u8]]) -> Result<Value, AskError> {
        let ask = async |region: &mut Self| {
            let (_, address) = region.owner(slot)?;
            region.ask(&address, words).await
        };
        self.patiently(ask).await
    }

    /// Asks again, by another map, as long as that may help.
    async fn patiently<T>(&mut self, ask: impl AsyncFn(&mut Self) -> Result<T, AskError>) -> Result<T, AskError> {
        for _ in 1..ATTEMPTS_MAX {
            match ask(self).await {
                Err(error) if error.may_pass() => {}
                done => return done,
            }
            sleep(ATTEMPT_PAUSE).await;
            // If nobody has a map, the next attempt says whom it could not reach by the former one.
            let _ = self.read_map().await;
        }
        ask(self).await
    }

    /// Asks one of its nodes, once.
    ///
    /// # Errors
    /// [`AskError`]
    pub(super) async fn ask(&mut self, address: &str, words: &[&[u8]]) -> Result<Value, AskError> {
        if !self.connections.contains_key(address) {
            self.connections.insert(address.to_owned(), self.dialler.dial(address).await?);
        }
        let connection = self.connections.get_mut(address).expect("it was just connected to");
        let answer = connection.ask(words).await;
        if matches!(answer, Err(AskError::Unreachable { .. })) {
            self.connections.remove(address);
        }
        answer
    }

    fn owner(&self, slot: Slot) -> Result<(SlotRange, String), AskError> {
        let owner = self.owners.iter().find(|(slots, _)| slots.contains(slot)).cloned();
        owner.ok_or_else(|| AskError::Unserved { region: self.identity.name.clone(), slot: slot.number() })
    }

    /// Reads the map, at whichever node answers.
    ///
    /// # Errors
    /// That of the first node that was asked, if none answers.
    pub(super) async fn read_map(&mut self) -> Result<(), AskError> {
        let mut failed = None;
        for address in self.known.clone() {
            match self.ask(&address, &[b"CLUSTER", b"SLOTS"]).await {
                Ok(reply) => {
                    self.owners = replies::owners(&reply).ok_or(AskError::Misfit(address))?;
                    let owners = self.owners.iter().map(|(_, address)| address.clone());
                    let new: Vec<_> = owners.filter(|address| !self.known.contains(address)).collect();
                    self.known.extend(new);
                    self.known.sort_unstable();
                    self.known.dedup();
                    return Ok(());
                }
                // In no cluster, so it holds all slots.
                Err(AskError::Refused { reason, .. }) if reason.contains("cluster support disabled") => {
                    self.owners = vec![(SlotRange::ALL, address)];
                    return Ok(());
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.expect("a region is known by a node at least"))
    }
}

/// Finds out which regions these nodes are of, and who holds their slots.
///
/// # Errors
/// [`AskError`]
pub(super) async fn meet(dialler: &Dialler, nodes: &[PeerAddress]) -> Result<Vec<Region>, AskError> {
    let mut regions: Vec<Region> = Vec::new();
    for address in nodes {
        let met = Region::meet(dialler, &address.to_string()).await?;
        match regions.iter_mut().find(|region| region.identity == met.identity) {
            Some(region) => region.join(met),
            None => regions.push(met),
        }
    }
    for region in &mut regions {
        region.read_map().await?;
    }
    Ok(regions)
}

/// The time of this machine, since 1970.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
