//! A connection's bytes, and what its timeouts are decided by: since when it has been idle, reading a head, or
//! waiting for the client to take what is ready. No timer is touched per request.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::Instant};

use super::ConnectionLimits;

/// What is known of a connection. All times are microseconds since it was accepted, 0 for never.
pub(super) struct Wire {
    accepted: Instant,
    limits: ConnectionLimits,
    requests: AtomicU32,
    /// HTTP/2 has bytes without requests: there only idleness counts.
    heads: AtomicBool,
    head_since: AtomicU64,
    idle_since: AtomicU64,
    stalled_since: AtomicU64,
}

impl Wire {
    /// A connection that was accepted now; its first head is due.
    pub(super) fn new(limits: &ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            accepted: Instant::now(),
            limits: *limits,
            requests: AtomicU32::new(0),
            heads: AtomicBool::new(true),
            head_since: AtomicU64::new(1),
            idle_since: AtomicU64::new(1),
            stalled_since: AtomicU64::new(0),
        })
    }

    /// It speaks HTTP/2.
    pub(super) fn no_heads(&self) {
        self.heads.store(false, Relaxed);
        self.head_since.store(0, Relaxed);
        self.idle_since.store(self.now(), Relaxed);
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
        Busy(Arc::clone(self))
    }

    /// When the connection is to be closed unless something happens; `None`: not as long as it serves.
    pub(super) fn due(&self) -> Option<Instant> {
        let at =
            |since: u64, span: Duration| Some(self.accepted + Duration::from_micros(since) + span);
        match self.stalled_since.load(Relaxed) {
            0 => {}
            since => return at(since, self.limits.stall),
        }
        if self.requests.load(Relaxed) > 0 {
            return None;
        }
        match self.head_since.load(Relaxed) {
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
        if self.heads.load(Relaxed)
            && self.requests.load(Relaxed) == 0
            && self.head_since.load(Relaxed) == 0
        {
            self.head_since.store(self.now(), Relaxed);
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
    stream: TokioIo<TcpStream>,
    /// What was read to tell the protocol, until it is read again.
    sniffed: Vec<u8>,
    wire: Arc<Wire>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, sniffed: Vec<u8>, wire: Arc<Wire>) -> Self {
        Self {
            stream: TokioIo::new(stream),
            sniffed,
            wire,
        }
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.sniffed.is_empty() {
            let count = self.sniffed.len().min(buf.remaining());
            buf.put_slice(&self.sniffed[..count]);
            self.sniffed.drain(..count);
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.wire.has_read();
        }
        polled
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
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
