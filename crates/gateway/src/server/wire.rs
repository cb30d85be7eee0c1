//! A connection's bytes, and what its timeouts are decided by: since when it has been idle, reading a head, or
//! waiting for the client to take what is ready. No timer is touched per request.
//!
//! What comes in is read by [`Framing`] on its way to hyper, with the one `unsafe` that looking into its buffer takes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Instant,
};

use super::{
    ConnectionLimits,
    framing::{Framing, Misframed},
    heads::Heads,
    stream::Stream,
};

/// How long a connection that was answered before all was read waits for its client to stop sending: closing at once
/// would make the system reset it, and the client would lose the answer that says why (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that are thrown away for that, at most.
const LINGER_BYTES: usize = 1 << 20;

/// What is known of a connection. All times are microseconds since it was accepted, 0 for never.
pub(super) struct Wire {
    accepted: Instant,
    limits: ConnectionLimits,
    requests: AtomicU32,
    /// HTTP/2 has bytes without requests, and heads beside them: there [`Heads`] knows when one begins and ends.
    is_http2: AtomicBool,
    head_since: AtomicU64,
    idle_since: AtomicU64,
    stalled_since: AtomicU64,
    lingers_since: AtomicU64,
    /// Requests that were handed on, one after another.
    served: AtomicU32,
    misframed: OnceLock<Misframed>,
}

impl Wire {
    /// A connection that was accepted now; its first head is due.
    pub(super) fn new(limits: &ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            accepted: Instant::now(),
            limits: *limits,
            requests: AtomicU32::new(0),
            is_http2: AtomicBool::new(false),
            head_since: AtomicU64::new(1),
            idle_since: AtomicU64::new(1),
            stalled_since: AtomicU64::new(0),
            lingers_since: AtomicU64::new(0),
            served: AtomicU32::new(0),
            misframed: OnceLock::new(),
        })
    }

    /// It speaks HTTP/2.
    pub(super) fn speaks_http2(&self) {
        self.is_http2.store(true, Relaxed);
        self.head_since.store(0, Relaxed);
        self.idle_since.store(self.now(), Relaxed);
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Relaxed);
        self.served.fetch_add(1, Relaxed);
        // Over HTTP/2, the next head may have begun before this request is taken.
        if !self.is_http2.load(Relaxed) {
            self.head_since.store(0, Relaxed);
        }
        Busy(Arc::clone(self))
    }

    /// Why the request that began last must be refused, when two servers could read it, or one before it, differently.
    pub(super) fn refuses(&self) -> Option<&'static str> {
        let misframed = self.misframed.get()?;
        let from = misframed.request + u32::from(misframed.in_body);
        (self.served.load(Relaxed) >= from).then_some(misframed.why)
    }

    /// When the connection is to be closed unless something happens; `None`: not as long as it serves.
    pub(super) fn due(&self) -> Option<Instant> {
        let at =
            |since: u64, span: Duration| Some(self.accepted + Duration::from_micros(since) + span);
        match self.lingers_since.load(Relaxed) {
            0 => {}
            since => return at(since, LINGER),
        }
        match self.stalled_since.load(Relaxed) {
            0 => {}
            since => return at(since, self.limits.stall),
        }
        match self.head_since.load(Relaxed) {
            0 if self.requests.load(Relaxed) > 0 => None,
            0 => at(self.idle_since.load(Relaxed), self.limits.keep_alive),
            since => at(since, self.limits.head),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_micros())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    fn has_read(&self) {
        if !self.is_http2.load(Relaxed)
            && self.requests.load(Relaxed) == 0
            && self.head_since.load(Relaxed) == 0
        {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// A read has left the head `open`, and another one, or none, the read before.
    fn head_is(&self, open: Option<u64>, before: Option<u64>) {
        if open != before {
            let since = open.map_or(0, |_| self.now());
            self.head_since.store(since, Relaxed);
        }
    }

    fn wrote<T>(&self, polled: Poll<T>) -> Poll<T> {
        match &polled {
            Poll::Ready(_) if self.stalled_since.load(Relaxed) != 0 => {
                self.stalled_since.store(0, Relaxed)
            }
            Poll::Pending if self.stalled_since.load(Relaxed) == 0 => {
                self.stalled_since.store(self.now(), Relaxed)
            }
            _ => {}
        }
        polled
    }
}

/// A request that is being served; dropped with its answer's body.
pub(crate) struct Busy(Arc<Wire>);

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Relaxed) == 1 {
            self.0.idle_since.store(self.0.now(), Relaxed);
        }
    }
}

/// The stream of a connection, watched.
pub(super) struct Watched {
    stream: TokioIo<Stream>,
    /// What was read to tell the protocol, until it is read again.
    sniffed: Vec<u8>,
    /// HTTP/1.1's framing; HTTP/2 has frames of its own.
    framing: Option<Framing>,
    /// HTTP/2's heads, where there is no `framing`.
    heads: Heads,
    /// The body that is being read is misframed here: nothing more of it is to be had.
    broken: bool,
    /// Bytes that may still be thrown away while it lingers.
    waste: usize,
    wire: Arc<Wire>,
}

impl Watched {
    pub(super) fn new(
        stream: Stream,
        sniffed: Vec<u8>,
        framing: Option<Framing>,
        wire: Arc<Wire>,
    ) -> Self {
        Self {
            stream: TokioIo::new(stream),
            sniffed,
            framing,
            heads: Heads::new(),
            broken: false,
            waste: LINGER_BYTES,
            wire,
        }
    }

    /// How many of `bytes` are to be handed on. What is wrong with a head does not keep it back: whoever would serve
    /// it asks [`Wire::refuses`]. What is wrong with a body does, for that is being read already.
    fn check(&mut self, bytes: &[u8]) -> usize {
        let Some(framing) = &mut self.framing else {
            let before = self.heads.open();
            self.heads.read(bytes);
            self.wire.head_is(self.heads.open(), before);
            return bytes.len();
        };
        let Err(misframed) = framing.read(bytes) else {
            return bytes.len();
        };
        let _ = self.wire.misframed.set(misframed);
        self.broken = misframed.in_body;
        if self.broken {
            misframed.at
        } else {
            bytes.len()
        }
    }

    /// Whether the client may still be sending what nobody will read.
    fn is_cut_short(&self) -> bool {
        let unread = self.framing.as_ref().is_some_and(Framing::in_body);
        unread || self.wire.misframed.get().is_some()
    }

    /// Throws away what comes, until the client ends it, or there was too much of it.
    fn poll_waste(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.wire.lingers_since.load(Relaxed) == 0 {
            self.wire.lingers_since.store(self.wire.now(), Relaxed);
        }
        let mut bytes = [0; 4096];
        while self.waste > 0 {
            let mut buf = ReadBuf::new(&mut bytes);
            let read = Pin::new(self.stream.inner_mut()).poll_read(cx, &mut buf);
            if ready!(read).is_err() || buf.filled().is_empty() {
                break;
            }
            self.waste = self.waste.saturating_sub(buf.filled().len());
        }
        Poll::Ready(())
    }
}

fn misframed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the body is misframed")
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Err(misframed()));
        }
        if !self.sniffed.is_empty() {
            let count = self.sniffed.len().min(buf.remaining());
            let sniffed: Vec<u8> = self.sniffed.drain(..count).collect();
            let count = self.check(&sniffed);
            buf.put_slice(&sniffed[..count]);
            return Poll::Ready(if count == 0 { Err(misframed()) } else { Ok(()) });
        }
        let polled = self.poll_checked(cx, buf);
        if polled.is_ready() {
            self.wire.has_read();
        }
        polled
    }
}

impl Watched {
    #[allow(
        unsafe_code,
        reason = "hyper's buffer shows what was read into it only through its uninitialised bytes"
    )]
    fn poll_checked(
        &mut self,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: `ReadBuf` only ever initialises bytes, so none becomes uninitialised again.
        let mut read = ReadBuf::uninit(unsafe { buf.as_mut() });
        ready!(Pin::new(self.stream.inner_mut()).poll_read(cx, &mut read))?;
        let came = read.filled();
        let count = self.check(came);
        if count == 0 && !came.is_empty() {
            return Poll::Ready(Err(misframed()));
        }
        // SAFETY: the first `count` bytes are among those that `read` has filled.
        unsafe { buf.advance(count) };
        Poll::Ready(Ok(()))
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wire.wrote(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if self.is_cut_short() {
            ready!(self.poll_waste(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wire.wrote(polled)
    }
}
