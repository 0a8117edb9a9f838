//! `meridian cluster rebalance`: each shard gets its share of the slots.

use std::{collections::BTreeMap, process::ExitCode, str::FromStr};

use clap::Args;
use node_core::{
    cluster::{
        ClusterMap, Health, MapCommand, NodeId, ShardId,
        placement::{Share, Step, place},
    },
    limits::WEIGHT_MAX,
    slot::Slot,
};
use serde_json::{Value, json};

use super::{
    UsageError,
    connection::{NodeArgs, OperateError},
    moves::{self, Pace},
    operator::Operator,
    output::{ChangeArgs, Consent, Output, Plan},
};
use crate::terminal::{Line, Style, grouped};

/// Give each shard its share of the slots
///
/// Moves no more slots than it must, and none while every shard is within 2 % of its share. Slots are served throughout.
/// Interrupting it leaves a consistent cluster: moves that have begun go on by themselves, and the same command does the rest.
#[derive(Debug, Args)]
pub(crate) struct RebalanceArgs {
    /// Another share for a shard, in percent of a shard of ordinary size; may be repeated
    #[arg(long = "weight", value_name = "SHARD=PERCENT")]
    weights: Vec<Weight>,

    #[command(flatten)]
    change: ChangeArgs,

    #[command(flatten)]
    node: NodeArgs,
}

/// One `--weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weight(ShardId, u16);

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (shard, weight) = text.split_once('=')?;
            let weight = weight.trim_end_matches('%').parse().ok()?;
            (1..=WEIGHT_MAX).contains(&weight).then_some(Self(ShardId(shard.parse().ok()?), weight))
        };
        parse().ok_or_else(|| format!("write SHARD=PERCENT with 1 to {WEIGHT_MAX} percent, such as 0=150"))
    }
}

/// What a rebalancing comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rebalancing {
    /// Shards whose weight changes, and to what.
    pub(super) weights: Vec<(ShardId, u16)>,
    /// What moves.
    pub(super) steps: Vec<Step>,
}

/// Why slots cannot move.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlanError {
    /// There is no such shard.
    #[error("there is no shard {0}: see `meridian cluster status`")]
    UnknownShard(ShardId),
    /// A primary cannot take part.
    #[error("slots would move from or to shard {shard}, but its primary {primary} has failed: wait for its failover")]
    Failed {
        /// The shard.
        shard: ShardId,
        /// Its primary.
        primary: NodeId,
    },
}

/// What has to move for each shard to have its share, where some have another weight from now on.
pub(super) fn plan(map: &ClusterMap, weights: &[(ShardId, u16)]) -> Result<Rebalancing, PlanError> {
    let mut shares: BTreeMap<_, _> = map.shards().map(|(id, shard)| (id, shard.weight)).collect();
    for (shard, weight) in weights {
        *shares.get_mut(shard).ok_or(PlanError::UnknownShard(*shard))? = *weight;
    }
    let changed = |(shard, weight): (&ShardId, &u16)| {
        map.shard(*shard).is_some_and(|known| known.weight != *weight).then_some((*shard, *weight))
    };
    let weights = shares.iter().filter_map(changed).collect();
    let shares: Vec<_> = shares.into_iter().map(|(shard, weight)| Share { shard, weight }).collect();
    Ok(Rebalancing { weights, steps: steps(map, &shares)? })
}

/// What has to move for these shards to have these shares, and the others nothing.
pub(super) fn steps(map: &ClusterMap, shares: &[Share]) -> Result<Vec<Step>, PlanError> {
    let placement = place(shares, |slot: Slot| map.target(slot).or_else(|| map.owner(slot)));
    let steps = placement.steps();
    for shard in steps.iter().flat_map(|step| [step.from, step.to]) {
        let primary = map.shard(shard).ok_or(PlanError::UnknownShard(shard))?.primary;
        if map.node(primary).is_none_or(|node| node.health == Health::Failed) {
            return Err(PlanError::Failed { shard, primary });
        }
    }
    Ok(steps)
}

pub(super) async fn run(args: RebalanceArgs) -> anyhow::Result<ExitCode> {
    let (caller, node) = args.node.caller()?;
    let (mut output, consent) = (args.change.output(), args.change.consent());
    let mut operator = Operator::join(caller, node).await?;
    let outcome = rebalance(&args, &mut operator, &mut output, consent, Pace::ORDINARY).await;
    operator.hang_up().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

pub(super) async fn rebalance(
    args: &RebalanceArgs,
    operator: &mut Operator,
    output: &mut Output,
    consent: Consent,
    pace: Pace,
) -> anyhow::Result<()> {
    let weights: Vec<_> = args.weights.iter().map(|Weight(shard, weight)| (*shard, *weight)).collect();
    let has_failed = |error: &PlanError| matches!(error, PlanError::Failed { .. });
    let planned = operator.plan(|map| plan(map, &weights), has_failed).await?.map_err(|error| match error {
        PlanError::UnknownShard(_) => UsageError::new(error).into(),
        PlanError::Failed { .. } => anyhow::Error::from(error),
    })?;
    let is_balanced = planned.steps.is_empty() && planned.weights.is_empty();
    let consent = if is_balanced { Consent::Given } else { consent };
    if !output.agree(&show(operator.map(), &planned), consent)? {
        return Ok(());
    }
    for (shard, weight) in &planned.weights {
        set_weight(operator, *shard, *weight).await?;
    }
    moves::carry_out(operator, &planned.steps, output, pace).await?;
    let moved = count(&planned.steps);
    let text = if is_balanced { "Nothing has to move.".to_owned() } else { format!("{} moved.", slots(moved)) };
    Ok(output.result(&text, json!({ "moved": moved, "epoch": operator.map().epoch().0 }))?)
}

/// Sets a weight; twice, if the answer was lost, since that does no harm.
async fn set_weight(operator: &mut Operator, shard: ShardId, weight: u16) -> Result<(), OperateError> {
    let command = MapCommand::SetWeight { shard, weight };
    match operator.change(&command).await {
        Err(OperateError::Unknown { .. }) => operator.change(&command).await,
        other => other,
    }
}

fn show(map: &ClusterMap, planned: &Rebalancing) -> Plan {
    let Rebalancing { weights, steps } = planned;
    let head = match count(steps) {
        0 => "No slot has to move.".to_owned(),
        moving => format!("{} of {} move:", grouped(moving as u64), grouped(Slot::all().len() as u64)),
    };
    let mut lines = vec![Line::default().with(Style::Bold, head)];
    for (shard, weight) in weights {
        let before = map.shard(*shard).map_or(0, |shard| shard.weight);
        lines.push(
            Line::default().with(Style::Plain, format!("  the weight of shard {shard}: {before} % -> {weight} %")),
        );
    }
    lines.extend(step_lines(steps));
    let weights: Vec<_> = weights.iter().map(|(shard, weight)| json!({ "shard": shard.0, "weight": weight })).collect();
    Plan { lines, json: json!({ "action": "rebalance", "weights": weights, "moves": steps_json(steps) }) }
}

/// How many slots move in all.
pub(super) fn count(steps: &[Step]) -> usize {
    steps.iter().map(|step| step.slots.len()).sum()
}

/// So many slots, in words.
pub(super) fn slots(count: usize) -> String {
    if count == 1 { "1 slot".to_owned() } else { format!("{} slots", grouped(count as u64)) }
}

/// What moves, to a person.
pub(super) fn step_lines(steps: &[Step]) -> impl Iterator<Item = Line> {
    steps.iter().map(|Step { slots: moving, from, to }| {
        let text = format!("  {:>12}  from shard {from} to shard {to}", slots(moving.len()));
        Line::default().with(Style::Plain, text).with(Style::Dim, format!("  {moving}"))
    })
}

/// What moves, to a program.
pub(super) fn steps_json(steps: &[Step]) -> Vec<Value> {
    let step = |Step { slots, from, to }: &Step| json!({ "from": from.0, "to": to.0, "count": slots.len(), "slots": slots.to_string() });
    steps.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use node_core::cluster::{MapCommand, ShardId};

    use super::{PlanError, Weight, plan};
    use crate::cli::cluster::tests::{cluster, founder};

    #[test]
    fn a_weight_names_a_shard_and_a_percentage() {
        assert_eq!("3=150".parse(), Ok(Weight(ShardId(3), 150)));
        assert_eq!("3=150%".parse(), Ok(Weight(ShardId(3), 150)));
        for text in ["", "3", "3=", "=1", "3=0", "3=10001", "x=1"] {
            assert!(text.parse::<Weight>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_in_balance_stays() {
        let planned = plan(&cluster(3, 1), &[]).unwrap();
        assert!(planned.steps.is_empty() && planned.weights.is_empty());
        // To give a shard the weight that it has changes nothing either.
        assert!(plan(&cluster(3, 1), &[(ShardId(1), 100)]).unwrap().weights.is_empty());
    }

    #[test]
    fn no_slot_moves_from_or_to_who_has_failed() {
        let mut map = cluster(2, 0);
        let node = founder(1, "127.0.0.1");
        map.apply(&MapCommand::Failed { node: node.id, run: node.run }).unwrap();
        let failed = PlanError::Failed { shard: ShardId(1), primary: node.id };
        assert_eq!(plan(&map, &[(ShardId(0), 300)]), Err(failed));
        assert_eq!(plan(&map, &[(ShardId(7), 300)]), Err(PlanError::UnknownShard(ShardId(7))));
        assert!(plan(&map, &[]).is_ok());
    }
}
