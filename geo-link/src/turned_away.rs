//! Connections that never became links: counted all, logged now and then.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use crate::{limits::TURNED_AWAY_LOG_INTERVAL, names};

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct TurnedAway {
    logged: Mutex<Option<Instant>>,
}

impl TurnedAway {
    /// One was turned away.
    pub(crate) fn note(&self, reason: &'static str, addr: &str, error: &dyn fmt::Display) {
        self.count(reason);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= TURNED_AWAY_LOG_INTERVAL) {
            *logged = Some(Instant::now());
            tracing::warn!(%addr, %error, reason, "incoming link is turned away");
        } else {
            tracing::debug!(%addr, %error, reason, "incoming link is turned away");
        }
    }

    /// One was turned away, and it was logged elsewhere.
    pub(crate) fn count(&self, reason: &'static str) {
        metrics::counter!(names::LINK_REFUSED_TOTAL, "reason" => reason).increment(1);
    }
}
