//! A Lambda pool over handlers written on the spot, with a platform around it that remembers what it was told.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use model::{
    AppName, ByteSize, Clock, Error, Ids, InstanceId, Invocation, Limits, Namespace, Run, Scale,
    SpanId, Target, Tier, TraceContext, TraceId, Trigger, VersionId, Workload,
    app::LambdaRuntime,
    invocation::{Class, Select},
};
use parking_lot::Mutex;
use runtime::{
    Body, Caller, Context, FunctionError, Host, Input, InstanceState, LogLine, LogTail, Presence,
    Ran, Spec,
    host::BoxFuture,
    lambda::{Pool, Templates},
};
use serde_json::Value;

use crate::support::{Fixture, eventually};

/// What the platform was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) lines: Mutex<Vec<LogLine>>,
    pub(crate) entered: Mutex<Vec<Arc<Presence>>>,
    pub(crate) left: Mutex<Vec<InstanceId>>,
}

impl Host for Told {
    fn enter(&self, presence: &Arc<Presence>) -> Vec<(String, String)> {
        self.entered.lock().push(Arc::clone(presence));
        vec![(
            "AWS_ENDPOINT_URL".to_owned(),
            "http://127.0.0.1:1".to_owned(),
        )]
    }

    fn secret(&self, _: model::VersionId, _: &str) -> Option<zeroize::Zeroizing<String>> {
        None
    }

    fn leave(&self, instance: InstanceId) {
        self.left.lock().push(instance);
    }

    fn call(&self, _: Caller, _: Request<Body>) -> BoxFuture<Response<Body>> {
        unreachable!("handlers call over sockets")
    }

    fn backlog(&self, _: &AppName, _: &AppName) -> u64 {
        0
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

/// A pool and all that it needs.
pub(crate) struct Lambda {
    pub(crate) told: Arc<Told>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) clock: Clock,
    pub(crate) cache: PathBuf,
    pub(crate) templates: Templates,
    ids: Ids,
    target: Arc<Target>,
    _fixture: Fixture,
}

/// How a pool is made.
pub(crate) struct Options {
    pub(crate) runtime: LambdaRuntime,
    pub(crate) handler: &'static str,
    pub(crate) files: Vec<(&'static str, String)>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) change: fn(&mut Workload),
    /// Whether the launcher may use the machine's control groups.
    pub(crate) groups: bool,
}

impl Options {
    /// `main.handler` in Python.
    pub(crate) fn python(source: &str) -> Self {
        Self::new(LambdaRuntime::Python3, "main.handler", "main.py", source)
    }

    /// `main.handler` in Node, in a file of this name.
    pub(crate) fn node(file: &'static str, source: &str) -> Self {
        Self::new(LambdaRuntime::Nodejs, "main.handler", file, source)
    }

    /// An executable `bootstrap`.
    pub(crate) fn provided(script: &str) -> Self {
        Self::new(LambdaRuntime::Provided, "main.handler", "bootstrap", script)
    }

    fn new(
        runtime: LambdaRuntime,
        handler: &'static str,
        file: &'static str,
        source: &str,
    ) -> Self {
        Self {
            runtime,
            handler,
            files: vec![(file, source.to_owned())],
            clock: Clock::system(),
            limits: Limits::default(),
            change: |_| {},
            groups: true,
        }
    }

    pub(crate) fn change(mut self, change: fn(&mut Workload)) -> Self {
        self.change = change;
        self
    }

    pub(crate) fn file(mut self, name: &'static str, content: &str) -> Self {
        self.files.push((name, content.to_owned()));
        self
    }

    pub(crate) fn handler(mut self, handler: &'static str) -> Self {
        self.handler = handler;
        self
    }

    pub(crate) fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    pub(crate) fn without_groups(mut self) -> Self {
        self.groups = false;
        self
    }

    pub(crate) fn start(self) -> Lambda {
        Lambda::start(self)
    }
}

impl Lambda {
    fn start(options: Options) -> Self {
        let fixture = match options.groups {
            true => Fixture::new(),
            false => Fixture::without_groups(),
        };
        let root = fixture
            .folder
            .path()
            .canonicalize()
            .expect("it was just made");
        let code = root.join("artifact/code");
        for (name, content) in &options.files {
            write(&code.join(name), content);
        }
        let told = Arc::new(Told::default());
        let cache = root.join("cache");
        let templates = Templates::default();
        let context = Arc::new(Context {
            host: Arc::clone(&told) as Arc<dyn Host>,
            clock: options.clock.clone(),
            ids: Ids::system(),
            limits: options.limits,
            launcher: fixture.launcher.clone(),
            engine: fixture.no_engine(),
            cache: cache.clone(),
            templates: templates.clone(),
            berths: runtime::lambda::Berths::default(),
        });
        let mut workload = workload(options.runtime, options.handler);
        (options.change)(&mut workload);
        let target = Arc::new(Target {
            namespace: Namespace::default_namespace(),
            app: AppName::literal("shop"),
            workload: workload.name.clone(),
            select: Select::Live,
        });
        let spec = Spec {
            namespace: target.namespace.clone(),
            app: target.app.clone(),
            workload,
            version: VersionId([7; 32]),
            folder: root.join("artifact"),
            hosts: Vec::new(),
            state_folder: None,
        };
        let pool = Arc::new(Pool::new(&context, spec));
        Self {
            told,
            pool,
            clock: options.clock,
            cache,
            templates,
            ids: Ids::system(),
            target,
            _fixture: fixture,
        }
    }

    /// An invocation with so much time.
    pub(crate) fn invocation(&self, time: Duration) -> Invocation {
        Invocation {
            id: self.ids.invocation(&self.clock),
            target: Arc::clone(&self.target),
            trigger: Trigger::Direct,
            class: Class::Interactive,
            principals: Vec::new(),
            trace: TraceContext {
                trace: TraceId(0xabc),
                parent: Some(SpanId(0xdef)),
                sampled: true,
            },
            deadline: self.clock.monotonic() + time,
            depth: 1,
            idempotency_key: None,
            attempt: 1,
        }
    }

    pub(crate) async fn input(&self, input: Input) -> Ran {
        let invocation = self.invocation(Duration::from_secs(60));
        self.pool.invoke(Arc::new(invocation), input).await
    }

    /// What the handler returns for a payload.
    pub(crate) async fn call(&self, payload: Value) -> Value {
        let (result, error) = self.payload(payload).await;
        assert_eq!(error, None, "{result}");
        result
    }

    /// The error object that the handler leaves for a payload.
    pub(crate) async fn error(&self, payload: Value) -> Value {
        let (result, error) = self.payload(payload).await;
        assert_eq!(error, Some(FunctionError("Unhandled")), "{result}");
        result
    }

    async fn payload(&self, payload: Value) -> (Value, Option<FunctionError>) {
        let ran = self
            .input(Input::Payload(Bytes::from(payload.to_string())))
            .await;
        let failed = ran.meter.failure().is_some();
        let response = ran
            .response
            .expect("payloads get their errors as responses");
        let error = response.extensions().get::<FunctionError>().cloned();
        assert_eq!(error.is_some(), failed, "the meter says the same");
        (json(response).await, error)
    }

    /// How a request fails.
    pub(crate) async fn http_error(&self, request: http::request::Builder) -> Error {
        let request = request.body(Body::Empty).expect("a request");
        let ran = self.input(Input::http(request)).await;
        let error = ran.response.map(|r| r.status()).expect_err("a failure");
        assert_eq!(ran.meter.failure(), Some(&error));
        error
    }

    /// What a request is answered.
    pub(crate) async fn http(&self, request: http::request::Builder, body: &str) -> Response<Body> {
        let request = request
            .body(Body::full(body.to_owned()))
            .expect("a request");
        self.input(Input::http(request))
            .await
            .response
            .expect("an answer")
    }

    /// The ids of the processes, the busy ones first.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut stats = self.pool.stats().instances;
        stats.sort_by_key(|stat| stat.state != InstanceState::Busy);
        stats.iter().filter_map(|stat| stat.pid).collect()
    }

    /// Waits until exactly so many instances are there.
    pub(crate) async fn until_instances(&self, count: usize) {
        let what = format!("{count} instances");
        eventually(&what, || self.pool.stats().instances.len() == count).await;
    }

    /// The lines that handlers wrote, without the platform's own.
    pub(crate) fn lines(&self) -> Vec<LogLine> {
        let lines = self.told.lines.lock();
        let own = |line: &&LogLine| line.stream != runtime::LogStream::Platform;
        lines.iter().filter(own).cloned().collect()
    }

    /// The temporary folders of those instances that there are.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let scratch = self.cache.join("scratch");
        let instances = self.pool.stats().instances.into_iter();
        let folders = instances.map(|one| scratch.join(one.instance.to_string()));
        folders.collect()
    }

    /// What the platform wrote about instances.
    pub(crate) fn notes(&self) -> Vec<String> {
        let lines = self.told.lines.lock();
        let notes = lines
            .iter()
            .filter(|line| line.stream == runtime::LogStream::Platform);
        notes.map(|line| line.text.clone()).collect()
    }
}

/// The body of a response as JSON.
pub(crate) async fn json(response: Response<Body>) -> Value {
    let bytes = bytes(response).await;
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{e}: {bytes:?}"))
}

/// The body of a response.
pub(crate) async fn bytes(response: Response<Body>) -> Bytes {
    response
        .into_body()
        .collect(ByteSize::mib(64))
        .await
        .expect("the body is whole")
}

/// The log tail of a response.
pub(crate) fn tail(response: &Response<Body>) -> String {
    let LogTail(tail) = response.extensions().get().expect("payloads get a tail");
    String::from_utf8(tail.to_vec()).expect("is text")
}

pub(crate) fn write(file: &Path, content: &str) {
    fs::create_dir_all(file.parent().expect("is in a folder")).expect("can be made");
    fs::write(file, content).expect("can be written");
    let is_program = |name: &str| name.starts_with("#!");
    if file.ends_with("bootstrap") || is_program(content) {
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("can be set");
    }
}

fn workload(runtime: LambdaRuntime, handler: &str) -> Workload {
    Workload {
        name: AppName::literal("hello"),
        tier: Tier::Function,
        run: Run::Lambda {
            runtime,
            handler: handler.to_owned(),
            code: "code".to_owned(),
            payload: model::app::LambdaPayload::default(),
            template: model::app::LambdaTemplate::default(),
        },
        scale: Scale::by_requests(0, 8, 1, Duration::from_secs(60)),
        health: None,
        probes: model::Probes::default(),
        owner: None,
        timeout: Duration::from_secs(30),
        memory: ByteSize::mib(128),
        limits: model::InstanceLimits::default(),
        max_body: ByteSize::mib(6),
        env: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
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
