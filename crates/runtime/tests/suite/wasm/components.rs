//! Components that cannot run, and compiled code on disk.

use std::{fs, future::poll_fn, path::PathBuf, task::Poll, time::Duration};

use futures_util::future::join_all;
use model::{Error, code};
use runtime::{Body, Input, wasm::Pool};
use tempfile::TempDir;

use super::platform::{Platform, guest_bytes, request, text};

async fn refused(bytes: &[u8]) -> Error {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("x.wasm"), bytes).expect("is written");
    let platform = Platform::of(folder.path(), "x.wasm", folder.path(), |_| {});
    let error = platform.failure("/").await;
    // It stays what it is, and the pool says so without trying again.
    assert_eq!(platform.failure("/").await, error);
    assert!(platform.pool.stats().instances.is_empty());
    error
}

#[tokio::test]
async fn what_is_no_component_says_what_it_is() {
    let check = async |bytes: &[u8], says: &str| {
        let error = refused(bytes).await;
        assert_eq!(error.code, code::BAD_COMPONENT, "{error}");
        assert!(error.message.contains(says), "{error}");
    };
    check(b"", "no WebAssembly component").await;
    check(b"#!/bin/sh\n", "no WebAssembly component").await;
    check(b"\0asm\x01\0\0\0", "core WebAssembly module").await;
    check(b"\0asm\x0d\0\x01\0", "it exports nothing").await;
    check(b"\0asm\x0d\0\x01\0garbage", "does not compile").await;
    let guest = guest_bytes();
    check(&guest[..guest.len() / 2], "does not compile").await;
}

#[tokio::test]
async fn what_is_too_large_is_not_read() {
    let folder = TempDir::new().expect("a folder");
    let file = fs::File::create(folder.path().join("x.wasm")).expect("a file");
    file.set_len(101 << 20).expect("a hole");
    let platform = Platform::of(folder.path(), "x.wasm", folder.path(), |_| {});
    let error = platform.failure("/").await;
    assert_eq!(error.code, code::BAD_COMPONENT);
    assert!(error.message.contains("at most 100MiB"), "{error}");
}

#[tokio::test]
async fn what_is_missing_may_come_later() {
    let folder = TempDir::new().expect("a folder");
    let platform = Platform::of(folder.path(), "x.wasm", folder.path(), |_| {});
    assert_eq!(platform.failure("/hello").await.code, code::START_FAILED);
    fs::write(folder.path().join("x.wasm"), guest_bytes()).expect("is written");
    assert_eq!(platform.text("/hello").await, "hello\n");
}

/// The guest in a folder of its own, so that its cache is its own.
fn alone() -> (TempDir, Platform) {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("x.wasm"), guest_bytes()).expect("is written");
    let platform = Platform::of(folder.path(), "x.wasm", folder.path(), |_| {});
    (folder, platform)
}

fn compiled(folder: &TempDir) -> PathBuf {
    let mut files = fs::read_dir(folder.path().join("wasm")).expect("the cache");
    let file = files.next().expect("one file").expect("is readable").path();
    assert!(files.next().is_none(), "nothing else is left there");
    file
}

#[tokio::test]
async fn compiled_code_is_kept_and_used_again() {
    let (folder, platform) = alone();
    assert_eq!(platform.text("/hello").await, "hello\n");
    let file = compiled(&folder);
    let before = fs::metadata(&file)
        .expect("is there")
        .modified()
        .expect("a time");
    let again = Platform::of(folder.path(), "x.wasm", folder.path(), |_| {});
    assert_eq!(again.text("/hello").await, "hello\n");
    let after = fs::metadata(&file)
        .expect("is there")
        .modified()
        .expect("a time");
    assert_eq!(before, after);
}

#[tokio::test]
async fn damaged_code_is_never_run() {
    let (folder, platform) = alone();
    platform.pool.ready().await.expect("it loads");
    drop(platform);
    let file = compiled(&folder);
    let good = fs::read(&file).expect("is there");
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for bad in [
        flipped,
        good[..good.len() - 1].to_vec(),
        good[..9].to_vec(),
        Vec::new(),
    ] {
        // By renaming, as the cache does: what is mapped must not change under a guest.
        fs::write(folder.path().join("bad"), &bad).expect("is written");
        fs::rename(folder.path().join("bad"), &file).expect("is renamed");
        let platform = Platform::of(folder.path(), "x.wasm", folder.path(), |_| {});
        assert_eq!(platform.text("/hello").await, "hello\n");
        assert_eq!(fs::read(&file).expect("is there").len(), good.len());
        assert_ne!(fs::read(&file).expect("is there"), bad);
    }
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_only_costs_time() {
    let (folder, _) = alone();
    fs::write(folder.path().join("file"), "not a folder").expect("is written");
    let cache = folder.path().join("file");
    let platform = Platform::of(folder.path(), "x.wasm", &cache, |_| {});
    assert_eq!(platform.text("/hello").await, "hello\n");
}

#[tokio::test]
async fn many_who_come_at_once_wait_for_one_load() {
    let (folder, platform) = alone();
    let all = join_all((0..20).map(|_| platform.get("/hello"))).await;
    let mut loads = 0;
    for ran in all {
        let cold = ran.meter.cold().expect("all of them waited");
        loads += usize::from(!cold.load.is_zero());
        assert!(cold.load.is_zero() != cold.wait.is_zero());
        assert_eq!(text(ran.response.expect("an answer")).await, "hello\n");
    }
    assert_eq!(loads, 1);
    compiled(&folder);
}

#[tokio::test]
async fn a_first_caller_who_goes_away_takes_no_load_with_them() {
    let (_folder, platform) = alone();
    let input = Input::http(request("GET", "/hello", Body::Empty));
    let first = Pool::invoke(
        &platform.pool,
        platform.invocation(Duration::from_secs(60)),
        input,
    );
    let mut first = Box::pin(first);
    let begun = poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await;
    assert!(begun.is_pending());
    drop(first);
    let second = platform.get("/hello").await;
    let cold = second.meter.cold().expect("it waited");
    assert!(cold.load.is_zero() && !cold.wait.is_zero());
}

#[tokio::test]
async fn more_guests_than_places_take_turns() {
    let platform = Platform::new();
    let all = join_all((0..100).map(|_| platform.text("/sleep?5"))).await;
    assert!(all.iter().all(|text| text == "awake\n"));
    let stats = platform.engine.stats();
    assert_eq!((stats.places, stats.taken, stats.memories), (32, 0, 0));
    assert!(
        stats.warm_memories > 0 && stats.unused_memory > 0,
        "{stats:?}"
    );
}

#[tokio::test]
async fn a_flooded_workload_leaves_places_to_others() {
    let (_folder, platform) = alone();
    let other = platform.another();
    for pool in [&platform.pool, &other] {
        pool.ready().await.expect("it serves");
    }
    let flood = join_all((0..100).map(|_| platform.get("/sleep?600000")));
    let mut flood = std::pin::pin!(flood);
    // Polled along with the others: every one of the flood has asked before any of them does.
    for _ in 0..50 {
        let asked = async {
            let hello = Input::http(request("GET", "/hello", Body::Empty));
            let invocation = platform.invocation(Duration::from_secs(60));
            other.invoke(invocation, hello).await
        };
        let ran = tokio::select! {
            biased;
            _ = &mut flood => unreachable!("they sleep"),
            ran = asked => ran,
        };
        assert_eq!(text(ran.response.expect("a place")).await, "hello\n");
    }
    assert_eq!(platform.engine.stats().taken, 24, "three quarters of 32");
}

#[tokio::test]
async fn workloads_of_one_component_share_its_code() {
    let (_folder, platform) = alone();
    let others: Vec<_> = (0..20).map(|_| platform.another()).collect();
    let all = others.iter().chain([&platform.pool]);
    for ready in join_all(all.map(|pool| pool.ready())).await {
        ready.expect("it serves");
    }
    assert_eq!(platform.engine.stats().components, 1);
    drop(others);
    assert_eq!(platform.text("/hello").await, "hello\n");
    let Platform { engine, pool, .. } = platform;
    drop(pool);
    assert_eq!(engine.stats().components, 0, "nobody uses it any more");
}
