//! What an event costs against 1 to 100,000 patterns of which it matches one, and what these take of memory: what
//! `cargo xtask bench patterns` runs. `--json`: a line per figure; `--seconds N`: how long each is measured.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::{hint::black_box, time::Duration};

use model::{Clock, Event};
use pattern::{Index, Pattern};
use serde_json::{Value, json};

/// As the server has it: what many patterns cost is where their memory lies.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many patterns there are.
const COUNTS: [usize; 4] = [1, 100, 10_000, 100_000];
/// Different events, each of which matches one pattern.
const EVENTS: usize = 512;
/// How many patterns are tried one by one, to compare.
const ONE_BY_ONE: usize = 10_000;

/// Patterns, and the events that match one of them.
struct Kind {
    name: &'static str,
    pattern: fn(usize) -> Value,
    event: fn(usize) -> Value,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "exact values in a type that all ask for",
        pattern: |n| json!({"type": ["order.created"], "data": {"customer": [format!("c-{n}")]}}),
        event: |n| data(json!({"customer": format!("c-{n}")})),
    },
    Kind {
        name: "pairs of values that many have each",
        pattern: |n| json!({"type": ["order.created"], "data": {"shop": [n / 300], "product": [format!("p-{}", n % 300)]}}),
        event: |n| data(json!({"shop": n / 300, "product": format!("p-{}", n % 300)})),
    },
    Kind {
        name: "all tests of the language",
        pattern: every_test,
        event: |n| match n % 8 {
            0 | 6 => data(json!({"customer": format!("c-{n}"), "total": 1})),
            1 => data(json!({"path": format!("/in/{n}/x")})),
            2 => data(json!({"path": format!("x-{n}.png")})),
            3 => data(json!({"path": format!("x-{n}-y")})),
            4 => data(json!({"weight": n * 10 + 5})),
            5 => data(
                json!({"address": format!("10.{}.{}.7", n / 256 % 256, n % 256), "block": n / 65_536}),
            ),
            _ => data(json!({"name": format!("NAME-{n}"), "total": 1})),
        },
    },
];

fn every_test(n: usize) -> Value {
    let data = match n % 8 {
        0 => json!({"customer": [format!("c-{n}"), format!("d-{n}")]}),
        1 => json!({"path": [{"prefix": format!("/in/{n}/")}]}),
        2 => json!({"path": [{"suffix": format!("-{n}.png")}]}),
        3 => json!({"path": [{"wildcard": format!("*-{n}-*")}]}),
        4 => json!({"weight": [{"numeric": [">=", n * 10, "<", n * 10 + 10]}]}),
        5 => json!({
            "address": [{"cidr": format!("10.{}.{}.0/24", n / 256 % 256, n % 256)}],
            "block": [n / 65_536],
        }),
        6 => json!({
            "customer": [format!("c-{n}")], "total": [{"anything-but": [0, 7]}], "gone": [{"exists": false}],
        }),
        _ => {
            json!({"name": [{"equals-ignore-case": format!("name-{n}")}], "total": [{"exists": true}]})
        }
    };
    json!({"type": [{"prefix": "order."}], "data": data})
}

fn data(fields: Value) -> Value {
    let mut data = json!({"currency": "EUR", "note": "please ring twice", "items": [{"sku": "a", "count": 2}]});
    if let (Some(data), Value::Object(fields)) = (data.as_object_mut(), fields) {
        data.extend(fields);
    }
    data
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let seconds = arguments
        .iter()
        .position(|argument| argument == "--seconds");
    let seconds = seconds.and_then(|at| arguments.get(at + 1)?.parse().ok());
    let span = Duration::from_secs(seconds.unwrap_or(2));
    let clock = Clock::system();
    for kind in &KINDS {
        let costs: Vec<f64> = COUNTS
            .iter()
            .map(|count| measure(json, &clock, kind, *count, span))
            .collect();
        let of = |count| costs[COUNTS.iter().position(|c| *c == count).unwrap_or(0)];
        let growth = of(100_000) / of(100);
        show(
            json,
            &format!("{}: cost of an event, 100,000 ÷ 100", kind.name),
            growth,
        );
        one_by_one(json, &clock, kind, span);
    }
}

/// Seconds for an event.
fn measure(json: bool, clock: &Clock, kind: &Kind, count: usize, span: Duration) -> f64 {
    let before = resident();
    let mut index = Index::default();
    let begun = clock.monotonic();
    for key in 0..count {
        index.insert(key, &compiled(kind, key));
    }
    let built = (clock.monotonic() - begun).as_secs_f64();
    let bytes = resident().saturating_sub(before);
    let events = events(kind, count);
    for (event, key) in &events {
        assert_eq!(index.matches(event), [*key], "{}", kind.name);
    }
    let (cost, cpu) = timed(clock, &events, span, |event| index.matches(event).len());
    let name = |what: &str| format!("{}: {what}, {count} patterns", kind.name);
    show(json, &name("events per second"), 1.0 / cost);
    if let Some(cpu) = cpu {
        show(json, &name("CPU seconds for 10 million events"), cpu * 1e7);
    }
    if count >= 10_000 {
        #[allow(clippy::cast_precision_loss, reason = "a figure to read")]
        let (bytes, count) = (bytes as f64, count as f64);
        show(json, &name("bytes of memory per pattern"), bytes / count);
        show(json, &name("patterns added per second"), count / built);
    }
    cost
}

/// What trying each pattern costs.
fn one_by_one(json: bool, clock: &Clock, kind: &Kind, span: Duration) {
    let patterns: Vec<Pattern> = (0..ONE_BY_ONE).map(|key| compiled(kind, key)).collect();
    let events = events(kind, ONE_BY_ONE);
    let (cost, _) = timed(clock, &events, span, |event| {
        let matching = patterns
            .iter()
            .filter(|pattern| pattern.matches_event(event));
        matching.count()
    });
    let name = format!(
        "{}: events per second, {ONE_BY_ONE} patterns one by one",
        kind.name
    );
    show(json, &name, 1.0 / cost);
}

fn compiled(kind: &Kind, key: usize) -> Pattern {
    Pattern::compile(&(kind.pattern)(key)).expect("is a pattern")
}

/// Events spread over all patterns, with the one that each matches.
fn events(kind: &Kind, count: usize) -> Vec<(Event, usize)> {
    let event = |n: usize| {
        let key = n * 7919 % count;
        let event = json!({
            "specversion": "1.0", "id": n.to_string(), "source": "/shop", "type": "order.created", "data": (kind.event)(key),
        });
        (Event::from_json(event).expect("is one"), key)
    };
    (0..EVENTS).map(event).collect()
}

/// Seconds for an event: by the clock, and of a processor, where the kernel tells.
fn timed(
    clock: &Clock,
    events: &[(Event, usize)],
    span: Duration,
    look: impl Fn(&Event) -> usize,
) -> (f64, Option<f64>) {
    let (begun, ran) = (clock.monotonic(), ran());
    let mut done = 0_u32;
    for (event, _) in events.iter().cycle() {
        black_box(look(black_box(event)));
        done += 1;
        // To look at the clock each time would be measured, too.
        if done.is_multiple_of(32) && clock.monotonic() - begun >= span {
            break;
        }
    }
    let each = |span: Duration| span.as_secs_f64() / f64::from(done);
    let cpu = self::ran()
        .zip(ran)
        .map(|(after, before)| each(after - before));
    (each(clock.monotonic() - begun), cpu)
}

/// How long this thread has run.
fn ran() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = told.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// Bytes of memory that this process holds, where the kernel tells.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn show(json: bool, metric: &str, figure: f64) {
    let figure = if figure < 100.0 {
        (figure * 100.0).round() / 100.0
    } else {
        figure.round()
    };
    if json {
        let line = json!({"bench": "patterns", "metric": metric, "peer": null, "tangelo": figure, "theirs": null, "ratio": null});
        println!("{line}");
    } else {
        println!("{metric:>90} {figure:>12}");
    }
}
