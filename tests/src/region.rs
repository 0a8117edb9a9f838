//! One region of a lab.

use std::ops::{Deref, DerefMut};

use anyhow::Result;
use serde::Deserialize;

use crate::{Client, Node, http};

/// A region: a node, or the nodes of a cluster.
///
/// It stands for its first node, since to its clients a region of one node is that node. In a cluster that is one of several,
/// and answers for its own slots alone.
#[derive(Debug)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u8,
    /// Its nodes, at least one, those first that were primaries first.
    pub nodes: Vec<Node>,
    /// Its gateways: processes, or that inside its one node.
    pub gateways: Vec<Gateway>,
}

/// Where links begin and end.
#[derive(Debug, Deserialize)]
pub struct Gateway {
    /// What its files are called; of one that is inside a node, the id of that.
    pub id: String,
    /// Where its metrics and its status are.
    pub admin: String,
    /// Its process.
    pub pid: u32,
}

impl Gateway {
    /// The sum of all samples of a metric of its process; zero if it has none.
    ///
    /// # Errors
    /// If it does not answer, or not with metrics.
    pub fn metric(&self, name: &str) -> Result<f64> {
        http::metric(&self.admin, name)
    }
}

impl Region {
    /// Where clients connect to its nodes.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.addr.clone()).collect()
    }

    /// A client that finds its way to whichever node owns a key.
    pub fn client(&self) -> Client {
        Client::new(self.addresses())
    }

    /// The place of the node with this address.
    ///
    /// # Panics
    /// If there is none.
    pub fn place(&self, addr: &str) -> usize {
        let place = self.nodes.iter().position(|node| node.addr == addr);
        place.unwrap_or_else(|| panic!("{} has no node at {addr}", self.name))
    }

    /// The nodes that had this role when the lab was ready.
    pub fn nodes_of_role(&self, role: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.role == role)
    }
}

impl Deref for Region {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.nodes[0]
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut Node {
        &mut self.nodes[0]
    }
}
