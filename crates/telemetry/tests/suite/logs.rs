//! Lines: found by workload, invocation, trace and text; followed as they come.

use std::time::Duration;

use model::{Name, TraceId};
use telemetry::{Follow, Followed, LogQuery, LogRecord};

use crate::{House, START, invocation, line};

fn texts(lines: &[LogRecord]) -> Vec<&str> {
    lines.iter().map(|l| l.text.as_str()).collect()
}

async fn next(follow: &mut Follow) -> Followed {
    let next = tokio::time::timeout(Duration::from_secs(20), follow.next()).await;
    next.expect("comes in time").expect("is open")
}

async fn next_text(follow: &mut Follow) -> String {
    match next(follow).await {
        Followed::Record(record) => record.text.clone(),
        Followed::Skipped(lost) => format!("{lost} skipped"),
    }
}

#[tokio::test]
async fn lines_are_found_by_what_they_belong_to() {
    let house = House::new();
    let telemetry = house.open();
    let at = |n: u64| START + Duration::from_millis(n);
    telemetry.log(line("orders", 1, 7, "three items", at(1)));
    telemetry.log(line("confirm", 2, 7, "mail sent", at(3)));
    telemetry.flush();
    telemetry.log(line("orders", 3, 8, "two items", at(2)));
    let found = |query: LogQuery| -> Vec<String> {
        texts(&telemetry.logs(query))
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    let all = LogQuery::default();
    assert_eq!(
        found(all.clone()),
        ["three items", "two items", "mail sent"]
    );
    let orders = Some(Name::literal("orders"));
    assert_eq!(
        found(LogQuery {
            workload: orders,
            ..all.clone()
        }),
        ["three items", "two items"]
    );
    let second = Some(invocation(2));
    assert_eq!(
        found(LogQuery {
            invocation: second,
            ..all.clone()
        }),
        ["mail sent"]
    );
    let trace = Some(TraceId(7));
    assert_eq!(
        found(LogQuery {
            trace,
            ..all.clone()
        }),
        ["three items", "mail sent"]
    );
    let text = Some("two".to_owned());
    assert_eq!(
        found(LogQuery {
            text,
            ..all.clone()
        }),
        ["two items"]
    );
    assert_eq!(
        found(LogQuery {
            since: at(2),
            ..all.clone()
        }),
        ["two items", "mail sent"]
    );
    assert_eq!(
        found(LogQuery {
            limit: 1,
            ..all.clone()
        }),
        ["mail sent"]
    );
    assert!(
        found(LogQuery {
            app: Some(Name::literal("other")),
            ..all
        })
        .is_empty()
    );
    telemetry.close().await;
}

#[tokio::test]
async fn many_lines_come_back_in_order_over_several_blocks() {
    let house = House::new();
    let telemetry = house.open();
    for n in 0..3_000u64 {
        let text = format!("{n} {}", "x".repeat(300));
        telemetry.log(line("web", 1, 1, &text, START + Duration::from_micros(n)));
        if n % 700 == 0 {
            telemetry.flush();
        }
    }
    let lines = telemetry.logs(LogQuery {
        limit: 2_500,
        ..LogQuery::default()
    });
    let numbers: Vec<u64> = lines
        .iter()
        .map(|l| {
            l.text
                .split(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .expect("a number")
        })
        .collect();
    assert_eq!(numbers, (500..3_000).collect::<Vec<u64>>());
    assert!(telemetry.stats().blocks > 5);
    telemetry.close().await;
}

#[tokio::test]
async fn following_gives_history_once_and_then_what_comes() {
    let house = House::new();
    let telemetry = house.open();
    telemetry.log(line("web", 1, 1, "before", START));
    let query = LogQuery {
        workload: Some(Name::literal("web")),
        ..LogQuery::default()
    };
    let mut follow = telemetry.follow(query);
    telemetry.log(line("orders", 1, 1, "of another", START));
    telemetry.log(line("web", 1, 1, "after", START));
    assert_eq!(next_text(&mut follow).await, "before");
    assert_eq!(next_text(&mut follow).await, "after");
    telemetry.close().await;
    assert_eq!(follow.next().await, None);
}

#[tokio::test]
async fn a_slow_follower_is_told_what_it_missed() {
    let house = House::new();
    let telemetry = house.open();
    let mut follow = telemetry.follow(LogQuery {
        limit: 0,
        ..LogQuery::default()
    });
    for n in 0..10_000 {
        telemetry.log(line("web", 1, 1, &n.to_string(), START));
    }
    let Followed::Skipped(lost) = next(&mut follow).await else {
        panic!("lost nothing of ten thousand lines");
    };
    assert_eq!(next_text(&mut follow).await, lost.to_string());
    telemetry.close().await;
}
