//! Sends a run to where its parts belong, again and again until each has its answer.
//!
//! A *round* sends every part without an answer to the node that map and redirections name for it, all nodes at the same
//! time, each one's parts in the order of the requests. After a round, per slot, no part without an answer stands before one with
//! an answer: such a part gets its refusal for an answer. So what is sent again never overtakes, and all that is left on a
//! slot goes to one node together.
//!
//! Redirections hold for one round. After that the map is asked again, which has heard of it by then or soon will.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::future::join_all;
use node_core::{
    cluster::ClusterMap,
    resp::{Protocol, Reply, Value},
    slot::Slot,
};
use tokio::time::{Instant, sleep};

use super::{
    plan::{Part, Request, Target},
    upstream::{Answer, Batch, Broken},
};
use crate::{
    limits::{FORWARD_HOPS_MAX, FORWARD_MAX, FORWARD_REST},
    server::{session::Session, worker::Worker},
};

/// Where a node has sent us on to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Redirection {
    to: String,
    /// Only this once: the node is to be told that we ask.
    asking: bool,
}

type Redirections = BTreeMap<Slot, Redirection>;

/// What a node made of a batch.
struct Outcome<'a> {
    address: &'a str,
    answers: Vec<Answer>,
    broken: Option<Broken>,
}

impl Worker {
    /// Forwards the run that has collected, and appends the replies in order.
    pub(crate) async fn forward(&self, session: &mut Session, output: &mut Vec<u8>) {
        let Some(proxied) = session.proxied.as_mut() else { return };
        let mut run = proxied.take_run();
        self.carry_out(&mut run, session.protocol).await;
        for request in &run {
            request.reply(output, session.protocol);
        }
    }

    async fn carry_out(&self, run: &mut [Request], protocol: Protocol) {
        let Some(cluster) = self.server.cluster.clone() else { return };
        let deadline = Instant::now() + FORWARD_MAX;
        let (mut redirections, mut hops) = (Redirections::new(), 0);
        loop {
            let map = cluster.map();
            let mut open: Vec<&mut Part> = open_parts(run).collect();
            redirections = self.round(&mut open, &map, redirections, protocol).await;
            keep_order(&mut open);
            if open_parts(run).next().is_none() {
                return;
            }
            if Instant::now() >= deadline || !map.is_founded() {
                return open_parts(run).for_each(Part::give_up);
            }
            hops += 1;
            let rest = if hops < FORWARD_HOPS_MAX && !redirections.is_empty() { Duration::ZERO } else { FORWARD_REST };
            sleep(rest).await;
        }
    }

    async fn round(
        &self,
        open: &mut [&mut Part],
        map: &ClusterMap,
        redirections: Redirections,
        protocol: Protocol,
    ) -> Redirections {
        let mut batches = BTreeMap::<String, (Batch, Vec<usize>)>::new();
        for (index, part) in open.iter_mut().enumerate() {
            match part.destination(map, &redirections) {
                Ok(Redirection { to, asking }) => {
                    let (batch, indexes) = batches.entry(to).or_default();
                    part.add_to(batch, asking);
                    indexes.push(index);
                }
                Err(refusal) => refusal.clone_into(&mut part.refusal),
            }
        }
        let exchanges = batches.iter().map(async |(address, (batch, _))| {
            let mut answers = Vec::new();
            let broken = self.exchange(address, protocol, batch, &mut answers).await.err();
            Outcome { address, answers, broken }
        });
        let outcomes = join_all(exchanges).await;
        let mut next = Redirections::new();
        for (outcome, (_, indexes)) in outcomes.into_iter().zip(batches.values()) {
            let mut answers = outcome.answers.into_iter();
            for index in indexes {
                let part = &mut *open[*index];
                let own: Vec<_> = answers.by_ref().take(part.expected(&redirections)).collect();
                part.settle(own, outcome.address, outcome.broken.as_ref(), &redirections, &mut next);
            }
        }
        next
    }
}

fn open_parts(run: &mut [Request]) -> impl Iterator<Item = &mut Part> {
    run.iter_mut().flat_map(|request| &mut request.parts).filter(|part| part.answer.is_none())
}

/// See the head of this file.
fn keep_order(parts: &mut [&mut Part]) {
    let mut answered = BTreeSet::new();
    for part in parts.iter_mut().rev() {
        let Target::Slot(slot) = part.target else { continue };
        if part.answer.is_some() {
            answered.insert(slot);
        } else if answered.contains(&slot) {
            part.give_up();
        }
    }
}

impl Part {
    fn redirection<'r>(&self, redirections: &'r Redirections) -> Option<&'r Redirection> {
        if let Target::Slot(slot) = self.target { redirections.get(&slot) } else { None }
    }

    /// Where it belongs.
    fn destination(&self, map: &ClusterMap, redirections: &Redirections) -> Result<Redirection, &'static str> {
        if let Some(redirection) = self.redirection(redirections) {
            return Ok(redirection.clone());
        }
        let shard = match self.target {
            Target::Slot(slot) => map.owner(slot),
            Target::Shard(shard) => Some(shard),
        };
        let primary = shard.and_then(|shard| map.node(map.shard(shard)?.primary));
        let addresses = &primary.ok_or("CLUSTERDOWN Hash slot not served")?.addresses;
        if addresses.port == 0 {
            return Err("CLUSTERDOWN the owner listens at no plain port, where the proxy could reach it");
        }
        Ok(Redirection { to: addresses.redis(), asking: false })
    }

    /// How many replies come, that to ASKING included.
    fn expected(&self, redirections: &Redirections) -> usize {
        self.replies + usize::from(self.redirection(redirections).is_some_and(|redirection| redirection.asking))
    }

    fn add_to(&self, batch: &mut Batch, asking: bool) {
        if asking {
            batch.bytes.extend_from_slice(b"*1\r\n$6\r\nASKING\r\n");
        }
        let is_first = batch.replies == 0;
        batch.bytes.extend_from_slice(&self.bytes);
        batch.replies += self.replies + usize::from(asking);
        batch.silence_max = if is_first { self.silence_max } else { batch.silence_max.max(self.silence_max) };
    }

    /// Takes note of what came for it.
    fn settle(
        &mut self,
        mut answers: Vec<Answer>,
        address: &str,
        broken: Option<&Broken>,
        redirections: &Redirections,
        next: &mut Redirections,
    ) {
        if answers.len() < self.expected(redirections) {
            return match broken {
                Some(Broken::Lost(error)) if self.writes => {
                    self.refusal = format!(
                        "UNCERTAIN the connection to {address} broke after the write was sent ({error}): it may have been \
                         carried out or not"
                    );
                    self.give_up();
                }
                Some(Broken::Lost(error) | Broken::NotSent(error)) => {
                    self.refusal = format!("CLUSTERDOWN {address} does not answer the proxy: {error}");
                }
                None => {}
            };
        }
        let refused = answers.iter().find_map(|answer| match &answer.value {
            Value::Error(why) if is_for_elsewhere(why) => Some(String::from_utf8_lossy(why).into_owned()),
            _ => None,
        });
        match refused {
            None => self.answer = answers.pop(),
            Some(why) => {
                if let (Target::Slot(slot), Some(redirection)) = (self.target, Redirection::parse(&why)) {
                    next.insert(slot, redirection);
                }
                self.refusal = why;
            }
        }
    }

    /// Answers with the refusal.
    fn give_up(&mut self) {
        let mut bytes = Vec::new();
        Reply::new(&mut bytes, Protocol::Resp2).error(&self.refusal);
        self.answer = Some(Answer { bytes, value: Value::Error(self.refusal.clone().into_bytes()) });
    }
}

/// Whether an error says that the request was not carried out, and may be elsewhere or later.
fn is_for_elsewhere(error: &[u8]) -> bool {
    let codes = [&b"MOVED "[..], b"ASK ", b"TRYAGAIN ", b"CLUSTERDOWN ", b"READONLY "];
    codes.iter().any(|code| error.starts_with(code))
}

impl Redirection {
    /// Reads `MOVED slot host:port` and `ASK slot host:port`.
    fn parse(error: &str) -> Option<Self> {
        let mut words = error.split(' ');
        let asking = match words.next()? {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        let to = words.nth(1).filter(|to| !to.is_empty())?;
        Some(Self { to: to.to_owned(), asking })
    }
}

#[cfg(test)]
mod tests {
    use node_core::{
        resp::{ArgsBuf, Value},
        slot::Slot,
    };

    use super::{Answer, Redirection, Redirections, keep_order};
    use crate::server::proxy::plan::Request;

    fn request(key: &str) -> Request {
        let words: ArgsBuf = ["GET", key].into_iter().collect();
        Request::on_slot(Slot::of(key.as_bytes()), words.as_args(), false)
    }

    fn answer(value: Value) -> Answer {
        Answer { bytes: Vec::new(), value }
    }

    #[test]
    fn what_was_overtaken_on_its_slot_is_not_sent_again() {
        let mut run = [request("a"), request("b"), request("a"), request("b")];
        run[1].parts[0].answer = Some(answer(Value::Null));
        run[2].parts[0].answer = Some(answer(Value::Null));
        let mut parts: Vec<_> = run.iter_mut().flat_map(|request| &mut request.parts).collect();
        keep_order(&mut parts);
        let is_open: Vec<_> = parts.iter().map(|part| part.answer.is_none()).collect();
        assert_eq!(is_open, [false, false, false, true]);
    }

    #[test]
    fn a_redirection_is_followed_and_another_error_is_an_answer() {
        let mut next = Redirections::new();
        let part = &mut request("a").parts[0];
        let moved = answer(Value::Error(b"MOVED 15495 127.0.0.1:7000".to_vec()));
        part.settle(vec![moved], "here:1", None, &Redirections::new(), &mut next);
        assert!(part.answer.is_none());
        let to = Redirection { to: "127.0.0.1:7000".to_owned(), asking: false };
        assert_eq!(next.values().collect::<Vec<_>>(), [&to]);
        let wrong = answer(Value::Error(b"WRONGTYPE x".to_vec()));
        part.settle(vec![wrong], "here:1", None, &Redirections::new(), &mut next);
        assert!(part.answer.is_some());
    }
}
