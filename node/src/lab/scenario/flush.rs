//! FLUSHALL at all primaries of a region, as one operation on every key.

use scenario::history::{Action, ClientId, Operation, Outcome, Place};

use super::{client::Client, limits, run::Run, targets};
use crate::terminal::Style;

/// Flushes a region, and writes that down. If a primary does not answer, nobody knows what was flushed.
///
/// # Errors
/// If nobody knows who the primaries are.
pub(super) async fn flush(run: &Run<'_>, region: &str) -> anyhow::Result<()> {
    let index = targets::index_of(run.plan, region)?;
    let called = run.now();
    let primaries = targets::primaries(run, index).await?;
    let mut outcome = Outcome::Done;
    for node in run.plan.regions[index].nodes.iter().filter(|node| primaries.contains(&node.name)) {
        let mut client = Client::new(vec![node.redis]);
        if let Err(error) = client.run_at(node.redis, &["FLUSHALL"], false, limits::ANSWER_MAX).await {
            run.say(Style::Warn, format!("{} does not flush: {error}", node.name));
            outcome = Outcome::Unknown(error.to_string());
        }
    }
    let (region, returned) = (Place(u8::try_from(index)?), run.now());
    for key in run.scenario.load.all_keys(&run.places()) {
        let (client, action, outcome) = (ClientId(u16::MAX), Action::Flush, outcome.clone());
        run.note(Operation { client, region, key, called, returned, action, outcome });
    }
    Ok(())
}
