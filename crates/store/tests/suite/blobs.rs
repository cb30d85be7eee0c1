//! Blobs: put in every way, read back, counted, removed an hour after the last reference.

use std::time::Duration;

use bytes::Bytes;
use model::{ByteSize, Position};
use store::{
    Error,
    blobs::{GRACE, Payload},
    log::Retention,
};

use crate::fixture::{Nodes, event, space};

async fn sweep_all(nodes: &Nodes) -> u64 {
    let mut removed = 0;
    for _ in 0..256 {
        removed += nodes.a.blobs().sweep().await.expect("sweeps");
    }
    removed
}

#[tokio::test]
async fn every_way_of_putting_gives_the_same_blob() {
    let nodes = Nodes::one();
    let blobs = nodes.a.blobs();
    let bytes = Bytes::from(vec![7; 1_000_000]);
    let put = blobs.put(bytes.clone()).await.expect("puts");
    let mut writer = blobs.writer(ByteSize::mib(1)).await.expect("begins");
    for chunk in bytes.chunks(33_333) {
        writer
            .write(Bytes::copy_from_slice(chunk))
            .await
            .expect("writes");
    }
    assert_eq!(writer.finish().await.expect("ends"), put);
    let path = nodes.dir.path().join("artifact");
    std::fs::write(&path, &bytes).expect("writes");
    let copied = blobs.put_file(&path, ByteSize::mib(1)).await.expect("puts");
    assert_eq!(copied, put);
    assert_eq!(blobs.read(put).await.expect("reads"), bytes);
    let out = nodes.dir.path().join("out");
    blobs.copy_out(put, &out).await.expect("copies");
    assert_eq!(std::fs::read(out).expect("reads"), bytes);
    let left: Vec<_> = std::fs::read_dir(nodes.dir.path().join("blobs/tmp"))
        .expect("is a folder")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn more_than_the_limit_is_refused_and_leaves_nothing() {
    let nodes = Nodes::one();
    let blobs = nodes.a.blobs();
    let mut writer = blobs.writer(ByteSize(10)).await.expect("begins");
    writer
        .write(Bytes::from_static(b"12345"))
        .await
        .expect("fits");
    let refused = writer.write(Bytes::from_static(b"678901")).await;
    assert!(matches!(refused, Err(Error::TooLarge(ByteSize(10)))));
    drop(writer);
    let left = std::fs::read_dir(nodes.dir.path().join("blobs/tmp")).expect("is a folder");
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn small_payloads_stay_inline() {
    let nodes = Nodes::one();
    let small = nodes
        .a
        .blobs()
        .payload(vec![1; 16 << 10])
        .await
        .expect("puts");
    assert!(matches!(small, Payload::Inline(_)));
    let large = nodes
        .a
        .blobs()
        .payload(vec![1; (16 << 10) + 1])
        .await
        .expect("puts");
    assert!(matches!(large, Payload::Blob(blob) if blob.size == (16 << 10) + 1));
}

#[tokio::test]
async fn a_blob_goes_an_hour_after_its_last_reference() {
    let nodes = Nodes::one();
    let log = nodes.a.log();
    log.append(&space(), vec![event("big", 50_000)])
        .await
        .expect("appends");
    let files = || walk(&nodes.dir.path().join("blobs"));
    assert_eq!(files(), 1);
    nodes.clock.advance(Retention::default().age + GRACE);
    assert_eq!(sweep_all(&nodes).await, 0, "it is referred to");
    let retained = log
        .retain(&space(), Retention::default())
        .await
        .expect("retains");
    assert_eq!(retained.removed, 1);
    nodes.clock.advance(GRACE - Duration::from_secs(1));
    assert_eq!(sweep_all(&nodes).await, 0);
    nodes.clock.advance(Duration::from_secs(2));
    assert_eq!(sweep_all(&nodes).await, 1);
    assert_eq!(files(), 0);
    assert!(
        log.event(&space(), Position(1))
            .await
            .expect("reads")
            .is_none()
    );
}

#[tokio::test]
async fn one_that_was_put_and_never_referred_to_goes_too_unless_it_was_put_again() {
    let nodes = Nodes::one();
    let blobs = nodes.a.blobs();
    let bytes = Bytes::from(vec![3; 100_000]);
    let blob = blobs.put(bytes.clone()).await.expect("puts");
    assert_eq!(sweep_all(&nodes).await, 0, "its hour begins now");
    nodes.clock.advance(GRACE + Duration::from_secs(1));
    blobs
        .put(bytes)
        .await
        .expect("puts again, and finds the file");
    assert_eq!(sweep_all(&nodes).await, 0, "a commit may be on its way");
    assert!(blobs.contains(&blob.hash));
    nodes.clock.advance(GRACE + Duration::from_secs(1));
    assert_eq!(sweep_all(&nodes).await, 1);
    assert!(!blobs.contains(&blob.hash));
}

#[tokio::test]
async fn a_damaged_blob_is_not_handed_out() {
    let nodes = Nodes::one();
    let blobs = nodes.a.blobs();
    let blob = blobs.put(Bytes::from(vec![9; 40_000])).await.expect("puts");
    let hash = blob.hash.to_string();
    let path = nodes.dir.path().join("blobs").join(&hash[..2]).join(&hash);
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[20_000] ^= 1;
    std::fs::write(&path, bytes).expect("writes");
    assert!(matches!(blobs.read(blob).await, Err(Error::Damaged(_))));
}

fn walk(path: &std::path::Path) -> usize {
    std::fs::read_dir(path)
        .expect("is a folder")
        .map(|entry| entry.expect("reads").path())
        .map(|path| if path.is_dir() { walk(&path) } else { 1 })
        .sum()
}
