//! Sockets that listen: bound before the platform opens, because instances must know where the mesh will be.
//! Connections queue in the kernel until a server takes them.

#[cfg(target_os = "linux")]
use std::time::Duration;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use model::{Error, code};
use tokio_rustls::TlsAcceptor;

use crate::tls::Certificates;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt,
};

/// Connections that the kernel holds until they are accepted, per socket (it caps this at `somaxconn`).
const BACKLOG: i32 = 4096;

/// After how long a silence the kernel asks the client's system whether it is still there, how often it asks, and how
/// many times without an answer before the connection is over.
#[cfg(target_os = "linux")]
const PEER_SILENT: Duration = Duration::from_secs(60);
#[cfg(target_os = "linux")]
const PEER_ASKED_EVERY: Duration = Duration::from_secs(15);
#[cfg(target_os = "linux")]
const PEER_ASKED: u32 = 4;

/// One address, with a socket for each worker that accepts from it.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    sockets: Vec<TcpListener>,
    certificates: Option<Certificates>,
}

/// One worker's socket of an address, and what TLS is spoken with there, if it is.
pub(crate) type Socket = (TcpListener, Option<TlsAcceptor>);

impl Listener {
    /// Listens on `address` (port 0: any free one) with `workers` sockets among which the kernel spreads connections.
    ///
    /// # Errors
    /// `BAD_CONFIG` when the address is taken or not this machine's.
    pub fn bind(address: SocketAddr, workers: usize) -> Result<Self, Error> {
        Self::open(address, workers.max(1)).map_err(|error| {
            let message = format!("cannot listen on {address}: {}", error.kind());
            Error::new(code::BAD_CONFIG, message).context(error)
        })
    }

    fn open(address: SocketAddr, workers: usize) -> io::Result<Self> {
        // Sockets that share a port would also share it with another server of the same user: so look first.
        let first = open_socket(address, false)?;
        let address = first.local_addr()?;
        if workers == 1 {
            return Ok(Self {
                address,
                sockets: vec![first],
                certificates: None,
            });
        }
        drop(first);
        let sockets = (0..workers)
            .map(|_| open_socket(address, true))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            address,
            sockets,
            certificates: None,
        })
    }

    /// The same, speaking TLS with `certificates`.
    #[must_use]
    pub fn with_tls(mut self, certificates: Certificates) -> Self {
        self.certificates = Some(certificates);
        self
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many workers can accept from it.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.sockets.len()
    }

    pub(crate) fn into_sockets(self) -> Vec<Socket> {
        let acceptor = self
            .certificates
            .map(|certificates| certificates.acceptor());
        let sockets = self.sockets.into_iter();
        sockets.map(|socket| (socket, acceptor.clone())).collect()
    }
}

fn open_socket(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, flags(), Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    watch_peers(&socket)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Lets the kernel find out that a client is gone without a word, on every connection that is accepted from `socket`:
/// an event stream or a WebSocket may be silent for hours, and would otherwise be kept for a client that lost power.
fn watch_peers(socket: &OwnedFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    #[cfg(target_os = "linux")]
    {
        sockopt::set_tcp_keepidle(socket, PEER_SILENT)?;
        sockopt::set_tcp_keepintvl(socket, PEER_ASKED_EVERY)?;
        sockopt::set_tcp_keepcnt(socket, PEER_ASKED)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
const fn flags() -> SocketFlags {
    SocketFlags::CLOEXEC
}

/// Where sockets are not made so, `runtime`'s launcher closes what it does not pass on.
#[cfg(not(target_os = "linux"))]
const fn flags() -> SocketFlags {
    SocketFlags::empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: &str = "127.0.0.1:0";

    #[test]
    fn who_is_accepted_is_asked_now_and_then_whether_they_are_still_there() {
        let listener = Listener::bind(ANY.parse().expect("is an address"), 1).expect("a free port");
        let _client = std::net::TcpStream::connect(listener.address()).expect("it listens");
        let socket = &listener.sockets[0];
        socket.set_nonblocking(false).expect("a socket");
        let (accepted, _) = socket.accept().expect("a connection");
        assert!(sockopt::socket_keepalive(&accepted).expect("a socket"));
        #[cfg(target_os = "linux")]
        assert_eq!(sockopt::tcp_keepidle(&accepted).expect("TCP"), PEER_SILENT);
    }

    #[test]
    fn workers_share_one_port_and_nobody_else_gets_it() {
        let listener = Listener::bind(ANY.parse().expect("is an address"), 3).expect("a free port");
        assert_eq!(listener.workers(), 3);
        for socket in &listener.sockets {
            assert_eq!(socket.local_addr().expect("is bound"), listener.address());
        }
        let second = Listener::bind(listener.address(), 3).expect_err("is taken");
        assert_eq!(second.code, code::BAD_CONFIG);
    }
}
