//! Everything has a bound.
//!
//! DESIGN, rule 10, and rule 5: nothing queues without bound. What is on its way on a stream is no more than its window and the batch
//! that filled it, whatever the other end does.

use super::World;

/// What may be on its way on a stream, in bytes, before the peer has applied it.
pub(in crate::world) const WINDOW_BYTES: usize = 4 * 1024;
/// About how many bytes of items go into a batch.
pub(in crate::world) const BATCH_BYTES: usize = 1_024;
/// What a batch may have beyond them: its last record, a scan's end, what its region has seen.
const BATCH_MORE: usize = 2 * 1_024;

impl World {
    pub(super) fn check_bounds(&self) -> Result<(), String> {
        let most = WINDOW_BYTES + BATCH_BYTES + BATCH_MORE;
        let streams = self.outgoing.values().map(|end| end.sender.in_flight_bytes());
        let parts =
            self.splits.values().flat_map(|split| split.split.branches().map(|branch| branch.in_flight_bytes()));
        match streams.chain(parts).max() {
            Some(bytes) if bytes > most => Err(format!("{bytes} bytes are on their way on one stream")),
            _ => Ok(()),
        }
    }
}
