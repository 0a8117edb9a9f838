//! How far one origin is seen in neighbouring slots, one time for each.
//!
//! Most of the time all slots agree, or long runs of them do: a watermark advances an origin in all slots that it speaks for. So a
//! column is a list of runs, and what is asked of all slots costs as much as there are runs. A scan moves slot by slot, and each
//! slot may then have a time of its own. With more than [`RUNS_MAX`] runs a column is one time per slot instead, in which a
//! slot is found at once and a pass over all costs some microseconds; it is runs again as soon as all slots agree.

use clock::Time;

/// Runs beyond which a column is one time per slot: about where finding a run costs as much as all that follows.
const RUNS_MAX: usize = 128;

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) enum Column {
    /// Where each run ends, and its time; neighbours differ, and the last ends where the slots do.
    Runs(Vec<(usize, Time)>),
    /// One time per slot.
    Slots(Box<[Time]>),
}

impl Column {
    /// Nothing seen in so many slots.
    pub(super) fn new(slots: usize) -> Self {
        Self::Runs(vec![(slots, Time::ZERO)])
    }

    /// The time of one slot.
    pub(super) fn at(&self, index: usize) -> Time {
        match self {
            Self::Runs(runs) => runs[runs.partition_point(|(end, _)| *end <= index)].1,
            Self::Slots(times) => times[index],
        }
    }

    /// The runs of the slots from `first` up to, but not including, `end`: where each ends, and its time. Neighbours may be equal.
    pub(super) fn runs(&self, first: usize, end: usize) -> Runs<'_> {
        Runs { column: self, next: first, end, place: self.place(first) }
    }

    /// Raises all times from `first` up to, but not including, `end` to `time`, where they are less. Returns whether any was.
    pub(super) fn raise(&mut self, first: usize, end: usize, time: Time) -> bool {
        if first >= end {
            return false;
        }
        match self {
            Self::Slots(times) => {
                let is_news = times[first..end].iter().any(|entry| *entry < time);
                times[first..end].iter_mut().for_each(|entry| *entry = (*entry).max(time));
                let all_agree = end - first == times.len() && times.iter().all(|entry| *entry == times[0]);
                if all_agree {
                    *self = Self::Runs(vec![(times.len(), times[0])]);
                }
                is_news
            }
            Self::Runs(runs) => {
                let place = runs.partition_point(|(run_end, _)| *run_end <= first);
                if raise_whole(runs, place, first, end, time) {
                    return true;
                }
                let is_news = runs[place..].iter().scan(first, |start, (run_end, old)| {
                    let begins = std::mem::replace(start, *run_end);
                    (begins < end).then_some(*old < time)
                });
                let is_news = is_news.into_iter().any(|is_less| is_less);
                if is_news {
                    self.change(first, end, |old| old.max(time));
                }
                is_news
            }
        }
    }

    /// Takes the greater of both times of each slot from `first` up to, but not including, `end`; the other's begin at `theirs`.
    /// Returns whether any was greater there.
    pub(super) fn join(&mut self, first: usize, end: usize, other: &Self, theirs: usize) -> bool {
        let (mut start, mut is_news) = (first, false);
        for (run_end, time) in other.runs(theirs, theirs + (end - first)) {
            let run_end = run_end - theirs + first;
            is_news |= self.raise(start, run_end, time);
            start = run_end;
        }
        is_news
    }

    /// Forgets what was seen in one slot.
    pub(super) fn clear(&mut self, index: usize) {
        if self.at(index) == Time::ZERO {
            return;
        }
        match self {
            Self::Slots(times) => times[index] = Time::ZERO,
            Self::Runs(_) => self.change(index, index + 1, |_| Time::ZERO),
        }
    }

    /// The least time from `first` up to, but not including, `end`.
    pub(super) fn least(&self, first: usize, end: usize) -> Option<Time> {
        match self {
            Self::Slots(times) => times[first..end].iter().copied().min(),
            Self::Runs(_) => self.runs(first, end).map(|(_, time)| time).min(),
        }
    }

    /// The greatest time of all.
    pub(super) fn greatest(&self) -> Time {
        match self {
            Self::Slots(times) => times.iter().copied().max(),
            Self::Runs(runs) => runs.iter().map(|(_, time)| *time).max(),
        }
        .unwrap_or(Time::ZERO)
    }

    /// The greatest time up to `horizon`; zero if there is none.
    pub(super) fn greatest_under(&self, horizon: Time) -> Time {
        let under = |time: &Time| *time <= horizon;
        match self {
            Self::Slots(times) => times.iter().copied().filter(under).max(),
            Self::Runs(runs) => runs.iter().map(|(_, time)| *time).filter(under).max(),
        }
        .unwrap_or(Time::ZERO)
    }

    /// Lowers all times to `limit`, where they are greater.
    pub(super) fn lower(&mut self, limit: Time) {
        match self {
            Self::Slots(times) => times.iter_mut().for_each(|time| *time = (*time).min(limit)),
            Self::Runs(runs) => {
                let end = runs.last().map_or(0, |(end, _)| *end);
                self.change(0, end, |time| time.min(limit));
            }
        }
    }

    /// Changes the times of the runs from `first` up to, but not including, `end`.
    fn change(&mut self, first: usize, end: usize, change: impl Fn(Time) -> Time) {
        let Self::Runs(runs) = self else { return };
        let from = split_at(runs, first);
        let to = split_at(runs, end);
        runs[from..to].iter_mut().for_each(|(_, time)| *time = change(*time));
        runs.dedup_by(|next, kept| {
            let agrees = next.1 == kept.1;
            if agrees {
                kept.0 = next.0;
            }
            agrees
        });
        self.settle();
    }

    fn place(&self, index: usize) -> usize {
        match self {
            Self::Runs(runs) => runs.partition_point(|(end, _)| *end <= index),
            Self::Slots(_) => index,
        }
    }

    /// With too many runs it is one time per slot.
    fn settle(&mut self) {
        let Self::Runs(runs) = self else { return };
        if runs.len() > RUNS_MAX {
            let mut times = Vec::with_capacity(runs.last().map_or(0, |(end, _)| *end));
            runs.iter().for_each(|(end, time)| times.resize(*end, *time));
            *self = Self::Slots(times.into_boxed_slice());
        }
    }
}

/// Raises a run that begins and ends just there and stays apart from its neighbours: what a watermark finds mostly. Returns whether that
/// is so.
fn raise_whole(runs: &mut [(usize, Time)], place: usize, first: usize, end: usize, time: Time) -> bool {
    let before = place.checked_sub(1).map(|before| runs[before]);
    let is_apart =
        before.is_none_or(|(_, other)| other != time) && runs.get(place + 1).is_none_or(|(_, other)| *other != time);
    let begins = before.map_or(0, |(end, _)| end);
    let (run_end, old) = runs[place];
    let is_whole = begins == first && run_end == end && old < time && is_apart;
    if is_whole {
        runs[place].1 = time;
    }
    is_whole
}

/// Has a run begin at `index`, unless that is the end. Returns its place.
fn split_at(runs: &mut Vec<(usize, Time)>, index: usize) -> usize {
    let place = runs.partition_point(|(end, _)| *end <= index);
    let begins = place.checked_sub(1).map_or(0, |former| runs[former].0);
    if begins == index || place == runs.len() {
        return place;
    }
    runs.insert(place, (index, runs[place].1));
    place + 1
}

/// Runs of a column; see [`Column::runs`].
#[derive(Clone, Debug)]
pub(super) struct Runs<'a> {
    column: &'a Column,
    next: usize,
    end: usize,
    place: usize,
}

impl Iterator for Runs<'_> {
    type Item = (usize, Time);

    fn next(&mut self) -> Option<(usize, Time)> {
        if self.next >= self.end {
            return None;
        }
        let (end, time) = match self.column {
            Column::Runs(runs) => runs[self.place],
            Column::Slots(times) => {
                let time = times[self.next];
                let more = times[self.next..self.end].iter().take_while(|other| **other == time).count();
                (self.next + more, time)
            }
        };
        self.place += 1;
        self.next = end.min(self.end);
        Some((self.next, time))
    }
}

#[cfg(test)]
mod tests {
    use clock::Time;
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{Column, RUNS_MAX};

    const SLOTS: usize = 400;

    fn time(number: u64) -> Time {
        Time::from_ntp64(number)
    }

    fn times(column: &Column) -> Vec<Time> {
        (0..SLOTS).map(|index| column.at(index)).collect()
    }

    proptest! {
        #[test]
        fn a_column_is_what_one_time_per_slot_would_be(
            steps in proptest::collection::vec((0..5_u8, 0..SLOTS, 0..SLOTS, 0..20_u64), 0..300),
        ) {
            let (mut column, mut plain) = (Column::new(SLOTS), vec![Time::ZERO; SLOTS]);
            for (what, one, other, number) in steps {
                let (first, end) = (one.min(other), one.max(other));
                match what {
                    0 => {
                        let is_news = plain[first..end].iter().any(|entry| *entry < time(number));
                        prop_assert_eq!(column.raise(first, end, time(number)), is_news);
                        plain[first..end].iter_mut().for_each(|entry| *entry = (*entry).max(time(number)));
                    }
                    1 => {
                        column.raise(first, first + 1, time(number));
                        plain[first] = plain[first].max(time(number));
                    }
                    2 => {
                        column.clear(first);
                        plain[first] = Time::ZERO;
                    }
                    3 => {
                        column.lower(time(number));
                        plain.iter_mut().for_each(|entry| *entry = (*entry).min(time(number)));
                    }
                    _ => {
                        let theirs = column.clone();
                        let length = SLOTS - end;
                        column.join(first.min(SLOTS - length), first.min(SLOTS - length) + length, &theirs, end);
                        let copy = plain.clone();
                        let into = first.min(SLOTS - length);
                        for index in 0..length {
                            plain[into + index] = plain[into + index].max(copy[end + index]);
                        }
                    }
                }
                prop_assert_eq!(column.least(first, end), plain[first..end].iter().copied().min());
                prop_assert_eq!(column.greatest(), plain.iter().copied().max().unwrap());
                let under = plain.iter().copied().filter(|entry| *entry <= time(number)).max();
                prop_assert_eq!(column.greatest_under(time(number)), under.unwrap_or(Time::ZERO));
                let mut start = first;
                for (run_end, time) in column.runs(first, end) {
                    prop_assert_eq!(&plain[start..run_end], &vec![time; run_end - start][..]);
                    start = run_end;
                }
                prop_assert_eq!(start, end);
            }
            prop_assert_eq!(times(&column), plain);
        }
    }

    #[test]
    fn many_runs_are_one_time_per_slot_until_all_agree() {
        let mut column = Column::new(SLOTS);
        (0..SLOTS).step_by(2).for_each(|index| _ = column.raise(index, index + 1, time(index as u64 + 1)));
        assert!(SLOTS / 2 > RUNS_MAX && matches!(column, Column::Slots(_)));
        column.raise(0, SLOTS, time(1_000));
        assert!(matches!(&column, Column::Runs(runs) if *runs == [(SLOTS, time(1_000))]));
    }
}
