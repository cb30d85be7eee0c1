//! Free ports of this machine's loopback.
//!
//! A port is free only until someone else takes it, and nothing can hold it for a program that binds it itself. What
//! can be done is done: no two instances of this server are given the same one, and whoever starts an instance asks
//! afterwards whether another took it.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use model::{Name, Run};
use parking_lot::Mutex;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// The ports of one instance: the one that requests come by, and those of its own beside it, with the variables that tell them.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) main: Port,
    pub(super) others: Vec<(Name, String, Port)>,
}

impl Ports {
    /// Free ones for all that a workload asks for.
    pub(super) fn free(run: &Run) -> io::Result<Self> {
        let named = match run {
            Run::Container { ports, .. } => Some(ports),
            _ => None,
        };
        let named = named.into_iter().flatten();
        let others =
            named.map(|(name, variable)| Ok((name.clone(), variable.clone(), Port::free()?)));
        Ok(Self {
            main: Port::free()?,
            others: others.collect::<io::Result<_>>()?,
        })
    }

    /// What an instance is told of them.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, u16)> {
        let others = self.others.iter();
        let others = others.map(|(_, variable, port)| (variable.as_str(), port.0));
        others.chain([("PORT", self.main.0)])
    }

    /// Their numbers by name, without the one that requests come by.
    pub(super) fn named(&self) -> BTreeMap<Name, u16> {
        let others = self.others.iter();
        others
            .map(|(name, _, port)| (name.clone(), port.0))
            .collect()
    }

    /// One at which someone listens now.
    pub(super) fn taken(&self) -> Option<u16> {
        let others = self.others.iter().map(|(_, _, port)| port);
        let mut all = others.chain([&self.main]);
        all.find(|port| port.is_taken()).map(|port| port.0)
    }
}

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
