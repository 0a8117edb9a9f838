//! What Raft must not forget: one redb file, `raft.redb` in the state directory.
//!
//! | table | holds |
//! |---|---|
//! | `log` | entries by their index |
//! | `meta` | the vote; up to where the log was purged and was committed; the latest snapshot; whose file it is |
//!
//! An append, a vote, a purge is one transaction that is on the disk when it returns. The map itself is kept in memory
//! ([`MapMachine`]) and written down as a snapshot now and then; what came after the snapshot is in the log and is applied
//! again at the start. Up to where, says the committed index, which is written without waiting for the disk: if it is lost,
//! the map is a little old until the leader is heard, and a node with an old map is wrong only about others.
//!
//! # When the disk fails
//! Every error becomes a [`StorageError`]. openraft answers one by ending its core: it panics nowhere, takes part in no
//! further vote or append, and says so in its metrics ([`ControlPlane::failure`](super::ControlPlane::failure)). That is
//! right: who cannot keep what it promises must promise nothing. The process should then stop; until it does it serves
//! under the lease that it has.
//!
//! All access runs on tokio's pool for blocking work, since the disk may take its time and the cluster's thread has leases
//! to renew.

mod log;
mod machine;
#[cfg(test)]
pub(super) mod tests;

use std::{path::Path, sync::Arc, thread, time::Duration};

use node_core::cluster::NodeId;
use openraft::{AnyError, ErrorSubject, ErrorVerb, StorageIOError};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Serialize, de::DeserializeOwned};
use tokio::task::spawn_blocking;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) use self::{log::LogStore, machine::MapMachine};
use super::{
    limits::CACHE_BYTES,
    types::{Number, StorageError},
};

/// The file's name.
const FILE: &str = "raft.redb";

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// The keys of the table `meta`.
mod key {
    pub(super) const NODE: &str = "node";
    pub(super) const VOTE: &str = "vote";
    pub(super) const PURGED: &str = "purged";
    pub(super) const COMMITTED: &str = "committed";
    pub(super) const SNAPSHOT: &str = "snapshot";
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The file or the disk.
    #[error(transparent)]
    File(#[from] redb::Error),
    /// What was to be written cannot be.
    #[error("cannot be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    /// What was read is not what this build writes.
    #[error("cannot be decoded: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    /// The file is another node's.
    #[error("the file is of node {0}: was the directory copied?")]
    OtherNode(NodeId),
    /// The work on it was cut short.
    #[error("was cut short: {0}")]
    CutShort(#[from] tokio::task::JoinError),
}

/// Lets `?` turn each of redb's errors into ours.
macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::File(error.into())
            }
        }
    )*};
}
from_redb!(CommitError, DatabaseError, SetDurabilityError, StorageError, TableError, TransactionError);

/// The open file. Copies are the same.
#[derive(Clone, Debug)]
pub(super) struct Disk(Arc<File>);

#[derive(Debug)]
struct File {
    database: Database,
    /// By how much longer a write takes that has to be on the disk.
    delay: Duration,
    /// After the database, so that it tells of the end only when the file is closed.
    _closed: DropGuard,
}

impl Disk {
    /// Opens the file of `node` in its state directory, or makes it; `closed` is cancelled when the last copy is gone and
    /// the file may be opened again. Each write that has to be on the disk takes longer by `delay`.
    pub(super) async fn open(
        dir: &Path,
        delay: Duration,
        node: NodeId,
        closed: CancellationToken,
    ) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        spawn_blocking(move || {
            let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
            Self::over(database, delay, node, closed)
        })
        .await?
    }

    /// The same over a database that is open already.
    fn over(database: Database, delay: Duration, node: NodeId, closed: CancellationToken) -> Result<Self, StoreError> {
        let disk = Self(Arc::new(File { database, delay, _closed: closed.drop_guard() }));
        disk.claim(node)?;
        Ok(disk)
    }

    /// Makes the tables, and the file this node's if it is nobody's.
    fn claim(&self, node: NodeId) -> Result<(), StoreError> {
        self.write(Durability::Immediate, |transaction| {
            transaction.open_table(LOG)?;
            let owner = get(&transaction.open_table(META)?, key::NODE)?;
            match owner {
                None => set(transaction, key::NODE, &node),
                Some(owner) if owner == node => Ok(()),
                Some(owner) => Err(StoreError::OtherNode(owner)),
            }
        })
    }

    fn write<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut transaction = self.0.database.begin_write()?;
        transaction.set_durability(durability)?;
        let outcome = work(&transaction)?;
        if matches!(durability, Durability::Immediate) {
            thread::sleep(self.0.delay);
        }
        transaction.commit()?;
        Ok(outcome)
    }

    /// Does something in one transaction. An error changes nothing.
    async fn change<T: Send + 'static>(
        &self,
        subject: ErrorSubject<Number>,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let disk = self.clone();
        let done = spawn_blocking(move || disk.write(durability, work)).await;
        done.map_err(StoreError::from).flatten().map_err(|error| failed(subject, ErrorVerb::Write, &error))
    }

    /// Looks something up.
    async fn look<T: Send + 'static>(
        &self,
        subject: ErrorSubject<Number>,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let disk = self.clone();
        let done = spawn_blocking(move || work(&disk.0.database)).await;
        done.map_err(StoreError::from).flatten().map_err(|error| failed(subject, ErrorVerb::Read, &error))
    }

    /// Looks up a value of the table `meta`.
    async fn meta<T: DeserializeOwned + Send + 'static>(
        &self,
        subject: ErrorSubject<Number>,
        key: &'static str,
    ) -> Result<Option<T>, StorageError> {
        self.look(subject, move |database| get(&database.begin_read()?.open_table(META)?, key)).await
    }
}

fn get<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &'static str,
) -> Result<Option<T>, StoreError> {
    Ok(table.get(key)?.map(|value| rmp_serde::from_slice(value.value())).transpose()?)
}

fn set(transaction: &WriteTransaction, key: &'static str, value: &impl Serialize) -> Result<(), StoreError> {
    transaction.open_table(META)?.insert(key, rmp_serde::to_vec(value)?.as_slice())?;
    Ok(())
}

fn failed(subject: ErrorSubject<Number>, verb: ErrorVerb, error: &StoreError) -> StorageError {
    StorageIOError::new(subject, verb, AnyError::new(error)).into()
}
