//! How worlds and steps are told to a reader: regions are a, b and c, keys p and q, times are ranks.
//!
//! A time that nothing depends on any more leaves the ranks, so later times may be told by lower numbers one step on.

use std::fmt;

use crate::{
    Explored, Trace,
    configurations::Frontier,
    region::{KEYS, Key, Kind, Origin, REGIONS, Region, RegionId, Time},
    world::{Action, World},
};

const NAMES: [&str; REGIONS] = ["a", "b", "c"];
const KEY_NAMES: [&str; KEYS] = ["p", "q"];

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} worlds, {} steps, depth {}", self.worlds, self.steps, self.depth)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: not so", self.property)?;
        for (number, (action, world)) in self.steps.iter().enumerate() {
            writeln!(f, "{:>3}. {action}", number + 1)?;
            for region in world.members() {
                writeln!(f, "       {}: {}", NAMES[region], Line { world, region, frontier: self.frontier })?;
            }
        }
        Ok(())
    }
}

/// A region in one line.
struct Line<'a> {
    world: &'a World,
    region: RegionId,
    frontier: Frontier,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region: &Region = &self.world.regions[self.region];
        for (key, held) in region.held.iter().enumerate() {
            match held.entry {
                Some(entry) => write!(f, "{} = {} {}, ", KEY_NAMES[key], kind(entry.kind), entry.time)?,
                None => write!(f, "{} absent, ", KEY_NAMES[key])?,
            }
        }
        write!(f, "floor {}, seen", region.floor)?;
        let seen = region.seen.iter().enumerate().filter(|(_, time)| **time > Time::ZERO);
        seen.into_iter().try_for_each(|(origin, time)| write!(f, " {} {time}", Named(origin)))?;
        if self.frontier != Frontier::Unknown {
            write!(f, ", frontier {}", region.frontier)?;
        }
        Ok(())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

/// An origin; those that have ended are numbered.
struct Named(Origin);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "ended{}", self.0 - REGIONS + 1),
        }
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Evicted => "marker",
        Kind::Tombstone => "tombstone",
        Kind::Value => "value",
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = |region: RegionId| NAMES[region];
        let key = |key: Key| KEY_NAMES[key];
        let clock = |catches_up: bool| if catches_up { "now" } else { "its last stamp" };
        match *self {
            Self::Write { region: at, key: of, kind: Kind::Tombstone, above } => {
                write!(f, "{} deletes {}, above {above}", region(at), key(of))
            }
            Self::Write { region: at, key: of, above, .. } => {
                write!(f, "{} writes {}, above {above}", region(at), key(of))
            }
            Self::Evict(at, of) => write!(f, "{} evicts {}", region(at), key(of)),
            Self::Forget(at, of) => write!(f, "{} forgets {}", region(at), key(of)),
            Self::Record(from, to, of) => {
                write!(f, "{} gets {} from {}, ahead of a watermark", region(to), key(of), region(from))
            }
            Self::Tail(from, to, catches_up) => {
                write!(f, "{} gets the tail of {}, up to {}", region(to), region(from), clock(catches_up))
            }
            Self::Scan(from, to, catches_up) => {
                write!(f, "{} gets a scan of {}, as of {}", region(to), region(from), clock(catches_up))
            }
            Self::BeginScan(from, to, first) => {
                write!(f, "a scan of {} for {} begins, and passes {}", region(from), region(to), key(first))
            }
            Self::EndScan => f.write_str("that scan passes the other key, and ends"),
            Self::Send(from, to, of) => {
                write!(f, "{} sends {} to {}, where it will be late", region(from), key(of), region(to))
            }
            Self::Arrive => f.write_str("what was late arrives"),
            Self::Crash(at) => write!(f, "{} loses all, and begins anew", region(at)),
            Self::Follow(at) => write!(f, "a replica of {} follows up to here", region(at)),
            Self::Failover => f.write_str("that replica takes over"),
            Self::Join(at) => write!(f, "{} joins", region(at)),
            Self::Leave(at) => write!(f, "{} is removed", region(at)),
        }
    }
}
