//! What came of a run, in words that an operator can read.
//!
//! A verdict is a list of claims, each with whether it held and what shows it: the expectations of the scenario first, then the
//! oracles. The scenario has passed if all of them held.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{
    history::{History, Operation, Outcome},
    limits,
    oracles::{self, Violation, ledger},
    order::Order,
};

/// One claim about a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// What is claimed.
    pub claim: String,
    /// Whether it held.
    pub held: bool,
    /// What shows it, in a few words.
    pub because: String,
    /// What shows it in detail, a line each.
    pub details: Vec<String>,
}

/// All that came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What the scenario expected.
    pub expected: Vec<Claim>,
    /// What the oracles say.
    pub judged: Vec<Claim>,
    /// How much there was, a line each.
    pub figures: Vec<String>,
}

impl Claim {
    /// A claim without details.
    pub fn new(claim: impl fmt::Display, held: bool, because: impl fmt::Display) -> Self {
        Self { claim: claim.to_string(), held, because: because.to_string(), details: Vec::new() }
    }
}

impl Verdict {
    /// Lets the oracles judge a history.
    pub fn of(history: &History) -> Self {
        let order = Order::new(history);
        let judged = oracles::ALL.iter().map(|oracle| {
            let finding = oracle.judge(history, &order);
            let count = finding.violations.len();
            let because = match (finding.judged, count) {
                (0, _) => "there was nothing to judge".to_owned(),
                (judged, 0) => format!("{judged} judged"),
                (judged, _) => format!("{count} violations, {judged} judged"),
            };
            let details = finding.violations.iter().take(limits::VIOLATIONS_SHOWN);
            let details = details.flat_map(|violation| show(history, violation)).collect();
            let claim = format!("{}: {}", oracle.name, oracle.claim);
            Claim { claim, held: count == 0, because, details }
        });
        let judged = judged.collect();
        Self { expected: Vec::new(), judged, figures: figures(history, &order) }
    }

    /// Whether all claims held.
    pub fn passed(&self) -> bool {
        self.expected.iter().chain(&self.judged).all(|claim| claim.held)
    }

    /// Whether the oracles of reads, or those of writes, found nothing; with what they say if they did.
    pub fn oracles_held(&self, of_reads: bool) -> (bool, String) {
        let of_kind = oracles::ALL.iter().zip(&self.judged).filter(|(oracle, _)| oracle.of_reads == of_reads);
        let broken: Vec<_> = of_kind.filter(|(_, claim)| !claim.held).map(|(oracle, _)| oracle.name).collect();
        let because = if broken.is_empty() { "the oracles found nothing".to_owned() } else { broken.join(", ") };
        (broken.is_empty(), because)
    }
}

/// A violation, with the operations that show it.
fn show(history: &History, violation: &Violation) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", violation.key, violation.what)];
    let shown = violation.operations.iter().take(OPERATIONS_SHOWN);
    lines.extend(shown.map(|operation| format!("  {}", history.show(operation))));
    let more = violation.operations.len().saturating_sub(OPERATIONS_SHOWN);
    lines.extend((more > 0).then(|| format!("  and {more} more, which are in the trace")));
    lines
}

/// How many operations of a violation are shown.
const OPERATIONS_SHOWN: usize = 8;

fn figures(history: &History, order: &Order<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for (place, name) in (0u8..).zip(&history.regions) {
        let of_region = |operation: &&Operation| operation.region.0 == place;
        let operations: Vec<_> = history.operations.iter().filter(of_region).collect();
        let unknown = operations.iter().filter(|operation| matches!(operation.outcome, Outcome::Unknown(_))).count();
        let refused = operations.iter().filter(|operation| !operation.may_be_done()).count();
        let count = operations.len();
        lines.push(format!("{name}: {count} operations, of which {refused} were refused and {unknown} had no answer"));
    }
    let fates: BTreeMap<_, _> = ledger::count(history, order);
    let words: Vec<_> = fates.iter().map(|(fate, count)| format!("{count} {}", word(*fate))).collect();
    lines.push(format!("acknowledged writes of registers: {}", words.join(", ")));
    lines
}

fn word(fate: ledger::Fate) -> &'static str {
    match fate {
        ledger::Fate::Winner => "stand",
        ledger::Fate::Superseded => "superseded",
        ledger::Fate::Ended => "deleted or expired",
        ledger::Fate::Evicted => "evicted",
        ledger::Fate::Lost => "within the loss of a primary that died",
        ledger::Fate::Vanished => "vanished",
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for claim in self.expected.iter().chain(&self.judged) {
            let mark = if claim.held { "ok    " } else { "FAILED" };
            writeln!(f, "  {mark} {} ({})", claim.claim, claim.because)?;
            for line in &claim.details {
                writeln!(f, "         {line}")?;
            }
        }
        self.figures.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, Verdict};
    use crate::oracles::testing::{self, HERE};

    #[test]
    fn a_verdict_says_what_was_judged_and_what_is_wrong_with_the_operations_that_show_it() {
        let mut scribe = testing::well();
        let verdict = Verdict::of(&scribe.history);
        assert!(verdict.passed(), "{verdict}");
        assert!(verdict.to_string().contains("ok     written: every value read was really written (9 judged"));
        scribe.set(HERE, 200..201, 12);
        scribe.read(HERE, 202..203, Some(11));
        let verdict = Verdict::of(&scribe.history);
        let text = verdict.to_string();
        assert!(!verdict.passed() && !verdict.oracles_held(true).0, "{text}");
        assert!(text.contains("FAILED stale"), "{text}");
        assert!(text.contains("0.202 to 0.203 s, here, client 1: own:0:0 GET -> c1.11"), "{text}");
    }

    #[test]
    fn an_expectation_that_is_not_met_fails_the_run() {
        let mut verdict = Verdict::of(&testing::well().history);
        verdict.expected.push(Claim::new("lag below 1ms", false, "53 ms"));
        assert!(!verdict.passed());
        assert!(verdict.to_string().contains("FAILED lag below 1ms (53 ms)"));
    }
}
