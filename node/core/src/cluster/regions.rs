//! What operators have said of other regions since the files were written: who has come, and who has gone.
//!
//! The other regions stand in the files of nodes and gateways. They come and go while all of those run, and each of them must
//! come to the same answer, also one that starts again with an old file. So a change is kept where the region keeps what it has
//! agreed on (in a cluster the map, else the state directory of the one node), and goes *over* the file, both ways: a region that
//! was added is there whether the file names it or not, one that was removed is gone. It is a change of files and not a list
//! in their place because files differ: those of nodes name no addresses, which only gateways need.
//!
//! # Who returns is new
//! A region that was removed no longer holds anybody's frontier back: what it missed may be forgotten. Its lives until then are
//! [retired](Peer::retired): whoever speaks for it under one of those incarnations is told that it is superseded, and goes on in a
//! younger one. So nobody is ever taken for having seen, or said, what belongs to the time before. What it may still hold
//! does no harm: the floors of the others are above all that was forgotten without it.

use std::collections::BTreeMap;

use clock::{Incarnation, RegionId};
use serde::{Deserialize, Serialize};

use crate::limits::{REGION_ADDRESSES_MAX, REGION_TEXT_BYTES_MAX};

/// Another region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, which its certificate must bear.
    pub name: String,
    /// Its number.
    pub id: RegionId,
    /// Where its gateways are dialled: `HOST:PORT`, looked up at every attempt; any will do. None, where others dial.
    pub addrs: Vec<String>,
    /// Its last life when it was removed, if it ever was: no life up to this one speaks for it.
    #[serde(default)]
    pub retired: Option<Incarnation>,
}

/// A change of the other regions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegionChange {
    /// This one is there from here on, under this name and at these addresses.
    Add(Peer),
    /// One is there no more.
    Remove {
        /// Which.
        region: RegionId,
        /// Its last life, as far as it was heard of.
        last: Option<Incarnation>,
    },
}

/// Why a change changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RegionRefused {
    /// It is the region itself.
    #[error("region {0} is this one")]
    Own(RegionId),
    /// Another one has its name.
    #[error("region {0} has the name {1} already")]
    Name(RegionId, String),
    /// A name or an address is empty or too long, or there are too many addresses.
    #[error(
        "a region has a name, and at most {REGION_ADDRESSES_MAX} addresses, of at most {REGION_TEXT_BYTES_MAX} bytes each"
    )]
    Malformed,
}

/// See the head of this file. Bounded: there are 63 regions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regions(BTreeMap<RegionId, Said>);

/// What was said of a region last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    /// None, if it was removed.
    peer: Option<Peer>,
    retired: Option<Incarnation>,
}

impl Regions {
    /// Nothing was said.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes in a change, in the region `own`.
    ///
    /// # Errors
    /// [`RegionRefused`]; nothing has changed.
    pub fn apply(&mut self, own: RegionId, change: &RegionChange) -> Result<(), RegionRefused> {
        match change {
            RegionChange::Add(peer) => self.add(own, peer),
            RegionChange::Remove { region, .. } if *region == own => Err(RegionRefused::Own(own)),
            RegionChange::Remove { region, last } => {
                let said = self.0.entry(*region).or_default();
                said.peer = None;
                said.retired = youngest(said.retired, *last);
                Ok(())
            }
        }
    }

    /// The other regions where the file names these.
    pub fn over(&self, configured: &[Peer]) -> Vec<Peer> {
        let added =
            |peer: &Peer| self.0.values().filter_map(|said| said.peer.as_ref()).any(|said| said.name == peer.name);
        let stays = |peer: &&Peer| !self.0.contains_key(&peer.id) && !added(peer);
        let mut peers: Vec<Peer> = configured.iter().filter(stays).cloned().collect();
        for said in self.0.values() {
            let Some(mut peer) = said.peer.clone() else { continue };
            peer.retired = said.retired;
            if peer.addrs.is_empty()
                && let Some(configured) = configured.iter().find(|configured| configured.id == peer.id)
            {
                peer.addrs.clone_from(&configured.addrs);
            }
            peers.push(peer);
        }
        peers.sort_by_key(|peer| peer.id);
        peers
    }

    fn add(&mut self, own: RegionId, peer: &Peer) -> Result<(), RegionRefused> {
        let is_text = |text: &String| (1..=REGION_TEXT_BYTES_MAX).contains(&text.len());
        if !is_text(&peer.name) || peer.addrs.len() > REGION_ADDRESSES_MAX || !peer.addrs.iter().all(is_text) {
            return Err(RegionRefused::Malformed);
        }
        if peer.id == own {
            return Err(RegionRefused::Own(own));
        }
        let others = self.0.values().filter_map(|said| said.peer.as_ref()).filter(|other| other.id != peer.id);
        if let Some(other) = others.clone().find(|other| other.name == peer.name) {
            return Err(RegionRefused::Name(other.id, other.name.clone()));
        }
        let said = self.0.entry(peer.id).or_default();
        said.retired = youngest(said.retired, peer.retired);
        said.peer = Some(peer.clone());
        Ok(())
    }
}

fn youngest(one: Option<Incarnation>, other: Option<Incarnation>) -> Option<Incarnation> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.is_after(one) { other } else { one }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, RegionId};

    use super::{Peer, RegionChange, RegionRefused, Regions};
    use crate::limits::{REGION_ADDRESSES_MAX, REGION_TEXT_BYTES_MAX};

    fn region(id: u8) -> RegionId {
        RegionId::new(id).unwrap()
    }

    fn peer(id: u8, name: &str, addrs: &[&str]) -> Peer {
        let addrs = addrs.iter().map(|addr| (*addr).to_owned()).collect();
        Peer { name: name.to_owned(), id: region(id), addrs, retired: None }
    }

    fn remove(id: u8, last: u16) -> RegionChange {
        RegionChange::Remove { region: region(id), last: Some(Incarnation::new(last)) }
    }

    #[test]
    fn what_is_said_goes_over_the_file_both_ways() {
        let configured = [peer(2, "b", &["b:1"]), peer(3, "c", &["c:1"])];
        let mut regions = Regions::new();
        assert_eq!(regions.over(&configured), configured);
        regions.apply(region(1), &RegionChange::Add(peer(4, "d", &["d:1"]))).unwrap();
        regions.apply(region(1), &remove(2, 0)).unwrap();
        assert_eq!(regions.over(&configured), [peer(3, "c", &["c:1"]), peer(4, "d", &["d:1"])]);
        // Whatever the file says by now.
        assert_eq!(regions.over(&[peer(4, "d", &[])]), [peer(4, "d", &["d:1"])]);
        regions.apply(region(1), &RegionChange::Add(peer(3, "c", &["c:2"]))).unwrap();
        assert_eq!(regions.over(&configured)[0], peer(3, "c", &["c:2"]), "it is reached elsewhere");
    }

    #[test]
    fn who_is_added_without_addresses_has_those_of_the_file() {
        let mut regions = Regions::new();
        regions.apply(region(1), &RegionChange::Add(peer(3, "c", &[]))).unwrap();
        assert_eq!(regions.over(&[peer(3, "c", &["c:1"])]), [peer(3, "c", &["c:1"])]);
        assert_eq!(regions.over(&[]), [peer(3, "c", &[])]);
    }

    #[test]
    fn the_lives_of_a_removed_region_stay_retired() {
        let mut regions = Regions::new();
        regions.apply(region(1), &remove(2, 7)).unwrap();
        regions.apply(region(1), &RegionChange::Add(peer(2, "b", &[]))).unwrap();
        assert_eq!(regions.over(&[])[0].retired, Some(Incarnation::new(7)));
        regions.apply(region(1), &remove(2, 5)).unwrap();
        regions.apply(region(1), &RegionChange::Remove { region: region(2), last: None }).unwrap();
        regions.apply(region(1), &RegionChange::Add(peer(2, "b", &[]))).unwrap();
        assert_eq!(regions.over(&[])[0].retired, Some(Incarnation::new(7)));
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        let mut regions = Regions::new();
        regions.apply(region(1), &RegionChange::Add(peer(2, "b", &[]))).unwrap();
        let before = regions.clone();
        let long = "x".repeat(REGION_TEXT_BYTES_MAX + 1);
        let many = vec!["x"; REGION_ADDRESSES_MAX + 1];
        for (change, refused) in [
            (RegionChange::Add(peer(1, "a", &[])), RegionRefused::Own(region(1))),
            (remove(1, 0), RegionRefused::Own(region(1))),
            (RegionChange::Add(peer(3, "b", &[])), RegionRefused::Name(region(2), "b".to_owned())),
            (RegionChange::Add(peer(3, "", &[])), RegionRefused::Malformed),
            (RegionChange::Add(peer(3, &long, &[])), RegionRefused::Malformed),
            (RegionChange::Add(peer(3, "c", &[&long])), RegionRefused::Malformed),
            (RegionChange::Add(peer(3, "c", &many)), RegionRefused::Malformed),
        ] {
            assert_eq!(regions.apply(region(1), &change), Err(refused));
            assert_eq!(regions, before);
        }
    }
}
