//! Real processes whose number follows their requests, their CPU time or their backlog, each by its own policy.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::join_all;
use model::{Scale, ScaleOn};
use runtime::{InstanceState, process::Pool};

use crate::{
    stage::{Stage, scale},
    support::eventually,
};

const SECOND: Duration = Duration::from_secs(1);

fn ready(pool: &Pool) -> usize {
    let stats = pool.stats();
    let ready = stats.instances.iter();
    ready
        .filter(|i| matches!(i.state, InstanceState::Idle | InstanceState::Busy))
        .count()
}

fn on(min: u32, max: u32, on: ScaleOn) -> Scale {
    Scale {
        on,
        down: Some(SECOND),
        ..scale(min, max, 100, SECOND)
    }
}

/// D4: three workloads, three policies, at the same time, and none of them minds what the others count.
#[tokio::test]
async fn by_requests_by_cpu_and_by_backlog_at_once() {
    let stage = Stage::new();
    let function = stage.service(&[], |spec| spec.workload.scale = scale(0, 3, 2, SECOND));
    let service = stage.service(&[], |spec| {
        let cpu = ScaleOn {
            cpu: Some(20),
            ..ScaleOn::default()
        };
        spec.workload.scale = on(1, 3, cpu);
    });
    let worker = stage.service(&[], |spec| {
        let backlog = ScaleOn {
            backlog: Some(100),
            ..ScaleOn::default()
        };
        spec.workload.scale = on(0, 4, backlog);
    });
    service.warm().await.expect("it starts");
    assert_eq!(
        [ready(&function), ready(&service), ready(&worker)],
        [0, 1, 0]
    );

    // Six requests need three instances of the function; as many do nothing to the others.
    let go = stage.file("go");
    let path = format!("/until?{}", go.display());
    let requests = |pool: &Arc<Pool>, n: usize| {
        let (stage, pool, path) = (&stage, Arc::clone(pool), path.clone());
        async move {
            let answers = join_all((0..n).map(|_| stage.get(&pool, &path))).await;
            assert!(
                answers
                    .iter()
                    .all(|a| a.as_ref().is_ok_and(|a| a.status == 200))
            );
        }
    };
    stage.listener.backlog.store(350, Relaxed);
    let grown = async {
        eventually("the function has three", || ready(&function) == 3).await;
        // The first request started the worker, what waits for it started the rest.
        eventually("the worker has four", || ready(&worker) == 4).await;
        assert_eq!(service.stats().starts, 1, "requests alone ask for nobody");
        std::fs::write(&go, "").expect("written");
    };
    tokio::join!(
        requests(&function, 6),
        requests(&service, 3),
        requests(&worker, 1),
        grown
    );

    let burns = stage.get(&service, "/burn?90").await;
    assert_eq!(burns.expect("an answer").status, 200);
    eventually("the service follows its CPU", || ready(&service) >= 2).await;
    assert!(service.stats().instances.len() <= 3);

    // And back, each when its own reason is gone: one worker is enough for what is left.
    stage.listener.backlog.store(60, Relaxed);
    eventually("one worker is left", || ready(&worker) == 1).await;
    eventually("the function is at zero", || {
        function.stats().instances.is_empty()
    })
    .await;
    stage.listener.backlog.store(0, Relaxed);
    eventually("the worker is at zero", || {
        worker.stats().instances.is_empty()
    })
    .await;
    assert!(ready(&service) >= 2, "it still burns");
    // Whoever of them burns is asked to stop: all are idle, so that each is asked in turn.
    let calmed = async {
        while ready(&service) > 1 {
            let answers = join_all((0..6).map(|_| stage.get(&service, "/burn?0"))).await;
            assert!(
                answers
                    .iter()
                    .all(|a| a.as_ref().is_ok_and(|a| a.status == 200))
            );
            stage.clock.sleep(Duration::from_millis(50)).await;
        }
    };
    calmed.await;
    for pool in [&function, &service, &worker] {
        assert_eq!(pool.stats().failures, 0);
    }
}

#[tokio::test]
async fn scaled_down_under_load_without_a_failed_request_or_a_cut_connection() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| {
        spec.workload.timeout = SECOND * 60;
        spec.workload.scale = Scale {
            down: Some(SECOND * 3),
            ..scale(1, 4, 4, SECOND * 600)
        };
    });
    let go = stage.file("go");
    let path = format!("/until?{}", go.display());
    let spike = join_all((0..16).map(|_| stage.get(&pool, &path)));
    let grown = async {
        eventually("there are four", || ready(&pool) == 4).await;
        std::fs::write(&go, "").expect("written");
    };
    tokio::join!(spike, grown);
    // One socket with each of them, and requests all the time: none of them is ever idle.
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(stage.socket(&pool).await);
    }
    let with_one = pool
        .stats()
        .instances
        .iter()
        .filter(|i| i.in_flight == 1)
        .count();
    assert_eq!(with_one, 4);
    let stopped = std::sync::atomic::AtomicBool::new(false);
    let load = async {
        let mut answered = 0;
        while !stopped.load(Relaxed) {
            let answer = stage.get(&pool, "/pid").await.expect("an answer");
            assert_eq!(answer.status, 200);
            answered += 1;
        }
        answered
    };
    let shrunk = async {
        let draining = || {
            let stats = pool.stats();
            let states: Vec<_> = stats.instances.iter().map(|i| i.state).collect();
            states
                .iter()
                .filter(|s| **s == InstanceState::Draining)
                .count()
        };
        eventually("those beyond the need drain", || {
            draining() >= 2 && ready(&pool) <= 2
        })
        .await;
        for (n, socket) in sockets.iter_mut().enumerate() {
            assert_eq!(socket.say("still here").await, "STILL HERE", "{n}");
        }
        // The clients are done: those who were asked to leave do.
        drop(sockets);
        eventually("they are gone", || draining() == 0).await;
        stopped.store(true, Relaxed);
    };
    let (answered, ()) = tokio::join!(load, shrunk);
    assert!(answered > 10, "{answered}");
    assert_eq!(pool.stats().failures, 0);
}

/// D10: what holds a request for longer than any function may, and says so from time to time, is let work. The times are
/// made short by the manifest and not by a clock: with a timeout of a second, twice that is what hours are to a day.
#[tokio::test]
async fn nothing_cuts_off_a_worker_that_works_for_hours() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| {
        spec.workload.timeout = SECOND;
        spec.workload.scale = scale(1, 1, 10, SECOND);
    });
    pool.warm().await.expect("it starts");
    // Its own work, that no request asks for, and a connection over which it says that it is alive.
    let pid = pool.stats().instances[0].pid.expect("a process");
    let burns = stage.get(&pool, "/burn?5").await;
    assert_eq!(burns.expect("an answer").status, 200);
    let mut socket = stage.socket(&pool).await;
    let begun = stage.clock.monotonic();
    while stage.clock.monotonic() < begun + SECOND * 4 {
        assert_eq!(socket.say("alive").await, "ALIVE");
        stage.clock.sleep(Duration::from_millis(100)).await;
    }
    let stats = pool.stats();
    assert_eq!((stats.starts, stats.failures), (1, 0));
    assert_eq!(stats.instances[0].pid, Some(pid));
    assert_eq!(stats.instances[0].in_flight, 1, "the connection is open");
}
