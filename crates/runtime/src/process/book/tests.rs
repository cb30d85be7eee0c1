//! What the books promise, one sentence per test.

use model::Clock;

use super::{
    decide::Decision,
    trouble::{LONGEST_PAUSE, PAUSE, PROVEN},
    *,
};

const IDLE: Duration = Duration::from_secs(60);

type TestBook = Book<u64, &'static str>;

fn book(min: u32, max: u32, concurrency: u32) -> (TestBook, Instant) {
    let scale = Scale::by_requests(min, max, concurrency, IDLE);
    (Book::new(scale, 1000), Clock::system().monotonic())
}

/// Does what the books decide; the handles of new instances are their numbers.
fn act(book: &mut TestBook, now: Instant) -> Decision<u64> {
    let decision = book.decide(now, Seen::default());
    for _ in 0..decision.start {
        let id = book.starts;
        book.add(id, id, now);
    }
    decision
}

fn ready(book: &mut TestBook, id: u64, now: Instant) -> Vec<&'static str> {
    let served = book.ready(id, now).expect("news");
    served.into_iter().map(|(waiter, _)| waiter).collect()
}

fn died() -> Result<(), Error> {
    Err(Error::new(code::INSTANCE_DIED, "it ended"))
}

#[test]
fn deciding_twice_without_a_change_does_nothing_the_second_time() {
    let (mut book, now) = book(2, 4, 1);
    assert_eq!(act(&mut book, now).start, 2);
    assert_eq!(act(&mut book, now).start, 0);
    book.wait("a");
    assert_eq!(act(&mut book, now).start, 0, "two are on their way");
    for waiter in ["b", "c", "d", "e", "f"] {
        book.wait(waiter);
    }
    assert_eq!(act(&mut book, now).start, 2, "up to the most");
    assert_eq!(act(&mut book, now).start, 0);
}

#[test]
fn places_go_to_who_has_most_room_and_then_to_who_waits_first() {
    let (mut book, now) = book(2, 2, 2);
    act(&mut book, now);
    assert_eq!(book.take(now), None);
    assert!(ready(&mut book, 0, now).is_empty() && ready(&mut book, 1, now).is_empty());
    let mut taken: Vec<u64> = (0..4).filter_map(|_| book.take(now)).collect();
    taken.sort_unstable();
    assert_eq!((taken, book.take(now)), (vec![0, 0, 1, 1], None));
    book.wait("first");
    let gone = book.wait("gone");
    book.wait("second");
    book.forget(gone);
    assert_eq!(book.release(1, now).next, Some(("first", 1)));
    assert_eq!(book.release(0, now).next, Some(("second", 0)));
    assert_eq!(book.release(0, now).next, None);
    assert_eq!(book.take(now), Some(0));
}

#[test]
fn who_leaves_or_is_suspect_gets_nothing_new() {
    let (mut book, now) = book(1, 1, 5);
    act(&mut book, now);
    ready(&mut book, 0, now);
    assert_eq!(book.take(now), Some(0));
    assert!(book.suspect(0) && !book.suspect(0));
    assert_eq!(book.take(now), None);
    book.wait("w");
    assert_eq!(act(&mut book, now).start, 0, "it may still be well");
    assert_eq!(ready(&mut book, 0, now), ["w"]);
    book.unhealthy(0, Error::internal("sick"), now);
    assert_eq!(book.take(now), None);
    assert!(!book.release(0, now).quiet && book.release(0, now).quiet);
    assert_eq!(act(&mut book, now).start, 0, "after the pause");
    assert_eq!(act(&mut book, now + PAUSE).start, 1);
}

#[test]
fn pauses_grow_then_requests_are_refused_then_it_is_tried_again() {
    let (mut book, mut now) = book(1, 1, 1);
    let mut pauses = Vec::new();
    for id in 0..12 {
        assert_eq!(act(&mut book, now).start, 1);
        book.wait("w");
        let refused = book.ended(id, died(), now);
        assert_eq!(!refused.is_empty(), id >= 4, "start {id}");
        assert_eq!(book.refusal(now).is_some(), id >= 4, "start {id}");
        let again = act(&mut book, now).again.expect("it will be tried again");
        pauses.push(again.duration_since(now).as_millis());
        now = again;
    }
    assert_eq!(pauses[..5], [100, 200, 400, 800, 1600]);
    assert_eq!(pauses[9..], [30_000, 30_000, 30_000]);
    assert!(book.refusal(now).is_none(), "the next try may serve it");
    act(&mut book, now);
    assert!(book.ready(12, now).is_some());
    assert!(book.refusal(now).is_none() && book.trouble().is_none());
}

#[test]
fn an_instance_that_was_proven_starts_the_pauses_anew() {
    let (mut book, mut now) = book(1, 1, 1);
    for id in 0..4 {
        act(&mut book, now);
        book.ready(id, now);
        book.ended(id, died(), now);
        now += LONGEST_PAUSE;
    }
    act(&mut book, now);
    book.ready(4, now);
    book.ended(4, died(), now + PROVEN);
    let again = act(&mut book, now + PROVEN).again.expect("a pause");
    assert_eq!(again.duration_since(now + PROVEN), PAUSE);
}

/// Decides as often as it is asked to, until `to`, and says who was retired how many seconds after `from`.
fn pass(book: &mut TestBook, from: Instant, to: Duration) -> Vec<(u64, u64)> {
    let mut retired = Vec::new();
    let mut now = from;
    while now <= from + to {
        let decision = act(book, now);
        let after = now.duration_since(from).as_secs();
        retired.extend(decision.retire.into_iter().map(|id| (id, after)));
        now = decision.again.unwrap_or(from + to * 2);
    }
    retired
}

#[test]
fn those_beyond_what_is_enough_leave_the_longest_idle_first_and_the_least_stays() {
    let (mut book, now) = book(1, 3, 1);
    for waiter in ["a", "b", "c"] {
        book.wait(waiter);
    }
    act(&mut book, now);
    for id in 0..3 {
        ready(&mut book, id, now);
    }
    let second = Duration::from_secs(1);
    assert!(!book.release(2, now).quiet, "nobody waits for that");
    let retired = pass(&mut book, now, second * 20);
    assert_eq!(retired, [], "they are kept for a while");
    for id in [0, 1] {
        book.release(id, now + second * 20);
    }
    let retired = pass(&mut book, now + second * 20, IDLE * 3);
    // Two were enough from the beginning, and one from the twentieth second on: within a look of each.
    assert_eq!(retired.iter().map(|r| r.0).collect::<Vec<_>>(), [2, 0]);
    assert!(
        (40..43).contains(&retired[0].1) && (59..63).contains(&retired[1].1),
        "{retired:?}"
    );
}

#[test]
fn the_last_leaves_when_there_was_nothing_to_do_for_so_long() {
    let (mut book, now) = book(0, 1, 1);
    book.wait("a");
    act(&mut book, now);
    ready(&mut book, 0, now);
    assert_eq!(pass(&mut book, now, IDLE * 2), [], "it works");
    book.release(0, now + IDLE * 2);
    let retired = pass(&mut book, now + IDLE * 2, IDLE * 2);
    assert!(matches!(retired[..], [(0, 60..=63)]), "{retired:?}");
}

#[test]
fn one_that_is_busy_leaves_too_when_fewer_were_enough_and_works_to_its_end() {
    let (mut book, now) = book(0, 2, 2);
    for waiter in ["a", "b", "c"] {
        book.wait(waiter);
    }
    act(&mut book, now);
    ready(&mut book, 0, now);
    ready(&mut book, 1, now);
    book.release(0, now);
    assert_eq!(pass(&mut book, now, IDLE * 2).len(), 1);
    let leaving: Vec<_> = book.members().iter().filter(|m| m.is_leaving()).collect();
    assert_eq!(leaving[0].in_flight, 1);
    let (stays, leaves) = (1 - leaving[0].id, leaving[0].id);
    assert_eq!(book.take(now), Some(stays));
    assert!(book.release(leaves, now).quiet);
}

#[test]
fn who_is_not_ready_keeps_its_requests_and_gets_no_more() {
    let (mut book, now) = book(1, 1, 5);
    act(&mut book, now);
    book.started(0, now);
    assert_eq!((book.take(now), book.unready_since()), (None, Some(now)));
    assert!(!book.suspect(0) && book.failures == 0);
    book.wait("w");
    assert_eq!(ready(&mut book, 0, now), ["w"]);
    assert!(book.unready(0) && !book.unready(0));
    assert_eq!((book.take(now), book.members()[0].in_flight), (None, 1));
    assert_eq!(
        act(&mut book, now).start,
        0,
        "it is there, and not to be replaced"
    );
    assert!(book.ready(0, now).is_some() && book.take(now).is_some());
}

#[test]
fn what_closes_serves_those_who_wait_and_then_nobody() {
    let (mut book, now) = book(2, 2, 1);
    act(&mut book, now);
    ready(&mut book, 0, now);
    book.take(now);
    book.wait("w");
    assert!(book.close() && !book.close());
    assert!(book.refusal(now).is_none() && !book.is_quiet());
    assert_eq!(book.release(0, now).next.map(|(w, _)| w), Some("w"));
    assert!(book.release(0, now).quiet && book.is_quiet());
    let (leaving, waiting) = book.expel();
    assert_eq!((leaving.len(), waiting.len()), (2, 0));
    assert_eq!(book.refusal(now).map(|e| e.code), Some(code::WORKLOAD_GONE));
    book.ended(0, Ok(()), now);
    book.ended(1, Ok(()), now);
    assert_eq!(act(&mut book, now).start, 0);
    assert_eq!(book.failures, 0);
}

#[test]
fn a_missing_program_is_told_at_once() {
    let (mut book, now) = book(0, 1, 1);
    book.wait("w");
    act(&mut book, now);
    let missing = Err(Error::new(code::RUNTIME_MISSING, "not here"));
    assert_eq!(book.ended(0, missing, now).len(), 1);
    assert!(book.refusal(now).is_some());
    assert!(book.refusal(now + PAUSE * 2).is_none());
}

#[test]
fn the_queue_is_bounded() {
    let (mut book, now) = book(1, 1, 1);
    for _ in 0..QUEUE {
        assert!(book.refusal(now).is_none());
        book.wait("w");
    }
    let refused = book.refusal(now).expect("full");
    assert_eq!(refused.code, code::CONCURRENCY_LIMIT);
}
