//! What instances may take: asked for in the manifest, held by the kernel, said by the command line.

use anyhow::Result;
use http::StatusCode;
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::{python, server};

const MANIFEST: &str = "
app: held
workloads:
  service:
    as: service
    run: {process: {command: [python3, eat.py]}}
    memory: 96MiB
    limits: {cpu: 1.5, processes: 64, files: 128}
  function:
    as: function
    run: {lambda: {runtime: python3, handler: eat.handler, code: functions}}
gateway:
  routes:
    - {path: /service/*, to: service, rewrite: /*}
    - {path: /function, to: function}
";

/// Eats as many MiB as it is told to by POST, and says its control groups.
const SERVICE: &str = r#"
import resource

class Handler(Answers):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        eaten = bytearray(int(self.path[1:]) << 20)
        with open("/proc/self/cgroup") as groups:
            self.answer(200, {"eaten": len(eaten), "groups": groups.read(), "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0]})
"#;

const FUNCTION: &str = "
def handler(event, context):
    return len(bytearray(int(event['body']) << 20))
";

fn isolation(server: &Server, workload: &str) -> Result<Value> {
    let said = server.json(&["ps", "--isolation"])?;
    let rows = said["isolation"].as_array().cloned().unwrap_or_default();
    let row = rows.into_iter().find(|row| row["workload"] == workload);
    Ok(row.unwrap_or_default())
}

/// What is said to hold for a limit, and not to.
fn says(row: &Value, kind: &str, what: &str) -> Option<String> {
    let mut texts = row[kind].as_array()?.iter().filter_map(Value::as_str);
    texts.find(|text| text.starts_with(what)).map(str::to_owned)
}

#[tokio::test]
async fn limits_of_the_manifest_are_observed_in_proc_and_said_as_they_are() -> Result<()> {
    let server = server();
    server.deploy(&[
        ("tangelo.yaml", MANIFEST),
        ("eat.py", &python::service(SERVICE)),
        ("functions/eat.py", FUNCTION),
    ])?;
    let gateway = server.gateway();
    let fits = gateway.post("/service/1", &json!(0)).await?.json();
    assert_eq!(
        (&fits["eaten"], &fits["files"]),
        (&json!(1 << 20), &json!(128))
    );
    let row = isolation(&server, "service")?;
    let files = says(&row, "enforced", "files");
    assert_eq!(files.as_deref(), Some("files 128 per process (rlimit)"));
    let groups = fits["groups"].as_str().unwrap_or_default();
    for (what, controller, limit) in [
        ("memory", "memory", "memory 96MiB"),
        ("cpu", "cpu", "cpu 1.5"),
        ("processes", "pids", "processes 64"),
    ] {
        match says(&row, "enforced", what) {
            Some(text) if text.contains("cgroup v1") => {
                assert_eq!(text, format!("{limit} (cgroup v1)"));
                let is_it = |line: &&str| line.contains(&format!(":{controller}:"));
                let group = groups.lines().find(is_it).unwrap_or_default();
                assert!(group.contains("/tangelo-"), "{controller}: {groups}");
            }
            Some(text) if text.contains("cgroup v2") => {
                assert_eq!(text, format!("{limit} (cgroup v2)"));
                assert!(
                    groups.contains("0::") && groups.contains("/tangelo-"),
                    "{groups}"
                );
            }
            said => eprintln!("SKIPPED: {what} is not held by a control group here: {said:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn who_takes_too_much_memory_is_ended_and_the_client_told_why() -> Result<()> {
    let server = server();
    server.deploy(&[
        ("tangelo.yaml", MANIFEST),
        ("eat.py", &python::service(SERVICE)),
        ("functions/eat.py", FUNCTION),
    ])?;
    let held = says(&isolation(&server, "service")?, "enforced", "memory");
    if !held.as_ref().is_some_and(|text| text.contains("cgroup")) {
        eprintln!("SKIPPED: memory is not held by a control group here: {held:?}");
        return Ok(());
    }
    let gateway = server.gateway();
    for (path, body, memory, name) in [
        ("/service/300", 0, "96MiB", "service"),
        ("/function", 300, "128MiB", "function"),
    ] {
        let answer = gateway.post(path, &json!(body)).await?;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (StatusCode::BAD_GATEWAY, &json!("TG0414")),
            "{}",
            answer.text()
        );
        assert!(answer.text().contains(memory), "{}", answer.text());
        eventually("a line of its log", || async {
            let lines = server.cli(&["logs", name]).ok()?.stdout;
            let lines = String::from_utf8_lossy(&lines).into_owned();
            let said =
                lines.contains("of memory and was ended") || lines.contains("want of memory");
            said.then_some(())
        })
        .await;
    }
    eventually("others are served again", || async {
        let answer = gateway.post("/service/1", &json!(0)).await.ok()?;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
    Ok(())
}
