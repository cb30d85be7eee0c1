//! What an instance writes, as log lines of the invocation during which it wrote them.
//!
//! The pipes are read when they have something, and once more when an answer or a `next` comes: what a handler wrote
//! before it answered is in the pipe by then, so that every line gets the invocation it belongs to.

use std::{os::fd::AsFd, sync::Arc};

use bytes::{Bytes, BytesMut};
use model::{Clock, InvocationId, TraceId};
use parking_lot::Mutex;
use tokio::net::unix::pipe;

use crate::{
    host::{Host, LogLine, LogStream, Presence},
    lines::Lines,
};

/// How much of an invocation's log goes into its tail, as AWS has it.
pub(crate) const TAIL: usize = 4096;
/// Reads of one pipe in one turn: more than fits into a pipe.
const READS: usize = 8;

/// Where lines come from and go to.
pub(crate) struct Logs {
    host: Arc<dyn Host>,
    clock: Clock,
    presence: Arc<Presence>,
    limit: usize,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stdout: Lines,
    stderr: Lines,
    current: Option<(InvocationId, TraceId)>,
    tail: BytesMut,
}

/// What an instance's lines need of their surroundings.
pub(crate) struct Sources {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) clock: Clock,
    pub(crate) presence: Arc<Presence>,
    /// Bytes of the longest line.
    pub(crate) limit: usize,
    pub(crate) stdout: Option<pipe::Receiver>,
    pub(crate) stderr: Option<pipe::Receiver>,
}

impl Logs {
    pub(crate) fn new(sources: Sources) -> Self {
        Self {
            host: sources.host,
            clock: sources.clock,
            presence: sources.presence,
            limit: sources.limit,
            stdout: sources.stdout,
            stderr: sources.stderr,
            state: Mutex::default(),
        }
    }

    /// From now on, lines belong to this invocation.
    pub(crate) fn begin(&self, invocation: InvocationId, trace: TraceId) {
        let mut state = self.state.lock();
        state.current = Some((invocation, trace));
        state.tail.clear();
    }

    /// Reads what was written so far; what follows still belongs to the same invocation.
    pub(crate) fn catch_up(&self) {
        let mut state = self.state.lock();
        self.drain(&mut state, raw_read);
    }

    /// Reads what was written so far, ends lines that were begun, and lets what follows belong to nobody.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        self.drain(&mut state, raw_read);
        self.flush(&mut state);
        state.current = None;
    }

    /// The last 4 KiB of what the current invocation wrote, or of what was written since the start or the last one.
    pub(crate) fn tail(&self) -> Bytes {
        let state = self.state.lock();
        let from = state.tail.len().saturating_sub(TAIL);
        Bytes::copy_from_slice(&state.tail[from..])
    }

    /// A line of the platform's about the instance.
    pub(crate) fn note(&self, text: String) {
        let mut state = self.state.lock();
        self.emit(&mut state, LogStream::Platform, text);
    }

    /// Reads the pipes whenever they have something, until both have ended.
    pub(crate) async fn follow(&self) {
        let (mut out, mut err) = (self.stdout.is_some(), self.stderr.is_some());
        while out || err {
            tokio::select! {
                () = readable(self.stdout.as_ref()), if out => {}
                () = readable(self.stderr.as_ref()), if err => {}
            }
            let mut state = self.state.lock();
            let (more_out, more_err) = self.drain(&mut state, noted_read);
            (out, err) = (out && more_out, err && more_err);
        }
        let mut state = self.state.lock();
        self.flush(&mut state);
    }

    /// Reads both pipes until they are empty; whether each is still open.
    fn drain(&self, state: &mut State, read: Read) -> (bool, bool) {
        let out = self.drain_one(state, self.stdout.as_ref(), LogStream::Stdout, read);
        let err = self.drain_one(state, self.stderr.as_ref(), LogStream::Stderr, read);
        (out, err)
    }

    fn drain_one(
        &self,
        state: &mut State,
        pipe: Option<&pipe::Receiver>,
        from: LogStream,
        read: Read,
    ) -> bool {
        let Some(pipe) = pipe else {
            return false;
        };
        let mut buffer = [0; 16 << 10];
        for _ in 0..READS {
            match read(pipe, &mut buffer) {
                Ok(0) => return false,
                Ok(length) => self.take(state, from, &buffer[..length]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn take(&self, state: &mut State, from: LogStream, bytes: &[u8]) {
        let mut lines = Vec::new();
        let source = if from == LogStream::Stdout {
            &mut state.stdout
        } else {
            &mut state.stderr
        };
        source.push(bytes, self.limit, &mut lines);
        for line in lines {
            self.emit(state, from, line);
        }
    }

    fn flush(&self, state: &mut State) {
        for from in [LogStream::Stdout, LogStream::Stderr] {
            let source = if from == LogStream::Stdout {
                &mut state.stdout
            } else {
                &mut state.stderr
            };
            if let Some(line) = source.finish() {
                self.emit(state, from, line);
            }
        }
    }

    fn emit(&self, state: &mut State, stream: LogStream, mut text: String) {
        // AWS's Python client joins the lines of a stack trace with these, to keep them in one entry.
        if text.contains('\r') {
            text = text.replace('\r', "\n");
        }
        if state.tail.len() > 4 * TAIL {
            let kept = state.tail.split_off(state.tail.len() - TAIL);
            state.tail = kept;
        }
        if stream != LogStream::Platform {
            let from = text.len().saturating_sub(TAIL);
            state.tail.extend_from_slice(&text.as_bytes()[from..]);
            state.tail.extend_from_slice(b"\n");
        }
        self.host.log(LogLine {
            time: self.clock.now(),
            app: self.presence.app.clone(),
            workload: self.presence.workload.clone(),
            instance: self.presence.instance,
            invocation: state.current.map(|(invocation, _)| invocation),
            trace: state.current.map(|(_, trace)| trace),
            stream,
            text,
        });
    }
}

type Read = fn(&pipe::Receiver, &mut [u8]) -> std::io::Result<usize>;

/// Asks the system itself, not what the runtime has noted: a readiness may not have been noted yet.
fn raw_read(pipe: &pipe::Receiver, buffer: &mut [u8]) -> std::io::Result<usize> {
    Ok(rustix::io::read(pipe.as_fd(), buffer)?)
}

/// Notes that the pipe is empty, so that the next wait is one.
fn noted_read(pipe: &pipe::Receiver, buffer: &mut [u8]) -> std::io::Result<usize> {
    pipe.try_read(buffer)
}

async fn readable(pipe: Option<&pipe::Receiver>) {
    match pipe {
        Some(pipe) => drop(pipe.readable().await),
        None => std::future::pending().await,
    }
}
