//! One connection of this machine, asked for by both its ends (sock_diag(7)): what that takes does not grow with how many
//! there are, as it does where all of them are listed (`/proc/net/tcp`).

use std::{io, net::SocketAddrV4};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `SOCK_DIAG_BY_FAMILY`, of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`, of linux/netlink.h.
const REQUEST: u16 = 1;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// What precedes each message: its length, kind, flags, number and sender.
const HEADER: usize = 16;
/// `struct inet_diag_req_v2`, of linux/inet_diag.h.
const ASK: usize = 56;
/// `struct inet_diag_msg`.
const ANSWER: usize = 72;
/// In an answer, where the state is, how many bytes came and were not read, how many were sent and not acknowledged, and
/// the inode.
const STATE: usize = HEADER + 1;
const UNREAD: usize = HEADER + ANSWER - 16;
const UNACKNOWLEDGED: usize = HEADER + ANSWER - 12;
const INODE: usize = HEADER + ANSWER - 4;
/// `TCP_LISTEN`: nobody has both ends, but somebody waits at one of them.
const LISTENS: u8 = 10;
/// `TCP_CLOSE_WAIT`: the other side has closed its end, in order.
const CLOSED_THERE: u8 = 8;
const IPV4: u8 = 2;
const TCP: u8 = 6;

/// The inode of the socket at `local` that is connected to `remote`; `None` when there is none, or nobody holds it any more.
///
/// # Errors
/// The system does not say: it is to be looked for in the list.
pub(crate) fn inode(local: SocketAddrV4, remote: SocketAddrV4) -> io::Result<Option<u32>> {
    answer(local, remote, |answer| {
        let inode = number(answer, INODE).filter(|inode| *inode != 0);
        inode.filter(|_| answer[STATE] != LISTENS)
    })
}

/// Whether the other side closed the connection after its program had read all that was sent to it. A system throws a
/// connection away (RST) that is closed before, and then there is none. A program that ends its own direction first
/// (`shutdown`) has not said yet; where its end is on this machine, what waits there says it.
///
/// # Errors
/// The system does not say.
pub(crate) fn was_read(local: SocketAddrV4, remote: SocketAddrV4) -> io::Result<bool> {
    let arrived = || -> io::Result<bool> {
        let arrived = answer(local, remote, |answer| {
            let left = number(answer, UNACKNOWLEDGED)?;
            Some(answer[STATE] == CLOSED_THERE && left == 0)
        })?;
        Ok(arrived.unwrap_or(false))
    };
    let waits = || -> io::Result<bool> {
        let unread = answer(remote, local, |answer| {
            number(answer, UNREAD).filter(|_| answer[STATE] != LISTENS)
        })?;
        Ok(unread.is_some_and(|unread| unread > 0))
    };
    // Once more at the end: an end that is gone was closed by then, and ours knows how.
    Ok(arrived()? && !waits()? && arrived()?)
}

/// What `read` finds in what the kernel says of a connection; `None` when there is no such connection.
fn answer<T>(
    local: SocketAddrV4,
    remote: SocketAddrV4,
    read: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let kernel = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    send(&kernel, &ask(local, remote), SendFlags::empty())?;
    let mut answer = [0; 512];
    // The kernel has answered by the time that it took the question.
    let (length, _) = recv(&kernel, &mut answer[..], RecvFlags::DONTWAIT)?;
    match found(answer.get(..length).unwrap_or_default())? {
        Some(answer) => Ok(read(answer)),
        None => Ok(None),
    }
}

fn ask(local: SocketAddrV4, remote: SocketAddrV4) -> [u8; HEADER + ASK] {
    let mut ask = [0; HEADER + ASK];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        ask[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&(HEADER as u32 + ASK as u32).to_ne_bytes());
    put(&BY_FAMILY.to_ne_bytes());
    put(&REQUEST.to_ne_bytes());
    put(&[0; 8]);
    put(&[IPV4, TCP, 0, 0]);
    // In whatever state.
    put(&u32::MAX.to_ne_bytes());
    put(&local.port().to_be_bytes());
    put(&remote.port().to_be_bytes());
    for ip in [local.ip(), remote.ip()] {
        put(&ip.octets());
        put(&[0; 12]);
    }
    // On any interface, and no cookie is known of it (`INET_DIAG_NOCOOKIE`).
    put(&0_u32.to_ne_bytes());
    put(&[0xff; 8]);
    ask
}

/// The answer, if it says something of a connection.
fn found(answer: &[u8]) -> io::Result<Option<&[u8]>> {
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok());
    match kind.map(u16::from_ne_bytes) {
        Some(BY_FAMILY) if answer.len() >= HEADER + ANSWER => Ok(Some(answer)),
        Some(ERROR) => {
            let error = number(answer, HEADER).map_or(0, u32::cast_signed);
            let error = io::Error::from_raw_os_error(error.wrapping_neg());
            match error.kind() {
                io::ErrorKind::NotFound => Ok(None),
                _ => Err(error),
            }
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn number(answer: &[u8], at: usize) -> Option<u32> {
    let bytes = answer.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
        os::fd::AsRawFd,
    };

    use super::*;

    fn ends(client: &TcpStream) -> (SocketAddrV4, SocketAddrV4) {
        let v4 = |address: SocketAddr| match address.ip().to_canonical() {
            std::net::IpAddr::V4(ip) => SocketAddrV4::new(ip, address.port()),
            std::net::IpAddr::V6(ip) => panic!("{ip}"),
        };
        let own = v4(client.local_addr().expect("has one"));
        (own, v4(client.peer_addr().expect("has one")))
    }

    fn linked(client: &TcpStream) -> String {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", client.as_raw_fd()));
        link.expect("is open").display().to_string()
    }

    #[test]
    fn a_connection_is_found_by_its_ends_until_it_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("has one");
        let client = TcpStream::connect(address).expect("connects");
        let (own, peer) = ends(&client);
        let found = inode(own, peer).expect("the system says it");
        let named = found.map(|inode| format!("socket:[{inode}]"));
        assert_eq!(named, Some(linked(&client)));
        // A listener has no other end, and the other end of ours is another socket.
        assert_ne!(inode(peer, own).expect("says"), found);
        let nobody = SocketAddrV4::new(*own.ip(), 1);
        assert_eq!(inode(peer, nobody).expect("says"), None);
        drop(client);
        assert_eq!(inode(own, peer).expect("says"), None);
    }

    #[test]
    fn what_was_read_before_the_end_is_told_from_what_was_not() {
        use std::io::{Read, Write};
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("has one");
        for (reads, expected) in [(4, true), (2, false), (0, false)] {
            let mut client = TcpStream::connect(address).expect("connects");
            let (mut server, _) = listener.accept().expect("it comes");
            let (own, peer) = ends(&client);
            client.write_all(b"data").expect("is sent");
            server.read_exact(&mut vec![0; reads]).expect("it is there");
            assert!(!was_read(own, peer).expect("says"), "it is open");
            server.shutdown(Shutdown::Write).expect("it is open");
            assert_eq!(was_read(own, peer).expect("says"), expected, "{reads} of 4");
            drop(server);
            assert_eq!(was_read(own, peer).expect("says"), expected, "{reads} of 4");
        }
    }

    #[test]
    fn ipv4_within_ipv6_is_found_too() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("has one").port();
        let mapped: Ipv6Addr = "::ffff:127.0.0.1".parse().expect("an address");
        let client = TcpStream::connect((mapped, port)).expect("connects");
        let (own, peer) = ends(&client);
        let found = inode(own, peer).expect("the system says it");
        let named = found.map(|inode| format!("socket:[{inode}]"));
        assert_eq!(named, Some(linked(&client)));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert!(found(b"").is_err() && found(&[0; 64]).is_err());
    }
}
