//! A platform in a temporary folder with edge and mesh on free ports, everything real.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use gateway::{Edge, Listener, MeshDoor, edge, mesh};
use model::{ByteSize, Clock, Ids, Limits};
use platform::{FolderLock, Kept, Options, Platform, Running, deploy::Request};
use runtime::{
    container::{self, Engine},
    launcher::Launcher,
};

/// A running platform with its doors.
pub(crate) struct House {
    pub(crate) edge: Edge,
    pub(crate) mesh: MeshDoor,
    running: Running,
    _folder: tempfile::TempDir,
}

/// What a test wants to be different.
pub(crate) struct Wishes {
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) connections: fn(&mut gateway::ConnectionLimits),
    pub(crate) trusted: Vec<gateway::forwarded::Network>,
    /// For a second listener that speaks TLS.
    pub(crate) certificates: Option<gateway::tls::Certificates>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            limits: Limits::default(),
            connections: |_| {},
            trusted: Vec::new(),
            certificates: None,
        }
    }
}

impl House {
    /// A house that serves `manifest`.
    pub(crate) async fn open(manifest: &str) -> Self {
        Self::with(manifest, Wishes::default()).await
    }

    /// A house that serves `manifest` as `wishes` say.
    pub(crate) async fn with(manifest: &str, wishes: Wishes) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("is an address");
        let (front, inside) = (listen(any, 2), listen(any, 1));
        let options = options(folder.path(), &wishes, inside.address());
        let running = Platform::open(options).await.expect("the platform opens");
        let mut limits = edge::connection_limits(&wishes.limits);
        (wishes.connections)(&mut limits);
        let tls = wishes.certificates;
        let edge_options = edge::Options {
            listeners: std::iter::once(front)
                .chain(tls.map(|certificates| listen(any, 2).with_tls(certificates)))
                .collect(),
            limits,
            trusted: wishes.trusted,
            doors: Vec::new(),
        };
        let mesh_options = mesh::Options {
            listeners: vec![inside],
            limits,
            doors: Vec::new(),
        };
        let platform = running.platform.clone();
        let house = Self {
            edge: Edge::start(edge_options, platform.clone()).expect("the edge starts"),
            mesh: MeshDoor::start(mesh_options, platform).expect("the mesh starts"),
            running,
            _folder: folder,
        };
        house.deploy(manifest).await;
        house
    }

    /// Waits until nothing is under way at `workload`.
    pub(crate) async fn until_idle(&self, workload: &str) {
        let callee = self.platform().apps().by_name(workload, None);
        let callee = callee.expect("is live");
        while callee.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Makes `manifest` live.
    pub(crate) async fn deploy(&self, manifest: &str) {
        let request = Request {
            manifest: manifest.to_owned(),
            files: Default::default(),
            contracts: Default::default(),
            expect: None,
        };
        self.platform()
            .deployer()
            .deploy(request)
            .await
            .expect("the manifest is good");
    }

    pub(crate) fn platform(&self) -> &Platform {
        &self.running.platform
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.edge.addresses()[0]
    }

    /// Where clients find it with TLS.
    pub(crate) fn tls_address(&self) -> SocketAddr {
        self.edge.addresses()[1]
    }
}

fn listen(address: SocketAddr, workers: usize) -> Listener {
    Listener::bind(address, workers).expect("a free port")
}

fn options(folder: &Path, wishes: &Wishes, mesh: SocketAddr) -> Options {
    let record = folder.join("instances");
    Options {
        data: folder.join("data"),
        lock: FolderLock::take(&folder.join("data")).expect("nobody else has it"),
        cache: folder.join("cache"),
        clock: wishes.clock.clone(),
        ids: Ids::system(),
        limits: wishes.limits,
        secrets: access::Secrets::default(),
        launcher: Launcher::start(&launcher(), &record).expect("the launcher starts"),
        engine: Engine::new(container::Options {
            sockets: Vec::new(),
            logins: Vec::new(),
            data: folder.to_owned(),
        }),
        telemetry: Kept {
            sampling: telemetry::Sampling::default(),
            retention: Duration::from_secs(3600),
            max_bytes: ByteSize::mib(64),
            otlp: None,
        },
        keep_revisions: 50,
        usage_retention: Duration::from_secs(3600),
        mesh,
        aws: mesh,
        crash: platform::crash::Crash::default(),
        background: tokio::runtime::Handle::current(),
    }
}

/// The launcher's program. It belongs to another package, for which cargo gives no path: it lies beside this one when
/// the workspace was built, and is built when not.
fn launcher() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("tests are in target/PROFILE/deps");
    let launcher = folder.join("tangelo-launcher");
    if !launcher.exists() {
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--package",
                "tangelo-runtime",
                "--bin",
                "tangelo-launcher",
            ])
            .status();
        assert!(built.expect("cargo runs").success());
    }
    launcher
}
