//! What an instance may take is held by the kernel, and what is said of that is so.

use std::{fs, path::Path, time::Duration};

use model::{ByteSize, code};
use runtime::{
    Body,
    launcher::{Command, Enforced, Limits, Means, Weight},
    process::{Pool, measure},
};

use crate::{
    stage::{Stage, answer, get, post, scale},
    support::{Fixture, alive, eventually, group},
};

/// Whether memory is held to its limit by a control group; a machine where that cannot be is said, and passed over.
pub(crate) fn held_by_groups(limits: &[Enforced]) -> bool {
    let memory = limits.iter().find(|limit| limit.what == "memory");
    let held = memory.is_some_and(|m| matches!(m.by, Some(Means::CgroupV1 | Means::CgroupV2)));
    if !held {
        eprintln!("SKIPPED: no control group with memory can be made here: {limits:?}");
    }
    held
}

/// A service with 96 MiB, half a CPU, 40 processes and 80 files.
fn small(stage: &Stage) -> std::sync::Arc<Pool> {
    stage.service(&[], |spec| {
        spec.workload.scale = scale(1, 1, 10, Duration::from_secs(600));
        spec.workload.memory = ByteSize::mib(96);
        spec.workload.limits.cpu = Some(500);
        spec.workload.limits.processes = Some(40);
        spec.workload.limits.files = Some(80);
    })
}

fn means(limits: &[Enforced], what: &str) -> Option<Means> {
    limits.iter().find(|limit| limit.what == what)?.by
}

#[tokio::test]
async fn an_instance_over_its_memory_is_ended_with_a_coded_error_and_a_line() {
    let stage = Stage::new();
    let pool = small(&stage);
    if !held_by_groups(&pool.limits()) {
        return;
    }
    let fits = answer(stage.send(&pool, post("/eat?20", Body::Empty)).await).await;
    assert_eq!(fits.expect("it fits").status, 200);
    let error = answer(stage.send(&pool, post("/eat?300", Body::Empty)).await).await;
    let error = error.err().expect("it does not fit");
    assert_eq!(error.code, code::INSTANCE_MEMORY);
    assert!(error.message.contains("96MiB of memory"), "{error}");
    let line = "needed more than its 96MiB of memory";
    eventually("a line says so", || stage.listener.heard(line)).await;
    let next = stage.get(&pool, "/head").await;
    assert_eq!(next.expect("another takes its place").status, 200);
}

#[tokio::test]
async fn processes_cpu_and_files_are_held_to_what_was_asked() {
    let stage = Stage::new();
    let pool = small(&stage);
    pool.warm().await.expect("it starts");
    let limits = stage.get(&pool, "/limits").await.expect("an answer").json();
    assert_eq!(limits["NOFILE"], 80);
    let pid = pool.stats().instances[0].pid.expect("it runs");
    if let Some(Means::CgroupV1 | Means::CgroupV2) = means(&pool.limits(), "processes") {
        let children = stage.number(&pool, "/fork?100").await;
        assert!((1..40).contains(&children), "{children}");
        let folder = group(pid, "pids").expect("a group of its own");
        let most = fs::read_to_string(folder.join("pids.max")).expect("there");
        assert_eq!(most.trim(), "40");
    } else {
        eprintln!("SKIPPED: no control group with pids can be made here");
    }
    if let Some(Means::CgroupV1 | Means::CgroupV2) = means(&pool.limits(), "cpu") {
        let (go, folder) = (stage.file("go"), group(pid, "cpu").expect("a group"));
        let path = format!("/spin?{}", go.display());
        let (spun, ()) = tokio::join!(stage.get(&pool, &path), async {
            eventually("it is held back", || is_throttled(&folder)).await;
            fs::write(&go, "").expect("written");
        });
        assert_eq!(spun.expect("an answer").status, 200);
        assert!(pool.stats().instances[0].cpu_us > 0, "it has used some");
    } else {
        eprintln!("SKIPPED: no control group with cpu can be made here");
    }
    pool.drain(Duration::from_secs(10)).await;
    eventually("its groups are gone", || {
        ["memory", "cpu", "pids"]
            .iter()
            .all(|name| group(pid, name).is_none())
    })
    .await;
}

fn is_throttled(folder: &Path) -> bool {
    let stat = fs::read_to_string(folder.join("cpu.stat")).unwrap_or_default();
    let times = stat
        .lines()
        .find_map(|line| line.strip_prefix("nr_throttled "));
    times.is_some_and(|times| times.trim() != "0")
}

#[tokio::test]
async fn without_groups_each_process_is_held_and_no_more_is_said() {
    let stage = Stage::on(Fixture::without_groups());
    let pool = small(&stage);
    let limits = pool.limits();
    assert_eq!(means(&limits, "memory"), Some(Means::Rlimit));
    let root = rustix::process::geteuid().is_root();
    let processes = means(&limits, "processes");
    assert_eq!(
        processes,
        (!root).then_some(Means::Rlimit),
        "root is not held"
    );
    let obeyed = stage.get(&pool, "/limits").await.expect("an answer").json();
    assert_eq!(obeyed["DATA"], 96 << 20);
    let cpus = stage.context.launcher.enforcement().cpus;
    if cpus > 1 {
        assert_eq!(means(&limits, "cpu"), Some(Means::Affinity));
        assert_eq!(obeyed["cpus"], 1);
    } else {
        assert_eq!(means(&limits, "cpu"), None, "one of one is no limit");
    }
    let eaten = answer(stage.send(&pool, post("/eat?300", Body::Empty)).await).await;
    assert!(eaten.is_err(), "the program is refused the memory");
    assert_eq!(
        stage
            .send(&pool, get("/head"))
            .await
            .response
            .expect("it goes on")
            .status(),
        200
    );
}

#[tokio::test]
async fn what_left_its_session_and_its_environment_ends_with_its_group() {
    let fixture = Fixture::new();
    if fixture.launcher.enforcement().memory == Some(Means::Rlimit) {
        eprintln!("SKIPPED: no control group with memory can be made here");
        return;
    }
    let path = std::env::var_os("PATH").expect("set");
    let start = |script: &str| {
        let mut command = Command::new("sh", "/").arg("-c").arg(script);
        command = command.env("PATH", path.to_string_lossy());
        command.limits = Limits {
            memory: Some(1 << 28),
            ..Limits::default()
        };
        fixture.launcher.spawn(command)
    };
    // As long as another runs, an orphan without a mark could be that one's.
    let bystander = start("sleep 1000").await.expect("started");
    let escape = "(setsid env -i sleep 1000 & echo $!); sleep 1000";
    let mut child = start(escape).await.expect("started");
    let stdout = child.stdout.take().expect("not taken");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout));
    let escaped = lines.next_line().await.expect("text").expect("a line");
    let escaped: u32 = escaped.parse().expect("a number");
    let folder = group(escaped, "memory").expect("it has its group still");
    drop(child);
    eventually("it ends", || !alive(escaped)).await;
    eventually("its group is gone", || !folder.exists()).await;
    assert!(alive(bystander.pid));
}

/// A5 and A12 at their root: when all want the same CPU, a service that has some reserved gets it, and a function the
/// rest, whatever else the machine does meanwhile.
#[tokio::test]
async fn reserved_cpu_outweighs_functions_that_want_all_of_it() {
    let fixture = Fixture::new();
    if fixture.launcher.enforcement().cpu == Some(Means::Affinity) {
        eprintln!("SKIPPED: no control group with cpu can be made here");
        return;
    }
    let path = std::env::var_os("PATH").expect("set");
    let spin =
        "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nwhile True: pass";
    let start = |weight: Weight| {
        let mut command = Command::new("python3", "/").arg("-c").arg(spin);
        command = command.env("PATH", path.to_string_lossy());
        command.limits = Limits {
            weight,
            ..Limits::default()
        };
        fixture.launcher.spawn(command)
    };
    let service = start(Weight::of(model::Tier::Service, Some(500)));
    let service = service.await.expect("started");
    let mut functions = Vec::new();
    for _ in 0..3 {
        functions.push(start(Weight::FUNCTION).await.expect("started"));
    }
    let cpu = |pid: u32| measure(pid).cpu;
    eventually("all of them spin", || {
        let mut all = functions.iter().chain([&service]);
        all.all(|child| cpu(child.pid) > Duration::from_millis(60))
    })
    .await;
    let before = [service.pid, functions[0].pid].map(cpu);
    eventually("the service has had a second", || {
        cpu(service.pid) > before[0] + Duration::from_secs(1)
    })
    .await;
    let [served, rest] = [service.pid, functions[0].pid].map(cpu);
    let (served, rest) = (served - before[0], rest - before[1]);
    // 600 against 20; a fifth of that is left to the coarseness of the kernel's counting.
    assert!(served > rest * 6, "{served:?} against {rest:?}");
}
