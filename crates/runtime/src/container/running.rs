//! One container from its start to its end. Dropping it removes it.

use std::{pin::Pin, sync::Arc, time::Duration};

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error as EngineError,
    query_parameters::{
        AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, KillContainerOptionsBuilder,
        WaitContainerOptionsBuilder,
    },
};
use futures_util::{Stream, StreamExt};
use model::{Clock, Error, code};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::{Engine, Plan, is_missing, remove};
use crate::launcher::{Exit, Signal};

/// What a container writes: which stream it is, and the bytes.
pub(crate) type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, EngineError>> + Send>>;

/// Between two questions to an engine that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// A container that runs.
pub(crate) struct Running {
    /// Its first process on this machine; 0 where the engine runs elsewhere.
    pub(crate) pid: u32,
    /// What it writes, once.
    pub(crate) output: Mutex<Option<Output>>,
    handle: Handle,
    exit: watch::Receiver<Option<Exit>>,
}

/// A container by its id; removed when the last is dropped.
struct Handle {
    docker: Docker,
    id: String,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let (docker, id) = (self.docker.clone(), std::mem::take(&mut self.id));
        // Where there is no runtime any more the server ends, and the next one sweeps.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = remove(&docker, &id).await {
                    tracing::warn!(%error, id, "a container cannot be removed");
                }
            });
        }
    }
}

impl Running {
    /// Creates and starts a container. When this future is dropped before it resolves, the container is removed.
    pub(crate) async fn start(engine: &Engine, plan: Plan, clock: &Clock) -> Result<Self, Error> {
        let (answer, answered) = oneshot::channel();
        let (engine, clock) = (engine.clone(), clock.clone());
        tokio::spawn(async move {
            // Whoever asked may be gone: then it is dropped here.
            let _ = answer.send(start(&engine, plan, clock).await);
        });
        let started = answered.await;
        started.unwrap_or_else(|_| Err(Error::internal("starting a container broke off")))
    }

    /// Sends a signal to its first process.
    pub(crate) fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Term => "SIGTERM",
            Signal::Kill => "SIGKILL",
        };
        let (docker, id) = (self.handle.docker.clone(), self.handle.id.clone());
        tokio::spawn(async move {
            let options = KillContainerOptionsBuilder::new().signal(name).build();
            if let Err(error) = docker.kill_container(&id, Some(options)).await {
                // It may have ended in this moment.
                tracing::debug!(%error, id, "a container took no signal");
            }
        });
    }

    /// Resolves when it has ended.
    pub(crate) fn exited(&self) -> impl Future<Output = Exit> + Send + 'static {
        let mut exit = self.exit.clone();
        async move {
            match exit.wait_for(Option::is_some).await {
                Ok(exit) => exit.unwrap_or(Exit::KILLED),
                Err(_) => Exit::KILLED,
            }
        }
    }
}

async fn start(engine: &Engine, plan: Plan, clock: Clock) -> Result<Running, Error> {
    let found = engine.connect().await?;
    engine.note(&found).map_err(Error::internal)?;
    let name = plan.name.clone();
    let failed = |what: &str, error: EngineError| {
        let message = format!("the container engine {what}: {}", told(&error));
        Error::new(code::START_FAILED, message).context(format!("{name}: {error}"))
    };
    let docker = found.docker.clone();
    let options = CreateContainerOptionsBuilder::new()
        .name(&plan.name)
        .build();
    let volumes = engine.make_volumes(&found, plan.volumes()).await;
    volumes.map_err(|e| failed("makes no volume", e))?;
    let body = plan.body(&found.facts.enforcement);
    let created = docker.create_container(Some(options), body).await;
    let id = created.map_err(|e| failed("makes no container", e))?.id;
    let handle = Handle {
        docker: docker.clone(),
        id: id.clone(),
    };
    let both = AttachContainerOptionsBuilder::new()
        .stream(true)
        .stdout(true)
        .stderr(true);
    // Before the start, so that its first words are heard.
    let attached = docker.attach_container(&id, Some(both.build())).await;
    let attached = attached.map_err(|e| failed("passes no output on", e))?;
    let started = docker.start_container(&id, None).await;
    started.map_err(|e| failed("does not start it", e))?;
    let state = docker.inspect_container(&id, None).await;
    let state = state.map_err(|e| failed("lost it", e))?.state;
    let pid = state.and_then(|state| state.pid).unwrap_or_default();
    let (told, exit) = watch::channel(None);
    tokio::spawn(watch_over(Arc::new(docker), id, clock, told));
    Ok(Running {
        pid: u32::try_from(pid).unwrap_or_default(),
        output: Mutex::new(Some(attached.output)),
        handle,
        exit,
    })
}

/// Waits for the end of a container and tells it. An engine that is restarted meanwhile is asked again.
async fn watch_over(
    docker: Arc<Docker>,
    id: String,
    clock: Clock,
    exit: watch::Sender<Option<Exit>>,
) {
    loop {
        let options = WaitContainerOptionsBuilder::new()
            .condition("not-running")
            .build();
        let waited = docker.wait_container(&id, Some(options)).next().await;
        let code = match waited {
            Some(Ok(response)) => Some(response.status_code),
            // An exit code that is not 0 is an error to the client library.
            Some(Err(EngineError::DockerContainerWaitError { code, .. })) => Some(code),
            Some(Err(error)) if is_missing(&error) => {
                exit.send_replace(Some(Exit::KILLED));
                return;
            }
            Some(Err(_)) | None => None,
        };
        if let Some(code) = code {
            exit.send_replace(Some(end(&docker, &id, code).await));
            return;
        }
        tokio::select! {
            () = clock.sleep(PAUSE) => {}
            () = exit.closed() => return,
        }
    }
}

/// How it ended: engines say a signal as 128 and its number.
async fn end(docker: &Docker, id: &str, code: i64) -> Exit {
    let inspected = docker.inspect_container(id, None).await;
    let state = inspected.ok().and_then(|container| container.state);
    let code = i32::try_from(code).unwrap_or(-1);
    let signal = Some(code - 128).filter(|signal| (1..=64).contains(signal));
    Exit {
        code: Some(code).filter(|_| signal.is_none()),
        signal,
        out_of_memory: state.and_then(|state| state.oom_killed).unwrap_or(false),
    }
}

/// The engine's own words, without the library's around them.
pub(super) fn told(error: &EngineError) -> String {
    match error {
        EngineError::DockerResponseServerError { message, .. } => {
            message.lines().next().unwrap_or_default().to_owned()
        }
        other => other.to_string(),
    }
}
