//! `seen` on the wire: rows and tables of times, as they stand in messages.
//!
//! A *row* is one [`Seen`]: origin and time pairs. A *table* is a [`SeenTable`] of all 16,384 slots: per origin, runs
//! of neighbouring slots that have seen equally much. A region that was in touch a moment ago has one run per origin,
//! some 30 bytes; one whose scan was cut has as many as the scan had ends. Only in the first case does size matter.
//!
//! Both are read with care: an origin of no region, a run that reaches past the last slot, or more origins than there
//! can be make a message malformed. A run that is missing reads as "seen up to zero", which costs a scan and is safe.

use clock::{Origin, Time};
use node_core::{
    slot::SlotRange,
    store::{Seen, SeenTable},
};
use serde::{Deserialize, Serialize};

use crate::{frame::Malformed, limits::ORIGINS_MAX};

/// A [`Seen`]: origin bits, NTP64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row(Vec<(u16, u64)>);

impl Row {
    pub(crate) fn of(seen: &Seen) -> Self {
        Self(seen.iter().take(ORIGINS_MAX).map(|(origin, time)| (origin.bits(), time.ntp64())).collect())
    }

    /// The row, or `None` if it is empty: then the message says nothing about it.
    pub(crate) fn read(&self) -> Result<Option<Seen>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        if self.0.len() > ORIGINS_MAX {
            return Err(Malformed::TooManyOrigins);
        }
        self.0
            .iter()
            .map(|(origin, time)| Ok((read_origin(*origin)?, Time::from_ntp64(*time))))
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

/// The runs of one origin: origin bits, then length in slots and NTP64 of each run, from slot zero on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Column(u16, Vec<(u16, u64)>);

/// A [`SeenTable`] of all slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table(Vec<Column>);

impl Table {
    pub(crate) fn of(table: &SeenTable) -> Self {
        Self(table.origins().take(ORIGINS_MAX).map(|origin| Column(origin.bits(), runs(table, origin))).collect())
    }

    pub(crate) fn read(&self) -> Result<SeenTable, Malformed> {
        if self.0.len() > ORIGINS_MAX {
            return Err(Malformed::TooManyOrigins);
        }
        let mut table = SeenTable::new(SlotRange::ALL);
        for Column(origin, runs) in &self.0 {
            let origin = read_origin(*origin)?;
            let mut start = 0_u16;
            for (length, time) in runs {
                let end = start.checked_add(*length).ok_or(Malformed::Slots)?;
                let slots = SlotRange::new(start..end).ok_or(Malformed::Slots)?;
                table.advance(&slots, origin, Time::from_ntp64(*time));
                start = end;
            }
        }
        Ok(table)
    }
}

fn runs(table: &SeenTable, origin: Origin) -> Vec<(u16, u64)> {
    table.runs(origin).map(|(length, time)| (length, time.ntp64())).collect()
}

pub(crate) fn read_origin(bits: u16) -> Result<Origin, Malformed> {
    Origin::from_bits(bits).map_err(|_| Malformed::Origin(bits))
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, Origin, RegionId, Time};
    use node_core::{
        slot::{Slot, SlotRange},
        store::{Seen, SeenTable},
    };
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Column, Row, Table};
    use crate::frame::Malformed;

    fn origin(region: u8) -> Origin {
        Origin::new(RegionId::new(region).unwrap(), Incarnation::FIRST)
    }

    #[test]
    fn a_table_that_agrees_is_one_run_per_origin() {
        let mut table = SeenTable::new(SlotRange::ALL);
        table.advance(&SlotRange::ALL, origin(1), Time::from_ntp64(7));
        assert_eq!(Table::of(&table), Table(vec![Column(origin(1).bits(), vec![(16_384, 7)])]));
    }

    #[test]
    fn runs_past_the_last_slot_and_origins_of_no_region_are_malformed() {
        let runs = |runs| Table(vec![Column(origin(1).bits(), runs)]).read().map(drop);
        assert_eq!(runs(vec![(16_384, 1), (1, 1)]), Err(Malformed::Slots));
        assert_eq!(runs(vec![(u16::MAX, 1)]), Err(Malformed::Slots));
        assert_eq!(runs(vec![(0, 1)]), Err(Malformed::Slots));
        assert_eq!(Table(vec![Column(3, vec![])]).read().map(drop), Err(Malformed::Origin(3)));
        assert_eq!(Row(vec![(3, 1)]).read(), Err(Malformed::Origin(3)));
    }

    #[test]
    fn an_empty_row_says_nothing() {
        assert_eq!(Row::default().read(), Ok(None));
        assert_eq!(Row::of(&Seen::new()).read(), Ok(None));
    }

    proptest! {
        #[test]
        fn tables_survive_the_round_trip(
            ends in proptest::collection::vec((0..16_384_u16, 1..4_u8, any::<u64>()), 0..20),
        ) {
            let mut table = SeenTable::new(SlotRange::ALL);
            for (end, region, time) in ends {
                let slots = SlotRange::new(0..end + 1).unwrap();
                table.advance(&slots, origin(region), Time::from_ntp64(time));
            }
            let back = Table::of(&table).read().unwrap();
            for slot in Slot::all() {
                prop_assert_eq!(back.of(slot), table.of(slot));
            }
        }
    }
}
