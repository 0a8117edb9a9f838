//! What an operator may change while the node runs, beyond what the store's own settings hold.
//!
//! Read on the hot path, so all are atomics, relaxed: each stands for itself, and a connection that sees a change a turn
//! later does no harm. The password alone needs a lock; it is read at HELLO and AUTH only.

use std::{
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use config::{NodeConfig, Secret, Threshold};
use node_core::resp::Limits;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Parameters {
    pub(crate) max_clients: AtomicU32,
    /// Seconds of silence after which a client is closed; zero is never.
    pub(crate) timeout_seconds: AtomicU64,
    pub(crate) bulk_bytes_max: AtomicU32,
    pub(crate) inline_bytes_max: AtomicU32,
    pub(crate) key_bytes_max: AtomicU64,
    pub(crate) arguments_max: AtomicU32,
    pub(crate) query_bytes_max: AtomicU64,
    pub(crate) output_bytes_max: AtomicU64,
    /// Microseconds from which on a command is noted in the slow log; negative is never, as in Redis.
    slowlog_microseconds: AtomicU64,
    pub(crate) slowlog_max: AtomicU32,
    /// Milliseconds from which on an event is noted; zero is never, as in Redis.
    pub(crate) latency_ms: AtomicU64,
    /// Whether values that have ended and that nobody reads are looked for.
    pub(crate) active_expire: AtomicBool,
    password: RwLock<Option<Secret>>,
}

/// The number for "never" in `slowlog_microseconds`.
const NEVER: u64 = u64::MAX;

impl Parameters {
    /// Begins with what is configured, and with this password.
    pub(crate) fn new(config: &NodeConfig, password: Option<Secret>) -> Self {
        let limits = &config.limits;
        let micros = |threshold: Threshold| threshold.duration().map(|duration| duration.as_micros() as u64);
        let latency_ms = config.latency.monitor_threshold.duration().map_or(0, |least| least.as_millis().max(1) as u64);
        Self {
            max_clients: AtomicU32::new(limits.maxclients),
            timeout_seconds: AtomicU64::new(limits.timeout.as_secs()),
            bulk_bytes_max: AtomicU32::new(limits.proto_max_bulk_len.as_u64().try_into().unwrap_or(u32::MAX)),
            inline_bytes_max: AtomicU32::new(limits.proto_inline_max_size.as_u64().try_into().unwrap_or(u32::MAX)),
            key_bytes_max: AtomicU64::new(limits.max_key_len.as_u64()),
            arguments_max: AtomicU32::new(limits.max_multibulk_len),
            query_bytes_max: AtomicU64::new(limits.client_query_buffer_limit.as_u64()),
            output_bytes_max: AtomicU64::new(limits.client_output_buffer_limit.as_u64()),
            slowlog_microseconds: AtomicU64::new(micros(config.slowlog.log_slower_than).unwrap_or(NEVER)),
            slowlog_max: AtomicU32::new(config.slowlog.max_len),
            latency_ms: AtomicU64::new(latency_ms),
            active_expire: AtomicBool::new(true),
            password: RwLock::new(password),
        }
    }

    /// The bounds of a request, for a client that has authenticated.
    #[inline]
    pub(crate) fn request_limits(&self) -> Limits {
        Limits {
            arguments_max: self.arguments_max.load(Relaxed),
            bulk_bytes_max: self.bulk_bytes_max.load(Relaxed),
            inline_bytes_max: self.inline_bytes_max.load(Relaxed),
            request_bytes_max: self.query_bytes_max.load(Relaxed).try_into().unwrap_or(u32::MAX),
            authenticated: true,
        }
    }

    /// The longest key, in bytes.
    #[inline]
    pub(crate) fn key_bytes_max(&self) -> usize {
        self.key_bytes_max.load(Relaxed) as usize
    }

    /// How much output may wait for a client, in bytes.
    #[inline]
    pub(crate) fn output_bytes_max(&self) -> usize {
        self.output_bytes_max.load(Relaxed) as usize
    }

    /// From how many nanoseconds on a command is noted anywhere: in the slow log or by the latency monitor.
    #[inline]
    pub(crate) fn note_from_nanos(&self) -> u64 {
        let slow = self.slowlog_microseconds.load(Relaxed).saturating_mul(1_000);
        match self.latency_ms.load(Relaxed) {
            0 => slow,
            ms => slow.min(ms.saturating_mul(1_000_000)),
        }
    }

    /// From how long on a command is noted in the slow log; `None` is never.
    pub(crate) fn slowlog_from(&self) -> Option<Duration> {
        Some(self.slowlog_microseconds.load(Relaxed)).filter(|micros| *micros != NEVER).map(Duration::from_micros)
    }

    /// Sets from how many microseconds on a command is noted in the slow log; `None` is never.
    pub(crate) fn set_slowlog_from(&self, microseconds: Option<u64>) {
        self.slowlog_microseconds.store(microseconds.unwrap_or(NEVER), Relaxed);
    }

    /// From how long on the latency monitor notes an event; `None` is never.
    pub(crate) fn latency_from(&self) -> Option<Duration> {
        Some(self.latency_ms.load(Relaxed)).filter(|ms| *ms != 0).map(Duration::from_millis)
    }

    /// How long a client may be silent; `None` is for ever.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        Some(self.timeout_seconds.load(Relaxed)).filter(|seconds| *seconds != 0).map(Duration::from_secs)
    }

    /// Whether a client must authenticate.
    pub(crate) fn needs_password(&self) -> bool {
        self.password.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The password, if there is one.
    pub(crate) fn password(&self) -> Option<Secret> {
        self.password.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets or removes the password.
    pub(crate) fn set_password(&self, password: Option<Secret>) {
        *self.password.write().unwrap_or_else(PoisonError::into_inner) = password;
    }

    /// Whether `given` is the password. Takes the same time wherever they differ.
    pub(crate) fn is_password(&self, given: &[u8]) -> bool {
        let password = self.password.read().unwrap_or_else(PoisonError::into_inner);
        let Some(password) = &*password else { return true };
        let expected = password.expose().as_bytes();
        let differing = (0..expected.len().max(given.len()))
            .fold(0, |sum, index| sum | (expected.get(index).unwrap_or(&0) ^ given.get(index).unwrap_or(&0)));
        differing == 0 && expected.len() == given.len()
    }
}
