//! The state directory: what a node must still know after a restart, and who may use it.
//!
//! `state` is one line, the clock's [`State`]: no stamp above its mark was given out, and the incarnation in which they
//! were. `node-id` is who this node is in its cluster, 40 hexadecimal digits, drawn when it is first asked for and never
//! changed: a directory that is gone is another node. `run` counts the node's starts. `regions` is
//! what operators have said of other regions, as JSON, in a region of one node. `lock` is empty; an operating system lock on it keeps a second
//! process out, which would issue stamps under the same origin. What a node of a cluster keeps besides stands in files of
//! its own.
//!
//! A node starts with an empty memory, so it takes the next incarnation each time, and writes it down before its first
//! write ([`StateDir::open`]). A missing state file is a first start; a broken one is an error and never a first start.
//!
//! A write goes to a new file, is synced, and renamed over the old one: whoever reads finds one or the other, whole.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clock::{State, StateError, limits::STATE_BYTES_MAX};
use node_core::cluster::{Id, NodeId, ParseIdError, Regions, Run};

const STATE: &str = "state";
const NODE_ID: &str = "node-id";
const RUN: &str = "run";
const REGIONS: &str = "regions";
const LOCK: &str = "lock";

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateDirError {
    /// It cannot be made, read or written.
    #[error("cannot use the state directory {path}: {error}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// Another process holds it.
    #[error("the state directory {0} is in use by another process")]
    InUse(PathBuf),
    /// The state file is not what this build writes.
    #[error("{path}: {error}; restore it, or remove it if this region may start as one that never ran")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: StateError,
    },
    /// The file that counts the node's starts holds no number.
    #[error(
        "{path} does not hold a number; restore it, or remove the directory if this node may join its cluster as another"
    )]
    BrokenRun {
        /// The file.
        path: PathBuf,
    },
    /// The file of what was said of other regions is not what this build writes.
    #[error("{path}: {error}; restore it, or remove it if the other regions are those of the node's file")]
    BrokenRegions {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// The file of the node's name holds none.
    #[error("{path}: {error}; restore it, or remove the directory if this node may join its cluster as another")]
    BrokenNodeId {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ParseIdError,
    },
}

/// A state directory, locked for this process until dropped.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// By how much longer a write takes.
    delay: Duration,
    state: State,
    _lock: File,
}

impl StateDir {
    /// Locks the directory, makes it if need be, and begins the next life in it. Each write to it takes longer by `delay`.
    ///
    /// # Errors
    /// [`StateDirError`]; then the file is as it was.
    pub(crate) fn open(path: &Path, delay: Duration) -> Result<Self, StateDirError> {
        let failed = |error| StateDirError::Io { path: path.to_owned(), error };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK)).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StateDirError::InUse(path.to_owned()),
            TryLockError::Error(error) => failed(error),
        })?;
        let state = read(&path.join(STATE))?.map_or(State::FIRST, State::next_life);
        let mut dir = Self { path: path.to_owned(), delay, state, _lock: lock };
        dir.write(state)?;
        Ok(dir)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Who this node is in its cluster: as it was when this was first called, with an id that `draw` drew.
    ///
    /// # Errors
    /// [`StateDirError`]; a broken file is no first start, and stays as it is.
    pub(crate) fn node_id(&self, draw: impl FnOnce() -> Id) -> Result<NodeId, StateDirError> {
        let path = self.path.join(NODE_ID);
        let Some(content) = read_at_most(&path, NODE_ID_BYTES_MAX)? else {
            let id = NodeId(draw());
            self.replace(NODE_ID, format!("{id}\n").as_bytes())?;
            return Ok(id);
        };
        let id = std::str::from_utf8(&content).map_err(|_| ParseIdError).and_then(|text| text.trim_end().parse());
        id.map_err(|error| StateDirError::BrokenNodeId { path, error })
    }

    /// Counts this start of the node, and returns its number: greater than all before it, whatever the clock says.
    ///
    /// # Errors
    /// [`StateDirError`]; then the start is not counted.
    pub(crate) fn next_run(&self) -> Result<Run, StateDirError> {
        let path = self.path.join(RUN);
        let content = read_at_most(&path, RUN_BYTES_MAX)?;
        let last =
            content.map_or(Some(0), |content| std::str::from_utf8(&content).ok()?.trim_end().parse::<u64>().ok());
        let next = last.and_then(|last| last.checked_add(1)).ok_or(StateDirError::BrokenRun { path })?;
        self.replace(RUN, format!("{next}\n").as_bytes())?;
        Ok(Run(next))
    }

    /// What was said of other regions; nothing, if there is no such file.
    ///
    /// # Errors
    /// [`StateDirError`]; a broken file is not nothing, and stays as it is.
    pub(crate) fn regions(&self) -> Result<Regions, StateDirError> {
        let path = self.path.join(REGIONS);
        let Some(content) = read_at_most(&path, REGIONS_BYTES_MAX)? else { return Ok(Regions::new()) };
        serde_json::from_slice(&content).map_err(|error| StateDirError::BrokenRegions { path, error })
    }

    /// Writes down what was said of other regions.
    ///
    /// # Errors
    /// [`StateDirError`]; then either the old or the new is on disk.
    pub(crate) fn write_regions(&self, regions: &Regions) -> Result<(), StateDirError> {
        let broken = |error| StateDirError::BrokenRegions { path: self.path.join(REGIONS), error };
        self.replace(REGIONS, &serde_json::to_vec_pretty(regions).map_err(broken)?)
    }

    /// What was written last.
    pub(crate) const fn state(&self) -> State {
        self.state
    }

    /// Writes the state, so that it outlives this process and this machine.
    ///
    /// # Errors
    /// [`StateDirError::Io`]; then either the old or the new state is on disk.
    pub(crate) fn write(&mut self, state: State) -> Result<(), StateDirError> {
        self.replace(STATE, state.encode().as_bytes())?;
        self.state = state;
        Ok(())
    }

    /// Puts `content` in the place of a file, so that whoever reads finds the old or the new, whole.
    fn replace(&self, name: &str, content: &[u8]) -> Result<(), StateDirError> {
        let new = self.path.join(format!("{name}.new"));
        let failed = |error| StateDirError::Io { path: new.clone(), error };
        let mut file = File::create(&new).map_err(failed)?;
        file.write_all(content).map_err(failed)?;
        thread::sleep(self.delay);
        file.sync_data().map_err(failed)?;
        fs::rename(&new, self.path.join(name)).map_err(failed)?;
        // The rename itself is safe only when the directory is.
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(failed)
    }
}

/// More than a name and its line break take.
const NODE_ID_BYTES_MAX: usize = 64;

/// More than what can be said of all regions takes.
const REGIONS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// More than a number and its line break take.
const RUN_BYTES_MAX: usize = 32;

fn read(path: &Path) -> Result<Option<State>, StateDirError> {
    let Some(content) = read_at_most(path, STATE_BYTES_MAX)? else { return Ok(None) };
    let broken = |error| StateDirError::Broken { path: path.to_owned(), error };
    State::decode(&content).map(Some).map_err(broken)
}

/// The file's content, one byte more than `most` of it at most; `None` if there is no such file.
fn read_at_most(path: &Path, most: usize) -> Result<Option<Vec<u8>>, StateDirError> {
    let failed = |error| StateDirError::Io { path: path.to_owned(), error };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut content = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, most as u64 + 1), &mut content).map_err(failed)?;
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clock::{RegionId, State, Time};
    use node_core::cluster::{Id, NodeId, RegionChange, Regions};

    use super::{StateDir, StateDirError};

    fn open(folder: &tempfile::TempDir) -> Result<StateDir, StateDirError> {
        StateDir::open(folder.path(), std::time::Duration::ZERO)
    }

    #[test]
    fn every_start_is_a_new_life_above_the_old_mark() {
        let folder = tempfile::tempdir().unwrap();
        let mark = Time::from_unix_ms(1_800_000_000_000);
        let mut dir = open(&folder).unwrap();
        assert_eq!(dir.state(), State::FIRST);
        dir.write(State { mark, ..dir.state() }).unwrap();
        drop(dir);
        let dir = open(&folder).unwrap();
        assert_eq!(dir.state(), State { mark, incarnation: State::FIRST.incarnation.next() });
    }

    #[test]
    fn every_start_has_a_greater_number_than_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let starts = (0..3).map(|_| open(&folder).unwrap().next_run().unwrap().0);
        assert_eq!(starts.collect::<Vec<_>>(), [1, 2, 3]);
        fs::write(folder.path().join("run"), "many").unwrap();
        assert!(matches!(open(&folder).unwrap().next_run(), Err(StateDirError::BrokenRun { .. })));
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let folder = tempfile::tempdir().unwrap();
        let _first = open(&folder).unwrap();
        assert!(matches!(open(&folder), Err(StateDirError::InUse(_))));
    }

    #[test]
    fn a_broken_state_is_no_first_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("state"), "nonsense").unwrap();
        assert!(matches!(open(&folder), Err(StateDirError::Broken { .. })));
        assert_eq!(fs::read(folder.path().join("state")).unwrap(), b"nonsense");
    }

    #[test]
    fn what_was_said_of_regions_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let dir = open(&folder).unwrap();
        let mut regions = dir.regions().unwrap();
        assert_eq!(regions, Regions::new());
        let [own, other] = [1, 2].map(|id| RegionId::new(id).unwrap());
        regions.apply(own, &RegionChange::Remove { region: other, last: None }).unwrap();
        dir.write_regions(&regions).unwrap();
        drop(dir);
        let dir = open(&folder).unwrap();
        assert_eq!(dir.regions().unwrap(), regions);
        fs::write(folder.path().join("regions"), "nonsense").unwrap();
        assert!(matches!(dir.regions(), Err(StateDirError::BrokenRegions { .. })));
    }

    #[test]
    fn a_node_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let drawn = Id::from_bytes([7; Id::BYTES]);
        let dir = open(&folder).unwrap();
        assert_eq!(dir.node_id(|| drawn).unwrap(), NodeId(drawn));
        drop(dir);
        let dir = open(&folder).unwrap();
        assert_eq!(dir.node_id(|| panic!("it has a name")).unwrap(), NodeId(drawn));
        assert_eq!(fs::read_to_string(folder.path().join("node-id")).unwrap(), format!("{drawn}\n"));
    }

    #[test]
    fn a_broken_name_is_no_first_start() {
        let folder = tempfile::tempdir().unwrap();
        let dir = open(&folder).unwrap();
        for broken in [&b""[..], b"nonsense", b"\xff", &[b'1'; 4_096]] {
            fs::write(folder.path().join("node-id"), broken).unwrap();
            let read = dir.node_id(|| panic!("it has a name"));
            assert!(matches!(read, Err(StateDirError::BrokenNodeId { .. })));
            assert_eq!(fs::read(folder.path().join("node-id")).unwrap(), broken);
        }
    }
}
