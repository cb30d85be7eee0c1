//! Start-up, liveness and readiness apart: what each of them does to an instance, and what it leaves alone.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use model::{Probe, Probes, code};
use runtime::{InstanceState, PoolStats, process::Pool};

use crate::{
    stage::{Stage, command, get, scale},
    support::{alive, ask_past, eventually, port},
};

const SECOND: Duration = Duration::from_secs(1);

fn at(path: &str, probe: fn(Option<String>) -> Probe) -> Probe {
    Probe {
        interval: Duration::from_millis(50),
        ..probe(Some(path.to_owned()))
    }
}

/// The only instance: its process and what it does.
fn one(pool: &Pool) -> (u32, InstanceState) {
    let stats = pool.stats();
    let [instance] = &stats.instances[..] else {
        panic!("not one instance: {stats:?}");
    };
    (instance.pid.unwrap_or_default(), instance.state)
}

fn ready(stats: &PoolStats) -> Vec<u32> {
    let ready = stats
        .instances
        .iter()
        .filter(|i| matches!(i.state, InstanceState::Idle | InstanceState::Busy));
    ready.filter_map(|i| i.pid).collect()
}

#[tokio::test]
async fn a_start_up_that_never_passes_is_ended_told_and_tried_again_ever_later() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| {
        spec.workload.probes = Probes {
            startup: Some(Probe {
                // Time enough to listen, on a busy machine too.
                failures: 60,
                ..at("/started", Probe::startup)
            }),
            // Alive it is from the beginning, which does not count yet.
            liveness: Some(at("/health", Probe::liveness)),
            readiness: None,
        };
    });
    let error = pool.warm().await.expect_err("it does not start");
    assert_eq!(error.code, code::NEVER_STARTED);
    assert!(error.message.contains("`/started` answers 503"), "{error}");
    let failure = pool.stats().last_failure.expect("one failed");
    assert_eq!(failure.code, code::NEVER_STARTED);
    eventually("it is tried again", || pool.stats().failures >= 2).await;
    // Each that failed is gone.
    let pids: Vec<u32> = pool
        .stats()
        .instances
        .iter()
        .filter_map(|i| i.pid)
        .collect();
    assert!(pids.len() <= 1);
    assert_eq!(pool.stats().replaced, 0);
}

#[tokio::test]
async fn liveness_is_not_asked_before_the_start_up_has_passed() {
    let stage = Stage::new();
    let go = stage.file("go");
    // Without an answer to anything, far longer than liveness would bear.
    let pool = stage.service(&[format!("--wait-for={}", go.display())], |spec| {
        spec.workload.probes = Probes {
            startup: Some(at("/health", Probe::startup)),
            liveness: Some(Probe {
                failures: 1,
                ..at("/health", Probe::liveness)
            }),
            readiness: None,
        };
    });
    let opened = async {
        eventually("it was asked in vain", || {
            let stats = pool.stats();
            stats.instances.iter().any(|i| {
                i.problem
                    .as_deref()
                    .is_some_and(|p| p.contains("no connection"))
            })
        })
        .await;
        stage.clock.sleep(Duration::from_millis(300)).await;
        std::fs::write(&go, "").expect("written");
    };
    let (warm, ()) = tokio::join!(pool.warm(), opened);
    warm.expect("it starts");
    let stats = pool.stats();
    assert_eq!((stats.starts, stats.failures, stats.replaced), (1, 0, 0));
    assert_eq!(stats.instances[0].problem, None);
}

#[tokio::test]
async fn one_that_is_not_alive_finishes_what_it_has_and_is_replaced() {
    let stage = Stage::new();
    let pool = stage.service(&["--switch-on=/alive".to_owned()], |spec| {
        spec.workload.probes = Probes {
            startup: Some(at("/health", Probe::startup)),
            liveness: Some(Probe {
                failures: 3,
                ..at("/alive", Probe::liveness)
            }),
            readiness: None,
        };
    });
    pool.warm().await.expect("it starts");
    let before = one(&pool).0;
    let go = stage.file("go");
    let path = format!("/until?{}", go.display());
    let long = stage.get(&pool, &path);
    let replaced = async {
        eventually("it works", || one(&pool).1 == InstanceState::Busy).await;
        let switched = stage.get(&pool, "/alive?switch=500").await;
        assert_eq!(switched.expect("an answer").status, 500);
        eventually("another is ready", || {
            let ready = ready(&pool.stats());
            ready.len() == 1 && ready[0] != before
        })
        .await;
        assert!(alive(before), "it still has a request");
        for _ in 0..20 {
            assert_ne!(stage.number(&pool, "/pid").await, before);
        }
        std::fs::write(&go, "").expect("written");
    };
    let (answer, ()) = tokio::join!(long, replaced);
    assert_eq!(answer.expect("it was let finish").status, 200);
    eventually("it is gone", || !alive(before)).await;
    let stats = pool.stats();
    assert_eq!((stats.replaced, stats.failures), (1, 1));
    let failure = stats.last_failure.expect("it was replaced");
    assert_eq!(failure.code, code::NOT_ALIVE);
    assert!(failure.message.contains("3 times in a row"), "{failure:?}");
    assert!(stage.listener.heard("`/alive` answers 500"));
    assert!(stage.listener.heard("is replaced"));
}

#[tokio::test]
async fn a_grace_forgives_failures_of_its_time() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| {
        spec.workload.probes = Probes {
            startup: None,
            liveness: Some(Probe {
                failures: 1,
                grace: SECOND * 600,
                ..at("/alive", Probe::liveness)
            }),
            readiness: None,
        };
    });
    pool.warm().await.expect("its port accepts");
    eventually("it failed", || {
        let texts = stage.listener.texts();
        texts
            .iter()
            .filter(|t| t.contains("liveness probe"))
            .count()
            > 3
    })
    .await;
    assert_eq!((pool.stats().replaced, pool.stats().starts), (0, 1));
    assert_eq!(
        pool.stats().instances[0].problem.as_deref(),
        Some("`/alive` answers 404")
    );
}

#[tokio::test]
async fn readiness_keeps_requests_away_and_ends_nobody() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| {
        spec.workload.scale = scale(2, 2, 10, SECOND * 600);
        spec.workload.probes.liveness = None;
        spec.workload.probes.readiness = Some(at("/health", Probe::readiness));
    });
    pool.warm().await.expect("both start");
    let pids = ready(&pool.stats());
    let sick = stage.number(&pool, "/pid").await;
    // It is idle again, and so the first to be asked next.
    while stage.number(&pool, "/pid").await != sick {}
    let told = stage.get(&pool, "/unhealthy").await;
    assert_eq!(told.expect("an answer").status, 200);
    eventually("one is not ready", || ready(&pool.stats()).len() == 1).await;
    let well = ready(&pool.stats())[0];
    let answers = join_all((0..30).map(|_| stage.number(&pool, "/pid"))).await;
    assert!(answers.iter().all(|pid| *pid == well));
    assert!(pids.iter().all(|pid| alive(*pid)), "none was ended");
    let stats = pool.stats();
    let unready: Vec<_> = stats
        .instances
        .iter()
        .filter(|i| i.state == InstanceState::Unready)
        .collect();
    assert_eq!(unready[0].problem.as_deref(), Some("`/health` answers 503"));
    assert_eq!((stats.starts, stats.failures), (2, 0));
}

#[tokio::test]
async fn who_comes_before_it_is_ready_waits_and_it_comes_and_goes() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| {
        spec.workload.scale = scale(0, 1, 10, SECOND * 600);
        spec.workload.probes.readiness = Some(at("/ready", Probe::readiness));
    });
    let early = join_all((0..5).map(|_| stage.get(&pool, "/pid")));
    let opened = async {
        let waits = || {
            pool.stats()
                .instances
                .iter()
                .any(|i| i.state == InstanceState::Unready)
        };
        eventually("it is started, and not ready", waits).await;
        // Nobody but the test can reach it now, past the pool.
        let answer = ask_past(port(one(&pool).0), "/ready?switch=200").await;
        assert!(answer.contains("200"), "{answer}");
    };
    let (answers, ()) = tokio::join!(early, opened);
    assert!(
        answers
            .iter()
            .all(|a| a.as_ref().is_ok_and(|a| a.status == 200))
    );
    let before = one(&pool).0;
    let _ = stage.get(&pool, "/ready?switch=503").await;
    eventually("it is not ready", || one(&pool).1 == InstanceState::Unready).await;
    let error = {
        let invocation = stage.invocation(Duration::from_millis(200));
        let ran = pool
            .invoke(invocation, runtime::Input::http(get("/pid")))
            .await;
        ran.response.err().expect("nobody is ready")
    };
    assert!(error.message.contains("`/ready` answers 503"), "{error}");
    ask_past(port(before), "/ready?switch=200").await;
    eventually("it is ready again", || one(&pool).1 == InstanceState::Idle).await;
    assert_eq!(stage.number(&pool, "/pid").await, before);
}

#[tokio::test]
async fn a_deploy_is_told_that_nobody_becomes_ready() {
    let stage = Stage::new();
    let mut spec = stage.spec(model::Run::Process {
        command: command(&[]),
        files: Vec::new(),
    });
    spec.workload.probes.readiness = Some(at("/ready", Probe::readiness));
    let pace = runtime::process::Pace {
        unready: Duration::from_millis(200),
        ..crate::stage::PACE
    };
    let pool: Arc<Pool> = Pool::with_pace(&stage.context, spec, pace);
    let error = pool.warm().await.expect_err("it never is");
    assert!(
        error
            .message
            .contains("not ready for requests: `/ready` answers 503"),
        "{error}"
    );
    assert_eq!(pool.stats().failures, 0, "nobody was ended for that");
}
