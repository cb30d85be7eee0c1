//! Containers on real engines, with images that are made here from nothing but busybox.
//!
//! What is asked of an engine is a function that is given one. Each is a test on a Podman of its own; `docker` asks one Docker for
//! all of it, because a daemon takes longer to come and go.

mod docker;
mod images;
mod load;
mod own;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use model::{ByteSize, Name, Run, app::Pull, code};
use runtime::{
    Body, LogStream, Spec,
    launcher::{CGROUPS, Means},
    process::{Pace, Pool},
};
use testkit::{ContainerEngine, EngineKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    stage::{PACE, Stage, answer, post, quick, scale},
    support::{alive, eventually},
};

/// A first process without a handler hears no request to end, so that each drain lasts this long.
const GRACE: Duration = Duration::from_millis(500);

fn run() -> Run {
    Run::Container {
        image: "test:1".to_owned(),
        command: Vec::new(),
        user: None,
        volumes: BTreeMap::from([("kept".to_owned(), "/data".to_owned())]),
        pull: Pull::Never,
        writable: false,
        ports: BTreeMap::new(),
        login: None,
    }
}

fn pool(stage: &Stage, change: impl FnOnce(&mut Spec)) -> Arc<Pool> {
    let mut spec = stage.spec(run());
    spec.workload.scale = scale(1, 1, 10, Duration::from_secs(600));
    spec.workload.probes = quick("/health");
    spec.workload.memory = ByteSize::mib(64);
    spec.workload.limits.cpu = Some(500);
    spec.workload.limits.processes = Some(50);
    spec.workload.limits.files = Some(80);
    change(&mut spec);
    let pace = Pace {
        patience: GRACE,
        ..PACE
    };
    Pool::with_pace(&stage.context, spec, pace)
}

async fn text(stage: &Stage, pool: &Arc<Pool>, path: &str) -> String {
    let answer = stage.get(pool, path).await.expect("an answer");
    assert_eq!(answer.status, 200, "{path}");
    String::from_utf8(answer.body.to_vec()).expect("text")
}

/// Asks a Podman of a test's own.
async fn on_podman(scenario: impl AsyncFnOnce(&ContainerEngine)) {
    if let Some(own) = own::start(EngineKind::Podman).await {
        scenario(&own).await;
    }
}

#[tokio::test]
async fn a_container_has_the_contract_of_a_process() {
    on_podman(contract).await;
}

async fn contract(own: &ContainerEngine) {
    let stage = own::stage(own);
    let pool = pool(&stage, |spec| {
        spec.workload
            .env
            .insert("OWN".to_owned(), "variable".to_owned());
        spec.state_folder = Some(stage.file("state"));
    });
    pool.warm().await.expect("it starts");
    let env = text(&stage, &pool, "/cgi-bin/env").await;
    for line in [
        "OWN=variable",
        "K_SERVICE=orders",
        "ORDERS_URL=http://mesh/~t/w/orders",
        "user=0",
        "open=80",
    ] {
        assert!(env.lines().any(|l| l == line), "{line}: {env}");
    }
    assert!(env.lines().any(|l| l.starts_with("PORT=")), "{env}");
    let written = text(&stage, &pool, "/cgi-bin/write").await;
    assert!(
        written.contains("read-only") && written.contains("tmp\nkept\n"),
        "{written}"
    );
    assert_eq!(text(&stage, &pool, "/cgi-bin/state").await, "line\n");
    assert_eq!(
        fs::read_to_string(stage.file("state/lines")).expect("there"),
        "line\n"
    );
    eventually("what it writes is heard", || {
        let lines = stage.listener.lines.lock();
        let said = |stream, part: &str| {
            lines
                .iter()
                .any(|l| l.stream == stream && l.text.contains(part))
        };
        said(LogStream::Stdout, "listens on") && said(LogStream::Stderr, "to stderr")
    })
    .await;
    let groups = text(&stage, &pool, "/cgi-bin/groups").await;
    for limit in pool.limits().iter().filter(|l| l.what != "files") {
        assert!(
            matches!(limit.by, Some(Means::CgroupV1 | Means::CgroupV2)),
            "{limit:?}"
        );
        let parent = match own.kind() {
            EngineKind::Podman => "libpod",
            EngineKind::Docker => "/docker/",
        };
        assert!(groups.contains(parent), "{groups}");
    }
    let pid = pool.stats().instances[0].pid.expect("it runs here");
    assert!(alive(pid) && pool.stats().instances[0].memory > 0);
    pool.drain(GRACE).await;
    assert!(!alive(pid));
    eventually("it is removed", || own.containers().is_empty()).await;
}

#[tokio::test]
async fn a_container_runs_as_the_user_it_is_given_and_else_as_the_image_s() {
    on_podman(users).await;
}

async fn users(own: &ContainerEngine) {
    own.import("test:user", "USER 1234:1234");
    let stage = own::stage(own);
    for (named, given, expected) in [
        ("test:user", None, [1234, 1234]),
        ("test:user", Some("0"), [0, 0]),
        ("test:1", Some("1000"), [1000, 0]),
        ("test:1", Some("1000:1001"), [1000, 1001]),
        ("test:1", Some("clerk"), [1500, 1501]),
    ] {
        let pool = pool(&stage, |spec| {
            if let Run::Container { image, user, .. } = &mut spec.workload.run {
                *image = named.to_owned();
                *user = given.map(str::to_owned);
            }
        });
        let env = text(&stage, &pool, "/cgi-bin/env").await;
        let [user, group] = expected;
        for line in [format!("user={user}"), format!("group={group}")] {
            assert!(env.lines().any(|l| l == line), "{given:?}, {line}: {env}");
        }
        let written = text(&stage, &pool, "/cgi-bin/write").await;
        assert!(written.contains("read-only\ntmp\n"), "{given:?}: {written}");
        pool.drain(GRACE).await;
    }
}

#[tokio::test]
async fn volumes_outlive_instances_and_each_gets_the_same_image() {
    on_podman(volumes).await;
}

async fn volumes(own: &ContainerEngine) {
    let stage = own::stage(own);
    let first = pool(&stage, |spec| {
        spec.workload.scale = scale(2, 2, 10, Duration::from_secs(600))
    });
    first.warm().await.expect("both start");
    assert_eq!(own.containers().len(), 2);
    assert!(
        text(&stage, &first, "/cgi-bin/write")
            .await
            .ends_with("tmp\nkept\n")
    );
    // What the tag names now is nothing to a pool that has started.
    own.untag("test:1");
    let killed = own.containers();
    assert!(own.run(&["kill", &killed[0]]).status.success());
    eventually("another takes its place", || {
        let there = own.containers();
        there.len() == 2 && !there.contains(&killed[0])
    })
    .await;
    eventually("it serves", || {
        first
            .stats()
            .instances
            .iter()
            .filter(|i| i.state == runtime::InstanceState::Idle)
            .count()
            == 2
    })
    .await;
    first.drain(GRACE).await;
    let again = pool(&stage, |_| {});
    let error = again.warm().await.expect_err("the tag is gone");
    assert_eq!(error.code, code::START_FAILED);
    assert!(
        error.message.contains("`test:1` is not on this machine"),
        "{error}"
    );
    again.drain(Duration::ZERO).await;
    own.import("test:1", "LABEL edition=usual");
    let again = pool(&stage, |_| {});
    let kept = text(&stage, &again, "/cgi-bin/write").await;
    assert!(kept.ends_with("tmp\nkept\nkept\n"), "{kept}");
    again.drain(GRACE).await;
}

#[tokio::test]
async fn a_container_over_its_memory_is_told_as_a_process_is() {
    on_podman(memory).await;
}

async fn memory(own: &ContainerEngine) {
    let stage = own::stage(own);
    let pool = pool(&stage, |spec| {
        if let Run::Container { command, .. } = &mut spec.workload.run {
            *command = ["/bin/sh", "/start", "--eat"].map(str::to_owned).into();
        }
    });
    pool.warm().await.expect("it starts");
    let error = answer(stage.send(&pool, post("/cgi-bin/eat", Body::Empty)).await).await;
    let error = error.err().expect("it is ended");
    if own.knows_want_of_memory("test:1") {
        assert_eq!(error.code, code::INSTANCE_MEMORY, "{error}");
        let line = "64MiB of memory and was ended";
        eventually("a line says so", || stage.listener.heard(line)).await;
    } else {
        eprintln!("SKIPPED: this engine does not tell why the kernel ended a container");
        assert_eq!(error.code, code::INSTANCE_DIED, "{error}");
        assert!(error.message.contains("signal 9"), "{error}");
    }
    pool.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn a_share_of_the_cpus_is_the_kernel_s_even_of_more_than_there_are() {
    on_podman(cpus).await;
}

async fn cpus(own: &ContainerEngine) {
    let stage = own::stage(own);
    for (millis, quota) in [(500, "50000"), (1_000_000, "100000000")] {
        let pool = pool(&stage, |spec| spec.workload.limits.cpu = Some(millis));
        pool.warm().await.expect("it starts");
        let pid = pool.stats().instances[0].pid.expect("it runs here");
        if pool
            .limits()
            .iter()
            .any(|l| l.what == "cpu" && l.by.is_some())
        {
            let held = quota_of(pid).expect("it has a group");
            assert_eq!(held.split_whitespace().next(), Some(quota));
        }
        pool.drain(GRACE).await;
    }
}

/// How many microseconds of each tenth of a second the kernel lets a process's group have.
fn quota_of(pid: u32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, group) = rest.split_once(':')?;
        let (folder, file) = match names {
            "" => (CGROUPS.to_owned(), "cpu.max"),
            names => (format!("{CGROUPS}/{names}"), "cpu.cfs_quota_us"),
        };
        fs::read_to_string(format!("{folder}{group}/{file}")).ok()
    })
}

#[tokio::test]
async fn what_cannot_start_says_why_and_leaves_nothing() {
    on_podman(no_program).await;
}

async fn no_program(own: &ContainerEngine) {
    let stage = own::stage(own);
    let pool = pool(&stage, |spec| {
        if let Run::Container { command, .. } = &mut spec.workload.run {
            *command = vec!["/no/such/program".to_owned()];
        }
    });
    let error = pool.warm().await.expect_err("there is no such program");
    assert_eq!(error.code, code::START_FAILED);
    assert!(error.message.contains("/no/such/program"), "{error}");
    pool.drain(Duration::ZERO).await;
    eventually("nothing is left", || own.containers().is_empty()).await;
}

#[tokio::test]
async fn a_sweep_removes_what_this_server_left_and_nothing_else() {
    on_podman(sweep).await;
}

async fn sweep(own: &ContainerEngine) {
    let (stage, other) = (own::stage(own), own::stage(own));
    let (pool, others) = (pool(&stage, |_| {}), self::pool(&other, |_| {}));
    pool.warm().await.expect("it starts");
    others.warm().await.expect("it starts");
    assert_eq!(own.containers().len(), 2);
    // As the next server does: another handle on the same folder. Two, because what a killed server asked for may be under way.
    let engine = || own::handle(own, stage.fixture.folder.path());
    let (first, second) = (engine(), engine());
    let (first, second) = tokio::join!(first.sweep(), second.sweep());
    let swept = first.expect("swept").max(second.expect("swept"));
    assert_eq!(swept, 1);
    assert_eq!(engine().sweep().await.expect("nothing to do"), 0);
    let serves = self::text(&other, &others, "/health").await;
    assert_eq!(serves, "well");
    pool.drain(Duration::ZERO).await;
    others.drain(GRACE).await;
}

#[tokio::test]
async fn each_instance_has_ports_of_its_own_which_its_variables_tell() {
    on_podman(ports).await;
}

async fn ports(own: &ContainerEngine) {
    let stage = own::stage(own);
    let pool = pool(&stage, |spec| {
        spec.workload.scale = scale(2, 2, 10, Duration::from_secs(600));
        if let Run::Container { ports, .. } = &mut spec.workload.run {
            ports.insert(Name::literal("metrics"), "METRICS_PORT".to_owned());
            ports.insert(Name::literal("unused"), "PORT_UNUSED".to_owned());
        }
    });
    pool.warm().await.expect("both start");
    let mut numbers = Vec::new();
    for instance in pool.stats().instances {
        let metrics = instance.ports["metrics"];
        numbers.extend(instance.ports.values().copied());
        let answered = by_hand(metrics).await;
        assert!(answered.ends_with("well"), "{metrics}: {answered}");
    }
    let all = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(
        (all, numbers.len()),
        (4, 4),
        "each has its own: {numbers:?}"
    );
    let env = text(&stage, &pool, "/cgi-bin/env").await;
    let told = env
        .lines()
        .find_map(|line| line.strip_prefix("PORT_UNUSED="));
    let told: u16 = told.and_then(|port| port.parse().ok()).expect("is told");
    assert!(numbers.contains(&told), "{numbers:?} {told}");
    pool.drain(GRACE).await;
}

/// What a web server on loopback says of its health.
async fn by_hand(port: u16) -> String {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("somebody listens");
    stream
        .write_all(b"GET /health HTTP/1.0\r\n\r\n")
        .await
        .expect("is written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("is read");
    answer
}

#[tokio::test]
async fn an_engine_says_what_it_is_and_whether_it_could_pull() {
    on_podman(facts).await;
}

async fn facts(own: &ContainerEngine) {
    let stage = own::stage(own);
    let engine = own::handle(own, stage.fixture.folder.path());
    let facts = engine.look().await.expect("it answers");
    assert_eq!(facts.rootless, !rustix::process::geteuid().is_root());
    assert!(
        facts.cgroups.is_some() && facts.cgroup_driver == "cgroupfs",
        "{facts:?}"
    );
    assert!(facts.name.starts_with(own.kind().name()), "{facts:?}");
    // A policy of signatures is all that Podman takes, beside a registry.
    let could = match own.kind() {
        EngineKind::Podman => Path::new("/etc/containers/policy.json").exists(),
        EngineKind::Docker => true,
    };
    let can = engine.can_pull().await;
    assert_eq!(can.is_ok(), could, "{can:?}");
}
