//! Events: accepted means durable, delivered at least once under one key, given up with a reason, and tried again.

use anyhow::Result;
use http::{Method, StatusCode};
use serde_json::json;
use testkit::{Server, eventually};

use crate::{
    ECHO,
    contracts::{self, HANDLER},
    server,
};

const MANIFEST: &str = "
app: news
workloads:
  reader:
    as: service
    run: {process: {command: [python3, echo.py]}}
    state: [folder]
    on:
      - event: {type: [order.created], data: {total: [{numeric: ['>', 0]}]}}
  broken:
    as: function
    run: {lambda: {runtime: python3, handler: broken.handler, code: functions}}
    on:
      - event: {type: [order.lost]}
        retry: {attempts: 2, backoff: 10ms, max_backoff: 20ms}
gateway:
  routes:
    - {path: /events, methods: [POST], to: events}
    - {path: /reader/*, to: reader, rewrite: /*}
";

const BROKEN: &str = "
def handler(event, context):
    raise ValueError('cannot take ' + event['detail-type'])
";

fn deployed() -> Result<Server> {
    let server = server();
    server.deploy(&[
        ("tangelo.yaml", MANIFEST),
        ("echo.py", ECHO),
        ("functions/broken.py", BROKEN),
    ])?;
    Ok(server)
}

async fn seen(server: &Server) -> Vec<String> {
    let Ok(answer) = server.gateway().get("/reader/seen").await else {
        return Vec::new();
    };
    let rows = answer.json();
    rows.as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row["id"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn an_event_reaches_whom_its_data_matches_and_nobody_twice() -> Result<()> {
    let server = deployed()?;
    let event = |id: &str, total: i64| json!({"specversion": "1.0", "id": id, "source": "/t", "type": "order.created", "data": {"total": total}});
    let batch = json!([event("a", 5), event("b", 0), {"specversion": "1.0", "id": "c", "source": "/t"}, event("a", 5)]);
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let answer = server
        .gateway()
        .send(Method::POST, "/events", &headers, batch.to_string().into())
        .await?;
    assert_eq!(
        (answer.status, &answer.json()["accepted"]),
        (StatusCode::ACCEPTED, &3.into())
    );
    let rows = answer.json();
    assert_eq!(
        (&rows["events"][2]["code"], &rows["events"][3]["duplicate"]),
        (&"TG0501".into(), &true.into())
    );
    let single = [
        ("ce-specversion", "1.0"),
        ("ce-id", "d"),
        ("ce-source", "/t"),
        ("ce-type", "order.created"),
        ("content-type", "application/json"),
    ];
    let answer = server
        .gateway()
        .send(Method::POST, "/events", &single, r#"{"total": 7}"#.into())
        .await?;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    let mut ids = eventually("both matching events are delivered", || async {
        Some(seen(&server).await).filter(|ids| ids.len() >= 2)
    })
    .await;
    ids.sort();
    assert_eq!(ids, ["a", "d"]);
    Ok(())
}

#[tokio::test]
async fn what_fails_ends_as_a_dead_letter_with_its_reason_and_can_be_redriven() -> Result<()> {
    let server = deployed()?;
    server.json(&["publish", "order.lost", "-d", "{}"])?;
    let letter = eventually("a dead letter", || async {
        server.json(&["dead-letters"]).ok()?["dead_letters"]
            .as_array()?
            .first()
            .cloned()
    })
    .await;
    assert!(
        letter.to_string().contains("cannot take order.lost"),
        "{letter}"
    );
    let before = letter["id"].as_u64();
    let id = letter["id"].to_string();
    server.json(&["dead-letters", "redrive", &id])?;
    eventually("the redriven letter is dead again", || async {
        let letters = server.json(&["dead-letters"]).ok()?;
        letters["dead_letters"]
            .as_array()?
            .first()
            .filter(|l| l["id"].as_u64() != before)
            .cloned()
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn the_log_is_shown_as_far_as_it_is_asked_for() -> Result<()> {
    let server = server();
    server.deploy(&[HANDLER, ("tangelo.yaml", contracts::MANIFEST)])?;
    let event = |n: u32| {
        let kind = if n.is_multiple_of(100) {
            "order.paid"
        } else {
            "order.created"
        };
        json!({"specversion": "1.0", "id": n.to_string(), "source": "/t", "type": kind, "data": n})
    };
    for part in 0..3 {
        let batch: Vec<_> = (1..=400).map(|n| event(part * 400 + n)).collect();
        let headers = [("content-type", "application/cloudevents-batch+json")];
        let body = serde_json::to_vec(&batch)?.into();
        let gateway = server.gateway();
        let answer = gateway
            .send(Method::POST, "/events", &headers, body)
            .await?;
        assert_eq!(answer.json()["accepted"], 400, "{}", answer.text());
    }
    let ids = |more: &[&str]| -> Result<Vec<u64>> {
        let output = server.cli(&[&["--json", "events", "tail"], more].concat())?;
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let rows =
            serde_json::Deserializer::from_slice(&output.stdout).into_iter::<serde_json::Value>();
        rows.map(|row| Ok(row?["event"]["data"].as_u64().unwrap_or_default()))
            .collect()
    };
    assert_eq!(ids(&[])?, (1181..=1200).collect::<Vec<_>>());
    assert_eq!(ids(&["-n", "1100"])?, (101..=1200).collect::<Vec<_>>());
    assert_eq!(ids(&["--after", "10", "-n", "5"])?, [11, 12, 13, 14, 15]);
    assert_eq!(ids(&["--after", "300"])?, (301..=1200).collect::<Vec<_>>());
    let paid = ["--type", "order.paid", "-n"];
    assert_eq!(ids(&[&paid[..], &["4"]].concat())?, [900, 1000, 1100, 1200]);
    assert_eq!(ids(&[&paid[..], &["99"]].concat())?.len(), 12);
    assert!(ids(&["--after", "9223372036854775807"])?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_kill_loses_no_accepted_event() -> Result<()> {
    let mut server = deployed()?;
    for number in 0..20 {
        let id = format!("k-{number}");
        server.json(&[
            "publish",
            "order.created",
            "--id",
            &id,
            "-d",
            r#"{"total": 1}"#,
        ])?;
    }
    server.kill()?;
    server.restart()?;
    let ids = eventually(
        "every accepted event is delivered after the kill",
        || async {
            Some(seen(&server).await).filter(|ids| (0..20).all(|n| ids.contains(&format!("k-{n}"))))
        },
    )
    .await;
    assert!(ids.len() >= 20);
    Ok(())
}

#[tokio::test]
async fn an_explanation_names_the_fields_that_kept_an_event_from_a_subscription() -> Result<()> {
    let server = deployed()?;
    let published = server.json(&[
        "publish",
        "order.created",
        "--id",
        "e-1",
        "-d",
        r#"{"total": "5"}"#,
    ])?;
    let position = published["events"][0]["position"].to_string();
    let explain = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = server.cli(&[&["events", "explain"], arguments].concat())?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(said)?))
    };
    let subscription = ["--subscription", "news/reader/order-created"];
    let (code, said) = explain(&[&subscription[..], &["--position", &position]].concat())?;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("data.total: it is a text, not a number"),
        "{said}"
    );
    assert!(
        said.contains("expected a number > 0\n    asked at /data/total"),
        "{said}"
    );
    let (_, said) = explain(&[&subscription[..], &["--id", "e-1", "--json"]].concat())?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    assert_eq!(said["ways"][0][0]["found"], json!(["5"]));
    assert_eq!(said["event"]["id"], "e-1");
    let scratch = server.scratch();
    let (pattern, event) = (scratch.join("pattern.json"), scratch.join("event.json"));
    std::fs::write(&event, json!({"detail": {"state": "on"}}).to_string())?;
    std::fs::write(
        &pattern,
        json!({"detail": {"state": [{"prefix": "o"}]}}).to_string(),
    )?;
    let files = [
        "--pattern",
        pattern.to_str().expect("is UTF-8"),
        "--event",
        event.to_str().expect("is UTF-8"),
    ];
    assert_eq!(
        explain(&files)?,
        (Some(0), "the event matches\n".to_owned())
    );
    std::fs::write(
        &pattern,
        json!({"detail": {"state": [{"prefx": "o"}]}}).to_string(),
    )?;
    let (code, said) = explain(&files)?;
    assert!(
        code == Some(1) && said.contains("/detail/state/0/prefx"),
        "{said}"
    );
    let (_, said) = explain(&[&subscription[..], &["--position", "99"]].concat())?;
    assert!(said.contains("TG0507"), "{said}");
    let (_, said) = explain(&["--subscription", "news/reader/nix", "--position", "1"])?;
    assert!(said.contains("TG0504"), "{said}");
    Ok(())
}
