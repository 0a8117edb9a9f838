//! What a person sees of a lab: where everything is, what to try, and how far behind each region is.
//!
//! Beside the lag of a link stands the delay that the WAN was told to have, since only the two together say anything:
//! 160 ms of lag over 150 ms of distance is as good as it gets, over 50 ms it is not. Everything here is a function of
//! a plan and a snapshot; the screen itself is [`terminal`](crate::terminal).

use std::time::Duration;

use super::{
    look::{LinkIn, Snapshot},
    plan::{Plan, RegionPlan},
    shards,
};
use crate::terminal::{Line, Style, grouped};

/// With more links than this the single line sums them up.
const LINKS_IN_A_LINE: usize = 6;

/// What is printed once, when all is ready.
pub(super) fn introduction(plan: &Plan) -> Vec<Line> {
    let width = name_width(plan);
    let what = match &plan.regions[..] {
        [region] => format!("region {} of {} nodes", region.name, region.nodes.len()),
        regions => format!("{} regions", regions.len()),
    };
    let head = Line::default().with(Style::Bold, format!("Meridian lab: {what} on this machine"));
    let mut lines = vec![Line::default(), head, Line::default()];
    let kind = if plan.topology.is_some() { "  region" } else { "  node" };
    let columns = Line::default().left(Style::Dim, width + 4, kind).left(Style::Dim, 18, "redis");
    lines.push(columns.with(Style::Dim, "admin"));
    for node in plan.nodes() {
        let row = Line::default().left(Style::Bold, width + 4, &format!("  {}", node.name));
        let row = row.left(Style::Plain, 18, &node.redis.to_string());
        lines.push(row.with(Style::Plain, format!("http://{}", node.admin)));
    }
    if let Some(topology) = &plan.topology {
        let row = Line::default().left(Style::Bold, width + 4, "  wan").left(Style::Plain, 18, "");
        lines.push(row.with(Style::Plain, format!("http://{}", topology.control)));
    }
    lines.extend([Line::default(), Line::default().with(Style::Dim, "  try")]);
    for command in worth_trying(plan) {
        lines.push(Line::default().with(Style::Plain, format!("    {command}")));
    }
    let files = format!("  files and logs are in {}; Ctrl-C ends it all", plan.dir.display());
    lines.extend([Line::default(), Line::default().with(Style::Dim, files), Line::default()]);
    lines
}

/// Commands to begin with.
fn worth_trying(plan: &Plan) -> Vec<String> {
    let port = |region: usize| plan.regions[region].nodes[0].redis.port();
    let Some(topology) = &plan.topology else {
        let file = plan.file(&plan.regions[0].nodes[0].name, "toml");
        return vec![
            format!("redis-cli -c -p {} set hello world", port(0)),
            format!("redis-cli --cluster check 127.0.0.1:{}", port(0)),
            format!("meridian cluster status --config {}", file.display()),
        ];
    };
    let (control, [a, b]) = (topology.control, [&plan.regions[0], &plan.regions[1]]);
    vec![
        format!("redis-cli -p {} set hello world", port(0)),
        format!("redis-cli -p {} get hello", port(1)),
        format!("curl -X PUT http://{control}/links/{}/{} -d '{{\"state\":\"blackhole\"}}'", a.name, b.name),
        format!("curl -X POST http://{control}/heal"),
    ]
}

/// What is shown over and over: the links, and what each region holds.
pub(super) fn live(plan: &Plan, snapshot: &Snapshot) -> Vec<Line> {
    let mut lines = Vec::new();
    if plan.topology.is_some() {
        lines.extend(links(plan, snapshot));
        lines.push(Line::default());
    }
    let width = name_width(plan);
    let is_single = |(_, region): &(usize, &RegionPlan)| !region.is_cluster();
    let (single, clusters): (Vec<_>, Vec<_>) = plan.regions.iter().enumerate().partition(is_single);
    if !single.is_empty() {
        let head = Line::default().left(Style::Dim, width + 4, "  region").right(Style::Dim, 13, "keys");
        lines.push(head.right(Style::Dim, 12, "memory"));
    }
    for (index, region) in single {
        let row = Line::default().left(Style::Plain, width + 4, &format!("  {}", region.name));
        lines.push(match snapshot.nodes.get(plan.first_node(index)).and_then(Option::as_ref) {
            None => row.with(Style::Bad, "     does not answer"),
            Some(status) => {
                let row = row.right(Style::Plain, 13, &grouped(status.keys));
                let row = row.right(Style::Dim, 12, &bytes(status.used_memory_bytes));
                if status.complete { row } else { row.with(Style::Warn, "   being refilled") }
            }
        });
    }
    lines.extend(clusters.into_iter().flat_map(|(index, _)| shards::lines(plan, snapshot, index)));
    lines
}

fn links(plan: &Plan, snapshot: &Snapshot) -> Vec<Line> {
    let width = name_width(plan);
    let pair_width = 2 * width + 4;
    let head = Line::default().left(Style::Dim, pair_width + 4, "  link").right(Style::Dim, 9, "one way");
    let mut lines = vec![head.right(Style::Dim, 11, "lag").with(Style::Dim, "   state")];
    for (from, to) in plan.pairs() {
        let [source, target] = [from, to].map(|index| plan.regions[index].name.as_str());
        let (style, state) = link_state(plan, snapshot, from, to);
        let row = Line::default().left(Style::Plain, pair_width + 4, &format!("  {source:<width$} -> {target}"));
        let row = row.right(Style::Dim, 9, &one_way(plan, snapshot, from, to));
        let row = row.right(style, 11, &lag(snapshot.link_in(plan, from, to)));
        lines.push(row.with(Style::Plain, "   ").with(style, state));
    }
    lines
}

/// The same in one line, for a log.
pub(super) fn summary(plan: &Plan, snapshot: &Snapshot, uptime: Duration) -> String {
    let keys = plan.regions.iter().enumerate().map(|(index, region)| {
        if region.is_cluster() {
            return shards::summary(plan, snapshot, index);
        }
        let status = snapshot.nodes.get(plan.first_node(index)).and_then(Option::as_ref);
        let keys = status.map_or_else(|| "silent".to_owned(), |status| format!("{} keys", grouped(status.keys)));
        format!("{} {keys}", region.name)
    });
    let links: Vec<_> = plan.pairs().collect();
    let name = |index: usize| plan.regions[index].name.as_str();
    let links: Vec<_> = if links.len() <= LINKS_IN_A_LINE {
        let link = |(from, to)| {
            let (style, state) = link_state(plan, snapshot, from, to);
            let state = if style == Style::Good { String::new() } else { format!(" {state}") };
            let lag = lag(snapshot.link_in(plan, from, to));
            format!("{}->{} {lag} (wan {}){state}", name(from), name(to), one_way(plan, snapshot, from, to))
        };
        links.into_iter().map(link).collect()
    } else {
        let up = |&&(from, to): &&(usize, usize)| link_state(plan, snapshot, from, to).0 == Style::Good;
        let seconds = |&(from, to): &(usize, usize)| snapshot.link_in(plan, from, to)?.lag();
        let worst = links.iter().filter_map(seconds).fold(0.0, f64::max);
        vec![format!("{} of {} links up, worst lag {}", links.iter().filter(up).count(), links.len(), time(worst))]
    };
    let parts = [links.join("  "), keys.collect::<Vec<_>>().join("  ")];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{:>5}s  {}", uptime.as_secs(), parts.join("  |  "))
}

/// What to say of a link. What the WAN does to it comes first, since it explains the rest.
fn link_state(plan: &Plan, snapshot: &Snapshot, from: usize, to: usize) -> (Style, String) {
    if let Some(wan) = snapshot.wan_link(plan, from, to).filter(|wan| wan.state != "up") {
        return (Style::Bad, format!("cut ({})", wan.state));
    }
    let Some(link) = snapshot.link_in(plan, from, to) else { return (Style::Bad, "unknown".to_owned()) };
    // Which end knows why a link holds or fails depends on the reason.
    let out = snapshot.link_out(plan, from, to);
    let held = link.state == "held" || out.is_some_and(|out| out.state == "held");
    let error = link.last_error.as_deref().or(out.and_then(|out| out.last_error.as_deref()));
    let because = |word: &str| error.map_or_else(|| word.to_owned(), |error| format!("{word}: {error}"));
    match link.state.as_str() {
        _ if held => (Style::Warn, because("held")),
        _ if !link.up => (Style::Bad, because("down")),
        "streaming" => (Style::Good, "up".to_owned()),
        // It is being refilled, by this link or by another.
        other => (Style::Warn, format!("up, {other}")),
    }
}

/// The delay that the WAN has now; what it began with, if it does not answer.
fn one_way(plan: &Plan, snapshot: &Snapshot, from: usize, to: usize) -> String {
    let planned = || plan.link(&plan.regions[from].name, &plan.regions[to].name).map(|link| link.delay.ms());
    let ms = snapshot.wan_link(plan, from, to).map(|link| link.delay_ms).or_else(planned);
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"))
}

fn lag(link: Option<&LinkIn>) -> String {
    link.and_then(LinkIn::lag).map_or_else(|| "-".to_owned(), time)
}

fn time(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{:.0} ms", seconds * 1e3),
        ..600.0 => format!("{seconds:.1} s"),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

fn name_width(plan: &Plan) -> usize {
    plan.nodes().map(|node| node.name.len()).max().unwrap_or(0)
}

fn bytes(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB")];
    let (unit, name) = units.into_iter().find(|(unit, _)| bytes >= *unit).unwrap_or((1 << 10, "KiB"));
    format!("{:.1} {name}", bytes as f64 / unit as f64)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use clap::Parser;

    use super::{Plan, Snapshot, bytes, introduction, live, summary, time};
    use crate::lab::{LabArgs, look::Status};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        lab: LabArgs,
    }

    /// Two regions 50 ms apart: one streams, and the way back is cut and no longer up.
    fn example() -> (Plan, Snapshot) {
        let args = Cli::parse_from(["lab", "--regions=us-east,eu-west"]).lab;
        let plan = Plan::new(&args, Path::new("/lab")).unwrap();
        let status = |incoming: &str| -> Option<Status> {
            let status = format!(
                r#"{{"version": "0", "complete": true, "keys": 12345, "used_memory_bytes": 2097152,
                     "links": {{"out": [], "in": [{incoming}]}}}}"#
            );
            Some(serde_json::from_str(&status).unwrap())
        };
        let nodes = vec![
            status(
                r#"{"from": "eu-west", "up": false, "state": "down", "lag_seconds": 12.3, "last_error": "timed out"}"#,
            ),
            status(
                r#"{"from": "us-east", "up": true, "state": "streaming", "lag_seconds": 0.0534, "last_error": null}"#,
            ),
        ];
        let wan = r#"[{"from": "us-east", "to": "eu-west", "delay_ms": 50, "state": "up"},
                      {"from": "eu-west", "to": "us-east", "delay_ms": 70, "state": "blackhole"}]"#;
        (plan, Snapshot { nodes, maps: Vec::new(), wan: Some(serde_json::from_str(wan).unwrap()) })
    }

    fn print(lines: &[super::Line]) -> Vec<String> {
        lines.iter().map(|line| line.print(80, false)).collect()
    }

    #[test]
    fn lag_stands_beside_the_delay_of_its_link() {
        let (plan, snapshot) = example();
        let lines = print(&live(&plan, &snapshot));
        assert_eq!(
            lines,
            [
                "  link                  one way        lag   state",
                "  us-east -> eu-west      50 ms      53 ms   up",
                "  eu-west -> us-east      70 ms     12.3 s   cut (blackhole)",
                "",
                "  region            keys      memory",
                "  us-east         12,345     2.0 MiB",
                "  eu-west         12,345     2.0 MiB",
            ]
        );
    }

    #[test]
    fn down_link_says_why_and_silent_node_is_named() {
        let (plan, mut snapshot) = example();
        snapshot.wan = None;
        snapshot.nodes[1] = None;
        let lines = print(&live(&plan, &snapshot));
        assert_eq!(lines[1], "  us-east -> eu-west      50 ms          -   unknown");
        assert_eq!(lines[2], "  eu-west -> us-east      50 ms     12.3 s   down: timed out");
        assert_eq!(lines[6], "  eu-west       does not answer");
    }

    #[test]
    fn region_that_has_heard_nothing_yet_has_no_lag() {
        let (plan, mut snapshot) = example();
        let links = r#"{"from": "us-east", "up": true, "state": "cloning", "lag_seconds": 1795457221.5}"#;
        let status = snapshot.nodes[1].as_mut().unwrap();
        status.links.incoming = vec![serde_json::from_str(links).unwrap()];
        let lines = print(&live(&plan, &snapshot));
        assert_eq!(lines[1], "  us-east -> eu-west      50 ms          -   up, cloning");
    }

    #[test]
    fn summary_fits_a_line_of_a_log() {
        let (plan, snapshot) = example();
        let line = summary(&plan, &snapshot, Duration::from_secs(5));
        let links = "us-east->eu-west 53 ms (wan 50 ms)  eu-west->us-east 12.3 s (wan 70 ms) cut (blackhole)";
        assert_eq!(line, format!("    5s  {links}  |  us-east 12,345 keys  eu-west 12,345 keys"));
    }

    #[test]
    fn introduction_names_every_address() {
        let (plan, _) = example();
        let text = print(&introduction(&plan)).join("\n");
        for node in plan.nodes() {
            assert!(text.contains(&node.redis.to_string()) && text.contains(&node.admin.to_string()));
        }
        assert!(text.contains(&format!("curl -X POST http://{}/heal", plan.topology.unwrap().control)));
    }

    #[test]
    fn introduction_of_a_cluster_names_its_nodes() {
        let args = Cli::parse_from(["lab", "--regions=us-east", "--primaries=3"]).lab;
        let plan = Plan::new(&args, Path::new("/lab")).unwrap();
        let text = print(&introduction(&plan)).join("\n");
        assert!(text.contains("region us-east of 3 nodes") && !text.contains("wan"), "{text}");
        assert!(plan.nodes().all(|node| text.contains(&node.name)));
        assert!(text.contains("meridian cluster status --config /lab/us-east-1.toml"));
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!([0.0534, 9.9, 12.34, 3_000.0].map(time), ["53 ms", "9900 ms", "12.3 s", "50 min"]);
        assert_eq!([68, 1 << 20, 3 << 30].map(bytes), ["0.1 KiB", "1.0 MiB", "3.0 GiB"]);
    }
}
