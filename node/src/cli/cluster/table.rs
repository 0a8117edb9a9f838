//! How nodes and shards are written, the same in every plan and in the status.

use node_core::cluster::{Addresses, ClusterMap, NodeId};
use serde_json::{Value, json};

use super::limits;
use crate::terminal::{Line, Style};

/// So many digits tell nodes apart in a table.
const DIGITS: usize = 8;

/// The heads of the columns that [`row`] fills; what follows is for the slots.
pub(super) fn head() -> Line {
    let line = Line::default().left(Style::Dim, 8, "  shard").left(Style::Dim, 9, "role").left(Style::Dim, 10, "node");
    line.left(Style::Dim, 23, "redis").right(Style::Dim, 8, "slots")
}

/// A node.
pub(super) fn row(shard: &str, role: &str, node: NodeId, addresses: &Addresses) -> Line {
    let line = Line::default().left(Style::Bold, 8, &format!("  {shard}")).left(Style::Plain, 9, role);
    line.left(Style::Plain, 10, &short(node)).left(Style::Plain, 23, &addresses.redis())
}

/// The first digits of a node's id.
pub(super) fn short(node: NodeId) -> String {
    node.to_string().chars().take(DIGITS).collect()
}

/// A node by the first digits of its id and its address.
pub(super) fn name(map: &ClusterMap, node: NodeId) -> String {
    match map.node(node) {
        Some(known) => format!("{} ({})", short(node), known.addresses.redis()),
        None => short(node),
    }
}

/// A node, to a program.
pub(super) fn node_json(node: NodeId, addresses: &Addresses) -> Value {
    json!({ "id": node.to_string(), "addr": addresses.redis(), "bus": addresses.bus() })
}

/// A number of things, with the word for them.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// Text that names no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FindError {
    /// There is none.
    #[error("there is no node {0}: give its id, the first {min} digits of it or more, or its address", min = limits::ID_DIGITS_MIN)]
    Nobody(String),
    /// There are several.
    #[error("there are {1} nodes whose id begins with {0}: give more of it")]
    Several(String, usize),
}

/// The node that is meant: by its id, by the beginning of that, or by an address of it.
pub(super) fn find(map: &ClusterMap, text: &str) -> Result<NodeId, FindError> {
    let begins = |id: &NodeId| text.len() >= limits::ID_DIGITS_MIN && id.to_string().starts_with(&text.to_lowercase());
    let is_at = |addresses: &Addresses| addresses.redis() == text || addresses.bus() == text;
    let found = map.nodes().filter(|(id, node)| begins(id) || is_at(&node.addresses)).map(|(id, _)| id);
    match found.collect::<Vec<_>>()[..] {
        [node] => Ok(node),
        [] => Err(FindError::Nobody(text.to_owned())),
        ref several => Err(FindError::Several(text.to_owned(), several.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::{FindError, find};
    use crate::cli::cluster::tests::{cluster, founder};

    #[test]
    fn a_node_is_found_by_its_id_the_beginning_of_it_or_its_address() {
        let map = cluster(2, 0);
        let [first, second] = [founder(0, "127.0.0.1"), founder(1, "127.0.0.1")];
        for text in [second.id.to_string(), second.id.to_string()[..8].to_owned(), second.addresses.redis()] {
            assert_eq!(find(&map, &text), Ok(second.id), "{text}");
        }
        assert_eq!(find(&map, &first.addresses.bus()), Ok(first.id));
        // All ids here begin alike, and three digits are too few whatever they are.
        assert_eq!(find(&map, "aaaa"), Err(FindError::Several("aaaa".to_owned(), 2)));
        assert_eq!(find(&map, "aaa"), Err(FindError::Nobody("aaa".to_owned())));
        assert!(find(&map, "").is_err());
    }
}
