//! What befalls the regions, and when: one sentence for each event.
//!
//! ```text
//! 3s   kill us-east/primary/1            SIGKILL, as a power cut
//! 3s   stop us-east/primary/1            SIGSTOP, as a machine that hangs
//! 9s   continue us-east/primary/1        SIGCONT
//! 5s   restart us-east/primary/1         starts who was killed; who runs is asked to end first
//! 5s   roll us-east                      restarts all processes, one after another; a primary hands over first
//! 3s   cut us-east/primary/1             no other process reaches it, and it reaches none; clients do
//! 3s   cut us-east/primary/1 in          no other process reaches it; what it sends arrives
//! 3s   cut us-east/primary/1 out         it reaches no other process; what they send arrives
//! 3s   slow us-east/primary/1 10%        it gets but a tenth of its time
//! 8s   mend us-east/primary/1            it has its cables and its time again
//! 4s   cut us-east -> eu-west            everything on that way is lost in silence
//! 4s   reset us-east <-> eu-west         connections break
//! 4s   slow us-east -> eu-west 400ms     one-way delay
//! 4s   jitter us-east -> eu-west 50ms
//! 4s   loss us-east -> eu-west 5%
//! 4s   rate us-east -> eu-west 2mbit
//! 8s   mend us-east -> eu-west           the link as it was at the start
//! 4s   isolate us-east                   cuts a region off from all others, both ways
//! 9s   heal                              all cuts are over; delays stay
//! 2s   clock eu-west +1h                 sets the clocks of processes wrong, and restarts them
//! 2s   disk us-east/primary/1 300ms      each write that must be on the disk takes longer, after a restart
//! 6s   failover us-east/replica/1        by hand, without loss
//! 6s   weigh us-east 1=50                moves slots until shard 1 has half an ordinary share
//! 5s   fill us-east/primary/1            its disk is full: no file of it can grow
//! 8s   free us-east/primary/1
//! 5s   flush us-east                     FLUSHALL at all primaries
//! 7s   expect lag above 2s on us-east -> eu-west
//! ```
//! Two deeds at the same time are done one after the other, in the order of the file.

use std::{fmt, str::FromStr, time::Duration};

use config::{Offset, RegionName, values::duration};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    expectation::{InvalidExpectation, Lag},
    target::{InvalidTarget, LinkPath, Part, Target},
};

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, from the start of the load, as it is written.
    pub at: Duration,
    /// What.
    pub deed: Deed,
}

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// SIGKILL.
    Kill(Target),
    /// SIGSTOP.
    Stop(Target),
    /// SIGCONT.
    Continue(Target),
    /// Starts what was killed, after having ended what runs.
    Restart(Target),
    /// Restarts one process after another, each once the one before is well.
    Roll(Target),
    /// Cuts processes off from all others.
    Cut(Target, Way),
    /// Gives processes only this share of their time.
    Slow(Target, Percent),
    /// Ends both.
    Mend(Target),
    /// Changes a link.
    Link(LinkPath, LinkChange),
    /// Cuts a region off.
    Isolate(RegionName),
    /// Ends all cuts.
    Heal,
    /// Sets clocks wrong.
    Clock(Target, Offset),
    /// Makes each write that has to be on the disk take longer, from a restart on.
    Disk(Target, Duration),
    /// Makes a replica the primary.
    Failover(Target),
    /// Gives a shard another share of the slots.
    Weigh(RegionName, Weight),
    /// No file of it can grow.
    Fill(Target),
    /// Files can grow again.
    Free(Target),
    /// FLUSHALL at all primaries.
    Flush(RegionName),
    /// Something that must be so at this time.
    Expect(Lag),
}

/// A change of a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LinkChange {
    /// Everything is lost in silence.
    Cut,
    /// Connections break, and no new ones are made.
    Reset,
    /// Another one-way delay.
    Slow(Duration),
    /// Another jitter.
    Jitter(Duration),
    /// Another chance of loss, in millionths.
    Loss(u32),
    /// Another rate, in millions of bits per second.
    Rate(u32),
    /// As it was at the start.
    Mend,
}

/// Which way the cables of a process are cut. Its clients reach it in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What others send to it is lost.
    In,
    /// What it sends is lost.
    Out,
    /// Both.
    Both,
}

/// A share of the whole, from 1 to 99 percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u8);

/// The share of a shard, in percent of an ordinary one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// The shard's number.
    pub shard: u16,
    /// Its share.
    pub percent: u16,
}

/// A sentence that is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// It does not begin with a time.
    #[error("an event begins with its time, such as \"3s kill us-east/primary/1\"")]
    Time,
    /// Nobody knows how to do this.
    #[error(
        "`{0}` is no deed: write kill, stop, continue, restart, roll, cut, reset, slow, jitter, loss, rate, mend, isolate, heal, clock, disk, failover, weigh, fill, free, flush or expect"
    )]
    Deed(String),
    /// What it is done to, or the value at its end.
    #[error("`{0}` takes {1}")]
    Arguments(&'static str, &'static str),
    /// The target.
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    /// What is expected.
    #[error(transparent)]
    Expectation(#[from] InvalidExpectation),
}

impl Deed {
    /// The processes that it is done to, if it is done to processes.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Kill(target)
            | Self::Stop(target)
            | Self::Continue(target)
            | Self::Restart(target)
            | Self::Roll(target)
            | Self::Cut(target, _)
            | Self::Slow(target, _)
            | Self::Mend(target)
            | Self::Clock(target, _)
            | Self::Disk(target, _)
            | Self::Failover(target)
            | Self::Fill(target)
            | Self::Free(target) => Some(target),
            Self::Link(..) | Self::Isolate(_) | Self::Weigh(..) | Self::Flush(_) | Self::Heal | Self::Expect(_) => None,
        }
    }

    /// The regions that it names.
    pub fn regions(&self) -> Vec<&RegionName> {
        match self {
            Self::Link(link, _) => link.ends(),
            Self::Isolate(region) | Self::Weigh(region, _) | Self::Flush(region) => vec![region],
            Self::Expect(lag) => lag.on.as_ref().map(LinkPath::ends).unwrap_or_default(),
            _ => self.target().map(|target| &target.region).into_iter().collect(),
        }
    }
}

impl FromStr for Event {
    type Err = InvalidEvent;

    fn from_str(text: &str) -> Result<Self, InvalidEvent> {
        let (at, deed) = text.trim().split_once(char::is_whitespace).ok_or(InvalidEvent::Time)?;
        Ok(Self { at: duration::parse(at).map_err(|_| InvalidEvent::Time)?, deed: deed.trim().parse()? })
    }
}

impl FromStr for Deed {
    type Err = InvalidEvent;

    fn from_str(text: &str) -> Result<Self, InvalidEvent> {
        let (verb, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let region = |verb| rest.parse().map_err(|_| InvalidEvent::Arguments(verb, "a region"));
        Ok(match verb {
            "kill" => Self::Kill(rest.parse()?),
            "stop" => Self::Stop(rest.parse()?),
            "continue" => Self::Continue(rest.parse()?),
            "restart" => Self::Restart(rest.parse()?),
            "roll" => Self::Roll(rest.parse()?),
            "fill" => Self::Fill(rest.parse()?),
            "free" => Self::Free(rest.parse()?),
            "failover" => Self::Failover(rest.parse()?),
            "isolate" => Self::Isolate(region("isolate")?),
            "flush" => Self::Flush(region("flush")?),
            "heal" if rest.is_empty() => Self::Heal,
            "heal" => return Err(InvalidEvent::Arguments("heal", "nothing: it ends all cuts; `mend` is for one link")),
            "expect" => Self::Expect(rest.parse()?),
            "cut" if !names_link(rest) => cut(rest)?,
            "cut" => Self::Link(rest.parse()?, LinkChange::Cut),
            "reset" => Self::Link(rest.parse()?, LinkChange::Reset),
            "mend" if !names_link(rest) => Self::Mend(rest.parse()?),
            "mend" => Self::Link(rest.parse()?, LinkChange::Mend),
            "slow" if !names_link(rest) => {
                let (target, share) = last_word("slow", rest)?;
                Self::Slow(target.parse()?, Percent::parse(share).ok_or_else(|| usage("slow"))?)
            }
            "slow" => with_value("slow", rest, |value| duration::parse(value).ok().map(LinkChange::Slow))?,
            "jitter" => with_value("jitter", rest, |value| duration::parse(value).ok().map(LinkChange::Jitter))?,
            "loss" => with_value("loss", rest, |value| millionths(value).map(LinkChange::Loss))?,
            "rate" => with_value("rate", rest, |value| value.strip_suffix("mbit")?.parse().ok().map(LinkChange::Rate))?,
            "clock" => {
                let (target, offset) = last_word("clock", rest)?;
                Self::Clock(target.parse()?, offset.parse().map_err(|_| usage("clock"))?)
            }
            "disk" => {
                let (target, delay) = last_word("disk", rest)?;
                Self::Disk(target.parse()?, duration::parse(delay).map_err(|_| usage("disk"))?)
            }
            "weigh" => {
                let (region, weight) = last_word("weigh", rest)?;
                let weight = Weight::parse(weight).ok_or_else(|| usage("weigh"))?;
                Self::Weigh(region.parse().map_err(|_| usage("weigh"))?, weight)
            }
            _ => return Err(InvalidEvent::Deed(verb.to_owned())),
        })
    }
}

impl Percent {
    /// The number before the sign.
    pub fn number(self) -> u8 {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let percent = text.strip_suffix('%')?.parse().ok()?;
        (1..=99).contains(&percent).then_some(Self(percent))
    }
}

impl Weight {
    fn parse(text: &str) -> Option<Self> {
        let (shard, percent) = text.split_once('=')?;
        Some(Self { shard: shard.parse().ok()?, percent: percent.trim_end_matches('%').parse().ok()? })
    }
}

/// Whether a link is meant; else processes are.
fn names_link(text: &str) -> bool {
    text.contains("->")
}

/// Processes, and perhaps a way.
fn cut(text: &str) -> Result<Deed, InvalidEvent> {
    let (target, way) = match text.rsplit_once(char::is_whitespace) {
        Some((target, "in")) => (target, Way::In),
        Some((target, "out")) => (target, Way::Out),
        _ => (text, Way::Both),
    };
    let target: Target = target.trim().parse()?;
    // Its processes would not reach one another either.
    if target.part == Part::All { Err(usage("cut")) } else { Ok(Deed::Cut(target, way)) }
}

/// A link, and the value at the end.
fn with_value(
    verb: &'static str,
    text: &str,
    parse: impl FnOnce(&str) -> Option<LinkChange>,
) -> Result<Deed, InvalidEvent> {
    let (link, value) = last_word(verb, text)?;
    let change = parse(value).ok_or_else(|| usage(verb))?;
    Ok(Deed::Link(link.parse()?, change))
}

fn last_word<'a>(verb: &'static str, text: &'a str) -> Result<(&'a str, &'a str), InvalidEvent> {
    text.rsplit_once(char::is_whitespace).map(|(rest, last)| (rest.trim(), last)).ok_or_else(|| usage(verb))
}

fn usage(verb: &'static str) -> InvalidEvent {
    let arguments = match verb {
        "cut" => {
            "a link, such as cut us-east -> eu-west, or a process, such as cut us-east/primary/1 [in|out]; for a region there is isolate"
        }
        "slow" => {
            "a link and a delay, such as slow us-east -> eu-west 400ms, or processes and a share of their time, such as slow us-east/primary/1 10%"
        }
        "jitter" => "a link and a delay, such as jitter us-east -> eu-west 50ms",
        "loss" => "a link and a share, such as loss us-east -> eu-west 5%",
        "rate" => "a link and a rate, such as rate us-east -> eu-west 2mbit",
        "clock" => "a target and an offset, such as clock eu-west +1h",
        "disk" => "a target and a delay, such as disk us-east/primary/1 300ms",
        _ => "a region and the share of a shard, such as weigh us-east 1=50",
    };
    InvalidEvent::Arguments(verb, arguments)
}

/// A share of the whole, in millionths.
fn millionths(text: &str) -> Option<u32> {
    let percent: f64 = text.strip_suffix('%')?.trim().parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some((percent * 10_000.0).round() as u32)
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", duration::display(self.at), self.deed)
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(target) => write!(f, "kill {target}"),
            Self::Stop(target) => write!(f, "stop {target}"),
            Self::Continue(target) => write!(f, "continue {target}"),
            Self::Restart(target) => write!(f, "restart {target}"),
            Self::Roll(target) => write!(f, "roll {target}"),
            Self::Cut(target, way) => write!(f, "cut {target}{way}"),
            Self::Slow(target, Percent(share)) => write!(f, "slow {target} {share}%"),
            Self::Mend(target) => write!(f, "mend {target}"),
            Self::Fill(target) => write!(f, "fill {target}"),
            Self::Free(target) => write!(f, "free {target}"),
            Self::Failover(target) => write!(f, "failover {target}"),
            Self::Isolate(region) => write!(f, "isolate {region}"),
            Self::Flush(region) => write!(f, "flush {region}"),
            Self::Heal => f.write_str("heal"),
            Self::Expect(lag) => write!(f, "expect {lag}"),
            Self::Clock(target, offset) => write!(f, "clock {target} {offset}"),
            Self::Disk(target, delay) => write!(f, "disk {target} {}", duration::display(*delay)),
            Self::Weigh(region, Weight { shard, percent }) => write!(f, "weigh {region} {shard}={percent}"),
            Self::Link(link, change) => match change {
                LinkChange::Cut => write!(f, "cut {link}"),
                LinkChange::Reset => write!(f, "reset {link}"),
                LinkChange::Mend => write!(f, "mend {link}"),
                LinkChange::Slow(delay) => write!(f, "slow {link} {}", duration::display(*delay)),
                LinkChange::Jitter(delay) => write!(f, "jitter {link} {}", duration::display(*delay)),
                LinkChange::Loss(millionths) => write!(f, "loss {link} {}%", f64::from(*millionths) / 10_000.0),
                LinkChange::Rate(rate) => write!(f, "rate {link} {rate}mbit"),
            },
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => " in",
            Self::Out => " out",
            Self::Both => "",
        })
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, InvalidEvent};

    #[test]
    fn every_deed_reads_back_as_it_was_written() {
        for text in [
            "3s kill us-east/primary/1",
            "3s stop us-east/replica/2",
            "9s continue us-east/replica/2",
            "5s restart us-east",
            "5s roll us-east",
            "3s cut us-east/primary/1",
            "3s cut us-east/replica/1 in",
            "3s cut us-east/gateway/1 out",
            "3s slow us-east/primary/1 10%",
            "3s slow us-east 50%",
            "8s mend us-east/primary/1",
            "4s cut us-east -> eu-west",
            "4s reset us-east <-> eu-west",
            "4s slow us-east -> eu-west 400ms",
            "4s jitter us-east -> eu-west 50ms",
            "4s loss us-east -> eu-west 0.5%",
            "4s rate us-east -> eu-west 2mbit",
            "8s mend us-east -> eu-west",
            "1m isolate us-east",
            "9s heal",
            "2s clock eu-west 1h",
            "2s clock eu-west/primary/1 -250ms",
            "2s disk us-east/primary/1 300ms",
            "6s failover us-east/replica/1",
            "6s weigh us-east 1=50",
            "5s fill us-east/primary/1",
            "8s free us-east/primary/1",
            "5s flush us-east",
            "7s expect lag above 2s on us-east -> eu-west",
        ] {
            assert_eq!(text.parse::<Event>().map(|event| event.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_what_can() {
        for (text, said) in [
            ("kill us-east", "begins with its time"),
            ("3s", "begins with its time"),
            ("3s explode us-east", "`explode` is no deed"),
            ("3s kill us-east/king/1", "not a target"),
            ("3s cut us-east", "there is isolate"),
            ("3s cut us-east/primary/1 up", "not a target"),
            ("3s slow us-east/primary/1", "a share of their time"),
            ("3s slow us-east/primary/1 100%", "a share of their time"),
            ("3s slow us-east -> eu-west", "slow us-east -> eu-west 400ms"),
            ("3s loss us-east -> eu-west 500%", "5%"),
            ("3s heal us-east", "takes nothing"),
            ("3s clock us-east", "+1h"),
            ("3s disk us-east/primary/1", "300ms"),
            ("3s weigh us-east 1", "1=50"),
            ("3s expect sunshine", "lag above"),
        ] {
            let error: InvalidEvent = text.parse::<Event>().unwrap_err();
            assert!(error.to_string().contains(said), "{text}: {error}");
        }
    }
}
