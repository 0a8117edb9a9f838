//! What a person is told of a lab once it is ready: where everything is, and what to try.
//!
//! What is worth trying is what one cannot see elsewhere: a write that arrives over an ocean, a cable that is cut, a primary
//! that is killed. Each is a command that can be copied as it stands.

use super::{
    description::Pids,
    plan::{PROMETHEUS, Plan, RegionPlan},
};
use crate::terminal::{Line, Style};

/// What is printed once, when all is ready.
pub(super) fn lines(plan: &Plan, pids: &Pids) -> Vec<Line> {
    let nodes = plan.regions[0].nodes.len();
    let what = match &plan.regions[..] {
        [region] => format!("region {} of {nodes} nodes", region.name),
        regions if nodes == 1 => format!("{} regions", regions.len()),
        regions => format!("{} regions of {nodes} nodes each", regions.len()),
    };
    let head = Line::default().with(Style::Bold, format!("Meridian lab: {what} on this machine"));
    let mut lines = vec![Line::default(), head, Line::default()];
    lines.extend(processes(plan, pids));
    lines.extend([Line::default(), Line::default().with(Style::Dim, "  try")]);
    for command in worth_trying(plan, pids) {
        lines.push(Line::default().with(Style::Plain, format!("    {command}")));
    }
    let files = format!("  files and logs are in {}; Ctrl-C ends it all", plan.dir.display());
    lines.extend([Line::default(), Line::default().with(Style::Dim, files), Line::default()]);
    lines
}

/// All processes: where clients connect, where to look, and whom to kill.
fn processes(plan: &Plan, pids: &Pids) -> Vec<Line> {
    let others = [Some(plan.wan_name()), plan.prometheus.map(|_| PROMETHEUS)].into_iter().flatten();
    let width = plan.names().chain(others).map(str::len).max().unwrap_or(0) + 4;
    let row = |style: Style, name: &str, pid: &str, redis: &str, admin: &str| {
        let row =
            Line::default().left(if style == Style::Plain { Style::Bold } else { style }, width, &format!("  {name}"));
        row.left(style, 10, pid).left(style, 18, redis).with(style, admin)
    };
    let mut lines = vec![row(Style::Dim, "", "pid", "redis", "admin")];
    for (node, pid) in plan.nodes().zip(&pids.nodes) {
        let (redis, admin) = (node.redis.to_string(), format!("http://{}", node.admin));
        lines.push(row(Style::Plain, &node.name, &pid.to_string(), &redis, &admin));
    }
    for (gateway, pid) in plan.gateways().zip(&pids.gateways) {
        lines.push(row(Style::Plain, &gateway.name, &pid.to_string(), "", &format!("http://{}", gateway.admin)));
    }
    if let Some((topology, pid)) = plan.topology.as_ref().zip(pids.wan) {
        lines.push(row(Style::Plain, plan.wan_name(), &pid.to_string(), "", &format!("http://{}", topology.control)));
    }
    if let Some(prometheus) = plan.prometheus {
        lines.push(row(Style::Plain, PROMETHEUS, "", "", &format!("http://{}", prometheus.address)));
    }
    lines
}

/// Commands to begin with.
fn worth_trying(plan: &Plan, pids: &Pids) -> Vec<String> {
    let cluster = if plan.regions.iter().any(RegionPlan::is_cluster) { " -c" } else { "" };
    let client = |region: usize| format!("redis-cli{cluster} -p {}", plan.regions[region].nodes[0].redis.port());
    let mut commands = vec![format!("{} set hello world", client(0))];
    if let (Some(topology), [_, second, ..]) = (&plan.topology, &plan.regions[..]) {
        let control = topology.control;
        commands.extend([
            format!("{} get hello", client(1)),
            format!("curl -X POST http://{control}/partition -d '{{\"regions\":[\"{}\"]}}'", second.name),
            format!("curl -X POST http://{control}/heal"),
        ]);
    } else {
        let first = &plan.regions[0].nodes[0];
        let file = plan.file(&first.name, "toml");
        commands.push(format!("redis-cli --cluster check {}", first.redis));
        commands.push(format!("meridian cluster status --config {}", file.display()));
    }
    if let (Some(node), Some(pid)) = (plan.nodes().next(), pids.nodes.first()) {
        let command = plan.file(&node.name, "cmd");
        commands.push(format!("kill -9 {pid}; sleep 5; sh {}", command.display()));
    }
    commands
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::{Pids, Plan, lines};
    use crate::lab::LabArgs;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        lab: LabArgs,
    }

    fn text(args: &[&str]) -> (Plan, String) {
        let args = Cli::parse_from([&["lab"], args].concat()).lab;
        let plan = Plan::new(&args, Path::new("/lab")).unwrap();
        let nodes = (1_001..).take(plan.nodes().count()).collect();
        let gateways = (2_001..).take(plan.gateways().count()).collect();
        let pids = Pids { nodes, gateways, wan: plan.topology.as_ref().map(|_| 3_001) };
        let lines = lines(&plan, &pids);
        (plan, lines.iter().map(|line| line.print(100, false)).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn every_address_is_named() {
        for layout in [&[][..], &["--primaries=1", "--replicas=0"], &["--gateways=2"]] {
            let (plan, text) = text(layout);
            for node in plan.nodes() {
                assert!(text.contains(&node.redis.to_string()) && text.contains(&node.admin.to_string()), "{text}");
            }
            assert!(plan.gateways().all(|gateway| text.contains(&gateway.admin.to_string())), "{text}");
            assert!(text.contains(&format!("curl -X POST http://{}/heal", plan.topology.unwrap().control)), "{text}");
        }
    }

    #[test]
    fn clients_of_clusters_follow_redirections() {
        let (plan, linked) = text(&[]);
        let [first, second] = [0, 1].map(|region| plan.regions[region].nodes[0].redis.port());
        assert!(linked.contains("3 regions of 4 nodes each"), "{linked}");
        assert!(linked.contains(&format!("redis-cli -c -p {first} set hello world")), "{linked}");
        assert!(linked.contains(&format!("redis-cli -c -p {second} get hello")), "{linked}");
        assert!(linked.contains("kill -9 1001; sleep 5; sh /lab/us-east-1.cmd"), "{linked}");
        let (_, single) = text(&["--primaries=1", "--replicas=0"]);
        assert!(single.contains("redis-cli -p") && single.contains("sh /lab/us-east.cmd"), "{single}");
    }

    #[test]
    fn a_region_that_is_alone_names_its_nodes() {
        let (plan, text) = text(&["--regions=us-east", "--primaries=3", "--replicas=0"]);
        assert!(text.contains("region us-east of 3 nodes") && !text.contains("wan"), "{text}");
        assert!(plan.nodes().all(|node| text.contains(&node.name)));
        assert!(text.contains("meridian cluster status --config /lab/us-east-1.toml"));
    }
}
