//! Sockets that listen: bound before the platform opens, because instances must know where the mesh will be.
//! Connections queue in the kernel until a server takes them.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use model::{Error, code};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt,
};

/// Connections that the kernel holds until they are accepted, per socket (it caps this at `somaxconn`).
const BACKLOG: i32 = 4096;

/// One address, with a socket for each worker that accepts from it.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    sockets: Vec<TcpListener>,
}

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
            });
        }
        drop(first);
        let sockets = (0..workers)
            .map(|_| open_socket(address, true))
            .collect::<io::Result<_>>()?;
        Ok(Self { address, sockets })
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

    pub(crate) fn into_sockets(self) -> Vec<TcpListener> {
        self.sockets
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
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
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
