//! Event sourcing (row D62): an account whose state is its events, moved by many at once while the server is killed; rebuilt
//! from its stream it equals what was kept all along. And versions that bring order to events that come out of it (row B39).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::server;

const MANIFEST: &str = "
app: bank
workloads:
  accounts:
    as: service
    run: {process: {command: [python3, accounts.py]}}
    state: [streams]
    publishes: [money.moved]
  kept:
    as: service
    run: {process: {command: [python3, kept.py]}}
    state: [folder, {streams: read}]
    on:
      - event: {type: [money.moved]}
        name: kept
        projection: {}
        batch: {size: 20}
      - event: {type: [money.moved]}
        name: latest
        retry: {attempts: 50, backoff: 10ms, max_backoff: 20ms}
gateway:
  routes:
    - {path: /accounts/*, to: accounts, rewrite: /*}
    - {path: /kept/*, to: kept, rewrite: /*}
";

const SERVE: &str = r#"
class Handler(BaseHTTPRequestHandler):
    def body(self):
        return json.loads(self.rfile.read(int(self.headers["content-length"])) or "null")
    def answer(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *args):
        pass
"#;

/// Decides on the state of an account, which is its events folded, and appends what it decided where it read.
const ACCOUNTS: &str = r#"
class Accounts(Handler):
    def do_POST(self):
        move = self.body()
        while True:
            history = read(move["account"], "snapshot")
            state = dict((history.get("snapshot") or {}).get("data") or EMPTY)
            for row in history["events"]:
                fold(state, row["event"]["data"])
            event = {"specversion": "1.0", "type": "money.moved", "source": "/accounts", "id": move["id"],
                     "data": {"amount": move["amount"], "seen": state["count"]}}
            status, answer = ask("POST", "/%s?expected=%d" % (move["account"], history["version"]), event)
            if status != 409 or "version" not in answer:
                break
        if status == 201 and answer["version"] % 10 == 0:
            fold(state, event["data"])
            ask("PUT", "/%s/snapshot?version=%d" % (move["account"], answer["version"]), state)
        self.answer(status, answer)
    def do_GET(self):
        account, state, at = self.path[1:], dict(EMPTY), 1
        while at:
            status, page = ask("GET", "/%s?from=%d&limit=7" % (account, at))
            for row in page["events"]:
                fold(state, row["event"]["data"])
            at = page["next"]
        self.answer(200, {"version": page["version"], "state": state})

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Accounts).serve_forever()
"#;

/// What both know of accounts: they do not commute, so that order shows.
const COMMON: &str = r#"
import json, os, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import Request, urlopen

EMPTY = {"balance": 0, "count": 0}

def fold(state, move):
    state["balance"] = (state["balance"] * 3 + move["amount"]) % 1000003
    state["count"] += 1

def ask(method, path, value=None):
    kind = "application/cloudevents+json" if method == "POST" else "application/json"
    body = None if value is None else json.dumps(value).encode()
    request = Request(os.environ["TANGELO_STREAMS_URL"] + path, body, {"content-type": kind}, method=method)
    try:
        with urlopen(request) as answer:
            return answer.status, json.loads(answer.read() or "null")
    except HTTPError as error:
        return error.code, json.loads(error.read())

def read(account, start):
    status, page = ask("GET", "/%s?from=%s" % (account, start))
    if status == 404:
        return {"version": 0, "events": []}
    return page
"#;

/// Keeps the state of every account as events come, in order; and the newest amount of each as they come out of order.
const KEPT: &str = r#"
folder = os.environ["TANGELO_STATE_DIR"]
lock = threading.Lock()
failed = set()

def load(name):
    try:
        return json.load(open(folder + "/" + name))
    except FileNotFoundError:
        return {}

def save(name, value):
    with open(folder + "/new-" + name, "w") as file:
        json.dump(value, file)
    os.replace(folder + "/new-" + name, folder + "/" + name)

class Kept(Handler):
    def do_GET(self):
        self.answer(200, load(self.path[1:]))
    def do_POST(self):
        body = self.body()
        if isinstance(body, list):
            kept = load("kept")
            for event in body:
                account = kept.setdefault(event["subject"], dict(EMPTY))
                if event["streamversion"] == account["count"] + 1:
                    fold(account, event["data"])
            save("kept", kept)
            return self.answer(200, {})
        account, version = self.headers["ce-subject"], int(self.headers["ce-streamversion"])
        with lock:
            # Every third comes again, behind what came after it.
            if version % 3 == 0 and (account, version) not in failed:
                failed.add((account, version))
                return self.answer(500, {})
            url = os.environ["TANGELO_INBOX_URL"] + "/%s?version=%d" % (account, version)
            with urlopen(Request(url, method="PUT", headers={"traceparent": self.headers["traceparent"]})) as answer:
                newest = answer.status == 201
            if newest:
                save("latest", {**load("latest"), account: body["amount"]})
        self.answer(200, {})

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Kept).serve_forever()
"#;

const ACCOUNTS_OF_MANY: usize = 3;

fn deployed() -> Result<Server> {
    let server = server();
    let accounts = format!("{COMMON}{SERVE}{ACCOUNTS}");
    let kept = format!("{COMMON}{SERVE}{KEPT}");
    server.deploy(&[
        ("tangelo.yaml", MANIFEST),
        ("accounts.py", &accounts),
        ("kept.py", &kept),
    ])?;
    Ok(server)
}

fn name(number: usize) -> String {
    format!("a-{}", number % ACCOUNTS_OF_MANY)
}

fn amount(number: usize) -> usize {
    number * number % 97 + 1
}

/// Moves money, many at once; those that were acknowledged. A server that is killed or busy may give no answer, or say so;
/// nothing else may go wrong.
async fn moved(server: &Server, numbers: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
    let mut tasks = tokio::task::JoinSet::new();
    for number in numbers {
        let gateway = server.gateway();
        tasks.spawn(async move {
            let ask = json!({"account": name(number), "id": format!("m-{number}"), "amount": amount(number)});
            let answer = gateway.post("/accounts/move", &ask).await.ok()?;
            let status = answer.status;
            assert!(status.is_success() || status.is_server_error(), "{}", answer.text());
            status.is_success().then_some(number)
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// Asks again, with the same ids, until all were acknowledged.
async fn all_moved(server: &Server, numbers: std::ops::Range<usize>) -> BTreeSet<usize> {
    let mut done = BTreeSet::new();
    for _ in 0..20 {
        let left: Vec<usize> = numbers
            .clone()
            .filter(|number| !done.contains(number))
            .collect();
        if left.is_empty() {
            break;
        }
        done.extend(moved(server, left).await);
    }
    done
}

async fn asked(server: &Server, path: &str) -> Option<Value> {
    let answer = server.gateway().get(path).await.ok()?;
    answer.status.is_success().then(|| answer.json())
}

/// The events of an account as the control API shows them.
fn stream(server: &Server, account: &str) -> Result<Vec<Value>> {
    let (mut rows, mut from) = (Vec::new(), 1);
    loop {
        let from_now = from.to_string();
        let page = server.json(&[
            "streams", "read", "bank", account, "--from", &from_now, "-n", "50",
        ])?;
        rows.extend(page["events"].as_array().cloned().unwrap_or_default());
        match page["next"].as_u64() {
            Some(next) => from = next,
            None => return Ok(rows),
        }
    }
}

#[tokio::test]
async fn a_state_rebuilt_from_its_stream_equals_the_live_one_whatever_is_killed() -> Result<()> {
    let mut server = deployed()?;
    let mut acknowledged = all_moved(&server, 0..60).await;
    assert_eq!(acknowledged.len(), 60);
    let (during, killed) = {
        let gateway = server.gateway();
        let during = moved(&server, 60..120);
        tokio::pin!(during);
        let some = async {
            // In the middle of it: some of these are in a stream, others are not yet.
            eventually("some were moved", || async {
                let state = gateway.get("/accounts/a-0").await.ok()?.json();
                (state["version"].as_u64()? > 24).then_some(())
            })
            .await;
        };
        tokio::select! {
            done = &mut during => (done, false),
            () = some => (BTreeSet::new(), true),
        }
    };
    acknowledged.extend(&during);
    if killed {
        server.kill()?;
        server.restart()?;
    }
    let rest = eventually("the service answers again", || async {
        asked(&server, "/accounts/a-0").await
    });
    rest.await;
    // Whoever got no answer asks again, with the same id: it is there once.
    let again = all_moved(&server, 60..120).await;
    assert_eq!(again.len(), 60, "{again:?}");
    acknowledged.extend(&again);

    let mut last = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for account in 0..ACCOUNTS_OF_MANY {
        let account = name(account);
        let rows = stream(&server, &account)?;
        for (version, row) in (1u64..).zip(&rows) {
            assert_eq!(row["version"], version, "{row}");
            assert_eq!(row["event"]["streamversion"], version, "{row}");
            // It was decided on exactly what was there before it.
            assert_eq!(row["event"]["data"]["seen"], version - 1, "{row}");
            let id = row["event"]["id"].as_str().unwrap_or_default().to_owned();
            assert!(ids.insert(id.clone()), "{id} is there twice");
        }
        let newest = rows
            .last()
            .map(|row| row["event"]["data"]["amount"].clone());
        last.insert(account, newest.unwrap_or_default());
    }
    let expected: BTreeSet<String> = acknowledged.iter().map(|n| format!("m-{n}")).collect();
    assert_eq!(
        ids, expected,
        "all that was acknowledged, once, and nothing else"
    );

    for account in 0..ACCOUNTS_OF_MANY {
        let account = name(account);
        eventually("what was kept equals what is rebuilt", || async {
            let rebuilt = asked(&server, &format!("/accounts/{account}")).await?;
            let kept = asked(&server, "/kept/kept").await?;
            (kept[&account] == rebuilt["state"] && rebuilt["state"]["count"] == rebuilt["version"])
                .then_some(())
        })
        .await;
    }
    eventually("what came out of order converged", || async {
        let latest = asked(&server, "/kept/latest").await?;
        (latest == json!(last)).then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn what_an_append_must_keep_to_is_said() -> Result<()> {
    let server = deployed()?;
    let append = |more: &[&str]| {
        let base = ["streams", "append", "bank", "a/1", "money.moved"];
        server.cli(&[&["--json"], &base[..], more].concat())
    };
    let first = append(&["--expected", "0", "--id", "x", "-d", r#"{"amount": 1}"#])?;
    let first: Value = serde_json::from_slice(&first.stdout)?;
    assert_eq!(
        (&first["version"], &first["stream"]),
        (&json!(1), &json!("a/1"))
    );
    let control = server.control();
    let late = append(&["--expected", "0"])?;
    let told = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(
        told.contains("is at version 1, not at 0") && told.contains("TG0550"),
        "{told}"
    );
    let again = append(&["--expected", "0", "--id", "x"])?;
    let again: Value = serde_json::from_slice(&again.stdout)?;
    assert_eq!(again["events"][0]["duplicate"], true, "{again}");
    append(&["-d", r#"{"amount": 2}"#])?;
    let cut = server.json(&["streams", "truncate", "bank", "a/1", "--through", "1"])?;
    assert_eq!(cut["removed_through"], 1);
    let left = server.json(&["streams", "read", "bank", "a/1"])?;
    assert_eq!(
        (&left["gone_through"], &left["first"], &left["version"]),
        (&json!(1), &json!(2), &json!(2))
    );
    let listed = server.json(&["streams", "list", "bank", "--prefix", "a/"])?;
    assert_eq!(
        listed["streams"].as_array().map(Vec::len),
        Some(1),
        "{listed}"
    );
    // Without the operator's token the port says nothing.
    let closed = control.get("/v1/streams/bank").await?;
    assert_eq!(closed.status, http::StatusCode::UNAUTHORIZED);
    Ok(())
}
