//! Tokens: what a connection has written, for a client that moves to another region and wants to read it there.
//!
//! As text it is pairs of an origin and a time, `3.7@123456789abc`, joined by commas: a client that has written to several primaries joins
//! what each of them gave it.

use std::{fmt, str::FromStr};

use clock::{Origin, Time};

use super::Seen;
use crate::limits::TOKEN_PAIRS_MAX;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(Vec<(Origin, Time)>);

/// Why text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// More are joined than any region has primaries.
    #[error("too many tokens")]
    TooMany,
    /// It is not pairs of an origin and a time.
    #[error("invalid token")]
    Invalid,
}

impl Token {
    /// Of what an origin has stamped until then.
    pub fn new(origin: Origin, until: Time) -> Self {
        Self(vec![(origin, until)])
    }

    /// Whether a node that stamps as `own` and has `seen` so much has it all. What its own region has written is there.
    pub fn is_reached(&self, own: Origin, seen: &Seen) -> bool {
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
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let pair = |pair: &str| {
            let (origin, time) = pair.split_once('@')?;
            let time = Time::from_ntp64(u64::from_str_radix(time, 16).ok()?);
            Some((origin.parse().ok()?, time))
        };
        if text.split(',').count() > TOKEN_PAIRS_MAX {
            return Err(ParseTokenError::TooMany);
        }
        let pairs: Option<Vec<_>> = text.split(',').map(pair).collect();
        pairs.map(Self).ok_or(ParseTokenError::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, Origin, RegionId, Time};

    use super::Token;
    use crate::store::Seen;

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
