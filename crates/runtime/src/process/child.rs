//! What runs an instance: a process of the launcher's, or a container of an engine's. The rest of the pool knows neither.

use std::sync::Arc;

use futures_util::future::Either;
use tokio::task::JoinHandle;

use super::{instance::Instance, logs};
use crate::{
    container,
    host::LogStream,
    launcher::{self, Exit, Signal},
    pool::Context,
};

/// What runs. Dropping it ends it.
pub(super) enum Child {
    /// A program.
    Process(launcher::Child),
    /// A container.
    Container(container::Running),
}

impl Child {
    /// Its first process on this machine; 0 where that is not known.
    pub(super) const fn pid(&self) -> u32 {
        match self {
            Self::Process(child) => child.pid,
            Self::Container(running) => running.pid,
        }
    }

    /// Asks it to end, or ends it.
    pub(super) fn signal(&self, signal: Signal) {
        match self {
            Self::Process(child) => child.signal_group(signal),
            Self::Container(running) => running.signal(signal),
        }
    }

    /// Resolves when it has ended.
    pub(super) fn exited(&self) -> impl Future<Output = Exit> + Send + 'static {
        match self {
            Self::Process(child) => Either::Left(child.exited()),
            Self::Container(running) => Either::Right(running.exited()),
        }
    }

    /// Reads what it writes, in tasks that end when it does.
    pub(super) fn read(&mut self, ctx: &Arc<Context>, of: &Arc<Instance>) -> Vec<JoinHandle<()>> {
        let (ctx, of) = (|| Arc::clone(ctx), || Arc::clone(of));
        match self {
            Self::Process(child) => {
                let pipes = [
                    (child.stdout.take(), LogStream::Stdout),
                    (child.stderr.take(), LogStream::Stderr),
                ];
                let pipes = pipes.into_iter();
                pipes
                    .filter_map(|(pipe, stream)| Some((pipe?, stream)))
                    .map(|(pipe, stream)| tokio::spawn(logs::read(ctx(), of(), pipe, stream)))
                    .collect()
            }
            Self::Container(running) => {
                let output = running.output.lock().take().into_iter();
                output
                    .map(|output| tokio::spawn(logs::read_container(ctx(), of(), output)))
                    .collect()
            }
        }
    }
}
