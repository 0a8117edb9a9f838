//! Clients that wait: WAIT for replicas, REGION WAIT for other regions, REGION AWAIT for what another region has written.
//!
//! What is waited for is what this node has stamped until now, by whomever it was asked to: no less than what is promised, which
//! is the client's own last write.
//!
//! Replicas say what they have as they get it, and who waits for them is woken. What a region has seen is told with heartbeats,
//! so who waits for regions looks now and then ([`REGION_RECHECK`]).

use std::{sync::Arc, time::Duration};

use clock::{Origin, Time};
use node_core::{
    command_table::{Command, CommandId},
    number,
    resp::Args,
    store::{ParseTokenError, Token},
};
use tokio::time::{sleep, timeout};

use super::Failure;
use crate::{cluster::Shared, limits::REGION_RECHECK, server::Server};

/// A client that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    what: What,
    /// In monotonic time; none is for ever.
    deadline: Option<Duration>,
}

#[derive(Clone, Debug)]
enum What {
    /// That so many replicas have what was stamped until then.
    Replicas { shared: Arc<Shared>, count: usize, until: Time },
    /// That so many other regions have.
    Regions { count: usize, origin: Origin, until: Time },
    /// That this node has what these origins had stamped.
    Token(Token),
}

impl Waiting {
    /// Whether a command may have to wait.
    pub(crate) fn is_for(command: &Command) -> bool {
        matches!(command.id, CommandId::Wait | CommandId::RegionWait | CommandId::RegionAwait)
    }

    /// What a client begins to wait for that asks for it at `now`; `None` if there is nothing to wait for, or the arguments
    /// are not what they should be.
    pub(crate) fn begin(server: &Server, command: &Command, args: Args<'_>, now: Duration) -> Option<Self> {
        let until = server.store.last_stamp();
        let (what, timeout) = match command.id {
            CommandId::Wait => {
                let shared = server.cluster.as_ref()?.replication()?;
                let (count, timeout) = count_and_timeout(args, 1).ok()?;
                (What::Replicas { shared, count, until }, timeout)
            }
            CommandId::RegionWait => {
                let (count, timeout) = count_and_timeout(args, 2).ok()?;
                (What::Regions { count, origin: server.store.origin(), until }, timeout)
            }
            CommandId::RegionAwait => {
                let (token, timeout) = token_and_timeout(args).ok()?;
                (What::Token(token), timeout)
            }
            _ => return None,
        };
        Some(Self { what, deadline: (!timeout.is_zero()).then(|| now + timeout) })
    }

    /// Whether there is nothing more to wait for at `now`; a primary that is one no more waits for nobody.
    pub(crate) fn is_over(&self, server: &Server, now: Duration) -> bool {
        let is_late = self.deadline.is_some_and(|deadline| now >= deadline);
        let is_enough = match &self.what {
            What::Replicas { shared, count, .. } => {
                self.reached(server) >= *count || shared.progress.serving().is_none()
            }
            What::Regions { count, origin, .. } => self.reached(server) >= *count || server.store.origin() != *origin,
            What::Token(_) => self.reached(server) > 0,
        };
        is_late || is_enough
    }

    /// Waits until that may have changed.
    pub(crate) async fn until_over(&self, server: &Server, now: Duration) {
        let What::Replicas { shared, .. } = &self.what else {
            let left = self.deadline.map_or(REGION_RECHECK, |deadline| deadline.saturating_sub(now));
            return sleep(left.min(REGION_RECHECK)).await;
        };
        let changed = shared.followers.changed();
        if self.is_over(server, now) {
            return;
        }
        match self.deadline {
            Some(deadline) => _ = timeout(deadline.saturating_sub(now), changed).await,
            None => changed.await,
        }
    }

    /// How many have it; of a token, whether it is reached.
    pub(crate) fn reached(&self, server: &Server) -> usize {
        match &self.what {
            What::Replicas { shared, until, .. } => shared.replicated(*until),
            What::Regions { origin, until, .. } => {
                let owned = server.store.owned();
                server.store.matrix().regions_past(*origin, *until, owned.as_deref())
            }
            What::Token(token) => {
                usize::from(token.is_reached(server.store.origin(), &server.store.seen_minima(server.clock.now())))
            }
        }
    }
}

/// How many are to be waited for and for how long, which stand at this place.
pub(super) fn count_and_timeout(args: Args<'_>, at: usize) -> Result<(usize, Duration), Failure> {
    let count = number::parse_i64(&args[at]).ok_or(Failure::NOT_AN_INTEGER)?;
    // Fewer than none is none.
    Ok((usize::try_from(count).unwrap_or(0), timeout_at(args, at + 1)?))
}

/// The token that is to be waited for, and for how long.
pub(super) fn token_and_timeout(args: Args<'_>) -> Result<(Token, Duration), Failure> {
    let token = std::str::from_utf8(&args[2]).map_err(|_| ParseTokenError::Invalid).and_then(str::parse);
    let token = token.map_err(|error| Failure::from(format!("ERR {error}")))?;
    Ok((token, timeout_at(args, 3)?))
}

fn timeout_at(args: Args<'_>, at: usize) -> Result<Duration, Failure> {
    let timeout = number::parse_i64(&args[at]);
    let timeout = timeout.ok_or(Failure::text("ERR timeout is not an integer or out of range"))?;
    let timeout = u64::try_from(timeout).map_err(|_| Failure::text("ERR timeout is negative"))?;
    Ok(Duration::from_millis(timeout))
}
