//! Containers of the shipped binary on a real Podman, and what a kill of the server leaves of them: nothing.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context, Result};
use http::StatusCode;
use tempfile::TempDir;
use testkit::{Server, eventually};

use crate::TANGELO;

const MANIFEST: &str = "
app: boxed
workloads:
  box:
    as: service
    run: {container: {image: 'box:1', pull: never, volumes: {kept: /data}}}
    health: /health
    memory: 64MiB
    calls: [echo]
  echo:
    as: service
    run: {process: {command: [python3, echo.py]}}
gateway:
  routes:
    - {path: /box/*, to: box, rewrite: /*}
";

/// Its server says a file, and by a script calls another workload over the mesh.
const START: &str = "exec /bin/busybox httpd -f -p 127.0.0.1:$PORT -h /www\n";
const CALL: &str = "#!/bin/sh
printf 'Content-Type: application/json\\r\\n\\r\\n'
exec /bin/busybox wget -q -O - $ECHO_URL/from-a-container
";

/// An engine with folders of its own; ended with what it runs.
struct Podman {
    folder: TempDir,
    service: Option<Child>,
}

impl Podman {
    /// `None` where it cannot run, which is said.
    async fn start() -> Result<Option<Self>> {
        let needed = ["/usr/bin/podman", "/usr/sbin/runc", "/bin/busybox"];
        if let Some(missing) = needed.iter().find(|file| !Path::new(file).exists()) {
            eprintln!("SKIPPED: no {missing} (apt-get install podman runc busybox-static)");
            return Ok(None);
        }
        let mut podman = Self {
            folder: TempDir::new()?,
            service: None,
        };
        podman.make_image()?;
        let try_out = [
            "run",
            "--rm",
            "--network=host",
            "--ulimit=nofile=64:64",
            "--ulimit=nproc=1000:1000",
        ];
        let tried = podman.run(&[&try_out[..], &["box:1", "/bin/busybox", "true"]].concat())?;
        if !tried.status.success() {
            let why = String::from_utf8_lossy(&tried.stderr);
            eprintln!("SKIPPED: podman starts no container here: {why}");
            return Ok(None);
        }
        let service = podman
            .command()?
            .args(["system", "service", "--time", "0"])
            .arg(format!("unix://{}", podman.socket()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        podman.service = Some(service);
        eventually("podman listens", || async {
            Path::new(&podman.socket()).exists().then_some(())
        })
        .await;
        Ok(Some(podman))
    }

    fn socket(&self) -> String {
        self.folder.path().join("podman.sock").display().to_string()
    }

    fn command(&self) -> Result<Command> {
        let folder = self.folder.path();
        let settings = folder.join("containers.conf");
        fs::write(
            &settings,
            "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
        )?;
        let mut command = Command::new("/usr/bin/podman");
        command.env("CONTAINERS_CONF", settings);
        for (flag, at) in [("--root", "root"), ("--runroot", "run")] {
            command.arg(flag).arg(folder.join(at));
        }
        command.args([
            "--storage-driver=vfs",
            "--runtime=runc",
            "--cgroup-manager=cgroupfs",
        ]);
        Ok(command)
    }

    fn run(&self, args: &[&str]) -> Result<Output> {
        Ok(self.command()?.args(args).output()?)
    }

    fn make_image(&self) -> Result<()> {
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
            fs::create_dir_all(root.join(folder))?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))?;
        std::os::unix::fs::symlink("busybox", root.join("bin/sh"))?;
        fs::write(root.join("start"), START)?;
        fs::write(root.join("www/health"), "well")?;
        let call = root.join("www/cgi-bin/call");
        fs::write(&call, CALL)?;
        fs::set_permissions(&call, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let tar = self.folder.path().join("image.tar");
        let packed = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .arg(".")
            .status()?;
        anyhow::ensure!(packed.success(), "tar failed");
        let tar = tar.to_str().context("a path that is text")?;
        let change = "CMD [\"/bin/sh\", \"/start\"]";
        let imported = self.run(&["import", "--change", change, tar, "box:1"])?;
        anyhow::ensure!(imported.status.success(), "{imported:?}");
        Ok(())
    }

    /// The ids of the containers that are there.
    fn containers(&self) -> Result<Vec<String>> {
        let listed = self.run(&["ps", "--all", "--quiet", "--no-trunc"])?.stdout;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        Ok(listed.lines().map(str::to_owned).collect())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--all", "--force", "--time", "0"]);
        if let Some(service) = &mut self.service {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

#[tokio::test]
async fn a_container_is_an_instance_and_a_killed_server_s_are_swept_before_anything_listens()
-> Result<()> {
    let Some(podman) = Podman::start().await? else {
        return Ok(());
    };
    let socket = podman.socket();
    let mut server = Server::start_with(TANGELO, &["--containers", &socket, "--grace", "1s"])?;
    server.deploy(&[("tangelo.yaml", MANIFEST), ("echo.py", crate::ECHO)])?;
    let called = server.gateway().get("/box/cgi-bin/call").await?;
    assert_eq!(called.status, StatusCode::OK, "{}", called.text());
    assert_eq!(called.json()["path"], "/from-a-container", "over the mesh");
    let said = server.json(&["ps", "--isolation"])?.to_string();
    assert!(said.contains("own file system, read-only"), "{said}");
    let before = podman.containers()?;
    assert_eq!(before.len(), 1);

    server.kill()?;
    assert_eq!(podman.containers()?, before, "an engine keeps what it runs");
    server.restart()?;
    let mut after = podman.containers()?;
    after.retain(|id| before.contains(id));
    assert!(
        after.is_empty(),
        "the old one is gone when the server is ready"
    );
    assert_eq!(server.gateway().get("/box/health").await?.text(), "well");
    server.stop()?;
    assert!(podman.containers()?.is_empty(), "nothing is left");
    Ok(())
}
