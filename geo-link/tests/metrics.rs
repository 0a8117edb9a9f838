//! The metrics that dashboards and alerts depend on, by their names and labels.

mod common;

use common::{Lab, wait_until};
use metrics_exporter_prometheus::PrometheusBuilder;

#[test]
fn links_are_measured_at_both_ends() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("no other test of this binary installs one");
    let lab = Lab::new(["north", "south"]);
    let (north, south) = (lab.start("north"), lab.start("south"));
    north.set("key", "1");
    south.wait_for("key", Some("1"));
    // By the tail, once the clone is through.
    south.wait_complete();
    north.set("key", "2");
    south.wait_for("key", Some("2"));
    wait_until("the clock was measured", || north.out("south").clock_offset_seconds.is_some());
    south.gateway.region().refresh_metrics(south.now());
    let expected = [
        "meridian_link_up{from=\"north\",to=\"south\"} 1",
        "meridian_link_up{from=\"south\",to=\"north\"} 1",
        "meridian_replication_lag_seconds{from=\"north\",to=\"south\"} 0.",
        "meridian_replication_delay_seconds_count{from=\"north\",to=\"south\"} ",
        "meridian_link_bytes_total{from=\"north\",to=\"south\",kind=\"raw\"} ",
        "meridian_link_bytes_total{from=\"north\",to=\"south\",kind=\"wire\"} ",
        "meridian_link_records_total{from=\"north\",to=\"south\",outcome=\"applied\"} 2",
        "meridian_link_connects_total{from=\"north\",to=\"south\"} 1",
        "meridian_link_held{from=\"north\",to=\"south\"} 0",
        "meridian_clock_offset_seconds{peer=\"south\"} ",
    ];
    for line in expected {
        wait_until(line, || handle.render().contains(line));
    }
}
