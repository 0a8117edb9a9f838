//! Waiting for what must come.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How long a condition may take to come true. It only ends tests that hang, so it is generous: with debug builds on
/// two loaded cores everything here came within a few seconds.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks.
const POLL: Duration = Duration::from_millis(2);

/// Looks again and again until there is something, and returns it.
///
/// What `look` fails with counts as "not yet", since a region that is starting or cut off refuses connections; the
/// last such error is in the message if it never comes.
///
/// # Errors
/// If it has not come by the [`DEADLINE`]; `what` is named.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let looked = look();
        if let Ok(Some(found)) = looked {
            return Ok(found);
        }
        if start.elapsed() > DEADLINE {
            match looked {
                Err(error) => bail!("waited {} s in vain until {what}: {error:#}", DEADLINE.as_secs()),
                Ok(_) => bail!("waited {} s in vain until {what}", DEADLINE.as_secs()),
            }
        }
        thread::sleep(POLL);
    }
}
