//! Moving slots: from the steps of a placement to a map in which all has arrived.
//!
//! # How
//! [`Mover`] is pure. It looks at a map and says what to ask for next: per pair of shards one chunk of slots at a time, and a
//! few pairs at once. It remembers nothing of what it asked for, but goes by what the map shows: a chunk is done when its
//! slots have their new owner, in flight while they move, and asked for otherwise. So it does not matter whether an
//! answer was lost, the leader has changed, or this is the second run after one that was interrupted.
//!
//! # What holds
//! - At any moment every slot has one owner; who interrupts leaves a consistent cluster. Moves that have begun go on by
//!   themselves, and the same command does the rest.
//! - A chunk of which nothing arrives for too long is stopped, and the command fails.
//! - Slots that somebody else gives to a third shard meanwhile end it as well: two plans at once make neither.

use std::{collections::VecDeque, time::Duration};

use anyhow::bail;
use node_core::{
    cluster::{ClusterMap, MapCommand, Refused, ShardId, placement::Step},
    slot::SlotSet,
};
use tokio::{
    signal::ctrl_c,
    time::{Instant, sleep},
};

use super::{connection::OperateError, limits, operator::Operator, output::Output};

/// How fast, and how patiently.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two looks at the map.
    pub(super) poll: Duration,
    /// How long nothing may arrive.
    pub(super) stalled: Duration,
}

impl Pace {
    /// That of people.
    pub(super) const ORDINARY: Self = Self { poll: limits::POLL, stalled: limits::STALLED };
}

/// Why slots do not move any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MoveError {
    /// Nothing arrives.
    #[error(
        "for {} s no slot has come from shard {from} to shard {to}; the move of {slots} is stopped, and they stay where they \
         are. What had arrived has arrived: look at the logs of both primaries, then run the same command again",
        .after.as_secs()
    )]
    Stalled {
        /// What is moving, or was to move.
        slots: SlotSet,
        /// From where.
        from: ShardId,
        /// Where to.
        to: ShardId,
        /// After how long.
        after: Duration,
    },
    /// They have gone elsewhere.
    #[error(
        "somebody else is moving slots: {slots} are no longer of shard {from}; run the same command again for a new plan"
    )]
    Astray {
        /// Which.
        slots: SlotSet,
        /// Whose they were.
        from: ShardId,
    },
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Mover {
    pairs: Vec<Pair>,
    total: usize,
    stalled: Duration,
}

/// What goes from one shard to another.
#[derive(Debug)]
struct Pair {
    from: ShardId,
    to: ShardId,
    chunks: VecDeque<SlotSet>,
    /// How many slots of the first chunk have arrived.
    arrived: usize,
    /// When that changed, or the chunk became the first; none while the pair has not begun.
    since: Option<Duration>,
}

impl Mover {
    /// Nothing has moved yet.
    pub(super) fn new(steps: &[Step], stalled: Duration) -> Self {
        let pair =
            |step: &Step| Pair { from: step.from, to: step.to, chunks: chunks(&step.slots), arrived: 0, since: None };
        let total = steps.iter().map(|step| step.slots.len()).sum();
        Self { pairs: steps.iter().map(pair).collect(), total, stalled }
    }

    /// How many slots there are to move.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// How many have arrived.
    pub(super) fn arrived(&self) -> usize {
        let left = |pair: &Pair| pair.chunks.iter().map(SlotSet::len).sum::<usize>() - pair.arrived;
        self.total - self.pairs.iter().map(left).sum::<usize>()
    }

    /// Whether all is done.
    pub(super) fn is_done(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Looks at a map at `now`, in monotonic time, and says what to ask for.
    ///
    /// # Errors
    /// [`MoveError`]
    pub(super) fn turn(&mut self, map: &ClusterMap, now: Duration) -> Result<Vec<MapCommand>, MoveError> {
        let mut commands = Vec::new();
        for pair in self.pairs.iter_mut().take(limits::PAIRS_AT_ONCE) {
            commands.extend(pair.turn(map, now, self.stalled)?);
        }
        self.pairs.retain(|pair| !pair.chunks.is_empty());
        Ok(commands)
    }
}

impl Pair {
    fn turn(&mut self, map: &ClusterMap, now: Duration, stalled: Duration) -> Result<Option<MapCommand>, MoveError> {
        while let Some(chunk) = self.chunks.front() {
            let seen = Seen::of(map, chunk, self.from, self.to);
            if !seen.astray.is_empty() {
                return Err(MoveError::Astray { slots: seen.astray, from: self.from });
            }
            if seen.arrived == chunk.len() {
                self.chunks.pop_front();
                (self.arrived, self.since) = (0, None);
                continue;
            }
            if self.since.is_none() || seen.arrived != self.arrived {
                (self.arrived, self.since) = (seen.arrived, Some(now));
            }
            if now.saturating_sub(self.since.unwrap_or(now)) >= stalled {
                let slots = if seen.moving.is_empty() { seen.ready } else { seen.moving };
                return Err(MoveError::Stalled { slots, from: self.from, to: self.to, after: stalled });
            }
            return Ok((!seen.ready.is_empty()).then_some(MapCommand::Move { slots: seen.ready, to: self.to }));
        }
        Ok(None)
    }
}

/// What a map shows of a chunk.
#[derive(Debug, Default)]
struct Seen {
    /// How many have their new owner.
    arrived: usize,
    /// On their way there.
    moving: SlotSet,
    /// Can be asked for.
    ready: SlotSet,
    /// Of a third shard, or on their way to one.
    astray: SlotSet,
}

impl Seen {
    fn of(map: &ClusterMap, chunk: &SlotSet, from: ShardId, to: ShardId) -> Self {
        let mut seen = Self::default();
        for slot in chunk.iter() {
            match (map.owner(slot), map.target(slot)) {
                (Some(owner), None) if owner == to => seen.arrived += 1,
                (Some(owner), None) if owner == from => _ = seen.ready.insert(slot),
                (Some(owner), Some(target)) if owner == from && target == to => _ = seen.moving.insert(slot),
                // A former plan brings it to where this one takes it from: that is waited for.
                (_, Some(target)) if target == from => {}
                _ => _ = seen.astray.insert(slot),
            }
        }
        seen
    }
}

/// Slots in chunks, of neighbours as far as can be.
fn chunks(slots: &SlotSet) -> VecDeque<SlotSet> {
    let slots: Vec<_> = slots.iter().collect();
    slots.chunks(limits::CHUNK_SLOTS).map(|chunk| chunk.iter().copied().collect()).collect()
}

/// Moves what these steps name, and returns when all has arrived.
///
/// # Errors
/// If it is interrupted, a [`MoveError`], or an [`OperateError`]; what has arrived stays where it is.
pub(super) async fn carry_out(
    operator: &mut Operator,
    steps: &[Step],
    output: &mut Output,
    pace: Pace,
) -> anyhow::Result<()> {
    tokio::select! {
        moved = follow(operator, steps, output, pace) => moved,
        interrupted = ctrl_c() => {
            interrupted?;
            bail!(
                "interrupted: the moves that have begun go on by themselves, and every slot has its owner at any moment; \
                 the same command does the rest"
            )
        }
    }
}

async fn follow(operator: &mut Operator, steps: &[Step], output: &mut Output, pace: Pace) -> anyhow::Result<()> {
    let (mut mover, started) = (Mover::new(steps, pace.stalled), Instant::now());
    loop {
        operator.refresh().await?;
        let turn = mover.turn(operator.map(), started.elapsed());
        output.progress("slots moved", mover.arrived(), mover.total())?;
        if mover.is_done() && turn.is_ok() {
            return Ok(());
        }
        match turn {
            Ok(commands) => {
                for command in commands {
                    begin(operator, &command).await?;
                }
            }
            Err(error) => {
                if let MoveError::Stalled { slots, .. } = &error {
                    stop(operator, slots, pace).await?;
                }
                return Err(error.into());
            }
        }
        sleep(pace.poll).await;
    }
}

/// Stops a move. What is just about to change hands has done so, or will not, in a moment.
async fn stop(operator: &mut Operator, slots: &SlotSet, pace: Pace) -> Result<(), OperateError> {
    let command = MapCommand::StopMove { slots: slots.clone() };
    for _ in 0..limits::STOPS_MAX {
        match begin(operator, &command).await {
            Err(OperateError::Refused(Refused::Prepared)) => sleep(pace.poll).await,
            other => return other,
        }
    }
    begin(operator, &command).await
}

/// Asks for a change. Whether it was made is for the map to show.
async fn begin(operator: &mut Operator, command: &MapCommand) -> Result<(), OperateError> {
    match operator.change(command).await {
        // It was asked for before, or its answer was lost, or it has happened meanwhile.
        Err(OperateError::Refused(Refused::Outdated) | OperateError::Unknown { .. }) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use node_core::{
        cluster::{ClusterMap, MapCommand, ShardId, placement::Step},
        slot::{Slot, SlotSet},
    };
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

    use super::{MoveError, Mover, limits};
    use crate::cli::cluster::{
        rebalance,
        tests::{cluster, finish_moves},
    };

    const STALLED: Duration = Duration::from_secs(60);

    proptest! {
        // Each looks at all slots many times.
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn all_arrives_where_the_placement_wants_it(
            weights in proptest::collection::vec(1..1_000_u16, 2..7),
            dice in proptest::collection::vec(any::<u8>(), 64),
        ) {
            let mut map = cluster(weights.len() as u8, 0);
            let weights: Vec<_> = weights.iter().zip(0..).map(|(weight, shard)| (ShardId(shard), *weight)).collect();
            let plan = rebalance::plan(&map, &weights).unwrap();
            let mut mover = Mover::new(&plan.steps, STALLED);
            prop_assert_eq!(mover.total(), plan.steps.iter().map(|step| step.slots.len()).sum::<usize>());
            let mut dice = dice.iter().cycle();
            for now in (0..).map(Duration::from_secs) {
                for command in mover.turn(&map, now).unwrap() {
                    let MapCommand::Move { slots, .. } = &command else { panic!("{command:?}") };
                    prop_assert!(slots.len() <= limits::CHUNK_SLOTS);
                    // Some answers are lost, and some requests.
                    if dice.next() > Some(&40) {
                        map.apply(&command).unwrap();
                    }
                }
                prop_assert!(map.moves().len() <= limits::PAIRS_AT_ONCE * limits::CHUNK_SLOTS);
                if mover.is_done() {
                    break;
                }
                let take = usize::from(*dice.next().unwrap()) * 4 + 1;
                finish_moves(&mut map, take);
            }
            prop_assert_eq!(mover.arrived(), mover.total());
            for step in &plan.steps {
                prop_assert!(step.slots.iter().all(|slot| map.owner(slot) == Some(step.to)));
            }
            prop_assert_eq!(rebalance::plan(&map, &weights).unwrap().steps, []);
        }
    }

    /// One step of some slots, from shard 0 to shard 1.
    fn step(slots: std::ops::Range<u16>) -> Step {
        let slots = slots.map(|slot| Slot::new(slot).unwrap()).collect();
        Step { slots, from: ShardId(0), to: ShardId(1) }
    }

    fn turn(mover: &mut Mover, map: &mut ClusterMap, seconds: u64) -> Result<usize, MoveError> {
        let commands = mover.turn(map, Duration::from_secs(seconds))?;
        commands.iter().for_each(|command| _ = map.apply(command).unwrap());
        Ok(commands.len())
    }

    #[test]
    fn a_move_of_which_nothing_arrives_is_given_up() {
        let mut map = cluster(2, 0);
        let mut mover = Mover::new(&[step(0..600)], STALLED);
        assert_eq!(turn(&mut mover, &mut map, 5), Ok(1));
        assert_eq!(turn(&mut mover, &mut map, 64), Ok(0));
        // Ten slots arrive, and it has another minute.
        finish_moves(&mut map, 10);
        assert_eq!((turn(&mut mover, &mut map, 66), mover.arrived()), (Ok(0), 10));
        assert_eq!(turn(&mut mover, &mut map, 125), Ok(0));
        let Err(MoveError::Stalled { slots, .. }) = turn(&mut mover, &mut map, 126) else { panic!("it goes on") };
        assert_eq!(slots.to_string(), "10-511");
    }

    #[test]
    fn what_a_former_plan_brings_is_waited_for() {
        let mut map = cluster(3, 0);
        let slots: SlotSet = map.slots(ShardId(2)).iter().take(7).collect();
        map.apply(&MapCommand::Move { slots: slots.clone(), to: ShardId(0) }).unwrap();
        let mut mover = Mover::new(&[Step { slots, from: ShardId(0), to: ShardId(1) }], STALLED);
        assert_eq!(turn(&mut mover, &mut map, 0), Ok(0));
        finish_moves(&mut map, 7);
        assert_eq!(turn(&mut mover, &mut map, 1), Ok(1));
    }

    #[test]
    fn slots_that_go_elsewhere_end_the_plan() {
        let mut map = cluster(3, 0);
        let mut mover = Mover::new(&[step(0..10)], STALLED);
        let slots: SlotSet = [Slot::new(3).unwrap()].into_iter().collect();
        map.apply(&MapCommand::Move { slots: slots.clone(), to: ShardId(2) }).unwrap();
        assert_eq!(turn(&mut mover, &mut map, 0), Err(MoveError::Astray { slots, from: ShardId(0) }));
    }
}
