//! The smallest server of the Lambda Runtime API that a client can work with: what a client costs by itself, with nothing
//! around it. One thread, one invocation at a time; clients may ask on one connection and answer on another.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server for one client.
pub(super) struct RuntimeApi {
    listener: TcpListener,
    /// Those that are open; the last is where the last request came.
    connections: Vec<BufReader<TcpStream>>,
    invocations: u64,
}

impl RuntimeApi {
    /// Listens on a free port.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind("127.0.0.1:0")?,
            connections: Vec::new(),
            invocations: 0,
        })
    }

    /// What `AWS_LAMBDA_RUNTIME_API` is to be.
    pub(super) fn address(&self) -> anyhow::Result<String> {
        Ok(self.listener.local_addr()?.to_string())
    }

    /// Waits for the client to ask for work, hands out `event` and waits for its answer; how long the answer took from
    /// when the work was handed out.
    pub(super) fn invoke(&mut self, event: &str) -> anyhow::Result<Duration> {
        let head = self.request()?;
        ensure!(head.starts_with("GET "), "the client said {head:?}");
        self.invocations += 1;
        let id = format!("8476a536-e9f4-11e8-9739-{:012x}", self.invocations);
        let begun = Instant::now();
        self.answer(&format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Lambda-Runtime-Aws-Request-Id: {id}\r\nLambda-Runtime-Deadline-Ms: 4102444800000\r\n\
             Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:f\r\n\r\n{event}",
            event.len()
        ))?;
        let head = self.request()?;
        let took = begun.elapsed();
        ensure!(head.contains("/response "), "the client said {head:?}");
        self.answer("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")?;
        Ok(took)
    }

    /// The first line of the next request; its body is read and dropped.
    fn request(&mut self) -> anyhow::Result<String> {
        loop {
            let Some(at) = self.readable()? else {
                let (stream, _) = self.listener.accept()?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                self.connections.push(BufReader::new(stream));
                continue;
            };
            let mut connection = self.connections.remove(at);
            // Clients may use a connection for one request only.
            if let Some(first) = read_request(&mut connection)? {
                self.connections.push(connection);
                return Ok(first);
            }
        }
    }

    /// Which connection has something to read; `None` when a new one comes instead.
    fn readable(&self) -> anyhow::Result<Option<usize>> {
        let begun = |connection: &BufReader<TcpStream>| !connection.buffer().is_empty();
        if let Some(at) = self.connections.iter().position(begun) {
            return Ok(Some(at));
        }
        let streams = self.connections.iter().map(BufReader::get_ref);
        let mut all: Vec<_> = streams
            .map(|stream| PollFd::new(stream, PollFlags::IN))
            .collect();
        all.push(PollFd::new(&self.listener, PollFlags::IN));
        let patience = Timespec::try_from(PATIENCE)?;
        let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut all, Some(&patience)))?;
        ensure!(ready > 0, "the client says nothing for {PATIENCE:?}");
        let at = all.iter().position(|fd| !fd.revents().is_empty());
        Ok(at.filter(|at| *at < self.connections.len()))
    }

    fn answer(&mut self, text: &str) -> anyhow::Result<()> {
        let connection = self.connections.last_mut().context("somebody asked")?;
        Ok(connection.get_mut().write_all(text.as_bytes())?)
    }
}

/// One request off a connection; `None` when it was closed.
fn read_request(connection: &mut BufReader<TcpStream>) -> anyhow::Result<Option<String>> {
    let (mut first, mut length, mut chunked) = (String::new(), 0, false);
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if first.is_empty() {
            line.clone_into(&mut first);
        }
        if let Some((name, value)) = line.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse()?,
                "transfer-encoding" => chunked = true,
                _ => {}
            }
        }
    }
    if chunked {
        bail!("a client that sends chunks is not for this server");
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok(Some(first))
}
