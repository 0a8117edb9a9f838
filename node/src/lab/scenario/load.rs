//! The load: clients of each region that ask for what the scenario's seed says, and write down what they are told.

use std::time::Duration;

use futures_util::future::join_all;
use node_core::resp::Value;
use scenario::{
    history::{Action, ClientId, Found, Key, Operation, Outcome, Place, ValueId},
    load::{Ask, Request, Requests},
};
use tokio::time::{self, MissedTickBehavior};

use super::{
    client::{Client, Failure, text},
    limits,
    run::Run,
};

/// Runs all clients until the load is over.
pub(super) async fn drive(run: &Run<'_>) {
    let load = &run.scenario.load;
    let has_clients = |place: &Place| load.has_clients(&run.plan.regions[usize::from(place.0)].name);
    let regions = run.places().into_iter().filter(has_clients);
    let clients = regions.flat_map(|region| (0..load.clients).map(move |_| region)).zip(0..);
    join_all(clients.map(|(region, number)| Driver::new(run, region, ClientId(number)).drive())).await;
}

/// One client.
struct Driver<'a> {
    run: &'a Run<'a>,
    id: ClientId,
    region: Place,
    requests: Requests,
    /// A connection to each region; it is used at home, but for reads that follow.
    clients: Vec<Client>,
}

impl<'a> Driver<'a> {
    fn new(run: &'a Run<'a>, region: Place, id: ClientId) -> Self {
        let regions = &run.plan.regions;
        let requests = Requests::new(&run.scenario.load, run.seed, id, region, regions.len());
        let nodes = |index: usize| regions[index].nodes.iter().map(|node| node.redis).collect();
        Self { run, id, region, requests, clients: (0..regions.len()).map(|index| Client::new(nodes(index))).collect() }
    }

    async fn drive(mut self) {
        let load = &self.run.scenario.load;
        let mut pace = time::interval(Duration::from_secs(load.clients.into()) / load.rate);
        // Who was held up does not make up for it.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.run.is_over.get() {
            pace.tick().await;
            let request = self.requests.next_request();
            self.ask(request).await;
        }
    }

    async fn ask(&mut self, Request { key, ask }: Request) {
        let name = key.to_string();
        let size = self.run.scenario.load.value_size.as_usize();
        let action = action(ask);
        match ask {
            Ask::Set(value, None) => self.at_home(key, action, &["SET", &name, &value.text(size)]).await,
            Ask::Set(value, Some(ttl)) => {
                let ttl = ttl.as_millis().to_string();
                self.at_home(key, action, &["SET", &name, &value.text(size), "PX", &ttl]).await
            }
            Ask::Get => self.at_home(key, action, &["GET", &name]).await,
            Ask::Delete => self.at_home(key, action, &["DEL", &name]).await,
            Ask::Expire(ttl) => {
                self.at_home(key, action, &["PEXPIRE", &name, &ttl.as_millis().to_string()]).await;
            }
            Ask::Increment => self.at_home(key, action, &["INCR", &name]).await,
            Ask::Follow(value, to) => self.follow(key, &name, value, to).await,
        }
    }

    async fn at_home(&mut self, key: Key, action: Action, words: &[&str]) {
        self.in_region(self.region, key, action, words).await;
    }

    /// Runs a command, and writes down what came of it; returns who answered.
    async fn in_region(
        &mut self,
        region: Place,
        key: Key,
        action: Action,
        words: &[&str],
    ) -> Option<std::net::SocketAddr> {
        let called = self.run.now();
        let result = self.clients[usize::from(region.0)].run(words[1], words).await;
        let node = result.as_ref().ok().map(|answer| answer.node);
        let outcome = outcome(action, result.map(|answer| answer.value));
        self.note(region, key, called, action, outcome);
        node
    }

    fn note(&self, region: Place, key: Key, called: Duration, action: Action, outcome: Outcome) {
        let returned = self.run.now();
        self.run.note(Operation { client: self.id, region, key, called, returned, action, outcome });
    }

    /// Writes at home, and reads it elsewhere once the token of the node that took it is reached there.
    async fn follow(&mut self, key: Key, name: &str, value: ValueId, to: Place) {
        let size = self.run.scenario.load.value_size.as_usize();
        let set = Action::Set(value, None);
        let taken = self.in_region(self.region, key, set, &["SET", name, &value.text(size)]).await;
        let Some(writer) = taken else { return };
        let home = &mut self.clients[usize::from(self.region.0)];
        let token = home.run_at(writer, &["REGION", "TOKEN"], false, limits::ANSWER_MAX).await;
        let Some(token) = token.ok().as_ref().and_then(text) else { return };
        // Also how it learns who owns the key there.
        let Some(reader) = self.in_region(to, key, Action::Get, &["GET", name]).await else { return };
        let patience = limits::FOLLOW_MAX.as_millis().to_string();
        let away = &mut self.clients[usize::from(to.0)];
        let words = ["REGION", "AWAIT", &token, &patience];
        let reached = away.run_at(reader, &words, false, limits::FOLLOW_MAX + limits::ANSWER_MAX).await;
        if !matches!(reached, Ok(Value::Integer(1))) {
            return;
        }
        let called = self.run.now();
        let found = away.run_at(reader, &["GET", name], false, limits::ANSWER_MAX).await;
        let action = Action::Follow(value);
        self.note(to, key, called, action, outcome(action, found));
    }
}

fn action(ask: Ask) -> Action {
    match ask {
        Ask::Set(value, ttl) => Action::Set(value, ttl),
        Ask::Get => Action::Get,
        Ask::Delete => Action::Delete,
        Ask::Expire(ttl) => Action::Expire(ttl),
        Ask::Increment => Action::Increment,
        Ask::Follow(value, _) => Action::Set(value, None),
    }
}

/// What a client was told.
fn outcome(action: Action, result: Result<Value, Failure>) -> Outcome {
    let value = match result {
        Ok(value) => value,
        Err(Failure::Refused(error)) => return Outcome::Refused(error),
        Err(Failure::Unknown(error)) => return Outcome::Unknown(error),
    };
    match (action, value) {
        (Action::Set(..), Value::Simple(_)) => Outcome::Done,
        (Action::Get | Action::Follow(_), Value::Null) => Outcome::Found(None),
        (Action::Get | Action::Follow(_), Value::Bulk(bytes)) => Outcome::Found(Some(found(&bytes))),
        (Action::Delete | Action::Expire(_), Value::Integer(count)) => Outcome::Was(count > 0),
        (Action::Increment, Value::Integer(number)) => Outcome::Number(number.unsigned_abs()),
        (_, other) => Outcome::Unknown(format!("an answer of another kind: {other:?}")),
    }
}

/// What stood in these bytes.
pub(super) fn found(bytes: &[u8]) -> Found {
    Found::parse(&String::from_utf8_lossy(bytes))
}
