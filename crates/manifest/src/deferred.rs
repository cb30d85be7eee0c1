//! `async`: what a workload's asynchronous invocations get.

use std::time::Duration;

use model::{Deferred, Destination};

use crate::{
    places::WorkloadPlaces,
    reader::{Fields, Reader},
    tree::{Bytes, Node},
};

/// Keys of `async`.
pub(crate) const KEYS: &[&str] = &["retries", "max_age", "backoff", "on_success", "on_failure"];

pub(crate) fn read(
    reader: &mut Reader<'_>,
    at: Bytes,
    node: &Node,
    places: &mut WorkloadPlaces,
) -> Deferred {
    let mut deferred = Deferred::default();
    let Some(fields) = reader.fields(node, at, KEYS) else {
        return deferred;
    };
    let retries = fields.get("retries");
    let retries = retries.and_then(|node| reader.number(node, 0..=Deferred::MAX_RETRIES));
    deferred.retries = retries.unwrap_or(deferred.retries);
    let max_age = fields.get("max_age");
    let least = Duration::from_secs(1);
    let max_age = max_age.and_then(|node| reader.duration(node, least, Deferred::MAX_AGE));
    deferred.max_age = max_age.unwrap_or(deferred.max_age);
    let backoff = fields.get("backoff");
    let (least, most) = (Duration::from_millis(100), Duration::from_secs(3600));
    let backoff = backoff.and_then(|node| reader.duration(node, least, most));
    deferred.backoff = backoff.unwrap_or(deferred.backoff);
    let destinations = &mut deferred.destinations;
    destinations.on_success = read_destination(reader, fields, "on_success", places);
    destinations.on_failure = read_destination(reader, fields, "on_failure", places);
    deferred
}

fn read_destination(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    key: &str,
    places: &mut WorkloadPlaces,
) -> Option<Destination> {
    let node = fields.get(key)?;
    let text = reader.string(node, "the name of a workload, or `events`")?;
    if text == "events" {
        return Some(Destination::Events);
    }
    let names: Vec<_> = text.split('/').collect();
    if names.len() > 2 {
        let message = format!("`{text}` is not a workload");
        reader
            .error(node.at, message)
            .help("`name` of this app, `app/name`, or `events`");
        return None;
    }
    for name in names {
        reader.name(node.at, name)?;
    }
    places.destinations.push((text.clone(), node.at));
    Some(Destination::Workload(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::{Deferred, Destinations, Limits};

    fn messages(policy: &str) -> Vec<String> {
        let run = "as: function, run: {wasm: {component: a.wasm}}";
        let text =
            format!("app: one\nworkloads:\n  other: {{{run}}}\n  it: {{{run}, async: {policy}}}\n");
        let parsed = crate::parse(&text, "tangelo.yaml", &Limits::default());
        parsed.diagnostics.into_iter().map(|d| d.message).collect()
    }

    fn of_it(more: &str) -> Deferred {
        let text = format!(
            "app: one\nworkloads:\n  it: {{as: function, run: {{wasm: {{component: a.wasm}}}}{more}}}\n"
        );
        let parsed = crate::parse(&text, "tangelo.yaml", &Limits::default());
        let app = parsed.app.expect("is good");
        app.workloads["it"].deferred.clone()
    }

    /// <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>: up to two more times, with one
    /// minute before the first and two before the second; up to six hours in the queue; no destinations.
    #[test]
    fn a_function_that_says_nothing_has_the_defaults_of_aws() {
        for more in ["", ", async: {}"] {
            let deferred = of_it(more);
            assert_eq!(deferred.retries, 2, "{more:?}");
            assert_eq!(deferred.max_age, Duration::from_secs(6 * 60 * 60));
            assert_eq!(deferred.destinations, Destinations::default());
            let policy = deferred.retry();
            assert_eq!(policy.attempts, 3, "the first and two more");
            let longest = [1, 2].map(|failed| policy.wait(failed, u16::MAX));
            assert_eq!(longest, [60, 120].map(Duration::from_secs));
        }
    }

    #[test]
    fn what_is_said_changes_nothing_else() {
        let deferred = of_it(", async: {retries: 1}");
        let said = Deferred {
            retries: 1,
            ..of_it("")
        };
        assert_eq!(deferred, said);
    }

    #[test]
    fn mistakes_are_named() {
        for (policy, told) in [
            ("{retries: 3}", "3 is out of range"),
            ("{retrys: 1}", "unknown key `retrys`"),
            ("{backoff: 2h}", "`2h` is out of range"),
            ("{max_age: 7h}", "`7h` is out of range"),
            ("{on_failure: othr}", "there is no workload `othr`"),
            ("{on_failure: a/b/c}", "`a/b/c` is not a workload"),
            ("{on_success: it}", "`it` cannot be its own destination"),
        ] {
            assert_eq!(messages(policy), [told], "{policy}");
        }
        let fine = "{retries: 0, max_age: 1m, backoff: 1s, on_success: events, on_failure: other}";
        assert_eq!(messages(fine), [""; 0]);
    }
}
