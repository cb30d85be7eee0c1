//! What one invocation leaves behind in telemetry: its span, and a span per phase of a cold start.

use std::{sync::Arc, time::Duration};

use model::{ColdStart, Outcome, Time, Trigger, Usage};
use telemetry::{Attributes, Span, SpanKind};

use super::tally::Open;

pub(super) fn record(open: &Open, usage: &Usage, outcome: &Outcome) {
    let callee = open.permit.callee();
    let telemetry = &open.door.0.telemetry;
    if let Some(cold) = usage.cold_start {
        phases(open, cold)
            .into_iter()
            .for_each(|span| telemetry.span(span));
    }
    telemetry.span(Span {
        trace: open.spans.parent.trace,
        id: open.spans.own,
        parent: open.spans.parent.parent,
        name: callee.target.workload.shared().into(),
        kind: kind(&open.invocation.trigger),
        start: open.began,
        end: open.began + usage.wall,
        app: Some(callee.target.app.clone()),
        workload: Some(callee.target.workload.clone()),
        invocation: Some(open.invocation.id),
        error: error_text(outcome),
        attributes: attributes(open, usage, outcome),
        local_root: is_root(open),
    });
}

/// The gateway's span is the root of its requests; what no request waits for is a root of its own.
fn is_root(open: &Open) -> bool {
    matches!(
        open.invocation.trigger,
        Trigger::Event { .. } | Trigger::Direct | Trigger::Accepted(_)
    )
}

const fn kind(trigger: &Trigger) -> SpanKind {
    match trigger {
        Trigger::Event { .. } => SpanKind::Consumer,
        _ => SpanKind::Server,
    }
}

/// Whether its span says that it failed.
pub(super) const fn is_error(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Failed(_) | Outcome::CutOff => true,
        Outcome::Done { status } => *status >= 500,
        Outcome::Batch(_) => false,
    }
}

fn error_text(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Failed(error) => Some(error.to_string()),
        Outcome::Done { status } if *status >= 500 => Some(format!("answered {status}")),
        Outcome::CutOff => Some("the caller went away".to_owned()),
        Outcome::Done { .. } | Outcome::Batch(_) => None,
    }
}

/// Names after OpenTelemetry's semantic conventions for FaaS, HTTP and messaging.
fn attributes(open: &Open, usage: &Usage, outcome: &Outcome) -> Attributes {
    let callee = open.permit.callee();
    let mut all = Attributes::with_room(7);
    all.push("faas.trigger", open.invocation.trigger.kind());
    all.push("faas.coldstart", usage.cold_start.is_some());
    all.push("tangelo.tier", callee.tier().as_str());
    all.push("tangelo.runtime", callee.workload.run.kind());
    all.push("tangelo.version", Arc::clone(&callee.version_text));
    if let Outcome::Done { status } = outcome {
        all.push("http.response.status_code", i64::from(*status));
    }
    if open.invocation.attempt > 1 {
        all.push("tangelo.attempt", i64::from(open.invocation.attempt));
    }
    // OpenTelemetry's name for a request that went out again, here on another connection.
    if open.resent() > 0 {
        all.push("http.request.resend_count", i64::from(open.resent()));
    }
    if !usage.cpu.is_zero() {
        all.push(
            "tangelo.cpu_us",
            i64::try_from(usage.cpu.as_micros()).unwrap_or(i64::MAX),
        );
    }
    if let Trigger::Event {
        subscription,
        event,
        ..
    } = &open.invocation.trigger
    {
        all.push("messaging.message.id", event.to_string());
        all.push(
            "messaging.destination.subscription.name",
            subscription.to_string(),
        );
    }
    all
}

/// One span per phase that took time, one after another from the invocation's beginning.
fn phases(open: &Open, cold: ColdStart) -> Vec<Span> {
    let mut at = open.began;
    let mut spans = Vec::new();
    for (name, took) in named(cold) {
        spans.push(phase(open, name, at, at + took));
        at = at + took;
    }
    spans
}

/// The phases that took time, in their order.
fn named(cold: ColdStart) -> impl Iterator<Item = (&'static str, Duration)> {
    // What was made of a warm template shows as that.
    let spawn = if cold.template {
        "cold start: template"
    } else {
        "cold start: spawn"
    };
    let all = [
        ("cold start: wait", cold.wait),
        ("cold start: load", cold.load),
        (spawn, cold.spawn),
        ("cold start: extensions", cold.extensions),
        ("cold start: init", cold.init),
    ];
    all.into_iter().filter(|(_, took)| *took > Duration::ZERO)
}

fn phase(open: &Open, name: &'static str, start: Time, end: Time) -> Span {
    let target = &open.permit.callee().target;
    Span {
        trace: open.spans.parent.trace,
        id: open.door.0.ids.span(),
        parent: Some(open.spans.own),
        name: name.into(),
        kind: SpanKind::Internal,
        start,
        end,
        app: Some(target.app.clone()),
        workload: Some(target.workload.clone()),
        invocation: Some(open.invocation.id),
        error: None,
        attributes: Attributes::default(),
        local_root: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cold: ColdStart, expected: &[(&str, u64)]) {
        let phases = named(cold).map(|(name, took)| (name, took.as_millis()));
        let expected = expected
            .iter()
            .map(|(name, took)| (*name, u128::from(*took)));
        assert_eq!(phases.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_cold_start_names_its_warm_template_or_its_boot_and_no_phase_that_took_no_time() {
        let booted = ColdStart {
            wait: Duration::from_millis(1),
            load: Duration::from_millis(2),
            spawn: Duration::from_millis(3),
            extensions: Duration::from_millis(4),
            init: Duration::from_millis(5),
            template: false,
        };
        check(
            booted,
            &[
                ("cold start: wait", 1),
                ("cold start: load", 2),
                ("cold start: spawn", 3),
                ("cold start: extensions", 4),
                ("cold start: init", 5),
            ],
        );
        let forked = ColdStart {
            spawn: Duration::from_millis(3),
            init: Duration::from_millis(5),
            template: true,
            ..ColdStart::default()
        };
        check(
            forked,
            &[("cold start: template", 3), ("cold start: init", 5)],
        );
        check(ColdStart::default(), &[]);
    }
}
