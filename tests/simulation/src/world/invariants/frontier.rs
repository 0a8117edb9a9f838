//! At rest the frontier is near.
//!
//! DESIGN, `frontier`: the stamp up to which every region is known to have seen every origin. Who is there holds it back for as long as
//! something is on its way to him; who was removed holds nobody back. Were it to stay behind, all that is deleted would be kept until
//! the budget runs out.

use std::time::Duration;

use super::World;

/// How far it may be behind, when all is quiet: what is told of progress comes with heartbeats.
const BEHIND_MAX: Duration = Duration::from_secs(2);

impl World {
    pub(in crate::world) fn check_frontier(&self) -> Result<(), String> {
        for place in self.members() {
            let primaries = self.regions[place].processes.iter().filter(|process| process.speaks.is_some());
            // Who owns nothing has nothing to forget, and is told nothing: nobody else takes it for one who speaks.
            for process in primaries.filter(|process| process.store.owned().is_none_or(|owned| !owned.is_empty())) {
                let (now, frontier) = (process.clock.at(self.now).wall, process.store.settings().frontier());
                if now.since(frontier) > BEHIND_MAX {
                    let id = self.regions[place].make.id;
                    return Err(format!("{:?} of {id} knows of no frontier beyond {frontier:?}", process.node.id));
                }
            }
        }
        Ok(())
    }
}
