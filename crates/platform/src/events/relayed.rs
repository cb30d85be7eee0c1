//! Publishing what rows of an app's own database describe.

use connect::{Fate, Item, Settled};
use model::{AppName, Category, Cause, Class, Error, Name, Principal, TraceContext};

use super::{Events, Origin};

/// Publishes `items` in their order. What can never be published is refused for good; anything else fails as a whole, so that
/// nothing overtakes what it stood behind.
///
/// # Errors
/// Why the log takes nothing now: the same items are to be published again.
pub(crate) async fn publish(
    events: &Events,
    app: &AppName,
    database: &Name,
    types: &[String],
    items: Vec<Item>,
    new_trace: impl Fn() -> TraceContext,
) -> Result<Vec<Settled>, Error> {
    let principal = Principal::Workload(format!("{app}/{database}").into());
    let mut settled = Vec::with_capacity(items.len());
    let mut good = Vec::with_capacity(items.len());
    for item in items {
        let relayed = item.event.and_then(|relayed| {
            declared(types, &relayed.event.kind)?;
            let trace = relayed.trace.unwrap_or_else(&new_trace);
            let origin = Origin::Outside {
                app: Some(app.clone()),
                trace,
                principals: vec![principal.clone()],
            };
            let event = events.check(&origin, relayed.event);
            Ok((event.map_err(|error| error.to_string())?, trace))
        });
        match relayed {
            Err(why) => settled.push(Settled {
                place: item.place,
                fate: Fate::Refused(why),
            }),
            Ok((event, trace)) => {
                let cause = Cause {
                    invocation: None,
                    class: Class::Async,
                    principals: vec![principal.clone()],
                    trace,
                    depth: 1,
                    idempotency_key: None,
                };
                good.push((item.place, (event, cause)));
            }
        }
    }
    let (places, good): (Vec<_>, Vec<_>) = good.into_iter().unzip();
    let namespace = Name::default_namespace();
    let receipts = events.bus.publish_for(Some(app), &namespace, good).await;
    for (place, receipt) in places.into_iter().zip(receipts) {
        let fate = match receipt {
            Ok(_) => Fate::Sent,
            Err(error) if is_final(&error) => Fate::Refused(error.to_string()),
            Err(error) => return Err(error),
        };
        settled.push(Settled { place, fate });
    }
    Ok(settled)
}

/// Whether publishing it again would fail again.
const fn is_final(error: &Error) -> bool {
    matches!(
        error.category,
        Category::Invalid | Category::TooLarge | Category::Forbidden | Category::NotFound
    )
}

fn declared(types: &[String], kind: &str) -> Result<(), String> {
    let covers = |declared: &String| match declared.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => declared == kind,
    };
    if types.iter().any(covers) {
        return Ok(());
    }
    let kind: String = kind.chars().take(100).collect();
    Err(format!(
        "the outbox does not declare that it publishes `{kind}`: add it to its `publishes`"
    ))
}
