//! CONFIG: what is configured, under Redis's names and in Redis's spelling.
//!
//! One table has every parameter: how it reads, and how it is changed if it can be. Those that cannot are there because
//! clients and exporters ask for them. CONFIG SET checks all values before it changes the first, so it does all or
//! nothing. CONFIG REWRITE is refused: the file may be shared, generated or mounted, and it has comments that would be
//! lost; what is to last belongs into it by the hand of whoever keeps it.

use std::sync::atomic::Ordering::Relaxed;

use config::{Secret, Size};
use node_core::{
    cluster::Addresses,
    glob::{self, Case},
    number,
    store::EvictionPolicy,
};

use super::{
    Context, Done, Failure,
    words::{is_yes, utf8},
};
use crate::server::Server;

/// One parameter.
struct Parameter {
    name: &'static str,
    read: fn(&Server) -> String,
    change: Change,
}

/// How a parameter is changed.
enum Change {
    /// Not while the process runs.
    Fixed,
    /// By a number in this range.
    Number(i64, i64, fn(&Server, i64)),
    /// By a number of bytes of at least this.
    Bytes(u64, fn(&Server, u64)),
    /// By `yes` or `no`; there is one answer that can be given, this one.
    Only(bool),
    /// By a text; refused with the error that comes back.
    Text(fn(&str) -> Result<(), &'static str>, fn(&Server, &str)),
}

use Change::{Bytes, Fixed, Number, Only, Text};

const U32_MAX: i64 = u32::MAX as i64;

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "maxmemory",
        read: |server| server.store.settings().max_memory().to_string(),
        change: Bytes(0, |server, bytes| server.store.settings().set_max_memory(bytes as usize)),
    },
    Parameter {
        name: "maxmemory-policy",
        read: |server| server.store.settings().policy().name().to_owned(),
        change: Text(
            |text| EvictionPolicy::from_name(text).map(drop).ok_or("argument must be one of the eviction policies"),
            |server, text| server.store.settings().set_policy(EvictionPolicy::from_name(text).unwrap_or_default()),
        ),
    },
    Parameter {
        name: "maxmemory-samples",
        read: |server| server.store.settings().samples().to_string(),
        change: Number(1, 64, |server, samples| server.store.settings().set_samples(samples as usize)),
    },
    Parameter {
        name: "lfu-log-factor",
        read: |server| server.store.settings().lfu_log_factor().to_string(),
        change: Number(0, U32_MAX, |server, factor| server.store.settings().set_lfu_log_factor(factor as u32)),
    },
    Parameter {
        name: "lfu-decay-time",
        read: |server| server.store.settings().lfu_decay_minutes().to_string(),
        change: Number(0, U32_MAX, |server, minutes| server.store.settings().set_lfu_decay_minutes(minutes as u32)),
    },
    Parameter {
        name: "tombstone-budget",
        read: |server| server.store.settings().tombstone_budget().to_string(),
        change: Bytes(0, |server, bytes| server.store.settings().set_tombstone_budget(bytes as usize)),
    },
    Parameter {
        name: "timeout",
        read: |server| server.parameters.timeout_seconds.load(Relaxed).to_string(),
        change: Number(0, U32_MAX, |server, seconds| {
            server.parameters.timeout_seconds.store(seconds.cast_unsigned(), Relaxed);
        }),
    },
    Parameter {
        name: "maxclients",
        read: |server| server.parameters.max_clients.load(Relaxed).to_string(),
        change: Number(1, 1_000_000, |server, clients| server.parameters.max_clients.store(clients as u32, Relaxed)),
    },
    Parameter {
        name: "slowlog-log-slower-than",
        read: |server| server.parameters.slowlog_from().map_or("-1".to_owned(), |from| from.as_micros().to_string()),
        change: Number(-1, i64::MAX, |server, micros| server.parameters.set_slowlog_from(micros.try_into().ok())),
    },
    Parameter {
        name: "slowlog-max-len",
        read: |server| server.parameters.slowlog_max.load(Relaxed).to_string(),
        change: Number(0, 1_000_000, |server, entries| server.parameters.slowlog_max.store(entries as u32, Relaxed)),
    },
    Parameter {
        name: "latency-monitor-threshold",
        read: |server| server.parameters.latency_ms.load(Relaxed).to_string(),
        change: Number(0, i64::MAX, |server, ms| server.parameters.latency_ms.store(ms.cast_unsigned(), Relaxed)),
    },
    Parameter {
        name: "requirepass",
        read: |server| server.parameters.password().map_or(String::new(), |password| password.expose().to_owned()),
        change: Text(
            |_| Ok(()),
            |server, text| server.parameters.set_password((!text.is_empty()).then(|| Secret::new(text))),
        ),
    },
    Parameter {
        name: "proto-max-bulk-len",
        read: |server| server.parameters.bulk_bytes_max.load(Relaxed).to_string(),
        change: Bytes(1 << 20, |server, bytes| {
            let most = node_core::limits::VALUE_BYTES_MAX as u64;
            server.parameters.bulk_bytes_max.store(bytes.min(most) as u32, Relaxed);
        }),
    },
    Parameter {
        name: "proto-inline-max-size",
        read: |server| server.parameters.inline_bytes_max.load(Relaxed).to_string(),
        change: Bytes(config::limits::PROTO_INLINE_MAX_SIZE.start().as_u64(), |server, bytes| {
            let most = config::limits::PROTO_INLINE_MAX_SIZE.end().as_u64();
            server.parameters.inline_bytes_max.store(bytes.min(most) as u32, Relaxed);
        }),
    },
    Parameter {
        name: "max-key-len",
        read: |server| server.parameters.key_bytes_max.load(Relaxed).to_string(),
        change: Bytes(1, |server, bytes| server.parameters.key_bytes_max.store(bytes, Relaxed)),
    },
    Parameter {
        name: "client-query-buffer-limit",
        read: |server| server.parameters.query_bytes_max.load(Relaxed).to_string(),
        change: Bytes(1 << 20, |server, bytes| server.parameters.query_bytes_max.store(bytes, Relaxed)),
    },
    Parameter {
        name: "client-output-buffer-limit",
        read: |server| {
            let bytes = server.parameters.output_bytes_max();
            format!("normal {bytes} {bytes} 0 slave {bytes} {bytes} 0 pubsub {bytes} {bytes} 0")
        },
        change: Fixed,
    },
    Parameter { name: "appendonly", read: |_| "no".to_owned(), change: Only(false) },
    Parameter {
        name: "save",
        read: |_| String::new(),
        change: Text(
            |text| {
                if text.is_empty() { Ok(()) } else { Err("nothing is saved to disk; the other regions are the copy") }
            },
            |_, _| {},
        ),
    },
    Parameter { name: "activerehashing", read: |_| "yes".to_owned(), change: Only(true) },
    Parameter { name: "databases", read: |_| config::Node::DATABASES.to_string(), change: Fixed },
    Parameter {
        name: "cluster-enabled",
        read: |server| if server.cluster.is_some() { "yes" } else { "no" }.to_owned(),
        change: Fixed,
    },
    Parameter {
        name: "cluster-announce-ip",
        read: |server| announced(server, |addresses| addresses.host.clone()),
        change: Fixed,
    },
    Parameter {
        name: "cluster-announce-port",
        read: |server| announced(server, |addresses| addresses.port.to_string()),
        change: Fixed,
    },
    Parameter {
        name: "cluster-announce-tls-port",
        read: |server| announced(server, |addresses| addresses.tls_port.to_string()),
        change: Fixed,
    },
    Parameter {
        name: "cluster-announce-bus-port",
        read: |server| announced(server, |addresses| addresses.bus_port.to_string()),
        change: Fixed,
    },
    Parameter { name: "cluster-announce-hostname", read: |_| String::new(), change: Fixed },
    Parameter { name: "cluster-preferred-endpoint-type", read: |_| "ip".to_owned(), change: Fixed },
    // A slot without a primary that answers stops nobody else's.
    Parameter { name: "cluster-require-full-coverage", read: |_| "no".to_owned(), change: Only(false) },
    Parameter { name: "cluster-allow-reads-when-down", read: |_| "no".to_owned(), change: Only(false) },
    Parameter { name: "io-threads", read: |server| server.config.node.worker_count().to_string(), change: Fixed },
    Parameter {
        name: "bind",
        read: |server| server.address.map_or(String::new(), |address| address.ip().to_string()),
        change: Fixed,
    },
    Parameter {
        name: "port",
        read: |server| server.address.map_or(0, |address| address.port()).to_string(),
        change: Fixed,
    },
    Parameter { name: "tcp-backlog", read: |_| crate::limits::LISTEN_BACKLOG.to_string(), change: Fixed },
    Parameter { name: "tcp-keepalive", read: |_| crate::limits::KEEPALIVE.as_secs().to_string(), change: Fixed },
    Parameter { name: "dir", read: |server| folder(server), change: Fixed },
    Parameter { name: "loglevel", read: |server| server.config.log.level.to_string(), change: Fixed },
    Parameter { name: "region", read: |server| server.config.region.name.to_string(), change: Fixed },
    Parameter { name: "region-id", read: |server| server.config.region.id.to_string(), change: Fixed },
];

fn folder(server: &Server) -> String {
    server.config.node.dir.as_ref().map_or(String::new(), |dir| dir.display().to_string())
}

/// What this node announces in the cluster; nothing if it is in none.
fn announced(server: &Server, of: impl Fn(&Addresses) -> String) -> String {
    let map = server.cluster.as_ref().map(|cluster| (cluster.map(), cluster.me));
    map.and_then(|(map, me)| map.node(me).map(|node| of(&node.addresses))).unwrap_or_default()
}

fn find(name: &[u8]) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name.as_bytes().eq_ignore_ascii_case(name))
}

/// `CONFIG GET parameter [parameter ...]`
pub(super) fn get(call: Context<'_, '_, '_>) -> Done {
    let patterns = call.args.from(2);
    let wanted = |parameter: &&Parameter| {
        patterns.iter().any(|pattern| glob::matches(pattern, parameter.name.as_bytes(), Case::Insensitive))
    };
    let found: Vec<_> = PARAMETERS.iter().filter(wanted).collect();
    call.reply.map(found.len());
    for parameter in found {
        call.reply.text(parameter.name);
        call.reply.text(&(parameter.read)(&call.worker.server));
    }
    Ok(())
}

/// A change that was checked and can be made.
type Checked<'a> = Box<dyn FnOnce(&Server) + 'a>;

/// `CONFIG SET parameter value [parameter value ...]`
pub(super) fn set(call: Context<'_, '_, '_>) -> Done {
    let pairs = call.args.from(2);
    if !pairs.len().is_multiple_of(2) {
        return Err(Failure::text("ERR wrong number of arguments for 'config|set' command"));
    }
    let words: Vec<_> = pairs.iter().collect();
    let mut changes: Vec<(&str, Checked<'_>)> = Vec::new();
    for pair in words.chunks_exact(2) {
        let (name, value) = (pair[0], pair[1]);
        let parameter = find(name).ok_or_else(|| {
            Failure::from(format!("ERR Unknown option or number of arguments for CONFIG SET - '{}'", utf8(name)))
        })?;
        let refused = |why: &str| {
            let name = utf8(name);
            Failure::from(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
        };
        if changes.iter().any(|(name, _)| *name == parameter.name) {
            return Err(refused("duplicate parameter"));
        }
        changes.push((parameter.name, check(parameter, value).map_err(|why| refused(&why))?));
    }
    let server = call.server();
    let names: Vec<_> = changes.iter().map(|(name, _)| *name).collect();
    changes.into_iter().for_each(|(_, change)| change(server));
    tracing::info!(parameters = ?names, "configuration was changed");
    call.reply.ok();
    Ok(())
}

/// What a value would do, or why it can do nothing.
fn check<'a>(parameter: &'static Parameter, value: &'a [u8]) -> Result<Checked<'a>, String> {
    match &parameter.change {
        Fixed => Err("can't set immutable config".to_owned()),
        Number(least, most, apply) => {
            let number = number::parse_i64(value).ok_or("argument couldn't be parsed into an integer")?;
            if !(*least..=*most).contains(&number) {
                return Err(format!("argument must be between {least} and {most} inclusive"));
            }
            Ok(Box::new(move |server| apply(server, number)))
        }
        Bytes(least, apply) => {
            let size = str::from_utf8(value).ok().and_then(|text| text.parse::<Size>().ok());
            let bytes = size.ok_or("argument must be a memory value")?.as_u64();
            if bytes < *least {
                return Err(format!("argument must be at least {least}"));
            }
            Ok(Box::new(move |server| apply(server, bytes)))
        }
        Only(answer) => match is_yes(value).ok_or("argument must be 'yes' or 'no'")? {
            wanted if wanted == *answer => Ok(Box::new(|_| {})),
            _ => Err("not supported here".to_owned()),
        },
        Text(check, apply) => {
            let text = str::from_utf8(value).map_err(|_| "argument must be a text")?;
            check(text)?;
            Ok(Box::new(move |server| apply(server, text)))
        }
    }
}

/// `CONFIG RESETSTAT`
pub(super) fn resetstat(call: Context<'_, '_, '_>) -> Done {
    for index in 0..call.keyspace.store().stripes() {
        call.keyspace.on_stripe(index, |stripe| stripe.reset_counters());
    }
    call.worker.server.stats.reset();
    call.reply.ok();
    Ok(())
}

/// `CONFIG REWRITE`
pub(super) fn rewrite(call: Context<'_, '_, '_>) -> Done {
    let why = match &call.server().config_file {
        None => "ERR The server is running without a config file",
        Some(_) => "ERR the configuration file is not rewritten: change it by hand, it may be shared and has comments",
    };
    Err(Failure::text(why))
}

#[cfg(test)]
mod tests {
    use super::{PARAMETERS, check, find};

    #[test]
    fn each_parameter_is_there_once() {
        for parameter in PARAMETERS {
            let same = PARAMETERS.iter().filter(|other| other.name == parameter.name).count();
            assert_eq!(same, 1, "{}", parameter.name);
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused_with_a_reason() {
        for (name, value, why) in [
            ("maxmemory", "lots", "argument must be a memory value"),
            ("maxmemory-samples", "0", "argument must be between 1 and 64 inclusive"),
            ("maxmemory-policy", "best", "argument must be one of the eviction policies"),
            ("timeout", "1.5", "argument couldn't be parsed into an integer"),
            ("port", "1", "can't set immutable config"),
            ("appendonly", "yes", "not supported here"),
        ] {
            let parameter = find(name.as_bytes()).unwrap();
            assert_eq!(check(parameter, value.as_bytes()).err().as_deref(), Some(why), "{name}");
        }
    }
}
