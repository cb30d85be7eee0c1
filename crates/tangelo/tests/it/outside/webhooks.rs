//! Webhooks that are taken: signed, traced, in order, in batches, repeated with the same id.

use anyhow::{Context, Result};
use serde_json::json;
use testkit::eventually;

use super::receiver::{OTHER, Receiver, SECRET, manifest, publish, server, stands, write};

#[tokio::test]
async fn webhooks_are_what_the_conventions_own_library_verifies() -> Result<()> {
    let receiver = Receiver::start(&[SECRET, OTHER], None)?;
    let (server, folder) = server(&[("PARTNER", SECRET)])?;
    server.deploy(&[("tangelo.yaml", &manifest(receiver.port, "", ""))])?;
    publish(&server, "1", "o-1")?;
    let seen = receiver.saw(1).await.remove(0);
    assert_eq!(seen.valid, [true, false]);
    assert_eq!(seen.path, "/in?from=bus");
    assert_eq!(seen.header("content-type"), "application/cloudevents+json");
    let event = seen.json();
    assert_eq!(
        (
            &event["id"],
            &event["type"],
            &event["specversion"],
            &event["data"]
        ),
        (
            &json!("1"),
            &json!("order.created"),
            &json!("1.0"),
            &json!({"id": "1"})
        )
    );
    // The attempt is a span of the trace of the event, and what the endpoint gets to go on with.
    let trace = seen
        .header("traceparent")
        .split('-')
        .nth(1)
        .context("a trace")?;
    let spans = eventually("the attempt is in its trace", || async {
        let text = server.json(&["traces", trace]).ok()?.to_string();
        text.contains("\"partner\"").then_some(text)
    })
    .await;
    assert!(spans.contains("webhook"), "{spans}");
    let usage = eventually("the attempt is in the usage", || async {
        let text = server.json(&["usage"]).ok()?.to_string();
        text.contains("partner").then_some(text)
    })
    .await;
    assert!(usage.contains("bus"), "{usage}");

    // While one secret is exchanged for another, both sign; the file is read again while the server runs.
    write(&folder, &[("PARTNER", SECRET), ("NEXT", OTHER)])?;
    let two = manifest(receiver.port, "", "").replace("[PARTNER]", "[NEXT, PARTNER]");
    server.deploy(&[("tangelo.yaml", &two)])?;
    publish(&server, "2", "o-1")?;
    assert_eq!(receiver.saw(2).await[1].valid, [true, true]);
    let one = manifest(receiver.port, "", "").replace("[PARTNER]", "NEXT");
    server.deploy(&[("tangelo.yaml", &one)])?;
    publish(&server, "3", "o-1")?;
    assert_eq!(receiver.saw(3).await[2].valid, [false, true]);
    Ok(())
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_waited_for() -> Result<()> {
    let receiver = Receiver::start(&[SECRET], None)?;
    let (server, folder) = server(&[])?;
    let terms = "    retry: {attempts: 1}\n";
    let deployed = server.deploy(&[("tangelo.yaml", &manifest(receiver.port, terms, ""))])?;
    assert!(
        deployed["notes"].to_string().contains("PARTNER"),
        "{deployed}"
    );
    publish(&server, "1", "o-1")?;
    eventually("it says why it waits", || async {
        let waits = stands(&server).ok()?["waiting_on"].to_string();
        waits.contains("TG0433").then_some(())
    })
    .await;
    write(&folder, &[("PARTNER", SECRET)])?;
    server.hang_up()?;
    assert_eq!(receiver.saw(1).await[0].valid, [true]);
    Ok(())
}

#[tokio::test]
async fn a_kill_in_the_middle_repeats_it_under_the_same_id() -> Result<()> {
    let receiver = Receiver::start(&[SECRET], None)?;
    let (mut server, _folder) = server(&[("PARTNER", SECRET)])?;
    server.deploy(&[("tangelo.yaml", &manifest(receiver.port, "", ""))])?;
    receiver.mode("hang").await?;
    publish(&server, "1", "o-1")?;
    receiver.saw(1).await;
    server.kill()?;
    receiver.mode("200").await?;
    server.restart()?;
    let seen = receiver.saw(2).await;
    assert_eq!(seen[0].id, seen[1].id);
    assert_eq!(seen[0].body, seen[1].body);
    assert!(seen.iter().all(|one| one.valid == [true]));
    eventually("it is settled", || async {
        let stands = stands(&server).ok()?;
        (stands["in_flight"] == 0 && stands["retrying"] == 0).then_some(())
    })
    .await;
    publish(&server, "2", "o-1")?;
    let seen = receiver.saw(3).await;
    assert_ne!(seen[2].id, seen[0].id, "another event has another id");
    Ok(())
}

#[tokio::test]
async fn order_batches_and_inputs_hold_for_endpoints_too() -> Result<()> {
    let receiver = Receiver::start(&[SECRET], None)?;
    let (server, _folder) = server(&[("PARTNER", SECRET)])?;
    let terms = "    order: {key: $.subject}\n    retry: {attempts: 3, backoff: 10ms, max_backoff: 50ms}\n    \
                 input: {path: $.data}\n";
    receiver.mode("flaky").await?;
    server.deploy(&[("tangelo.yaml", &manifest(receiver.port, terms, ""))])?;
    for number in 0..6 {
        publish(&server, &number.to_string(), &format!("o-{}", number % 2))?;
    }
    // Each fails once: two requests for each, and none of a key before the one before it was taken.
    let seen = receiver.saw(12).await;
    for key in 0..2 {
        let own = seen
            .iter()
            .filter_map(|one| one.json()["id"].as_str()?.parse::<u32>().ok());
        let own: Vec<u32> = own.filter(|id| id % 2 == key).collect();
        assert_eq!(own, [key, key, key + 2, key + 2, key + 4, key + 4]);
    }
    assert!(
        seen.iter()
            .all(|one| one.header("content-type") == "application/json")
    );
    receiver.mode("long").await?;
    let terms = "    batch: {size: 2, window: 5s}\n";
    server.deploy(&[("tangelo.yaml", &manifest(receiver.port, terms, ""))])?;
    publish(&server, "8", "o-1")?;
    publish(&server, "9", "o-1")?;
    let batch = receiver.saw(13).await.remove(12);
    assert_eq!(
        batch.header("content-type"),
        "application/cloudevents-batch+json"
    );
    assert_eq!(batch.json().as_array().map(Vec::len), Some(2));
    assert_eq!(batch.valid, [true]);
    eventually("an answer without end is not read to its end", || async {
        (stands(&server).ok()?["in_flight"] == 0).then_some(())
    })
    .await;
    assert_eq!(receiver.seen().await?.len(), 13, "its status settled it");
    Ok(())
}
