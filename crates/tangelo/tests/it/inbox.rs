//! Consumers that must do things once, and those that get events out of order (rows B38, B39); loops of events.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::{python, server};

const MANIFEST: &str = "
app: bank
workloads:
  account:
    as: service
    run: {process: {command: [python3, account.py]}}
    state: [folder]
    on:
      - event: {type: [money.moved]}
        concurrency: 1
        retry: {attempts: 5, backoff: 10ms, max_backoff: 20ms}
      - event: {type: [address.changed]}
        concurrency: 1
  echo:
    as: function
    run: {lambda: {runtime: python3, handler: echo.handler, code: functions}}
    publishes: [echo.heard]
    on: [{event: {type: [echo.heard]}, retry: {attempts: 2, backoff: 10ms, max_backoff: 20ms}}]
gateway:
  routes:
    - {path: /account, to: account, rewrite: /}
";

/// Adds what was moved, once for each transfer; keeps the newest address. Dies once in the middle of its work.
const ACCOUNT: &str = r#"
import threading
from urllib.request import Request, urlopen

folder = os.environ["TANGELO_STATE_DIR"]
lock = threading.Lock()

def load():
    try:
        return json.load(open(folder + "/state"))
    except FileNotFoundError:
        return {"balance": 0, "moves": 0, "address": None, "asked": 0}

def save(state):
    with open(folder + "/new", "w") as file:
        json.dump(state, file)
    os.replace(folder + "/new", folder + "/state")

def first(key, trace, query=""):
    url = os.environ["TANGELO_INBOX_URL"] + "/" + key + query
    with urlopen(Request(url, method="PUT", headers={"traceparent": trace})) as answer:
        return answer.status == 201

class Handler(Answers):
    def do_GET(self):
        self.answer(200, load())
    def do_POST(self):
        data = json.loads(self.rfile.read(int(self.headers["content-length"])))
        trace = self.headers["traceparent"]
        if self.headers["ce-type"] == "money.moved":
            new = first(data["transfer"], trace)
            if new and data["transfer"] == "t-1" and not os.path.exists(folder + "/died"):
                open(folder + "/died", "w").close()
                os._exit(1)
            with lock:
                state = load()
                state["asked"] += 1
                if new:
                    state["balance"] += data["amount"]
                    state["moves"] += 1
                save(state)
        elif first("address", trace, "?version=%d" % data["version"]):
            with lock:
                save({**load(), "address": data["version"]})
        self.answer(200, {})
"#;

/// Publishes what it hears, for ever.
const ECHO: &str = "
import json, os, urllib.error, urllib.request
def handler(event, context):
    body = json.dumps({'specversion': '1.0', 'source': '/echo', 'type': 'echo.heard', 'data': {}}).encode()
    request = urllib.request.Request(os.environ['TANGELO_EVENTS_URL'], body, {'content-type': 'application/cloudevents+json'})
    try:
        urllib.request.urlopen(request)
    except urllib.error.HTTPError as refused:
        raise Exception(refused.read().decode())
";

fn deployed() -> Result<Server> {
    let server = server();
    deploy(&server)?;
    Ok(server)
}

fn deploy(server: &Server) -> Result<()> {
    server.deploy(&[
        ("tangelo.yaml", MANIFEST),
        ("account.py", &python::service(ACCOUNT)),
        ("functions/echo.py", ECHO),
    ])?;
    Ok(())
}

async fn publish(server: &Server, events: Vec<Value>) -> Result<()> {
    for event in events {
        let data = event["data"].to_string();
        let kind = event["type"].as_str().unwrap_or_default();
        server.json(&["publish", kind, "-d", &data])?;
    }
    Ok(())
}

async fn state(server: &Server) -> Option<Value> {
    Some(server.gateway().get("/account").await.ok()?.json())
}

#[tokio::test]
async fn a_storm_of_duplicates_and_a_death_in_between_leave_the_right_balance() -> Result<()> {
    let server = deployed()?;
    let mut events = Vec::new();
    for _ in 0..10 {
        for transfer in 0..4 {
            let data = json!({"transfer": format!("t-{transfer}"), "amount": 5});
            events.push(json!({"type": "money.moved", "data": data}));
        }
    }
    publish(&server, events).await?;
    let state = eventually("every event was looked at", || async {
        let state = state(&server).await?;
        let stats = server.json(&["subscriptions"]).ok()?;
        let stats = stats["subscriptions"].as_array()?.clone();
        let quiet = |s: &Value| s["backlog"] == 0 && s["in_flight"] == 0 && s["retrying"] == 0;
        (state["asked"].as_u64()? >= 40 && stats.iter().all(quiet)).then_some(state)
    })
    .await;
    assert_eq!(
        (&state["balance"], &state["moves"]),
        (&json!(20), &json!(4)),
        "{state}"
    );
    Ok(())
}

#[tokio::test]
async fn events_that_come_out_of_order_converge_to_the_newest() -> Result<()> {
    let server = deployed()?;
    let order = [3, 1, 7, 2, 8, 5, 6, 4];
    let event = |version: &i32| json!({"type": "address.changed", "data": {"version": version}});
    publish(&server, order.iter().map(event).collect()).await?;
    eventually("the newest address is kept", || async {
        let state = state(&server).await?;
        let stats = server.json(&["subscriptions"]).ok()?;
        let stats = stats["subscriptions"].as_array()?.clone();
        let quiet = |s: &Value| s["backlog"] == 0 && s["in_flight"] == 0 && s["retrying"] == 0;
        (state["address"] == 8 && stats.iter().all(quiet)).then_some(())
    })
    .await;
    Ok(())
}

/// Lets an event cause itself, and holds that the one at depth `most` is the last, and is a dead letter that says why.
async fn goes_no_further_than(server: &Server, most: u64) -> Result<()> {
    let first = server.json(&["publish", "echo.heard", "-d", "{}"])?;
    let first = first["events"][0]["position"].as_u64();
    let letter = eventually("the loop ends as a dead letter", || async {
        let letters = server.json(&["dead-letters"]).ok()?;
        letters["dead_letters"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(letter["subscription"], "bank/echo/echo-heard", "{letter}");
    let hops = letter["position"].as_u64().zip(first);
    let hops = hops.map(|(last, first)| last - first);
    assert_eq!(hops, Some(most - 1), "the first is one deep: {letter}");
    let why = format!("deeper than {most}: does an event cause itself?");
    let told = letter.to_string();
    assert!(told.contains(&why) && told.contains("TG0302"), "{told}");
    Ok(())
}

#[tokio::test]
async fn an_event_that_causes_itself_stops_and_says_so() -> Result<()> {
    goes_no_further_than(&deployed()?, 16).await
}

#[tokio::test]
async fn a_chain_goes_as_deep_as_the_server_says() -> Result<()> {
    for bad in ["0", "251"] {
        let refused = Server::start_with(crate::TANGELO, &["--chain-depth", bad]);
        assert!(refused.is_err(), "{bad}");
    }
    let server = Server::start_with(crate::TANGELO, &["--chain-depth", "4"])?;
    deploy(&server)?;
    goes_no_further_than(&server, 4).await
}
