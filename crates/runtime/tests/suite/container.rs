//! Containers on a real engine: Podman, with images that are made here from nothing but busybox.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{self, Stdio},
    sync::Arc,
    time::Duration,
};

use model::{ByteSize, Run, app::Pull, code};
use runtime::{
    Body, LogStream, Spec,
    container::{self, Engine},
    launcher::Means,
    process::Pool,
};
use tempfile::TempDir;

use crate::{
    stage::{PACE, Stage, answer, post, quick, scale},
    support::{Fixture, alive, eventually},
};

/// What the image runs: busybox's web server, with what it is asked for as scripts.
const START: &str = r#"
if [ "$1" = --eat ]; then
    /bin/busybox httpd -p 127.0.0.1:$PORT -h /www
    while [ ! -e /tmp/eat ]; do /bin/busybox sleep 0.05; done
    exec /bin/busybox dd if=/dev/zero of=/dev/null bs=300M count=1
fi
echo "listens on $PORT"
echo "to stderr" >&2
exec /bin/busybox httpd -f -p 127.0.0.1:$PORT -h /www
"#;

const SCRIPTS: [(&str, &str); 5] = [
    (
        "env",
        "/bin/busybox env; echo pid=$PPID; echo user=$(/bin/busybox id -u); echo open=$(ulimit -n)",
    ),
    ("groups", "/bin/busybox cat /proc/self/cgroup"),
    (
        "write",
        "/bin/busybox touch /www/here || echo read-only; /bin/busybox touch /tmp/here && echo tmp; echo kept >> /data/kept; /bin/busybox cat /data/kept",
    ),
    (
        "eat",
        "/bin/busybox touch /tmp/eat; /bin/busybox sleep 30; echo survived",
    ),
    (
        "state",
        "echo line >> $TANGELO_STATE_DIR/lines; /bin/busybox cat $TANGELO_STATE_DIR/lines",
    ),
];

/// A first process without a handler hears no request to end, so that each drain lasts this long.
const GRACE: Duration = Duration::from_millis(500);

const BUSYBOX: &str = "/bin/busybox";

/// An engine of this test's own.
struct Podman {
    folder: TempDir,
    service: process::Child,
}

impl Podman {
    /// `None` where it cannot run, which is said.
    async fn start() -> Option<Self> {
        let missing = ["/usr/bin/podman", "/usr/sbin/runc", BUSYBOX];
        let missing = missing.iter().find(|file| !Path::new(file).exists());
        if let Some(missing) = missing {
            eprintln!("SKIPPED: no {missing} (apt-get install podman runc busybox-static)");
            return None;
        }
        let folder = TempDir::new().expect("a folder");
        let socket = folder.path().join("podman.sock");
        let mut service = command(folder.path())
            .args(["system", "service", "--time", "0"])
            .arg(format!("unix://{}", socket.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("podman is there");
        eventually("podman listens or has ended", || {
            socket.exists() || matches!(service.try_wait(), Ok(Some(_)))
        })
        .await;
        let podman = Self { folder, service };
        podman.import();
        let output = podman.run(&[
            "run",
            "--rm",
            "--network",
            "host",
            "--ulimit",
            "nofile=64:64",
            "--ulimit",
            "nproc=1000:1000",
            "test:1",
            "/bin/busybox",
            "true",
        ]);
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            eprintln!("SKIPPED: podman starts no container here: {why}");
            return None;
        }
        Some(podman)
    }

    /// Makes the image `test:1`.
    fn import(&self) {
        let root = self.folder.path().join("image");
        for folder in [
            "bin",
            "www/cgi-bin",
            "tmp",
            "data",
            "proc",
            "sys",
            "dev",
            "etc",
        ] {
            fs::create_dir_all(root.join(folder)).expect("made");
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).expect("copied");
        let _ = fs::remove_file(root.join("bin/sh"));
        std::os::unix::fs::symlink("busybox", root.join("bin/sh")).expect("linked");
        fs::write(root.join("start"), START).expect("written");
        fs::write(root.join("www/health"), "well").expect("written");
        for (name, script) in SCRIPTS {
            let file = root.join("www/cgi-bin").join(name);
            let head = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nexec 2>&1\n";
            // An answer that has begun and has no length would be whole wherever it ends.
            let head = if name == "eat" { "#!/bin/sh\n" } else { head };
            fs::write(&file, format!("{head}{script}\n")).expect("written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&file, mode).expect("set");
        }
        let tar = self.folder.path().join("image.tar");
        let packed = process::Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .arg(".")
            .status();
        assert!(packed.expect("tar runs").success());
        let imported = self.run(&[
            "import",
            "--change",
            r#"CMD ["/bin/sh", "/start"]"#,
            tar.to_str().expect("text"),
            "test:1",
        ]);
        assert!(imported.status.success(), "{imported:?}");
    }

    fn run(&self, args: &[&str]) -> process::Output {
        command(self.folder.path())
            .args(args)
            .output()
            .expect("podman is there")
    }

    /// The ids of all containers that are there.
    fn containers(&self) -> Vec<String> {
        let listed = self.run(&["ps", "--all", "--quiet", "--no-trunc"]);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        listed.lines().map(str::to_owned).collect()
    }

    /// Whether it says of a container that was ended over its memory that it was: not every version does everywhere.
    fn knows_want_of_memory(&self) -> bool {
        let eat = "exec /bin/busybox dd if=/dev/zero of=/dev/null bs=300M count=1";
        let limits = [
            "--network=host",
            "--memory=64m",
            "--ulimit=nofile=64:64",
            "--ulimit=nproc=1000:1000",
        ];
        let ask = [
            &["run", "--name=eats"],
            &limits[..],
            &["test:1", "/bin/sh", "-c", eat],
        ]
        .concat();
        let eaten = self.run(&ask);
        assert_eq!(eaten.status.code(), Some(137), "{eaten:?}");
        let said = self.run(&["inspect", "eats", "--format", "{{.State.OOMKilled}}"]);
        said.stdout.starts_with(b"true")
    }

    fn engine(&self, data: &Path) -> Engine {
        Engine::new(container::Options {
            sockets: vec![
                PathBuf::from("/nowhere.sock"),
                self.folder.path().join("podman.sock"),
            ],
            logins: Vec::new(),
            data: data.to_owned(),
        })
    }

    fn stage(&self) -> Stage {
        let fixture = Fixture::new();
        let engine = self.engine(fixture.folder.path());
        Stage::with(fixture, engine)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(&["rm", "--all", "--force", "--time", "0"]);
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

/// Podman with folders of its own, and with the runtime that starts where hierarchies are mixed.
fn command(folder: &Path) -> process::Command {
    let settings = folder.join("containers.conf");
    if !settings.exists() {
        let text = "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        fs::write(&settings, text).expect("written");
    }
    let mut command = process::Command::new("/usr/bin/podman");
    command
        .env("CONTAINERS_CONF", settings)
        .arg("--root")
        .arg(folder.join("root"))
        .arg("--runroot")
        .arg(folder.join("run"))
        .args([
            "--storage-driver",
            "vfs",
            "--runtime",
            "runc",
            "--cgroup-manager",
            "cgroupfs",
        ]);
    command
}

fn run() -> Run {
    Run::Container {
        image: "test:1".to_owned(),
        command: Vec::new(),
        user: None,
        volumes: BTreeMap::from([("kept".to_owned(), "/data".to_owned())]),
        pull: Pull::Never,
        writable: false,
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
    Pool::with_pace(&stage.context, spec, PACE)
}

async fn text(stage: &Stage, pool: &Arc<Pool>, path: &str) -> String {
    let answer = stage.get(pool, path).await.expect("an answer");
    assert_eq!(answer.status, 200, "{path}");
    String::from_utf8(answer.body.to_vec()).expect("text")
}

#[tokio::test]
async fn a_container_has_the_contract_of_a_process() {
    let Some(podman) = Podman::start().await else {
        return;
    };
    let stage = podman.stage();
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
        assert!(groups.contains("libpod"), "{groups}");
    }
    let pid = pool.stats().instances[0].pid.expect("it runs here");
    assert!(alive(pid) && pool.stats().instances[0].memory > 0);
    pool.drain(GRACE).await;
    assert!(!alive(pid));
    eventually("it is removed", || podman.containers().is_empty()).await;
}

#[tokio::test]
async fn volumes_outlive_instances_and_each_gets_the_same_image() {
    let Some(podman) = Podman::start().await else {
        return;
    };
    let stage = podman.stage();
    let first = pool(&stage, |spec| {
        spec.workload.scale = scale(2, 2, 10, Duration::from_secs(600))
    });
    first.warm().await.expect("both start");
    assert_eq!(podman.containers().len(), 2);
    assert!(
        text(&stage, &first, "/cgi-bin/write")
            .await
            .ends_with("tmp\nkept\n")
    );
    // What the tag names now is nothing to a pool that has started.
    podman.run(&["untag", "test:1"]);
    let killed = podman.containers();
    podman.run(&["kill", &killed[0]]);
    eventually("another takes its place", || {
        let there = podman.containers();
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
    podman.import();
    let again = pool(&stage, |_| {});
    let kept = text(&stage, &again, "/cgi-bin/write").await;
    assert!(kept.ends_with("tmp\nkept\nkept\n"), "{kept}");
    again.drain(GRACE).await;
}

#[tokio::test]
async fn a_container_over_its_memory_is_told_as_a_process_is() {
    let Some(podman) = Podman::start().await else {
        return;
    };
    let stage = podman.stage();
    let pool = pool(&stage, |spec| {
        if let Run::Container { command, .. } = &mut spec.workload.run {
            *command = ["/bin/sh", "/start", "--eat"].map(str::to_owned).into();
        }
    });
    pool.warm().await.expect("it starts");
    let error = answer(stage.send(&pool, post("/cgi-bin/eat", Body::Empty)).await).await;
    let error = error.err().expect("it is ended");
    if podman.knows_want_of_memory() {
        assert_eq!(error.code, code::INSTANCE_MEMORY, "{error}");
        let line = "64MiB of memory and was ended";
        eventually("a line says so", || stage.listener.heard(line)).await;
    } else {
        eprintln!("SKIPPED: this podman does not tell why the kernel ended a container");
        assert_eq!(error.code, code::INSTANCE_DIED, "{error}");
        assert!(error.message.contains("signal 9"), "{error}");
    }
    pool.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn what_cannot_start_says_why_and_leaves_nothing() {
    let Some(podman) = Podman::start().await else {
        return;
    };
    let stage = podman.stage();
    let pool = pool(&stage, |spec| {
        if let Run::Container { command, .. } = &mut spec.workload.run {
            *command = vec!["/no/such/program".to_owned()];
        }
    });
    let error = pool.warm().await.expect_err("there is no such program");
    assert_eq!(error.code, code::START_FAILED);
    assert!(error.message.contains("/no/such/program"), "{error}");
    pool.drain(Duration::ZERO).await;
    eventually("nothing is left", || podman.containers().is_empty()).await;
}

#[tokio::test]
async fn a_sweep_removes_what_this_server_left_and_nothing_else() {
    let Some(podman) = Podman::start().await else {
        return;
    };
    let (stage, other) = (podman.stage(), podman.stage());
    let (pool, others) = (pool(&stage, |_| {}), self::pool(&other, |_| {}));
    pool.warm().await.expect("it starts");
    others.warm().await.expect("it starts");
    assert_eq!(podman.containers().len(), 2);
    // As the next server does: another handle on the same folder.
    let engine = podman.engine(stage.fixture.folder.path());
    assert_eq!(engine.sweep().await.expect("swept"), 1);
    assert_eq!(engine.sweep().await.expect("nothing to do"), 0);
    let serves = self::text(&other, &others, "/health").await;
    assert_eq!(serves, "well");
    pool.drain(Duration::ZERO).await;
    others.drain(GRACE).await;
}
