//! Whose end of a loopback connection it is: an instance's Runtime API is for the processes of that instance alone. Whoever
//! else asks there for work would get the next request with all that is in it, and could answer it.
//!
//! Every instance has a session of its own, so what it started is known by that. Where the system does not say who holds a
//! socket (no `/proc`), everybody on the machine is taken for the instance.

use std::net::SocketAddr;

#[cfg(target_os = "linux")]
use crate::launcher::os;

/// Whether the client of a connection from `peer` belongs to the session that `leader` leads.
#[cfg(target_os = "linux")]
pub(super) fn is_of(leader: u32, peer: SocketAddr) -> bool {
    if !std::path::Path::new("/proc/net/tcp").exists() {
        return true;
    }
    match inode(peer) {
        // It has gone already, perhaps with its process: nobody hears an answer, and what it said last counts.
        None => true,
        Some(inode) => {
            let leader = leader.cast_signed();
            let theirs =
                |process: &os::Process| process.session == leader && holds(process.pid, &inode);
            holds(leader, &inode) || os::processes().iter().any(theirs)
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn is_of(_leader: u32, _peer: SocketAddr) -> bool {
    true
}

/// The socket bound to `peer`, as links in `/proc/PID/fd` name it. Programs may reach IPv4 through IPv6.
#[cfg(target_os = "linux")]
fn inode(peer: SocketAddr) -> Option<String> {
    let files = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok());
    tables.into_iter().find_map(|table| inode_in(&table, peer))
}

/// proc_pid_net(5): the second field is the local address, the tenth the inode.
#[cfg(target_os = "linux")]
fn inode_in(table: &str, peer: SocketAddr) -> Option<String> {
    let std::net::IpAddr::V4(address) = peer.ip().to_canonical() else {
        return None;
    };
    let address = u32::from_ne_bytes(address.octets());
    let local = format!("{address:08X}:{:04X}", peer.port());
    let mut lines = table.lines().map(str::split_whitespace);
    let inode = lines.find_map(|mut fields| {
        let here = fields.nth(1)?.ends_with(&local);
        here.then(|| fields.nth(7)).flatten()
    })?;
    (inode != "0").then(|| format!("socket:[{inode}]"))
}

#[cfg(target_os = "linux")]
fn holds(pid: i32, socket: &str) -> bool {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let links = open.into_iter().flatten().flatten();
    links
        .filter_map(|link| std::fs::read_link(link.path()).ok())
        .any(|target| target.as_os_str() == socket)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_holder_of_a_socket_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("has one")).expect("connects");
        let peer = client.local_addr().expect("has one");
        let own = std::process::id();
        let process = os::process(own.cast_signed()).expect("runs");
        assert!(is_of(own, peer) && is_of(process.session.cast_unsigned(), peer));
        assert!(!is_of(u32::MAX, peer), "a session that is none");
        drop(client);
        assert!(is_of(own, peer), "nobody is there");
    }

    #[test]
    fn ipv4_within_ipv6_is_found() {
        let line = "  0: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:C350 01 00000000:00000000 \
                    00:00000000 00000000     0        0 4242 1 0000000000000000 20 4 30 10 -1";
        let peer = "127.0.0.1:8080".parse().expect("an address");
        assert_eq!(inode_in(line, peer).as_deref(), Some("socket:[4242]"));
    }
}
