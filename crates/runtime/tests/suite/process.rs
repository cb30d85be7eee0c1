//! Services: how they are started, watched, scaled, drained, and what becomes of their requests meanwhile.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use model::{ByteSize, Probe, code};
use runtime::{Input, InstanceState, LogStream, launcher::Launcher, process::Pool};

use crate::{
    stage::{PACE, Stage, answer, get, scale},
    support::{alive, eventually},
};

const SECOND: Duration = Duration::from_secs(1);

fn pids(pool: &Pool) -> Vec<u32> {
    pool.stats()
        .instances
        .iter()
        .filter_map(|i| i.pid)
        .collect()
}

fn states(pool: &Pool) -> Vec<InstanceState> {
    pool.stats().instances.iter().map(|i| i.state).collect()
}

async fn gone(pids: &[u32]) {
    eventually("the processes are gone", || {
        !pids.iter().any(|&pid| alive(pid))
    })
    .await;
}

#[tokio::test]
async fn from_zero_the_first_requests_wait_for_one_start_and_none_is_lost() {
    let stage = Stage::new();
    let go = stage.file("go");
    let pool = stage.service(&[format!("--wait-for={}", go.display())], |spec| {
        spec.workload.scale = scale(0, 1, 100, SECOND * 600);
    });
    pool.warm().await.expect("nothing to start");
    assert!(pids(&pool).is_empty());
    let requests = (0..20).map(|_| stage.send(&pool, get("/pid")));
    let opened = async {
        eventually("it is starting", || {
            states(&pool) == [InstanceState::Starting]
        })
        .await;
        std::fs::write(&go, "").expect("written");
    };
    let (answers, ()) = tokio::join!(join_all(requests), opened);
    for ran in answers {
        let meter = Arc::clone(&ran.meter);
        assert_eq!(answer(ran).await.expect("an answer").status, 200);
        let cold = meter.cold().expect("it waited for a start");
        assert!(cold.init > Duration::ZERO && cold.total() >= cold.init);
    }
    assert_eq!(pool.stats().starts, 1);
    let warm = stage.send(&pool, get("/pid")).await;
    assert!(warm.meter.cold().is_none());
}

#[tokio::test]
async fn it_grows_with_the_load_and_shrinks_when_idle() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| {
        spec.workload.scale = scale(1, 3, 2, Duration::from_millis(300));
    });
    let go = stage.file("go");
    let path = format!("/until?{}", go.display());
    let requests = join_all((0..8).map(|_| stage.get(&pool, &path)));
    let opened = async {
        let busy = || {
            let working: Vec<u32> = pool.stats().instances.iter().map(|i| i.in_flight).collect();
            working == [2, 2, 2]
        };
        eventually("three instances work on two requests each", busy).await;
        assert_eq!(pool.stats().starts, 3);
        std::fs::write(&go, "").expect("written");
    };
    let (answers, ()) = tokio::join!(requests, opened);
    assert!(
        answers
            .iter()
            .all(|a| a.as_ref().is_ok_and(|a| a.status == 200))
    );
    let before = pids(&pool);
    eventually("one is left", || pids(&pool).len() == 1).await;
    assert!(before.contains(&pids(&pool)[0]));
    eventually("the others have left", || {
        stage.listener.present.lock().len() == 1
    })
    .await;
    assert_eq!(pool.stats().failures, 0);
}

#[tokio::test]
async fn a_crash_is_told_and_the_next_request_is_served() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| {
        spec.workload.scale = scale(1, 1, 10, SECOND * 600)
    });
    stage
        .get(&pool, "/head")
        .await
        .expect("leaves a connection");
    let error = stage.get(&pool, "/exit?3").await.err().expect("it crashed");
    assert_eq!(error.code, code::INSTANCE_DIED);
    assert!(error.message.contains("exit code 3"), "{error}");
    let most = if cfg!(target_os = "linux") { 1 } else { 2 };
    let stats = pool.stats();
    assert!(
        stats.failures <= most,
        "a request that kills ends no second instance"
    );
    assert_eq!(stats.replaced, 0, "it died, and is not said to be sick");
    for path in ["/half", "/exit-between"] {
        let ran = stage.send(&pool, get(path)).await;
        let meter = Arc::clone(&ran.meter);
        let body = ran
            .response
            .expect("a head")
            .into_body()
            .collect(ByteSize(1000))
            .await;
        assert_eq!(body.is_err(), path == "/half");
        assert_eq!(meter.failure().is_some(), path == "/half");
    }
    assert_eq!(
        stage.get(&pool, "/head").await.expect("an answer").status,
        200
    );
    let error = stage.get(&pool, "/garbage").await.err().expect("no HTTP");
    assert_eq!(error.code, code::UPSTREAM_UNREACHABLE);
    assert!(error.message.contains("not HTTP/1.1"), "{error}");
    eventually("the crashes are counted", || pool.stats().failures >= 3).await;
}

#[tokio::test]
async fn a_kill_between_two_requests_costs_none() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| {
        spec.workload.scale = scale(2, 2, 10, SECOND * 600)
    });
    pool.warm().await.expect("both start");
    for _ in 0..6 {
        let requests = join_all((0..4).map(|_| stage.get(&pool, "/pid"))).await;
        assert!(
            requests
                .iter()
                .all(|a| a.as_ref().is_ok_and(|a| a.status == 200))
        );
        let killed = pids(&pool)[0];
        crate::support::kill("-KILL", killed);
        let requests = join_all((0..4).map(|_| stage.get(&pool, "/pid"))).await;
        assert!(
            requests
                .iter()
                .all(|a| a.as_ref().is_ok_and(|a| a.status == 200))
        );
        eventually("both are back", || {
            states(&pool) == [InstanceState::Idle, InstanceState::Idle]
                && !pids(&pool).contains(&killed)
        })
        .await;
    }
}

#[tokio::test]
async fn what_cannot_start_says_why_and_starts_once_it_can() {
    let stage = Stage::new();
    let fixed = stage.file("fixed");
    let pool = stage.service(&[format!("--fail-unless={}", fixed.display())], |_| {});
    let error = pool.warm().await.expect_err("it does not start");
    assert_eq!(error.code, code::START_FAILED);
    assert!(error.message.contains("exit code 1"), "{error}");
    assert!(
        error
            .context
            .as_deref()
            .is_some_and(|c| c.contains("the file is not there"))
    );
    // It waits while there is hope, then is refused at once.
    let error = stage.get(&pool, "/pid").await.err().expect("no instance");
    assert_eq!(error.code, code::START_FAILED);
    eventually("it has failed five times", || pool.stats().failures >= 5).await;
    let refused = stage.get(&pool, "/pid").await.err().expect("refused");
    assert!(
        refused.retry_after.is_some_and(|after| after <= SECOND * 4),
        "{refused:?}"
    );
    std::fs::write(&fixed, "").expect("written");
    eventually("it is ready", || states(&pool) == [InstanceState::Idle]).await;
    assert_eq!(
        stage.get(&pool, "/head").await.expect("an answer").status,
        200
    );
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let stage = Stage::new();
    for (program, code) in [
        ("no-such-program", code::RUNTIME_MISSING),
        ("./no-such-file", code::START_FAILED),
    ] {
        let spec = stage.spec(model::Run::Process {
            command: vec![program.to_owned()],
            files: Vec::new(),
        });
        let pool = Pool::new(&stage.context, spec);
        let error = pool.warm().await.expect_err("it does not start");
        assert_eq!(error.code, code);
        assert!(error.message.contains(program), "{error}");
    }
}

#[tokio::test]
async fn a_process_that_never_listens_is_ended_and_told() {
    let stage = Stage::new();
    let mut spec = stage.spec(model::Run::Process {
        command: ["sh", "-c", "echo waiting >&2; sleep 1000"]
            .map(str::to_owned)
            .to_vec(),
        files: Vec::new(),
    });
    spec.workload.scale = scale(0, 1, 1, SECOND);
    spec.workload.probes.startup = Some(Probe {
        failures: 3,
        ..Probe::startup(None)
    });
    let pool = Pool::with_pace(&stage.context, spec, PACE);
    let invocation = stage.invocation(SECOND);
    let pid = {
        let invoked = pool.invoke(invocation, Input::http(get("/")));
        let seen = async {
            eventually("it runs", || !pids(&pool).is_empty()).await;
            pids(&pool)
        };
        let (ran, pid) = tokio::join!(invoked, seen);
        let error = ran.response.err().expect("not ready");
        assert_eq!(error.code, code::NEVER_STARTED);
        assert!(
            error.message.contains("not ready within 300.0ms"),
            "{error}"
        );
        let hint = "it must listen on $PORT, which is ";
        assert!(error.message.contains(hint), "{error}");
        assert_eq!(error.context.as_deref(), Some("waiting"));
        pid
    };
    gone(&pid).await;
}

#[tokio::test]
async fn a_port_that_another_took_is_replaced_by_another() {
    let stage = Stage::new();
    let file = stage.file("port");
    let pool = stage.service(&[format!("--announce={}", file.display())], |_| {});
    let taken = async {
        eventually("its port is known", || file.exists()).await;
        let port: u16 = std::fs::read_to_string(&file)
            .expect("text")
            .parse()
            .expect("a port");
        let thief = std::net::TcpListener::bind(("127.0.0.1", port)).expect("free");
        std::fs::write(stage.file("port.go"), "").expect("written");
        eventually("the loss is noticed", || {
            stage.listener.heard("was taken by another")
        })
        .await;
        thief
    };
    let (warm, _thief) = tokio::join!(pool.warm(), taken);
    warm.expect("it starts on another port");
    assert_eq!(pool.stats().failures, 0);
}

#[tokio::test]
async fn an_unhealthy_instance_gets_no_traffic_and_is_replaced() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| {
        spec.workload.scale = scale(2, 2, 10, SECOND * 600)
    });
    pool.warm().await.expect("both start");
    let go = stage.file("go");
    let path = format!("/until?{}", go.display());
    let sick = stage.number(&pool, "/pid").await;
    let long = stage.get(&pool, &path);
    let watched = async {
        eventually("it works on the long one", || {
            pool.stats().instances.iter().any(|i| i.in_flight == 1)
        })
        .await;
        // The other one is idle, so both are asked until the sick one was.
        let mut asked = 0;
        while pool
            .stats()
            .instances
            .iter()
            .all(|i| i.state != InstanceState::Draining)
        {
            let answer = stage
                .get(&pool, if asked == 0 { "/unhealthy" } else { "/pid" })
                .await;
            assert_eq!(answer.expect("an answer").status, 200);
            asked += 1;
        }
        let draining: Vec<u32> = pool
            .stats()
            .instances
            .iter()
            .filter(|i| i.state == InstanceState::Draining)
            .filter_map(|i| i.pid)
            .collect();
        for _ in 0..50 {
            assert_ne!(stage.number(&pool, "/pid").await, draining[0]);
        }
        eventually("another takes its place", || {
            states(&pool)
                .iter()
                .filter(|s| matches!(s, InstanceState::Idle | InstanceState::Busy))
                .count()
                == 2
        })
        .await;
        std::fs::write(&go, "").expect("written");
        draining
    };
    let (answer, draining) = tokio::join!(long, watched);
    assert_eq!(answer.expect("it was let finish").status, 200);
    gone(&draining).await;
    assert!(alive(sick) != draining.contains(&sick));
    assert!(stage.listener.heard("`/health` answers 503"));
}

#[tokio::test]
async fn draining_loses_no_request_and_leaves_no_process() {
    let stage = Stage::new();
    let pool = stage.service(&["--child".to_owned()], |spec| {
        spec.workload.scale = scale(1, 1, 4, SECOND * 600)
    });
    pool.warm().await.expect("it starts");
    let before = pids(&pool);
    let go = stage.file("go");
    let path = format!("/until?{}", go.display());
    let requests = join_all((0..8).map(|_| stage.get(&pool, &path)));
    let drained = async {
        eventually("all places are taken", || {
            pool.stats().instances[0].in_flight == 4
        })
        .await;
        pool.drain(SECOND * 30).await;
    };
    let opened = async {
        eventually("all places are taken", || {
            pool.stats().instances[0].in_flight == 4
        })
        .await;
        std::fs::write(&go, "").expect("written");
    };
    let (answers, (), ()) = tokio::join!(requests, drained, opened);
    assert!(
        answers
            .iter()
            .all(|a| a.as_ref().is_ok_and(|a| a.status == 200))
    );
    assert!(!before.iter().any(|&pid| alive(pid)));
    assert!(stage.listener.heard("as asked"));
    assert!(stage.listener.present.lock().is_empty());
    let late = stage.get(&pool, "/pid").await.err().expect("gone");
    assert_eq!(late.code, code::WORKLOAD_GONE);
}

#[tokio::test]
async fn a_service_that_ignores_being_asked_is_killed() {
    let stage = Stage::new();
    let options = ["--ignore-term".to_owned(), "--child".to_owned()];
    let pool = stage.service(&options, |_| {});
    pool.warm().await.expect("it starts");
    let _stuck = stage.send(&pool, get("/ticks?1000")).await;
    let before = pids(&pool);
    pool.drain(Duration::from_millis(200)).await;
    assert!(!before.iter().any(|&pid| alive(pid)));
    assert!(stage.listener.heard("killed: it did not end within"));
}

#[tokio::test]
async fn dropping_a_pool_ends_its_processes() {
    let stage = Stage::new();
    let pool = stage.service(&[], |_| {});
    pool.warm().await.expect("it starts");
    let before = pids(&pool);
    drop(pool);
    gone(&before).await;
}

#[tokio::test]
async fn what_it_prints_becomes_lines_of_the_invocation() {
    let stage = Stage::new();
    let pool = stage.service(&[], |_| {});
    let invocation = stage.invocation(SECOND * 30);
    let id = invocation.id;
    let printed = pool.invoke(invocation, Input::http(get("/print"))).await;
    // Its place is kept until its lines were read.
    eventually("its lines are read", || stage.listener.heard("xxx")).await;
    drop(printed);
    let lines = stage.listener.lines.lock();
    let find = |part: &str| {
        lines
            .iter()
            .find(|l| l.text.contains(part))
            .expect("logged")
    };
    assert_eq!(find("to stdout").stream, LogStream::Stdout);
    let stderr = find("to stderr");
    assert_eq!(
        (stderr.stream, stderr.instance),
        (LogStream::Stderr, find("ready after").instance)
    );
    assert!(stderr.invocation.is_none_or(|other| other == id));
    assert!(find("xxx").text.ends_with("(23616 bytes cut)"));
}

#[tokio::test]
async fn a_killed_launcher_costs_instances_and_nothing_else() {
    let stage = Stage::new();
    let pool = stage.service(&[], |_| {});
    pool.warm().await.expect("it starts");
    let before = pids(&pool);
    crate::support::kill("-KILL", crate::support::parent(before[0]));
    eventually("the loss is noticed", || pids(&pool) != before).await;
    assert_eq!(
        stage.get(&pool, "/head").await.expect("an answer").status,
        200
    );
    assert!(!alive(before[0]));
}

#[tokio::test]
async fn nothing_starts_once_the_launcher_has_stopped() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| spec.workload.scale = scale(0, 1, 1, SECOND));
    let launcher: &Launcher = &stage.fixture.launcher;
    launcher.stop().await;
    let ran = pool
        .invoke(stage.invocation(SECOND), Input::http(get("/")))
        .await;
    assert_eq!(
        ran.response.err().expect("refused").code,
        code::START_FAILED
    );
}
