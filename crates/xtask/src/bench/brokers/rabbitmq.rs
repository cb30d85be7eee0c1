//! RabbitMQ's quorum queues with publisher confirms: one node, which syncs what it confirms.

use std::{collections::BTreeSet, fs, io::Read, net::TcpStream, process::Stdio};

use anyhow::{Context, bail, ensure};

use super::{Broker, Publisher, Wire};
use crate::{
    bench::{
        Bench,
        process::{self, Peer},
    },
    shell,
};

/// Debian's; the one on the path changes to another user first.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const QUEUE: &str = "bench";

/// Starts a node with a quorum queue, and connects.
pub(super) fn start(bench: &Bench<'_>) -> anyhow::Result<Broker> {
    let address = process::free_address()?;
    let folder = bench.folder.join("rabbitmq");
    fs::create_dir_all(&folder)?;
    let configuration = folder.join("rabbitmq.conf");
    fs::write(
        &configuration,
        format!("listeners.tcp.1 = {address}\nloopback_users.guest = true\n"),
    )?;
    fs::write(folder.join("enabled_plugins"), "[].\n")?;
    let port = address.port().to_string();
    let distribution = process::free_address()?.port().to_string();
    let mut command = process::clean(SERVER);
    command
        .env("HOME", &folder)
        .env("RABBITMQ_NODENAME", format!("bench{port}@localhost"))
        .env("RABBITMQ_NODE_PORT", &port)
        .env("RABBITMQ_DIST_PORT", distribution)
        .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
        .env("RABBITMQ_LOG_BASE", folder.join("log"))
        .env("RABBITMQ_CONFIG_FILE", &configuration)
        .env(
            "RABBITMQ_ENABLED_PLUGINS_FILE",
            folder.join("enabled_plugins"),
        )
        .stderr(Stdio::null());
    let peer = Peer::start(&mut command, address)
        .context("RabbitMQ is needed: apt install rabbitmq-server")?;
    let publisher = Amqp::connect(TcpStream::connect(address)?)?;
    let version = shell::output(process::clean("dpkg-query").args([
        "-W",
        "-f",
        "${Version}",
        "rabbitmq-server",
    ]));
    let version = version.unwrap_or_default();
    Ok(Broker {
        name: format!("RabbitMQ {}", version.split('-').next().unwrap_or("")),
        peer,
        publisher: Box::new(publisher),
    })
}

/// Classes and methods of AMQP 0-9-1 (its specification, section 1.2 and on).
mod method {
    pub(super) const START: (u16, u16) = (10, 10);
    pub(super) const START_OK: (u16, u16) = (10, 11);
    pub(super) const TUNE: (u16, u16) = (10, 30);
    pub(super) const TUNE_OK: (u16, u16) = (10, 31);
    pub(super) const OPEN: (u16, u16) = (10, 40);
    pub(super) const OPEN_OK: (u16, u16) = (10, 41);
    pub(super) const CHANNEL_OPEN: (u16, u16) = (20, 10);
    pub(super) const CHANNEL_OPEN_OK: (u16, u16) = (20, 11);
    pub(super) const QUEUE_DECLARE: (u16, u16) = (50, 10);
    pub(super) const QUEUE_DECLARE_OK: (u16, u16) = (50, 11);
    pub(super) const PUBLISH: (u16, u16) = (60, 40);
    pub(super) const ACK: (u16, u16) = (60, 80);
    pub(super) const CONFIRM_SELECT: (u16, u16) = (85, 10);
    pub(super) const CONFIRM_SELECT_OK: (u16, u16) = (85, 11);
}

const FRAME_METHOD: u8 = 1;
const FRAME_HEADER: u8 = 2;
const FRAME_BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;
/// The property `delivery-mode` is there, and says persistent.
const PERSISTENT: (u16, u8) = (1 << 12, 2);
const DURABLE: u8 = 0b10;

/// AMQP 0-9-1, as much of it as publishing with confirms needs.
struct Amqp {
    wire: Wire,
    confirmed: Confirmed,
}

impl Amqp {
    fn connect(stream: TcpStream) -> anyhow::Result<Self> {
        let mut amqp = Self {
            wire: Wire::new(stream)?,
            confirmed: Confirmed::default(),
        };
        amqp.wire.out.extend_from_slice(b"AMQP\x00\x00\x09\x01");
        amqp.expect(method::START)?;
        let login = [
            &table(&[])[..],
            &short("PLAIN"),
            &long("\0guest\0guest"),
            &short("en_US"),
        ];
        amqp.method(0, method::START_OK, &login.concat());
        let tune = amqp.expect(method::TUNE)?;
        // Channels and frame size as offered, no heartbeat.
        let limits = tune.get(..6).context("limits of channels and frames")?;
        amqp.method(0, method::TUNE_OK, &[limits, &[0, 0]].concat());
        amqp.method(
            0,
            method::OPEN,
            &[&short("/")[..], &short(""), &[0]].concat(),
        );
        amqp.expect(method::OPEN_OK)?;
        amqp.method(1, method::CHANNEL_OPEN, &short(""));
        amqp.expect(method::CHANNEL_OPEN_OK)?;
        let arguments = table(&[("x-queue-type", "quorum")]);
        let queue = [&[0, 0][..], &short(QUEUE), &[DURABLE], &arguments];
        amqp.method(1, method::QUEUE_DECLARE, &queue.concat());
        amqp.expect(method::QUEUE_DECLARE_OK)?;
        amqp.method(1, method::CONFIRM_SELECT, &[0]);
        amqp.expect(method::CONFIRM_SELECT_OK)?;
        Ok(amqp)
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[&[u8]]) {
        let length: usize = payload.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length).expect("frames are small");
        let out = &mut self.wire.out;
        out.push(kind);
        out.extend_from_slice(&channel.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        payload.iter().for_each(|part| out.extend_from_slice(part));
        out.push(FRAME_END);
    }

    fn method(&mut self, channel: u16, (class, method): (u16, u16), arguments: &[u8]) {
        let (class, method) = (class.to_be_bytes(), method.to_be_bytes());
        self.frame(FRAME_METHOD, channel, &[&class, &method, arguments]);
    }

    /// The next method that the server says, and its arguments.
    fn said(&mut self) -> anyhow::Result<((u16, u16), Vec<u8>)> {
        let mut head = [0; 7];
        self.wire
            .stream
            .read_exact(&mut head)
            .context("RabbitMQ closed the connection")?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; length as usize + 1];
        self.wire.stream.read_exact(&mut payload)?;
        ensure!(
            payload.pop() == Some(FRAME_END) && payload.len() >= 4,
            "no AMQP frame"
        );
        ensure!(head[0] == FRAME_METHOD, "a frame of kind {}", head[0]);
        let arguments = payload.split_off(4);
        let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
        Ok(((number(0), number(2)), arguments))
    }

    fn expect(&mut self, wanted: (u16, u16)) -> anyhow::Result<Vec<u8>> {
        self.wire.flush()?;
        let (method, arguments) = self.said()?;
        if method != wanted {
            bail!(
                "RabbitMQ says {method:?} and not {wanted:?}: {}",
                String::from_utf8_lossy(&arguments)
            );
        }
        Ok(arguments)
    }
}

impl Publisher for Amqp {
    fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    fn publish(&mut self, data: &[u8]) -> anyhow::Result<()> {
        let route = [&[0, 0][..], &short(""), &short(QUEUE), &[0]].concat();
        self.method(1, method::PUBLISH, &route);
        let length = (data.len() as u64).to_be_bytes();
        let (flags, mode) = PERSISTENT;
        let class = method::PUBLISH.0.to_be_bytes();
        self.frame(
            FRAME_HEADER,
            1,
            &[&class, &[0, 0], &length, &flags.to_be_bytes(), &[mode]],
        );
        self.frame(FRAME_BODY, 1, &[data]);
        Ok(())
    }

    /// A confirm names a message, and with `multiple` all before it that were not confirmed; the others come one by one.
    fn hear(&mut self) -> anyhow::Result<usize> {
        let (method, arguments) = self.said()?;
        ensure!(method == method::ACK, "RabbitMQ says {method:?}");
        let tag: [u8; 8] = arguments.get(..8).context("a tag")?.try_into()?;
        let multiple = arguments.get(8) == Some(&1);
        Ok(self.confirmed.note(u64::from_be_bytes(tag), multiple))
    }
}

/// Which messages were confirmed: all up to one, and some beyond it.
#[derive(Default)]
struct Confirmed {
    up_to: u64,
    beyond: BTreeSet<u64>,
}

impl Confirmed {
    /// Takes a confirm of `tag`, and with `multiple` of all before it; says how many that makes.
    fn note(&mut self, tag: u64, multiple: bool) -> usize {
        let before = self.total();
        if multiple {
            self.up_to = self.up_to.max(tag);
            self.beyond = self.beyond.split_off(&(self.up_to + 1));
        } else if tag > self.up_to {
            self.beyond.insert(tag);
        }
        while self.beyond.remove(&(self.up_to + 1)) {
            self.up_to += 1;
        }
        usize::try_from(self.total() - before).expect("messages in flight are few")
    }

    fn total(&self) -> u64 {
        self.up_to + self.beyond.len() as u64
    }
}

fn short(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("short texts are");
    [&[length][..], text.as_bytes()].concat()
}

fn long(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("texts are short");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

fn table(pairs: &[(&str, &str)]) -> Vec<u8> {
    let pair = |(name, value): &(&str, &str)| [&short(name)[..], b"S", &long(value)].concat();
    let pairs: Vec<u8> = pairs.iter().flat_map(pair).collect();
    let length = u32::try_from(pairs.len()).expect("tables are small");
    [&length.to_be_bytes()[..], &pairs].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_count_each_message_once() {
        let mut confirmed = Confirmed::default();
        assert_eq!(confirmed.note(2, false), 1);
        assert_eq!(confirmed.note(5, false), 1);
        assert_eq!(confirmed.note(3, true), 2, "1 and 3");
        assert_eq!(confirmed.note(4, false), 1);
        assert_eq!(confirmed.note(6, true), 1);
        assert_eq!(confirmed.note(6, false), 0);
        assert_eq!((confirmed.up_to, confirmed.beyond.len()), (6, 0));
    }
}
