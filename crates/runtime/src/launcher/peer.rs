//! Whose end of a loopback connection it is: which process holds the socket, and which instance that process belongs to.
//!
//! An instance's Runtime API is for the processes of that instance alone: whoever else asks there for work would get the
//! next request with all that is in it, and could answer it. And whatever key a workload signs with, it is that workload.
//! Every instance has a session of its own and descends from the launcher, so what it started is known by that. Where the
//! system does not say who holds a socket (no `/proc`), everybody on the machine is taken for who they say they are.

use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::{
    io,
    net::{IpAddr, SocketAddrV4},
};

#[cfg(target_os = "linux")]
use super::os;
#[cfg(target_os = "linux")]
use crate::sock_diag;

/// A connection as its server sees it. Both ends are needed to find it: a client may use one port for several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client's.
    pub peer: SocketAddr,
    /// The server's own.
    pub own: SocketAddr,
}

/// Who holds the client's end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// No instance of this launcher, as far as the system tells; or nobody any more, who hears no answer.
    Outside,
    /// A process of an instance, with the values that the variable asked for has in the environments that it and those
    /// it descends from were started with; its own first. None: a guest within this process.
    Instance(Vec<String>),
}

/// How many ancestors a process may have below the launcher.
#[cfg(target_os = "linux")]
const MAX_ANCESTORS: usize = 4096;

/// Who holds the client's end of a connection, among what descends from `launcher`.
#[cfg(target_os = "linux")]
pub(super) fn holder(launcher: i32, ends: Ends, variable: &str) -> Holder {
    if !ends.peer.ip().to_canonical().is_loopback()
        || !std::path::Path::new("/proc/net/tcp").exists()
    {
        return Holder::Outside;
    }
    let Some(inode) = inode(ends) else {
        return Holder::Outside;
    };
    let own = std::process::id().cast_signed();
    if holds(own, &inode) {
        return Holder::Instance(Vec::new());
    }
    let mut holders = os::processes().into_iter().map(|process| process.pid);
    let lineage = holders.find_map(|pid| {
        let ours = holds(pid, &inode).then(|| lineage(launcher, pid));
        ours.flatten()
    });
    lineage.map_or(Holder::Outside, |pids| {
        let values = pids.into_iter();
        Holder::Instance(
            values
                .filter_map(|pid| os::variable(pid, variable))
                .collect(),
        )
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn holder(_launcher: i32, _ends: Ends, _variable: &str) -> Holder {
    Holder::Outside
}

/// `pid` and its ancestors up to the launcher, which adopts orphans; `None` when it descends from somebody else.
#[cfg(target_os = "linux")]
fn lineage(launcher: i32, pid: i32) -> Option<Vec<i32>> {
    let parent = |pid: &i32| os::process(*pid).map(|process| process.parent);
    let ancestors = std::iter::successors(Some(pid), parent).take(MAX_ANCESTORS);
    let mut pids: Vec<i32> = ancestors.take_while(|pid| *pid > 1).collect();
    let at = pids.iter().position(|pid| *pid == launcher)?;
    pids.truncate(at);
    Some(pids)
}

/// Whether the client of a connection belongs to the session that `leader` leads.
#[cfg(target_os = "linux")]
pub(crate) fn is_of(leader: u32, ends: Ends) -> bool {
    if !std::path::Path::new("/proc/net/tcp").exists() {
        return true;
    }
    match inode(ends) {
        // It has gone already, perhaps with its process: nobody hears an answer, and what it said last counts.
        None => true,
        Some(inode) => {
            let leader = leader.cast_signed();
            let theirs =
                |process: &os::Process| process.session == leader && holds(process.pid, &inode);
            // One that was closed while its holder was looked for has gone as well.
            let is_gone = || self::inode(ends).as_ref() != Some(&inode);
            holds(leader, &inode) || os::processes().iter().any(theirs) || is_gone()
        }
    }
}

/// The same, as far as it shows at once: whether `leader` itself holds the client's end, among the few files that a program
/// has open when it starts. `false` says nothing.
#[cfg(target_os = "linux")]
pub(crate) fn is_leaders_own(leader: u32, ends: Ends) -> bool {
    let Ok(Some(socket)) = asked(ends) else {
        return false;
    };
    (0..FEW).any(|fd| {
        let link = std::fs::read_link(format!("/proc/{leader}/fd/{fd}"));
        link.is_ok_and(|target| target.as_os_str() == socket.as_str())
    })
}

/// Descriptors that are looked at for that.
#[cfg(target_os = "linux")]
const FEW: i32 = 16;

#[cfg(not(target_os = "linux"))]
pub(crate) const fn is_leaders_own(_leader: u32, _ends: Ends) -> bool {
    true
}

#[cfg(not(target_os = "linux"))]
pub(crate) const fn is_of(_leader: u32, _ends: Ends) -> bool {
    true
}

/// The client's socket, as links in `/proc/PID/fd` name it. Programs may reach IPv4 through IPv6.
#[cfg(target_os = "linux")]
fn inode(ends: Ends) -> Option<String> {
    asked(ends).unwrap_or_else(|_| listed(ends))
}

/// The same, as the kernel answers it.
///
/// # Errors
/// When it may not be asked.
#[cfg(target_os = "linux")]
fn asked(ends: Ends) -> io::Result<Option<String>> {
    let (IpAddr::V4(peer), IpAddr::V4(own)) =
        (ends.peer.ip().to_canonical(), ends.own.ip().to_canonical())
    else {
        return Ok(None);
    };
    let peer = SocketAddrV4::new(peer, ends.peer.port());
    let inode = sock_diag::inode(peer, SocketAddrV4::new(own, ends.own.port()))?;
    Ok(inode.map(|inode| format!("socket:[{inode}]")))
}

/// How often a socket is looked for before it counts as gone.
#[cfg(target_os = "linux")]
const LOOKS: usize = 8;

/// The same out of the list of all, for those who may not ask for one.
#[cfg(target_os = "linux")]
fn listed(ends: Ends) -> Option<String> {
    // A table that changes while it is read can miss a line: only what is never found is not there.
    (0..LOOKS).find_map(|_| {
        let files = ["/proc/net/tcp", "/proc/net/tcp6"];
        let tables = files
            .iter()
            .filter_map(|file| std::fs::read_to_string(file).ok());
        tables.into_iter().find_map(|table| inode_in(&table, ends))
    })
}

/// proc_pid_net(5): the second field is the local address, the third the remote one, the tenth the inode.
#[cfg(target_os = "linux")]
fn inode_in(table: &str, ends: Ends) -> Option<String> {
    let (local, remote) = (in_hex(ends.peer)?, in_hex(ends.own)?);
    let mut lines = table.lines().map(str::split_whitespace);
    let inode = lines.find_map(|mut fields| {
        let here = fields.nth(1)?.ends_with(&local) && fields.next()?.ends_with(&remote);
        here.then(|| fields.nth(6)).flatten()
    })?;
    (inode != "0").then(|| format!("socket:[{inode}]"))
}

/// An IPv4 address and a port as they are there.
#[cfg(target_os = "linux")]
fn in_hex(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip().to_canonical() else {
        return None;
    };
    let ip = u32::from_ne_bytes(ip.octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
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
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
    };

    use super::*;

    #[test]
    fn the_holder_of_a_socket_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("has one")).expect("connects");
        let ends = Ends {
            peer: client.local_addr().expect("has one"),
            own: listener.local_addr().expect("has one"),
        };
        let own = std::process::id();
        let process = os::process(own.cast_signed()).expect("runs");
        assert!(is_of(own, ends) && is_of(process.session.cast_unsigned(), ends));
        assert!(!is_of(u32::MAX, ends), "a session that is none");
        assert!(!is_leaders_own(1, ends), "somebody else's");
        let shows = asked(ends).is_ok() && client.as_raw_fd() < FEW;
        assert_eq!(is_leaders_own(own, ends), shows);
        assert_eq!(listed(ends), inode(ends), "both ways find it");
        drop(client);
        assert!(is_of(own, ends), "nobody is there");
    }

    #[test]
    fn what_descends_from_the_launcher_is_an_instance() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("has one")).expect("connects");
        let ends = Ends {
            peer: client.local_addr().expect("has one"),
            own: listener.local_addr().expect("has one"),
        };
        let own = std::process::id().cast_signed();
        assert_eq!(holder(own, ends, "GIVEN"), Holder::Instance(Vec::new()));
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env("GIVEN", "yes")
            .stdin(std::os::fd::OwnedFd::from(client))
            .spawn()
            .expect("starts");
        let instance = Holder::Instance(vec!["yes".to_owned()]);
        assert_eq!(holder(own, ends, "GIVEN"), instance);
        assert_eq!(holder(i32::MAX, ends, "GIVEN"), Holder::Outside);
        let outside = Ends {
            peer: "192.0.2.1:80".parse().expect("an address"),
            ..ends
        };
        assert_eq!(holder(own, outside, "GIVEN"), Holder::Outside);
        child.kill().expect("runs");
        child.wait().expect("ends");
        assert_eq!(holder(own, ends, "GIVEN"), Holder::Outside);
    }

    #[test]
    fn a_connection_is_found_by_both_its_ends() {
        let mapped = "0000000000000000FFFF00000100007F";
        let rest = "00:00000000 00000000     0        0";
        // The same port of the client, to another server, long closed; then ours, by IPv4 within IPv6.
        let table = format!(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n  \
             0: {mapped}:1F90 {mapped}:0050 06 00000000:00000000 {rest} 0 3 0000000000000000\n  \
             1: {mapped}:1F90 {mapped}:C350 01 00000000:00000000 {rest} 4242 1 0000000000000000 20 4 30 10 -1\n"
        );
        let ends = |own: &str| Ends {
            peer: "127.0.0.1:8080".parse().expect("an address"),
            own: own.parse().expect("an address"),
        };
        let found = |own| inode_in(&table, ends(own));
        assert_eq!(found("127.0.0.1:50000").as_deref(), Some("socket:[4242]"));
        assert_eq!(found("127.0.0.1:80"), None, "nobody holds it any more");
        assert_eq!(found("127.0.0.1:81"), None);
    }
}
