//! The state that the log leads to: the map, and who is in the group.
//!
//! Applying is memory alone and cannot fail; a command that the map refuses is an outcome like any other. Each applied
//! command is published to whoever watches the map.

use std::sync::Arc;

use node_core::cluster::{ClusterMap, Refused};
use openraft::{
    AnyError, EntryPayload, ErrorSubject, OptionalSend, RaftSnapshotBuilder, StorageIOError, storage::RaftStateMachine,
};
use redb::Durability;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    super::types::{
        Applied, Entry, LogId, Member, Membership, Number, Proposal, Snapshot, SnapshotMeta, StorageError, Types,
    },
    Disk, META, get, key, set,
};

/// The map as it is after the entries that were applied.
#[derive(Clone, Debug)]
pub(crate) struct MapMachine {
    disk: Disk,
    applied: Option<LogId>,
    membership: Membership,
    map: Arc<ClusterMap>,
    published: watch::Sender<Arc<ClusterMap>>,
}

/// A snapshot as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    meta: SnapshotMeta,
    #[serde(with = "serde_bytes")]
    map: Vec<u8>,
}

impl MapMachine {
    /// The state at the latest snapshot.
    pub(crate) async fn open(disk: Disk, published: watch::Sender<Arc<ClusterMap>>) -> Result<Self, StorageError> {
        let mut machine =
            Self { disk, applied: None, membership: Membership::default(), map: Arc::default(), published };
        if let Some(kept) = machine.kept().await? {
            let map = rmp_serde::from_slice(&kept.map).map_err(|error| unreadable(&kept.meta, &error))?;
            machine.become_snapshot(&kept.meta, map);
        }
        Ok(machine)
    }

    async fn kept(&self) -> Result<Option<Kept>, StorageError> {
        self.disk.meta(ErrorSubject::Snapshot(None), key::SNAPSHOT).await
    }

    fn become_snapshot(&mut self, meta: &SnapshotMeta, map: ClusterMap) {
        (self.applied, self.membership) = (meta.last_log_id, meta.last_membership.clone());
        self.map = Arc::new(map);
        self.publish();
    }

    fn apply_entry(&mut self, entry: Entry) -> Applied {
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Membership(membership) => {
                self.membership = Membership::new(Some(entry.log_id), membership);
                None
            }
            EntryPayload::Normal(Proposal { term: Some(term), .. }) if term != entry.log_id.leader_id.term => {
                Some(Err(Refused::Outdated))
            }
            EntryPayload::Normal(Proposal { command, .. }) => {
                let outcome = Arc::make_mut(&mut self.map).apply(&command);
                self.publish();
                Some(outcome)
            }
        }
    }

    fn publish(&self) {
        self.published.send_replace(self.map.clone());
    }

    /// Keeps a snapshot, unless a later one is kept already: one that is built here may be overtaken by the leader's.
    async fn keep(&self, kept: Kept) -> Result<(), StorageError> {
        let change = move |transaction: &redb::WriteTransaction| {
            let former: Option<Kept> = get(&transaction.open_table(META)?, key::SNAPSHOT)?;
            if former.is_none_or(|former| former.meta.last_log_id <= kept.meta.last_log_id) {
                set(transaction, key::SNAPSHOT, &kept)?;
            }
            Ok(())
        };
        self.disk.change(ErrorSubject::Snapshot(None), Durability::Immediate, change).await
    }
}

impl RaftSnapshotBuilder<Types> for MapMachine {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: self.applied.map_or_else(String::new, |applied| applied.to_string()),
        };
        let map = rmp_serde::to_vec(&*self.map)
            .map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&error)))?;
        self.keep(Kept { meta: meta.clone(), map: map.clone() }).await?;
        Ok(Snapshot { meta, snapshot: Box::new(map) })
    }
}

impl RaftStateMachine<Types> for MapMachine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, openraft::StoredMembership<Number, Member>), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        Ok(entries.into_iter().map(|entry| self.apply_entry(entry)).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<Vec<u8>>) -> Result<(), StorageError> {
        let map = rmp_serde::from_slice(&snapshot).map_err(|error| unreadable(meta, &error))?;
        self.become_snapshot(meta, map);
        self.keep(Kept { meta: meta.clone(), map: *snapshot }).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        Ok(self.kept().await?.map(|kept| Snapshot { meta: kept.meta, snapshot: Box::new(kept.map) }))
    }
}

fn unreadable(meta: &SnapshotMeta, error: &rmp_serde::decode::Error) -> StorageError {
    StorageIOError::read_snapshot(Some(meta.signature()), AnyError::new(error)).into()
}
