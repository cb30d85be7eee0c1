//! Free ports of this machine's loopback.
//!
//! A port is free only until someone else takes it, and nothing can hold it for a program that binds it itself. What
//! can be done is done: no two instances of this server are given the same one, and whoever starts an instance asks
//! afterwards whether another took it.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use parking_lot::Mutex;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port that is nobody else's in this server until it is dropped.
#[derive(Debug)]
pub(super) struct Port(pub(super) u16);

impl Port {
    /// One that is free now.
    pub(super) fn free() -> io::Result<Self> {
        // Those given stay bound during the search, so that the system does not offer them again at once.
        let mut tried = Vec::new();
        for _ in 0..64 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = listener.local_addr()?.port();
            let mut given = GIVEN.lock();
            if given.get_or_insert_default().insert(port) {
                return Ok(Self(port));
            }
            drop(given);
            tried.push(listener);
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.0))
    }

    /// Whether someone listens there now.
    pub(super) fn is_taken(&self) -> bool {
        TcpListener::bind(self.address())
            .is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(given) = &mut *GIVEN.lock() {
            given.remove(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_given_once() {
        let ports: Vec<Port> = (0..200).map(|_| Port::free().expect("free")).collect();
        let numbers: HashSet<u16> = ports.iter().map(|port| port.0).collect();
        assert_eq!(numbers.len(), ports.len());
        let port = &ports[0];
        assert!(!port.is_taken());
        let listener = TcpListener::bind(port.address()).expect("free");
        assert!(port.is_taken());
        drop(listener);
    }
}
