//! How many connections each client has: bounded, so that one cannot take all that there are.
//!
//! A client is an IPv4 address or a /64 of IPv6, which is what one household or one rented machine gets. Proxies that are
//! trusted stand for many and are not counted, and neither is this machine itself.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use http_body::Body as _;
use model::{Error, code};
use parking_lot::Mutex;
use platform::Body;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{forwarded::Peer, refusal};

/// When to come back: a client knows best when it closes one of its others.
const COME_BACK: Duration = Duration::from_secs(1);

/// How long a connection that was refused waits for its client to read that.
const LINGER: Duration = Duration::from_secs(1);

/// Refused connections that linger at the same time; beyond them, one is closed without a word.
const LINGERING: usize = 256;

/// What each client has.
pub(super) struct Clients {
    most: usize,
    count_local: bool,
    open: Mutex<HashMap<IpAddr, Open>>,
    lingering: AtomicUsize,
}

/// What one client has.
#[derive(Default)]
struct Open {
    connections: usize,
    /// Whether the log says already that it wanted more.
    noted: bool,
}

/// One connection of a client, until it is dropped.
pub(super) struct Counted {
    clients: Arc<Clients>,
    client: IpAddr,
}

/// A connection too many.
pub(super) struct TooMany {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Clients {
    /// At most `most` connections each; 0 for any number.
    pub(super) fn new(most: usize, count_local: bool) -> Arc<Self> {
        Arc::new(Self {
            most,
            count_local,
            open: Mutex::default(),
            lingering: AtomicUsize::new(0),
        })
    }

    /// Counts a connection of `peer`; `None` when it is not counted.
    pub(super) fn enter(self: &Arc<Self>, peer: &Peer) -> Result<Option<Counted>, TooMany> {
        let local = peer.address.is_loopback() && !self.count_local;
        if self.most == 0 || peer.trusted || local {
            return Ok(None);
        }
        let client = client_of(peer.address);
        let clients = Arc::clone(self);
        let mut open = self.open.lock();
        let open = open.entry(client).or_default();
        if open.connections >= self.most {
            if !std::mem::replace(&mut open.noted, true) {
                tracing::warn!(%client, most = self.most, "a client wants more connections than it may have [TG0212]");
            }
            return Err(TooMany { clients, client });
        }
        open.connections += 1;
        Ok(Some(Counted { clients, client }))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Entry::Occupied(mut open) = self.clients.open.lock().entry(self.client) {
            open.get_mut().connections -= 1;
            if open.get().connections == 0 {
                open.remove();
            }
        }
    }
}

/// Who is behind an address.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

impl TooMany {
    /// Tells the client why it is not served, whatever it asks, and closes.
    pub(super) async fn say(self, mut stream: TcpStream) {
        let Self { clients, client } = self;
        if clients.lingering.fetch_add(1, Relaxed) < LINGERING {
            let answer = answer(client, clients.most);
            let told = async {
                stream.write_all(&answer).await?;
                stream.shutdown().await?;
                // Closing with bytes unread would reset the connection, and the client would not read why.
                let mut wasted = [0; 1024];
                while stream.read(&mut wasted).await? > 0 {}
                Ok::<_, std::io::Error>(())
            };
            let _ = timeout(LINGER, told).await;
        }
        clients.lingering.fetch_sub(1, Relaxed);
    }
}

/// The refusal as HTTP/1.1, which clients of HTTP/2 can at least show.
fn answer(client: IpAddr, most: usize) -> Vec<u8> {
    let message = format!("{client} has {most} connections open, which is as many as it may have");
    let error = Error::new(code::TOO_MANY_CONNECTIONS, message).retry_after(COME_BACK);
    let (head, body) = refusal::of(&error, None).into_parts();
    let body = match body {
        Body::Full(Some(bytes)) => bytes,
        other => {
            debug_assert!(other.is_end_stream(), "a refusal is at hand");
            Default::default()
        }
    };
    let mut wire = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        wire.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    wire.extend(
        format!(
            "content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        )
        .bytes(),
    );
    wire.extend(body);
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_client_and_forgotten_at_their_end() {
        let clients = Clients::new(2, false);
        let trusted = ["10.0.0.0/8".parse().expect("is a network")];
        let enter = |address: &str| {
            let address = address.parse().expect("is an address");
            clients.enter(&Peer::new(address, &trusted)).map_err(drop)
        };
        let first = enter("2001:db8::1").expect("is free");
        let second = enter("2001:db8::ffff:1").expect("is free");
        assert!(enter("2001:db8::2").is_err(), "the same network");
        let other = enter("2001:db8:0:1::1").expect("another network");
        drop(first);
        let third = enter("2001:db8::3").expect("one has gone");
        for uncounted in ["10.1.1.1", "127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            for _ in 0..3 {
                assert!(matches!(enter(uncounted), Ok(None)), "{uncounted}");
            }
        }
        drop((second, third, other));
        assert!(clients.open.lock().is_empty(), "nothing is remembered");
    }
}
