//! What is asked of a line: delay, jitter, rate, loss, and whether it is up.
//!
//! Each quantity is a type of its own that can only hold what a line can do, and each reads and writes itself in the
//! unit of its key (`delay_ms`, `rate_mbit`). So a topology file, a request to the control API and a schedule in a
//! test are checked by the same code, at the place where the value stands, and past that place nobody checks again.

use std::{fmt, num::NonZeroU64, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::{CHUNK_MAX, CHUNK_TIME, DELAY_MAX, RATE_MAX, RATE_MIN, SEGMENT};

/// All that is asked of one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LineSettings {
    /// How long each byte takes at the least, one way.
    #[serde(rename = "delay_ms")]
    pub delay: Delay,
    /// The greatest addition to the delay, drawn anew and uniformly for each chunk.
    #[serde(rename = "jitter_ms")]
    pub jitter: Delay,
    /// What the line carries per second; none for no limit.
    #[serde(rename = "rate_mbit")]
    pub rate: Option<Rate>,
    /// The chance of each segment to be lost.
    pub loss: Loss,
    /// Whether anything passes.
    pub state: State,
}

impl LineSettings {
    /// An unlimited, lossless line with this delay.
    pub fn with_delay(delay: Delay) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Takes over what `change` names and keeps the rest.
    pub fn apply(&mut self, change: &LineChange) {
        let LineChange { delay, jitter, rate, loss, state } = *change;
        *self = Self {
            delay: delay.unwrap_or(self.delay),
            jitter: jitter.unwrap_or(self.jitter),
            rate: rate.unwrap_or(self.rate),
            loss: loss.unwrap_or(self.loss),
            state: state.unwrap_or(self.state),
        };
    }
}

/// A change to a line: what is none stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineChange {
    /// A new delay, for what is sent from now on.
    #[serde(default, rename = "delay_ms")]
    pub delay: Option<Delay>,
    /// A new jitter.
    #[serde(default, rename = "jitter_ms")]
    pub jitter: Option<Delay>,
    /// A new rate; `Some(None)`, in JSON `null`, lifts the limit.
    #[serde(default, rename = "rate_mbit", deserialize_with = "present")]
    pub rate: Option<Option<Rate>>,
    /// A new loss.
    #[serde(default)]
    pub loss: Option<Loss>,
    /// A new state.
    #[serde(default)]
    pub state: Option<State>,
}

impl LineChange {
    /// A change of the state alone.
    pub fn state(state: State) -> Self {
        Self { state: Some(state), ..Self::default() }
    }

    /// Whether it names nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Tells `null` from absent: this runs only when the key is there.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Rate>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Whether anything passes a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Data passes.
    #[default]
    Up,
    /// Everything is lost in silence, what was already on its way too. Connections stay, and go on after the cut.
    Blackhole,
    /// Connections are reset, and new ones as soon as they are made.
    Reset,
}

/// A span of time on a line: 0 to [`DELAY_MAX`], in nanoseconds; written in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Delay(Duration);

impl Delay {
    /// No delay.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// Takes milliseconds, with a fraction if need be.
    ///
    /// # Errors
    /// [`InvalidSetting::Delay`] unless they lie in 0 to [`DELAY_MAX`].
    pub fn from_ms(ms: f64) -> Result<Self, InvalidSetting> {
        let max_ms = DELAY_MAX.as_millis() as f64;
        if !(0.0..=max_ms).contains(&ms) {
            return Err(InvalidSetting::Delay(ms));
        }
        Ok(Self(Duration::from_nanos((ms * 1e6).round() as u64)))
    }

    /// The milliseconds.
    pub fn ms(self) -> f64 {
        self.0.as_nanos() as f64 / 1e6
    }

    /// The same as a duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<f64> for Delay {
    type Error = InvalidSetting;

    fn try_from(ms: f64) -> Result<Self, InvalidSetting> {
        Self::from_ms(ms)
    }
}

impl From<Delay> for f64 {
    fn from(delay: Delay) -> Self {
        delay.ms()
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.ms())
    }
}

/// What a line carries: [`RATE_MIN`] to [`RATE_MAX`] bits per second of payload; written in Mbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Rate(NonZeroU64);

impl Rate {
    /// Takes Mbit/s: a million bits per second.
    ///
    /// # Errors
    /// [`InvalidSetting::Rate`] unless they lie in [`RATE_MIN`] to [`RATE_MAX`].
    pub fn from_mbit(mbit: f64) -> Result<Self, InvalidSetting> {
        let bits = (mbit * 1e6).round();
        if !(RATE_MIN as f64..=RATE_MAX as f64).contains(&bits) {
            return Err(InvalidSetting::Rate(mbit));
        }
        NonZeroU64::new(bits as u64).map(Self).ok_or(InvalidSetting::Rate(mbit))
    }

    /// The Mbit/s.
    pub fn mbit(self) -> f64 {
        self.0.get() as f64 / 1e6
    }

    /// How long `bytes` take to be sent, rounded up: a line is never faster than asked.
    pub fn time_for(self, bytes: usize) -> Duration {
        let nanos = (bytes as u128 * 8 * 1_000_000_000).div_ceil(u128::from(self.0.get()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many bytes are sent in `time`, rounded down.
    pub fn bytes_in(self, time: Duration) -> usize {
        let bytes = u128::from(self.0.get()) * time.as_nanos() / (8 * 1_000_000_000);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The size, in bytes, to which a stream is cut for this rate: see [`CHUNK_TIME`].
    pub fn chunk_max(self) -> usize {
        self.bytes_in(CHUNK_TIME).clamp(SEGMENT, CHUNK_MAX)
    }
}

impl TryFrom<f64> for Rate {
    type Error = InvalidSetting;

    fn try_from(mbit: f64) -> Result<Self, InvalidSetting> {
        Self::from_mbit(mbit)
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> Self {
        rate.mbit()
    }
}

/// The chance of a segment to be lost, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Loss(f64);

impl Loss {
    /// Nothing is lost.
    pub const NONE: Self = Self(0.0);

    /// Takes a chance.
    ///
    /// # Errors
    /// [`InvalidSetting::Loss`] unless it lies in 0 to 1.
    pub fn new(chance: f64) -> Result<Self, InvalidSetting> {
        if (0.0..=1.0).contains(&chance) { Ok(Self(chance)) } else { Err(InvalidSetting::Loss(chance)) }
    }

    /// The chance for one segment.
    pub const fn chance(self) -> f64 {
        self.0
    }

    /// The chance that at least one segment of a chunk of `bytes` is lost.
    pub fn chance_for(self, bytes: usize) -> f64 {
        let segments = bytes.div_ceil(SEGMENT).max(1);
        1.0 - (1.0 - self.0).powi(i32::try_from(segments).unwrap_or(i32::MAX))
    }
}

impl TryFrom<f64> for Loss {
    type Error = InvalidSetting;

    fn try_from(chance: f64) -> Result<Self, InvalidSetting> {
        Self::new(chance)
    }
}

impl From<Loss> for f64 {
    fn from(loss: Loss) -> Self {
        loss.0
    }
}

/// A setting that no line can have.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum InvalidSetting {
    /// A delay or a jitter.
    #[error("{0} is no delay: give 0 to {max} milliseconds", max = DELAY_MAX.as_millis())]
    Delay(f64),
    /// A rate.
    #[error(
        "{0} is no rate: give {min} to {max} Mbit/s, or none at all for an unlimited line",
        min = RATE_MIN as f64 / 1e6,
        max = RATE_MAX / 1_000_000
    )]
    Rate(f64),
    /// A loss.
    #[error("{0} is no loss: give a chance between 0 (none) and 1 (all)")]
    Loss(f64),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Delay, LineChange, LineSettings, Loss, Rate, State};
    use crate::limits::{CHUNK_MAX, SEGMENT};

    #[test]
    fn settings_outside_their_range_are_refused() {
        for ms in [-1.0, 60_001.0, f64::NAN, f64::INFINITY] {
            assert!(Delay::from_ms(ms).is_err(), "{ms}");
        }
        for mbit in [0.0, -5.0, 0.000_1, 1e9, f64::NAN] {
            assert!(Rate::from_mbit(mbit).is_err(), "{mbit}");
        }
        for chance in [-0.1, 1.1, f64::NAN] {
            assert!(Loss::new(chance).is_err(), "{chance}");
        }
    }

    #[test]
    fn milliseconds_survive_the_round_trip() {
        for ms in [0.0, 0.1, 6.5, 50.0, 109.0, 60_000.0] {
            assert_eq!(Delay::from_ms(ms).unwrap().ms(), ms);
        }
    }

    #[test]
    fn a_megabit_per_second_takes_eight_microseconds_a_byte() {
        let rate = Rate::from_mbit(1.0).unwrap();
        assert_eq!(rate.time_for(1_000), Duration::from_millis(8));
        assert_eq!(rate.bytes_in(Duration::from_millis(8)), 1_000);
        assert_eq!(rate.chunk_max(), SEGMENT);
        assert_eq!(Rate::from_mbit(1_000.0).unwrap().chunk_max(), CHUNK_MAX);
    }

    #[test]
    fn large_chunks_are_lost_more_often() {
        let loss = Loss::new(0.01).unwrap();
        assert!((loss.chance_for(1) - 0.01).abs() < 1e-9);
        assert!(loss.chance_for(CHUNK_MAX) > 0.3);
        assert_eq!(Loss::NONE.chance_for(CHUNK_MAX), 0.0);
        assert_eq!(Loss::new(1.0).unwrap().chance_for(0), 1.0);
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let mut settings = LineSettings::with_delay(Delay::from_ms(50.0).unwrap());
        settings.rate = Some(Rate::from_mbit(10.0).unwrap());
        let before = settings;
        settings.apply(&LineChange::state(State::Blackhole));
        assert_eq!(settings, LineSettings { state: State::Blackhole, ..before });
        settings.apply(&LineChange { rate: Some(None), ..LineChange::default() });
        assert_eq!(settings.rate, None);
        assert!(LineChange::default().is_empty());
    }
}
