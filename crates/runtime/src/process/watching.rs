//! Watching one instance: whether it has started, whether it is alive, and whether it is ready for requests.
//!
//! The three are asked apart from each other, so that a slow answer to one delays no other. Only what they come to
//! matters to the rest of its life.

use std::{convert::Infallible, pin::pin, time::Duration};

use model::{Error, Probe, code, units::display_duration};

use super::{
    life::{Life, NotReady, Running},
    probe::Asked,
    requests::news,
};
use crate::launcher::Exit;

/// The first pause between two questions to one that starts, doubled up to the interval of its probe.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// Between two questions to one that refused a connection.
const DOUBT: Duration = Duration::from_millis(20);

/// What ends the time in which an instance serves.
enum Ends {
    Exited(Exit),
    Dismissed,
    NotAlive(bool, String),
}

impl Life {
    /// How it is asked whether it has started.
    pub(super) fn startup(&self) -> Probe {
        let given = self.probes.startup.clone();
        given.unwrap_or_else(|| Probe::startup(None))
    }

    /// Asks until it has started.
    pub(super) async fn until_started(&self, running: &Running) -> Result<(), NotReady> {
        let probe = self.startup();
        let mut exited = pin!(running.child.exited());
        let mut dismissed = pin!(self.dismissed());
        let deadline = running.spawned + probe.window();
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = tokio::select! {
                biased;
                exit = &mut exited => return Err(NotReady::Exited(exit)),
                () = &mut dismissed => return Err(NotReady::Dismissed),
                asked = self.ask(running, &probe) => asked,
            };
            self.note(asked.as_ref().err());
            let Err(reason) = asked else {
                return Ok(());
            };
            if self.ctx.clock.monotonic() >= deadline {
                return Err(NotReady::TooSlow(reason));
            }
            tokio::select! {
                biased;
                exit = &mut exited => return Err(NotReady::Exited(exit)),
                () = &mut dismissed => return Err(NotReady::Dismissed),
                () = self.ctx.clock.sleep(pause) => {}
            }
            pause = (pause * 2).min(probe.interval);
        }
    }

    /// Until it ends, is told to leave, or is not alive any more.
    pub(super) async fn serve(&self, running: &mut Running) -> Result<(), Error> {
        let ends = {
            let running = &*running;
            tokio::select! {
                biased;
                exit = running.child.exited() => Ends::Exited(exit),
                () = self.dismissed() => Ends::Dismissed,
                (doubt, reason) = self.until_not_alive(running) => Ends::NotAlive(doubt, reason),
                never = self.follow_readiness(running) => match never {},
            }
        };
        match ends {
            Ends::Exited(exit) => Err(self.died(running, exit).await),
            Ends::Dismissed => self.leave(running).await,
            Ends::NotAlive(doubt, reason) => self.replace(running, doubt, &reason).await,
        }
    }

    /// Asks whether it is alive, from time to time or when it is in doubt; when it is not, returns whether it was in doubt,
    /// and what it last answered.
    async fn until_not_alive(&self, running: &Running) -> (bool, String) {
        let probe = self.probes.liveness.clone();
        let regular = probe.is_some();
        let probe = probe.unwrap_or_else(|| Probe::liveness(None));
        let graceless = self.ctx.clock.monotonic() + probe.grace;
        let mut misses = 0;
        loop {
            let next = async {
                if !regular && misses == 0 {
                    std::future::pending::<()>().await;
                }
                self.ctx.clock.sleep(probe.interval).await;
            };
            let suspected = tokio::select! {
                () = self.instance.suspected.notified() => true,
                () = next => false,
            };
            let Err(reason) = self.ask(running, &probe).await else {
                if misses > 0 && self.probes.readiness.is_none() {
                    self.note(None);
                }
                misses = 0;
                self.pool
                    .upgrade()
                    .inspect(|pool| pool.cleared(&self.instance));
                continue;
            };
            let forgiven = self.ctx.clock.monotonic() < graceless;
            misses += u32::from(!forgiven);
            self.note(Some(&reason));
            if misses >= probe.failures {
                if suspected {
                    // It broke a connection: most likely it ends, which is then what is said of it.
                    self.ctx.clock.sleep(news(&self.spec)).await;
                }
                self.say(format!("does not answer its liveness probe: {reason}"));
                return (suspected, reason);
            }
            if !suspected {
                self.say(format!("does not answer its liveness probe: {reason}"));
            }
            if suspected {
                let pause = if forgiven { probe.interval } else { DOUBT };
                self.instance.suspected.notify_one();
                self.ctx.clock.sleep(pause).await;
            }
        }
    }

    /// Asks whether it is ready for requests, where that is to be asked, and tells the pool.
    async fn follow_readiness(&self, running: &Running) -> Infallible {
        let Some(probe) = &self.probes.readiness else {
            return std::future::pending().await;
        };
        let graceless = self.ctx.clock.monotonic() + probe.grace;
        let (mut ready, mut misses) = (false, 0);
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = self.ask(running, probe).await;
            let Some(pool) = self.pool.upgrade() else {
                return std::future::pending().await;
            };
            self.note(asked.as_ref().err());
            match asked {
                Ok(()) => {
                    misses = 0;
                    if !std::mem::replace(&mut ready, true) {
                        self.say("is ready for requests".to_owned());
                    }
                    pool.ready(&self.instance);
                }
                Err(reason) => {
                    let counts = !ready || self.ctx.clock.monotonic() >= graceless;
                    misses += u32::from(counts);
                    let off = misses >= probe.failures && std::mem::replace(&mut ready, false);
                    // Told each time, for who waits for the first one to be ready.
                    if misses >= probe.failures && pool.unready(&self.instance) || off {
                        self.say(format!("is not ready for requests: {reason}"));
                    }
                }
            }
            drop(pool);
            // Who waits for the first time is not kept waiting for an interval.
            pause = match ready {
                true => probe.interval,
                false => (pause * 2).min(probe.interval),
            };
            self.ctx.clock.sleep(pause).await;
        }
    }

    /// Gets no more requests; another takes its place while it finishes what it has.
    async fn replace(&self, running: &mut Running, doubt: bool, reason: &str) -> Result<(), Error> {
        let name = &self.spec.workload.name;
        let probe = self.probes.liveness.clone();
        let probe = probe.unwrap_or_else(|| Probe::liveness(None));
        let how = match doubt {
            true => "after it broke a connection".to_owned(),
            false => format!("{} apart", display_duration(probe.interval)),
        };
        let message = format!(
            "an instance of `{name}` failed its liveness probe {} times in a row, {how}, and is replaced: {reason}",
            probe.failures,
        );
        self.say(message.clone());
        if let Some(pool) = self.pool.upgrade() {
            pool.unhealthy(&self.instance, Error::new(code::NOT_ALIVE, message));
        }
        self.leave(running).await
    }

    async fn ask(&self, running: &Running, probe: &Probe) -> Result<(), String> {
        let asked = Asked {
            clock: &self.ctx.clock,
            upstream: &running.upstream,
            port: &running.ports.main,
        };
        asked.ask(probe).await
    }

    /// Keeps what it answered, as long as that is a problem.
    fn note(&self, problem: Option<&String>) {
        *self.instance.problem.lock() = problem.cloned();
    }
}
