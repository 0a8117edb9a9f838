//! What types alone cannot say of a gateway's file.

use super::{
    check_announced, check_bus_files, check_clashes, check_distinct, require_addresses, require_link_files,
    within_durations,
};
use crate::{GatewayConfig, Problem, Problems, limits};

impl GatewayConfig {
    /// Notes everything that is wrong with the whole.
    pub fn check(&self, problems: &mut Problems) {
        let Self { region, gateway, cluster, admin, peers, .. } = self;
        let listeners =
            [("admin.listen", admin.listen), ("cluster.listen", cluster.listen), ("gateway.listen", gateway.listen)];
        check_clashes(&listeners, problems);
        within_durations("clock.max_drift", self.clock.max_drift, &limits::MAX_DRIFT, problems);
        problems.require(cluster.listen.is_on(), || {
            Problem::new("no node could ever reach this gateway").at("cluster.listen").label("this is off").help(
                "set `listen` to an address that nodes of the region can reach, such as listen = \"10.0.0.9:17379\"",
            )
        });
        check_announced(cluster.listen, cluster.announce.as_ref(), problems);
        problems.require(!cluster.seeds.is_empty(), || {
            Problem::new("this gateway would not find the nodes of its region")
                .at("cluster.seeds")
                .label("no node is named")
                .help("name the bus of a few nodes, such as seeds = [\"node-1.us-east.example:16379\"]; one that lives is enough")
        });
        require_link_files(&gateway.cert, &gateway.key, &gateway.ca, problems);
        check_bus_files(&cluster.cert, &cluster.key, &cluster.ca, problems);
        problems.require(!peers.is_empty(), || {
            Problem::new("there is no other region that this gateway could link to")
                .at("gateway")
                .label("no `[[peer]]` is named")
                .help("name each other region in a table [[peer]], with `region`, `id` and `addr`")
        });
        require_addresses(peers, problems);
        check_distinct(region, peers, gateway.listen, problems);
    }
}

#[cfg(test)]
mod tests {
    use crate::GatewayConfig;

    const BASE: &str = "
        region = { name = \"a\", id = 1 }
        gateway = { name = \"g\", listen = \"0.0.0.0:7103\", cert = \"c\", key = \"k\", ca = \"a\" }
        peer = [{ region = \"b\", id = 2, addr = [\"b:1\", \"b:2\"] }]
        ";

    /// The messages for a text that is valid in itself.
    fn problems(text: &str) -> Vec<String> {
        match GatewayConfig::parse("gateway.toml", text) {
            Ok(_) => Vec::new(),
            Err(report) => report.problems().map(|problem| problem.message().to_owned()).collect(),
        }
    }

    fn with_cluster(cluster: &str) -> Vec<String> {
        problems(&format!("{BASE}\ncluster = {{ {cluster} }}"))
    }

    #[test]
    fn a_gateway_needs_to_be_reached_and_to_find_its_nodes() {
        assert_eq!(with_cluster("listen = \"10.0.0.9:17379\", seeds = [\"n:1\"]"), [""; 0]);
        assert_eq!(with_cluster("listen = \"0.0.0.0:17379\", announce = \"g\", seeds = [\"n:1\"]"), [""; 0]);
        assert_eq!(
            with_cluster("listen = \"off\", seeds = []"),
            ["no node could ever reach this gateway", "this gateway would not find the nodes of its region"]
        );
        assert_eq!(
            with_cluster("listen = \"[::]:17379\", seeds = [\"n:1\"], cert = \"c\""),
            [
                "`cluster.key` is missing",
                "`cluster.ca` is missing",
                "other nodes would not know where to reach this one"
            ]
        );
    }

    #[test]
    fn listeners_do_not_clash() {
        assert_eq!(
            with_cluster("listen = \"127.0.0.1:7103\", seeds = [\"n:1\"]"),
            ["`gateway.listen` and `cluster.listen` cannot both listen on 0.0.0.0:7103"]
        );
        assert_eq!(
            with_cluster("listen = \"127.0.0.1:9380\", seeds = [\"n:1\"]"),
            ["`cluster.listen` and `admin.listen` cannot both listen on 127.0.0.1:9380"]
        );
    }

    #[test]
    fn peers_are_there_and_are_distinct() {
        let with = |peers: &str| {
            problems(&format!(
                "region = {{ name = \"a\", id = 1 }}
                gateway = {{ name = \"g\", listen = \"10.0.0.9:7103\", cert = \"c\", key = \"k\", ca = \"a\" }}
                cluster = {{ listen = \"127.0.0.1:17379\", seeds = [\"n:1\"] }}
                peer = [{peers}]"
            ))
        };
        assert_eq!(with(""), ["there is no other region that this gateway could link to"]);
        assert_eq!(
            with(
                "{ region = \"a\", id = 1, addr = \"b:1\" },
                { region = \"c\", id = 3, addr = [\"c:1\", \"b:1\", \"10.0.0.9:7103\"] }"
            ),
            [
                "two regions have the region a",
                "two regions have the id 1",
                "two regions have the addr b:1",
                "two regions have the addr 10.0.0.9:7103"
            ]
        );
    }

    #[test]
    fn what_makes_a_gateway_must_be_said() {
        assert_eq!(problems("[region]\n[gateway]"), ["`gateway` lacks the key `name`"]);
        assert_eq!(problems("gateway.name = \"g\""), ["`the file` lacks the key `region`"]);
        assert_eq!(
            problems("[region]\n[gateway]\nname = \"g\"\n[cluster]"),
            [
                "`gateway.cert` is missing",
                "`gateway.key` is missing",
                "`gateway.ca` is missing",
                "there is no other region that this gateway could link to",
                "no node could ever reach this gateway",
                "this gateway would not find the nodes of its region"
            ]
        );
    }
}
