//! The handle on the launcher that pools hold.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::{
    cgroups,
    child::Child,
    command::{Command, Error},
    limits::Enforcement,
    link::Link,
    peer::{self, Ends, Holder},
    record,
    template::Template,
};

/// A handle on the launcher process. Cheap to clone; when the last clone is dropped, everything it started ends.
#[derive(Clone)]
pub struct Launcher(Arc<Inner>);

struct Inner {
    exe: PathBuf,
    record: PathBuf,
    cgroups: PathBuf,
    next: AtomicU64,
    state: Mutex<State>,
}

enum State {
    Running(Arc<Link>),
    Stopped,
}

impl Launcher {
    /// Starts `exe` (which runs [`super::main`] when its first argument is [`super::ARGUMENT`]) as the launcher, that
    /// records its instances in the file `record`, and waits until it is ready. Call it before the process has threads.
    ///
    /// # Errors
    /// When `exe` cannot be started or does not become a launcher.
    pub fn start(exe: &Path, record: &Path) -> io::Result<Self> {
        Self::start_with(exe, record, Path::new(cgroups::MOUNT))
    }

    /// The same where control groups are mounted elsewhere, or are not to be used (a folder without any).
    ///
    /// # Errors
    /// As [`Launcher::start`].
    pub fn start_with(exe: &Path, record: &Path, cgroups: &Path) -> io::Result<Self> {
        let link = Link::start(exe, record, cgroups)?;
        Ok(Self(Arc::new(Inner {
            exe: exe.to_owned(),
            record: record.to_owned(),
            cgroups: cgroups.to_owned(),
            next: AtomicU64::new(1),
            state: Mutex::new(State::Running(link)),
        })))
    }

    /// Starts an instance in a session and process group of its own, its standard input empty. When this future is
    /// dropped before it resolves, the instance is killed. A launcher that died is started again first.
    ///
    /// # Errors
    /// [`Error`] says whether the program is missing, refused, or the launcher gone.
    pub async fn spawn(&self, command: Command) -> Result<Child, Error> {
        let link = self.link().await?;
        let id = self.next_id();
        let started = link.spawn(id, command)?.await;
        let started = started.unwrap_or(Err(Error::Stopped))?;
        Child::new(started).map_err(Error::Launcher)
    }

    /// Starts a program that is a template, and waits until it says that it is ready; who drops this future ends it.
    ///
    /// # Errors
    /// As [`Launcher::spawn`]; [`Error::Refused`] with the end of what it wrote when it ended instead.
    pub async fn template(&self, mut command: Command) -> Result<Template, Error> {
        command.template = true;
        let program = command.program.display().to_string();
        let link = self.link().await?;
        let id = self.next_id();
        let warm = link.warm(id);
        let started = link.spawn(id, command)?.await;
        let child = Child::new(started.unwrap_or(Err(Error::Stopped))?).map_err(Error::Launcher)?;
        let mut template = Template::new(child, id, link, self.clone());
        if warm.await.is_ok() {
            return Ok(template);
        }
        Err(Error::Refused {
            program,
            reason: template.child().last_words().await,
        })
    }

    /// The number of the next instance.
    pub(super) fn next_id(&self) -> u64 {
        self.0.next.fetch_add(1, Relaxed)
    }

    /// By which means of this machine limits are enforced; none once it was stopped.
    #[must_use]
    pub fn enforcement(&self) -> Enforcement {
        match &*self.0.state.lock() {
            State::Running(link) => link.enforcement,
            State::Stopped => Enforcement::default(),
        }
    }

    /// Kills everything that was started and ends the launcher; resolves when no process of it is left.
    pub async fn stop(&self) {
        let state = std::mem::replace(&mut *self.0.state.lock(), State::Stopped);
        if let State::Running(link) = state {
            link.close().await;
        }
    }

    /// Who holds the client's end of a connection on this machine, with `variable` of the environments of
    /// its processes. Reads `/proc`, so it blocks for milliseconds.
    #[must_use]
    pub fn holder(&self, ends: Ends, variable: &str) -> Holder {
        match &*self.0.state.lock() {
            State::Running(link) => Some(link.pid()),
            State::Stopped => None,
        }
        .map_or(Holder::Outside, |launcher| {
            peer::holder(launcher, ends, variable)
        })
    }

    async fn link(&self) -> Result<Arc<Link>, Error> {
        if let Some(link) = self.current()? {
            return Ok(link);
        }
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.restart())
            .await
            .unwrap_or(Err(Error::Stopped))
    }

    fn current(&self) -> Result<Option<Arc<Link>>, Error> {
        match &*self.0.state.lock() {
            State::Running(link) if link.is_closed() => Ok(None),
            State::Running(link) => Ok(Some(Arc::clone(link))),
            State::Stopped => Err(Error::Stopped),
        }
    }

    fn restart(&self) -> Result<Arc<Link>, Error> {
        let mut state = self.0.state.lock();
        match &*state {
            State::Running(link) if link.is_closed() => {}
            State::Running(link) => return Ok(Arc::clone(link)),
            State::Stopped => return Err(Error::Stopped),
        }
        tracing::warn!("the launcher died; starting another");
        record::sweep(&self.0.record).map_err(Error::Launcher)?;
        let link = Link::start(&self.0.exe, &self.0.record, &self.0.cgroups);
        let link = link.map_err(Error::Launcher)?;
        *state = State::Running(Arc::clone(&link));
        Ok(link)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let State::Running(link) = self.state.get_mut() {
            link.hang_up();
        }
    }
}
