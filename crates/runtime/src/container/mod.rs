//! Containers: found, started, ended and swept through the socket of Docker or Podman.
//!
//! What makes a container an instance (its port, its health, its place in the pool) is in `process`; here is only what an
//! engine does. Every container carries the mark of its server's data folder as a label, so that the next server on that
//! folder removes what a killed one left. A file beside the data says that there may be some: who runs no containers
//! never asks for an engine.

mod create;
mod images;
mod registry;
mod running;
mod sweep;

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    service::{SystemInfo, SystemInfoCgroupVersionEnum, VolumeCreateRequest},
};
use model::{Error, code};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::launcher::{Enforcement, Means};
pub(crate) use create::Plan;
pub(crate) use registry::Login;
pub use registry::usual_logins;
pub(crate) use running::{Output, Running};
use sweep::remove;

/// The label whose value says which server's a container is.
pub const LABEL: &str = "dev.tangelo.server";

/// How long an engine may take for one answer; stopping and pulling are waited for otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where an engine is looked for, and whose containers these are.
#[derive(Debug, Clone)]
pub struct Options {
    /// Sockets to try, in this order.
    pub sockets: Vec<PathBuf>,
    /// Files of registry logins, the first that has one for a registry counts.
    pub logins: Vec<PathBuf>,
    /// The data folder: its whole path is what containers are marked with.
    pub data: PathBuf,
}

/// A handle on the machine's container engine. Cheap to clone; nothing is asked of an engine before a container is.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    sockets: Vec<PathBuf>,
    logins: Vec<PathBuf>,
    mark: String,
    /// The sockets at which there may be containers of this server, one a line.
    record: PathBuf,
    found: Mutex<Option<Arc<Found>>>,
    /// Volumes that are there, at the engine that was found.
    volumes: tokio::sync::Mutex<HashSet<String>>,
}

/// An engine that answered.
pub(crate) struct Found {
    pub(crate) docker: Docker,
    pub(crate) facts: Facts,
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `Podman Engine 4.3.1`.
    pub name: String,
    /// Where it answered.
    pub socket: PathBuf,
    /// What it can hold containers to.
    pub enforcement: Enforcement,
    /// Whether it runs as a user that is not root.
    pub rootless: bool,
    /// The version of the control groups that it uses; `None`: it does not say, or uses none.
    pub cgroups: Option<u8>,
    /// What makes its groups: `cgroupfs`, `systemd`; empty when it does not say.
    pub cgroup_driver: String,
}

/// Sockets where engines are on most machines; `user` is the folder of the user's own (`XDG_RUNTIME_DIR`).
#[must_use]
pub fn usual_sockets(user: Option<&Path>) -> Vec<PathBuf> {
    let mut sockets = vec![
        PathBuf::from("/var/run/docker.sock"),
        PathBuf::from("/run/podman/podman.sock"),
    ];
    sockets.extend(user.map(|user| user.join("podman/podman.sock")));
    sockets
}

impl Engine {
    /// An engine that is not asked for anything yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mark = Sha256::digest(options.data.as_os_str().as_encoded_bytes());
        Self(Arc::new(Inner {
            sockets: options.sockets,
            logins: options.logins,
            mark: hex::encode(&mark[..8]),
            record: options.data.join("containers"),
            found: Mutex::new(None),
            volumes: tokio::sync::Mutex::default(),
        }))
    }

    /// What the engine that was last used says of itself; `None` before one was.
    #[must_use]
    pub fn facts(&self) -> Option<Facts> {
        self.0.found.lock().as_ref().map(|f| f.facts.clone())
    }

    /// Asks the sockets in turn, and says who answers.
    ///
    /// # Errors
    /// `RUNTIME_MISSING` when nobody does, with what was tried.
    pub async fn look(&self) -> Result<Facts, Error> {
        self.connect().await.map(|found| found.facts.clone())
    }

    pub(crate) fn mark(&self) -> &str {
        &self.0.mark
    }

    /// The engine: the one that answered before, or the first that answers now.
    pub(crate) async fn connect(&self) -> Result<Arc<Found>, Error> {
        if let Some(found) = self.0.found.lock().clone() {
            return Ok(found);
        }
        let mut tried = Vec::new();
        for socket in &self.0.sockets {
            match connect(socket).await {
                Ok(found) => {
                    let found = Arc::new(found);
                    *self.0.found.lock() = Some(Arc::clone(&found));
                    return Ok(found);
                }
                Err(error) => tried.push(format!("{}: {error}", socket.display())),
            }
        }
        let message = "a container engine is needed and none answers: start Docker or Podman \
             (`podman system service`), or name its socket with --containers";
        Err(Error::new(code::RUNTIME_MISSING, message).context(tried.join("; ")))
    }

    /// Makes the volumes that a container mounts, one at a time: of two containers that are made at once and would both bring a volume,
    /// Podman refuses one.
    pub(crate) async fn make_volumes<'v>(
        &self,
        found: &Found,
        names: impl Iterator<Item = &'v str>,
    ) -> Result<(), bollard::errors::Error> {
        for name in names {
            let mut known = self.0.volumes.lock().await;
            if known.contains(name) {
                continue;
            }
            let volume = VolumeCreateRequest {
                name: Some(name.to_owned()),
                ..VolumeCreateRequest::default()
            };
            // One that is there stays as it is.
            found.docker.create_volume(volume).await?;
            known.insert(name.to_owned());
        }
        Ok(())
    }

    /// Notes that there will be containers at this engine, before there is one.
    pub(crate) fn note(&self, found: &Found) -> io::Result<()> {
        let line = found.facts.socket.display().to_string();
        let noted = std::fs::read_to_string(&self.0.record).unwrap_or_default();
        if noted.lines().any(|known| known == line) {
            return Ok(());
        }
        std::fs::write(&self.0.record, format!("{noted}{line}\n"))
    }
}

fn is_missing(error: &bollard::errors::Error) -> bool {
    has_status(error, 404)
}

fn has_status(error: &bollard::errors::Error, status: u16) -> bool {
    matches!(
        error,
        bollard::errors::Error::DockerResponseServerError { status_code, .. }
            if *status_code == status
    )
}

async fn connect(socket: &Path) -> Result<Found, bollard::errors::Error> {
    let path = socket.to_string_lossy();
    let docker = Docker::connect_with_unix(&path, PATIENCE.as_secs(), API_DEFAULT_VERSION)?;
    let docker = docker.negotiate_version().await?;
    let version = docker.version().await?;
    let info = docker.info().await?;
    let component = version.components.unwrap_or_default().into_iter().next();
    let name = component.map_or_else(|| "engine".to_owned(), |component| component.name);
    // So Docker calls itself; Podman says who it is.
    let name = match name.as_str() {
        "Engine" => "Docker Engine",
        other => other,
    };
    Ok(Found {
        facts: Facts {
            name: format!("{name} {}", version.version.unwrap_or_default()),
            socket: socket.to_owned(),
            enforcement: enforcement(&info),
            rootless: is_rootless(&info),
            cgroups: match info.cgroup_version {
                Some(SystemInfoCgroupVersionEnum::_1) => Some(1),
                Some(SystemInfoCgroupVersionEnum::_2) => Some(2),
                _ => None,
            },
            cgroup_driver: info
                .cgroup_driver
                .map_or_else(String::new, |driver| driver.to_string()),
        },
        docker,
    })
}

/// Engines say it among their security options: `name=rootless`.
fn is_rootless(info: &SystemInfo) -> bool {
    let options = info.security_options.iter().flatten();
    options
        .flat_map(|option| option.split(','))
        .any(|option| option == "name=rootless" || option == "rootless")
}

/// What an engine can hold containers to, as it says itself.
fn enforcement(info: &SystemInfo) -> Enforcement {
    let by = match info.cgroup_version {
        Some(SystemInfoCgroupVersionEnum::_2) => Means::CgroupV2,
        _ => Means::CgroupV1,
    };
    let can = |flag: Option<bool>| flag.unwrap_or(false).then_some(by);
    Enforcement {
        memory: can(info.memory_limit),
        cpu: can(info.cpu_cfs_quota),
        processes: can(info.pids_limit),
        files: Some(Means::Rlimit),
        cpus: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_says_whether_it_is_root() {
        let says = |options: &[&str]| {
            is_rootless(&SystemInfo {
                security_options: Some(options.iter().map(|&one| one.to_owned()).collect()),
                ..SystemInfo::default()
            })
        };
        assert!(says(&["name=seccomp,profile=default", "name=rootless"]));
        assert!(!says(&["name=seccomp,profile=/etc/rootless.json"]) && !says(&[]));
    }

    #[tokio::test]
    async fn without_an_engine_it_is_said_what_was_tried_and_nothing_is_swept() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let engine = Engine::new(Options {
            sockets: vec![folder.path().join("no.sock")],
            logins: Vec::new(),
            data: folder.path().to_owned(),
        });
        let error = engine.look().await.expect_err("nobody is there");
        assert_eq!(error.code, code::RUNTIME_MISSING);
        assert!(error.context.is_some_and(|tried| tried.contains("no.sock")));
        assert_eq!(engine.sweep().await.expect("nothing to do"), 0);
        assert_eq!(engine.facts(), None);
        std::fs::write(folder.path().join("containers"), "/nowhere.sock\n").expect("written");
        assert!(engine.sweep().await.is_err(), "there may be some");
        assert!(
            folder.path().join("containers").exists(),
            "for the next time"
        );
    }
}
