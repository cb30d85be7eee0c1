//! Publishing what rows of an app's own database, or records of a topic, describe.

use connect::{Fate, Item, Relayed, Settled};
use model::{AppName, Category, Cause, Error, Event, Name, Namespace, Principal, TraceContext};
use store::log::{Intake, IntakeKey};

use super::{Events, Origin};

/// On whose side something is published.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The app.
    pub(crate) app: &'a AppName,
    /// The database or bridge of it.
    pub(crate) name: &'a Name,
    /// The types that may come from there; a trailing `*` stands for any rest.
    pub(crate) types: &'a [String],
}

/// What may be published of some items, with its places among them, and what became of the others.
struct Sorted {
    places: Vec<i64>,
    good: Vec<(Event, Cause)>,
    settled: Vec<Settled>,
}

/// Publishes `items` in their order. What can never be published is refused for good; anything else fails as a whole, so that
/// nothing overtakes what it stood behind.
///
/// # Errors
/// Why the log takes nothing now: the same items are to be published again.
pub(crate) async fn publish(
    events: &Events,
    source: Source<'_>,
    items: Vec<Item>,
    new_trace: impl Fn() -> TraceContext,
) -> Result<Vec<Settled>, Error> {
    let Sorted {
        places,
        good,
        mut settled,
    } = sort(events, source, items, new_trace);
    let bus = &events.bus;
    let receipts = bus.publish_for(Some(source.app), &namespace(), good).await;
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

/// The same, and in the same transaction how far the partition that they are from was read. What becomes of the refused is to
/// count them; the last of them is told.
///
/// # Errors
/// Why the log takes nothing now: neither the items nor how far.
pub(crate) async fn take_in(
    events: &Events,
    source: Source<'_>,
    items: Vec<Item>,
    key: IntakeKey,
    (next, missed): (i64, u64),
    new_trace: impl Fn() -> TraceContext,
) -> Result<Intake, Error> {
    let Sorted {
        places,
        good,
        settled,
    } = sort(events, source, items, new_trace);
    let topic = format!("{}/{}", key.topic, key.partition);
    let why = |place: i64, why: &str| format!("{topic} at offset {place}: {why}");
    let mut refused: Vec<(i64, String)> = settled
        .iter()
        .filter_map(|one| match &one.fate {
            Fate::Refused(reason) => Some((one.place, why(one.place, reason))),
            Fate::Sent => None,
        })
        .collect();
    let mut adds = Intake::default();
    let (bus, namespace) = (&events.bus, namespace());
    let taken = bus.take_in(source.app, &namespace, good, key, |checked| {
        let bad = places.iter().zip(checked).filter_map(|(place, checked)| {
            let error = checked.as_ref().err()?;
            Some((*place, why(*place, &error.to_string())))
        });
        refused.extend(bad);
        refused.sort();
        adds = Intake {
            next,
            refused: refused.len() as u64,
            last_refused: refused.last().map(|(_, why)| why.clone()),
            missed,
        };
        adds.clone()
    });
    taken.await?;
    for (_, why) in refused {
        let (app, bridge) = (source.app, source.name);
        let code = model::code::RECORD_REFUSED;
        tracing::warn!(%app, %bridge, why, %code, "a record is no event: it is passed over");
    }
    Ok(adds)
}

fn namespace() -> Namespace {
    Name::default_namespace()
}

fn sort(
    events: &Events,
    source: Source<'_>,
    items: Vec<Item>,
    new_trace: impl Fn() -> TraceContext,
) -> Sorted {
    let Source { app, name, types } = source;
    let principal = Principal::Workload(format!("{app}/{name}").into());
    let mut sorted = Sorted {
        places: Vec::with_capacity(items.len()),
        good: Vec::with_capacity(items.len()),
        settled: Vec::new(),
    };
    for item in items {
        let relayed = item.event.and_then(|relayed| {
            declared(types, &relayed.event.kind)?;
            let trace = relayed.trace.unwrap_or_else(&new_trace);
            let cause = cause(events, &relayed, principal.clone(), trace)?;
            let origin = Origin::Outside {
                app: Some(app.clone()),
                trace,
                principals: vec![principal.clone()],
            };
            let event = events.check(&origin, relayed.event);
            Ok((event.map_err(|error| error.to_string())?, cause))
        });
        match relayed {
            Err(why) => sorted.settled.push(Settled {
                place: item.place,
                fate: Fate::Refused(why),
            }),
            Ok(good) => {
                sorted.places.push(item.place);
                sorted.good.push(good);
            }
        }
    }
    sorted
}

fn cause(
    events: &Events,
    relayed: &Relayed,
    principal: Principal,
    trace: TraceContext,
) -> Result<Cause, String> {
    let first = Cause::first(vec![principal], trace);
    let depth = relayed.depth.saturating_add(first.depth);
    let cause = events.not_too_deep(Cause { depth, ..first });
    cause.map_err(|error| error.message)
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
        "the manifest does not declare that it publishes `{kind}`: add it to its `publishes`"
    ))
}
