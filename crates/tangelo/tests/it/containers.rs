//! Containers of the shipped binary on a real Podman, and what a kill of the server leaves of them: nothing.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context, Result};
use http::StatusCode;
use serde_json::Value;
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
    env: {ROUND: '1'}
  echo:
    as: service
    run: {process: {command: [python3, echo.py]}}
  elsewhere:
    as: service
    run: {external: {url: 'http://127.0.0.1:ELSEWHERE'}}
gateway:
  routes:
    - {path: /box/*, to: box, rewrite: /*}
    - {path: /echo/*, to: echo, rewrite: /*}
    - {path: /elsewhere/*, to: elsewhere, rewrite: /*}
";

/// Its server says a file, and by a script calls another workload over the mesh.
const START: &str = "exec /bin/busybox httpd -f -p 127.0.0.1:$PORT -h /www\n";
const CALL: &str = "#!/bin/sh
printf 'Content-Type: application/json\\r\\n\\r\\n'
exec /bin/busybox wget -q -O - $ECHO_URL/from-a-container
";
const KEEP: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo round $ROUND >> /data/kept
exec /bin/busybox cat /data/kept
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
        for (name, script) in [("call", CALL), ("keep", KEEP)] {
            let file = root.join("www/cgi-bin").join(name);
            fs::write(&file, script)?;
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
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

fn deploy(server: &Server, manifest: &str) -> Result<Value> {
    let manifest = manifest.replace("ELSEWHERE", "9");
    server.deploy(&[("tangelo.yaml", &manifest), ("echo.py", crate::ECHO)])
}

#[tokio::test]
async fn a_container_is_an_instance_and_a_killed_server_s_are_swept_before_anything_listens()
-> Result<()> {
    let Some(podman) = Podman::start().await? else {
        return Ok(());
    };
    let socket = podman.socket();
    let mut server = Server::start_with(TANGELO, &["--containers", &socket, "--grace", "1s"])?;
    deploy(&server, MANIFEST)?;
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

    // One that is on its way out when the server is told to stop.
    server.restart()?;
    assert_eq!(server.gateway().get("/box/health").await?.text(), "well");
    let without = "app: boxed\nworkloads:\n  echo:\n    as: service\n    run: {process: {command: [python3, echo.py]}}\n";
    deploy(&server, without)?;
    server.stop()?;
    assert!(podman.containers()?.is_empty(), "nothing is left");
    Ok(())
}

#[tokio::test]
async fn a_named_volume_outlives_instances_deploys_and_the_server() -> Result<()> {
    let Some(podman) = Podman::start().await? else {
        return Ok(());
    };
    let socket = podman.socket();
    let mut server = Server::start_with(TANGELO, &["--containers", &socket, "--grace", "1s"])?;
    deploy(&server, MANIFEST)?;
    let keep = async |server: &Server| -> Result<String> {
        let kept = server.gateway().get("/box/cgi-bin/keep").await?;
        assert_eq!(kept.status, StatusCode::OK, "{}", kept.text());
        Ok(kept.text())
    };
    assert_eq!(keep(&server).await?, "round 1\n");
    // An instance that ends, and the one in its place.
    let first = podman.containers()?;
    podman.run(&["kill", &first[0]])?;
    eventually("another one serves", || async {
        let there = podman.containers().ok()?;
        let well = server.gateway().get("/box/health").await.ok()?;
        (well.status == StatusCode::OK && !there.contains(&first[0])).then_some(())
    })
    .await;
    assert_eq!(keep(&server).await?, "round 1\nround 1\n");
    // Another version of the workload.
    deploy(&server, &MANIFEST.replace("ROUND: '1'", "ROUND: '2'"))?;
    assert!(keep(&server).await?.ends_with("round 1\nround 2\n"));
    // A server that was killed, and one that was stopped.
    server.kill()?;
    server.restart()?;
    assert!(keep(&server).await?.ends_with("round 2\nround 2\n"));
    server.stop()?;
    assert!(
        podman.containers()?.is_empty(),
        "nothing but the volume is left"
    );
    server.restart()?;
    assert_eq!(keep(&server).await?.lines().count(), 5);
    // The app itself: what it stored stays, and is there when it comes again.
    server.json(&["remove", "boxed"])?;
    deploy(&server, MANIFEST)?;
    assert_eq!(keep(&server).await?.lines().count(), 6);
    Ok(())
}

/// Answers each request with the same words, as a service that somebody else runs.
fn elsewhere() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut read, mut buffer) = (Vec::new(), [0; 1024]);
            while !read.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(length) if length > 0 => read.extend_from_slice(&buffer[..length]),
                    _ => break,
                }
            }
            let answer =
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nelsewhere";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    Ok(port)
}

#[tokio::test]
async fn a_process_an_image_and_what_others_run_are_routed_alike() -> Result<()> {
    let Some(podman) = Podman::start().await? else {
        return Ok(());
    };
    let socket = podman.socket();
    let server = Server::start_with(TANGELO, &["--containers", &socket, "--grace", "1s"])?;
    deploy(
        &server,
        &MANIFEST.replace("ELSEWHERE", &elsewhere()?.to_string()),
    )?;
    let ask = async |path: &str| -> Result<String> {
        let answer = server.gateway().get(path).await?;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        Ok(answer.text())
    };
    assert_eq!(ask("/box/health").await?, "well");
    assert!(ask("/echo/health").await?.contains("/health"));
    assert_eq!(ask("/elsewhere/health").await?, "elsewhere");
    let listed = server.json(&["ps"])?;
    let mut runtimes: Vec<_> = listed["workloads"]
        .as_array()
        .context("a list")?
        .iter()
        .map(|row| row["runtime"].as_str())
        .collect();
    runtimes.sort_unstable();
    assert_eq!(
        runtimes,
        [Some("container"), Some("external"), Some("process")]
    );
    // And the machine's doctor says what it found.
    let doctor = Command::new(TANGELO)
        .args(["--json", "--data"])
        .arg(server.data())
        .args(["doctor", "--containers", &socket])
        .output()?;
    let said: Value = serde_json::from_slice(&doctor.stdout)?;
    let engine = said["findings"]
        .as_array()
        .context("a list")?
        .iter()
        .find(|one| one["what"] == "container engine");
    let found = engine.context("it is said")?["found"]
        .as_str()
        .unwrap_or_default();
    for part in ["Podman Engine", &socket, "cgroup v", "(cgroupfs)", "pull"] {
        assert!(found.contains(part), "{part}: {found}");
    }
    Ok(())
}
