//! What was published is delivered again: replays of the log and redrives of dead letters, killed on the way.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::{python, server};

const MANIFEST: &str = "
app: again
workloads:
  sink:
    as: service
    run: {process: {command: [python3, sink.py]}}
    state: [folder]
    on:
      - event: {type: [item.made]}
        name: made
        order: {key: $.subject}
        retry: {attempts: 1}
gateway:
  routes:
    - {path: /sink/*, to: sink, rewrite: /*}
";

/// Keeps what comes; fails everything while it is broken.
const SINK: &str = r#"
folder = os.environ["TANGELO_STATE_DIR"]

class Handler(Answers):
    def do_GET(self):
        seen = folder + "/seen"
        self.answer(200, [json.loads(line) for line in open(seen)] if os.path.exists(seen) else [])
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/broken":
            open(folder + "/broken", "w").close()
            return self.answer(200, {})
        if self.path == "/mended":
            os.remove(folder + "/broken")
            return self.answer(200, {})
        if os.path.exists(folder + "/broken"):
            return self.answer(500, {})
        with open(folder + "/seen", "a") as seen:
            seen.write(json.dumps({"id": self.headers["ce-id"], "replay": self.headers["ce-tangeloreplay"]}) + "\n")
        self.answer(200, {})
"#;

const COUNT: usize = 24;
const KEY: &str = "again/sink/made";

fn deployed() -> Result<Server> {
    let server = server();
    server.deploy(&[
        ("tangelo.yaml", MANIFEST),
        ("sink.py", &python::service(SINK)),
    ])?;
    Ok(server)
}

fn publish(server: &Server) -> Result<()> {
    for number in 0..COUNT {
        let (id, subject) = (format!("i-{number:03}"), format!("s-{}", number % 3));
        let said = ["publish", "item.made", "--id", &id, "--subject", &subject];
        server.json(&said)?;
    }
    Ok(())
}

async fn seen(server: &Server) -> Vec<Value> {
    let Ok(answer) = server.gateway().get("/sink/seen").await else {
        return Vec::new();
    };
    answer.json().as_array().cloned().unwrap_or_default()
}

async fn tell(server: &Server, what: &str) -> Result<()> {
    let told = server
        .gateway()
        .send(
            http::Method::POST,
            &format!("/sink/{what}"),
            &[],
            bytes::Bytes::new(),
        )
        .await?;
    assert!(told.status.is_success());
    Ok(())
}

/// The ids of a key, each once, in the order in which they came first.
fn firsts(rows: &[Value], key: usize) -> Vec<usize> {
    let mut firsts = Vec::new();
    for row in rows {
        let number = row["id"]
            .as_str()
            .and_then(|id| id.strip_prefix("i-")?.parse().ok());
        if let Some(number) = number.filter(|n| n % 3 == key && !firsts.contains(n)) {
            firsts.push(number);
        }
    }
    firsts
}

fn all_in_order(rows: &[Value]) -> bool {
    let expected = |key| (0..COUNT).filter(|n| n % 3 == key).collect::<Vec<_>>();
    (0..3).all(|key| firsts(rows, key) == expected(key))
}

#[tokio::test]
async fn a_replay_goes_on_after_a_kill_and_says_what_it_is() -> Result<()> {
    let mut server = deployed()?;
    publish(&server)?;
    eventually("all are delivered", || async {
        (seen(&server).await.len() == COUNT).then_some(())
    })
    .await;
    let dry = server.json(&["events", "replay", KEY, "--dry-run"])?;
    assert_eq!(dry["would_deliver"], COUNT, "{dry}");
    let begun = server.json(&["events", "replay", KEY, "--rate", "8/s"])?;
    let job = begun["job"].to_string();
    eventually("some are delivered again", || async {
        (seen(&server).await.len() > COUNT + 3).then_some(())
    })
    .await;
    server.kill()?;
    server.restart()?;
    let rows = eventually("the rest is, after the kill", || async {
        let rows = seen(&server).await;
        let again: Vec<Value> = rows
            .iter()
            .filter(|row| !row["replay"].is_null())
            .cloned()
            .collect();
        all_in_order(&again).then_some(again)
    })
    .await;
    assert!(
        rows.iter().all(|row| row["replay"] == job.as_str()),
        "{rows:?}"
    );
    let jobs = server.json(&["events", "jobs"])?;
    assert_eq!(
        (&jobs["jobs"][0]["done"], &jobs["jobs"][0]["skipped"]),
        (&json!(COUNT), &json!(0))
    );
    Ok(())
}

#[tokio::test]
async fn a_redrive_at_a_rate_goes_on_after_a_kill_and_keeps_the_order() -> Result<()> {
    let mut server = deployed()?;
    tell(&server, "broken").await?;
    publish(&server)?;
    eventually("all are dead letters", || async {
        let letters = server.json(&["dead-letters"]).ok()?;
        (letters["dead_letters"].as_array()?.len() == COUNT).then_some(())
    })
    .await;
    let held = server.json(&["dead-letters", "--code", "TG0520"])?;
    assert_eq!(
        held["dead_letters"].as_array().map(Vec::len),
        Some(COUNT - 3),
        "one of each key was tried"
    );
    tell(&server, "mended").await?;
    server.json(&["dead-letters", "redrive", "--all", "--rate", "8/s"])?;
    eventually("some are delivered", || async {
        (seen(&server).await.len() > 3).then_some(())
    })
    .await;
    server.kill()?;
    server.restart()?;
    eventually("all are, in order, after the kill", || async {
        all_in_order(&seen(&server).await).then_some(())
    })
    .await;
    let left = server.json(&["dead-letters"])?;
    assert_eq!(
        left["dead_letters"].as_array().map(Vec::len),
        Some(0),
        "{left}"
    );
    let shown = server.json(&["events", "tail", "-n", "1"])?;
    assert_eq!(
        shown["event"]["id"],
        format!("i-{:03}", COUNT - 1),
        "{shown}"
    );
    Ok(())
}
