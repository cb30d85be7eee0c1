//! Changes while requests come steadily: deploys, rollbacks and kills that no request may notice, but for those that
//! the killed process worked on.

mod guards;
pub(crate) mod load;
pub(crate) mod socket;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use load::Load;
use serde_json::Value;
use testkit::{Server, eventually};
use tokio::task::JoinHandle;

use crate::server;

const PYTHON: &str = include_str!("app.py");
const PATHS: [&str; 4] = ["/service", "/lambda", "/wasm/environment", "/other"];

/// The versions of the workloads.
#[derive(Clone, Copy)]
struct Versions {
    service: u8,
    lambda: u8,
    wasm: u8,
}

/// A server with the app, which has one workload of each kind beside one that never changes.
struct Stage {
    server: Server,
}

impl Stage {
    fn new() -> Result<Self> {
        let server = server();
        let folder = server.scratch();
        fs::create_dir_all(folder.join("gates"))?;
        fs::create_dir_all(folder.join("code"))?;
        fs::write(folder.join("code/app.py"), PYTHON)?;
        Ok(Self { server })
    }

    fn gate(&self, name: &str) -> PathBuf {
        self.server.scratch().join("gates").join(name)
    }

    /// Makes `versions` live; `more` are lines of the manifest's routes.
    fn deploy(&self, versions: Versions, more: &str) -> Result<Value> {
        let Versions {
            service,
            lambda,
            wasm,
        } = versions;
        let gates = self.gate("");
        let gates = gates.display();
        fs::write(self.server.scratch().join("guest.wasm"), testkit::guest())?;
        let manifest = format!(
            "
app: steady
workloads:
  service:
    as: service
    run: {{process: {{command: [python3, code/app.py], files: [code]}}}}
    env: {{VERSION: '{service}', GATES: '{gates}'}}
    calls: [lambda, other]
    timeout: 60s
  lambda:
    as: function
    run: {{lambda: {{runtime: python3, handler: app.handler, code: code}}}}
    env: {{VERSION: '{lambda}', GATES: '{gates}'}}
    calls: [service, other]
    timeout: 60s
  wasm:
    as: function
    run: {{wasm: {{component: guest.wasm}}}}
    env: {{VERSION: '{wasm}'}}
    calls: [service]
    timeout: 60s
  other:
    as: service
    run: {{process: {{command: [python3, code/app.py], files: [code]}}}}
    env: {{VERSION: 'only', GATES: '{gates}'}}
    calls: [lambda]
gateway:
  routes:
    - {{path: /service/*, to: service, rewrite: /*}}
    - {{path: /lambda/*, to: lambda, rewrite: /*}}
    - {{path: /wasm/*, to: wasm, rewrite: /*}}
    - {{path: /other/*, to: other, rewrite: /*}}
{more}"
        );
        self.server.deploy(&[("tangelo.yaml", &manifest)])
    }

    /// The version that answers a new request.
    async fn version(&self, path: &str) -> Result<String> {
        let answer = self.server.gateway().get(path).await?;
        load::version(&answer.text()).context("an answer says its version")
    }

    /// The processes of `workload`.
    fn processes(&self, workload: &str) -> Result<BTreeSet<u64>> {
        let ps = self.server.json(&["ps"])?;
        let rows = ps["workloads"].as_array().context("rows")?.iter();
        let instances = rows
            .filter(|row| row["workload"] == workload)
            .filter_map(|row| row["instances"].as_array());
        Ok(instances
            .flatten()
            .filter_map(|i| i["pid"].as_u64())
            .collect())
    }

    /// Asks for `path`, which is held at the gate `name`; returns when the workload has it.
    async fn hold(&self, path: &str, name: &str) -> JoinHandle<Result<String>> {
        let (gateway, path) = (self.server.gateway(), format!("{path}?{name}"));
        let held = tokio::spawn(async move { Ok(gateway.get(&path).await?.text()) });
        let began = self.gate(&format!("{name}.began"));
        eventually("the workload has the request", || async {
            began.exists().then_some(())
        })
        .await;
        held
    }

    fn open(&self, name: &str) -> Result<()> {
        Ok(fs::write(self.gate(&format!("{name}.open")), "")?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploys_and_rollbacks_fail_no_request_and_cut_none_off() -> Result<()> {
    let stage = Stage::new()?;
    let mut versions = Versions {
        service: 1,
        lambda: 1,
        wasm: 1,
    };
    stage.deploy(versions, "")?;
    let load = Load::start(&stage.server.addresses().gateway, &PATHS);
    load.goes_on().await;
    let others = stage.processes("other")?;
    let service = stage.processes("service")?;
    let lambda = stage.hold("/lambda/held", "lambda").await;
    let held = stage.hold("/service/held", "service").await;
    let stream = stage.hold("/service/stream", "stream").await;
    let mut socket = socket::open(&stage.server.addresses().gateway, "/service/").await?;
    assert_eq!(socket.say("before").await?, "1 before");

    let second = &mut versions;
    second.service = 2;
    assert_eq!(
        stage.deploy(*second, "")?["changed"],
        serde_json::json!(["service"])
    );
    assert_eq!(stage.version("/service").await?, "2");
    load.goes_on().await;
    second.lambda = 2;
    assert_eq!(
        stage.deploy(*second, "")?["changed"],
        serde_json::json!(["lambda"])
    );
    assert_eq!(stage.version("/lambda").await?, "2");
    load.goes_on().await;
    second.wasm = 2;
    assert_eq!(
        stage.deploy(*second, "")?["changed"],
        serde_json::json!(["wasm"])
    );
    assert_eq!(stage.version("/wasm/environment").await?, "2");
    load.goes_on().await;
    let route = "    - {path: /new, to: other, rewrite: /}\n";
    assert_eq!(
        stage.deploy(versions, route)?["changed"],
        serde_json::json!([])
    );
    assert_eq!(stage.version("/new").await?, "only");
    load.goes_on().await;
    stage.server.json(&["rollback", "steady", "--to", "1"])?;
    for path in ["/service", "/lambda", "/wasm/environment"] {
        assert_eq!(stage.version(path).await?, "1", "{path}");
    }
    stage.deploy(versions, "")?;
    load.goes_on().await;

    assert_eq!(socket.say("after").await?, "1 after");
    for (name, held) in [("lambda", lambda), ("service", held)] {
        stage.open(name)?;
        let answer = held.await??;
        assert_eq!(
            load::version(&answer).as_deref(),
            Some("1"),
            "{name}: {answer}"
        );
    }
    stage.open("stream")?;
    assert_eq!(stream.await??, "1\n1\n");
    socket.close().await?;
    eventually("the first version's process ends", || async {
        (!service.iter().any(alive)).then_some(())
    })
    .await;
    load.goes_on().await;
    assert_eq!(stage.processes("other")?, others);
    load.stop_unharmed().await
}

/// Each tier calls the other through the mesh while either side is replaced alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_between_tiers_go_on_while_either_side_is_replaced() -> Result<()> {
    let stage = Stage::new()?;
    let mut versions = Versions {
        service: 1,
        lambda: 1,
        wasm: 1,
    };
    stage.deploy(versions, "")?;
    let calls = [
        "/service/call/lambda/",
        "/lambda/call/service/",
        "/other/call/lambda/call/service/",
        "/wasm/fetch?http://service.internal/",
    ];
    let load = Load::start(&stage.server.addresses().gateway, &calls);
    load.goes_on().await;
    let others = stage.processes("other")?;
    for round in 2..5 {
        let service = stage.processes("service")?;
        versions.lambda = round;
        stage.deploy(versions, "")?;
        load.goes_on().await;
        assert_eq!(
            stage.processes("service")?,
            service,
            "only the function was replaced"
        );
        let called = stage.server.gateway().get("/service/call/lambda/").await?;
        assert_eq!(called.json()["called"]["version"], round.to_string());
        versions.service = round;
        stage.deploy(versions, "")?;
        load.goes_on().await;
        let called = stage.server.gateway().get("/lambda/call/service/").await?;
        assert_eq!(called.json()["called"]["version"], round.to_string());
        versions.wasm = round;
        stage.deploy(versions, "")?;
        load.goes_on().await;
        eventually("the service's former process ends", || async {
            (!service.iter().any(alive)).then_some(())
        })
        .await;
    }
    assert_eq!(
        stage.processes("other")?,
        others,
        "what did not change was not touched"
    );
    load.stop_unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_instance_takes_only_its_own_requests_with_it() -> Result<()> {
    const CLIENTS: [&str; 3] = ["/a", "/b", "/c"];
    let server = server();
    let manifest = "
app: trio
workloads:
  three:
    as: service
    run: {process: {command: [python3, app.py]}}
    env: {VERSION: '1'}
    scale: {min: 3, max: 3, concurrency: 20}
gateway:
  routes:
    - {path: /*, to: three}
";
    server.deploy(&[("tangelo.yaml", manifest), ("app.py", PYTHON)])?;
    let stage = Stage { server };
    let load = Load::start(&stage.server.addresses().gateway, &CLIENTS);
    for _ in 0..3 {
        load.goes_on().await;
        let before = stage.processes("three")?;
        assert_eq!(before.len(), 3);
        let killed = *before.first().context("one of three")?;
        let pid = rustix::process::Pid::from_raw(killed.try_into()?).context("a process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        load.goes_on().await;
        eventually("another takes its place", || async {
            let now = stage.processes("three").ok()?;
            (now.len() == 3 && !now.contains(&killed)).then_some(())
        })
        .await;
    }
    // A client has one request at a time, so each kill can break one of it at most: before its answer, or in it.
    let allowed = ["TG0407", "TG0408", load::CUT_OFF];
    for client in load.stop().await? {
        let failures = &client.failures;
        assert!(failures.len() <= 3, "{failures:#?}");
        for failure in failures {
            assert!(allowed.iter().any(|a| failure.contains(a)), "{failures:#?}");
        }
    }
    Ok(())
}

/// Whether the process runs; one that nobody waited for yet does not.
fn alive(pid: &u64) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| {
        !stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    })
}
