//! Calls: the asking end of a connection on which requests go one way and answers the other.
//!
//! A frame is a number, 8 bytes, and a payload; an answer bears the number of its request. Writing and reading are two
//! loops that do not wait for each other: if both ends waited for the other to read, neither would go on.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{
    bytes::{Buf, Bytes, BytesMut},
    codec::{FramedRead, FramedWrite, LengthDelimitedCodec},
};

use super::{
    BusStream, codec,
    dialler::{Bus, DialError},
    limits::{ANSWER_MAX, CALLS_IN_FLIGHT},
    lines::{Line, Queue, Rejected},
};

/// The number before the payload of a request and of its answer.
pub(super) const NUMBER_BYTES: usize = size_of::<u64>();

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The request cannot be written.
    #[error("the request cannot be written: {0}")]
    Request(#[from] rmp_serde::encode::Error),
    /// The request is longer than its channel takes.
    #[error("the request of {0} bytes is longer than its channel takes")]
    TooLong(usize),
    /// Too many calls wait already.
    #[error("too many calls wait already")]
    Busy,
    /// There is no connection.
    #[error("the node is unreachable: {0}")]
    Unreachable(Arc<DialError>),
    /// The connection ended before the answer came.
    #[error("the connection was lost before the answer came")]
    Lost,
    /// The answer did not come in time.
    #[error("the answer did not come in time")]
    Timeout,
    /// The answer is not what it should be.
    #[error("the answer cannot be read: {0}")]
    Answer(rmp_serde::decode::Error),
    /// The bus is shut down.
    #[error("the bus is shut down")]
    Shutdown,
}

impl CallError {
    /// Whether the peer may have carried out what it was asked for.
    pub(crate) const fn was_sent(&self) -> bool {
        matches!(self, Self::Lost | Self::Timeout | Self::Answer(_) | Self::Shutdown)
    }
}

impl From<Rejected> for CallError {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::QueueFull | Rejected::TooManyLines => Self::Busy,
            Rejected::Shutdown => Self::Shutdown,
        }
    }
}

type Answer = Result<Bytes, CallError>;

/// A request on its way.
pub(super) struct Call {
    /// With room for the number before it.
    frame: Vec<u8>,
    answer: oneshot::Sender<Answer>,
}

impl Call {
    /// The call, and where its answer will be.
    pub(super) fn new(
        request: &impl Serialize,
        frame_bytes_max: usize,
    ) -> Result<(Self, oneshot::Receiver<Answer>), CallError> {
        let mut frame = vec![0; NUMBER_BYTES];
        rmp_serde::encode::write(&mut frame, request)?;
        if frame.len() > frame_bytes_max {
            return Err(CallError::TooLong(frame.len()));
        }
        let (answer, answered) = oneshot::channel();
        Ok((Self { frame, answer }, answered))
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("nobody has used it")]
    Idle,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the other end has closed it")]
    Closed,
    #[error("nothing came though an answer is due")]
    Silent,
    #[error("what came is no answer")]
    Garbage,
}

/// The task of a line of calls: connects while there are calls, and carries them.
pub(super) async fn run(bus: Bus, line: Line, mut queue: Queue<Call>) {
    let mut is_repeated = false;
    while let Some(first) = queue.next().await {
        match bus.dial(&line).await {
            Ok(stream) => {
                is_repeated = false;
                let ended = Connection::new(stream, &line).serve(first, &mut queue).await;
                tracing::debug!(address = %line.address, channel = ?line.channel, reason = %ended, "connection has ended");
                if matches!(ended, Ended::Idle) {
                    return;
                }
            }
            Err(error) => {
                tell(&line, &error, is_repeated);
                is_repeated = true;
                fail(first, &mut queue, Arc::new(error)).await;
            }
        }
    }
}

/// Says that a peer is out of reach: aloud once if somebody must put it right, else only to those who look closely, since
/// gossip and Raft say in their own words what they make of it.
pub(super) fn tell(line: &Line, error: &DialError, is_repeated: bool) {
    let Line { address, channel } = line;
    if error.is_refusal() && !is_repeated {
        tracing::warn!(%address, ?channel, %error, "another node cannot be spoken to");
    } else {
        tracing::debug!(%address, ?channel, %error, "another node is out of reach");
    }
}

/// Fails the call for which a peer was dialled, and those that come while it is left alone.
async fn fail(first: Call, queue: &mut Queue<Call>, error: Arc<DialError>) {
    let refuse = |call: Call| _ = call.answer.send(Err(CallError::Unreachable(error.clone())));
    refuse(first);
    let until = Instant::now() + error.pause();
    while let Ok(Some(call)) = timeout_at(until, queue.next()).await {
        refuse(call);
    }
}

struct Connection {
    reader: FramedRead<ReadHalf<BusStream>, LengthDelimitedCodec>,
    writer: FramedWrite<WriteHalf<BusStream>, LengthDelimitedCodec>,
    waiting: Waiting,
}

impl Connection {
    fn new(stream: BusStream, line: &Line) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            reader: FramedRead::new(read, codec(line.channel)),
            writer: FramedWrite::new(write, codec(line.channel)),
            waiting: Waiting::new(),
        }
    }

    /// Carries calls until the connection ends. Those that have no answer then are dropped, and so fail as lost.
    async fn serve(self, first: Call, queue: &mut Queue<Call>) -> Ended {
        let Self { reader, writer, waiting } = self;
        tokio::select! {
            ended = write(writer, &waiting, first, queue) => ended,
            ended = read(reader, &waiting) => ended,
            ended = waiting.silence() => ended,
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(
    mut writer: FramedWrite<S, LengthDelimitedCodec>,
    waiting: &Waiting,
    first: Call,
    queue: &mut Queue<Call>,
) -> Ended {
    let mut next = Some(first);
    loop {
        let Some(call) = next else { return Ended::Idle };
        // While the peer was dialled its caller may have given up.
        if !call.answer.is_closed()
            && let Err(error) = writer.send(waiting.enter(call).await).await
        {
            return error.into();
        }
        next = queue.next().await;
    }
}

async fn read<S: AsyncRead + Unpin>(mut reader: FramedRead<S, LengthDelimitedCodec>, waiting: &Waiting) -> Ended {
    loop {
        match reader.next().await {
            None => return Ended::Closed,
            Some(Err(error)) => return error.into(),
            Some(Ok(frame)) => {
                if !waiting.answered(frame) {
                    return Ended::Garbage;
                }
            }
        }
    }
}

/// The calls of a connection that wait for their answers.
struct Waiting {
    room: Arc<Semaphore>,
    calls: Mutex<WaitingCalls>,
}

struct WaitingCalls {
    next: u64,
    by_number: BTreeMap<u64, WaitingCall>,
    /// When an answer came last.
    heard: Instant,
}

struct WaitingCall {
    answer: oneshot::Sender<Answer>,
    since: Instant,
    _room: OwnedSemaphorePermit,
}

impl Waiting {
    fn new() -> Self {
        let calls = WaitingCalls { next: 0, by_number: BTreeMap::new(), heard: Instant::now() };
        Self { room: Arc::new(Semaphore::new(CALLS_IN_FLIGHT)), calls: Mutex::new(calls) }
    }

    /// Gives a call its number when there is room for it, and returns its frame.
    async fn enter(&self, call: Call) -> Bytes {
        let room = self.room.clone().acquire_owned().await.expect("nobody closes the semaphore");
        let Call { mut frame, answer } = call;
        let mut calls = self.calls();
        let number = calls.next;
        calls.next += 1;
        frame[..NUMBER_BYTES].copy_from_slice(&number.to_be_bytes());
        calls.by_number.insert(number, WaitingCall { answer, since: Instant::now(), _room: room });
        frame.into()
    }

    /// Hands over an answer; `false` if nobody asked for it.
    fn answered(&self, mut frame: BytesMut) -> bool {
        let Ok(number) = frame.try_get_u64() else { return false };
        let mut calls = self.calls();
        calls.heard = Instant::now();
        let Some(call) = calls.by_number.remove(&number) else { return false };
        // An error means that the caller has waited long enough.
        _ = call.answer.send(Ok(frame.freeze()));
        true
    }

    /// Returns when nothing has come for [`ANSWER_MAX`] though an answer is due.
    async fn silence(&self) -> Ended {
        loop {
            let silent = {
                let calls = self.calls();
                let due = calls.by_number.first_key_value().map(|(_, oldest)| oldest.since.max(calls.heard));
                due.map_or_else(Default::default, |since| since.elapsed())
            };
            if silent >= ANSWER_MAX {
                return Ended::Silent;
            }
            sleep(ANSWER_MAX - silent).await;
        }
    }

    fn calls(&self) -> MutexGuard<'_, WaitingCalls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
