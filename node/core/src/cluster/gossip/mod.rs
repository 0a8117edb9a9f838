//! Gossip: who answers, and who does not.
//!
//! Every node must come to know within half a second or so that another is gone, and must not believe it of one that is
//! there. This is SWIM (Das, Gupta, Motivala: "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership
//! Protocol", 2002) with suspicion, as the crate foca implements it, and three things about it that are ours.
//!
//! # The map says who there is
//! Members are the nodes of the [`ClusterMap`], reached where it says. A packet from anybody else is refused, and news of
//! anybody else skipped, so nothing that comes over the wire makes this grow, or makes this process connect anywhere. A node
//! of the map is a member from the start, though it was never heard of: one that died while all others were down as well
//! is suspected like any other.
//!
//! # Suspicion is a rumour until seen
//! In SWIM one failed probe makes everybody suspect the victim, until it has heard of that and refuted it. But here
//! suspicion is a vote: when a majority of shards has it, a primary is replaced. One node with a bad network card must
//! not have everybody's vote. So whoever hears of a suspicion asks the suspect itself, and [`suspects`](Gossip::suspects)
//! names it only if that brought no sign of life (`doubt.rs`).
//!
//! # Down is not for ever
//! A process may only have been stopped. It finds out that it is held to be down from the first answer it gets, and goes on
//! in another life (`life.rs`). Whoever is down is *knocked* at, for ever: after a cut in which each side had written the
//! other off, somebody has to begin. And a process that was stopped itself distrusts its own timers: what they were to catch
//! happened while it was not there, so they run on from now, and the probe that was under way proves nothing.
//!
//! # What comes of cuts
//! - Who can neither hear nor be heard, or only one of the two, by anybody: suspected by all.
//! - A cut between two nodes, in one direction or both, with others beside them: not suspected, the probe goes round.
//! - Whoever cannot hear spreads suspicion of all others; they are asked, answer, and are not suspected.
//!
//! # How long it takes
//! In the simulation (`tests.rs`; 4 to 12 nodes, 540 runs, [`GossipOptions::default`]) a killed node is suspected by all
//! survivors after 0.54 s at the median, 0.78 s at 90 %, 1.4 s at most; if one of them saw its connection break, after
//! 0.23 s at the median, 0.46 s at most. One that was stopped for 10 s is suspected by nobody 0.3 s after it goes on.
//!
//! # Methods
//! `handle_*` for what happened; then [`poll_transmit`](Gossip::poll_transmit) until there is nothing left, and
//! [`poll_timeout`](Gossip::poll_timeout) for when to come back. All times are monotonic time of this process.

mod doubt;
mod effects;
mod life;
mod options;
mod packet;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use foca::{Foca, Member, Message, NoCustomBroadcast, PostcardCodec, State, Timer};
use rand_pcg::{Pcg64Mcg, rand_core::SeedableRng};

pub use self::options::GossipOptions;
use self::{
    doubt::Doubt,
    effects::{Due, Effects},
    life::Life,
    packet::Packet,
};
use super::{
    id::{NodeId, Run},
    map::{ClusterMap, Node},
};
use crate::limits::GOSSIP_KNOCKS_PER_TURN;

/// Why a message was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// Longer than any that a node sends. Nothing has changed.
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    /// It cannot be read. Nothing has changed.
    #[error("the message is malformed")]
    Malformed,
    /// From, or about, a node that is not in the map; or from one with this node's own name. Nothing has changed.
    #[error("node {0} is none of the others in the cluster")]
    Stranger(NodeId),
    /// For another node. Nothing has changed.
    #[error("the message is for node {0}")]
    NotForMe(NodeId),
    /// The protocol does not allow it here. What it told may have been taken in.
    #[error("the protocol refuses the message")]
    Protocol(#[from] foca::Error),
}

/// A packet to send: best effort, no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// To whom.
    pub to: NodeId,
    /// Where its bus is, as `HOST:PORT`.
    pub bus: String,
    /// What.
    pub packet: Bytes,
}

/// What is known of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// Somebody had no answer from it.
    Suspect,
    /// It has left, or was suspected for long.
    Down,
}

/// See the head of this file.
pub struct Gossip {
    options: GossipOptions,
    foca: Foca<Life, PostcardCodec, Pcg64Mcg, NoCustomBroadcast>,
    effects: Effects,
    /// The other nodes of the map.
    known: BTreeMap<NodeId, Known>,
    /// Who has spoken to this process in its present life.
    heard: BTreeSet<NodeId>,
    doubts: BTreeMap<NodeId, Doubt>,
    /// At whom this process knocked last; the next turn begins behind.
    knocked_last: Option<NodeId>,
    has_left: bool,
}

struct Known {
    run: Run,
    bus: String,
}

impl Gossip {
    /// This process: a node in a run. Knows nobody until [`set_members`](Self::set_members). `seed` is drawn at random.
    pub fn new(node: NodeId, run: Run, options: GossipOptions, seed: u64) -> Self {
        let random = Pcg64Mcg::seed_from_u64(seed);
        let foca = Foca::new(Life::first(node, run), options.protocol(), random, PostcardCodec);
        let mut effects = Effects::default();
        effects.schedule(Duration::ZERO, Due::Knock);
        let (known, heard, doubts) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { options, foca, effects, known, heard, doubts, knocked_last: None, has_left: false }
    }

    /// What is known of the other nodes, in the order of their ids; each in the run that is known to gossip.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, Run, Liveness)> {
        let members: BTreeMap<_, _> = self.foca.iter_membership_state().map(|member| (*member.id(), member)).collect();
        members.into_iter().filter(|(life, _)| self.known.contains_key(&life.node)).map(|(life, member)| {
            let liveness = match member.state() {
                State::Alive => Liveness::Alive,
                State::Suspect => Liveness::Suspect,
                State::Down => Liveness::Down,
            };
            (life.node, life.run, liveness)
        })
    }

    /// Whom this node suspects: somebody had no answer from them, and neither has this node. In the order of their ids.
    pub fn suspects(&self) -> Vec<(NodeId, Run)> {
        let unanswered = self.doubts.values().filter(|doubt| doubt.is_shared());
        unanswered.map(|doubt| (doubt.life.node, doubt.life.run)).collect()
    }

    /// The map has changed, or is there for the first time. A node that is not in it has no others.
    pub fn set_members(&mut self, now: Duration, map: &ClusterMap) {
        let me = self.foca.identity().node;
        let others = map.nodes().filter(|(id, _)| *id != me && map.node(me).is_some());
        let known = |(id, node): (NodeId, &Node)| (id, Known { run: node.run, bus: node.addresses.bus() });
        self.known = others.map(known).collect();
        let known = &self.known;
        self.heard.retain(|node| known.contains_key(node));
        self.begin_turn(now);
        self.reconcile();
        self.knock();
        self.end_turn();
    }

    /// A packet has come.
    ///
    /// # Errors
    /// [`GossipError`]; each variant says whether anything has changed. None is a reason to stop.
    pub fn handle_message(&mut self, now: Duration, bytes: &[u8]) -> Result<(), GossipError> {
        if self.has_left {
            return Ok(());
        }
        let mut packet = Packet::read(bytes)?;
        self.check(&packet)?;
        self.begin_turn(now);
        self.rise_above(&packet);
        let from = packet.header.src;
        // Whoever writes to a former life of this node wants to reach the present one. Only a death is told to one alone.
        let me = *self.foca.identity();
        if !matches!(packet.header.message, Message::TurnUndead) {
            packet.header.dst = me;
        }
        // Of its own former lives a process needs to know only that it has to rise above them, which it has. And the present one
        // is told of once: at a death it becomes a former one, and foca would take what follows for news of another member.
        let mut is_told_of_me = false;
        packet.news.retain(|member| match *member.id() {
            life if life == me => !std::mem::replace(&mut is_told_of_me, true),
            life => self.known.contains_key(&life.node),
        });
        let bytes = packet.write().ok_or(GossipError::Malformed)?;
        let result = self.foca.handle_data(&bytes, &mut self.effects);
        self.heard.insert(from.node);
        self.tell_of_doubt(from);
        self.end_turn();
        Ok(result?)
    }

    /// The connection to a node was refused, or broke: a rumour like another, which is spread and looked into at once. It
    /// only saves the wait for a probe.
    pub fn handle_unreachable(&mut self, now: Duration, node: NodeId) {
        if self.has_left {
            return;
        }
        self.begin_turn(now);
        let member = self.foca.iter_members().find(|member| member.id().node == node);
        let rumour = member.map(|member| Member::new(*member.id(), member.incarnation(), State::Suspect));
        // It would fail only if a member were longer than a packet.
        drop(self.foca.apply_many(rumour.into_iter(), true, &mut self.effects));
        self.end_turn();
    }

    /// Time has come to what [`poll_timeout`](Self::poll_timeout) said, or gone past it.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.begin_turn(now);
        while let Some(due) = self.effects.take_due() {
            match due {
                Due::Protocol(timer) if self.is_refuted(&timer) => {}
                // What foca refuses here it has put right itself: a probe that was dropped because this process was stopped.
                Due::Protocol(timer) => drop(self.foca.handle_timer(timer, &mut self.effects)),
                Due::Ask(life) => self.ask_again(life),
                Due::Knock => {
                    self.reconcile();
                    self.knock();
                }
            }
        }
        self.end_turn();
    }

    /// Tells the others that this process goes, and is silent from then on.
    pub fn leave(&mut self, now: Duration) {
        self.begin_turn(now);
        let me = *self.foca.identity();
        let alive = self.foca.iter_members().filter(|member| member.state() == State::Alive);
        for other in alive.take(GOSSIP_KNOCKS_PER_TURN) {
            let packet = Packet::new(me, *other.id(), Message::Gossip, vec![Member::down(me)]);
            packet.write().into_iter().for_each(|bytes| self.effects.transmit(other.id().node, bytes));
        }
        self.effects.retain(|_| false);
        self.has_left = true;
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            let (to, packet) = self.effects.poll_transmit()?;
            if let Some(known) = self.known.get(&to) {
                return Some(Transmit { to, bus: known.bus.clone(), packet });
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), in monotonic time; never, once this process has left.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.effects.next_at()
    }

    /// Whether a suspicion that has had its time was refuted. foca 2.0 leaves the member as it is then, but writes to it all
    /// the same that it is down, and so drives it into another life for nothing.
    fn is_refuted(&self, timer: &Timer<Life>) -> bool {
        let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer else { return false };
        let is_it = |member: &&Member<Life>| member.id() == member_id && member.incarnation() == *incarnation;
        self.foca.iter_members().find(is_it).is_none_or(|member| member.state() != State::Suspect)
    }

    /// Refuses what has no business here.
    fn check(&self, packet: &Packet) -> Result<(), GossipError> {
        let (from, to) = (packet.header.src.node, packet.header.dst.node);
        if to != self.foca.identity().node {
            return Err(GossipError::NotForMe(to));
        }
        let third = packet.third().map(|life| life.node).filter(|node| !self.is_member(*node));
        let stranger = third.or((!self.known.contains_key(&from)).then_some(from));
        stranger.map_or(Ok(()), |node| Err(GossipError::Stranger(node)))
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.known.contains_key(&node) || self.foca.identity().node == node
    }

    /// Takes the time, and makes up for the time in which this process was stopped.
    fn begin_turn(&mut self, now: Duration) {
        let late = self.effects.next_at().map_or(Duration::ZERO, |at| now.saturating_sub(at));
        if late > self.options.probe_period {
            self.effects.postpone(late);
        }
        self.effects.now = now;
    }

    /// Sees to what the turn has changed.
    fn end_turn(&mut self) {
        if std::mem::take(&mut self.effects.has_rejoined) {
            self.heard.clear();
            self.knock();
        }
        self.update_doubts();
    }

    /// If others hold a life of this node that wins over the present one, goes on in one that wins over that.
    fn rise_above(&mut self, packet: &Packet) {
        for theirs in packet.receiver_lives() {
            if let Some(risen) = self.foca.identity().above(theirs) {
                self.effects.drop_protocol();
                // It only refuses to change to the same.
                drop(self.foca.change_identity(risen, &mut self.effects));
                self.effects.has_rejoined = true;
            }
        }
    }

    /// Makes the members those of the map. One that is there stays in the run in which it is known; gossip may be
    /// ahead of the map. One that is not goes by the map, which may be ahead of gossip.
    fn reconcile(&mut self) {
        let lives: BTreeMap<_, _> =
            self.foca.iter_membership_state().map(|member| (member.id().node, member)).collect();
        let gone: Vec<_> =
            lives.values().map(|member| *member.id()).filter(|life| !self.is_member(life.node)).collect();
        let newcomers = self.known.iter().filter_map(|(node, known)| match lives.get(node) {
            None => Some(Life::first(*node, known.run)),
            Some(member) if member.state() == State::Alive || member.id().run == known.run => None,
            Some(member) => {
                Some(Life { run: known.run, renewals: member.id().renewals.checked_add(1)?, ..*member.id() })
            }
        });
        let news: Vec<_> = newcomers.map(Member::alive).chain(gone.iter().copied().map(Member::down)).collect();
        // Neither fails: nothing of it is sent, since the others have the map as well.
        drop(self.foca.apply_many(news.into_iter(), false, &mut self.effects));
        gone.into_iter().for_each(|life| drop(self.foca.handle_timer(Timer::RemoveDown(life), &mut self.effects)));
    }

    /// Announces this process to those who are down or have not spoken to it yet. Some of them: the next time others.
    fn knock(&mut self) {
        self.effects.retain(|due| !matches!(due, Due::Knock));
        self.effects.schedule(self.options.knock_period, Due::Knock);
        let is_due = |member: &&Member<Life>| member.state() == State::Down || !self.heard.contains(&member.id().node);
        let doors: BTreeMap<_, _> =
            self.foca.iter_membership_state().filter(is_due).map(|member| (member.id().node, *member.id())).collect();
        let (before, after): (Vec<_>, Vec<_>) =
            doors.into_values().partition(|life| Some(life.node) <= self.knocked_last);
        for life in after.into_iter().chain(before).take(GOSSIP_KNOCKS_PER_TURN) {
            self.knocked_last = Some(life.node);
            drop(self.foca.announce(life, &mut self.effects));
        }
    }
}

impl fmt::Debug for Gossip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.members().collect();
        f.debug_struct("Gossip").field("me", self.foca.identity()).field("members", &members).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
