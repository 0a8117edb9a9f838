//! Where the keys of a request are.
//!
//! All commands that Meridian knows have their keys at fixed places: one, a few, or all from some place on, perhaps
//! with something between them. So the keys of a request follow from the number of its arguments, and finding them
//! takes no look at the arguments themselves. (Commands such as EVAL, which say how many keys follow, would need one.)

/// A run of keys, in the terms of Redis's key specifications ("begin search: index", "find keys: range").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// The index of the first key; the command's name is at 0.
    pub first: u8,
    /// The last key: 0 if the first is the only one, -1 if they go on to the last argument.
    pub last: i8,
    /// From one key to the next.
    pub step: u8,
    /// What is done with them, in Redis's words: `RO`, `RW`, `OW` or `RM`, then `access`, `update`, `insert`, `delete`.
    pub flags: &'static [&'static str],
}

impl KeySpec {
    /// One key.
    pub(super) const fn one(first: u8, flags: &'static [&'static str]) -> Self {
        Self { first, last: 0, step: 1, flags }
    }

    /// Every `step`th argument, from the first behind the name on.
    pub(super) const fn every(step: u8, flags: &'static [&'static str]) -> Self {
        Self { first: 1, last: -1, step, flags }
    }

    /// The indexes of these keys among `arguments` arguments.
    pub(super) fn indexes(&self, arguments: usize) -> impl Iterator<Item = usize> + use<> {
        let first = usize::from(self.first);
        let end = if self.last < 0 { arguments } else { arguments.min(first + 1) };
        (first..end.max(first)).step_by(usize::from(self.step))
    }
}

/// Indexes of keys among the arguments of a request, in order.
#[derive(Clone, Debug)]
pub struct KeyIndexes {
    specs: &'static [KeySpec],
    arguments: usize,
    /// The next index of the first spec.
    next: usize,
}

impl KeyIndexes {
    pub(super) fn new(specs: &'static [KeySpec], arguments: usize) -> Self {
        let next = specs.first().map_or(0, |spec| usize::from(spec.first));
        Self { specs, arguments, next }
    }
}

impl Iterator for KeyIndexes {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let (spec, rest) = self.specs.split_first()?;
        let index = self.next;
        if index >= self.arguments {
            self.specs = &[];
            return None;
        }
        self.next += usize::from(spec.step);
        if spec.last >= 0 {
            *self = Self::new(rest, self.arguments);
        }
        Some(index)
    }
}

/// The three numbers by which clients from before key specifications find keys: first, last, step.
pub(super) fn first_last_step(specs: &[KeySpec]) -> (i64, i64, i64) {
    let (Some(first), Some(last)) = (specs.first(), specs.last()) else { return (0, 0, 0) };
    let last_key = if last.last < 0 { -1 } else { i64::from(last.first) };
    (i64::from(first.first), last_key, i64::from(first.step))
}
