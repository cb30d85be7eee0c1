//! Files: restarts, kills, damage, retention, bounds.

use std::{fs, path::Path, time::Duration};

use model::{ByteSize, TraceId};
use telemetry::{Error, LogQuery, Options, OtlpExport, Sampling, Telemetry, TraceQuery};

use crate::{House, START, line, options, span};

#[tokio::test]
async fn a_restart_reads_what_was_written_before() {
    let house = House::new();
    let first = house.open();
    first.span(span(1, 1, None, "web", 0));
    first.log(line("web", 1, 1, "hello", START));
    first.close().await;
    let second = house.open();
    second.span(span(2, 1, None, "web", 1));
    assert_eq!(second.traces(TraceQuery::default()).len(), 2);
    assert_eq!(second.trace(TraceId(1)).map(|t| t.logs.len()), Some(1));
    second.close().await;
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_written_too() {
    let house = House::new();
    let first = house.open();
    first.span(span(1, 2, Some(1), "orders", 0));
    first.close().await;
    let second = house.open();
    assert_eq!(second.trace(TraceId(1)).map(|t| t.spans.len()), Some(1));
    second.close().await;
}

#[tokio::test]
async fn a_killed_servers_file_reads_up_to_what_was_written() {
    let house = House::new();
    let killed = house.open();
    for trace in 1..=20 {
        killed.span(span(trace, 1, None, "web", 0));
        killed.flush();
    }
    let left = tempfile::tempdir().expect("temp dir");
    copy(&house.path(), left.path());
    killed.close().await;
    let journal = left.path().join("telemetry-1.db-wal");
    let length = fs::metadata(&journal)
        .expect("a kill leaves the journal")
        .len();
    for torn in [0, 1, 100, 4_096, 20_000] {
        let dir = tempfile::tempdir().expect("temp dir");
        copy(left.path(), dir.path());
        let file = fs::File::options()
            .write(true)
            .open(dir.path().join("telemetry-1.db-wal"));
        file.expect("opens").set_len(length - torn).expect("cuts");
        let telemetry = Telemetry::open(options(dir.path(), &house.clock)).expect("opens");
        let found = telemetry.traces(TraceQuery::default()).len();
        assert!(
            if torn == 0 {
                found == 20
            } else {
                (10..20).contains(&found)
            },
            "{torn}: {found}"
        );
        telemetry.span(span(99, 1, None, "web", 0));
        assert!(telemetry.trace(TraceId(99)).is_some());
        telemetry.close().await;
    }
}

#[tokio::test]
async fn damage_in_the_middle_costs_blocks_and_nothing_else() {
    let house = House::new();
    let first = house.open();
    for trace in 1..=50 {
        first.span(span(trace, 1, None, "web", 0));
        first.log(line("web", 1, trace, &"x".repeat(5_000), START));
        first.flush();
    }
    first.close().await;
    let path = house.path().join("telemetry-1.db");
    let mut bytes = fs::read(&path).expect("reads");
    let (start, end) = (bytes.len() / 3, bytes.len() / 2);
    bytes[start..end].fill(0xa5);
    fs::write(&path, bytes).expect("writes");
    let second = house.open();
    let _ = (
        second.traces(TraceQuery::default()),
        second.logs(LogQuery::default()),
    );
    (1..=50).for_each(|trace| drop(second.trace(TraceId(trace))));
    second.span(span(99, 1, None, "web", 0));
    second.flush();
    second.span(span(100, 1, None, "web", 0));
    assert!(second.trace(TraceId(100)).is_some());
    second.close().await;
}

#[tokio::test]
async fn retention_forgets_old_traces_and_keeps_newer_ones() {
    let house = House::new();
    let telemetry = house.open();
    for hour in 0..72u32 {
        let after = u64::from(hour) * 3_600_000;
        telemetry.span(span(u128::from(hour) + 1, 1, None, "web", after));
        telemetry.flush();
        house.clock.advance(Duration::from_secs(3600));
    }
    assert!(telemetry.trace(TraceId(1)).is_none());
    assert!(telemetry.trace(TraceId(40)).is_none());
    assert!(telemetry.trace(TraceId(52)).is_some());
    assert!(telemetry.trace(TraceId(72)).is_some());
    assert!(telemetry.stats().files <= 11, "{:?}", telemetry.stats());
    telemetry.close().await;
}

#[tokio::test]
async fn a_ring_that_overflows_counts_what_it_lost() {
    let house = House::new();
    let sampling = Sampling {
        memory: ByteSize::kib(64),
        ..Sampling::default()
    };
    let options = Options {
        sampling,
        ..options(&house.path(), &house.clock)
    };
    let telemetry = Telemetry::open(options).expect("opens");
    for id in 1..=5_000 {
        telemetry.span(span(1, id, Some(9), "web", 0));
        telemetry.log(line("web", 1, 1, "a line of some length", START));
    }
    telemetry.flush();
    let stats = telemetry.stats();
    assert!(stats.spans_lost > 0 && stats.logs_lost > 0, "{stats:?}");
    assert_eq!(stats.spans + stats.spans_lost, 5_000);
    assert_eq!(stats.logs + stats.logs_lost, 5_000);
    telemetry.close().await;
}

#[test]
fn what_cannot_be_opened_says_why() {
    let house = House::new();
    fs::write(house.path(), "a file, not a folder").expect("writes");
    let folder = Telemetry::open(options(&house.path(), &house.clock));
    assert!(matches!(folder, Err(Error::Folder { .. })));
    let otlp = Some(OtlpExport::new("https://collector:4318"));
    let options = Options {
        otlp,
        ..options(&house.dir.path().join("other"), &house.clock)
    };
    let Err(error) = Telemetry::open(options) else {
        panic!("opened with a collector that it cannot reach");
    };
    assert!(
        error.to_string().contains("https://collector:4318"),
        "{error}"
    );
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("lists") {
        let path = entry.expect("entry").path();
        fs::copy(&path, to.join(path.file_name().expect("has a name"))).expect("copies");
    }
}
