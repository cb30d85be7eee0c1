//! The threads of a server beside those of its doors: `control`, and `background` for what nobody waits for, which has a
//! lower claim to the processors: it takes what is left, so that a backlog that is delivered slows requests down as little as can be.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// The threads.
pub(crate) struct Threads {
    control: Runtime,
    background: Runtime,
}

impl Threads {
    /// Starts them: as many of each as there are processors.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn start() -> io::Result<Self> {
        let start = |name| {
            let mut builder = Builder::new_multi_thread();
            builder.enable_all().thread_name(name);
            builder
        };
        Ok(Self {
            control: start("control").build()?,
            background: start("background")
                .on_thread_start(platform::background::step_back)
                .build()?,
        })
    }

    /// Where work runs that nobody waits for.
    pub(crate) fn background(&self) -> Handle {
        self.background.handle().clone()
    }

    /// Runs `work` on this thread, and what it spawns on those of the control plane.
    pub(crate) fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.control.block_on(work)
    }
}
