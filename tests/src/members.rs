//! The nodes of a cluster, as `CLUSTER NODES` tells them to clients.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};

use crate::{Node, node::run, until};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What the cluster calls it.
    pub id: String,
    /// Where clients connect.
    pub addr: String,
    /// Whether it is a primary; else it is a replica.
    pub is_primary: bool,
    /// Whether the cluster takes it for dead.
    pub has_failed: bool,
    /// The id of the primary that it follows.
    pub follows: Option<String>,
    /// The slots that it owns; what moves is not among them.
    pub slots: Vec<RangeInclusive<u16>>,
}

impl Member {
    /// Whether it owns a slot.
    pub fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }

    fn parse(line: &str) -> Result<Self> {
        let mut words = line.split(' ');
        let mut word = |what: &str| words.next().with_context(|| format!("no {what} in {line:?}"));
        let id = word("id")?.to_owned();
        let addr = word("address")?.split('@').next().unwrap_or_default().to_owned();
        let flags: Vec<_> = word("flags")?.split(',').collect();
        let follows = Some(word("primary")?).filter(|id| *id != "-").map(str::to_owned);
        // After four words about the connection, of which Meridian has no more than a health.
        let slots = words.skip(4).filter(|word| !word.starts_with('[')).map(range).collect::<Result<_>>()?;
        let has = |flag: &str| flags.contains(&flag);
        Ok(Self { id, addr, is_primary: has("master"), has_failed: has("fail"), follows, slots })
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Ok(first.parse()?..=last.parse()?)
}

/// The nodes of a cluster as this one knows them, in the order of their ids.
///
/// # Errors
/// If it does not answer, or not as Redis would.
pub fn members(node: &Node) -> Result<Vec<Member>> {
    let text: String = node.run(&["CLUSTER", "NODES"])?;
    let mut members = text.lines().map(Member::parse).collect::<Result<Vec<_>>>()?;
    members.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(members)
}

/// Waits until a node knows a cluster of which this is true, and returns that.
///
/// # Errors
/// If it does not by the deadline; with what it knows then.
pub fn until_members(node: &Node, what: &str, is_true: impl Fn(&[Member]) -> bool) -> Result<Vec<Member>> {
    until(what, || {
        let members = members(node)?;
        ensure!(is_true(&members), "{} knows {members:?}", node.name);
        Ok(Some(members))
    })
}

/// Waits until a node is a replica and has what its primary has sent.
///
/// # Errors
/// If it is not by the deadline; with what it says of itself then.
pub fn until_follows(node: &Node) -> Result<()> {
    until(&format!("{} follows a primary", node.name), || {
        let text: String = node.run(&["INFO", "replication"])?;
        let follows = ["role:slave", "master_link_status:up"].iter().all(|line| text.contains(line));
        ensure!(follows, "it says {text:?}");
        Ok(Some(()))
    })
}

/// Waits until a primary feeds this replica: from then on it can hand over to it.
///
/// # Errors
/// If it does not by the deadline; with what it says of itself then.
pub fn until_feeds(primary: &Node, replica: &Node) -> Result<()> {
    let port = replica.addr.rsplit(':').next().unwrap_or_default();
    let line = format!("port={port},state=online");
    until(&format!("{} feeds {}", primary.name, replica.name), || {
        let text: String = primary.run(&["INFO", "replication"])?;
        ensure!(text.contains(&line), "it says {text:?}");
        Ok(Some(()))
    })
}

/// A key of a slot that one of these ranges has.
///
/// # Errors
/// If the node does not say in which slot a key is.
pub fn key_of(node: &Node, member: &Member, prefix: &str) -> Result<String> {
    let mut connection = node.connect()?;
    for index in 0.. {
        let key = format!("{prefix}:{index}");
        if member.owns(run(&mut connection, &["CLUSTER", "KEYSLOT", &key])?) {
            return Ok(key);
        }
        ensure!(index < SLOTS, "{member:?} owns no slot");
    }
    unreachable!("keys do not run out")
}

/// Many more keys than this need not be tried to find one of a given primary.
const SLOTS: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::Member;

    #[test]
    fn slots_that_move_are_no_ranges() {
        let line = "abc 127.0.0.1:8001@8701 myself,master - 0 0 1 connected 0-5 7 [8->-def] [9-<-def]";
        let member = Member::parse(line).unwrap();
        assert_eq!((member.addr.as_str(), member.is_primary, member.follows), ("127.0.0.1:8001", true, None));
        assert_eq!(member.slots, [0..=5, 7..=7]);
    }
}
