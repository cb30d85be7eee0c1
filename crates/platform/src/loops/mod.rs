//! The loops that take work from the store and invoke. Each asks for a permit before it takes work, so that what is
//! refused was never taken and costs no attempt.

mod background;
mod batch;
mod bridge;
mod callback;
mod deliver;
mod destination;
mod errand;
mod housekeeping;
mod input;
mod kept;
mod leases;
pub(crate) mod metering;
mod reconcile;
mod relay;

use std::time::{Duration, Instant};

use bytes::Bytes;
pub(crate) use deliver::dwell;
pub(crate) use input::transformed;
use model::{Clock, Error, code};
use runtime::{Body, BodyError};
use tokio::{runtime::Handle, sync::watch, task::JoinSet};

use crate::Platform;

/// Starts all loops, those that invoke for nobody who waits in `background`; each ends soon after `stop` turns true, when
/// what it has under way has ended.
pub(crate) fn start(
    platform: &Platform,
    background: &Handle,
    stop: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    loops.spawn_on(deliver::run(platform.clone(), stop.clone()), background);
    loops.spawn_on(background::run(platform.clone(), stop.clone()), background);
    loops.spawn(leases::run(platform.clone(), stop.clone()));
    loops.spawn(callback::ERRAND.run(platform.clone(), stop.clone()));
    loops.spawn(destination::ERRAND.run(platform.clone(), stop.clone()));
    loops.spawn(reconcile::run(platform.clone(), stop.clone()));
    loops.spawn(bridge::BRIDGES.run(platform.clone(), stop.clone()));
    loops.spawn(relay::RELAYS.run(platform.clone(), stop.clone()));
    loops.spawn(housekeeping::run(platform.clone(), stop.clone()));
    loops.spawn(metering::run(platform.clone(), stop.clone()));
    loops
}

/// Reads an answer to its end, so that the invocation ends as done and not as cut off. All of it counts against the
/// workload's timeout: nobody waits for a part of it, and what trickles would hold its key and its place for ever.
async fn read_answer(platform: &Platform, body: Body, deadline: Instant) -> Result<Bytes, Error> {
    let clock = platform.clock();
    let left = deadline.saturating_duration_since(clock.monotonic());
    let read = tokio::select! {
        read = body.collect(platform.limits().sync_payload) => read,
        () = clock.sleep(left) => {
            let message = "the answer had begun and did not end within the workload's timeout";
            return Err(Error::new(code::WORKLOAD_TIMEOUT, message));
        }
    };
    read.map_err(|error| match error {
        BodyError::Workload(error) => error,
        // As a handler's reply of that size is: its own mistake, which another attempt may not make.
        BodyError::TooLarge(limit) => Error::new(
            code::BAD_REPLY,
            format!("the answer is larger than {limit}"),
        ),
        other => Error::new(code::INSTANCE_DIED, "the workload's answer broke off").context(other),
    })
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: the platform is ending.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits for so long, or until it is to stop.
async fn slept(clock: &Clock, long: Duration, stop: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = clock.sleep(long) => {}
        () = stopped(stop) => {}
    }
}
