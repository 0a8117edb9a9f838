//! What a person sees of a lab again and again: how far behind each region is, and what it holds.
//!
//! Beside the lag of a link stands the delay that the WAN was told to have, since only the two together say anything:
//! 160 ms of lag over 150 ms of distance is as good as it gets, over 50 ms it is not. Everything here is a function of
//! a plan and a snapshot; the screen itself is [`terminal`](crate::terminal). Where it is too low for every node, each region
//! is a line, and where it is too low for that there is a line for all.

use std::{collections::BTreeSet, time::Duration};

use super::{link::Link, look::Snapshot, plan::Plan, regions};
use crate::terminal::{Line, Style};

/// With more links than this the single line sums them up.
const LINKS_IN_A_LINE: usize = 6;

/// Alerts that are shown; where there are more the last line says how many.
const ALERTS_SHOWN: usize = 6;

/// What is shown over and over, the links and what each region holds: as much of it as `fits` takes lines. None if it takes
/// too few for even the least.
pub(super) fn live(plan: &Plan, snapshot: &Snapshot, fits: impl Fn(usize) -> bool) -> Option<Vec<Line>> {
    [regions::in_full, regions::in_brief].into_iter().find_map(|regions| {
        let mut lines = Vec::new();
        if plan.topology.is_some() {
            lines.extend(links(plan, snapshot));
            lines.push(Line::default());
        }
        lines.extend(regions(plan, snapshot));
        if plan.prometheus.is_some() {
            lines.push(Line::default());
            lines.extend(alerts(snapshot));
        }
        fits(lines.len()).then_some(lines)
    })
}

fn links(plan: &Plan, snapshot: &Snapshot) -> Vec<Line> {
    let width = plan.regions.iter().map(|region| region.name.len()).max().unwrap_or(0);
    let pair_width = 2 * width + 4;
    let head = Line::default().left(Style::Dim, pair_width + 4, "  link").right(Style::Dim, 9, "one way");
    let mut lines = vec![head.right(Style::Dim, 11, "lag").with(Style::Dim, "   state")];
    for link in all_links(plan, snapshot) {
        let (style, state) = link.state();
        let row = format!("  {:<width$} -> {}", link.from(), link.to());
        let row = Line::default().left(Style::Plain, pair_width + 4, &row);
        let row = row.right(Style::Dim, 9, &one_way(&link)).right(style, 11, &lag(&link));
        lines.push(row.with(Style::Plain, "   ").with(style, state));
    }
    lines
}

/// What fires. As many lines whatever there is, so that the rest stays in its place.
fn alerts(snapshot: &Snapshot) -> Vec<Line> {
    let mut lines = vec![Line::default().with(Style::Dim, "  alerts")];
    match snapshot.alerts.as_deref() {
        None => lines.push(Line::default().with(Style::Dim, "  prometheus does not answer")),
        Some([]) => lines.push(Line::default().with(Style::Good, "  none fires")),
        Some(firing) => {
            let shown = if firing.len() > ALERTS_SHOWN { ALERTS_SHOWN - 1 } else { firing.len() };
            lines.extend(firing[..shown].iter().map(|alert| {
                let style = if alert.is_critical { Style::Bad } else { Style::Warn };
                Line::default().with(style, format!("  {}: {}", alert.name, alert.summary))
            }));
            let rest = firing.len() - shown;
            lines.extend((rest > 0).then(|| Line::default().with(Style::Warn, format!("  and {rest} more"))));
        }
    }
    lines.resize(1 + ALERTS_SHOWN, Line::default());
    lines
}

fn all_links<'a>(plan: &'a Plan, snapshot: &'a Snapshot) -> impl Iterator<Item = Link<'a>> {
    plan.pairs().map(move |(from, to)| Link::between(plan, snapshot, from, to))
}

/// The same in one line, for a log.
pub(super) fn summary(plan: &Plan, snapshot: &Snapshot, uptime: Duration) -> String {
    let regions: Vec<_> = (0..plan.regions.len()).map(|index| regions::summary(plan, snapshot, index)).collect();
    let links: Vec<_> = all_links(plan, snapshot).collect();
    let links: Vec<_> = if links.len() <= LINKS_IN_A_LINE {
        let line = |link: &Link<'_>| {
            let (style, state) = link.state();
            let state = if style == Style::Good { String::new() } else { format!(" {state}") };
            format!("{}->{} {} (wan {}){state}", link.from(), link.to(), lag(link), one_way(link))
        };
        links.iter().map(line).collect()
    } else {
        let up = links.iter().filter(|link| link.state().0 == Style::Good).count();
        let worst = links.iter().filter_map(Link::lag).fold(0.0, f64::max);
        vec![format!("{up} of {} links up, worst lag {}", links.len(), time(worst))]
    };
    let firing: BTreeSet<_> = snapshot.alerts.iter().flatten().map(|alert| alert.name.as_str()).collect();
    let firing = firing.into_iter().map(|name| format!("{name} fires")).collect::<Vec<_>>();
    let parts = [links.join("  "), regions.join("  "), firing.join("  ")];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{:>5}s  {}", uptime.as_secs(), parts.join("  |  "))
}

fn one_way(link: &Link<'_>) -> String {
    link.one_way_ms().map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"))
}

fn lag(link: &Link<'_>) -> String {
    link.lag().map_or_else(|| "-".to_owned(), time)
}

fn time(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{:.0} ms", seconds * 1e3),
        ..600.0 => format!("{seconds:.1} s"),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use clap::Parser;

    use super::{Plan, Snapshot, live, summary, time};
    use crate::lab::{LabArgs, cluster::tests::founded, look::Status, plan::PrometheusPlan, prometheus::Alert};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        lab: LabArgs,
    }

    /// Two regions 50 ms apart: one streams, and the way back is cut and no longer up.
    fn example() -> (Plan, Snapshot) {
        let args = Cli::parse_from(["lab", "--regions=us-east,eu-west", "--primaries=1", "--replicas=0"]).lab;
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
                r#"{"from": "eu-west", "up": false, "state": "down", "streams": 0, "lag_seconds": 12.3, "last_error": "timed out"}"#,
            ),
            status(
                r#"{"from": "us-east", "up": true, "state": "streaming", "streams": 1, "lag_seconds": 0.0534, "last_error": null}"#,
            ),
        ];
        let wan = r#"[{"from": "us-east", "to": "eu-west", "delay_ms": 50, "state": "up"},
                      {"from": "eu-west", "to": "us-east", "delay_ms": 70, "state": "blackhole"}]"#;
        (plan, Snapshot { nodes, wan: Some(serde_json::from_str(wan).unwrap()), ..Snapshot::default() })
    }

    fn print(lines: &[super::Line]) -> Vec<String> {
        lines.iter().map(|line| line.print(80, false)).collect()
    }

    #[test]
    fn lag_stands_beside_the_delay_of_its_link() {
        let (plan, snapshot) = example();
        let lines = print(&live(&plan, &snapshot, |_| true).unwrap());
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
        let lines = print(&live(&plan, &snapshot, |_| true).unwrap());
        assert_eq!(lines[1], "  us-east -> eu-west      50 ms          -   unknown");
        assert_eq!(lines[2], "  eu-west -> us-east      50 ms     12.3 s   down: timed out");
        assert_eq!(lines[6], "  eu-west       does not answer");
    }

    #[test]
    fn region_that_has_heard_nothing_yet_has_no_lag() {
        let (plan, mut snapshot) = example();
        let links = r#"{"from": "us-east", "up": true, "state": "cloning", "streams": 1, "lag_seconds": 1795457221.5}"#;
        let status = snapshot.nodes[1].as_mut().unwrap();
        status.links.incoming = vec![serde_json::from_str(links).unwrap()];
        let lines = print(&live(&plan, &snapshot, |_| true).unwrap());
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
    fn what_fires_stands_below_and_takes_as_much_room_as_nothing() {
        let (mut plan, mut snapshot) = example();
        plan.prometheus = Some(PrometheusPlan { address: ([127, 0, 0, 1], 7100).into(), faster: 1 });
        let mut shown = |alerts: Option<usize>| {
            let alert =
                |number| Alert { name: format!("Alert{number}"), is_critical: true, summary: "of this".to_owned() };
            snapshot.alerts = alerts.map(|count| (1..=count).map(alert).collect());
            print(&live(&plan, &snapshot, |_| true).unwrap()).split_off(7)
        };
        assert_eq!(shown(None)[..3], ["", "  alerts", "  prometheus does not answer"]);
        assert_eq!(shown(Some(0))[2], "  none fires");
        assert_eq!(shown(Some(7))[6..], ["  Alert5: of this", "  and 2 more"]);
        assert!([None, Some(0), Some(6)].into_iter().all(|alerts| shown(alerts).len() == 8));
        let line = summary(&plan, &snapshot, Duration::from_secs(5));
        assert!(
            line.ends_with("  |  Alert1 fires  Alert2 fires  Alert3 fires  Alert4 fires  Alert5 fires  Alert6 fires"),
            "{line}"
        );
    }

    #[test]
    fn regions_are_lines_where_nodes_have_no_room_and_nothing_is_shown_where_these_have_none() {
        let plan = Plan::new(&Cli::parse_from(["lab"]).lab, Path::new("/lab")).unwrap();
        let maps = plan.regions.iter().map(|region| Some(founded(region))).collect();
        let (nodes, gateways) = (plan.nodes().map(|_| None).collect(), plan.gateways().map(|_| None).collect());
        let snapshot = Snapshot { nodes, gateways, maps, ..Snapshot::default() };
        let heights =
            [40, 20, 10].map(|height| live(&plan, &snapshot, |lines| lines < height).map(|lines| lines.len()));
        // Links, shards and gateways; links and regions.
        assert_eq!(heights, [Some(7 + 1 + 7 + 1 + 4), Some(7 + 1 + 4), None]);
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!([0.0534, 9.9, 12.34, 3_000.0].map(time), ["53 ms", "9900 ms", "12.3 s", "50 min"]);
    }
}
