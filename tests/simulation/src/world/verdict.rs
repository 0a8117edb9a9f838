//! The end of a world: waits until all is quiet, reads what stands where, and has everything judged.

use std::{collections::BTreeMap, time::Duration};

use clock::{Stamp, Time};
use scenario::{
    History,
    history::{Key, Last, Loss, Place, Skew},
    oracles::ALL,
    order::Order,
};

use super::{NAMES, World, faults::AHEAD_MAX, operations};
use crate::{
    names::{found, keys},
    region::{DRIFT_MAX, Process, Region},
};

/// How long regions may take until they hold the same, once all is well.
const SETTLE: Duration = Duration::from_secs(8);
/// Violations that are told of a world.
const TOLD: usize = 3;

/// What was judged of a world in which nothing was wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Operations of clients.
    pub operations: usize,
    /// Faults, in regions and between them.
    pub faults: u64,
    /// How much each oracle has looked at.
    pub judged: BTreeMap<&'static str, usize>,
}

/// What stands at a key: its stamp, its value, and when it expires.
type Standing = Option<(Stamp, u64, i64)>;

impl World {
    /// Whether every primary has what every other region has, as far as they know themselves.
    pub(super) fn is_linked(&self) -> bool {
        let places = 0..self.regions.len();
        let pairs = places.clone().flat_map(|one| (0..self.regions.len()).map(move |other| (one, other)));
        let pairs: Vec<_> = pairs.filter(|(one, other)| self.are_peers(*one, *other)).collect();
        let primaries = |place: usize| self.inbound[place].iter().flatten();
        let expected: usize = pairs.iter().map(|(from, _)| primaries(*from).count()).sum();
        let is_complete = self.members().flat_map(primaries).all(|inbound| inbound.links.is_complete());
        let shards = |place: usize| self.regions[place].shards().count();
        // To who owns nothing nothing is sent.
        let owners =
            |place: usize| self.regions[place].shards().filter(|(id, _)| self.regions[place].has_slots(*id)).count();
        let ends: usize = pairs.iter().map(|(from, to)| shards(*from) * owners(*to)).sum();
        let streams = self.incoming.values().filter(|end| end.is_streaming()).count();
        let outgoing = || self.outgoing.values().filter(|end| self.are_peers(end.region, end.to));
        outgoing().filter(|end| end.is_up()).count() == expected
            && expected == outgoing().count()
            && is_complete
            && streams >= ends
    }

    pub(super) fn describe_links(&self) -> String {
        let out = self.outgoing.values().map(|end| {
            format!(
                "\n{}{} -> {}: {:?} {:?}",
                NAMES[end.region],
                end.index,
                NAMES[end.to],
                end.sender.phase(),
                end.connection()
            )
        });
        let incoming = self.incoming.values().map(|end| {
            let held = end.receiver.is_held();
            format!(
                "\n{}{} <- {}: streams {}, held {held}",
                NAMES[end.region],
                end.index,
                NAMES[end.from()],
                end.is_streaming()
            )
        });
        let of_region = |region: &Vec<Option<super::Inbound>>| {
            let complete = region.iter().map(|inbound| inbound.as_ref().map(|inbound| inbound.links.is_complete()));
            format!("\ncomplete: {:?}", complete.collect::<Vec<_>>())
        };
        out.chain(incoming).chain(self.inbound.iter().map(of_region)).collect()
    }

    /// Waits until all regions hold the same and know that they do, or long enough for them to.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let until = self.now + SETTLE;
        while self.now < until && !(self.are_equal() && self.check_frontier().is_ok()) {
            self.pass(Duration::from_millis(50))?;
        }
        Ok(())
    }

    fn are_equal(&self) -> bool {
        keys().all(|(_, name)| {
            let mut standing = self.members().map(|place| self.standing(&self.regions[place], name));
            let first = standing.next().flatten();
            standing.all(|other| other == first)
        })
    }

    /// What the primary of a key's slot holds.
    pub(super) fn standing(&self, region: &Region, name: &[u8]) -> Standing {
        let process = region.owner(name)?;
        let (store, wall) = (&process.store, process.clock.at(self.now).wall);
        let at = store.address(name);
        let mut stripe = store.lock(store.stripe_of(at.slot));
        let held = stripe.peek(at, name, wall)?;
        let number = std::str::from_utf8(held.value).ok()?.parse().ok()?;
        let expires = held.expiry.map_or(-1, |expiry| i64::try_from(expiry.unix_ms()).unwrap_or(i64::MAX));
        Some((held.stamp, number, expires))
    }

    /// Judges all that clients saw.
    pub(super) fn judge(&self) -> Result<Verdict, String> {
        let history = self.history();
        let order = Order::new(&history);
        let faults = self.faults + self.regions.iter().map(|region| region.faults).sum::<u64>();
        let mut verdict = Verdict { operations: history.operations.len(), faults, judged: BTreeMap::new() };
        for oracle in ALL.iter().filter(|oracle| self.options.only.is_none_or(|only| only == oracle.name)) {
            let finding = oracle.judge(&history, &order);
            verdict.judged.insert(oracle.name, finding.judged);
            if finding.violations.is_empty() {
                continue;
            }
            let told = finding.violations.iter().take(TOLD).map(|violation| {
                let operations = violation.operations.iter().map(|one| format!("\n    {}", history.show(one)));
                format!("\n  {}: {}{}", violation.key, violation.what, operations.collect::<String>())
            });
            return Err(format!("{}: {}", oracle.name, told.collect::<String>()));
        }
        Ok(verdict)
    }

    /// What clients saw, and what stands where at the end.
    fn history(&self) -> History {
        let places: Vec<Place> = (0..self.regions.len()).map(|place| Place(place as u8)).collect();
        let last = |(key, name): (Key, &'static [u8])| {
            self.regions.iter().zip(&places).map(move |(region, place)| {
                let standing = self.standing(region, name);
                let found = standing.map(|(_, number, _)| found(number));
                Last { region: *place, key, found, expires_ms: standing.map_or(-1, |(.., expires)| expires) }
            })
        };
        History {
            regions: NAMES[..self.regions.len()].iter().map(|name| (*name).to_owned()).collect(),
            operations: operations(&self.regions),
            last: keys().flat_map(last).collect(),
            judged: self.members().map(|place| Place(place as u8)).collect(),
            may_miss: places
                .iter()
                .zip(&self.regions)
                .filter(|(_, region)| region.may_miss())
                .map(|(place, _)| *place)
                .collect(),
            losses: places.iter().zip(&self.regions).flat_map(|(place, region)| losses(*place, region)).collect(),
            skews: self.regions.iter().map(|region| self.skew(region)).collect(),
            max_drift: DRIFT_MAX,
        }
    }

    /// How far the clocks of a region were off, from the beginning to now.
    fn skew(&self, region: &Region) -> Skew {
        let off = |process: &Process, now| {
            let right = Time::from_unix_ms(crate::region::NOON_MS).after(now);
            process.clock.at(now).wall.offset_from(right).nanos() / 1_000_000
        };
        if self.options.is_stormy {
            // They may have been set meanwhile, and have drifted by half a percent.
            let most = region.make.offset_max / 1_000_000 + self.now.as_millis() as i64 / 200 + 1;
            let ahead = if self.has_jumps { AHEAD_MAX.as_millis() as i64 } else { 0 };
            let back_ms = (2 * region.make.offset_max / 1_000_000 + ahead).unsigned_abs();
            return Skew { least_ms: -most, most_ms: most + ahead, back_ms };
        }
        let all = region.processes.iter().flat_map(|process| [Duration::ZERO, self.now].map(|now| off(process, now)));
        Skew { least_ms: all.clone().min().unwrap_or(0) - 1, most_ms: all.max().unwrap_or(0) + 1, back_ms: 0 }
    }
}

fn losses(place: Place, region: &Region) -> impl Iterator<Item = Loss> {
    region.injuries.iter().map(move |injury| Loss {
        region: place,
        from: injury.from,
        until: injury.until.unwrap_or(Duration::MAX),
        whole: injury.whole,
    })
}
