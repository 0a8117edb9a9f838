//! Which gateways a node knows, and which of them a stream goes by.
//!
//! Gateways are no members of the cluster: nobody agrees on them, and nothing depends on all nodes knowing the same ones.
//! Each attaches to each node of its region, and again several times a second; who is not heard of for [`GATEWAY_SILENCE_MAX`]
//! is forgotten. So a gateway is started and ended without a word to anybody, and a node knows within a second who is gone.
//!
//! # The choice
//! The stream of a primary to a region goes by the gateway with the greatest hash of (node, region, gateway): rendezvous
//! hashing (Thaler and Ravishankar, 1998). Streams are spread without anybody counting them; when a gateway goes only its
//! own streams move, and when it is back only those come back.
//!
//! A gateway by which no connection came about is *put aside* for [`GATEWAY_ASIDE`]: for all regions if it was not reached
//! itself, for one if it did not reach that one. It is then the last choice and not none: what is put aside may be all that
//! there is, and whoever dials has a pause of its own between attempts.
//!
//! # Moving on
//! A stream that is open and well stays where it is when a better gateway comes, until that one has been there for
//! [`GATEWAY_SETTLED`]: a gateway that comes and goes must not drag streams along. [`Gateways::standing`] says when.
//!
//! # Names
//! A gateway is known by its name, which its file gives it, so that one that starts again gets its former streams. Each
//! start is an *instance*. Two processes of one name cannot both be right: the one that is known and heard stays, the other
//! is refused, and told why. A restarted gateway is let in at once if its former instance was found dead, else as soon as
//! that is forgotten.
//!
//! # Methods
//! Input: [`handle_attach`](Gateways::handle_attach), [`handle_unreached`](Gateways::handle_unreached). Questions, each as of
//! a moment: [`ranked`](Gateways::ranked), [`standing`](Gateways::standing), [`live`](Gateways::live). There is no timer:
//! who is silent is passed over when it is asked for, and dropped at the next attachment.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use clock::RegionId;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use super::NodeId;
use crate::limits::{
    GATEWAY_ASIDE, GATEWAY_PEERS_MAX, GATEWAY_SETTLED, GATEWAY_SILENCE_MAX, GATEWAY_TEXT_BYTES_MAX, GATEWAYS_MAX,
};

/// What a gateway says of itself to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its region.
    pub region: RegionId,
    /// Its name among the gateways of its region.
    pub name: String,
    /// Its start: drawn at random.
    pub instance: u64,
    /// Where nodes reach it: `HOST:PORT`.
    pub address: String,
    /// The regions that it leads to.
    pub peers: Vec<RegionId>,
}

/// Why a gateway is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachRefused {
    /// What it says of itself is no gateway.
    #[error("what it says of itself is too long, or empty")]
    Malformed,
    /// It is one of another region.
    #[error("it is a gateway of region {0}, and this is not")]
    Region(RegionId),
    /// Another of its name is there.
    #[error("another gateway of that name is attached, and alive")]
    Name,
    /// There are as many as there may be.
    #[error("as many gateways are attached as may be")]
    Full,
}

/// Where a stream stands that goes by a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is where it belongs.
    Right,
    /// Another gateway is better, and has been there for a while: the stream is to move when it suits.
    Outranked,
    /// That gateway is not heard of any more, or is another process: the stream is to be given up.
    Gone,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Gateways {
    node: NodeId,
    region: RegionId,
    known: BTreeMap<String, Known>,
}

/// A gateway.
#[derive(Clone, Debug)]
struct Known {
    attachment: Attachment,
    /// Since when it has been attached without a break.
    since: Duration,
    heard: Duration,
    /// Until when it is put aside.
    aside: Option<Duration>,
    /// Until when it is put aside for a region.
    aside_for: BTreeMap<RegionId, Duration>,
}

impl Gateways {
    /// Those that this node of this region knows: none yet.
    pub const fn new(node: NodeId, region: RegionId) -> Self {
        Self { node, region, known: BTreeMap::new() }
    }

    /// Takes in what a gateway says of itself. Returns whether that is news.
    ///
    /// # Errors
    /// [`AttachRefused`]; nothing has changed.
    pub fn handle_attach(&mut self, now: Duration, attachment: Attachment) -> Result<bool, AttachRefused> {
        self.check(&attachment)?;
        self.known.retain(|_, known| known.is_live(now));
        if let Some(known) = self.known.get_mut(&attachment.name) {
            if known.attachment.instance == attachment.instance {
                known.heard = now;
                let is_news = known.attachment != attachment;
                known.attachment = attachment;
                return Ok(is_news);
            }
            if !known.is_aside(now) {
                return Err(AttachRefused::Name);
            }
        } else if self.known.len() >= GATEWAYS_MAX {
            return Err(AttachRefused::Full);
        }
        let known = Known { since: now, heard: now, aside: None, aside_for: BTreeMap::new(), attachment };
        self.known.insert(known.attachment.name.clone(), known);
        Ok(true)
    }

    /// Notes that no connection came about by a gateway: because it was not reached itself, or did not reach this region.
    pub fn handle_unreached(&mut self, now: Duration, gateway: &Attachment, region: Option<RegionId>) {
        let known = self.known.get_mut(&gateway.name);
        let Some(known) = known.filter(|known| known.attachment.instance == gateway.instance) else { return };
        let until = now + GATEWAY_ASIDE;
        match region {
            None => known.aside = Some(until),
            // Bounded: only those count that it leads to.
            Some(region) if known.attachment.peers.contains(&region) => _ = known.aside_for.insert(region, until),
            Some(_) => {}
        }
    }

    /// The gateways that lead to this region, the best first, and those last that are put aside.
    pub fn ranked(&self, now: Duration, region: RegionId) -> Vec<&Attachment> {
        let mut leading: Vec<&Known> = self.leading(now, region).collect();
        leading.sort_by_cached_key(|known| (known.is_aside_for(now, region), Reverse(self.weight(region, known))));
        leading.into_iter().map(|known| &known.attachment).collect()
    }

    /// Where a stream to this region stands that goes by this gateway.
    pub fn standing(&self, now: Duration, region: RegionId, gateway: &Attachment) -> Standing {
        let mut leading = self.leading(now, region);
        let is_it =
            |known: &&Known| known.attachment.name == gateway.name && known.attachment.instance == gateway.instance;
        let Some(own) = leading.find(is_it) else { return Standing::Gone };
        let own = self.weight(region, own);
        let is_better = |known: &Known| {
            now >= known.since + GATEWAY_SETTLED && !known.is_aside_for(now, region) && self.weight(region, known) > own
        };
        if self.leading(now, region).any(is_better) { Standing::Outranked } else { Standing::Right }
    }

    /// All that are alive, by name, and whether each is put aside.
    pub fn live(&self, now: Duration) -> impl Iterator<Item = (&Attachment, bool)> {
        let live = self.known.values().filter(move |known| known.is_live(now));
        live.map(move |known| (&known.attachment, known.is_aside(now)))
    }

    fn check(&self, attachment: &Attachment) -> Result<(), AttachRefused> {
        let is_text = |text: &str| !text.is_empty() && text.len() <= GATEWAY_TEXT_BYTES_MAX;
        if !is_text(&attachment.name) || !is_text(&attachment.address) || attachment.peers.len() > GATEWAY_PEERS_MAX {
            return Err(AttachRefused::Malformed);
        }
        if attachment.region == self.region { Ok(()) } else { Err(AttachRefused::Region(attachment.region)) }
    }

    fn leading(&self, now: Duration, region: RegionId) -> impl Iterator<Item = &Known> {
        self.known.values().filter(move |known| known.is_live(now) && known.attachment.peers.contains(&region))
    }

    /// The greater, the better; names decide between equals.
    fn weight<'a>(&self, region: RegionId, known: &'a Known) -> (u64, &'a str) {
        let name = known.attachment.name.as_str();
        let mut hash = Xxh3Default::new();
        hash.update(self.node.0.as_bytes());
        hash.update(&[region.number()]);
        hash.update(name.as_bytes());
        (hash.digest(), name)
    }
}

impl Known {
    fn is_live(&self, now: Duration) -> bool {
        now < self.heard + GATEWAY_SILENCE_MAX
    }

    fn is_aside(&self, now: Duration) -> bool {
        self.aside.is_some_and(|until| now < until)
    }

    fn is_aside_for(&self, now: Duration, region: RegionId) -> bool {
        self.is_aside(now) || self.aside_for.get(&region).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use clock::RegionId;

    use super::{AttachRefused, Attachment, Gateways, Standing};
    use crate::{
        cluster::{Id, NodeId},
        limits::{GATEWAY_ASIDE, GATEWAY_PEERS_MAX, GATEWAY_SETTLED, GATEWAY_SILENCE_MAX, GATEWAYS_MAX},
    };

    const REGION: RegionId = RegionId::MIN;

    fn region(number: u8) -> RegionId {
        RegionId::new(number).unwrap()
    }

    fn gateway(name: &str) -> Attachment {
        Attachment {
            region: REGION,
            name: name.to_owned(),
            instance: 1,
            address: format!("{name}:17203"),
            peers: vec![region(2), region(3)],
        }
    }

    fn node(number: u8) -> NodeId {
        NodeId(Id::from_bytes([number; Id::BYTES]))
    }

    /// A node that knows gateways of these names, heard of at this moment.
    fn knowing(number: u8, names: &[&str], now: Duration) -> Gateways {
        let mut gateways = Gateways::new(node(number), REGION);
        names.iter().for_each(|name| assert_eq!(gateways.handle_attach(now, gateway(name)), Ok(true)));
        gateways
    }

    fn names<'a>(ranked: &[&'a Attachment]) -> Vec<&'a str> {
        ranked.iter().map(|attachment| attachment.name.as_str()).collect()
    }

    /// By which gateway each of many streams goes.
    fn choices(names: &[&str]) -> BTreeMap<(u8, u8), String> {
        let stream = |number, to| {
            let gateways = knowing(number, names, Duration::ZERO);
            let ranked = gateways.ranked(Duration::ZERO, region(to));
            ((number, to), ranked[0].name.clone())
        };
        (0..=255).flat_map(|number| [2, 3].map(|to| stream(number, to))).collect()
    }

    #[test]
    fn the_choice_does_not_depend_on_the_order_in_which_gateways_came() {
        assert_eq!(choices(&["a", "b", "c"]), choices(&["c", "a", "b"]));
    }

    #[test]
    fn streams_are_spread_over_gateways() {
        let choices = choices(&["a", "b", "c"]);
        for name in ["a", "b", "c"] {
            let share = choices.values().filter(|chosen| *chosen == name).count();
            assert!((512 / 4..512 / 2).contains(&share), "{name} has {share} of 512");
        }
    }

    #[test]
    fn the_death_of_a_gateway_moves_its_own_streams_alone_and_they_come_back_with_it() {
        let (with, without) = (choices(&["a", "b", "c"]), choices(&["a", "c"]));
        for (stream, chosen) in &with {
            assert_eq!(chosen != "b", *chosen == without[stream], "{stream:?}");
        }
        // Whoever goes on finds the same order of all.
        let mut gateways = knowing(7, &["a", "b", "c"], Duration::ZERO);
        let before: Vec<String> =
            names(&gateways.ranked(Duration::ZERO, region(2))).into_iter().map(Into::into).collect();
        let later = GATEWAY_SILENCE_MAX;
        before[1..].iter().for_each(|name| assert_eq!(gateways.handle_attach(later, gateway(name)), Ok(true)));
        assert_eq!(names(&gateways.ranked(later, region(2))), before[1..]);
        assert_eq!(gateways.handle_attach(later, gateway(&before[0])), Ok(true));
        assert_eq!(names(&gateways.ranked(later, region(2))), before);
    }

    #[test]
    fn who_is_silent_is_forgotten_and_who_is_not_is_not() {
        let mut gateways = knowing(1, &["a", "b"], Duration::ZERO);
        let half = GATEWAY_SILENCE_MAX / 2;
        assert_eq!(gateways.handle_attach(half, gateway("a")), Ok(false));
        assert_eq!(gateways.live(GATEWAY_SILENCE_MAX - Duration::from_nanos(1)).count(), 2);
        assert_eq!(names(&gateways.ranked(GATEWAY_SILENCE_MAX, region(2))), ["a"]);
        assert_eq!(gateways.standing(GATEWAY_SILENCE_MAX, region(2), &gateway("b")), Standing::Gone);
        assert_eq!(gateways.live(half + GATEWAY_SILENCE_MAX).count(), 0);
    }

    #[test]
    fn who_was_not_reached_is_the_last_choice_for_a_while() {
        let now = Duration::from_secs(9);
        let mut gateways = knowing(1, &["a", "b", "c"], now);
        let of = |gateways: &Gateways, to, at| -> Vec<String> {
            gateways.ranked(at, region(to)).iter().map(|attachment| attachment.name.clone()).collect()
        };
        let [two, three] = [2, 3].map(|to| of(&gateways, to, now));
        // It does not reach one region; to the other it may well lead.
        gateways.handle_unreached(now, &gateway(&two[0]), Some(region(2)));
        assert_eq!(of(&gateways, 2, now), [&two[1..], &two[..1]].concat());
        assert_eq!(of(&gateways, 3, now), three);
        let (later, mut at) = (now + GATEWAY_ASIDE, now);
        while at < later {
            two.iter().for_each(|name| assert_eq!(gateways.handle_attach(at, gateway(name)), Ok(false)));
            assert_eq!(of(&gateways, 2, at)[2], two[0]);
            at += GATEWAY_SILENCE_MAX / 2;
        }
        two.iter().for_each(|name| assert_eq!(gateways.handle_attach(later, gateway(name)), Ok(false)));
        assert_eq!(of(&gateways, 2, later), two);
        // It is not reached itself; and of those that are put aside the best is still the best.
        gateways.handle_unreached(later, &gateway(&three[0]), None);
        gateways.handle_unreached(later, &gateway(&three[1]), None);
        assert_eq!(of(&gateways, 3, later), [&three[2], &three[0], &three[1]].map(Clone::clone));
        assert!(gateways.live(later).filter(|(_, aside)| *aside).count() == 2);
        // A region that it does not lead to is nothing to remember, nor is another start of it.
        gateways.handle_unreached(later, &gateway("a"), Some(region(9)));
        gateways.handle_unreached(later, &Attachment { instance: 2, ..gateway(&three[2]) }, None);
        assert_eq!(of(&gateways, 3, later)[0], three[2]);
    }

    #[test]
    fn a_stream_stays_where_it_is_until_a_better_gateway_has_settled() {
        let mut gateways = knowing(1, &["a", "b"], Duration::ZERO);
        let best = gateways.ranked(Duration::ZERO, region(2))[0].clone();
        let other = gateway(if best.name == "a" { "b" } else { "a" });
        let attach = |gateways: &mut Gateways, at| {
            assert_eq!(gateways.handle_attach(at, best.clone()), Ok(false));
            assert_eq!(gateways.handle_attach(at, other.clone()), Ok(false));
        };
        let (mut now, step) = (Duration::ZERO, GATEWAY_SILENCE_MAX / 4);
        while now < GATEWAY_SETTLED {
            attach(&mut gateways, now);
            assert_eq!(gateways.standing(now, region(2), &best), Standing::Right);
            assert_eq!(gateways.standing(now, region(2), &other), Standing::Right);
            now += step;
        }
        attach(&mut gateways, now);
        assert_eq!(gateways.standing(now, region(2), &best), Standing::Right);
        assert_eq!(gateways.standing(now, region(2), &other), Standing::Outranked);
        gateways.handle_unreached(now, &best, Some(region(2)));
        assert_eq!(gateways.standing(now, region(2), &other), Standing::Right);
        assert_eq!(gateways.standing(now, region(9), &other), Standing::Gone);
    }

    #[test]
    fn of_two_of_one_name_the_known_one_stays_until_it_is_gone() {
        let mut gateways = knowing(1, &["a"], Duration::ZERO);
        let other = Attachment { instance: 2, address: "elsewhere:1".to_owned(), ..gateway("a") };
        let now = GATEWAY_SILENCE_MAX / 2;
        assert_eq!(gateways.handle_attach(now, other.clone()), Err(AttachRefused::Name));
        assert_eq!(gateways.ranked(now, region(2)), [&gateway("a")]);
        // Found dead, it is replaced at once; streams that went by it are to be given up.
        gateways.handle_unreached(now, &gateway("a"), None);
        assert_eq!(gateways.handle_attach(now, other.clone()), Ok(true));
        assert_eq!(gateways.ranked(now, region(2)), [&other]);
        assert_eq!(gateways.standing(now, region(2), &gateway("a")), Standing::Gone);
        assert_eq!(gateways.handle_attach(now, gateway("a")), Err(AttachRefused::Name));
        assert_eq!(gateways.handle_attach(now + GATEWAY_SILENCE_MAX, gateway("a")), Ok(true));
    }

    #[test]
    fn a_gateway_may_say_something_else_of_itself() {
        let mut gateways = knowing(1, &["a"], Duration::ZERO);
        let moved = Attachment { address: "elsewhere:1".to_owned(), peers: vec![region(3)], ..gateway("a") };
        assert_eq!(gateways.handle_attach(Duration::ZERO, moved.clone()), Ok(true));
        assert_eq!(gateways.ranked(Duration::ZERO, region(3)), [&moved]);
        assert!(gateways.ranked(Duration::ZERO, region(2)).is_empty());
    }

    #[test]
    fn no_more_are_known_than_may_be_and_none_that_is_none() {
        let mut gateways = Gateways::new(node(1), REGION);
        for number in 0..GATEWAYS_MAX {
            assert_eq!(gateways.handle_attach(Duration::ZERO, gateway(&number.to_string())), Ok(true));
        }
        assert_eq!(gateways.handle_attach(Duration::ZERO, gateway("one-more")), Err(AttachRefused::Full));
        assert_eq!(gateways.handle_attach(Duration::ZERO, gateway("0")), Ok(false));
        let base = gateway("0");
        for malformed in [
            Attachment { name: String::new(), ..base.clone() },
            Attachment { name: "x".repeat(1_000), ..base.clone() },
            Attachment { address: "x".repeat(1_000), ..base.clone() },
            Attachment { peers: vec![region(2); GATEWAY_PEERS_MAX + 1], ..base.clone() },
        ] {
            assert_eq!(gateways.handle_attach(Duration::ZERO, malformed), Err(AttachRefused::Malformed));
        }
        let foreign = Attachment { region: region(2), ..base };
        assert_eq!(gateways.handle_attach(Duration::ZERO, foreign), Err(AttachRefused::Region(region(2))));
        assert_eq!(gateways.handle_attach(GATEWAY_SILENCE_MAX, gateway("one-more")), Ok(true));
        assert_eq!(gateways.live(GATEWAY_SILENCE_MAX).count(), 1);
    }
}
