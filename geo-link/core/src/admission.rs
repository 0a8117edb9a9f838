//! Who may speak for a region: the rule at both ends of a greeting.
//!
//! Who goes on with less in memory than it had does so under a new incarnation, so what matters is that for each slot only
//! the newest life is listened to: in a region of one node the newest of all, in a cluster who owns the slot by the latest map.
//! An older one that still runs somewhere, or a process that lost its memory of its incarnations and took one that is taken
//! already, is told by whom it was superseded; it then goes on beyond that one, which is the only safe thing it can do. Two
//! processes in one incarnation are told apart by their births.
//!
//! Of one process's connections the newest is its stream: an older one may be half open for as long as a network cares
//! to keep it so. The streams of all who speak for a region are the link from it.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Incarnation, Origin, RegionId, Time};
use node_core::store::{Claim, Matrix};

use crate::{
    frame::{Hello, Refusal},
    limits::PROTOCOL_VERSION,
};

/// Takes note that `origin`, born at `birth`, speaks for slots of `region`.
///
/// # Errors
/// [`Refusal::Superseded`] if others have younger claims on all of them, it is known as another process, or its region was
/// removed in that life;
/// [`Refusal::Region`] if it is an origin of another region, or the region is none of those that exist. The matrix is
/// then as it was.
pub(crate) fn announce(
    matrix: &mut Matrix,
    region: RegionId,
    origin: Origin,
    birth: Time,
    claim: &Claim,
) -> Result<(), Refusal> {
    if origin.region() != region {
        return Err(Refusal::Region(format!("id {}, where id {region} is configured", origin.region())));
    }
    if let Some(retired) = matrix.retired(region).filter(|retired| !origin.incarnation().is_after(*retired)) {
        return Err(Refusal::Superseded(Origin::new(region, retired)));
    }
    if matrix.is_live(origin) && matrix.birth(origin) != birth {
        return Err(Refusal::Superseded(origin));
    }
    if claim.slots.is_empty() || matrix.announce(origin, birth, claim) {
        return Ok(());
    }
    let younger = matrix.speakers(region).find(|(_, slots)| claim.slots.iter().any(|slot| slots.contains(slot)));
    Err(match younger {
        Some((younger, _)) => Refusal::Superseded(younger),
        None => Refusal::Region(format!("id {region}, which is not configured")),
    })
}

/// Takes note of who answers for `region` on a stream of ours. Only the one node of a region speaks for it by its answer: what
/// the primaries of a cluster have to say comes with their own streams, and their gateways stamp nothing.
///
/// # Errors
/// The [`Refusal`] to send, as for who greets; the matrix is then as it was.
pub fn answered(matrix: &mut Matrix, region: RegionId, origin: Origin, birth: Time) -> Result<(), Refusal> {
    if origin.incarnation() == Incarnation::UNBORN && origin.region() == region {
        return Ok(());
    }
    announce(matrix, region, origin, birth, &Claim::all())
}

/// One connection of a stream, among all that ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkId {
    /// Who sends.
    pub origin: Origin,
    /// Which of its connections.
    pub epoch: u64,
}

impl LinkId {
    /// The region that sends.
    pub const fn region(self) -> RegionId {
        self.origin.region()
    }
}

/// The incoming streams of a region.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    streams: BTreeMap<Origin, LinkId>,
    /// Those that own nothing, by their own word: of them there is nothing that others could have taken.
    idle: BTreeSet<Origin>,
}

impl Admission {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self { streams: BTreeMap::new(), idle: BTreeSet::new() }
    }

    /// Decides whether a sender is let in. `peer` is what its certificate and our configuration say it is. From here
    /// on it is the stream of its origin. The connection that was before is to be closed, and so are those of origins of its
    /// region whose life is over ([`is_over`](Self::is_over)).
    ///
    /// # Errors
    /// The [`Refusal`] to send. Nothing changed.
    pub(crate) fn admit(
        &mut self,
        matrix: &mut Matrix,
        peer: (&str, RegionId),
        hello: &Hello,
    ) -> Result<LinkId, Refusal> {
        if hello.version != PROTOCOL_VERSION {
            return Err(Refusal::Version(PROTOCOL_VERSION));
        }
        if peer != (hello.name.as_str(), hello.region()) {
            return Err(Refusal::Region(format!("{} (id {})", hello.name, hello.region())));
        }
        let id = LinkId { origin: hello.origin, epoch: hello.epoch };
        announce(matrix, peer.1, hello.origin, hello.birth, &hello.claim)?;
        if self.streams.get(&id.origin).is_some_and(|current| current.epoch >= id.epoch) {
            return Err(Refusal::Replaced);
        }
        self.streams.insert(id.origin, id);
        self.note(id.origin, &hello.claim);
        let over: Vec<_> = self.streams.keys().filter(|origin| self.is_over(matrix, **origin)).copied().collect();
        for origin in over.into_iter().filter(|origin| *origin != id.origin) {
            self.streams.remove(&origin);
        }
        self.idle.retain(|origin| self.streams.contains_key(origin));
        Ok(id)
    }

    /// The sender of a stream speaks for this from here on.
    pub(crate) fn claimed(&mut self, matrix: &mut Matrix, origin: Origin, claim: &Claim) {
        matrix.announce(origin, matrix.birth(origin), claim);
        self.note(origin, claim);
    }

    fn note(&mut self, origin: Origin, claim: &Claim) {
        if claim.slots.is_empty() {
            self.idle.insert(origin);
        } else {
            self.idle.remove(&origin);
        }
    }

    /// Whether others speak for all that the sender of a stream last spoke for.
    pub(crate) fn is_over(&self, matrix: &Matrix, origin: Origin) -> bool {
        !matrix.is_live(origin) && !self.idle.contains(&origin)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clock::{Incarnation, Origin, RegionId, Time};
    use node_core::store::{Claim, Matrix};

    use super::{Admission, LinkId, announce};
    use crate::{
        frame::{Hello, Refusal},
        limits::{FRAME_BYTES_MAX, PROTOCOL_VERSION},
    };

    fn region(id: u8) -> RegionId {
        RegionId::new(id).unwrap()
    }

    fn origin(id: u8, life: u16) -> Origin {
        Origin::new(region(id), Incarnation::new(life))
    }

    fn matrix() -> Matrix {
        Matrix::new(origin(1, 0), Time::from_ntp64(1), [region(2)])
    }

    fn hello(life: u16, birth: u64, epoch: u64) -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            name: "b".into(),
            origin: origin(2, life),
            birth: Time::from_ntp64(birth),
            epoch,
            claim: Claim::all(),
            complete: true,
            frame_bytes_max: FRAME_BYTES_MAX,
        }
    }

    /// Whether this connection is still the stream of its origin.
    fn is_current(admission: &Admission, id: LinkId) -> bool {
        admission.streams.get(&id.origin) == Some(&id)
    }

    #[test]
    fn only_the_newest_life_of_a_region_is_let_in() {
        let (mut matrix, mut admission) = (matrix(), Admission::new());
        let peer = ("b", region(2));
        let third = admission.admit(&mut matrix, peer, &hello(3, 30, 1)).unwrap();
        assert_eq!(admission.admit(&mut matrix, peer, &hello(2, 20, 9)), Err(Refusal::Superseded(origin(2, 3))));
        assert!(is_current(&admission, third));
        let fourth = admission.admit(&mut matrix, peer, &hello(4, 40, 1)).unwrap();
        assert!(is_current(&admission, fourth) && !is_current(&admission, third));
        assert_eq!(admission.admit(&mut matrix, peer, &hello(3, 30, 9)), Err(Refusal::Superseded(origin(2, 4))));
    }

    #[test]
    fn a_second_process_in_one_life_is_told_by_whom_it_was_superseded() {
        let (mut matrix, mut admission) = (matrix(), Admission::new());
        let peer = ("b", region(2));
        admission.admit(&mut matrix, peer, &hello(3, 30, 5)).unwrap();
        for epoch in [1, 5, 9] {
            let refused = admission.admit(&mut matrix, peer, &hello(3, 31, epoch));
            assert_eq!(refused, Err(Refusal::Superseded(origin(2, 3))));
        }
        let twin = announce(&mut matrix, region(2), origin(2, 3), Time::from_ntp64(31), &Claim::all());
        assert_eq!(twin, Err(Refusal::Superseded(origin(2, 3))));
    }

    #[test]
    fn who_owns_nothing_is_not_told_that_its_life_is_over_when_others_begin_theirs() {
        let (mut matrix, mut admission) = (matrix(), Admission::new());
        let peer = ("b", region(2));
        let nothing = Claim { epoch: 4, slots: Arc::default() };
        let mut of_all =
            |admission: &mut Admission, life| admission.admit(&mut matrix, peer, &hello(life, 30, 1)).unwrap();
        let (first, second) = (of_all(&mut admission, 3), of_all(&mut admission, 4));
        assert!(admission.is_over(&matrix, first.origin) && !is_current(&admission, first));
        admission.claimed(&mut matrix, second.origin, &nothing);
        admission.admit(&mut matrix, peer, &hello(5, 30, 1)).unwrap();
        assert!(!admission.is_over(&matrix, second.origin) && is_current(&admission, second));
    }

    #[test]
    fn the_newest_connection_of_a_process_is_the_link() {
        let (mut matrix, mut admission) = (matrix(), Admission::new());
        let peer = ("b", region(2));
        let first = admission.admit(&mut matrix, peer, &hello(0, 30, 1)).unwrap();
        let second = admission.admit(&mut matrix, peer, &hello(0, 30, 2)).unwrap();
        assert!(!is_current(&admission, first) && is_current(&admission, second));
        assert_eq!(admission.admit(&mut matrix, peer, &hello(0, 30, 1)), Err(Refusal::Replaced));
    }

    #[test]
    fn a_peer_must_be_who_its_certificate_says() {
        let (mut matrix, mut admission) = (matrix(), Admission::new());
        let refused = |refusal| matches!(refusal, Err(Refusal::Region(_)));
        assert!(refused(admission.admit(&mut matrix, ("c", region(2)), &hello(0, 1, 1))));
        assert!(refused(admission.admit(&mut matrix, ("b", region(3)), &hello(0, 1, 1))));
        let old = Hello { version: 0, ..hello(0, 1, 1) };
        assert_eq!(admission.admit(&mut matrix, ("b", region(2)), &old), Err(Refusal::Version(PROTOCOL_VERSION)));
        assert_eq!(matrix.speakers(region(2)).count(), 0);
    }

    #[test]
    fn a_region_that_is_not_configured_is_not_announced() {
        let stranger = announce(&mut matrix(), region(9), origin(9, 0), Time::ZERO, &Claim::all());
        assert!(matches!(stranger, Err(Refusal::Region(_))));
        let misnumbered = announce(&mut matrix(), region(2), origin(3, 0), Time::ZERO, &Claim::all());
        assert!(matches!(misnumbered, Err(Refusal::Region(_))));
    }
}
