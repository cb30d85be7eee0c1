//! How a subscription is delivered, end to end: order by key, batches, inputs, pauses.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::{python, server};

const MANIFEST: &str = r#"
app: flow
workloads:
  sink:
    as: service
    run: {process: {command: [python3, sink.py]}}
    state: [folder]
    on:
      - event: {type: [item.ordered]}
        name: ordered
        order: {key: $.subject}
        retry: {attempts: 5, backoff: 20ms, max_backoff: 50ms}
      - event: {type: [item.batched]}
        name: batched
        batch: {size: 4, window: 1s}
        retry: {attempts: 5, backoff: 20ms, max_backoff: 50ms}
      - event: {type: [item.shaped]}
        name: shaped
        input: {template: '{"order": <id>, "text": "no. <id> of <who>"}', paths: {id: $.data.id, who: $.source}}
      - event: {type: [item.grown]}
        name: grown
        input: {template: '{"all": [GROWN]}', paths: {t: $.data.text}}
        retry: {attempts: 5, backoff: 20ms, max_backoff: 50ms}
      - event: {type: [item.answered]}
        name: answered
        retry: {attempts: 2, backoff: 20ms, max_backoff: 50ms}
  lambda:
    as: function
    run: {lambda: {runtime: python3, handler: batch.handler, code: functions}}
    on:
      - event: {type: [item.answered]}
        name: answered
        retry: {attempts: 2, backoff: 20ms, max_backoff: 50ms}
      - event: {type: [item.lambda]}
        name: lambda
        batch: {size: 3, window: 1s}
        retry: {attempts: 1}
gateway:
  routes:
    - {path: /sink/*, to: sink, rewrite: /*}
"#;

/// Keeps what comes in a file; fails what says so, the first time.
const SINK: &str = r#"
path = os.path.join(os.environ["TANGELO_STATE_DIR"], "seen")
failed = set()

class Handler(Answers):
    def do_GET(self):
        self.answer(200, [json.loads(line) for line in open(path)] if os.path.exists(path) else [])
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        kind = self.headers.get("content-type")
        if kind == "application/cloudevents-batch+json":
            bad = [e["id"] for e in body if e["data"].get("fail") and e["id"] not in failed]
            failed.update(bad)
            self.keep({"batch": [e["id"] for e in body if e["id"] not in bad], "size": len(body)})
            return self.answer(200, {"batchItemFailures": [{"itemIdentifier": id} for id in bad]})
        if self.headers.get("ce-type") == "item.answered":
            return self.answer(200, {"long": "x" * (7 << 20)})
        if self.headers.get("ce-type"):
            id = self.headers["ce-id"]
            if body.get("fail") and id not in failed:
                failed.add(id)
                return self.answer(500, {})
            self.keep({"ordered": id})
        else:
            self.keep({"shaped": body})
        self.answer(200, {})
    def keep(self, row):
        with open(path, "a") as seen:
            seen.write(json.dumps(row) + "\n")
"#;

const BATCH: &str = "
def handler(event, context):
    if isinstance(event, dict) and event['detail-type'] == 'item.answered':
        return 'x' * (7 << 20)
    assert isinstance(event, list) and all('detail-type' in e for e in event), event
    return {'batchItemFailures': [{'itemIdentifier': e['id']} for e in event if e['detail'].get('fail')]}
";

fn deployed() -> Result<Server> {
    let server = server();
    let manifest = MANIFEST.replace("GROWN", &"<t>,".repeat(2000));
    let manifest = manifest.replace(",]", "]");
    server.deploy(&[
        ("tangelo.yaml", &manifest),
        ("sink.py", &python::service(SINK)),
        ("functions/batch.py", BATCH),
    ])?;
    Ok(server)
}

fn publish(server: &Server, kind: &str, id: &str, subject: &str, data: &Value) -> Result<()> {
    let data = data.to_string();
    let said = [
        "publish",
        kind,
        "--id",
        id,
        "--subject",
        subject,
        "--source",
        "/it",
        "-d",
        &data,
    ];
    server.json(&said).map(drop)
}

async fn seen(server: &Server, what: &str) -> Vec<Value> {
    let Ok(answer) = server.gateway().get("/sink/seen").await else {
        return Vec::new();
    };
    let rows = answer.json();
    let rows = rows.as_array().into_iter().flatten();
    rows.filter_map(|row| row.get(what).cloned()).collect()
}

#[tokio::test]
async fn a_pause_and_a_kill_keep_the_order_of_a_key() -> Result<()> {
    let mut server = deployed()?;
    let key = "flow/sink/ordered";
    server.json(&["subscriptions", "pause", key, "--reason", "a look around"])?;
    for number in 1..=6 {
        let subject = if number % 2 == 0 { "even" } else { "odd" };
        let data = json!({"fail": number < 3});
        publish(&server, "item.ordered", &number.to_string(), subject, &data)?;
    }
    server.kill()?;
    server.restart()?;
    let listed = server.json(&["subscriptions"])?;
    let all = listed["subscriptions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let paused = all
        .iter()
        .find(|s| s["subscription"] == key)
        .cloned()
        .unwrap_or_default();
    assert_eq!(paused["waiting_on"], "it is paused", "{paused}");
    assert_eq!(paused["paused"]["reason"], "a look around", "{paused}");
    assert_eq!(paused["backlog"], 6, "{paused}");
    server.json(&["subscriptions", "resume", key])?;
    let ids = eventually("all six are delivered", || async {
        let ids = seen(&server, "ordered").await;
        (ids.len() == 6).then_some(ids)
    })
    .await;
    let of = |rest: u64| -> Vec<u64> {
        let numbers = ids.iter().filter_map(|id| id.as_str()?.parse().ok());
        numbers.filter(|number| number % 2 == rest).collect()
    };
    assert_eq!((of(1), of(0)), (vec![1, 3, 5], vec![2, 4, 6]), "{ids:?}");
    let shown = server.json(&["subscriptions", "show", key])?;
    let audit = shown["audit"].as_array().cloned().unwrap_or_default();
    let actions: Vec<_> = audit.iter().map(|row| row["action"].clone()).collect();
    assert_eq!(actions, ["resume", "pause"], "{shown}");
    assert!(
        audit[0]["by"]
            .as_str()
            .is_some_and(|by| by.starts_with("user ")),
        "{shown}"
    );
    Ok(())
}

#[tokio::test]
async fn batches_come_whole_and_only_what_failed_comes_again() -> Result<()> {
    let server = deployed()?;
    for number in 1..=4 {
        let data = json!({"fail": number == 2});
        publish(&server, "item.batched", &number.to_string(), "s", &data)?;
    }
    let rows = eventually("every item is delivered", || async {
        let rows = seen(&server, "batch").await;
        let count: usize = rows
            .iter()
            .filter_map(|row| Some(row.as_array()?.len()))
            .sum();
        (count >= 4).then_some(rows)
    })
    .await;
    let mut ids: Vec<&str> = rows
        .iter()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        ["1", "2", "3", "4"],
        "nothing that was taken comes again"
    );
    assert!(rows.len() < 4, "they came together: {rows:?}");
    Ok(())
}

#[tokio::test]
async fn a_handler_says_which_items_of_a_batch_it_failed() -> Result<()> {
    let server = deployed()?;
    for number in 1..=3 {
        let data = json!({"fail": number == 3});
        publish(&server, "item.lambda", &number.to_string(), "s", &data)?;
    }
    let letters = eventually("the failed item is a dead letter", || async {
        let letters = server.json(&["dead-letters"]).ok()?;
        let letters = letters["dead_letters"].as_array()?.clone();
        (!letters.is_empty()).then_some(letters)
    })
    .await;
    assert_eq!(
        (letters.len(), &letters[0]["event"]["id"]),
        (1, &json!("3")),
        "{letters:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_input_template_shapes_what_a_workload_gets() -> Result<()> {
    let server = deployed()?;
    publish(&server, "item.shaped", "1", "s", &json!({"id": "o-7"}))?;
    let rows = eventually("it is delivered", || async {
        let rows = seen(&server, "shaped").await;
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(rows, [json!({"order": "o-7", "text": "no. o-7 of /it"})]);
    Ok(())
}

/// A handler that raises has failed whatever it was handed, and an answer that trickles is over with the workload's time.
#[tokio::test]
async fn what_is_too_large_ends_as_a_dead_letter_that_says_so() -> Result<()> {
    let server = deployed()?;
    // The template repeats a text of a thousand bytes two thousand times.
    let text = json!({"text": "x".repeat(1000)}).to_string();
    server.json(&["publish", "item.grown", "-d", &text])?;
    server.json(&["publish", "item.answered"])?;
    let letters = eventually("three dead letters", || async {
        let letters = server.json(&["dead-letters"]).ok()?["dead_letters"]
            .as_array()?
            .clone();
        (letters.len() == 3).then_some(letters)
    })
    .await;
    let mut ends: Vec<_> = letters
        .iter()
        .map(|letter| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let code = text(&letter["reason"]["code"]);
            (
                text(&letter["subscription"]),
                code,
                letter["attempts"].as_u64(),
            )
        })
        .collect();
    ends.sort();
    let end = |key: &str, code: &str, attempts| (key.to_owned(), code.to_owned(), Some(attempts));
    // What can never go is not tried again; an answer is its consumer's, whichever runtime it has.
    let expected = [
        end("flow/lambda/answered", "TG0410", 2),
        end("flow/sink/answered", "TG0410", 2),
        end("flow/sink/grown", "TG0411", 1),
    ];
    assert_eq!(ends, expected, "{letters:?}");
    Ok(())
}

#[tokio::test]
async fn what_fails_is_tried_again_and_given_up_however_it_fails() -> Result<()> {
    const FAILING: &str = "
app: failing
workloads:
  raises:
    as: function
    run: {lambda: {runtime: python3, handler: raises.handler, code: functions}}
    on: [{event: {type: [item.failed]}, name: handed, input: {path: $.data}, retry: {attempts: 2, backoff: 10ms, max_backoff: 20ms}}]
  trickles:
    as: service
    run: {process: {command: [python3, trickles.py]}}
    timeout: 1s
    on: [{event: {type: [item.failed]}, name: trickled, retry: {attempts: 1}}]
";
    const TRICKLES: &str = r#"
import time
class Handler(Answers):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "100000")
        self.end_headers()
        while True:
            self.wfile.write(b"x")
            time.sleep(0.1)
"#;
    let server = server();
    server.deploy(&[
        ("tangelo.yaml", FAILING),
        (
            "functions/raises.py",
            "def handler(event, context): raise ValueError('no')",
        ),
        ("trickles.py", &python::service(TRICKLES)),
    ])?;
    publish(&server, "item.failed", "one", "s", &json!({"n": 1}))?;
    let letters = eventually("both are given up", || async {
        let letters = server.json(&["dead-letters"]).ok()?;
        let letters = letters["dead_letters"].as_array()?.clone();
        (letters.len() == 2).then_some(letters)
    })
    .await;
    let of = |name: &str| {
        let mut letters = letters.iter();
        letters
            .find(|letter| letter.to_string().contains(name))
            .expect("is there")
            .to_string()
    };
    assert!(of("handed").contains("TG0409"), "{}", of("handed"));
    assert!(of("trickled").contains("TG0401"), "{}", of("trickled"));
    Ok(())
}
