//! INFO: the state of the server, in Redis's sections and under Redis's names.
//!
//! Exporters and ready-checks read these fields, so what has no meaning here still stands where they look, with the
//! value that is true: nothing is loading, nothing is saved. What Redis does not have goes by names that begin with
//! `meridian_`.

use std::{
    fmt::{Display, Write as _},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use node_core::{
    command_table::TABLE,
    keyspace::Keyspace,
    store::{Census, Counters},
};

use super::{Context, Done, connection::REDIS_VERSION};
use crate::{process, server::Server};

/// A section: its name, whether it is shown unless asked for, and what writes it.
type Section = (&'static str, bool, fn(&mut Text<'_>));

const SECTIONS: &[Section] = &[
    ("server", true, server),
    ("clients", true, clients),
    ("memory", true, memory),
    ("persistence", true, persistence),
    ("stats", true, stats),
    ("replication", true, replication),
    ("cpu", true, cpu),
    ("modules", true, |_| {}),
    ("commandstats", false, commandstats),
    ("errorstats", true, errorstats),
    ("latencystats", false, latencystats),
    ("cluster", true, cluster),
    ("keyspace", true, keyspace),
    ("meridian", true, meridian),
];

/// `INFO [section ...]`
pub(super) fn info(call: Context<'_, '_, '_>) -> Done {
    let words: Vec<_> = call.args.from(1).iter().map(<[u8]>::to_ascii_lowercase).collect();
    let asked = |name: &str| words.iter().any(|word| word == name.as_bytes());
    let all = asked("all") || asked("everything");
    let default = words.is_empty() || asked("default");
    let mut counts = Counts::default();
    counts.take(call.keyspace);
    let clustered = call.worker.server.cluster.is_some() && call.session.proxied.is_none();
    let now = call.keyspace.now().monotonic;
    let mut text = Text { server: &call.worker.server, clustered, now, counts, out: String::new() };
    for (name, by_default, write) in SECTIONS {
        if all || (default && *by_default) || asked(name) {
            text.title(name);
            write(&mut text);
        }
    }
    call.reply.verbatim(&text.out);
    Ok(())
}

/// What the stripes say, looked up once.
#[derive(Default)]
struct Counts {
    census: Census,
    counters: Counters,
    log_bytes: usize,
    idle_bytes: usize,
}

impl Counts {
    /// By the keyspace and not by the store: a transaction may hold all stripes.
    fn take(&mut self, keyspace: &mut Keyspace<'_>) {
        for index in 0..keyspace.store().stripes() {
            keyspace.on_stripe(index, |stripe| {
                self.census.add(&stripe.census());
                self.counters.add(&stripe.counters());
                self.log_bytes += stripe.log_bytes();
                self.idle_bytes += stripe.idle_bytes();
            });
        }
    }
}

/// The text as it grows.
struct Text<'s> {
    server: &'s Server,
    /// Whether the client may know of the cluster.
    clustered: bool,
    now: Duration,
    counts: Counts,
    out: String,
}

impl Text<'_> {
    fn title(&mut self, name: &str) {
        if !self.out.is_empty() {
            self.out.push_str("\r\n");
        }
        let (first, rest) = name.split_at(1);
        let title = match name {
            "cpu" => "CPU".to_owned(),
            _ => first.to_uppercase() + rest,
        };
        self.put(format_args!("# {title}"));
    }

    fn line(&mut self, field: &str, value: impl Display) {
        self.put(format_args!("{field}:{value}"));
    }

    fn put(&mut self, line: impl Display) {
        // A string takes every write.
        let _ = write!(self.out, "{line}\r\n");
    }

    fn lines(&mut self, lines: &[(&str, &dyn Display)]) {
        for (field, value) in lines {
            self.line(field, value);
        }
    }

    fn uptime(&self) -> u64 {
        self.now.saturating_sub(self.server.started.monotonic).as_secs()
    }
}

fn server(text: &mut Text<'_>) {
    let clustered = text.clustered;
    let (server, uptime) = (text.server, text.uptime());
    let unix = server.clock.now().wall.unix();
    let port = server.address.map_or(0, |address| address.port());
    text.lines(&[
        ("redis_version", &REDIS_VERSION),
        ("redis_git_sha1", &"00000000"),
        ("redis_git_dirty", &0),
        ("redis_build_id", &"0"),
        ("redis_mode", &if clustered { "cluster" } else { "standalone" }),
        ("os", &format_args!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("arch_bits", &usize::BITS),
        ("multiplexing_api", &"epoll"),
        ("process_id", &std::process::id()),
        ("run_id", &server.run_id),
        ("tcp_port", &port),
        ("server_time_usec", &unix.as_micros()),
        ("uptime_in_seconds", &uptime),
        ("uptime_in_days", &(uptime / 86_400)),
        ("hz", &10),
        ("configured_hz", &10),
        ("lru_clock", &(unix.as_secs() & 0x00ff_ffff)),
        ("executable", &std::env::current_exe().unwrap_or_default().display()),
        ("config_file", &server.config_file.as_deref().unwrap_or_default()),
        ("io_threads_active", &usize::from(server.config.node.worker_count() > 1)),
    ]);
}

fn clients(text: &mut Text<'_>) {
    let clients = text.server.clients.all();
    let blocked = clients.iter().filter(|client| client.blocked.load(Relaxed)).count();
    let unsent = clients.iter().map(|client| client.unsent_bytes.load(Relaxed)).max().unwrap_or_default();
    let pending = clients.iter().map(|client| client.pending_bytes.load(Relaxed)).max().unwrap_or_default();
    let max = text.server.parameters.max_clients.load(Relaxed);
    text.lines(&[
        ("connected_clients", &text.server.clients.connected()),
        ("cluster_connections", &0),
        ("maxclients", &max),
        ("client_recent_max_input_buffer", &pending),
        ("client_recent_max_output_buffer", &unsent),
        ("blocked_clients", &blocked),
        ("tracking_clients", &0),
        ("clients_in_timeout_table", &0),
    ]);
}

fn memory(text: &mut Text<'_>) {
    let server = text.server;
    let (settings, resident) = (server.store.settings(), process::resident_bytes());
    let (used, limit, machine) = (settings.used_bytes() as u64, settings.max_memory() as u64, process::machine_bytes());
    let peak = server.peak_bytes.fetch_max(used, Relaxed).max(used);
    let (log, idle) = (text.counts.log_bytes, text.counts.idle_bytes);
    let policy = settings.policy().name();
    let ratio = |bytes: u64| bytes as f64 / used.max(1) as f64;
    text.lines(&[
        ("used_memory", &used),
        ("used_memory_human", &human(used)),
        ("used_memory_rss", &resident),
        ("used_memory_rss_human", &human(resident)),
        ("used_memory_peak", &peak),
        ("used_memory_peak_human", &human(peak)),
        ("used_memory_peak_perc", &format_args!("{:.2}%", used as f64 * 100.0 / peak.max(1) as f64)),
        ("used_memory_overhead", &log),
        ("used_memory_startup", &0),
        ("used_memory_dataset", &used),
        ("allocator_allocated", &(used + idle as u64 + log as u64)),
        ("allocator_active", &(used + idle as u64 + log as u64)),
        ("allocator_resident", &resident),
        ("total_system_memory", &machine),
        ("total_system_memory_human", &human(machine)),
        ("used_memory_lua", &0),
        ("used_memory_scripts", &0),
        ("maxmemory", &limit),
        ("maxmemory_human", &human(limit)),
        ("maxmemory_policy", &policy),
        ("mem_fragmentation_ratio", &format_args!("{:.2}", ratio(resident))),
        ("mem_fragmentation_bytes", &resident.saturating_sub(used)),
        ("mem_not_counted_for_evict", &log),
        ("mem_clients_normal", &0),
        ("mem_clients_slaves", &0),
        ("mem_replication_backlog", &log),
        ("mem_aof_buffer", &0),
        ("mem_allocator", &"mimalloc"),
        ("active_defrag_running", &0),
        ("lazyfree_pending_objects", &0),
        ("lazyfreed_objects", &0),
    ]);
}

fn persistence(text: &mut Text<'_>) {
    let started = text.server.started.unix_ms() / 1_000;
    text.lines(&[
        ("loading", &0),
        ("async_loading", &0),
        ("rdb_changes_since_last_save", &0),
        ("rdb_bgsave_in_progress", &0),
        ("rdb_last_save_time", &started),
        ("rdb_last_bgsave_status", &"ok"),
        ("rdb_last_bgsave_time_sec", &-1),
        ("rdb_current_bgsave_time_sec", &-1),
        ("aof_enabled", &0),
        ("aof_rewrite_in_progress", &0),
        ("aof_last_rewrite_time_sec", &-1),
        ("aof_last_bgrewrite_status", &"ok"),
        ("aof_last_write_status", &"ok"),
    ]);
}

fn stats(text: &mut Text<'_>) {
    let (server, counters) = (text.server, text.counts.counters);
    let totals = server.stats.totals();
    let errors: u64 = server.stats.errors().values().sum();
    text.lines(&[
        ("total_connections_received", &server.clients.accepted()),
        ("total_commands_processed", &totals.calls()),
        ("instantaneous_ops_per_sec", &server.rates.commands()),
        ("total_net_input_bytes", &totals.read_bytes),
        ("total_net_output_bytes", &totals.written_bytes),
        ("instantaneous_input_kbps", &format_args!("{:.2}", server.rates.read_bytes() as f64 / 1_024.0)),
        ("instantaneous_output_kbps", &format_args!("{:.2}", server.rates.written_bytes() as f64 / 1_024.0)),
        ("rejected_connections", &server.clients.refused()),
        ("sync_full", &0),
        ("sync_partial_ok", &0),
        ("sync_partial_err", &0),
        ("expired_keys", &counters.expired),
        ("expired_stale_perc", &"0.00"),
        ("expired_time_cap_reached_count", &0),
        ("evicted_keys", &counters.evicted),
        ("evicted_clients", &0),
        ("keyspace_hits", &counters.hits),
        ("keyspace_misses", &counters.misses),
        ("pubsub_channels", &0),
        ("pubsub_patterns", &0),
        ("latest_fork_usec", &0),
        ("total_forks", &0),
        ("migrate_cached_sockets", &0),
        ("tracking_clients", &0),
        ("unexpected_error_replies", &0),
        ("total_error_replies", &errors),
        ("total_reads_processed", &totals.turns),
        ("total_writes_processed", &totals.turns),
    ]);
}

fn replication(text: &mut Text<'_>) {
    for (name, value) in super::replication::info(text.server) {
        text.lines(&[(&name, &value)]);
    }
}

fn cpu(text: &mut Text<'_>) {
    let (user, kernel) = process::cpu_times();
    text.lines(&[
        ("used_cpu_sys", &format_args!("{:.6}", kernel.as_secs_f64())),
        ("used_cpu_user", &format_args!("{:.6}", user.as_secs_f64())),
        ("used_cpu_sys_children", &"0.000000"),
        ("used_cpu_user_children", &"0.000000"),
    ]);
}

fn commandstats(text: &mut Text<'_>) {
    let totals = text.server.stats.totals();
    for (command, counted) in TABLE.iter().zip(&totals.commands) {
        if counted.calls + counted.rejected > 0 {
            let microseconds = counted.nanos as f64 / 1_000.0;
            text.put(format_args!(
                "cmdstat_{}:calls={},usec={},usec_per_call={:.2},rejected_calls={},failed_calls={}",
                command.name,
                counted.calls,
                microseconds as u64,
                microseconds / counted.calls.max(1) as f64,
                counted.rejected,
                counted.failed,
            ));
        }
    }
}

fn errorstats(text: &mut Text<'_>) {
    for (word, count) in text.server.stats.errors() {
        text.put(format_args!("errorstat_{word}:count={count}"));
    }
}

fn latencystats(text: &mut Text<'_>) {
    let totals = text.server.stats.totals();
    for (command, counted) in TABLE.iter().zip(&totals.commands).filter(|(_, counted)| counted.calls > 0) {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| counted.percentile(share).as_micros());
        text.put(format_args!(
            "latency_percentiles_usec_{}:p50={p50}.000,p99={p99}.000,p99.9={p999}.000",
            command.name
        ));
    }
}

fn cluster(text: &mut Text<'_>) {
    text.line("cluster_enabled", u8::from(text.clustered));
}

fn keyspace(text: &mut Text<'_>) {
    let Census { values, volatile, .. } = text.counts.census;
    if values > 0 {
        text.put(format_args!("db0:keys={values},expires={volatile},avg_ttl=0"));
    }
}

fn meridian(text: &mut Text<'_>) {
    let (server, counts) = (text.server, (text.counts.census.tombstones, text.counts.counters));
    let (region, settings) = (&server.config.region, server.store.settings());
    let frontier_age = server.clock.now().wall.since(settings.frontier());
    text.lines(&[
        ("meridian_version", &env!("CARGO_PKG_VERSION")),
        ("meridian_region", &region.name),
        ("meridian_region_id", &region.id),
        ("meridian_incarnation", &server.store.origin().incarnation().number()),
        ("meridian_workers", &server.config.node.worker_count()),
        ("meridian_complete", &u8::from(server.links.is_complete())),
        ("meridian_tombstones", &counts.0),
        ("meridian_tombstone_bytes", &settings.tombstone_bytes()),
        ("meridian_frontier_age_seconds", &format_args!("{:.3}", frontier_age.as_secs_f64())),
        ("meridian_forgotten_early", &counts.1.forgotten_early),
        ("meridian_conflicts", &counts.1.conflicts),
        ("meridian_clock_offset_seconds", &format_args!("{:.6}", server.clock.offset().seconds())),
        ("meridian_panics", &server.stats.panics()),
        ("meridian_protocol_errors", &server.stats.totals().protocol_errors),
    ]);
}

/// Bytes with a unit, as Redis writes them.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1_024 {
        return format!("{bytes}B");
    }
    let step = (bytes.ilog2() / 10).min(UNITS.len() as u32);
    format!("{:.2}{}", bytes as f64 / (1_u64 << (10 * step)) as f64, UNITS[step as usize - 1])
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn bytes_are_written_as_redis_writes_them() {
        for (bytes, text) in
            [(0, "0B"), (1_023, "1023B"), (1_024, "1.00K"), (1 << 30, "1.00G"), (1_610_612_736, "1.50G")]
        {
            assert_eq!(human(bytes), text);
        }
    }
}
