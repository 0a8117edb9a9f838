//! `meridian region status`: how each region stands with each other one, as its primaries see it.
//!
//! What is true of a region is what is true of the hindmost of its primaries: its link is up if every primary has its part, as far behind as
//! the one that is furthest behind.

use std::process::ExitCode;

use clap::Args;
use config::PeerAddress;
use serde_json::{Value, json};

use super::{connection::ConnectionArgs, contact::meet};
use crate::{
    cli::cluster::output::Output,
    terminal::{Line, Style},
};

/// Show the links of regions: state, lag, and how far a clone has come
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Any node of each region that is to be shown, where clients connect
    #[arg(long, value_name = "HOST:PORT", required = true, value_delimiter = ',')]
    nodes: Vec<PeerAddress>,

    /// Print it as one line of JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let (mut lines, mut all) = (Vec::new(), Vec::new());
    for mut region in meet(&args.connection.dialler()?, &args.nodes).await? {
        let mut nodes = Vec::new();
        for primary in region.primaries() {
            nodes.push(region.status(&primary).await?);
        }
        let peers: Vec<Peer> = names(&nodes).into_iter().map(|name| Peer::of(&name, &nodes)).collect();
        let complete = nodes.iter().all(|node| node["complete"] == true);
        let identity = &region.identity;
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(head(&format!("{} (id {})", identity.name, identity.id), complete, peers.len()));
        lines.extend(peers.iter().map(Peer::line));
        let peers: Vec<_> = peers.iter().map(Peer::json).collect();
        all.push(json!({ "name": identity.name, "id": identity.id, "complete": complete, "peers": peers }));
    }
    Output::new(args.json).table(&lines, &json!({ "regions": all }))?;
    Ok(ExitCode::SUCCESS)
}

/// The other regions that a node knows, by its status.
pub(super) fn peers(status: &Value) -> Vec<&str> {
    links(status, "in").filter_map(|link| link["from"].as_str()).collect()
}

fn links<'a>(status: &'a Value, direction: &str) -> impl Iterator<Item = &'a Value> {
    status["links"][direction].as_array().into_iter().flatten()
}

/// The regions that any of the nodes knows, each once.
fn names(nodes: &[Value]) -> Vec<String> {
    let mut names: Vec<_> = nodes.iter().flat_map(peers).map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Another region, as all primaries of one see it together.
#[derive(Debug, PartialEq)]
struct Peer {
    name: String,
    /// Whether every primary hears it, and is heard.
    up: bool,
    /// The states that its links to and from are in, at any primary.
    states: Vec<String>,
    lag_seconds: f64,
    rtt_seconds: Option<f64>,
    /// Slots of a clone that are through, and of how many.
    clone: Option<(u64, u64)>,
}

impl Peer {
    fn of(name: &str, nodes: &[Value]) -> Self {
        let of = |direction: &'static str, key: &'static str| {
            nodes.iter().flat_map(move |node| links(node, direction)).filter(move |link| link[key] == name)
        };
        let both = || of("in", "from").chain(of("out", "to"));
        let mut states: Vec<_> = both().filter_map(|link| link["state"].as_str()).map(str::to_owned).collect();
        states.sort_unstable();
        states.dedup();
        let clones = of("in", "from")
            .map(|link| &link["clone"])
            .filter_map(|clone| Some((clone["slots"].as_u64()?, clone["of"].as_u64()?)));
        Self {
            name: name.to_owned(),
            up: both().all(|link| link["up"] == true) && both().count() == 2 * nodes.len(),
            states,
            lag_seconds: of("in", "from").filter_map(|link| link["lag_seconds"].as_f64()).fold(0.0, f64::max),
            rtt_seconds: of("out", "to").filter_map(|link| link["rtt_seconds"].as_f64()).reduce(f64::min),
            clone: clones.reduce(|one, other| (one.0 + other.0, one.1 + other.1)),
        }
    }

    fn line(&self) -> Line {
        let (style, up) = if self.up { (Style::Good, "up") } else { (Style::Bad, "down") };
        let line = Line::default().left(Style::Bold, 18, &format!("  {}", self.name)).left(style, 6, up);
        let line = line.right(Style::Plain, 12, &format!("{:.3} s", self.lag_seconds));
        let rtt = self.rtt_seconds.map_or_else(|| "-".to_owned(), |rtt| format!("{:.1} ms", rtt * 1e3));
        let line = line.right(Style::Plain, 12, &rtt).with(Style::Dim, format!("   {}", self.states.join(", ")));
        match self.clone {
            Some((slots, of)) => line.with(Style::Warn, format!("   clone: {slots} of {of} slots")),
            None => line,
        }
    }

    fn json(&self) -> Value {
        let clone = self.clone.map(|(slots, of)| json!({ "slots": slots, "of": of }));
        json!({
            "name": self.name, "up": self.up, "states": self.states, "lag_seconds": self.lag_seconds,
            "rtt_seconds": self.rtt_seconds, "clone": clone,
        })
    }
}

fn head(region: &str, complete: bool, peers: usize) -> Line {
    let line = Line::default().left(Style::Bold, 24, region);
    if peers == 0 {
        return line.with(Style::Dim, "alone");
    }
    let line = line.right(Style::Dim, 12, "lag").right(Style::Dim, 12, "round trip");
    if complete { line } else { line.with(Style::Warn, "   not complete yet") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Peer, names};

    #[test]
    fn a_region_stands_where_the_hindmost_of_its_primaries_does() {
        let node = |up: bool, lag: f64, slots: u64| {
            json!({ "links": {
                "in": [{ "from": "eu-west", "up": up, "state": "cloning", "lag_seconds": lag, "clone": { "slots": slots, "of": 8_192 } }],
                "out": [{ "to": "eu-west", "up": true, "state": "tailing", "rtt_seconds": lag / 10.0 }],
            } })
        };
        let nodes = [node(true, 0.5, 100), node(true, 2.0, 300)];
        assert_eq!(names(&nodes), ["eu-west"]);
        let peer = Peer::of("eu-west", &nodes);
        assert_eq!((peer.up, peer.lag_seconds, peer.rtt_seconds), (true, 2.0, Some(0.05)));
        assert_eq!((peer.states.join(" "), peer.clone), ("cloning tailing".to_owned(), Some((400, 16_384))));
        assert!(!Peer::of("eu-west", &[node(true, 0.0, 0), node(false, 0.0, 0)]).up);
        assert!(!Peer::of("eu-west", &[node(true, 0.0, 0), json!({})]).up, "one does not know it");
    }
}
