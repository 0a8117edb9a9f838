//! The latency monitor: events that took long, and when; LATENCY.
//!
//! An event is noted from `latency-monitor-threshold` on; by default never. Of each kind the last
//! [`LATENCY_SAMPLES`] seconds in which it happened are kept, each with the longest of that second, as in Redis.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use clock::Now;

use crate::limits::LATENCY_SAMPLES;

/// The longest event of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) unix_seconds: u64,
    pub(crate) ms: u64,
}

/// What is known of one kind of event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Event {
    /// Oldest first, never empty.
    pub(crate) samples: VecDeque<Sample>,
    /// The longest ever.
    pub(crate) max_ms: u64,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct LatencyMonitor(Mutex<BTreeMap<&'static str, Event>>);

impl LatencyMonitor {
    /// Notes an event. The caller has compared it with the threshold.
    pub(crate) fn note(&self, name: &'static str, now: Now, took: Duration) {
        let (unix_seconds, ms) = (now.unix_ms() / 1_000, took.as_millis() as u64);
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let event = events.entry(name).or_default();
        event.max_ms = event.max_ms.max(ms);
        match event.samples.back_mut() {
            Some(last) if last.unix_seconds == unix_seconds => last.ms = last.ms.max(ms),
            _ => {
                event.samples.push_back(Sample { unix_seconds, ms });
                if event.samples.len() > LATENCY_SAMPLES {
                    event.samples.pop_front();
                }
            }
        }
    }

    /// All kinds of events, by name.
    pub(crate) fn events(&self) -> BTreeMap<&'static str, Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the named events, or all if none is named. Returns how many were forgotten.
    pub(crate) fn reset(&self, names: &[&[u8]]) -> usize {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = events.len();
        events.retain(|name, _| {
            !names.is_empty() && !names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name.as_bytes()))
        });
        before - events.len()
    }
}
