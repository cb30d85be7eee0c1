//! What replays and redrives look at: exactly the time that was asked for, and no step for each event; and that what
//! operators do is kept.

use std::time::Duration;

use bus::{DeadLetterFilter, Replay, Settled};
use model::{EventFilter, Name, Subscription, Time, event::EventData};
use serde_json::json;
use store::{Options, crash::Crash};

use crate::fixture::{Fixture, START, all, fault, ids, replay};

const KEY: &str = "shop/w/s";
/// More steps than any test takes.
const MANY: u32 = 1_000_000;

/// A bus, and what counts the chunks of its redrives and replays.
async fn counting() -> (Fixture, Crash) {
    let told = format!("step:{MANY}").parse::<Crash>();
    let crash = told.expect("is a moment");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let clock = model::Clock::virtual_at(START);
    let options = Options {
        crash: crash.clone(),
        ..Options::new(dir.path(), clock.clone())
    };
    (Fixture::with(options, dir, clock).await, crash)
}

fn steps(crash: &Crash) -> u32 {
    MANY - crash.left()
}

async fn subscribe(fixture: &Fixture, filter: serde_json::Value) {
    let subscription = Subscription::new(Name::literal("s"), EventFilter(filter));
    fixture.set(KEY, subscription).await;
}

/// Lets time go on and settles what comes until a job has ended.
async fn ended(fixture: &Fixture, job: u64) -> store::log::Job {
    loop {
        while let Some(delivery) = fixture.next_or_none().await {
            fixture.settle(delivery, Settled::Done).await;
        }
        let found = fixture.bus.job(job).await.expect("reads");
        let found = found.expect("is there");
        if found.ended_at.is_some() {
            return found;
        }
        fixture.clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_slow_replay_takes_no_step_for_what_it_leaves_out() {
    let (fixture, crash) = counting().await;
    subscribe(&fixture, json!({"type": ["rare"]})).await;
    for part in 0..4 {
        fixture.publish("t", part * 1000..=part * 1000 + 899).await;
        let rare = part * 1000 + 900;
        fixture.publish("rare", rare..=rare + 1).await;
    }
    assert_eq!(fixture.drain(8).await.len(), 8);
    let replay = Replay {
        rate: "1/s".parse().ok(),
        ..replay(KEY)
    };
    let begun = fixture.clock.now();
    let job = fixture.bus.start_replay(replay, "anna").await;
    let job = ended(&fixture, job.expect("begins")).await;
    assert_eq!((job.done, job.skipped), (8, 0));
    assert!(fixture.clock.now().since(begun) >= Duration::from_secs(7));
    let steps = steps(&crash);
    assert!(
        (8..=25).contains(&steps),
        "{steps} steps for 8 of 3,608 events"
    );
}

#[tokio::test]
async fn a_slow_redrive_takes_no_step_for_what_it_leaves_out() {
    let (fixture, crash) = counting().await;
    subscribe(&fixture, all()).await;
    fixture.publish("t", 1..=300).await;
    fixture.publish("rare", 301..=303).await;
    for _ in 0..303 {
        let delivery = fixture.next().await;
        fixture.settle(delivery, Settled::Dead(fault())).await;
    }
    let filter = DeadLetterFilter {
        kind: Some("rare".to_owned()),
        ..DeadLetterFilter::default()
    };
    let rate = "1/s".parse().expect("is a rate");
    let job = fixture.bus.redrive_slowly(filter, rate, "anna").await;
    let job = job.expect("begins").expect("there is something");
    let job = ended(&fixture, job).await;
    assert_eq!((job.done, job.skipped), (3, 0));
    let steps = steps(&crash);
    assert!(
        (3..=6).contains(&steps),
        "{steps} steps for 3 of 303 letters"
    );
}

#[tokio::test]
async fn a_range_of_time_has_its_beginning_and_not_its_end() {
    let (fixture, crash) = counting().await;
    subscribe(&fixture, all()).await;
    // One event an hour for a month.
    let mut times = Vec::new();
    for hour in 1..=720 {
        times.push(fixture.clock.now());
        fixture.publish("t", hour..=hour).await;
        fixture.clock.advance(Duration::from_secs(3600));
    }
    assert_eq!(fixture.drain(720).await, ids(1..=720));
    let micro = Duration::from_micros(1);
    let at = |hour: usize| times[hour - 1];
    let far = Time(at(720).0 * 2);
    for (since, until, expected) in [
        (Some(at(300)), Some(at(303)), 300..=302),
        (Some(at(300) + micro), Some(at(303) + micro), 301..=303),
        (Some(at(719)), None, 719..=720),
        (None, Some(at(3)), 1..=2),
        (Some(at(300)), Some(at(300) + micro), 300..=300),
        (Some(Time(0)), Some(at(2)), 1..=1),
        (Some(at(720)), Some(far), 720..=720),
    ] {
        let replay = Replay {
            since,
            until,
            ..replay(KEY)
        };
        let count = fixture.bus.count_replay(&replay).await.expect("counts");
        let before = steps(&crash);
        let job = fixture.bus.start_replay(replay, "anna").await;
        let job = job.expect("begins");
        let expected = ids(expected);
        assert_eq!(fixture.drain(expected.len()).await, expected);
        assert_eq!(count, expected.len() as u64);
        let job = fixture.bus.job_ended(job).await.expect("ends");
        assert_eq!((job.done, steps(&crash) - before), (count, 1));
    }
    for (since, until) in [
        (at(300) + micro, at(301)),
        (at(303), at(300)),
        (far, far + micro),
        (Time(0), at(1)),
    ] {
        let replay = Replay {
            since: Some(since),
            until: Some(until),
            ..replay(KEY)
        };
        assert_eq!(fixture.bus.count_replay(&replay).await.expect("counts"), 0);
        let job = fixture.bus.start_replay(replay, "anna").await;
        let job = fixture.bus.job_ended(job.expect("begins")).await;
        assert_eq!(job.expect("ends").done, 0);
    }
    assert!(fixture.next_or_none().await.is_none());
}

#[tokio::test]
async fn who_edited_discarded_replayed_and_called_off_is_kept_with_when_and_what() {
    let (fixture, _) = counting().await;
    subscribe(&fixture, all()).await;
    fixture.publish("t", 1..=2).await;
    for _ in 0..2 {
        let delivery = fixture.next().await;
        fixture.settle(delivery, Settled::Dead(fault())).await;
    }
    let letters = fixture
        .bus
        .dead_letters(DeadLetterFilter::default(), 9)
        .await;
    let letters = letters.expect("reads");
    let mut expected = Vec::new();
    let mut at = async |by: &'static str, action: &'static str, subject: String| {
        fixture.clock.advance(Duration::from_secs(60));
        expected.push((fixture.clock.now(), by, action, subject));
    };
    let (first, second) = (&letters[0], &letters[1]);
    at("anna", "edit", KEY.to_owned()).await;
    let data = EventData::Json(json!("mended"));
    let edited = fixture.bus.edit_dead_letter(first.id, data, "anna").await;
    edited.expect("edits");
    at("bert", "discard", KEY.to_owned()).await;
    fixture
        .bus
        .discard(second.id, "bert")
        .await
        .expect("discards");
    at("carl", "replay", KEY.to_owned()).await;
    // An hour is between its two events: it runs until it is called off.
    let replay = Replay {
        rate: "1/h".parse().ok(),
        ..replay(KEY)
    };
    let job = fixture.bus.start_replay(replay, "carl").await;
    let job = job.expect("begins");
    at("dora", "cancel", format!("job {job}")).await;
    assert!(fixture.bus.cancel_job(job, "dora").await.expect("ends it"));
    let audit = fixture.store.log().audit(None, 9).await.expect("reads");
    let kept = audit.iter().rev().map(|row| {
        let (by, action) = (row.by.as_str(), row.action.as_str());
        (row.at, by, action, row.subject.clone())
    });
    assert_eq!(kept.collect::<Vec<_>>(), expected);
    let detail = |nth: usize| &audit[audit.len() - 1 - nth].detail;
    assert_eq!(detail(0)["letter"], first.id);
    assert_eq!(detail(0)["position"], first.position.0);
    assert!(detail(0)["bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    let thrown = json!({"letter": second.id, "position": second.position});
    assert_eq!(*detail(1), thrown);
    assert_eq!(detail(2)["job"], job);
    assert_eq!(detail(2)["asked"]["replay"]["rate"]["count"], 1);
    assert_eq!(*detail(3), json!({ "job": job }));
    // What is refused is nobody's doing.
    let gone = fixture.bus.discard(second.id, "bert").await;
    assert!(gone.is_err());
    let after = fixture.store.log().audit(None, 9).await.expect("reads");
    assert_eq!(after.len(), audit.len());
}
