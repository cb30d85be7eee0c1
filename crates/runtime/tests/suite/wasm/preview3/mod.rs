//! Components of WASI 0.3, with a real guest that is built here: `tests/guests/preview3`.

mod answers;
mod faults;
mod hostile;
mod sharing;
mod streams;

use std::time::Duration;

use model::{Reuse, Run, Workload};

use super::platform::Platform;

/// An instance for every request.
fn alone() -> Platform {
    Platform::preview3("preview3", |_| {})
}

/// Instances that serve so many requests, so many of them at the same time.
fn shared(requests: u32, concurrent: u32) -> Platform {
    Platform::preview3("preview3", |workload| {
        reused(workload, requests, concurrent, Duration::from_secs(600));
    })
}

fn reused(workload: &mut Workload, requests: u32, concurrent: u32, idle: Duration) {
    let Run::Wasm { reuse, .. } = &mut workload.run else {
        panic!("a Wasm workload");
    };
    *reuse = Some(Reuse {
        requests,
        idle,
        concurrent,
    });
}
