//! A pool with a platform around it that remembers what it was asked.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{HeaderValue, Request, Response};
use model::{
    AppName, ByteSize, Clock, Error, Ids, InstanceId, Invocation, Limits, Namespace, Run, Scale,
    SpanId, Target, Tier, TraceContext, TraceId, Trigger, VersionId, Workload,
    invocation::{Class, Select},
};
use parking_lot::Mutex;
use runtime::{
    Body, Caller, Context, Host, Input, LogLine, Presence, Ran, Spec,
    host::BoxFuture,
    wasm::{Engine, Options, Pool},
};

use crate::support::Fixture;

/// Memory of all guests of a test together.
pub(crate) const ALL_MEMORY: ByteSize = ByteSize::mib(256);

/// What the tests' platform was asked.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) lines: Mutex<Vec<LogLine>>,
    pub(crate) calls: Mutex<Vec<(Caller, String)>>,
    pub(crate) left: Mutex<Vec<InstanceId>>,
    /// Calls under way, and most ever.
    pub(crate) under_way: Arc<(AtomicUsize, AtomicUsize)>,
}

impl Host for Asked {
    fn enter(&self, _presence: &Arc<Presence>) -> Vec<(String, String)> {
        vec![("ORDERS_URL".to_owned(), "http://orders.internal".to_owned())]
    }

    fn secret(&self, _: model::VersionId, _: &str) -> Option<zeroize::Zeroizing<String>> {
        None
    }

    fn leave(&self, instance: InstanceId) {
        self.left.lock().push(instance);
    }

    fn call(&self, caller: Caller, request: Request<Body>) -> BoxFuture<Response<Body>> {
        let said = format!("{} {}", request.method(), request.uri());
        self.calls.lock().push((caller, said));
        let breaks = request.uri().path() == "/break";
        let under_way = Arc::clone(&self.under_way);
        Box::pin(async move {
            let now = 1 + under_way.0.fetch_add(1, SeqCst);
            under_way.1.fetch_max(now, SeqCst);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            under_way.0.fetch_sub(1, SeqCst);
            assert!(!breaks, "a fault of the platform");
            let body = request.into_body().collect(ByteSize::mib(1)).await;
            let body = body.expect("the guest sends it all");
            Response::new(Body::full([b"inside got ", &*body].concat()))
        })
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
pub(crate) struct Platform {
    pub(crate) asked: Arc<Asked>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) spec: Spec,
    context: Arc<Context>,
    clock: Clock,
    ids: Ids,
    _fixture: Fixture,
}

impl Platform {
    /// The guest with every behaviour.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same, with another manifest.
    pub(crate) fn with(change: impl FnOnce(&mut Workload)) -> Self {
        let guest = guest();
        let folder = guest.parent().expect("a file is in a folder");
        Self::of(folder, "behaviours.wasm", &target().join("cache"), change)
    }

    /// Any component.
    pub(crate) fn of(
        folder: &Path,
        component: &str,
        cache: &Path,
        change: impl FnOnce(&mut Workload),
    ) -> Self {
        Self::on(options(), folder, component, cache, change)
    }

    /// Any component of WASI 0.3, on a server that runs it.
    pub(crate) fn preview3(name: &str, change: impl FnOnce(&mut Workload)) -> Self {
        assert!(!testkit::component(name).is_empty(), "it is built");
        let options = Options {
            preview3: true,
            ..options()
        };
        let folder = target().join("wasm32-wasip2/release");
        let component = format!("{name}.wasm");
        Self::on(
            options,
            &folder,
            &component,
            &target().join("cache"),
            change,
        )
    }

    fn on(
        options: Options,
        folder: &Path,
        component: &str,
        cache: &Path,
        change: impl FnOnce(&mut Workload),
    ) -> Self {
        let fixture = Fixture::new();
        let asked = Arc::new(Asked::default());
        let (clock, ids) = (Clock::system(), Ids::system());
        let context = Arc::new(Context {
            host: Arc::clone(&asked) as Arc<dyn Host>,
            clock: clock.clone(),
            ids: ids.clone(),
            limits: Limits::default(),
            launcher: fixture.launcher.clone(),
            engine: fixture.no_engine(),
            cache: cache.to_owned(),
            templates: runtime::lambda::Templates::default(),
            berths: runtime::lambda::Berths::default(),
        });
        let mut workload = workload(component);
        change(&mut workload);
        let spec = Spec {
            namespace: Namespace::default_namespace(),
            app: AppName::literal("shop"),
            workload,
            version: VersionId([7; 32]),
            folder: folder.to_owned(),
            hosts: Vec::new(),
            state_folder: None,
        };
        let engine = Engine::new(options).expect("the machine has room for 32 guests");
        let pool = Arc::new(Pool::new(&context, &engine, spec.clone()));
        Self {
            asked,
            engine,
            pool,
            spec,
            context,
            clock,
            ids,
            _fixture: fixture,
        }
    }

    /// Another workload of the same component.
    pub(crate) fn another(&self) -> Arc<Pool> {
        Arc::new(Pool::new(&self.context, &self.engine, self.spec.clone()))
    }

    /// An invocation with so much time.
    pub(crate) fn invocation(&self, time: Duration) -> Arc<Invocation> {
        Arc::new(Invocation {
            id: self.ids.invocation(&self.clock),
            target: Arc::new(Target {
                namespace: self.spec.namespace.clone(),
                app: self.spec.app.clone(),
                workload: self.spec.workload.name.clone(),
                select: Select::Live,
            }),
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
        })
    }

    pub(crate) async fn input(&self, input: Input) -> Ran {
        let invocation = self.invocation(Duration::from_secs(60));
        self.pool.invoke(invocation, input).await
    }

    /// The same with so much time.
    pub(crate) async fn get_within(&self, time: Duration, path: &str) -> Ran {
        let input = Input::http(request("GET", path, Body::Empty));
        self.pool.invoke(self.invocation(time), input).await
    }

    pub(crate) async fn get(&self, path: &str) -> Ran {
        self.input(Input::http(request("GET", path, Body::Empty)))
            .await
    }

    /// What `path` answers, to its end.
    pub(crate) async fn text(&self, path: &str) -> String {
        text(self.get(path).await.response.expect(path)).await
    }

    /// How `path` fails, and the meter says the same.
    pub(crate) async fn failure(&self, path: &str) -> Error {
        failure(self.get(path).await)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked
            .lines
            .lock()
            .iter()
            .map(|line| line.text.clone())
            .collect()
    }
}

fn options() -> Options {
    Options {
        places: 32,
        memory: ALL_MEMORY.0,
        ..Options::default()
    }
}

/// The error of an invocation that has no head.
pub(crate) fn failure(ran: Ran) -> Error {
    let error = ran.response.map(|r| r.status()).expect_err("a failure");
    assert_eq!(ran.meter.failure(), Some(&error));
    error
}

/// The text of a response.
pub(crate) async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect(ByteSize::mib(64)).await;
    String::from_utf8(bytes.expect("the body is whole").to_vec()).expect("text")
}

pub(crate) fn request(method: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "shop.example")
        .body(body)
        .expect("a request")
}

/// The same with headers of its own.
pub(crate) fn request_with(
    method: &str,
    path: &str,
    body: Body,
    headers: &[(&'static str, &'static str)],
) -> Request<Body> {
    let mut request = request(method, path, body);
    for (name, value) in headers {
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(*name, value);
    }
    request
}

fn workload(component: &str) -> Workload {
    Workload {
        name: AppName::literal("behaviours"),
        tier: Tier::Function,
        run: Run::Wasm {
            component: component.to_owned(),
            reuse: None,
        },
        scale: Scale::by_requests(0, 1, 100, Duration::from_secs(60)),
        health: None,
        probes: model::Probes::default(),
        owner: None,
        timeout: Duration::from_secs(60),
        memory: ByteSize::mib(64),
        limits: model::InstanceLimits::default(),
        max_body: ByteSize::mib(100),
        env: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
        secrets: Vec::new(),
        calls: vec!["orders".to_owned()],
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

fn target() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest
        .ancestors()
        .nth(2)
        .expect("crates/runtime is two below the root");
    root.join("target/guests")
}

/// Builds the guest; cargo itself locks the folder and knows when nothing is to be done.
fn guest() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/behaviours/Cargo.toml");
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--target",
            "wasm32-wasip2",
        ])
        .arg("--manifest-path")
        .arg(source)
        .arg("--target-dir")
        .arg(target())
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo runs");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    target().join("wasm32-wasip2/release/behaviours.wasm")
}

/// The bytes of the guest.
pub(crate) fn guest_bytes() -> Vec<u8> {
    fs::read(guest()).expect("it was just built")
}
