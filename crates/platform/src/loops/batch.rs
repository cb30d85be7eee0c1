//! Several events in one invocation: what is handed over, and which of them a handler says it could not take.
//!
//! The answer is AWS's partial batch response
//! (<https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting>):
//! `{"batchItemFailures": [{"itemIdentifier": ID}]}`, where ID is an event's id or its `tangelokey`. Pure.

use std::sync::Arc;

use bus::Delivery;
use model::Event;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The extension that carries an event's own idempotency key inside a batch.
const KEY: &str = "tangelokey";

/// The events of a batch, each with its idempotency key.
pub(super) fn events(deliveries: &[Delivery]) -> Vec<Arc<Event>> {
    let marked = |delivery: &Delivery| {
        let mut event = Event::clone(&delivery.event);
        let key = delivery.idempotency_key.as_ref();
        event.extensions.insert(KEY.to_owned(), key.into());
        Arc::new(event)
    };
    deliveries.iter().map(marked).collect()
}

/// The key of a batch: the same for the same events in the same order.
pub(super) fn idempotency_key(deliveries: &[Delivery]) -> Arc<str> {
    if let [only] = deliveries {
        return Arc::clone(&only.idempotency_key);
    }
    let mut hash = Sha256::new();
    for delivery in deliveries {
        hash.update(delivery.idempotency_key.as_bytes());
        hash.update([0]);
    }
    let subscription = deliveries.first().map(|delivery| delivery.key.to_string());
    let subscription = subscription.unwrap_or_default();
    format!("{subscription}:batch:{}", hex::encode(hash.finalize())).into()
}

/// How an item of a batch is told from the others.
pub(super) struct Item<'a> {
    pub(super) id: &'a str,
    pub(super) key: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    #[serde(default)]
    item_identifier: Option<String>,
}

/// For each item whether the handler failed it, by its good answer. One that says nothing of failures took them all.
///
/// # Errors
/// What is wrong with what it says: then all failed.
pub(super) fn failed(items: &[Item<'_>], answer: &[u8]) -> Result<Vec<bool>, String> {
    let mut failed = vec![false; items.len()];
    let said = match serde_json::from_slice::<Value>(answer) {
        Ok(Value::Object(mut fields)) => fields.remove("batchItemFailures"),
        _ => None,
    };
    let Some(said) = said.filter(|said| !said.is_null()) else {
        return Ok(failed);
    };
    let said: Vec<Failure> = serde_json::from_value(said)
        .map_err(|_| "`batchItemFailures` is no list of `{itemIdentifier}`".to_owned())?;
    for failure in said {
        let id = failure.item_identifier.unwrap_or_default();
        let mut found = false;
        for (item, failed) in items.iter().zip(&mut failed) {
            if item.id == id || item.key == id {
                (*failed, found) = (true, true);
            }
        }
        if !found {
            let id: String = id.chars().take(80).collect();
            return Err(format!(
                "`batchItemFailures` names `{id}`, which is none of the batch"
            ));
        }
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_awss_partial_batch_responses() {
        let items = [("1", "k:1"), ("2", "k:2"), ("2", "k:3")];
        let items = items.map(|(id, key)| Item { id, key });
        let check = |answer: &str, expected: Result<[bool; 3], &str>| {
            let read = failed(&items, answer.as_bytes());
            match expected {
                Ok(expected) => assert_eq!(read.as_deref(), Ok(&expected[..]), "{answer}"),
                Err(part) => assert!(read.is_err_and(|e| e.contains(part)), "{answer}"),
            }
        };
        let none = Ok([false; 3]);
        for fine in [
            "",
            "ok",
            "null",
            "{}",
            "[]",
            r#"{"batchItemFailures": null}"#,
            r#"{"batchItemFailures": []}"#,
        ] {
            check(fine, none);
        }
        check(
            r#"{"batchItemFailures": [{"itemIdentifier": "1"}]}"#,
            Ok([true, false, false]),
        );
        check(
            r#"{"batchItemFailures": [{"itemIdentifier": "2"}]}"#,
            Ok([false, true, true]),
        );
        check(
            r#"{"batchItemFailures": [{"itemIdentifier": "k:3"}]}"#,
            Ok([false, false, true]),
        );
        check(
            r#"{"batchItemFailures": [{"itemIdentifier": "9"}]}"#,
            Err("`9`"),
        );
        check(
            r#"{"batchItemFailures": [{"itemIdentifier": ""}]}"#,
            Err("none of"),
        );
        check(r#"{"batchItemFailures": [{}]}"#, Err("none of"));
        check(r#"{"batchItemFailures": ["1"]}"#, Err("no list"));
        check(r#"{"batchItemFailures": 7}"#, Err("no list"));
    }
}
