//! What running code asks of the platform: the implementation of `runtime::Host`, handed down at start.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use bus::Bus;
use model::{AppName, Error, InstanceId, Run, VersionId, Workload, WorkloadName};
use runtime::{
    Body, Caller, Host, LogLine, Presence,
    host::BoxFuture,
    keyvalue::{Answer, Ask},
};
use telemetry::Telemetry;
use zeroize::Zeroizing;

use crate::{
    keyvalue::KeyValue,
    mesh::Mesh,
    versions::{Known, Versions},
};

/// The variable that tells an AWS SDK the id of its key pair.
pub(crate) const KEY_VARIABLE: &str = "AWS_ACCESS_KEY_ID";

/// The variable that says where a workload's buckets are; only those that declare one have it.
const KV_VARIABLE: &str = "TANGELO_KV_URL";

/// The variable that says where streams are; only those that declare that they use them have it.
const STREAMS_VARIABLE: &str = "TANGELO_STREAMS_URL";

/// Where workloads reach the platform: bound before the platform opens, so that the first instance knows them.
#[derive(Debug, Clone, Copy)]
pub struct Doors {
    /// The mesh.
    pub mesh: SocketAddr,
    /// The AWS door.
    pub aws: SocketAddr,
}

/// The seam between running code and the platform.
pub(crate) struct PlatformHost {
    pub(crate) doors: Doors,
    pub(crate) mesh: OnceLock<Mesh>,
    pub(crate) keyvalue: KeyValue,
    pub(crate) versions: Versions,
    pub(crate) tokens: Arc<access::MeshTokens<Presence>>,
    pub(crate) keys: Arc<access::InstanceKeys<Presence>>,
    pub(crate) secrets: access::Secrets,
    pub(crate) telemetry: Telemetry,
    pub(crate) bus: Bus,
    pub(crate) ids: model::Ids,
}

impl Host for PlatformHost {
    fn enter(&self, presence: &Arc<Presence>) -> Vec<(String, String)> {
        let Ok(known) = self.versions.get(presence.version) else {
            return Vec::new();
        };
        let mut env = match known.workload.run {
            Run::Wasm { .. } => guest_variables(&known.workload),
            _ => self.process_variables(presence, &known),
        };
        env.extend(
            known
                .workload
                .secrets
                .iter()
                .filter_map(|name| Some((name.clone(), self.secrets.get(name)?.to_string()))),
        );
        env
    }

    fn secret(&self, version: VersionId, name: &str) -> Option<Zeroizing<String>> {
        let known = self.versions.get(version).ok()?;
        let mut declared = known.workload.secrets.iter().any(|one| one == name);
        // Who one is to a registry is nothing that its container is to know.
        if let Run::Container { login, .. } = &known.workload.run {
            declared |= login.as_ref().is_some_and(|login| login.password == name);
        }
        declared.then(|| self.secrets.get(name))?
    }

    fn leave(&self, instance: InstanceId) {
        self.tokens.revoke(|presence| presence.instance == instance);
        self.keys.revoke(|presence| presence.instance == instance);
    }

    fn call(
        &self,
        caller: Caller,
        request: http::Request<Body>,
    ) -> BoxFuture<http::Response<Body>> {
        let mesh = self
            .mesh
            .get()
            .expect("set before the first pool is made")
            .clone();
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            mesh.serve_host(caller, &host, request).await
        })
    }

    fn backlog(&self, app: &AppName, workload: &WorkloadName) -> u64 {
        self.bus.backlog(app, workload)
    }

    fn keyvalue(
        &self,
        presence: &Arc<Presence>,
        bucket: &str,
        ask: Ask,
    ) -> BoxFuture<Result<Answer, Error>> {
        let (keyvalue, bucket) = (self.keyvalue.clone(), bucket.to_owned());
        let presence = Arc::clone(presence);
        Box::pin(async move { keyvalue.ask(&presence, &bucket, ask).await })
    }

    fn log(&self, line: LogLine) {
        self.telemetry.log(telemetry::LogRecord {
            time: line.time,
            app: line.app,
            workload: line.workload,
            instance: line.instance,
            invocation: line.invocation,
            trace: line.trace,
            stream: match line.stream {
                runtime::LogStream::Stdout => telemetry::LogStream::Stdout,
                runtime::LogStream::Stderr => telemetry::LogStream::Stderr,
                runtime::LogStream::Platform => telemetry::LogStream::Platform,
            },
            text: line.text,
        });
    }
}

impl PlatformHost {
    /// What a process needs to reach the platform over sockets.
    fn process_variables(&self, presence: &Arc<Presence>, known: &Known) -> Vec<(String, String)> {
        let token = self.tokens.mint(self.ids.random(), Arc::clone(presence));
        let base = format!("http://{}/~{token}", self.doors.mesh);
        let mut env = mesh_variables(&base, &known.workload);
        env.extend(self.aws_variables(&self.doors, presence));
        if !known.hosts.is_empty() {
            env.extend(proxy_variables(&self.doors, &token, &known.workload));
        }
        env
    }

    fn aws_variables(&self, doors: &Doors, presence: &Arc<Presence>) -> Vec<(String, String)> {
        let pair = self
            .keys
            .mint(self.ids.random(), self.ids.random(), Arc::clone(presence));
        vec![
            (
                "AWS_ENDPOINT_URL".to_owned(),
                format!("http://{}", doors.aws),
            ),
            (KEY_VARIABLE.to_owned(), pair.id),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), pair.secret),
            ("AWS_REGION".to_owned(), "us-east-1".to_owned()),
            ("AWS_DEFAULT_REGION".to_owned(), "us-east-1".to_owned()),
        ]
    }
}

/// The same names for a Wasm guest, which reaches them in-process and without a token.
fn guest_variables(workload: &Workload) -> Vec<(String, String)> {
    let mut env = vec![
        (
            "TANGELO_EVENTS_URL".to_owned(),
            "http://events.internal/".to_owned(),
        ),
        (
            "TANGELO_INBOX_URL".to_owned(),
            "http://inbox.internal".to_owned(),
        ),
        (
            "TANGELO_PROJECTIONS_URL".to_owned(),
            "http://projections.internal".to_owned(),
        ),
    ];
    if !workload.buckets.is_empty() {
        env.push((KV_VARIABLE.to_owned(), "http://kv.internal".to_owned()));
    }
    if workload.streams.is_some() {
        let url = "http://streams.internal".to_owned();
        env.push((STREAMS_VARIABLE.to_owned(), url));
    }
    env.extend(workload.calls.iter().map(|call| {
        (
            url_variable(call),
            format!("http://{}.internal", call.replacen('/', "~", 1)),
        )
    }));
    env
}

/// `ORDERS_URL` for every declared call, and the sibling paths.
fn mesh_variables(base: &str, workload: &Workload) -> Vec<(String, String)> {
    let mut env = vec![
        ("TANGELO_MESH_URL".to_owned(), base.to_owned()),
        ("TANGELO_EVENTS_URL".to_owned(), format!("{base}/events")),
        ("TANGELO_INBOX_URL".to_owned(), format!("{base}/inbox")),
        (
            "TANGELO_PROJECTIONS_URL".to_owned(),
            format!("{base}/projections"),
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
            format!("{base}/otlp"),
        ),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(),
            "http/protobuf".to_owned(),
        ),
        ("OTEL_SERVICE_NAME".to_owned(), workload.name.to_string()),
    ];
    if !workload.buckets.is_empty() {
        env.push((KV_VARIABLE.to_owned(), format!("{base}/kv")));
    }
    if workload.streams.is_some() {
        env.push((STREAMS_VARIABLE.to_owned(), format!("{base}/streams")));
    }
    env.extend(workload.calls.iter().map(|call| {
        (
            url_variable(call),
            format!("{base}/w/{}", call.replacen('/', "~", 1)),
        )
    }));
    env
}

/// `ORDERS_URL` for `orders` and for `shop/orders`.
fn url_variable(call: &str) -> String {
    let name = call.rsplit('/').next().unwrap_or(call);
    format!("{}_URL", name.to_ascii_uppercase().replace('-', "_"))
}

/// For names fixed in old code: clients that honour a proxy reach them unmodified. The mesh, the AWS door and hosts
/// outside that the workload declared stay direct; `.example.com` is how all clients read `*.example.com`.
fn proxy_variables(doors: &Doors, token: &str, workload: &Workload) -> Vec<(String, String)> {
    let proxy = format!("http://{token}:@{}", doors.mesh);
    let own = ["127.0.0.1", "localhost", "::1"].map(str::to_owned);
    let outside = workload.egress.iter();
    let outside = outside.map(|e| e.host.strip_prefix('*').unwrap_or(&e.host).to_owned());
    let direct = own.into_iter().chain(outside).collect::<Vec<_>>().join(",");
    ["http_proxy", "HTTP_PROXY"]
        .into_iter()
        .map(|name| (name.to_owned(), proxy.clone()))
        .chain(
            ["no_proxy", "NO_PROXY"]
                .into_iter()
                .map(|name| (name.to_owned(), direct.clone())),
        )
        .collect()
}
