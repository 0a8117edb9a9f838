//! What is said first on a connection on which data moves within a region: who opens it, and for what.
//!
//! Who is asked knows by its [`Assignment`] whether it waits for that ([`Assignment::expects`]); from anybody else it takes nothing.

use serde::{Deserialize, Serialize};

use super::{Assignment, Cargo, NodeId};
use crate::slot::SlotSet;

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// A node feeds another.
    Feed {
        /// Who dials.
        from: NodeId,
        /// What for.
        purpose: Purpose,
    },
    /// A gateway brings a primary its part of a stream of another region.
    Stream(Entrance),
}

/// What a feed is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The dialling primary feeds its replica.
    Follow,
    /// The dialling replica returns what its primary lacks.
    Return,
    /// The dialling primary feeds the slots that move to the other.
    Move(Cargo),
}

/// A part of a stream of another region, at the gateway that brings it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// The gateway's name.
    pub gateway: String,
    /// The region that the stream comes from, by its certificate.
    pub region: String,
    /// The slots whose records come this way.
    pub slots: SlotSet,
}

impl Assignment {
    /// Whether a node that is to be this waits for a feed of that node.
    pub fn expects(&self, from: NodeId, purpose: &Purpose) -> bool {
        match (self, purpose) {
            (Self::Replica { primary, .. }, Purpose::Follow) => *primary == from,
            (Self::Primary { members, .. }, Purpose::Return) => members.contains(&from),
            (Self::Primary { arriving, .. }, Purpose::Move(cargo)) => arriving.get(&from) == Some(cargo),
            _ => false,
        }
    }
}
