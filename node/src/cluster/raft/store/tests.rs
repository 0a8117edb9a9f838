//! openraft's own suite, and what it does not ask: that it is all still there when the file is opened again.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use node_core::cluster::{ClusterMap, Id, NodeId};
use openraft::{
    CommittedLeaderId, EntryPayload, RaftLogReader, RaftSnapshotBuilder,
    storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine},
    testing::{StoreBuilder, Suite},
};
use redb::{StorageBackend, backends::InMemoryBackend};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Disk, LogStore, MapMachine, StoreError};
use crate::cluster::raft::types::{Entry, LogId, StorageError, Types, Vote};

#[test]
fn store_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).unwrap();
}

struct Builder;

impl StoreBuilder<Types, LogStore, MapMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, MapMachine), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let disk = open(&folder, 1).await.unwrap();
        let machine = MapMachine::open(disk.clone(), watch::Sender::default()).await?;
        Ok((folder, LogStore::new(disk), machine))
    }
}

#[tokio::test]
async fn what_was_written_is_there_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (vote, closed) = (Vote::new(3, 1), CancellationToken::new());
    {
        let disk = Disk::open(folder.path(), Duration::ZERO, node(1), closed.clone()).await.unwrap();
        let mut log = LogStore::new(disk.clone());
        log.save_vote(&vote).await.unwrap();
        log.blocking_append((1..=9).map(blank)).await.unwrap();
        log.save_committed(Some(id(9))).await.unwrap();
        let mut machine = MapMachine::open(disk, watch::Sender::default()).await.unwrap();
        machine.apply((1..=5).map(blank)).await.unwrap();
        machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
        log.purge(id(4)).await.unwrap();
        log.truncate(id(8)).await.unwrap();
    }
    closed.cancelled().await;
    let disk = open(&folder, 1).await.unwrap();
    let mut log = LogStore::new(disk.clone());
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.read_committed().await.unwrap(), Some(id(9)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(4)), Some(id(7))));
    let entries = log.try_get_log_entries(..).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>(), [5, 6, 7]);
    let (sender, receiver) = watch::channel(Arc::new(ClusterMap::new()));
    let mut machine = MapMachine::open(disk, sender).await.unwrap();
    assert_eq!(machine.applied_state().await.unwrap().0, Some(id(5)));
    assert!(receiver.has_changed().unwrap());
}

#[tokio::test]
async fn an_older_snapshot_replaces_no_newer_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = MapMachine::open(open(&folder, 1).await.unwrap(), watch::Sender::default()).await.unwrap();
    machine.apply([blank(1)]).await.unwrap();
    let mut overtaken = machine.get_snapshot_builder().await;
    machine.apply([blank(2)]).await.unwrap();
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    overtaken.build_snapshot().await.unwrap();
    let current = machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.last_log_id, Some(id(2)));
}

#[tokio::test]
async fn the_file_of_another_node_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let closed = CancellationToken::new();
    drop(Disk::open(folder.path(), Duration::ZERO, node(1), closed.clone()).await.unwrap());
    closed.cancelled().await;
    assert!(matches!(open(&folder, 2).await, Err(StoreError::OtherNode(owner)) if owner == node(1)));
}

#[tokio::test]
async fn a_file_that_is_none_is_an_error_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(super::FILE);
    std::fs::write(&path, "no database").unwrap();
    assert!(open(&folder, 1).await.is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"no database");
}

/// A file on a disk that can be full.
pub(in crate::cluster::raft) fn on_a_disk_that_fills(
    node: NodeId,
    closed: CancellationToken,
    is_full: Arc<AtomicBool>,
) -> Disk {
    let backend = Fills { disk: InMemoryBackend::new(), is_full };
    Disk::over(redb::Database::builder().create_with_backend(backend).unwrap(), Duration::ZERO, node, closed).unwrap()
}

#[derive(Debug)]
struct Fills {
    disk: InMemoryBackend,
    is_full: Arc<AtomicBool>,
}

impl Fills {
    fn check(&self) -> io::Result<()> {
        if self.is_full.load(Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Fills {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.disk.write(offset, data)
    }
}

async fn open(folder: &TempDir, number: u8) -> Result<Disk, StoreError> {
    Disk::open(folder.path(), Duration::ZERO, node(number), CancellationToken::new()).await
}

fn node(number: u8) -> NodeId {
    NodeId(Id::from_bytes([number; Id::BYTES]))
}

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

fn blank(index: u64) -> Entry {
    Entry { log_id: id(index), payload: EntryPayload::Blank }
}
