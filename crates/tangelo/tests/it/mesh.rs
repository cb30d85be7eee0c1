//! Calls between workloads: by the names that the manifest declares, and no others, in one trace.

use anyhow::Result;
use http::StatusCode;
use testkit::eventually;

use crate::{ECHO, server};

const MANIFEST: &str = "
app: pair
workloads:
  front:
    as: service
    run: {process: {command: [python3, echo.py]}}
    calls: [back, double]
  back:
    as: service
    run: {process: {command: [python3, echo.py]}}
  hidden:
    as: service
    run: {process: {command: [python3, echo.py]}}
  double:
    as: function
    run: {lambda: {runtime: python3, handler: double.handler, code: functions}}
    calls: [back]
gateway:
  routes:
    - {path: /front/*, to: front, rewrite: /*}
    - {path: /double, to: double}
";

const DOUBLE: &str = r#"
import json, os, urllib.request

def handler(event, context):
    with urllib.request.urlopen(os.environ["BACK_URL"] + "/from-function") as response:
        path = json.load(response)["path"]
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps({"back": path})}
"#;

#[tokio::test]
async fn both_tiers_call_each_other_by_name_in_one_trace() -> Result<()> {
    let server = server();
    server.deploy(&[
        ("tangelo.yaml", MANIFEST),
        ("echo.py", ECHO),
        ("functions/double.py", DOUBLE),
    ])?;
    let gateway = server.gateway();
    assert_eq!(
        gateway.get("/front/call/back/hello").await?.json()["path"],
        "/hello"
    );
    assert_eq!(
        gateway.get("/double").await?.json()["back"],
        "/from-function"
    );
    let through = gateway.get("/front/call/double/").await?;
    assert_eq!(
        (through.status, &through.json()["back"]),
        (StatusCode::OK, &"/from-function".into())
    );
    let spans = eventually("one trace of all three workloads", || async {
        let traces = server.json(&["traces", "--workload", "double"]).ok()?;
        let whole = traces["traces"]
            .as_array()?
            .iter()
            .find(|t| t["workloads"].as_array().is_some_and(|w| w.len() == 3))?;
        server.json(&["traces", whole["trace"].as_str()?]).ok()?["spans"]
            .as_array()
            .cloned()
    })
    .await;
    let roots = spans.iter().filter(|span| span["parent"].is_null()).count();
    assert_eq!(roots, 1, "{spans:#?}");
    Ok(())
}

#[tokio::test]
async fn a_call_that_is_not_declared_is_refused_by_name() -> Result<()> {
    let server = server();
    server.deploy(&[
        ("tangelo.yaml", MANIFEST),
        ("echo.py", ECHO),
        ("functions/double.py", DOUBLE),
    ])?;
    let answer = server.gateway().get("/front/call/hidden/").await?;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (StatusCode::FORBIDDEN, &"TG0206".into())
    );
    assert!(answer.text().contains("`hidden`"), "{}", answer.text());
    let stranger = testkit::Client::new(&server.addresses().mesh)
        .get("/~00000000000000000000000000000000/w/back/")
        .await?;
    assert_eq!(
        (stranger.status, &stranger.json()["code"]),
        (StatusCode::UNAUTHORIZED, &"TG0205".into())
    );
    Ok(())
}

/// One command line for both kinds: every verb takes a function's name as it takes a service's.
#[tokio::test]
async fn the_same_verbs_serve_functions_and_services() -> Result<()> {
    const BOTH: [&str; 2] = ["back", "double"];
    let server = server();
    server.deploy(&[
        ("tangelo.yaml", MANIFEST),
        ("echo.py", ECHO),
        ("functions/double.py", DOUBLE),
    ])?;
    for name in BOTH {
        for more in [&[][..], &["--async"]] {
            let output = server.cli(&[&["invoke", name, "-d", "{}"], more].concat())?;
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "invoke {name} {more:?}: {stderr}");
        }
        eventually("its lines", || async {
            let lines = server.cli(&["--json", "logs", name]).ok()?.stdout;
            (!lines.is_empty()).then_some(())
        })
        .await;
        eventually("its traces", || async {
            let traces = server.json(&["traces", "--workload", name]).ok()?;
            traces["traces"]
                .as_array()
                .filter(|t| !t.is_empty())
                .map(drop)
        })
        .await;
        for (verb, rows) in [("ps", "workloads"), ("usage", "usage")] {
            let answer = server.json(&[verb])?;
            let rows = answer[rows].as_array().into_iter().flatten();
            assert_eq!(
                rows.filter(|row| row["workload"] == name).count(),
                1,
                "{answer}"
            );
        }
    }
    let changed = BOTH.iter().fold(MANIFEST.to_owned(), |text, name| {
        let head = format!("  {name}:\n");
        text.replace(&head, &format!("{head}    timeout: 7s\n"))
    });
    let both = serde_json::json!(BOTH);
    assert_eq!(
        server.deploy(&[("tangelo.yaml", &changed)])?["changed"],
        both
    );
    assert_eq!(server.json(&["rollback", "pair"])?["changed"], both);
    Ok(())
}
