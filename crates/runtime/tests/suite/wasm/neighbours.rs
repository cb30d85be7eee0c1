//! How much later a guest is answered beside a workload that takes all it can get: it fills its places, and each guest in
//! them is hostile.
//!
//! Both are on one thread, and what is measured is the CPU time of that thread from the question to the answer: what
//! others got in between, and nothing of what else the machine does. No other time says more than how busy that is.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use model::ByteSize;
use runtime::{Body, Input, wasm::Pool};
use rustix::time::{ClockId, clock_gettime};
use tokio::task::{JoinSet, yield_now};

use super::platform::{Platform, request, text};

/// Who asks the hostile workload, each again as soon as it is answered: as many as there are places. Three quarters of
/// them have one.
const CALLERS: usize = 32;
/// A turn of a guest is one to two ticks of a millisecond.
const TURN: Duration = Duration::from_millis(2);
/// How often it is measured alone, and how often beside the others.
const ROUNDS: usize = 4;
/// Questions of a round.
const QUESTIONS: usize = 10;

/// What may be in a thread's queue before whoever asks: the turn that a workload has there, however many guests wait for
/// it. Twice that, since a turn is a tick too long where the machine is busy.
const ONE: u32 = 2;
/// The same of guests that end at once and are asked for again: the first turns of those that begin at the same time are
/// added, and what a debug build takes to end one. Without turns it would be one of each of 24 guests, and their ends.
const SOME: u32 = 10;

#[tokio::test]
async fn a_workload_that_never_yields_takes_one_turn() {
    check(Platform::new(), "/spin?0", ONE).await;
}

#[tokio::test]
async fn a_workload_that_grows_memory_takes_its_share_of_turns_and_memory() {
    check(Platform::new(), "/memory?100000", SOME).await;
}

#[tokio::test]
async fn a_workload_that_opens_streams_takes_its_share() {
    check(Platform::new(), "/leak?streams", SOME).await;
}

#[tokio::test]
async fn a_workload_that_sends_10_000_requests_takes_its_share() {
    check(Platform::new(), "/fan-out?10000", SOME).await;
}

#[tokio::test]
async fn a_workload_that_floods_its_output_takes_one_turn() {
    check(Platform::new(), "/flood?100000", ONE).await;
}

#[tokio::test]
async fn a_workload_that_only_fills_its_places_takes_none() {
    check(Platform::new(), "/sleep?600000", 0).await;
}

#[tokio::test]
async fn workloads_of_wasi_0_3_take_one_turn() {
    for path in ["/spin?0", "/yield", "/flood?100000"] {
        check(Platform::preview3("preview3", |_| {}), path, ONE).await;
    }
}

/// Half of the questions are answered so many turns later than alone, and nine of ten twice as many, with some room for
/// what a neighbour's guests leave of the processor's caches.
async fn check(platform: Platform, path: &'static str, turns: u32) {
    let platform = Arc::new(platform);
    let other = platform.another();
    for pool in [&platform.pool, &other] {
        pool.ready().await.expect("it loads");
    }
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.extend(measure(&platform, &other).await);
        let hostile = flood(&platform, path);
        // All have begun, and had their first turn.
        join_all((0..3).map(|_| ask(&platform, &other))).await;
        beside.extend(measure(&platform, &other).await);
        drop(hostile);
        yield_now().await;
    }
    let alone = part(&mut alone, 50);
    let (half, most) = (part(&mut beside, 50), part(&mut beside, 90));
    let said = format!("{path}: alone {alone:?}, beside {half:?}, nine of ten {most:?}");
    println!("{said}");
    let room = 8 * alone;
    assert!(half <= room + turns * TURN, "{said}");
    assert!(most <= room + 2 * turns * TURN, "{said}");
}

/// So many ask `path` again and again, until the result is dropped.
fn flood(platform: &Arc<Platform>, path: &'static str) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let platform = Arc::clone(platform);
        callers.spawn(async move {
            loop {
                if let Ok(response) = platform.get(path).await.response {
                    let _ = response.into_body().collect(ByteSize::mib(1)).await;
                }
                // The next question comes over the network.
                yield_now().await;
            }
        });
    }
    callers
}

async fn measure(platform: &Arc<Platform>, pool: &Arc<Pool>) -> Vec<Duration> {
    let mut all = Vec::new();
    for _ in 0..QUESTIONS {
        all.push(ask(platform, pool).await);
    }
    all
}

/// CPU time of this thread until a new task, last in its queue as one whose socket was just read, is answered.
async fn ask(platform: &Arc<Platform>, pool: &Arc<Pool>) -> Duration {
    let invocation = platform.invocation(Duration::from_secs(60));
    let pool = Arc::clone(pool);
    let asked = thread_cpu();
    let answered = tokio::spawn(async move {
        let input = Input::http(request("GET", "/hello", Body::Empty));
        let ran = pool.invoke(invocation, input).await;
        let answer = ran.response.expect("it has its share of all there is");
        assert_eq!(text(answer).await, "hello\n");
        thread_cpu()
    });
    answered.await.expect("an answer") - asked
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |number: i64| u64::try_from(number).expect("no time is negative");
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// What so many of a hundred are at most.
fn part(all: &mut [Duration], percent: usize) -> Duration {
    all.sort();
    all[(all.len() - 1) * percent / 100]
}
