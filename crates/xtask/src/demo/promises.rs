//! What the demonstration promises, each as a condition on what was seen.

use serde::Serialize;
use serde_json::Value;

use super::{
    facts::{Evidence, Trace},
    traffic::Visit,
};

/// A promise and whether it was kept.
#[derive(Debug, Serialize)]
pub(super) struct Promise {
    pub(super) what: String,
    pub(super) kept: bool,
    /// What was seen instead, when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instead: Option<String>,
}

/// Statuses that the visit must have seen.
const STATUSES: &[(&str, u16, &str)] = &[
    ("health", 200, "a function answers inline on a route"),
    (
        "preflight",
        204,
        "a function answers preflights for the whole API",
    ),
    ("catalogue", 200, "the catalogue answers"),
    ("no film", 404, "an unknown film is a 404 of the service"),
    ("no route", 404, "an unknown path is a 404 of the gateway"),
    (
        "poster",
        200,
        "a JavaScript component draws posters from what a service says",
    ),
    ("wrong password", 401, "a wrong password signs nobody in"),
    ("sign-in", 200, "a Lambda handler signs in"),
    (
        "no token",
        401,
        "without a token, `auth` stops an order before the service",
    ),
    ("forged token", 401, "a forged token is found out"),
    ("named itself", 401, "a client cannot name itself a user"),
    (
        "partner",
        200,
        "an HS256 token of a partner is verified too",
    ),
    (
        "unknown film",
        422,
        "an order of an unknown film is refused, with the reason",
    ),
    ("inside", 404, "what is only inside has no route"),
    ("order", 201, "an order is placed"),
    ("the same order", 200, "the same key gives the same order"),
    ("declined card", 402, "a declined card pays nothing"),
    ("payment", 200, "an order is paid"),
    ("queued order", 202, "an order is accepted for later"),
];

/// Answers that are not 2xx and must say why in a problem document.
const PROBLEMS: &[&str] = &[
    "no film",
    "no route",
    "wrong password",
    "no token",
    "forged token",
    "unknown film",
    "declined card",
];

/// Judges.
pub(super) fn check(visit: &Visit, evidence: &Evidence) -> Vec<Promise> {
    let mut all: Vec<Promise> = STATUSES
        .iter()
        .map(|(name, status, what)| answered(visit, name, *status, what))
        .collect();
    all.push(problems(visit));
    all.push(pages(visit));
    all.push(expect(
        "all 3,201 films are there",
        &body(visit, "catalogue")["total"],
        &Value::from(3201),
    ));
    all.push(expect(
        "the repeated order is the first one",
        &body(visit, "the same order")["id"],
        &body(visit, "order")["id"],
    ));
    all.push(preflight(visit));
    all.extend(events(visit, evidence));
    all.push(through(
        &evidence.trace,
        "sign-in: gateway, function, event, function, service",
        &["sign-in", "analytics", "live"],
    ));
    let names = [
        "auth",
        "orders",
        "catalog",
        "confirm",
        "fraud",
        "analytics",
        "live",
    ];
    all.push(through(
        &evidence.order_trace,
        "an order, with all that it causes",
        &names,
    ));
    all.push(truth(
        "a WebSocket pushes the dashboard's totals",
        visit.pushed.as_ref().is_some_and(|p| p.contains("totals")),
        &visit.pushed,
    ));
    all.extend(workloads(evidence));
    all
}

fn answered(visit: &Visit, name: &str, status: u16, what: &str) -> Promise {
    let seen = visit.answers.get(name);
    let instead = || seen.map(|answer| format!("{}: {}", answer.status, answer.body));
    truth(
        what,
        seen.is_some_and(|answer| answer.status == status),
        &instead(),
    )
}

fn problems(visit: &Visit) -> Promise {
    let is_problem = |name: &&&str| {
        visit
            .answers
            .get(**name)
            .is_some_and(|answer| answer.content_type.starts_with("application/problem+json"))
    };
    let others: Vec<_> = PROBLEMS.iter().filter(|name| !is_problem(name)).collect();
    truth(
        "every refusal is a problem document",
        others.is_empty(),
        &others,
    )
}

fn pages(visit: &Visit) -> Promise {
    let what = format!("{} pages are browsed without an error", visit.pages);
    truth(
        &what,
        visit.bad_pages == 0,
        &format!("{} errors", visit.bad_pages),
    )
}

fn preflight(visit: &Visit) -> Promise {
    let headers = visit.answers.get("preflight").map(|answer| &answer.headers);
    let allowed = headers.is_some_and(|headers| {
        headers.iter().any(|(name, value)| {
            name == "access-control-allow-origin" && value == "http://localhost:3000"
        })
    });
    truth("the shop's own front end may call", allowed, &headers)
}

fn events(visit: &Visit, evidence: &Evidence) -> Vec<Promise> {
    let orders = visit.orders.len() + usize::from(visit.queued.is_some());
    let totals = &evidence.totals;
    let left: Vec<_> = evidence
        .subscriptions
        .iter()
        .filter(|s| {
            ["backlog", "in_flight", "retrying", "dead"]
                .iter()
                .any(|name| s[*name] != 0)
        })
        .collect();
    vec![
        truth(
            "every delivery ended, and none as a dead letter",
            left.is_empty() && !evidence.subscriptions.is_empty(),
            &left,
        ),
        expect(
            "every order is confirmed by mail, once",
            &Value::from(evidence.confirmed),
            &Value::from(orders),
        ),
        expect(
            "the dashboard counts every order",
            &totals["orders"],
            &Value::from(orders),
        ),
        expect(
            "the dashboard counts every payment",
            &totals["paid"],
            &Value::from(visit.paid),
        ),
        expect(
            "the dashboard's revenue is what was paid",
            &totals["revenue"],
            &Value::from(visit.revenue),
        ),
        expect(
            "the fraud check rates the large order",
            &evidence.order["risk"]["score"],
            &Value::from(70),
        ),
        expect(
            "the order is marked as paid",
            &evidence.order["status"],
            &Value::from("paid"),
        ),
        truth(
            "the queued order is done",
            is_done(&evidence.queued),
            &evidence.queued,
        ),
    ]
}

fn is_done(state: &Value) -> bool {
    state["state"] == "done" || state["status"] == "done"
}

fn through(trace: &Trace, what: &str, names: &[&str]) -> Promise {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !trace.workloads.iter().any(|w| w == **name))
        .collect();
    truth(
        &format!("one trace shows {what}"),
        missing.is_empty(),
        &format!("without {missing:?}"),
    )
}

/// Every workload was used.
fn workloads(evidence: &Evidence) -> Vec<Promise> {
    const ALL: [&str; 11] = [
        "catalog",
        "orders",
        "live",
        "auth",
        "sign-in",
        "health",
        "cors",
        "thumbnails",
        "confirm",
        "fraud",
        "analytics",
    ];
    let used = |name: &&&str| {
        evidence
            .workloads
            .iter()
            .any(|w| w.workload == **name && w.requests > 0)
    };
    let unused: Vec<_> = ALL.iter().filter(|name| !used(name)).collect();
    let subscribers = ["confirm", "fraud", "analytics"];
    let events = |name: &&&str| {
        evidence
            .workloads
            .iter()
            .any(|w| w.workload == **name && w.events > 0)
    };
    let idle: Vec<_> = subscribers.iter().filter(|name| !events(name)).collect();
    vec![
        truth("all eleven workloads worked", unused.is_empty(), &unused),
        truth(
            "events were delivered to three of them",
            idle.is_empty(),
            &idle,
        ),
    ]
}

fn body<'a>(visit: &'a Visit, name: &str) -> &'a Value {
    visit
        .answers
        .get(name)
        .map_or(&Value::Null, |answer| &answer.body)
}

fn expect(what: &str, seen: &Value, expected: &Value) -> Promise {
    truth(
        what,
        seen == expected && !seen.is_null(),
        &format!("{seen} instead of {expected}"),
    )
}

fn truth(what: &str, kept: bool, instead: &impl std::fmt::Debug) -> Promise {
    Promise {
        what: what.to_owned(),
        kept,
        instead: (!kept).then(|| format!("{instead:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_that_was_not_looked_at_is_not_kept() {
        let visit = Visit::default();
        assert!(!answered(&visit, "health", 200, "x").kept);
        assert!(!problems(&visit).kept);
        assert!(!expect("x", &Value::Null, &Value::Null).kept);
    }
}
