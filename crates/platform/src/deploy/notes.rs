//! What this server makes of an app that the app's manifest alone does not tell: said to whoever deploys it.

use std::sync::Arc;

use access::Secrets;
use model::{App, Route, RouteTarget, Run};

use crate::apps::{Live, LiveApp};

/// Notes on `app`, beside what is live.
pub(super) fn notes(app: &App, live: &Live, secrets: &Secrets) -> Vec<String> {
    let mut notes = Vec::new();
    for workload in app.workloads.values() {
        if let Run::Container {
            login: Some(login), ..
        } = &workload.run
            && !secrets.missing([&login.password]).is_empty()
        {
            let (name, password) = (&workload.name, &login.password);
            notes.push(format!(
                "the image of `{name}` cannot be pulled as `{}`: {password} is not among this server's secrets",
                login.user
            ));
        }
        let missing = secrets.missing(&workload.secrets);
        if !missing.is_empty() {
            let (name, missing) = (&workload.name, missing.join(", "));
            notes.push(format!(
                "`{name}` starts without {missing}: not among this server's secrets"
            ));
        }
    }
    for (name, key) in &app.keys {
        let missing = secrets.missing(&key.secrets);
        if !missing.is_empty() {
            let missing = missing.join(", ");
            notes.push(format!(
                "the key `{name}` does not open with {missing}: not among this server's secrets"
            ));
        }
        let short = |name: &&String| {
            let value = secrets.get(name);
            value.is_some_and(|value| value.len() < access::bearer::SHORTEST)
        };
        for secret in key.secrets.iter().filter(short) {
            notes.push(format!(
                "the key `{name}` does not open with {secret}: it is shorter than {} bytes",
                access::bearer::SHORTEST
            ));
        }
    }
    let takes_events = |route: &&Route| route.to == RouteTarget::Events && route.before.is_empty();
    if !app.keys.is_empty()
        && let Some(open) = app.routes.iter().find(takes_events)
    {
        notes.push(format!(
            "the route `{}` takes events from anyone: the app's keys are asked for at `/_tangelo/bus/{}/events` only; \
             leave the route out, or ask a workload `before` it",
            open.path, app.name
        ));
    }
    // Who was there first has a route.
    let earlier = live.apps.iter().take_while(|other| other.name != app.name);
    let earlier: Vec<_> = earlier.collect();
    for route in &app.routes {
        let has_it = |other: &&&Arc<LiveApp>| {
            let theirs = &other.app.routes;
            theirs.iter().any(|theirs| overlap(route, theirs))
        };
        if let Some(other) = earlier.iter().find(has_it) {
            notes.push(format!(
                "the route `{}` is not served: app `{}` has it already; give one of them a `host`",
                route.path, other.name
            ));
        }
    }
    notes
}

/// Whether some request would be for both.
fn overlap(ours: &Route, theirs: &Route) -> bool {
    let methods = ours.methods.is_empty()
        || theirs.methods.is_empty()
        || ours.methods.iter().any(|one| theirs.methods.contains(one));
    methods && manifest::shape(ours) == manifest::shape(theirs)
}

#[cfg(test)]
mod tests {
    use model::Limits;

    use super::*;

    fn routes(text: &str) -> Vec<Route> {
        let manifest = format!(
            "app: a\nworkloads:\n  w: {{as: service, run: {{external: {{url: \"http://127.0.0.1:1\"}}}}}}\n\
             gateway: {{routes: [{text}]}}\n"
        );
        let parsed = manifest::parse(&manifest, "tangelo.yaml", &Limits::default());
        parsed.app.expect("is a manifest").routes
    }

    #[test]
    fn routes_overlap_where_a_request_would_be_for_both() {
        let check = |ours: &str, theirs: &str, expected: bool| {
            let (ours, theirs) = (routes(ours), routes(theirs));
            assert_eq!(
                overlap(&ours[0], &theirs[0]),
                expected,
                "{ours:?} {theirs:?}"
            );
        };
        let (id, name) = ("{path: '/a/{id}', to: w}", "{path: '/a/{name}', to: w}");
        check(id, name, true);
        check(
            "{path: /a, to: w}",
            "{path: /a, methods: [GET], to: w}",
            true,
        );
        let (get, post) = (
            "{path: /a, methods: [GET], to: w}",
            "{path: /a, methods: [POST], to: w}",
        );
        check(get, post, false);
        check(
            "{path: /a, to: w}",
            "{path: /a, host: x.example, to: w}",
            false,
        );
        check("{path: /a, to: w}", "{path: /a/*, to: w}", false);
    }
}
