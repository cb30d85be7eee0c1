//! A template in the hands of whoever asked for it: a process that has booted and waits to be made instances of.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    child::Child,
    client::Launcher,
    command::{Command, Error},
    link::Link,
};

/// A process that has booted. Dropping it ends it; what was forked from it lives on.
pub struct Template {
    child: Child,
    id: u64,
    link: Arc<Link>,
    launcher: Launcher,
}

impl Template {
    pub(super) const fn new(child: Child, id: u64, link: Arc<Link>, launcher: Launcher) -> Self {
        Self {
            child,
            id,
            link,
            launcher,
        }
    }

    /// The process itself, with its pipes.
    pub const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.child.pid
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.child.exit().is_none()
    }

    /// An instance that is a fork of it, within the limits of `command` and with its environment and folder; its
    /// program and arguments are the template's.
    ///
    /// # Errors
    /// When the template or the launcher is gone, or the limits cannot be imposed.
    pub async fn fork(&self, command: Command) -> Result<Child, Error> {
        let id = self.launcher.next_id();
        let forked = self.link.fork(id, self.id, command)?.await;
        let started = forked.unwrap_or(Err(Error::Stopped))?;
        Child::new(started).map_err(Error::Launcher)
    }

    /// The template itself as an instance, as [`Template::fork`] has it.
    ///
    /// # Errors
    /// As [`Template::fork`].
    pub async fn assign(self, command: Command) -> Result<Child, Error> {
        let (sender, assigned): (_, oneshot::Receiver<_>) = oneshot::channel();
        self.link.assign(self.id, command, sender)?;
        assigned.await.unwrap_or(Err(Error::Stopped))?;
        Ok(self.child)
    }
}
