//! Clients that wait: WAIT for replicas, REGION WAIT for other regions, REGION AWAIT for what another region has written.
//!
//! What is waited for is what this node has stamped until now, by whomever it was asked to: no less than what is promised, which
//! is the client's own last write.
//!
//! Replicas say what they have as they get it, and who waits for them is woken. What a region has seen is told with heartbeats,
//! so who waits for regions looks now and then ([`REGION_RECHECK`]).

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use clock::{Origin, Time};
use node_core::{
    command_table::{Command, CommandId},
    number,
    resp::Args,
    store::Seen,
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

/// What a connection has written, for another region to wait for: pairs of an origin and a time, several joined by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token(Vec<(Origin, Time)>);

impl Token {
    /// Of what an origin has stamped until then.
    pub(super) fn new(origin: Origin, until: Time) -> Self {
        Self(vec![(origin, until)])
    }

    /// Whether a node that stamps as `own` and has `seen` so much has it all. What its own region has written is there.
    fn is_reached(&self, own: Origin, seen: &Seen) -> bool {
        self.0.iter().all(|(origin, time)| origin.region() == own.region() || seen.at(*origin) >= *time)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (origin, time)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{origin}@{:x}", time.ntp64())?;
        }
        Ok(())
    }
}

impl FromStr for Token {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let pair = |pair: &str| {
            let (origin, time) = pair.split_once('@')?;
            let time = Time::from_ntp64(u64::from_str_radix(time, 16).ok()?);
            Some((origin.parse().ok()?, time))
        };
        if text.split(',').count() > TOKEN_PAIRS_MAX {
            return Err(Failure::text("ERR too many tokens"));
        }
        let pairs: Option<Vec<_>> = text.split(',').map(pair).collect();
        pairs.map(Self).ok_or(Failure::text("ERR invalid token"))
    }
}

/// Tokens that may be joined: one from each primary of a large region.
const TOKEN_PAIRS_MAX: usize = 1_024;

/// How many are to be waited for and for how long, which stand at this place.
pub(super) fn count_and_timeout(args: Args<'_>, at: usize) -> Result<(usize, Duration), Failure> {
    let count = number::parse_i64(&args[at]).ok_or(Failure::NOT_AN_INTEGER)?;
    // Fewer than none is none.
    Ok((usize::try_from(count).unwrap_or(0), timeout_at(args, at + 1)?))
}

/// The token that is to be waited for, and for how long.
pub(super) fn token_and_timeout(args: Args<'_>) -> Result<(Token, Duration), Failure> {
    let token = std::str::from_utf8(&args[2]).map_err(|_| Failure::text("ERR invalid token"))?;
    Ok((token.parse()?, timeout_at(args, 3)?))
}

fn timeout_at(args: Args<'_>, at: usize) -> Result<Duration, Failure> {
    let timeout = number::parse_i64(&args[at]);
    let timeout = timeout.ok_or(Failure::text("ERR timeout is not an integer or out of range"))?;
    let timeout = u64::try_from(timeout).map_err(|_| Failure::text("ERR timeout is negative"))?;
    Ok(Duration::from_millis(timeout))
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, Origin, RegionId, Time};
    use node_core::store::Seen;

    use super::Token;

    fn origin(region: u8, life: u16) -> Origin {
        Origin::new(RegionId::new(region).unwrap(), Incarnation::new(life))
    }

    #[test]
    fn a_token_reads_as_it_is_written_and_tokens_can_be_joined() {
        let token = Token::new(origin(3, 7), Time::from_ntp64(0x1234_5678_9abc));
        assert_eq!(token.to_string(), "3.7@123456789abc");
        assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        let joined = format!("{token},1.0@5");
        assert_eq!(joined.parse::<Token>().unwrap().to_string(), joined);
        for text in ["", "3@5", "3.7", "0.1@5", "64.1@5", "1.1024@5", "1.1@x", "1.1@5,", "1.1@11112222333344445"] {
            assert!(text.parse::<Token>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_is_reached_when_all_of_it_was_seen() {
        let token: Token = "1.0@5,2.0@8,3.0@9".parse().unwrap();
        let seen = |pairs: &[(u8, u64)]| -> Seen {
            pairs.iter().map(|(region, time)| (origin(*region, 0), Time::from_ntp64(*time))).collect()
        };
        assert!(!token.is_reached(origin(1, 4), &seen(&[(2, 8), (3, 8)])));
        assert!(token.is_reached(origin(1, 4), &seen(&[(2, 8), (3, 9)])));
    }
}
