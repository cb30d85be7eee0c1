//! A Podman of a test's own: its folders, its service, and an image that is made here from nothing but busybox.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Stdio},
};

use runtime::container::{self, Engine};
use tempfile::TempDir;

use crate::{
    stage::Stage,
    support::{Fixture, eventually},
};

/// What the image runs: busybox's web server, with what it is asked for as scripts.
const START: &str = r#"
if [ "$1" = --eat ]; then
    /bin/busybox httpd -p 127.0.0.1:$PORT -h /www
    while [ ! -e /tmp/eat ]; do /bin/busybox sleep 0.05; done
    exec /bin/busybox dd if=/dev/zero of=/dev/null bs=300M count=1
fi
[ -n "$METRICS_PORT" ] && /bin/busybox httpd -p 127.0.0.1:$METRICS_PORT -h /www
echo "listens on $PORT"
echo "to stderr" >&2
exec /bin/busybox httpd -f -p 127.0.0.1:$PORT -h /www
"#;

const SCRIPTS: [(&str, &str); 6] = [
    (
        "env",
        "/bin/busybox env; echo pid=$PPID; echo user=$(/bin/busybox id -u); echo group=$(/bin/busybox id -g); echo open=$(ulimit -n)",
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
        "hold",
        "while [ ! -e $TANGELO_STATE_DIR/go ]; do /bin/busybox usleep 20000; done; printf 'Content-Type: text/plain\\r\\n\\r\\nheld\\n'",
    ),
    (
        "state",
        "echo line >> $TANGELO_STATE_DIR/lines; /bin/busybox cat $TANGELO_STATE_DIR/lines",
    ),
];

const BUSYBOX: &str = "/bin/busybox";

/// An engine of this test's own.
pub(super) struct Podman {
    pub(super) folder: TempDir,
    service: process::Child,
}

impl Podman {
    /// `None` where it cannot run, which is said.
    pub(super) async fn start() -> Option<Self> {
        Self::start_in(TempDir::new().expect("a folder")).await
    }

    /// As [`Podman::start`], with what its `folder` has in `registries.conf`.
    pub(super) async fn start_in(folder: TempDir) -> Option<Self> {
        let missing = ["/usr/bin/podman", "/usr/sbin/runc", BUSYBOX];
        let missing = missing.iter().find(|file| !Path::new(file).exists());
        if let Some(missing) = missing {
            eprintln!("SKIPPED: no {missing} (apt-get install podman runc busybox-static)");
            return None;
        }
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
    pub(super) fn import(&self) {
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
        // As images have it, for whichever user.
        let for_all = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        fs::set_permissions(root.join("tmp"), for_all).expect("set");
        fs::copy(BUSYBOX, root.join("bin/busybox")).expect("copied");
        let _ = fs::remove_file(root.join("bin/sh"));
        std::os::unix::fs::symlink("busybox", root.join("bin/sh")).expect("linked");
        fs::write(root.join("start"), START).expect("written");
        let users = "root:x:0:0::/:/bin/sh\nclerk:x:1500:1501::/:/bin/sh\n";
        fs::write(root.join("etc/passwd"), users).expect("written");
        fs::write(root.join("www/health"), "well").expect("written");
        for (name, script) in SCRIPTS {
            let file = root.join("www/cgi-bin").join(name);
            let head = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nexec 2>&1\n";
            // An answer that has begun and has no length would be whole wherever it ends.
            let late = matches!(name, "eat" | "hold");
            let head = if late { "#!/bin/sh\n" } else { head };
            fs::write(&file, format!("{head}{script}\n")).expect("written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&file, mode).expect("set");
        }
        let packed = process::Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(self.packed())
            .arg(".")
            .status();
        assert!(packed.expect("tar runs").success());
        self.import_as("test:1", "LABEL edition=usual");
    }

    fn packed(&self) -> PathBuf {
        self.folder.path().join("image.tar")
    }

    /// Makes another image of the same files, with one instruction more.
    pub(super) fn import_as(&self, name: &str, instruction: &str) {
        let imported = self.run(&[
            "import",
            "--change",
            r#"CMD ["/bin/sh", "/start"]"#,
            "--change",
            instruction,
            self.packed().to_str().expect("text"),
            name,
        ]);
        assert!(imported.status.success(), "{imported:?}");
    }

    pub(super) fn run(&self, args: &[&str]) -> process::Output {
        command(self.folder.path())
            .args(args)
            .output()
            .expect("podman is there")
    }

    /// The ids of all containers that are there.
    pub(super) fn containers(&self) -> Vec<String> {
        let listed = self.run(&["ps", "--all", "--quiet", "--no-trunc"]);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        listed.lines().map(str::to_owned).collect()
    }

    /// Whether it says of a container that was ended over its memory that it was: not every version does everywhere.
    pub(super) fn knows_want_of_memory(&self) -> bool {
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

    pub(super) fn engine(&self, data: &Path) -> Engine {
        Engine::new(container::Options {
            sockets: vec![
                PathBuf::from("/nowhere.sock"),
                self.folder.path().join("podman.sock"),
            ],
            logins: Vec::new(),
            data: data.to_owned(),
        })
    }

    pub(super) fn stage(&self) -> Stage {
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
    let registries = folder.join("registries.conf");
    if registries.exists() {
        command.env("CONTAINERS_REGISTRIES_CONF", registries);
    }
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
