//! A container engine of a test's own, Podman or Docker, in a temporary folder, with images that are made from nothing but busybox.
//!
//! Dropping it ends it with all that it runs. A Docker lives in mounts of its own, which go with its last process, and is asked to end
//! when the test is killed, too. The commands of both take the same words, but for what has a function of its own here.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::eventually;

const BUSYBOX: &str = "/bin/busybox";

/// What a container must be told where the machine allows less than an engine assumes.
const PLAIN: [&str; 3] = [
    "--network=host",
    "--ulimit=nofile=64:64",
    "--ulimit=nproc=1000:1000",
];

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// Podman with its service.
    Podman,
    /// Docker's daemon with a containerd of its own.
    Docker,
}

impl EngineKind {
    /// What it calls itself.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Podman => "Podman Engine",
            Self::Docker => "Docker Engine",
        }
    }

    /// The files that it cannot do without, and the packages that they are in.
    const fn needs(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::Podman => (
                &["/usr/bin/podman", "/usr/sbin/runc", BUSYBOX],
                "podman runc busybox-static",
            ),
            Self::Docker => (
                &["/usr/sbin/dockerd", "/usr/bin/docker", BUSYBOX],
                "docker.io busybox-static",
            ),
        }
    }
}

/// What the images of a test hold beside busybox: a web server's files at `/www`, with `well` at `/health`.
pub struct ImageFiles {
    /// What `/bin/sh /start` does, which is their command.
    pub start: &'static str,
    /// The scripts in `/www/cgi-bin`, by name.
    pub scripts: Vec<(&'static str, String)>,
}

/// The engine.
pub struct ContainerEngine {
    kind: EngineKind,
    folder: TempDir,
    service: Child,
}

impl ContainerEngine {
    /// Starts one in `folder`, with an image of this name; `None`, said on stderr, where it cannot run. A Podman knows what the folder
    /// has in `registries.conf`; a Docker trusts all registries of this machine.
    ///
    /// # Panics
    /// When it runs and does not do what is asked of it.
    pub async fn start(
        kind: EngineKind,
        folder: TempDir,
        image: &str,
        files: &ImageFiles,
    ) -> Option<Self> {
        let (needed, packages) = kind.needs();
        if let Some(missing) = needed.iter().find(|file| !Path::new(file).exists()) {
            eprintln!("SKIPPED: no {missing} (apt-get install {packages})");
            return None;
        }
        let log = fs::File::create(folder.path().join("service.log")).expect("is made");
        let service = service(kind, folder.path())
            .stdout(log.try_clone().expect("is open"))
            .stderr(log)
            .spawn()
            .expect("is there");
        let mut engine = Self {
            kind,
            folder,
            service,
        };
        let socket = engine.socket();
        eventually("the engine listens or has ended", || {
            let ended = matches!(engine.service.try_wait(), Ok(Some(_)));
            let there = ended || socket.exists();
            async move { there.then_some(()) }
        })
        .await;
        files.pack(engine.folder.path());
        let made = engine.make(image, "LABEL edition=usual");
        let tried = match made.status.success() {
            true => engine.run(
                &[
                    &["run", "--rm"],
                    &PLAIN[..],
                    &[image, "/bin/busybox", "true"],
                ]
                .concat(),
            ),
            false => made,
        };
        if !tried.status.success() {
            let why = String::from_utf8_lossy(&tried.stderr);
            let log = fs::read_to_string(engine.folder.path().join("service.log"));
            let log = log.unwrap_or_default();
            let last = log.lines().last().unwrap_or_default();
            let why = why.trim();
            eprintln!("SKIPPED: {kind:?} starts no container here: {why} ({last})");
            return None;
        }
        Some(engine)
    }

    /// Which one it is.
    #[must_use]
    pub fn kind(&self) -> EngineKind {
        self.kind
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    /// Makes an image of the usual files, with one instruction more.
    ///
    /// # Panics
    /// When it does not.
    pub fn import(&self, name: &str, instruction: &str) {
        let made = self.make(name, instruction);
        assert!(made.status.success(), "{made:?}");
    }

    fn make(&self, name: &str, instruction: &str) -> Output {
        let packed = self.folder.path().join("image.tar");
        let command = r#"CMD ["/bin/sh", "/start"]"#;
        self.run(&[
            "import",
            "--change",
            command,
            "--change",
            instruction,
            packed.to_str().expect("text"),
            name,
        ])
    }

    /// Takes a name from an image, whoever runs it.
    ///
    /// # Panics
    /// When it does not.
    pub fn untag(&self, name: &str) {
        let done = match self.kind {
            EngineKind::Podman => self.run(&["untag", name]),
            EngineKind::Docker => self.run(&["rmi", "--force", name]),
        };
        assert!(done.status.success(), "{done:?}");
    }

    /// Runs the engine's own command.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        let folder = self.folder.path();
        let mut command = match self.kind {
            EngineKind::Podman => podman(folder),
            EngineKind::Docker => {
                let mut command = Command::new("/usr/bin/docker");
                // Not what the machine's user has set.
                command.env("DOCKER_CONFIG", folder.join("client"));
                command.arg("--host").arg(unix(&self.socket()));
                command
            }
        };
        command.args(args).output().expect("is there")
    }

    /// The ids of all containers that are there.
    #[must_use]
    pub fn containers(&self) -> Vec<String> {
        let listed = self.run(&["ps", "--all", "--quiet", "--no-trunc"]);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        listed.lines().map(str::to_owned).collect()
    }

    /// Whether it says of a container that was ended over its memory that it was: not every version does everywhere.
    ///
    /// # Panics
    /// When it was not ended.
    #[must_use]
    pub fn knows_want_of_memory(&self, image: &str) -> bool {
        let eat = "exec /bin/busybox dd if=/dev/zero of=/dev/null bs=300M count=1";
        let ask = [
            &["run", "--name=eats", "--memory=64m"],
            &PLAIN[..],
            &[image, "/bin/sh", "-c", eat],
        ]
        .concat();
        let eaten = self.run(&ask);
        assert_eq!(eaten.status.code(), Some(137), "{eaten:?}");
        let said = self.run(&["inspect", "eats", "--format", "{{.State.OOMKilled}}"]);
        let removed = self.run(&["rm", "eats"]);
        assert!(removed.status.success(), "{removed:?}");
        said.stdout.starts_with(b"true")
    }

    /// Ends a Docker as its daemon wants to be ended, because its containerd goes with it then.
    fn end_daemon(&mut self) {
        let there = self.containers();
        let all: Vec<&str> = there.iter().map(String::as_str).collect();
        if !all.is_empty() {
            let _ = self.run(&[&["rm", "--force"], &all[..]].concat());
        }
        if matches!(self.service.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.service), Signal::TERM);
        }
        let _ = self.service.wait();
    }
}

impl Drop for ContainerEngine {
    fn drop(&mut self) {
        match self.kind {
            EngineKind::Podman => {
                let _ = self.run(&["rm", "--all", "--force", "--time", "0"]);
                let _ = self.service.kill();
                let _ = self.service.wait();
            }
            EngineKind::Docker => self.end_daemon(),
        }
    }
}

impl ImageFiles {
    /// Writes `image.tar` in this folder.
    fn pack(&self, folder: &Path) {
        let root = folder.join("image");
        let all = [
            "bin",
            "www/cgi-bin",
            "tmp",
            "data",
            "proc",
            "sys",
            "dev",
            "etc",
        ];
        for folder in all {
            fs::create_dir_all(root.join(folder)).expect("made");
        }
        let mode = |file: &Path, mode| {
            fs::set_permissions(file, PermissionsExt::from_mode(mode)).expect("set");
        };
        // As images have it, for whichever user.
        mode(&root.join("tmp"), 0o1777);
        fs::copy(BUSYBOX, root.join("bin/busybox")).expect("copied");
        symlink("busybox", root.join("bin/sh")).expect("linked");
        fs::write(root.join("start"), self.start).expect("written");
        let users = "root:x:0:0::/:/bin/sh\nclerk:x:1500:1501::/:/bin/sh\n";
        fs::write(root.join("etc/passwd"), users).expect("written");
        fs::write(root.join("www/health"), "well").expect("written");
        for (name, script) in &self.scripts {
            let file = root.join("www/cgi-bin").join(name);
            fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("written");
            mode(&file, 0o755);
        }
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&root).arg("-cf");
        let packed = tar.arg(folder.join("image.tar")).arg(".").status();
        assert!(packed.expect("tar runs").success());
    }
}

fn unix(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// What listens at the socket.
fn service(kind: EngineKind, folder: &Path) -> Command {
    let at = unix(&folder.join("engine.sock"));
    let mut command = match kind {
        EngineKind::Podman => {
            let mut command = podman(folder);
            command.args(["system", "service", "--time", "0", &at]);
            command
        }
        EngineKind::Docker => dockerd(folder, &at),
    };
    command.stdin(Stdio::null());
    command
}

/// Podman with folders of its own, and with the runtime that starts where hierarchies are mixed.
fn podman(folder: &Path) -> Command {
    let settings = folder.join("containers.conf");
    if !settings.exists() {
        let text = "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        fs::write(&settings, text).expect("written");
    }
    let mut command = Command::new("/usr/bin/podman");
    let registries = folder.join("registries.conf");
    if registries.exists() {
        command.env("CONTAINERS_REGISTRIES_CONF", registries);
    }
    command.env("CONTAINERS_CONF", settings);
    for (flag, at) in [("--root", "root"), ("--runroot", "run")] {
        command.arg(flag).arg(folder.join(at));
    }
    command.args([
        "--storage-driver=vfs",
        "--runtime=runc",
        "--cgroup-manager=cgroupfs",
    ]);
    command
}

/// Docker's daemon with folders of its own, beside any other: it makes no networks, because all containers use the machine's.
fn dockerd(folder: &Path, at: &str) -> Command {
    // Not what the machine's daemon is told.
    let settings = folder.join("daemon.json");
    fs::write(&settings, "{}").expect("written");
    // It would use a containerd of the machine's that it finds there.
    let hide = r#"test ! -d /run/containerd || mount -t tmpfs none /run/containerd; exec "$@""#;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "unshare", "--mount"]);
    command.args(["sh", "-c", hide, "sh", "/usr/sbin/dockerd", "--host", at]);
    for (flag, at) in [
        ("--config-file", "daemon.json"),
        ("--data-root", "root"),
        ("--exec-root", "run"),
        ("--pidfile", "pid"),
    ] {
        command.arg(flag).arg(folder.join(at));
    }
    command.args([
        "--storage-driver=vfs",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
    ]);
    command
}
