//! Containers: found, started, ended and swept through the socket of Docker or Podman.
//!
//! What makes a container an instance (its port, its health, its place in the pool) is in `process`; here is only what an
//! engine does. Every container carries the mark of its server's data folder as a label, so that the next server on that
//! folder removes what a killed one left. A file beside the data says that there may be some: who runs no containers
//! never asks for an engine.

mod create;
mod registry;
mod running;

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    auth::DockerCredentials,
    query_parameters::{
        CreateImageOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    },
    service::{SystemInfo, SystemInfoCgroupVersionEnum, VolumeCreateRequest},
};
use futures_util::StreamExt;
use model::{Error, app::Pull, code};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::launcher::{Enforcement, Means};
pub(crate) use create::Plan;
pub(crate) use registry::Login;
pub use registry::usual_logins;
pub(crate) use running::{Output, Running};

/// The label whose value says which server's a container is.
pub const LABEL: &str = "dev.tangelo.server";

/// How long an engine may take for one answer; stopping and pulling are waited for otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an engine may take to find that nobody is where it was sent.
const ASKED: Duration = Duration::from_secs(20);

/// How long an image may take to be pulled.
const PULL: Duration = Duration::from_secs(600);

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

    /// Whether the engine could pull an image at all, as far as that shows without a registry: it is asked for one from a port of
    /// this machine where nobody is, and gets as far as knocking there. `Err`: what stops it before that.
    ///
    /// # Errors
    /// In its own words: a missing policy of signatures, registries that are blocked.
    pub async fn can_pull(&self) -> Result<(), String> {
        let found = self.connect().await.map_err(|error| error.message)?;
        // The port of discarding: a server there would speak no HTTP.
        let nowhere = "127.0.0.1:9/tangelo/none:none";
        let options = CreateImageOptionsBuilder::new().from_image(nowhere).build();
        let mut steps = found.docker.create_image(Some(options), None, None);
        let asked = async {
            while let Some(step) = steps.next().await {
                match step {
                    Ok(step) => {
                        if let Some(detail) = step.error_detail {
                            return detail.message.unwrap_or_default();
                        }
                    }
                    Err(error) => return running::told(&error),
                }
            }
            String::new()
        };
        let said = tokio::time::timeout(ASKED, asked).await;
        let said = said.map_err(|_| "it did not answer within 20s".to_owned())?;
        match reached_the_network(&said) {
            true => Ok(()),
            false => Err(said),
        }
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

    /// Removes every container that an earlier server on the same data folder left, and says how many those were. Call
    /// it before anything listens, and only while holding the folder's lock. Nothing is asked when there can be none.
    ///
    /// # Errors
    /// When an engine that has some does not answer or does not remove them; the next sweep tries again.
    pub async fn sweep(&self) -> Result<usize, Error> {
        let noted = std::fs::read_to_string(&self.0.record).unwrap_or_default();
        let mut removed = 0;
        for socket in noted.lines() {
            let left = |error: bollard::errors::Error| {
                let message = "containers of an earlier server cannot be removed";
                Error::new(code::START_FAILED, message).context(format!("{socket}: {error}"))
            };
            let found = connect(Path::new(socket)).await.map_err(left)?;
            removed += self.remove_all(&found).await.map_err(left)?;
        }
        if !noted.is_empty() {
            let _ = std::fs::remove_file(&self.0.record);
        }
        Ok(removed)
    }

    async fn remove_all(&self, found: &Found) -> Result<usize, bollard::errors::Error> {
        let label = format!("{LABEL}={}", self.0.mark);
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters);
        let ours = found.docker.list_containers(Some(options.build())).await?;
        let ids: Vec<String> = ours.into_iter().filter_map(|c| c.id).collect();
        for id in &ids {
            remove(&found.docker, id).await?;
        }
        Ok(ids.len())
    }
}

/// Ends a container, if it runs, and removes it with the volumes that have no name. One that is gone is fine.
async fn remove(docker: &Docker, id: &str) -> Result<(), bollard::errors::Error> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true);
    match docker.remove_container(id, Some(options.build())).await {
        Err(error) if is_missing(&error) => Ok(()),
        removed => removed,
    }
}

fn is_missing(error: &bollard::errors::Error) -> bool {
    matches!(
        error,
        bollard::errors::Error::DockerResponseServerError {
            status_code: 404,
            ..
        }
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

impl Engine {
    /// The id of an image, pulled first where `pull` asks for that: what a tag names now. Pulled as `own`, else as the files of
    /// logins say; to read these blocks for a moment.
    pub(crate) async fn image(
        &self,
        name: &str,
        pull: Pull,
        own: Option<Login>,
    ) -> Result<String, Error> {
        let found = self.connect().await?;
        if pull != Pull::Always {
            match found.docker.inspect_image(name).await {
                Ok(image) => return id_of(image),
                Err(error) if !is_missing(&error) => {
                    return Err(unusable(name, "cannot be looked up", &error));
                }
                Err(_) if pull == Pull::Never => {
                    let message =
                        format!("the image `{name}` is not on this machine, and `pull` is `never`");
                    return Err(Error::new(code::START_FAILED, message));
                }
                Err(_) => {}
            }
        }
        let login = own.or_else(|| registry::login(name, &self.0.logins));
        pull_image(&found.docker, name, login).await?;
        let image = found.docker.inspect_image(name).await;
        id_of(image.map_err(|error| unusable(name, "was pulled and is not there", &error))?)
    }
}

/// Whether an engine that was asked for an image from a port where nobody is was stopped by that and by nothing before it.
fn reached_the_network(said: &str) -> bool {
    ["connection refused", "dial tcp", "connect: "]
        .iter()
        .any(|words| said.contains(words))
}

async fn pull_image(docker: &Docker, name: &str, login: Option<Login>) -> Result<(), Error> {
    let who = match &login {
        Some(login) => format!("as `{}`", login.user),
        None => "without a login".to_owned(),
    };
    let credentials = login.map(|login| DockerCredentials {
        username: Some(login.user),
        password: Some(login.password),
        serveraddress: Some(login.registry),
        ..DockerCredentials::default()
    });
    let options = CreateImageOptionsBuilder::new().from_image(name).build();
    let mut steps = docker.create_image(Some(options), None, credentials);
    let pulled = async {
        while let Some(step) = steps.next().await {
            // Some engines answer well first, and tell a step that failed.
            if let Some(detail) = step?.error_detail {
                let words = detail.message;
                return Ok(words.or_else(|| Some("the engine does not say why".to_owned())));
            }
        }
        Ok(None)
    };
    let what = format!("cannot be pulled {who}");
    match tokio::time::timeout(PULL, pulled).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(words))) => {
            let message = format!("the image `{name}` {what}: {words}");
            Err(Error::new(code::START_FAILED, message))
        }
        Ok(Err::<Option<String>, bollard::errors::Error>(error)) => {
            Err(unusable(name, &what, &error))
        }
        Err(_) => {
            let message = format!("the image `{name}` was not pulled in ten minutes");
            Err(Error::new(code::START_FAILED, message))
        }
    }
}

fn id_of(image: bollard::service::ImageInspect) -> Result<String, Error> {
    let id = image.id;
    id.ok_or_else(|| Error::internal("an image without id"))
}

fn unusable(name: &str, what: &str, error: &bollard::errors::Error) -> Error {
    let words = running::told(error);
    let message = format!("the image `{name}` {what}: {words}");
    Error::new(code::START_FAILED, message).context(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knocked_could_pull_and_who_is_stopped_before_could_not() {
        let refused = r#"initializing source docker://127.0.0.1:9/tangelo/none:none: pinging container registry 127.0.0.1:9: Get "https://127.0.0.1:9/v2/": dial tcp 127.0.0.1:9: connect: connection refused"#;
        assert!(reached_the_network(refused));
        let policy = "open /etc/containers/policy.json: no such file or directory";
        assert!(!reached_the_network(policy));
    }

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
