//! The command line as scripts use it: JSON from every command, progress beside it, and an end that cuts nothing off.

use std::{
    collections::BTreeSet,
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::{Client, Server, eventually};

use crate::{TANGELO, server};

const MANIFEST: &str = "
app: lines
workloads:
  tell:
    as: function
    run: {lambda: {runtime: python3, handler: tell.handler, code: tell}}
    state: [{kv: notes}]
  slow:
    as: service
    run: {process: {command: [python3, slow.py]}}
gateway:
  routes:
    - {path: /tell, to: tell}
    - {path: /slow, to: slow}
";

const TELL: &str = "
def handler(event, context):
    print('told')
    return {'said': event}
";

/// Says that a request has begun, and answers when it may. It takes its time to start, too.
const SLOW: &str = r#"
import os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/slow"):
            open(os.environ["BEGUN"], "w").close()
            while not os.path.exists(os.environ["GO"]):
                time.sleep(0.01)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"to the end")
    def log_message(self, *args):
        pass

time.sleep(float(os.environ.get("START", "0")))
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// The documents that a command printed.
fn documents(output: &Output) -> Result<Vec<Value>> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{stderr}");
    let values = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    Ok(values.collect::<Result<_, _>>()?)
}

/// The commands that `tangelo --help` lists.
fn commands() -> Result<BTreeSet<String>> {
    let help = Command::new(TANGELO).arg("--help").output()?;
    let help = String::from_utf8(help.stdout)?;
    let list = help.split("Commands:\n").nth(1).context("a list")?;
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.split_whitespace().next());
    Ok(names.map(str::to_owned).collect())
}

#[tokio::test]
async fn every_command_that_prints_has_json() -> Result<()> {
    let server = server();
    let app = server.scratch();
    for (path, text) in [
        ("tangelo.yaml", MANIFEST),
        ("tell/tell.py", TELL),
        ("slow.py", SLOW),
        ("pattern.json", r#"{"type": ["order.created"]}"#),
        ("event.json", r#"{"type": "order.created"}"#),
    ] {
        std::fs::create_dir_all(app.join(path).parent().context("a folder")?)?;
        std::fs::write(app.join(path), text)?;
    }
    let folder = app.to_str().context("is UTF-8")?;
    let new = app.join("new");
    let new = new.to_str().context("is UTF-8")?;
    let [pattern, event] = ["pattern.json", "event.json"].map(|name| format!("{folder}/{name}"));
    let mut shown: BTreeSet<String> = ["help", "serve", "up"].map(str::to_owned).into();
    for arguments in [
        &["init", "--template", "process", new][..],
        &["check", folder],
        &["contracts", "diff", folder],
        &["schema"],
        &["secret", "webhook", "PARTNER"],
        &["build", folder],
        &["deploy", folder],
        &["ps"],
        &["ps", "--isolation"],
        &["ps", "--instances"],
        &["ps", "--pool"],
        &["invoke", "tell"],
        &["invoke", "tell", "--async"],
        &["invoke", "tell", "--http", "/x"],
        &["publish", "order.created"],
        &["kv", "buckets"],
        &["kv", "put", "notes", "n", "1"],
        &["kv", "get", "notes", "n"],
        &["kv", "increment", "notes", "n"],
        &["kv", "list", "notes"],
        &["kv", "delete", "notes", "n"],
        &["subscriptions"],
        &["events", "status"],
        &["projections"],
        &["streams", "append", "lines", "o-1", "order.paid"],
        &["streams", "list", "lines"],
        &["streams", "read", "lines", "o-1"],
        &["streams", "snapshot", "lines", "o-1"],
        &["streams", "truncate", "lines", "o-1", "--through", "1"],
        &[
            "events",
            "explain",
            "--pattern",
            &pattern,
            "--event",
            &event,
        ],
        &["outbox", "init", "sqlite"],
        &["outbox", "status"],
        &["capture", "status"],
        &["bridges"],
        &["reconcile", "list"],
        &["traces"],
        &["traces", "last"],
        &["dead-letters"],
        &["dead-letters", "redrive", "--all"],
        &["usage"],
        &["keys"],
        &["revisions", "lines"],
        &["explain", "TG0406"],
        &["config"],
        &["doctor"],
        &["logs"],
        &["deploy", new],
        &["remove", "new"],
    ] {
        let printed = documents(&server.cli(&[&["--json"], arguments].concat())?)
            .with_context(|| format!("tangelo --json {}", arguments.join(" ")))?;
        // What was written is stored within a second of it, so nothing may be there yet.
        let some = !printed.is_empty() || arguments == ["logs"];
        ensure!(some, "{arguments:?} printed nothing");
        shown.insert(arguments[0].to_owned());
    }
    std::fs::write(app.join("tell/tell.py"), format!("{TELL}\n"))?;
    server.deploy_folder(&app)?;
    let back = documents(&server.cli(&["--json", "rollback", "lines"])?)?;
    assert_eq!(back[0]["revision"], 1, "{back:?}");
    shown.insert("rollback".to_owned());
    let lines = eventually("a line was logged", || async {
        let lines = documents(&server.cli(&["--json", "logs", "tell"]).ok()?).ok()?;
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    assert!(lines.iter().any(|line| line["text"] == "told"), "{lines:?}");
    // A handler that works for less than a tick of the system's clock has used something, too.
    let usage = server.json(&["usage", "--app", "lines"])?;
    let rows = usage["usage"].as_array().into_iter().flatten();
    let tell = rows.into_iter().find(|row| row["workload"] == "tell");
    let tell = tell.context("it was invoked")?;
    assert!(tell["cpu_us"].as_u64() > Some(0), "{tell}");
    assert_eq!(shown, commands()?, "commands without a case here");
    Ok(())
}

#[tokio::test]
async fn what_takes_its_time_is_told_beside_what_is_printed() -> Result<()> {
    let server = server();
    let slow = MANIFEST.replace("slow.py]}}", "slow.py]}}\n    env: {START: \"2\"}");
    let files = [
        ("tangelo.yaml", slow.as_str()),
        ("tell/tell.py", TELL),
        ("slow.py", SLOW),
    ];
    for (path, text) in files {
        let path = server.scratch().join(path);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(path, text)?;
    }
    let folder = server.scratch();
    let output = server.cli(&["--json", "deploy", folder.to_str().context("is UTF-8")?])?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("lines: slow is not ready yet"), "{told}");
    assert_eq!(documents(&output)?.len(), 1);
    Ok(())
}

/// A request that is under way when its server is told to stop, and what becomes of both.
struct UnderWay {
    folder: tempfile::TempDir,
    request: tokio::task::JoinHandle<Result<testkit::Answer>>,
}

impl UnderWay {
    /// The app of these tests, which tells of its requests below `folder`.
    fn manifest(folder: &std::path::Path) -> String {
        let env = format!("env: {{BEGUN: {0}/begun, GO: {0}/go}}", folder.display());
        MANIFEST.replace("slow.py]}}", &format!("slow.py]}}}}\n    {env}"))
    }

    async fn begin(folder: tempfile::TempDir, gateway: &Client) -> Self {
        let client = gateway.clone();
        let request = tokio::spawn(async move { client.get("/slow").await });
        let begun = folder.path().join("begun");
        eventually("the request has begun", || async {
            begun.exists().then_some(())
        })
        .await;
        Self { folder, request }
    }

    /// Lets it finish.
    async fn end(self) -> Result<String> {
        std::fs::write(self.folder.path().join("go"), "")?;
        Ok(self.request.await??.text())
    }
}

/// New connections are refused: whoever was told to stop has heard it.
async fn closed(gateway: &Client) {
    eventually("no new connection is taken", || async {
        gateway.get("/tell").await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn ctrl_c_lets_a_server_finish_what_is_under_way() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut server = Server::start(TANGELO)?;
    let manifest = UnderWay::manifest(folder.path());
    server.deploy(&[
        ("tangelo.yaml", &manifest),
        ("tell/tell.py", TELL),
        ("slow.py", SLOW),
    ])?;
    let gateway = server.gateway();
    let under_way = UnderWay::begin(folder, &gateway).await;
    server.interrupt()?;
    closed(&gateway).await;
    assert_eq!(under_way.end().await?, "to the end");
    server.ended()
}

#[tokio::test]
async fn ctrl_c_lets_up_finish_what_is_under_way() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let app = tempfile::tempdir()?;
    std::fs::create_dir_all(app.path().join("tell"))?;
    std::fs::write(
        app.path().join("tangelo.yaml"),
        UnderWay::manifest(folder.path()),
    )?;
    std::fs::write(app.path().join("tell/tell.py"), TELL)?;
    std::fs::write(app.path().join("slow.py"), SLOW)?;
    let mut up = up(app.path())?;
    let printed = up.stdout.take().context("is piped")?;
    let mut printed = serde_json::Deserializer::from_reader(printed).into_iter::<Value>();
    let addresses = printed.next().context("where it listens")??;
    let deployed = printed.next().context("a deploy")??;
    assert_eq!(
        (&deployed["app"], &deployed["revision"]),
        (&"lines".into(), &1.into())
    );
    let gateway = Client::new(addresses["gateway"].as_str().context("an address")?);
    let under_way = UnderWay::begin(folder, &gateway).await;
    testkit::interrupt(&up)?;
    closed(&gateway).await;
    assert_eq!(under_way.end().await?, "to the end");
    let status = up.wait()?;
    ensure!(status.success(), "`up` ended with {status}");
    Ok(())
}

/// What is saved while a deploy waits for an instance that never comes up takes its place.
#[tokio::test]
async fn up_takes_the_next_save_while_it_waits_for_an_instance() -> Result<()> {
    let app = tempfile::tempdir()?;
    let manifest = |path: &str| {
        format!(
            "
app: saved
workloads:
  echo:
    as: service
    run: {{process: {{command: [python3, echo.py]}}}}
    health: {{startup: {{path: {path}, failures: 10000}}}}
gateway:
  routes:
    - {{path: /echo, to: echo}}
"
        )
    };
    std::fs::write(app.path().join("echo.py"), crate::ECHO)?;
    // It fails every start-up probe for a quarter of an hour.
    std::fs::write(app.path().join("tangelo.yaml"), manifest("/fail"))?;
    let mut up = up(app.path())?;
    let printed = up.stdout.take().context("is piped")?;
    let mut printed = serde_json::Deserializer::from_reader(printed).into_iter::<Value>();
    let addresses = printed.next().context("where it listens")??;
    let gateway = Client::new(addresses["gateway"].as_str().context("an address")?);
    let data = app.path().join(".tangelo");
    eventually("an instance is asked, and waited for", || async {
        let mut logs = Command::new(TANGELO);
        let logs = logs.args(["--json", "--data"]).arg(&data).arg("logs");
        let lines = logs.output().ok()?.stdout;
        String::from_utf8_lossy(&lines)
            .contains("asked for /fail")
            .then_some(())
    })
    .await;
    std::fs::write(app.path().join("tangelo.yaml"), manifest("/"))?;
    let deployed = printed.next().context("a deploy")??;
    assert_eq!(
        (&deployed["app"], &deployed["revision"]),
        (&"saved".into(), &1.into())
    );
    assert_eq!(gateway.get("/echo").await?.status, http::StatusCode::OK);
    testkit::interrupt(&up)?;
    let status = up.wait()?;
    ensure!(status.success(), "`up` ended with {status}");
    Ok(())
}

/// `tangelo up` on free ports, with a data folder in the app's.
fn up(app: &std::path::Path) -> Result<Child> {
    let doors = ["--gateway", "--control", "--aws", "--otlp-in"];
    let flags = doors.into_iter().flat_map(|door| [door, "127.0.0.1:0"]);
    let up = Command::new(TANGELO)
        .args(["--json", "--data", ".tangelo", "up"])
        .args(flags)
        .current_dir(app)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(up)
}
