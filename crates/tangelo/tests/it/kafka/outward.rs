//! Events become records: all of them, each key's in its order, whatever is killed or away; what no topic takes is a dead letter.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::{Server, eventually};

use super::{
    cluster::{Cluster, Record},
    manifest, publish, reaches, waits, written,
};
use crate::{TANGELO, server};

const OUT: &str = "      out: [{event: {type: [order.created]}, topic: orders}]";
const SUBSCRIPTION: &str = "legacy/old/orders";

/// Publishes orders `from..to`, of five keys.
fn orders(server: &Server, numbers: std::ops::Range<u32>) -> Result<()> {
    for number in numbers {
        let (key, data) = (
            format!("o-{}", number % 5),
            json!({"n": number}).to_string(),
        );
        let more = ["--subject", &key, "-d", &data];
        publish(server, "order.created", &number.to_string(), &more)?;
    }
    Ok(())
}

/// The ids of each key, in the order of its one partition, each at its first time.
fn by_key(records: &[Record]) -> Result<BTreeMap<String, Vec<u32>>> {
    let mut keys: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut partitions: BTreeMap<&str, &Value> = BTreeMap::new();
    for record in records {
        let partition = partitions
            .entry(record.key())
            .or_insert_with(|| &record.0["partition"]);
        assert_eq!(
            *partition, &record.0["partition"],
            "a key is in one partition"
        );
        let (own, id) = (
            keys.entry(record.key().to_owned()).or_default(),
            record.id().parse()?,
        );
        if !own.contains(&id) {
            own.push(id);
        }
    }
    Ok(keys)
}

fn all_in_order(count: u32) -> BTreeMap<String, Vec<u32>> {
    let own = |key| (0..count).filter(|number| number % 5 == key).collect();
    (0..5).map(|key| (format!("o-{key}"), own(key))).collect()
}

#[tokio::test]
async fn an_event_is_a_record_as_the_specification_has_it() -> Result<()> {
    let mut cluster = Cluster::start(&["orders", "wholes"])?;
    let server = server();
    let ways = "
      out:
        - {event: {type: [order.created]}, topic: orders}
        - {event: {type: [order.created]}, topic: wholes, mode: structured, key: $.data.customer}";
    server.deploy(&[("tangelo.yaml", &manifest(&cluster.brokers, ways))])?;
    let data = ["--subject", "o-1", "-d", "{\"customer\":7}"];
    publish(&server, "order.created", "1", &data)?;
    let records = cluster.consume("orders", 1)?;
    let first = &records[0];
    let said = [
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_subject",
        "content-type",
    ];
    let said = said.map(|name| first.header(name).to_owned());
    assert_eq!(
        said,
        [
            "1.0",
            "1",
            "/it",
            "order.created",
            "o-1",
            "application/json"
        ]
    );
    assert!(!first.header("ce_time").is_empty() && first.header("traceparent").starts_with("00-"));
    assert_eq!((first.key(), first.value()), ("o-1", "{\"customer\":7}"));
    let theirs = cluster.produce("orders", &[json!({"key": "o-1", "value": "theirs"})])?;
    assert_eq!(
        first.0["partition"], theirs[0],
        "Kafka's own client sends the key there, too"
    );

    let records = cluster.consume("wholes", 1)?;
    let whole = &records[0];
    assert_eq!(
        whole.header("content-type"),
        "application/cloudevents+json; charset=UTF-8"
    );
    let event: Value = serde_json::from_str(whole.value())?;
    assert_eq!(
        (&event["id"], &event["data"]["customer"]),
        (&json!("1"), &json!(7))
    );
    assert_eq!(whole.key(), "7");
    Ok(())
}

#[tokio::test]
async fn over_kills_all_goes_out_in_the_order_of_its_keys() -> Result<()> {
    let mut cluster = Cluster::start(&["orders"])?;
    let mut server = server();
    server.deploy(&[("tangelo.yaml", &manifest(&cluster.brokers, OUT))])?;
    orders(&server, 0..15)?;
    server.kill()?;
    // Ends when records were written and nothing of that is.
    server.restart_with(&["--crash-at", "delivered:2"])?;
    let mut next = 15;
    eventually("it ended, or all is published", || {
        let published = next == 40 || orders(&server, next..next + 1).is_ok();
        let ended = !published || server.json(&["bridges"]).is_err();
        next += u32::from(published && next < 40);
        async move { (ended || next == 40).then_some(()) }
    })
    .await;
    server.kill()?;
    server.restart_with(&[])?;
    // Those that were not acknowledged are published again, as whoever publishes does it.
    orders(&server, next.min(39)..40)?;
    written(&server, SUBSCRIPTION).await;
    let records = cluster.consume("orders", 40)?;
    assert_eq!(by_key(&records)?, all_in_order(40));
    Ok(())
}

#[tokio::test]
async fn answers_that_are_lost_and_brokers_that_are_away_cost_nothing_but_time() -> Result<()> {
    let mut cluster = Cluster::start(&["orders"])?;
    let server = server();
    server.deploy(&[("tangelo.yaml", &manifest(&cluster.brokers, OUT))])?;
    orders(&server, 0..5)?;
    written(&server, SUBSCRIPTION).await;
    cluster.lose_answers(2)?;
    orders(&server, 5..15)?;
    written(&server, SUBSCRIPTION).await;
    cluster.away(true)?;
    orders(&server, 15..25)?;
    let told = reaches(&server, "orders", "it is told", waits("TG1020")).await;
    assert_eq!(told["lag"], 10, "{told}");
    let rows = server.json(&["subscriptions"])?;
    let row = &rows["subscriptions"][0];
    let why = row["waiting_on"].to_string();
    assert!(why.contains("Kafka does not answer"), "{row}");
    cluster.away(false)?;
    written(&server, SUBSCRIPTION).await;
    let records = cluster.consume("orders", 25)?;
    assert_eq!(by_key(&records)?, all_in_order(25));
    let dead = server.json(&["dead-letters"])?;
    assert_eq!(dead["dead_letters"], json!([]));
    Ok(())
}

#[tokio::test]
async fn what_no_topic_takes_is_a_dead_letter_and_goes_again_when_it_does() -> Result<()> {
    let mut cluster = Cluster::start(&["orders"])?;
    let server = server();
    let ways = OUT.replace("topic: orders", "topic: orders, max_age: 1s");
    server.deploy(&[("tangelo.yaml", &manifest(&cluster.brokers, &ways))])?;
    cluster.takes_at_most(20_000)?;
    let large = json!({"text": "x".repeat(30_000)}).to_string();
    publish(&server, "order.created", "0", &["-d", "{}"])?;
    publish(&server, "order.created", "1", &["-d", &large])?;
    publish(&server, "order.created", "2", &["-d", "{}"])?;
    let dead = eventually("the large one is dead", || async {
        let all = server.json(&["dead-letters"]).ok()?;
        let rows = all["dead_letters"].as_array()?.clone();
        (rows.len() == 1).then(|| rows[0].clone())
    })
    .await;
    assert!(dead.to_string().contains("TG1022"), "{dead}");
    let ids = |records: Vec<Record>| {
        let mut ids: Vec<_> = records.iter().map(|one| one.id().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(
        ids(cluster.consume("orders", 2)?),
        ["0", "2"],
        "it blocks nothing"
    );
    cluster.takes_at_most(1_000_000)?;
    let id = dead["id"].to_string();
    let id = id.trim_matches('"');
    server.json(&["dead-letters", "redrive", id])?;
    assert_eq!(ids(cluster.consume("orders", 3)?), ["0", "1", "2"]);

    // One that waits longer than it may is one, too.
    cluster.away(true)?;
    publish(&server, "order.created", "3", &["-d", "{}"])?;
    let dead = eventually("it is dead", || async {
        let all = server.json(&["dead-letters"]).ok()?;
        let rows = all["dead_letters"].as_array()?.clone();
        rows.iter()
            .find(|row| row.to_string().contains("TG1020"))
            .cloned()
    })
    .await;
    assert!(dead.to_string().contains("\"3\""), "{dead}");
    Ok(())
}

#[tokio::test]
async fn a_pause_holds_and_a_bridge_that_is_deployed_anew_goes_on() -> Result<()> {
    let mut cluster = Cluster::start(&["orders"])?;
    let server = Server::start(TANGELO)?;
    server.deploy(&[("tangelo.yaml", &manifest(&cluster.brokers, OUT))])?;
    orders(&server, 0..5)?;
    written(&server, SUBSCRIPTION).await;
    server.json(&["subscriptions", "pause", SUBSCRIPTION])?;
    orders(&server, 5..10)?;
    let told = reaches(&server, "orders", "they wait", |row| row["lag"] == 5).await;
    assert_eq!(told["moved"], 5, "{told}");
    let more = OUT.replace("topic: orders}", "topic: orders, rate: 1000/s}");
    server.deploy(&[("tangelo.yaml", &manifest(&cluster.brokers, &more))])?;
    server.json(&["subscriptions", "resume", SUBSCRIPTION])?;
    orders(&server, 10..15)?;
    written(&server, SUBSCRIPTION).await;
    let records = cluster.consume("orders", 15)?;
    assert_eq!(records.len(), 15, "each once, since nothing broke");
    assert_eq!(by_key(&records)?, all_in_order(15));
    let gone = manifest(
        &cluster.brokers,
        &OUT.replace("topic: orders", "topic: others"),
    );
    server.deploy(&[("tangelo.yaml", &gone)])?;
    let rows = server.json(&["bridges"])?;
    let rows = rows["bridges"].as_array().context("a list")?;
    assert!(rows.iter().all(|row| row["topic"] == "others"), "{rows:?}");
    Ok(())
}
