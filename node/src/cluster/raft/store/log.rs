//! The log and the vote.

use std::{fmt::Debug, ops::RangeBounds};

use openraft::{
    ErrorSubject, LogState, OptionalSend, RaftLogReader,
    storage::{LogFlushed, RaftLogStorage},
};
use redb::{Durability, ReadableDatabase, ReadableTable};

use super::{
    super::{
        limits::ENTRIES_BYTES_MAX,
        types::{Entry, LogId, StorageError, Types, Vote},
    },
    Disk, LOG, StoreError, get, key, set,
};

/// The log of this node. openraft writes through one and reads through copies of it.
#[derive(Clone, Debug)]
pub(crate) struct LogStore(Disk);

impl LogStore {
    pub(crate) const fn new(disk: Disk) -> Self {
        Self(disk)
    }

    /// The entries of a range, as far as `bytes_max` goes; the first of them in any case.
    async fn read(&self, range: impl RangeBounds<u64> + Clone, bytes_max: usize) -> Result<Vec<Entry>, StorageError> {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        let read = self.0.look(ErrorSubject::Logs, move |database| {
            let table = database.begin_read()?.open_table(LOG)?;
            let (mut entries, mut bytes) = (Vec::new(), 0);
            for found in table.range(range)? {
                let (_, value) = found?;
                bytes += value.value().len();
                if bytes > bytes_max && !entries.is_empty() {
                    break;
                }
                entries.push(rmp_serde::from_slice(value.value())?);
            }
            Ok(entries)
        });
        read.await
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(range, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read(start..end, ENTRIES_BYTES_MAX).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let look = self.0.look(ErrorSubject::Logs, |database| {
            let transaction = database.begin_read()?;
            let last_purged_log_id: Option<LogId> = get(&transaction.open_table(super::META)?, key::PURGED)?;
            let last: Option<Entry> = match transaction.open_table(LOG)?.last()? {
                Some((_, value)) => Some(rmp_serde::from_slice(value.value())?),
                None => None,
            };
            let last_log_id = last.map(|entry| entry.log_id).or(last_purged_log_id);
            Ok(LogState { last_purged_log_id, last_log_id })
        });
        look.await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        let change = move |transaction: &_| set(transaction, key::VOTE, &vote);
        self.0.change(ErrorSubject::Vote, Durability::Immediate, change).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.0.meta(ErrorSubject::Vote, key::VOTE).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let change = move |transaction: &_| set(transaction, key::COMMITTED, &committed);
        self.0.change(ErrorSubject::Store, Durability::None, change).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.0.meta(ErrorSubject::Store, key::COMMITTED).await?.flatten())
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let change = self.0.change(ErrorSubject::Logs, Durability::Immediate, move |transaction| {
            let mut table = transaction.open_table(LOG)?;
            for entry in &entries {
                table.insert(entry.log_id.index, rmp_serde::to_vec(entry)?.as_slice())?;
            }
            Ok(())
        });
        change.await?;
        flushed.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError> {
        let change = move |transaction: &_| remove(transaction, since.index..);
        self.0.change(ErrorSubject::Logs, Durability::Immediate, change).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let change = move |transaction: &_| {
            set(transaction, key::PURGED, &upto)?;
            remove(transaction, ..=upto.index)
        };
        self.0.change(ErrorSubject::Logs, Durability::Immediate, change).await
    }
}

fn remove(transaction: &redb::WriteTransaction, range: impl RangeBounds<u64> + 'static) -> Result<(), StoreError> {
    Ok(transaction.open_table(LOG)?.retain_in(range, |_, _| false)?)
}
