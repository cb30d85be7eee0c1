//! What is decided from the load, at times that pass only in the test.

use model::{Clock, ScaleOn};
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn scale(on: ScaleOn, up: u64, down: u64, idle: u64) -> Scale {
    Scale {
        on,
        up: SECOND * u32::try_from(up).expect("small"),
        down: Some(SECOND * u32::try_from(down).expect("small")),
        ..Scale::by_requests(0, 10, 4, SECOND * u32::try_from(idle).expect("small"))
    }
}

const NONE: ScaleOn = ScaleOn {
    concurrency: None,
    cpu: None,
    backlog: None,
};

fn requests(requests: u32) -> Load {
    Load {
        requests,
        peak: requests,
        seen: Seen::default(),
    }
}

fn seen(cpu: u64, backlog: u64) -> Load {
    Load {
        seen: Seen {
            cpu: Some(cpu),
            backlog: Some(backlog),
        },
        ..Load::default()
    }
}

/// The number of instances after each second of `loads`, when what is decided is done at once.
fn run(scale: Scale, loads: impl IntoIterator<Item = Load>) -> Vec<u32> {
    let mut demand = Demand::new(scale, 1000);
    let mut now = Clock::system().monotonic();
    let mut active = 0;
    let mut step = |load: Load| {
        now += SECOND;
        demand.observe(now, &load);
        active = demand.target(now, active);
        active
    };
    loads.into_iter().map(&mut step).collect()
}

#[test]
fn the_first_is_started_at_once_and_more_after_so_long() {
    let loads = (0..12).map(|n| requests(if n < 3 { 1 } else { 20 }));
    let there = run(scale(NONE, 5, 60, 60), loads);
    assert_eq!(there, [1, 1, 1, 1, 1, 1, 1, 1, 5, 5, 5, 5]);
}

#[test]
fn a_spike_shorter_than_the_window_starts_nobody() {
    let loads = (0..60).map(|n| requests(if n % 6 < 4 { 40 } else { 4 }));
    assert_eq!(run(scale(NONE, 5, 60, 60), loads), [1; 60]);
}

#[test]
fn fewer_must_have_been_enough_for_so_long_and_the_last_leaves_when_idle() {
    let loads = (0..100).map(|n| {
        requests(if n < 10 {
            40
        } else if n < 50 {
            4
        } else {
            0
        })
    });
    let there = run(scale(NONE, 0, 20, 30), loads);
    assert_eq!((there[0], there[9], there[28]), (10, 10, 10));
    assert!(there[31..75].iter().all(|n| *n == 1), "{there:?}");
    assert!(there[82..].iter().all(|n| *n == 0), "{there:?}");
}

#[test]
fn cpu_is_counted_against_what_one_may_use() {
    let on = ScaleOn {
        cpu: Some(70),
        ..NONE
    };
    let demand = Demand::new(scale(on, 0, 60, 60), 500);
    let asked = |cpu| demand.asked(1, &seen(cpu, 999).seen);
    assert_eq!([350, 351, 700, 701, 100_000].map(asked), [1, 2, 2, 3, 10]);
    assert_eq!(demand.asked(0, &seen(10, 0).seen), 0, "it is only there");
    assert_eq!(
        demand.asked(400, &Seen::default()),
        1,
        "requests start the first, and no more"
    );
}

#[test]
fn a_backlog_is_shared_out_and_the_greatest_of_several_counts() {
    let on = ScaleOn {
        backlog: Some(100),
        concurrency: Some(50),
        ..NONE
    };
    let demand = Demand::new(scale(on, 0, 60, 60), 1000);
    assert_eq!(demand.asked(0, &seen(0, 1).seen), 1);
    assert_eq!(demand.asked(0, &seen(0, 250).seen), 3);
    assert_eq!(
        demand.asked(8, &seen(0, 250).seen),
        4,
        "two of four places each"
    );
}

#[test]
fn a_pool_that_is_watched_only_now_and_then_keeps_what_it_does_not_know() {
    let mut demand = Demand::new(scale(NONE, 0, 20, 20), 1000);
    let now = Clock::system().monotonic();
    demand.observe(now, &requests(40));
    demand.observe(now + SECOND * 30, &requests(0));
    assert_eq!(demand.target(now + SECOND * 30, 10), 10);
    demand.observe(now + SECOND * 51, &requests(0));
    assert_eq!(demand.target(now + SECOND * 51, 10), 0);
    assert_eq!(
        demand.next_look(0, false),
        None,
        "nobody is looked for at zero"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn within_the_bounds_and_without_flapping(
        min in 0_u32..3,
        up in 0_u64..12,
        down in 1_u64..40,
        idle in 1_u64..40,
        cpu in proptest::option::of(10_u32..100),
        backlog in proptest::option::of(1_u32..50),
        loads in prop::collection::vec((0_u32..60, 0_u64..8_000, 0_u64..300), 1..200),
    ) {
        let on = ScaleOn { cpu, backlog, concurrency: None };
        let scale = Scale { min, max: 8, ..scale(on, up, down, idle) };
        let loads: Vec<Load> = loads
            .into_iter()
            .map(|(n, cpu, backlog)| Load { seen: seen(cpu, backlog).seen, ..requests(n) })
            .collect();
        let pure = Demand::new(scale, 1000);
        let asked: Vec<u32> = loads.iter().map(|l| pure.asked(l.requests, &l.seen)).collect();
        let there = run(scale, loads);
        let steps = |n: u64| usize::try_from(n).expect("small");
        let (up, down) = (steps(up), steps(down));
        let mut before = 0;
        for (at, &now) in there.iter().enumerate() {
            prop_assert!((scale.min..=8).contains(&now));
            if now > before && now > scale.min.max(1) {
                // Whoever is added was asked for all the time.
                let since = at.saturating_sub(up);
                prop_assert!(asked[since..=at].iter().all(|n| *n >= now), "{at}: {asked:?} {there:?}");
            }
            if now < before {
                // Whoever leaves was not asked for since then.
                let since = at.saturating_sub(down);
                prop_assert!(asked[since..=at].iter().all(|n| *n <= now), "{at}: {asked:?} {there:?}");
                let rose = there[since..at].windows(2).any(|pair| pair[1] > pair[0]);
                prop_assert!(!rose, "{at}: it rises and falls within `down`: {there:?}");
            }
            before = now;
        }
    }
}
