//! The quiet after a run: reading every key in every region that is judged, until they agree.

use std::time::Duration;

use futures_util::future::join_all;
use node_core::resp::Value;
use scenario::{
    expectation::Expectation,
    history::{Found, Key, Last, Place},
};
use tokio::time;

use super::{
    client::{Client, Failure},
    limits,
    load::found,
    run::Run,
};

/// How the regions came to agree.
#[derive(Debug)]
pub(super) struct Settled {
    /// After how long; none if they did not.
    pub(super) after: Option<Duration>,
    /// What still differed.
    pub(super) differ: String,
}

/// Waits until all regions that are judged hold the same, at most as long as is expected; and writes down what they hold.
pub(super) async fn settle(run: &Run<'_>) -> Settled {
    let begun = run.now();
    let most = run.scenario.expect.iter().find_map(|expectation| match expectation {
        Expectation::Converged { within, .. } => Some(*within),
        _ => None,
    });
    let most = most.unwrap_or(limits::AGREE_MAX);
    let judged = run.history.borrow().judged.clone();
    let keys = run.scenario.load.all_keys(&run.places());
    let mut readers: Vec<_> = judged.iter().map(|place| Reader::new(run, *place)).collect();
    loop {
        let read = join_all(readers.iter_mut().map(|reader| reader.read(&keys))).await;
        let read: Result<Vec<_>, _> = read.into_iter().collect();
        let after = run.now().saturating_sub(begun);
        let differ = match read {
            Ok(held) => {
                run.history.borrow_mut().last = held.concat();
                difference(run, &held)
            }
            Err(error) => Some(error),
        };
        match differ {
            None => return Settled { after: Some(after), differ: String::new() },
            Some(differ) if after >= most => return Settled { after: None, differ },
            Some(_) => time::sleep(limits::COMPARE_EVERY).await,
        }
    }
}

/// Where regions differ, in words; none if they do not.
fn difference(run: &Run<'_>, held: &[Vec<Last>]) -> Option<String> {
    let history = run.history.borrow();
    let may_lack = |last: &Last| last.found.is_none() && history.may_miss.contains(&last.region);
    let first = held.first()?;
    let differs = |index: &usize| {
        let present = held.iter().map(|lasts| &lasts[*index]).filter(|last| !may_lack(last));
        let mut values = present.map(|last| (&last.found, last.expires_ms));
        let one = values.next();
        one.is_some_and(|one| values.any(|other| other != one))
    };
    let differing: Vec<_> = (0..first.len()).filter(differs).collect();
    let index = *differing.first()?;
    let show = |last: &Last| {
        let found = last.found.as_ref().map_or_else(|| "nothing".to_owned(), Found::to_string);
        format!("{} has {found}", history.name(last.region))
    };
    let values: Vec<_> = held.iter().map(|lasts| show(&lasts[index])).collect();
    Some(format!("{} of {} keys differ: at {} {}", differing.len(), first.len(), first[index].key, values.join(", ")))
}

/// Reads a region.
struct Reader {
    region: Place,
    name: String,
    client: Client,
}

impl Reader {
    fn new(run: &Run<'_>, region: Place) -> Self {
        let plan = &run.plan.regions[usize::from(region.0)];
        let client = Client::new(plan.nodes.iter().map(|node| node.redis).collect());
        Self { region, name: plan.name.clone(), client }
    }

    /// What stands at each key.
    async fn read(&mut self, keys: &[Key]) -> Result<Vec<Last>, String> {
        let mut read = Vec::with_capacity(keys.len());
        for key in keys {
            let last = self.read_one(*key).await;
            read.push(last.map_err(|error| format!("{} cannot be read: {error}", self.name))?);
        }
        Ok(read)
    }

    async fn read_one(&mut self, key: Key) -> Result<Last, Failure> {
        let name = key.to_string();
        // Expiry first: a key that expires between the two shows as a pair that nobody else has.
        let expires = self.client.run(&name, &["PEXPIRETIME", &name]).await?.value;
        let value = self.client.run(&name, &["GET", &name]).await?.value;
        let expires_ms = if let Value::Integer(ms) = expires { ms } else { -1 };
        let found = if let Value::Bulk(bytes) = value { Some(found(&bytes)) } else { None };
        // A key that is absent and one that does not expire are answered alike here.
        Ok(Last { region: self.region, key, found, expires_ms: expires_ms.max(-1) })
    }
}
