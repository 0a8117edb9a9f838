//! What the protocol wants done: timers and packets, kept until the shell asks.
//!
//! All timers stand in one table, in the order of their time and, at the same time, of their coming. Whenever foca begins
//! anew (nobody is left, or another life begins) its former timers mean nothing any more and are dropped, so the table
//! stays as small as one round of the protocol.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use foca::{Notification, Runtime, Timer};

use super::life::Life;
use crate::{cluster::id::NodeId, limits::GOSSIP_TRANSMITS_MAX};

/// What is due at a time.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// Something of foca's.
    Protocol(Timer<Life>),
    /// To announce this process to those who may not know of it.
    Knock,
    /// To ask somebody in doubt once more, or to give up asking.
    Ask(Life),
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// The time of the present turn.
    pub(super) now: Duration,
    /// Another life has begun since this was last looked at.
    pub(super) has_rejoined: bool,
    timers: BTreeMap<(Duration, u64), Due>,
    sequence: u64,
    transmits: VecDeque<(NodeId, Bytes)>,
}

impl Effects {
    pub(super) fn schedule(&mut self, after: Duration, due: Due) {
        self.sequence += 1;
        self.timers.insert((self.now + after, self.sequence), due);
    }

    /// When the next timer is due.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// A timer that is due.
    pub(super) fn take_due(&mut self) -> Option<Due> {
        let first = self.timers.first_entry().filter(|entry| entry.key().0 <= self.now)?;
        Some(first.remove())
    }

    /// This process was not there for so long: what was to happen meanwhile happens later instead.
    ///
    /// The probe under way says nothing, since its answer may have come and gone. foca drops a probe whose second half
    /// never came.
    pub(super) fn postpone(&mut self, by: Duration) {
        let timers = std::mem::take(&mut self.timers).into_iter();
        let kept = timers.filter(|(_, due)| !matches!(due, Due::Protocol(Timer::SendIndirectProbe { .. })));
        self.timers = kept.map(|((at, sequence), due)| ((at + by, sequence), due)).collect();
    }

    /// Drops the timers that `keep` does not want.
    pub(super) fn retain(&mut self, keep: impl Fn(&Due) -> bool) {
        self.timers.retain(|_, due| keep(due));
    }

    pub(super) fn transmit(&mut self, to: NodeId, packet: Bytes) {
        if self.transmits.len() == GOSSIP_TRANSMITS_MAX {
            self.transmits.pop_front();
        }
        self.transmits.push_back((to, packet));
    }

    pub(super) fn poll_transmit(&mut self) -> Option<(NodeId, Bytes)> {
        self.transmits.pop_front()
    }

    /// How many timers there are.
    #[cfg(test)]
    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// foca has begun anew.
    pub(super) fn drop_protocol(&mut self) {
        self.retain(|due| !matches!(due, Due::Protocol(_)));
    }
}

impl Runtime<Life> for Effects {
    fn notify(&mut self, notification: Notification<'_, Life>) {
        match notification {
            Notification::Idle | Notification::Defunct => self.drop_protocol(),
            Notification::Rejoin(_) => {
                self.drop_protocol();
                self.has_rejoined = true;
            }
            // Who is up and who is down is read off the members themselves.
            Notification::MemberUp(_)
            | Notification::MemberDown(_)
            | Notification::Rename(..)
            | Notification::Active => {}
        }
    }

    fn send_to(&mut self, to: Life, data: &[u8]) {
        self.transmit(to.node, Bytes::copy_from_slice(data));
    }

    fn submit_after(&mut self, event: Timer<Life>, after: Duration) {
        self.schedule(after, Due::Protocol(event));
    }
}
