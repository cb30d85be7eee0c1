//! The bytes below HTTP: TCP, with or without TLS, and what is kept alive until they are closed.

use std::{
    any::Any,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// What a stream shares with its user while HTTP owns it.
#[derive(Default)]
pub(super) struct Shared {
    /// Lives until the stream is dropped.
    pub(super) held: Mutex<Option<Box<dyn Any + Send>>>,
    /// Acknowledge at once what was read. A server that writes head and body apart, and lets the system join small
    /// packets (RFC 896), sends the body only then; the system's own delay of 40 ms would be in every answer.
    pub(super) hurry: AtomicBool,
    /// How many bytes may still be read until the head of an answer is there, while one is waited for.
    pub(super) patience: AtomicUsize,
    /// The other side closed the connection while the head of an answer was waited for, and had read the request.
    pub(super) was_read: AtomicBool,
}

impl Shared {
    /// Notes that so many bytes came.
    ///
    /// # Errors
    /// When that was too much: whoever sends interim answers (1xx) without end is not read without end.
    fn came(&self, bytes: usize) -> io::Result<()> {
        let left = self.patience.load(Relaxed);
        if left == UNLIMITED {
            return Ok(());
        }
        if bytes > left {
            return Err(io::Error::other("too many interim answers"));
        }
        self.patience.store(left - bytes, Relaxed);
        Ok(())
    }
}

/// [`Shared::patience`] while no head is waited for.
pub(super) const UNLIMITED: usize = usize::MAX;

/// A connected stream.
pub(super) struct Stream {
    bytes: Bytes,
    shared: Arc<Shared>,
}

enum Bytes {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn plain(tcp: TcpStream) -> Self {
        Self::new(Bytes::Plain(tcp))
    }

    pub(super) fn tls(tls: TlsStream<TcpStream>) -> Self {
        Self::new(Bytes::Tls(Box::new(tls)))
    }

    fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            shared: Arc::default(),
        }
    }

    /// What its user keeps of it.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn tcp(&self) -> &TcpStream {
        match &self.bytes {
            Bytes::Plain(tcp) => tcp,
            Bytes::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Whether the other side's program has read all that it was sent, now that it has closed the connection. Where the
    /// system does not say, it has not.
    #[cfg(target_os = "linux")]
    fn was_read(&self) -> bool {
        let v4 = |address: SocketAddr| match address {
            SocketAddr::V4(address) => Some(address),
            SocketAddr::V6(_) => None,
        };
        let ends = (self.tcp().local_addr(), self.tcp().peer_addr());
        let (Ok(own), Ok(peer)) = ends else {
            return false;
        };
        let ends = v4(own).zip(v4(peer));
        ends.is_some_and(|(own, peer)| crate::sock_diag::was_read(own, peer).unwrap_or(false))
    }

    #[cfg(not(target_os = "linux"))]
    fn was_read(&self) -> bool {
        false
    }

    fn acknowledge(&self) {
        let tcp = self.tcp();
        // Where it fails, only time is lost.
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_quickack(tcp, true);
        #[cfg(not(target_os = "linux"))]
        let _ = tcp;
    }
}

macro_rules! delegate {
    ($self:ident, $method:ident($($argument:expr),*)) => {
        match &mut $self.get_mut().bytes {
            Bytes::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Bytes::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let read = match &mut this.bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Bytes::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, into),
        };
        if read.is_pending() && this.shared.hurry.load(Relaxed) {
            this.acknowledge();
        }
        if read.is_ready() {
            let came = into.filled().len() - before;
            this.shared.came(came)?;
            if came == 0 && this.shared.patience.load(Relaxed) != UNLIMITED {
                this.shared.was_read.store(this.was_read(), Relaxed);
            }
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.bytes {
            Bytes::Plain(stream) => stream.is_write_vectored(),
            Bytes::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown(cx))
    }
}
