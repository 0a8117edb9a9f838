//! When all is quiet the regions hold the same.
//!
//! Checks promise 4: when the links are up and writes stop, every key that is present in two regions holds the same winning value
//! in both, with the same expiry, which is an absolute time and part of the record. Where nothing was evicted or forgotten
//! early, a key is present in all or in none.

use std::collections::BTreeMap;

use super::Finding;
use crate::{
    history::{Found, History, Key, Last},
    order::Order,
};

/// See the head of this file.
pub fn judge(history: &History, order: &Order<'_>) -> Finding {
    let mut keys: BTreeMap<Key, Vec<&Last>> = BTreeMap::new();
    for last in history.last.iter().filter(|last| history.judged.contains(&last.region)) {
        keys.entry(last.key).or_default().push(last);
    }
    let mut finding = Finding::default();
    for (key, lasts) in keys {
        finding.judged += 1;
        let present = |last: &&&Last| last.found.is_some();
        let held = |last: &Last| (last.found.clone(), last.expires_ms);
        let some = lasts.iter().find(present);
        let differs = |last: &&&Last| {
            let is_missing = last.found.is_none() && history.may_miss.contains(&last.region);
            some.is_some_and(|some| held(some) != held(last)) && !is_missing
        };
        if lasts.iter().any(|last| differs(&last)) {
            let written: Vec<_> = lasts.iter().filter_map(|last| order.write_of(last.found.as_ref()?)).collect();
            finding.complain(key, format!("the regions differ: {}", show(history, &lasts)), &written);
        }
    }
    finding
}

fn show(history: &History, lasts: &[&Last]) -> String {
    let one = |last: &&Last| {
        let found = last.found.as_ref().map_or_else(|| "nothing".to_owned(), Found::to_string);
        let expires = if last.expires_ms < 0 { String::new() } else { format!(" until {} ms", last.expires_ms) };
        format!("{} has {found}{expires}", history.name(last.region))
    };
    lasts.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::oracles::testing::{HERE, Scribe, THERE};

    #[test]
    fn regions_that_differ_are_found() {
        let mut scribe = Scribe::default();
        scribe.set(HERE, 0..1, 1);
        scribe.set(THERE, 0..1, 2);
        scribe.ends([Some(1), Some(2)]);
        assert_eq!(scribe.complaints(judge), 1);
        scribe.history.judged = vec![HERE];
        assert_eq!(scribe.complaints(judge), 0, "a region that is not judged may hold what it likes");
    }

    #[test]
    fn a_key_that_one_region_lacks_is_found_unless_that_region_evicts() {
        let mut scribe = Scribe::default();
        scribe.ends([Some(1), None]);
        assert_eq!(scribe.complaints(judge), 1);
        scribe.history.may_miss = vec![HERE];
        assert_eq!(scribe.complaints(judge), 1, "it is the other one that lacks it");
        scribe.history.may_miss = vec![THERE];
        assert_eq!(scribe.complaints(judge), 0);
    }

    #[test]
    fn another_expiry_is_another_record() {
        let mut scribe = Scribe::default();
        scribe.ends([Some(1), Some(1)]);
        assert_eq!(scribe.complaints(judge), 0);
        scribe.history.last[1].expires_ms = 1_700_000_000_000;
        assert_eq!(scribe.complaints(judge), 1);
    }
}
