//! A link as the lab shows it: what the primaries at both its ends say of it, put together.
//!
//! A link between clusters is many streams: one from each primary over there, of which each primary here takes its part. It
//! is as good as the worst of them, so its lag is the greatest that a primary has, and it is up when each primary at one end
//! sends and each at the other hears all of those. A region of one node has one primary, whose word is all there is.
//!
//! A primary that does not answer says nothing. Then the link stands as the others see it, and the silence is named.

use super::{
    look::{LinkIn, LinkOut, Snapshot, WanLink},
    plan::Plan,
};
use crate::terminal::Style;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Link<'a> {
    from: &'a str,
    to: &'a str,
    /// What each primary of the one region says; none for one that is silent.
    senders: Vec<Option<&'a LinkOut>>,
    /// What each primary of the other says.
    receivers: Vec<Option<&'a LinkIn>>,
    wan: Option<&'a WanLink>,
    /// The delay that the WAN was told to have when it started, in milliseconds.
    planned_ms: Option<f64>,
}

impl<'a> Link<'a> {
    /// The link between the regions of these indices.
    pub(super) fn between(plan: &'a Plan, snapshot: &'a Snapshot, from: usize, to: usize) -> Self {
        let [source, target] = [from, to].map(|index| plan.regions[index].name.as_str());
        let senders = snapshot.primaries(plan, from).into_iter();
        let senders = senders.map(|status| status?.links.out.iter().find(|link| link.to == target));
        let receivers = snapshot.primaries(plan, to).into_iter();
        let receivers = receivers.map(|status| status?.links.incoming.iter().find(|link| link.from == source));
        Self {
            from: source,
            to: target,
            senders: senders.collect(),
            receivers: receivers.collect(),
            wan: snapshot.wan_link(plan, from, to),
            planned_ms: plan.link(source, target).map(|link| link.delay.ms()),
        }
    }

    /// The region that it leads from.
    pub(super) const fn from(&self) -> &'a str {
        self.from
    }

    /// The region that it leads to.
    pub(super) const fn to(&self) -> &'a str {
        self.to
    }

    /// The delay that the WAN has now, in milliseconds; what it began with, if it does not answer.
    pub(super) fn one_way_ms(&self) -> Option<f64> {
        self.wan.map(|link| link.delay_ms).or(self.planned_ms)
    }

    /// How far behind the other region the hindmost primary is, in seconds; none if none of them ever heard from it.
    pub(super) fn lag(&self) -> Option<f64> {
        self.heard().filter_map(LinkIn::lag).reduce(f64::max)
    }

    /// What to say of it, and whether that is good. What the WAN does to it comes first, since it explains the rest.
    pub(super) fn state(&self) -> (Style, String) {
        if let Some(wan) = self.wan.filter(|wan| wan.state != "up") {
            return (Style::Bad, format!("cut ({})", wan.state));
        }
        // Which end knows why a link holds or fails depends on the reason.
        let is_held = self.heard().any(|link| link.state == "held") || self.sent().any(|link| link.state == "held");
        let (answering, up) = (self.heard().count(), self.heard().filter(|link| link.up).count());
        let (primaries, streams) = (self.receivers.len(), self.senders.len());
        let fewest = self.heard().map(|link| link.streams).min().unwrap_or_default();
        match self.heard().find(|link| link.state != "streaming") {
            _ if answering == 0 => (Style::Bad, "unknown".to_owned()),
            _ if is_held => (Style::Warn, self.because("held".to_owned())),
            _ if up == 0 => (Style::Bad, self.because("down".to_owned())),
            _ if up < answering => (Style::Warn, self.because(format!("up at {up} of {primaries} primaries"))),
            _ if fewest < streams => (Style::Warn, self.because(format!("up, {fewest} of {streams} streams"))),
            _ if answering < primaries => (Style::Warn, format!("up, {} silent", primaries - answering)),
            // It is being refilled, by this link or by another.
            Some(link) => (Style::Warn, format!("up, {}", link.state)),
            None => (Style::Good, "up".to_owned()),
        }
    }

    /// What it still lacks to be up at both ends, in words; none if it is.
    pub(super) fn missing(&self) -> Option<String> {
        let streams = self.senders.len();
        let sends = streams > 0 && self.senders.iter().all(|link| link.is_some_and(|link| link.up));
        // Until it has a first clone its lag is only known to be greater than the lab is old.
        let is_behind = |link: &LinkIn| link.lag().is_none() || matches!(link.state.as_str(), "cloning" | "waiting");
        let hears = |link: &LinkIn| link.up && link.streams >= streams && !is_behind(link);
        if sends && !self.receivers.is_empty() && self.receivers.iter().all(|link| link.is_some_and(hears)) {
            return None;
        }
        let state = match self.sent().find(|link| !link.up) {
            Some(link) => self.because(format!("{} at an end", link.state)),
            None => self.state().1,
        };
        Some(format!("link {} -> {} is {state}", self.from, self.to))
    }

    fn heard(&self) -> impl Iterator<Item = &'a LinkIn> {
        self.receivers.iter().copied().flatten()
    }

    fn sent(&self) -> impl Iterator<Item = &'a LinkOut> {
        self.senders.iter().copied().flatten()
    }

    /// These words, and what went wrong last.
    fn because(&self, words: String) -> String {
        self.error().map_or_else(|| words.clone(), |error| format!("{words}: {error}"))
    }

    /// What went wrong last, at an end of which something is wrong if there is one.
    fn error(&self) -> Option<&'a str> {
        let heard =
            |is_up: bool| self.heard().filter(move |link| link.up == is_up).find_map(|link| link.last_error.as_deref());
        let sent =
            |is_up: bool| self.sent().filter(move |link| link.up == is_up).find_map(|link| link.last_error.as_deref());
        heard(false).or_else(|| sent(false)).or_else(|| heard(true)).or_else(|| sent(true))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::{Link, Plan, Snapshot, Style};
    use crate::lab::{LabArgs, cluster::tests::founded, look::Status};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        lab: LabArgs,
    }

    fn status(text: &str) -> Option<Status> {
        let status = format!(r#"{{"complete": true, "keys": 0, "used_memory_bytes": 0, "links": {text}}}"#);
        Some(serde_json::from_str(&status).unwrap())
    }

    fn receives(state: &str, streams: usize, lag: f64) -> Option<Status> {
        let up = streams > 0;
        status(&format!(
            r#"{{"out": [], "in": [{{"from": "a", "up": {up}, "state": "{state}", "streams": {streams}, "lag_seconds": {lag},
                "last_error": "gone"}}]}}"#
        ))
    }

    fn sends(state: &str) -> Option<Status> {
        let up = state != "connecting";
        status(&format!(r#"{{"in": [], "out": [{{"to": "b", "up": {up}, "state": "{state}", "last_error": null}}]}}"#))
    }

    /// From two primaries to two, all well; the replicas of either know of no link.
    fn example() -> (Plan, Snapshot) {
        let plan = Plan::new(&Cli::parse_from(["lab", "--regions=a,b"]).lab, Path::new("/lab")).unwrap();
        let replica = || status(r#"{"out": [], "in": []}"#);
        let nodes = vec![
            sends("tailing"),
            sends("tailing"),
            replica(),
            replica(),
            receives("streaming", 2, 0.05),
            receives("streaming", 2, 0.07),
            replica(),
            replica(),
        ];
        let maps = plan.regions.iter().map(|region| Some(founded(region))).collect();
        (plan, Snapshot { nodes, maps, ..Snapshot::default() })
    }

    #[test]
    fn link_lags_as_its_hindmost_primary_does() {
        let (plan, snapshot) = example();
        let link = Link::between(&plan, &snapshot, 0, 1);
        assert_eq!((link.lag(), link.state(), link.missing()), (Some(0.07), (Style::Good, "up".to_owned()), None));
    }

    #[test]
    fn what_is_wrong_at_one_primary_is_said_of_the_link() {
        let cases = [
            (4, receives("down", 0, 1.0), "up at 1 of 2 primaries: gone"),
            (5, receives("streaming", 1, 1.0), "up, 1 of 2 streams: gone"),
            (5, receives("cloning", 2, 1.0), "up, cloning"),
            (4, receives("held", 2, 1.0), "held: gone"),
            (4, None, "up, 1 silent"),
        ];
        for (place, status, said) in cases {
            let (plan, mut snapshot) = example();
            snapshot.nodes[place] = status;
            assert_eq!(Link::between(&plan, &snapshot, 0, 1).state(), (Style::Warn, said.to_owned()));
        }
    }

    #[test]
    fn link_is_ready_when_each_primary_sends_and_each_hears_all() {
        for (place, status, said) in [
            (1, sends("connecting"), "link a -> b is connecting at an end: gone"),
            (5, receives("streaming", 1, 0.1), "link a -> b is up, 1 of 2 streams: gone"),
            (5, receives("streaming", 2, 1e9), "link a -> b is up"),
            (5, receives("cloning", 2, 0.1), "link a -> b is up, cloning"),
            (5, None, "link a -> b is up, 1 silent"),
        ] {
            let (plan, mut snapshot) = example();
            snapshot.nodes[place] = status;
            assert_eq!(Link::between(&plan, &snapshot, 0, 1).missing().as_deref(), Some(said));
        }
        let (plan, mut snapshot) = example();
        snapshot.maps[0] = None;
        assert!(Link::between(&plan, &snapshot, 0, 1).missing().is_some(), "nobody knows who sends");
    }
}
