//! What deliveries hand over where a subscription says what its workload gets instead of an event: bounded, whatever a template makes of it.

use bus::{Delivery, Settled};
use model::{Error, Limits, code};
use pattern::Facts;

use crate::Platform;

/// Deliveries of one invocation, and the texts that they hand over: one for each, or none, where the events themselves are.
pub(super) struct Load {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) texts: Vec<String>,
}

/// Makes what is handed over. What can never be, as too much is made of its event, is given up at once; what is too much beside the others of
/// its batch comes later.
pub(super) async fn load(platform: &Platform, deliveries: Vec<Delivery>) -> Load {
    let mut load = Load {
        deliveries: Vec::with_capacity(deliveries.len()),
        texts: Vec::new(),
    };
    if deliveries.iter().all(|delivery| delivery.input.is_none()) {
        load.deliveries = deliveries;
        return load;
    }
    let limits = platform.limits();
    let (mut bytes, mut full) = (0, false);
    for delivery in deliveries {
        let text = match transformed(&delivery, limits) {
            _ if full => None,
            Ok(text)
                if load.texts.is_empty()
                    || bytes + text.len() <= limits.sync_payload.as_usize() =>
            {
                Some(text)
            }
            Ok(_) => None,
            Err(error) => {
                // Behind it nothing of a projection may be done.
                full = delivery.serial;
                settle(platform, delivery, Settled::Dead(error)).await;
                continue;
            }
        };
        match text {
            Some(text) => {
                bytes += text.len();
                load.texts.push(text);
                load.deliveries.push(delivery);
            }
            None => {
                full = true;
                let message = "there was no room for it in this batch";
                let later = Settled::Later(Error::new(code::PAYLOAD_TOO_LARGE, message));
                settle(platform, delivery, later).await;
            }
        }
    }
    load
}

async fn settle(platform: &Platform, delivery: Delivery, settled: Settled) {
    if let Err(error) = platform.bus().settle(delivery, settled).await {
        tracing::error!(%error, "a delivery could not be settled; it will be made again");
    }
}

/// What a subscription hands over instead of its event.
///
/// # Errors
/// `PAYLOAD_TOO_LARGE` when that is more than an event may be.
pub(crate) fn transformed(delivery: &Delivery, limits: &Limits) -> Result<String, Error> {
    let event = delivery.event.to_json();
    let Some(input) = &delivery.input else {
        return Ok(event.to_string());
    };
    let (name, key) = (delivery.key.name.as_str(), delivery.key.to_string());
    let facts = Facts {
        event: &event,
        payload: "data",
        rule_name: name,
        rule_arn: &key,
        ingestion_time: &delivery.published_at.rfc3339(),
    };
    let text = input.apply(&facts, limits.event.as_usize());
    text.map_err(|error| {
        Error::new(
            code::PAYLOAD_TOO_LARGE,
            format!("the `input` of `{key}`: {error}"),
        )
    })
}
