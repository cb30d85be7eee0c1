//! OTLP out: kept traces to a collector, from a thread of its own. A collector that is slow or away costs spans
//! and a count, never memory without bound and never a request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header::CONTENT_TYPE, uri::Scheme};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use model::Clock;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc;

use super::convert::to_request;
use crate::{
    assembler::Segment,
    error::Error,
    options::{OtlpEncoding, OtlpExport},
};

/// Segments that wait for the collector.
const WAITING: usize = 4096;
/// Bytes of those, at most.
const WAITING_BYTES: usize = 16 << 20;
/// Spans in one request.
const BATCH: usize = 512;
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Pauses between attempts; after the last the batch is lost.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// The way to the collector.
pub(crate) struct Exporter {
    queue: Mutex<Option<mpsc::Sender<Arc<Segment>>>>,
    counts: Arc<Counts>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    lost: AtomicU64,
    stopping: AtomicBool,
    /// Bytes of the segments in the queue.
    waiting: AtomicUsize,
}

/// What the thread owns.
struct Task {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    encoding: OtlpEncoding,
    clock: Clock,
    counts: Arc<Counts>,
    /// Whether the last batch was lost, so that one outage is one warning.
    failing: bool,
}

/// What came of one attempt.
enum Attempt {
    Taken,
    /// Trying again may help.
    Later(String),
    /// It will not.
    Never(String),
}

impl Exporter {
    /// Starts the thread. Nothing is connected before there is something to send.
    pub(crate) fn start(options: OtlpExport, clock: &Clock) -> Result<Self, Error> {
        let wrong = || Error::Endpoint {
            endpoint: options.endpoint.clone(),
        };
        let uri = endpoint(&options.endpoint).ok_or_else(wrong)?;
        let headers = options
            .headers
            .iter()
            .map(|(name, value)| Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?)));
        let headers = headers.collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
        let counts = Arc::new(Counts::default());
        let (queue, waiting) = mpsc::channel(WAITING);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let task = Task {
            client: Client::builder(TokioExecutor::new()).build_http(),
            uri,
            headers,
            encoding: options.encoding,
            clock: clock.clone(),
            counts: Arc::clone(&counts),
            failing: false,
        };
        let thread = thread::Builder::new()
            .name("telemetry-otlp".to_owned())
            .spawn(move || runtime.block_on(task.run(waiting)))
            .map_err(Error::Thread)?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            counts,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands over a kept segment; it is lost when too many wait.
    pub(crate) fn offer(&self, segment: &Arc<Segment>) {
        let weight = segment.weight();
        let before = self.counts.waiting.fetch_add(weight, Relaxed);
        let queue = self.queue.lock();
        let sent = queue
            .as_ref()
            .filter(|_| before + weight <= WAITING_BYTES)
            .map(|queue| queue.try_send(Arc::clone(segment)));
        if !matches!(sent, Some(Ok(()))) {
            self.counts.waiting.fetch_sub(weight, Relaxed);
            self.counts
                .lost
                .fetch_add(segment.spans.len() as u64, Relaxed);
        }
    }

    /// Spans that the collector took, and spans that were lost.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.counts.sent.load(Relaxed),
            self.counts.lost.load(Relaxed),
        )
    }

    /// Sends what waits, each once, and ends the thread. Blocks.
    pub(crate) fn stop(&self) {
        self.counts.stopping.store(true, Relaxed);
        self.queue.lock().take();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the OTLP thread panicked");
        }
    }
}

impl Task {
    async fn run(mut self, mut waiting: mpsc::Receiver<Arc<Segment>>) {
        while let Some(first) = waiting.recv().await {
            let mut batch = vec![first];
            let mut spans = batch[0].spans.len();
            while spans < BATCH
                && let Ok(next) = waiting.try_recv()
            {
                spans += next.spans.len();
                batch.push(next);
            }
            let weight: usize = batch.iter().map(|segment| segment.weight()).sum();
            self.counts.waiting.fetch_sub(weight, Relaxed);
            let sent = self.send(&batch).await;
            self.account(spans as u64, sent);
        }
    }

    fn account(&mut self, spans: u64, sent: Result<(), String>) {
        match &sent {
            Ok(()) => self.counts.sent.fetch_add(spans, Relaxed),
            Err(_) => self.counts.lost.fetch_add(spans, Relaxed),
        };
        if let (false, Err(reason)) = (self.failing, &sent) {
            tracing::warn!(collector = %self.uri, reason, "spans are not exported");
        }
        self.failing = sent.is_err();
    }

    async fn send(&self, batch: &[Arc<Segment>]) -> Result<(), String> {
        let request = to_request(batch.iter().flat_map(|segment| &segment.spans));
        let body: Bytes = match self.encoding {
            OtlpEncoding::Protobuf => request.encode_to_vec().into(),
            OtlpEncoding::Json => serde_json::to_vec(&request)
                .map_err(|e| e.to_string())?
                .into(),
        };
        if self.counts.stopping.load(Relaxed) && self.failing {
            return Err("stopping, and the collector does not answer".to_owned());
        }
        for pause in PAUSES.map(Some).into_iter().chain([None]) {
            match (self.attempt(body.clone()).await, pause) {
                (Attempt::Taken, _) => return Ok(()),
                (Attempt::Later(_), Some(pause)) if !self.counts.stopping.load(Relaxed) => {
                    self.clock.sleep(pause).await;
                }
                (Attempt::Later(reason) | Attempt::Never(reason), _) => return Err(reason),
            }
        }
        unreachable!("the last attempt has no pause and returns")
    }

    async fn attempt(&self, body: Bytes) -> Attempt {
        let Ok(answered) =
            tokio::time::timeout(ANSWER, self.client.request(self.request(body))).await
        else {
            return Attempt::Later("no answer in time".to_owned());
        };
        let response = match answered {
            Ok(response) => response,
            Err(error) => return Attempt::Later(error.to_string()),
        };
        let status = response.status();
        // Read to the end, so that the connection can be used again.
        let rest = Limited::new(response.into_body(), 64 << 10).collect();
        let _ = tokio::time::timeout(ANSWER, rest).await;
        match status.as_u16() {
            200..300 => Attempt::Taken,
            429 | 502..=504 => Attempt::Later(status.to_string()),
            _ => Attempt::Never(status.to_string()),
        }
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let kind = match self.encoding {
            OtlpEncoding::Protobuf => "application/x-protobuf",
            OtlpEncoding::Json => "application/json",
        };
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        request.headers_mut().extend(self.headers.iter().cloned());
        request
    }
}

/// The address to POST to; `/v1/traces` when the endpoint has no path (OTLP exporter specification).
fn endpoint(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    if uri.scheme() != Some(&Scheme::HTTP) || uri.host().is_none_or(str::is_empty) {
        return None;
    }
    if uri.path() != "/" {
        return Some(uri);
    }
    format!("{}/v1/traces", text.trim_end_matches('/'))
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let at = |text| endpoint(text).map(|uri| uri.to_string());
        let full = Some("http://c:4318/v1/traces".to_owned());
        assert_eq!(at("http://c:4318"), full);
        assert_eq!(at("http://c:4318/"), full);
        assert_eq!(at("http://c/x"), Some("http://c/x".to_owned()));
        for bad in [
            "",
            "c:4318",
            "https://c",
            "http://",
            "ftp://c",
            "http://a b",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
