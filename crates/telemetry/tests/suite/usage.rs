//! Usage: counted for every invocation, in the store after a restart, and in Prometheus' text.

use std::{path::Path, time::Duration};

use model::{Clock, ColdStart, Name, Tier, Usage};
use prometheus_client::metrics::gauge::Gauge;
use telemetry::{ColdStarts, Options, Telemetry, UsageFilter, UsageKey, UsageRow};

use crate::{House, options};

fn key(workload: &'static str, trigger: &'static str) -> UsageKey {
    let (app, workload) = (Name::literal("shop"), Name::literal(workload));
    UsageKey::new(app, workload, Tier::Function, trigger)
}

fn took(millis: u64) -> Usage {
    Usage {
        wall: Duration::from_millis(millis),
        cpu: Duration::from_millis(1),
        memory: millis << 20,
        bytes_in: 10,
        bytes_out: 20,
        cold_start: None,
    }
}

fn cold() -> ColdStart {
    ColdStart {
        wait: Duration::from_millis(1),
        load: Duration::from_millis(2),
        spawn: Duration::from_millis(3),
        extensions: Duration::from_millis(5),
        init: Duration::from_millis(4),
        template: false,
    }
}

fn store(dir: &Path, clock: &Clock) -> store::Store {
    store::Store::open(store::Options::new(dir, clock.clone())).expect("opens")
}

fn with_ledger(house: &House, store: &store::Store) -> Telemetry {
    let ledger = Some(store.clone());
    let options = Options {
        ledger,
        ..options(&house.path(), &house.clock)
    };
    Telemetry::open(options).expect("opens")
}

async fn report(telemetry: &Telemetry, filter: UsageFilter) -> Vec<UsageRow> {
    let telemetry = telemetry.clone();
    let asked = tokio::task::spawn_blocking(move || telemetry.usage_report(filter));
    asked.await.expect("answers")
}

#[tokio::test]
async fn a_report_adds_up_by_workload() {
    let house = House::new();
    let telemetry = house.open();
    for n in 1..=100 {
        telemetry.usage(&key("auth", "route"), &took(n), n % 10 > 0);
    }
    let woken = Usage {
        cold_start: Some(cold()),
        ..took(50)
    };
    telemetry.usage(&key("auth", "event"), &woken, true);
    telemetry.usage(&key("other", "route"), &took(1), true);
    let filter = UsageFilter {
        workload: Some(Name::literal("auth")),
        ..UsageFilter::default()
    };
    let rows = report(&telemetry, filter).await;
    let [auth] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!(
        (auth.requests, auth.errors, auth.memory),
        (101, 10, 100 << 20)
    );
    assert_eq!(
        (auth.bytes_in, auth.bytes_out, auth.cpu_us),
        (1_010, 2_020, 101_000)
    );
    assert!((48_000..=52_500).contains(&auth.p50_us), "{}", auth.p50_us);
    assert!((96_000..=103_000).contains(&auth.p99_us), "{}", auth.p99_us);
    let phases = ColdStarts {
        count: 1,
        wait_us: 1_000,
        load_us: 2_000,
        spawn_us: 3_000,
        extensions_us: 5_000,
        init_us: 4_000,
    };
    assert_eq!(auth.cold_starts, phases);
    assert_eq!(auth.triggers.get("route"), Some(&100));
    assert_eq!(report(&telemetry, UsageFilter::default()).await.len(), 2);
    telemetry.close().await;
}

#[tokio::test]
async fn usage_outlives_the_server_and_is_counted_once() {
    let house = House::new();
    let state = house.dir.path().join("state");
    let mut expected = 0;
    for boot in 1..=3u64 {
        let store = store(&state, &house.clock);
        let telemetry = with_ledger(&house, &store);
        for _ in 0..3 {
            (0..boot).for_each(|_| telemetry.usage(&key("auth", "route"), &took(10), true));
            expected += boot;
            let flushing = telemetry.clone();
            tokio::task::spawn_blocking(move || flushing.flush())
                .await
                .expect("flushes");
            assert_eq!(
                report(&telemetry, UsageFilter::default()).await[0].requests,
                expected
            );
            house.clock.advance(Duration::from_secs(3600));
        }
        telemetry.close().await;
        store.close().await.expect("closes");
    }
    let store = store(&state, &house.clock);
    let telemetry = with_ledger(&house, &store);
    let all = report(&telemetry, UsageFilter::default()).await;
    assert_eq!(all[0].requests, 18);
    assert!(
        (9_700..=10_300).contains(&all[0].p50_us),
        "{}",
        all[0].p50_us
    );
    let since = house.clock.now() - Duration::from_secs(3 * 3600);
    let lately = report(
        &telemetry,
        UsageFilter {
            since,
            ..UsageFilter::default()
        },
    )
    .await;
    assert_eq!(lately[0].requests, 9);
    telemetry.close().await;
    store.close().await.expect("closes");
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let house = House::new();
    let telemetry = house.open();
    telemetry.usage(&key("auth", "route"), &took(3), true);
    telemetry.usage(&key("auth", "route"), &took(30), false);
    telemetry.usage(
        &key("auth", "event"),
        &Usage {
            cold_start: Some(cold()),
            ..took(7)
        },
        true,
    );
    let text = telemetry.metrics_text(|registry| {
        let gauge: Gauge = Gauge::default();
        gauge.set(7);
        registry.register("tangelo_instances", "Instances", gauge);
    });
    insta::assert_snapshot!(text);
    telemetry.close().await;
}
