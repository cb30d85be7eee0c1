//! Containers whose number follows their requests, from none to as many as are needed and back, and which finish what they hold.

use std::{fs, pin::pin, sync::Arc, time::Duration};

use futures_util::future::join_all;
use model::{Clock, Tier, code};
use runtime::{Spec, process::Pool};
use testkit::ContainerEngine;

use super::{GRACE, on_podman, own, pool, text};
use crate::{
    stage::{Stage, scale},
    support::eventually,
};

const SECOND: Duration = Duration::from_secs(1);

/// A pool whose `/cgi-bin/hold` answers when the gate is open.
fn gated(stage: &Stage, change: impl FnOnce(&mut Spec)) -> Arc<Pool> {
    pool(stage, |spec| {
        spec.state_folder = Some(stage.file("state"));
        change(spec);
    })
}

fn open(stage: &Stage) {
    fs::write(stage.file("state/go"), "").expect("written");
}

/// How many requests each instance works on.
fn in_flight(pool: &Pool) -> Vec<u32> {
    let stats = pool.stats();
    stats.instances.iter().map(|i| i.in_flight).collect()
}

async fn nothing_is_left(own: &ContainerEngine, pool: &Pool) {
    eventually("nothing is left", || {
        pool.stats().instances.is_empty() && own.containers().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_function_runs_from_its_first_request_until_it_idles() {
    on_podman(function).await;
}

pub(super) async fn function(own: &ContainerEngine) {
    let stage = own::stage(own);
    let pool = pool(&stage, |spec| {
        spec.workload.tier = Tier::Function;
        spec.workload.scale = scale(0, 2, 10, SECOND);
    });
    pool.warm().await.expect("there is nothing to start");
    for starts in 0..2 {
        assert_eq!(pool.stats().starts, starts, "nobody asked");
        assert!(own.containers().is_empty());
        assert_eq!(text(&stage, &pool, "/health").await, "well");
        nothing_is_left(own, &pool).await;
    }
    let stats = pool.stats();
    assert_eq!((stats.starts, stats.failures), (2, 0));
}

#[tokio::test]
async fn each_request_at_once_has_a_container_and_none_outlives_its_idling() {
    on_podman(growth).await;
}

pub(super) async fn growth(own: &ContainerEngine) {
    let stage = own::stage(own);
    let pool = gated(&stage, |spec| spec.workload.scale = scale(0, 3, 1, SECOND));
    let requests = join_all((0..3).map(|_| text(&stage, &pool, "/cgi-bin/hold")));
    let grown = async {
        eventually("each has its own", || in_flight(&pool) == [1, 1, 1]).await;
        assert_eq!(own.containers().len(), 3);
        open(&stage);
    };
    let (answers, ()) = tokio::join!(requests, grown);
    assert_eq!(answers, ["held\n"; 3]);
    nothing_is_left(own, &pool).await;
    let stats = pool.stats();
    assert_eq!((stats.starts, stats.failures), (3, 0));
}

#[tokio::test]
async fn draining_lets_a_request_finish_and_leaves_no_container() {
    on_podman(drain).await;
}

pub(super) async fn drain(own: &ContainerEngine) {
    let stage = own::stage(own);
    let pool = gated(&stage, |_| {});
    pool.warm().await.expect("it starts");
    let held = text(&stage, &pool, "/cgi-bin/hold");
    let drained = async {
        eventually("it is held", || in_flight(&pool) == [1]).await;
        let mut drain = pin!(pool.drain(SECOND * 30));
        let clock = Clock::system();
        // For longer than it would live if it had been asked to end.
        tokio::select! {
            () = &mut drain => panic!("the request is under way"),
            () = clock.sleep(GRACE * 2) => open(&stage),
        }
        drain.await;
    };
    let (answer, ()) = tokio::join!(held, drained);
    assert_eq!(answer, "held\n");
    nothing_is_left(own, &pool).await;
    assert_eq!(pool.stats().failures, 0);
    let late = stage.get(&pool, "/health").await.err().expect("gone");
    assert_eq!(late.code, code::WORKLOAD_GONE);
}
