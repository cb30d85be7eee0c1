//! A place for pools to play on: a host that keeps what it hears, a launcher, and workloads made in one line.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use model::{
    AppName, ByteSize, Class, Clock, Ids, InstanceId, Invocation, Limits, Namespace, Probe, Probes,
    Run, Scale, SpanId, Target, Tier, TraceContext, TraceId, Trigger, VersionId, Workload,
    invocation::Select,
};
use parking_lot::Mutex;
use runtime::{
    Body, Caller, Context, Host, Input, LogLine, Presence, Ran, Spec, Upgrade,
    container::Engine,
    host::BoxFuture,
    process::{Pace, Pool},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::Fixture;

/// What the platform would be.
#[derive(Default)]
pub(crate) struct Listener {
    pub(crate) lines: Mutex<Vec<LogLine>>,
    pub(crate) present: Mutex<Vec<InstanceId>>,
    pub(crate) backlog: AtomicU64,
    pub(crate) secrets: Mutex<BTreeMap<String, String>>,
}

impl Host for Listener {
    fn enter(&self, presence: &Arc<Presence>) -> Vec<(String, String)> {
        self.present.lock().push(presence.instance);
        vec![("ORDERS_URL".into(), "http://mesh/~t/w/orders".into())]
    }

    fn secret(&self, _: model::VersionId, name: &str) -> Option<zeroize::Zeroizing<String>> {
        self.secrets.lock().get(name).cloned().map(Into::into)
    }

    fn leave(&self, instance: InstanceId) {
        self.present.lock().retain(|id| *id != instance);
    }

    fn call(&self, _: Caller, _: Request<Body>) -> BoxFuture<Response<Body>> {
        Box::pin(async { Response::new(Body::Empty) })
    }

    fn backlog(&self, _: &AppName, _: &AppName) -> u64 {
        self.backlog.load(Relaxed)
    }

    fn keyvalue(
        &self,
        _presence: &Arc<Presence>,
        bucket: &str,
        _ask: runtime::keyvalue::Ask,
    ) -> BoxFuture<Result<runtime::keyvalue::Answer, model::Error>> {
        let message = format!("there is no `{bucket}` here");
        let denied = model::Error::new(model::code::KV_NOT_DECLARED, message);
        Box::pin(async move { Err(denied) })
    }

    fn log(&self, line: LogLine) {
        self.lines.lock().push(line);
    }
}

impl Listener {
    /// The texts of all lines so far.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.lines.lock().iter().map(|l| l.text.clone()).collect()
    }

    pub(crate) fn heard(&self, part: &str) -> bool {
        self.texts().iter().any(|text| text.contains(part))
    }
}

/// The stage.
pub(crate) struct Stage {
    pub(crate) fixture: Fixture,
    pub(crate) listener: Arc<Listener>,
    pub(crate) context: Arc<Context>,
    pub(crate) clock: Clock,
    ids: Ids,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::on(Fixture::new())
    }

    pub(crate) fn on(fixture: Fixture) -> Self {
        let engine = fixture.no_engine();
        Self::with(fixture, engine)
    }

    pub(crate) fn with(fixture: Fixture, engine: Engine) -> Self {
        let listener = Arc::new(Listener::default());
        let (clock, ids) = (Clock::system(), Ids::system());
        let context = Context {
            host: Arc::<Listener>::clone(&listener),
            clock: clock.clone(),
            ids: ids.clone(),
            limits: Limits::default(),
            launcher: fixture.launcher.clone(),
            engine,
            cache: fixture.folder.path().join("cache"),
            templates: runtime::lambda::Templates::default(),
            berths: runtime::lambda::Berths::default(),
        };
        Self {
            fixture,
            listener,
            context: Arc::new(context),
            clock,
            ids,
        }
    }

    /// A file of this test's own that is not there yet.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.fixture.folder.path().join(name)
    }

    pub(crate) fn spec(&self, run: Run) -> Spec {
        Spec {
            namespace: Namespace::literal("default"),
            app: AppName::literal("shop"),
            workload: workload(run),
            version: VersionId([7; 32]),
            folder: self.fixture.folder.path().to_owned(),
            hosts: Vec::new(),
            state_folder: None,
        }
    }

    /// The test service with options, and what `change` makes of its manifest.
    pub(crate) fn service(&self, options: &[String], change: impl FnOnce(&mut Spec)) -> Arc<Pool> {
        let mut spec = self.spec(Run::Process {
            command: command(options),
            files: Vec::new(),
        });
        spec.workload.probes = quick("/health");
        change(&mut spec);
        Pool::with_pace(&self.context, spec, PACE)
    }

    pub(crate) fn invocation(&self, timeout: Duration) -> Arc<Invocation> {
        Arc::new(Invocation {
            id: self.ids.invocation(&self.clock),
            target: Arc::new(Target {
                namespace: Namespace::literal("default"),
                app: AppName::literal("shop"),
                workload: AppName::literal("orders"),
                select: Select::Live,
            }),
            trigger: Trigger::Direct,
            class: Class::Interactive,
            principals: Vec::new(),
            trace: TraceContext {
                trace: TraceId(7),
                parent: Some(SpanId(8)),
                sampled: true,
            },
            deadline: self.clock.monotonic() + timeout,
            depth: 0,
            idempotency_key: None,
            attempt: 1,
        })
    }

    pub(crate) async fn send(&self, pool: &Arc<Pool>, request: Request<Body>) -> Ran {
        let invocation = self.invocation(Duration::from_secs(60));
        pool.invoke(invocation, Input::http(request)).await
    }

    /// GETs a path; the whole answer.
    pub(crate) async fn get(&self, pool: &Arc<Pool>, path: &str) -> Result<Answer, model::Error> {
        answer(self.send(pool, get(path)).await).await
    }

    /// A connection to `/ws` that was upgraded.
    pub(crate) async fn socket(&self, pool: &Arc<Pool>) -> Socket {
        let request = Request::get("/ws")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let request = request.body(Body::Empty).expect("a request");
        let response = self.send(pool, request).await.response.expect("a head");
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let key = &response.headers()["sec-websocket-accept"];
        assert_eq!(key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let upgrade = response.extensions().get::<Upgrade>().cloned();
        let upgraded = upgrade.and_then(|upgrade| upgrade.0.lock().take());
        drop(response);
        let upgraded = upgraded.expect("an upgrade, not taken yet").await;
        let mut socket = Socket(TokioIo::new(upgraded.expect("upgraded")));
        assert_eq!(socket.hear(11).await, "hello first");
        socket
    }

    /// GETs a path that answers 200 with a number.
    pub(crate) async fn number(&self, pool: &Arc<Pool>, path: &str) -> u32 {
        let answer = self.get(pool, path).await.expect("an answer");
        assert_eq!(answer.status, 200);
        answer
            .json()
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .expect("a number")
    }
}

/// Quicker than the real thing, so that tests of failures need not wait.
pub(crate) const PACE: Pace = Pace {
    patience: Duration::from_secs(20),
    unready: Duration::from_secs(20),
};

/// What `health: path` stands for, asked more often.
pub(crate) fn quick(path: &str) -> Probes {
    let path = Some(path.to_owned());
    Probes {
        startup: Some(Probe {
            failures: 200,
            ..Probe::startup(path.clone())
        }),
        liveness: Some(Probe {
            interval: Duration::from_millis(100),
            ..Probe::liveness(path)
        }),
        readiness: None,
    }
}

/// A scale.
pub(crate) fn scale(min: u32, max: u32, concurrency: u32, idle: Duration) -> Scale {
    Scale::by_requests(min, max, concurrency, idle)
}

/// The command of the test service.
pub(crate) fn command(options: &[String]) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/service.py");
    let mut command = vec!["python3".to_owned(), script.to_owned()];
    command.extend(options.iter().cloned());
    command
}

/// An upgraded connection to the test service, which says everything again in capitals.
pub(crate) struct Socket(TokioIo<Upgraded>);

impl Socket {
    pub(crate) async fn say(&mut self, text: &str) -> String {
        self.0.write_all(text.as_bytes()).await.expect("open");
        self.hear(text.len()).await
    }

    async fn hear(&mut self, length: usize) -> String {
        let mut heard = vec![0; length];
        self.0.read_exact(&mut heard).await.expect("bytes");
        String::from_utf8(heard).expect("text")
    }
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

pub(crate) async fn answer(ran: Ran) -> Result<Answer, model::Error> {
    let (head, body) = ran.response?.into_parts();
    let body = body
        .collect(ByteSize::mib(512))
        .await
        .expect("a whole body");
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    })
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::Empty).expect("a request")
}

pub(crate) fn post(path: &str, body: Body) -> Request<Body> {
    Request::post(path).body(body).expect("a request")
}

fn workload(run: Run) -> Workload {
    Workload {
        name: AppName::literal("orders"),
        tier: Tier::Service,
        run,
        scale: scale(1, 1, 100, Duration::from_secs(600)),
        health: None,
        probes: model::Probes::default(),
        owner: None,
        timeout: Duration::from_secs(30),
        memory: ByteSize::mib(128),
        limits: model::InstanceLimits::default(),
        max_body: ByteSize::mib(100),
        env: BTreeMap::new(),
        secrets: Vec::new(),
        calls: Vec::new(),
        publishes: Vec::new(),
        egress: Vec::new(),
        state_folder: false,
        buckets: BTreeMap::new(),
        streams: None,
        on: Vec::new(),
        build: None,
        deferred: model::Deferred::default(),
    }
}
