//! The life of one instance, as one task: started, asked until ready, watched, told to leave, gone.
//!
//! It tells its pool what happens and takes orders from it; it never decides how many instances there should be.
//! Whatever ends this task ends the process, because it owns the child.

use std::{
    pin::pin,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use model::{Error, Probes, Run, app::RegistryLogin, code};
use tokio::{sync::OnceCell, task::JoinHandle};

use super::{
    Pace, Pool,
    child::Child,
    environment,
    instance::{self, Instance, Order, Started},
    logs,
    ports::Ports,
};
use crate::{
    container,
    host::LogStream,
    launcher::{self, Exit, Signal},
    pool::{Context, Spec, out_of_memory},
    upstream::Upstream,
};

/// Ports that may be lost to others before it counts as a failure.
const RACES: u32 = 3;

/// How long the last words of a process may take to be read after its end.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// What a life is made from.
pub(super) struct Life {
    pub(super) ctx: Arc<Context>,
    pub(super) spec: Arc<Spec>,
    pub(super) probes: Arc<Probes>,
    pub(super) pace: Pace,
    pub(super) pool: Weak<Pool>,
    pub(super) instance: Arc<Instance>,
    /// The id of the image that all instances of the pool run, where they are containers.
    pub(super) image: Arc<OnceCell<String>>,
}

/// An instance that runs.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) ports: Ports,
    pub(super) upstream: Arc<Upstream>,
    pub(super) spawned: Instant,
    readers: Vec<JoinHandle<()>>,
}

/// Why a process did not become ready.
pub(super) enum NotReady {
    Exited(Exit),
    TooSlow(String),
    /// Nobody wants it any more.
    Dismissed,
}

impl Life {
    /// From the start to the end. The pool is told in between.
    pub(super) async fn live(self) {
        let given = self.ctx.host.enter(&self.instance.presence);
        let result = self.start_and_serve(&given).await;
        self.ctx.host.leave(self.instance.presence.instance);
        if let Err(error) = &result {
            self.say(error.message.clone());
        }
        if let Some(pool) = self.pool.upgrade() {
            pool.ended(&self.instance, result);
        }
    }

    async fn start_and_serve(&self, given: &[(String, String)]) -> Result<(), Error> {
        let Some(mut running) = self.start(given).await? else {
            return Ok(());
        };
        let started = Started {
            spawned: running.spawned,
            ready: self.ctx.clock.monotonic(),
        };
        self.instance
            .set_ready(Arc::clone(&running.upstream), started);
        self.announce(started);
        self.serve(&mut running).await
    }

    /// Says that it has started, and that it takes requests where it need not be asked about that first.
    fn announce(&self, started: Started) {
        let took = started
            .ready
            .saturating_duration_since(self.instance.created);
        let took = model::units::display_duration(took);
        let pool = self.pool.upgrade();
        if self.probes.readiness.is_some() {
            self.say(format!("started after {took}"));
            pool.inspect(|pool| pool.started(&self.instance));
        } else {
            self.say(format!("ready after {took}"));
            pool.inspect(|pool| pool.ready(&self.instance));
        }
    }

    /// A process that is ready; `None` when it was dismissed meanwhile.
    async fn start(&self, given: &[(String, String)]) -> Result<Option<Running>, Error> {
        let mut races = 0;
        loop {
            let mut running = tokio::select! {
                biased;
                () = self.dismissed() => return Ok(None),
                spawned = Box::pin(self.spawn(given)) => spawned?,
            };
            match self.until_started(&running).await {
                Ok(()) => return Ok(Some(running)),
                Err(NotReady::Dismissed) => {
                    self.end(&mut running, self.pace.patience).await;
                    return Ok(None);
                }
                Err(NotReady::Exited(exit)) => {
                    if races < RACES
                        && let Some(port) = running.ports.taken()
                    {
                        races += 1;
                        self.say(format!("port {port} was taken by another"));
                        continue;
                    }
                    let reason = format!("ended with {exit} before it was ready");
                    return Err(self.start_failed(&mut running, &reason).await);
                }
                Err(NotReady::TooSlow(last)) => {
                    return Err(self.too_slow(&mut running, &last).await);
                }
            }
        }
    }

    /// It never passed its start-up probe: it is ended.
    async fn too_slow(&self, running: &mut Running, last: &str) -> Error {
        let window = self.startup().window();
        let limit = model::units::display_duration(window);
        let port = running.ports.main.0;
        let hint = if last.starts_with("no connection") {
            format!("; it must listen on $PORT, which is {port}")
        } else {
            String::new()
        };
        let reason = format!("was not ready within {limit}: {last}{hint}");
        self.end(running, Duration::ZERO).await;
        let error = self.start_failed(running, &reason).await;
        Error {
            code: code::NEVER_STARTED,
            category: code::NEVER_STARTED.category(),
            ..error
        }
    }

    async fn spawn(&self, given: &[(String, String)]) -> Result<Running, Error> {
        let ports = Ports::free(&self.spec.workload.run)
            .map_err(|e| self.failed("finds no free port", &e))?;
        if let Some(folder) = &self.spec.state_folder {
            let made = tokio::fs::create_dir_all(folder).await;
            made.map_err(|e| self.failed("has no state folder", &e))?;
        }
        let mut child = match self.spec.workload.run {
            Run::Container { .. } => self.container(given, &ports).await?,
            _ => {
                let command = environment::command(&self.spec, given, &ports)?;
                let spawned = self.ctx.launcher.spawn(command).await;
                Child::Process(spawned.map_err(|e| self.refused(&e))?)
            }
        };
        self.instance.pid.store(child.pid(), Relaxed);
        *self.instance.ports.lock() = ports.named();
        Ok(Running {
            upstream: instance::upstream(ports.main.address(), &self.ctx.clock),
            spawned: self.ctx.clock.monotonic(),
            readers: child.read(&self.ctx, &self.instance),
            child,
            ports,
        })
    }

    /// A container of the image that its pool uses: what its tag named when the first was started.
    async fn container(&self, given: &[(String, String)], ports: &Ports) -> Result<Child, Error> {
        let Run::Container {
            image, pull, login, ..
        } = &self.spec.workload.run
        else {
            return Err(Error::internal("a container for another runtime"));
        };
        let engine = &self.ctx.engine;
        let id = self.image.get_or_try_init(|| async {
            let login = login.as_ref().map(|login| self.login(image, login));
            engine.image(image, *pull, login.transpose()?).await
        });
        let facts = environment::Facts {
            mark: engine.mark(),
            instance: self.instance.presence.instance,
            image: id.await?,
        };
        let plan = environment::plan(&self.spec, given, ports, &facts)?;
        let started = container::Running::start(engine, plan, &self.ctx.clock).await;
        started.map(Child::Container).map_err(|error| Error {
            message: format!(
                "`{}` cannot start: {}",
                self.spec.workload.name, error.message
            ),
            ..error
        })
    }

    /// Who one is to the image's registry, as the manifest says it.
    fn login(&self, image: &str, login: &RegistryLogin) -> Result<container::Login, Error> {
        let password = self.ctx.host.secret(self.spec.version, &login.password);
        let password = password.ok_or_else(|| {
            let message = format!(
                "the image `{image}` is to be pulled as `{}`, and {} is not among this server's secrets",
                login.user, login.password
            );
            Error::new(code::START_FAILED, message)
        })?;
        Ok(container::Login::of(
            image,
            &login.user,
            password.to_string(),
        ))
    }

    pub(super) async fn dismissed(&self) {
        let mut order = self.instance.order.subscribe();
        let leave = |order: &Order| matches!(order, Order::Leave { .. });
        let _ = order.wait_for(leave).await;
    }

    /// Finishes what it works on, as long as it was given; then it is asked to end, then ended.
    pub(super) async fn leave(&self, running: &mut Running) -> Result<(), Error> {
        let mut orders = self.instance.order.subscribe();
        let mut exited = pin!(running.child.exited());
        loop {
            let order = *orders.borrow_and_update();
            let Order::Leave { by, patience } = order else {
                // Only `replace` leaves without an order, and it gave one itself.
                return Ok(());
            };
            let left = by.saturating_duration_since(self.ctx.clock.monotonic());
            let finished = self
                .pool
                .upgrade()
                .is_none_or(|p| p.is_quiet(&self.instance));
            if !finished && left > Duration::ZERO {
                tokio::select! {
                    biased;
                    exit = &mut exited => {
                        self.left(exit);
                        return Ok(());
                    }
                    _ = orders.changed() => {}
                    () = self.instance.quiet.notified() => {}
                    () = self.ctx.clock.sleep(left) => {}
                }
                continue;
            }
            self.end(running, patience).await;
            return Ok(());
        }
    }

    /// Asks all of its processes to end, and after `patience` ends them.
    async fn end(&self, running: &mut Running, patience: Duration) {
        // For the last time.
        self.instance.measured();
        let mut exited = pin!(running.child.exited());
        if patience > Duration::ZERO {
            running.child.signal(Signal::Term);
            tokio::select! {
                biased;
                exit = &mut exited => return self.left(exit),
                () = self.ctx.clock.sleep(patience) => {}
            }
            self.say(format!(
                "killed: it did not end within {} of being asked",
                model::units::display_duration(patience)
            ));
        }
        running.child.signal(Signal::Kill);
        self.instance.exit.send_replace(Some(exited.await));
    }

    /// It ended after it was told to leave, for that or another reason. Whoever had a request with it asks for that.
    fn left(&self, exit: Exit) {
        self.instance.exit.send_replace(Some(exit));
        self.say(if exit.out_of_memory {
            out_of_memory(&self.spec.workload).message
        } else {
            format!("ended with {exit}, as asked")
        });
    }

    pub(super) async fn died(&self, running: &mut Running, exit: Exit) -> Error {
        self.instance.exit.send_replace(Some(exit));
        self.hear_out(running).await;
        let workload = &self.spec.workload;
        let error = if exit.out_of_memory {
            out_of_memory(workload)
        } else {
            let message = format!("an instance of `{}` ended with {exit}", workload.name);
            Error::new(code::INSTANCE_DIED, message)
        };
        error.context(self.instance.last_lines())
    }

    async fn start_failed(&self, running: &mut Running, reason: &str) -> Error {
        self.hear_out(running).await;
        let name = &self.spec.workload.name;
        Error::new(code::START_FAILED, format!("`{name}` {reason}"))
            .context(self.instance.last_lines())
    }

    /// Waits for the rest of what it wrote; what inherited its pipes may hold them open.
    async fn hear_out(&self, running: &mut Running) {
        let readers = pin!(join_all(running.readers.iter_mut()));
        tokio::select! {
            _ = readers => {}
            () = self.ctx.clock.sleep(LAST_WORDS) => {}
        }
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> Error {
        let name = &self.spec.workload.name;
        Error::new(code::START_FAILED, format!("`{name}` {what}")).context(error)
    }

    fn refused(&self, error: &launcher::Error) -> Error {
        let name = &self.spec.workload.name;
        Error::new(
            code::START_FAILED,
            format!("`{name}` cannot start: {error}"),
        )
    }

    pub(super) fn say(&self, text: String) {
        logs::log(&self.ctx, &self.instance, LogStream::Platform, text);
    }
}
