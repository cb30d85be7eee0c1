//! Records become events: each once, in the order of its partition, whatever is in them and whatever is killed.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Server, eventually};

use super::{arrived, cluster::Cluster, events, manifest, publish, reaches, waits, way};
use crate::{TANGELO, server};

const IN: &str =
    "      in: [{topic: payments, type: payment.received, publishes: [refund.*], from: earliest}]";

fn numbers(events: &[Value]) -> Vec<u64> {
    let numbers = events.iter().map(|event| event["data"]["n"].as_u64());
    numbers.map(|n| n.expect("each has one")).collect()
}

fn record(number: u64) -> Value {
    json!({"key": format!("k-{}", number % 7), "value": json!({"n": number}).to_string()})
}

#[tokio::test]
async fn records_of_every_kind_become_events_and_what_is_none_blocks_nothing() -> Result<()> {
    let mut cluster = Cluster::start(&["payments"])?;
    let server = server();
    let headers = json!({"ce_specversion": "1.0", "ce_id": "r-1", "ce_source": "/bank", "ce_type": "refund.made", "content-type": "application/json",
        "traceparent": "00-000000000000000000000000000000aa-00000000000000bb-01"});
    let whole = json!({"specversion": "1.0", "id": "r-2", "source": "/bank", "type": "refund.made", "data": {"n": 2}});
    let stray = json!({"ce_specversion": "1.0", "ce_id": "s-1", "ce_source": "/bank", "ce_type": "stray.thing"});
    let deep = json!({"tangelo-depth": "16"});
    let at = |mut record: Value| {
        record["partition"] = 1.into();
        record
    };
    cluster.produce(
        "payments",
        &[
            at(json!({"key": "k-0", "value": "{\"n\":0}"})),
            at(json!({"value": "{\"n\":1}", "headers": headers})),
            at(json!({"value": whole.to_string(), "headers": {"content-type": "application/cloudevents+json; charset=UTF-8"}})),
            at(json!({"value": "", "headers": stray})),
            at(json!({"value": "{", "headers": {"content-type": "application/json"}})),
            at(json!({"value": 2_000_000})),
            at(json!({"value": "around", "headers": deep})),
            at(json!({"key": "k-9", "value": "{\"n\":9}"})),
        ],
    )?;
    server.deploy(&[("tangelo.yaml", &manifest(&cluster.brokers, IN))])?;
    let plain = arrived(&server, "payment.received", 2).await;
    let first = &plain[0];
    assert_eq!(first["source"], "/kafka/old/payments");
    assert_eq!(
        (&first["id"], &first["subject"]),
        (&json!("payments-1-0"), &json!("k-0"))
    );
    assert!(first["time"].is_string(), "{first}");
    assert_eq!(
        numbers(&plain),
        [0, 9],
        "what stands behind what is refused arrives"
    );
    let refunds = arrived(&server, "refund.made", 2).await;
    assert_eq!(
        (&refunds[0]["id"], &refunds[1]["id"]),
        (&json!("r-1"), &json!("r-2"))
    );
    assert_eq!(numbers(&refunds), [1, 2]);
    assert_eq!(events(&server)?.len(), 4);
    let status = reaches(&server, "payments", "all are told", |row| {
        row["refused"] == 4
    })
    .await;
    assert_eq!(status["state"], "running");
    let last = status["last_refused"].as_str().unwrap_or_default();
    assert!(
        last.contains("payments/1 at offset 6") && last.contains("deeper than 16"),
        "{last}"
    );
    let partitions = status["partitions"].as_array().into_iter().flatten();
    let mut own = partitions.filter(|one| one["partition"] == 1);
    let read = json!({"partition": 1, "next": 8, "end": 8, "lag": 0});
    assert_eq!(own.next(), Some(&read));
    assert_eq!((&status["lag"], &status["moved"]), (&json!(0), &json!(4)));
    let metrics = server.control().get("/metrics").await?.text();
    let line =
        "tangelo_bridge_refused{app=\"legacy\",bridge=\"old\",way=\"in\",topic=\"payments\"} 4";
    assert!(metrics.contains(line), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn over_kills_no_record_is_lost_and_none_is_taken_twice() -> Result<()> {
    let mut cluster = Cluster::start(&["payments"])?;
    // Ends without notice before, inside and after the commits that take records in.
    for (round, crash) in ["relayed:2", "relayed:7", "commit:30", "committed:33"]
        .iter()
        .enumerate()
    {
        let mut server = Server::start_with(TANGELO, &["--crash-at", crash])?;
        server.deploy(&[("tangelo.yaml", &manifest(&cluster.brokers, IN))])?;
        let already = round as u64 * 60;
        for some in 0..6 {
            let records: Vec<_> = (0..10).map(|n| record(already + some * 10 + n)).collect();
            cluster.produce("payments", &records)?;
        }
        let count = (round + 1) * 60;
        eventually("it ended, or took all in", || async {
            let ended = || Some(usize::MAX);
            let all = events(&server).ok().map(|all| all.len()).or_else(ended)?;
            (all >= count).then_some(())
        })
        .await;
        server.kill()?;
        server.restart_with(&[])?;
        let all = arrived(&server, "payment.received", count).await;
        let mut seen = numbers(&all);
        let mut by_key: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for event in &all {
            let key = event["subject"].to_string();
            by_key
                .entry(key)
                .or_default()
                .extend(event["data"]["n"].as_u64());
        }
        assert!(
            by_key.values().all(|own| own.is_sorted()),
            "{crash}: {by_key:?}"
        );
        seen.sort_unstable();
        assert_eq!(
            seen,
            (0..count as u64).collect::<Vec<_>>(),
            "{crash}: each once"
        );
        assert_eq!(events(&server)?.len(), count, "{crash}");
    }
    Ok(())
}

#[tokio::test]
async fn a_topic_is_begun_where_it_is_said_and_read_on_elsewhere() -> Result<()> {
    let mut cluster = Cluster::start(&["payments"])?;
    let mut server = server();
    cluster.produce("payments", &(0..8).map(record).collect::<Vec<_>>())?;
    let latest = IN.replace(", from: earliest", "");
    server.deploy(&[("tangelo.yaml", &manifest(&cluster.brokers, &latest))])?;
    reaches(&server, "payments", "it is read", |row| {
        row["state"] == "running"
    })
    .await;
    cluster.produce("payments", &[record(8)])?;
    let new = arrived(&server, "payment.received", 1).await;
    assert_eq!(numbers(&new), [8]);
    // What is written while nobody reads is not from before.
    server.kill()?;
    cluster.produce("payments", &[record(9)])?;
    server.restart()?;
    let new = arrived(&server, "payment.received", 2).await;
    assert_eq!(numbers(&new), [8, 9]);

    let seek = |more: &[&str]| {
        let base = ["bridges", "seek", "legacy/old", "payments"];
        server.json(&[&base[..], more].concat())
    };
    let places = seek(&["--to", "earliest"])?;
    let places = places["partitions"].as_array().cloned().unwrap_or_default();
    assert!(
        places.len() == 4 && places.iter().all(|one| one["next"] == 0),
        "{places:?}"
    );
    let all = arrived(&server, "payment.received", 10).await;
    let mut seen = numbers(&all);
    seen.sort_unstable();
    assert_eq!(
        seen,
        (0..10).collect::<Vec<_>>(),
        "those that were taken are not again"
    );
    let error = seek(&["--to", "latest", "--partition", "9"]).expect_err("there is none");
    assert!(error.to_string().contains("TG1024"), "{error}");
    let shown = server.cli(&["bridges", "partitions"])?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("legacy/old") && shown.contains("payments"),
        "{shown}"
    );
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_goes_away_is_waited_for() -> Result<()> {
    let mut cluster = Cluster::start(&["payments", "other"])?;
    let server = server();
    let ways = format!("{IN}\n      out: [{{event: {{type: [order.created]}}, topic: orders}}]");
    server.deploy(&[("tangelo.yaml", &manifest(&cluster.brokers, &ways))])?;
    cluster.produce("payments", &[record(0)])?;
    arrived(&server, "payment.received", 1).await;
    let told = reaches(&server, "orders", "there is no such topic", waits("TG1021")).await;
    assert!(
        told["since"].is_u64() && told["last_error"].is_array(),
        "{told}"
    );
    cluster.away(true)?;
    let told = reaches(&server, "payments", "it is told", waits("TG1020")).await;
    assert!(told["since"].is_u64(), "{told}");
    cluster.produce("payments", &[record(1)])?;
    cluster.away(false)?;
    let all = arrived(&server, "payment.received", 2).await;
    assert_eq!(numbers(&all), [0, 1]);
    let told = reaches(&server, "payments", "it runs", |row| {
        row["state"] == "running"
    })
    .await;
    assert!(told["why"].is_null(), "{told}");
    assert_eq!(told["last_error"][1]["code"], "TG1020", "{told}");
    Ok(())
}

#[tokio::test]
async fn what_goes_in_a_circle_ends() -> Result<()> {
    let mut cluster = Cluster::start(&["round"])?;
    let server = server();
    let text = format!(
        "
app: legacy
bridges:
  there:
    kafka: {{brokers: {0}, out: [{{event: {{type: [turn.made]}}, topic: round}}]}}
  back:
    kafka: {{brokers: {0}, in: [{{topic: round, publishes: [turn.made], from: earliest}}]}}
",
        cluster.brokers
    );
    server.deploy(&[("tangelo.yaml", &text)])?;
    for id in ["1", "2", "3"] {
        publish(&server, "turn.made", id, &[])?;
    }
    // Each goes out, comes back as what `back` says, and goes out once more; then it is known.
    let records = cluster.consume("round", 6)?;
    let mut ids: Vec<_> = records.iter().map(|one| one.id().to_owned()).collect();
    ids.sort();
    assert_eq!(ids, ["1", "1", "2", "2", "3", "3"]);
    let mut depths: Vec<_> = records
        .iter()
        .map(|one| one.header("tangelo-depth"))
        .collect();
    depths.sort_unstable();
    assert_eq!(depths, ["1", "1", "1", "2", "2", "2"]);
    reaches(&server, "round", "all were read", |row| {
        row["way"] == "out" || row["moved"] == 6
    })
    .await;
    assert_eq!(events(&server)?.len(), 6);
    assert_eq!(way(&server, "round")?["state"], "running");
    Ok(())
}
