//! A read model that is fed from the log (row D65): built from events of before, rebuilt beside the live one over a kill,
//! equal to it, switched, dropped; and how far behind it is.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::server;

const MANIFEST: &str = "
app: books
workloads:
  index:
    as: service
    run: {process: {command: [python3, index.py]}}
    state: [folder]
    on:
      - event: {type: [money.moved]}
        name: balances
        projection: {}
        batch: {size: 20}
        rate: 120/s
      - event: {type: [tangelo.projection.dropped], data: {workload: [index]}}
        name: dropped
gateway:
  routes:
    - {path: /index/*, to: index, rewrite: /*}
";

/// A model for each generation, in a file of its own: balances by account, and how far it is. An event that comes again is
/// passed over; one that overtook another is noted.
const INDEX: &str = r#"
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

folder = os.environ["TANGELO_STATE_DIR"]

def path(generation):
    return "%s/balances_%s" % (folder, generation)

def load(generation):
    try:
        return json.load(open(path(generation)))
    except FileNotFoundError:
        return {"last": 0, "balances": {}, "overtaken": []}

def apply(model, event):
    move = event["data"]
    if move["number"] <= model["last"]:
        return
    if move["number"] != model["last"] + 1:
        model["overtaken"].append(move["number"])
    model["last"] = move["number"]
    balances = model["balances"]
    balances[move["account"]] = balances.get(move["account"], 0) * 3 % 1000003 + move["amount"]

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/live":
            with urlopen(os.environ["TANGELO_PROJECTIONS_URL"] + "/balances") as answer:
                known = json.load(answer)
            return self.answer({"live": known["live"], "model": load(known["live"])})
        number = self.path.rpartition("/")[2]
        self.answer({"there": os.path.exists(path(number)), "model": load(number)})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["ce-type"] == "tangelo.projection.dropped":
            os.remove(path(body["generation"]))
            return self.answer({})
        generation = body[0]["tangelogeneration"]
        model = load(generation)
        for event in body:
            apply(model, event)
        with open(path(generation) + ".new", "w") as file:
            json.dump(model, file)
        os.replace(path(generation) + ".new", path(generation))
        self.answer({})
    def answer(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const KEY: &str = "books/index/balances";

/// Publishes the moves of these numbers.
async fn publish(server: &Server, numbers: std::ops::RangeInclusive<u64>) -> Result<()> {
    let numbers: Vec<u64> = numbers.collect();
    for numbers in numbers.chunks(50) {
        let event = |number: &u64| {
            let account = format!("a-{}", number % 7);
            json!({
                "specversion": "1.0", "id": format!("m-{number}"), "source": "/moves", "type": "money.moved",
                "data": {"number": number, "account": account, "amount": number * number % 97},
            })
        };
        let events: Value = numbers.iter().map(event).collect();
        let batch = [("content-type", "application/cloudevents-batch+json")];
        let gateway = server.gateway();
        let sent = gateway.send(
            http::Method::POST,
            "/events",
            &batch,
            events.to_string().into(),
        );
        let answer = sent.await?;
        assert_eq!(
            answer.status,
            http::StatusCode::ACCEPTED,
            "{}",
            answer.text()
        );
    }
    Ok(())
}

/// What the model is after so many moves.
fn expected(moves: u64) -> Value {
    let mut balances = serde_json::Map::new();
    for number in 1..=moves {
        let account = format!("a-{}", number % 7);
        let before = balances.get(&account).and_then(Value::as_u64).unwrap_or(0);
        let after = before * 3 % 1_000_003 + number * number % 97;
        balances.insert(account, after.into());
    }
    json!({"last": moves, "balances": balances, "overtaken": []})
}

fn projection(server: &Server) -> Option<Value> {
    server.json(&["projections", "show", KEY]).ok()
}

async fn asked(server: &Server, path: &str) -> Option<Value> {
    let answer = server.gateway().get(path).await.ok()?;
    answer.status.is_success().then(|| answer.json())
}

/// Waits until readers see a generation, and all of `moves` in it.
async fn reads(server: &Server, live: u64, moves: u64) {
    eventually("the live model has everything", || async {
        let read = asked(server, "/index/live").await?;
        (read["live"] == live && read["model"] == expected(moves)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_read_model_is_rebuilt_over_a_kill_and_equals_the_live_one() -> Result<()> {
    let mut server = server();
    let gateway = "gateway: {routes: [{path: /events, to: events}]}\n";
    let public = format!(
        "app: door\nworkloads: {{it: {{as: service, run: {{external: {{url: \"http://127.0.0.1:9\"}}}}}}}}\n{gateway}"
    );
    server.deploy(&[("tangelo.yaml", &public)])?;
    publish(&server, 1..=100).await?;
    server.deploy(&[("tangelo.yaml", MANIFEST), ("index.py", INDEX)])?;
    publish(&server, 101..=400).await?;
    reads(&server, 1, 400).await;

    assert_eq!(
        server.json(&["projections", "rebuild", KEY])?["generation"],
        2
    );
    let busy = server.cli(&["projections", "rebuild", KEY])?;
    assert!(String::from_utf8_lossy(&busy.stderr).contains("TG0541"));
    eventually("some of it is built", || async {
        let second = projection(&server)?["generations"][1].clone();
        (second["state"] == "building" && second["position"].as_u64()? > 40).then_some(())
    })
    .await;
    server.kill()?;
    server.restart()?;
    publish(&server, 401..=420).await?;
    reads(&server, 2, 420).await;
    let former = eventually("the former one is fed on", || async {
        let former = asked(&server, "/index/model/1").await?;
        (former["model"] == expected(420)).then_some(former)
    })
    .await;
    assert_eq!(former["there"], true);

    assert_eq!(
        server.json(&["projections", "drop", KEY, "1"])?["dropped"],
        1
    );
    eventually("its workload removed what was dropped", || async {
        (asked(&server, "/index/model/1").await?["there"] == false).then_some(())
    })
    .await;
    let listed = server.json(&["projections"])?;
    let generations = &listed["projections"][0]["generations"];
    assert_eq!(generations.as_array().map(Vec::len), Some(1), "{listed}");
    Ok(())
}

#[tokio::test]
async fn how_far_behind_a_read_model_is_is_said_everywhere() -> Result<()> {
    let server = server();
    let with_events = format!("{MANIFEST}    - {{path: /events, to: events}}\n");
    server.deploy(&[("tangelo.yaml", &with_events), ("index.py", INDEX)])?;
    publish(&server, 1..=30).await?;
    reads(&server, 1, 30).await;
    let feed = "books/index/balances-g1";
    server.json(&["subscriptions", "pause", feed])?;
    publish(&server, 31..=42).await?;
    let behind = eventually("it is behind", || async {
        let one = projection(&server)?["generations"][0].clone();
        (one["lag_events"] == 12 && one["lag_seconds"].as_f64()? > 0.2).then_some(one)
    })
    .await;
    assert_eq!(
        (&behind["state"], &behind["waiting_on"]),
        (&json!("live"), &json!("it is paused"))
    );
    let ps = server.json(&["ps"])?;
    let shown = &ps["projections"][0]["generations"][0]["lag_events"];
    assert_eq!(shown, 12, "{ps}");
    let metrics = server.control().get("/metrics").await?.text();
    let labels =
        "{app=\"books\",workload=\"index\",projection=\"balances\",generation=\"1\",live=\"true\"}";
    let line = format!("tangelo_projection_lag_events{labels} 12");
    assert!(metrics.contains(&line), "{line} in {metrics}");
    let seconds = format!("tangelo_projection_lag_seconds{labels} ");
    let seconds = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&seconds)?.parse::<f64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0.2), "{metrics}");
    server.json(&["subscriptions", "resume", feed])?;
    reads(&server, 1, 42).await;
    Ok(())
}
