//! Revisions: which are live, which are at hand, and which are forgotten with what they kept.

use std::time::Duration;

use bytes::Bytes;
use model::{AppName, ByteSize, Name, RevisionId};
use store::apps::{NewRevision, Revision};

use crate::fixture::Nodes;

fn revision(nodes: &Nodes, app: &str) -> NewRevision {
    NewRevision {
        namespace: Name::default_namespace(),
        app: AppName::literal(if app == "shop" { "shop" } else { "blog" }),
        manifest: String::new(),
        spec: "{}".to_owned(),
        files: "{}".to_owned(),
        blobs: Vec::new(),
        at: nodes.clock.now(),
    }
}

fn numbers(rows: &[Revision]) -> Vec<(&str, u64)> {
    let mut all: Vec<_> = rows
        .iter()
        .map(|r| (r.app.as_str(), r.revision.0))
        .collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn the_newest_and_the_live_one_are_at_hand_and_the_rest_is_old() {
    let nodes = Nodes::one();
    let apps = nodes.a.apps();
    for _ in 0..5 {
        apps.commit(revision(&nodes, "shop")).await.expect("stored");
    }
    apps.commit(revision(&nodes, "blog")).await.expect("stored");
    let (namespace, shop) = (Name::default_namespace(), AppName::literal("shop"));
    apps.point(namespace.clone(), shop.clone(), RevisionId(1))
        .await
        .expect("is there");
    let at_hand = apps.at_hand(2).await.expect("read");
    assert_eq!(
        numbers(&at_hand),
        [("blog", 1), ("shop", 1), ("shop", 4), ("shop", 5)]
    );
    let old = apps.old(2).await.expect("read");
    assert_eq!(numbers(&old), [("shop", 2), ("shop", 3)]);
    let forget = |number| {
        apps.forget(
            namespace.clone(),
            shop.clone(),
            RevisionId(number),
            Vec::new(),
        )
    };
    assert!(forget(2).await.expect("asked"));
    assert!(!forget(2).await.expect("asked"), "it is gone already");
    assert!(!forget(1).await.expect("asked"), "it is live");
    assert_eq!(numbers(&apps.old(2).await.expect("read")), [("shop", 3)]);
    apps.remove(namespace, AppName::literal("blog"))
        .await
        .expect("is live");
    let at_hand = apps.at_hand(1).await.expect("read");
    assert_eq!(numbers(&at_hand), [("shop", 1), ("shop", 5)]);
}

#[tokio::test]
async fn what_is_forgotten_lets_go_of_its_blobs() {
    let nodes = Nodes::one();
    let apps = nodes.a.apps();
    let mut writer = nodes
        .a
        .blobs()
        .writer(ByteSize::mib(1))
        .await
        .expect("room");
    writer
        .write(Bytes::from_static(b"artifact"))
        .await
        .expect("room");
    let blob = writer.finish().await.expect("durable");
    for _ in 0..2 {
        let with_blob = NewRevision {
            blobs: vec![(blob.hash, blob.size)],
            ..revision(&nodes, "shop")
        };
        apps.commit(with_blob).await.expect("stored");
    }
    let sweep = async || {
        nodes.clock.advance(Duration::from_secs(7200));
        for _ in 0..512 {
            nodes.a.blobs().sweep().await.expect("swept");
        }
        nodes.a.blobs().contains(&blob.hash)
    };
    assert!(sweep().await, "two revisions have it");
    let forgotten = apps.forget(
        Name::default_namespace(),
        AppName::literal("shop"),
        RevisionId(1),
        vec![blob.hash],
    );
    assert!(forgotten.await.expect("asked"));
    assert!(sweep().await, "the other has it still");
    apps.commit(revision(&nodes, "shop")).await.expect("stored");
    let forgotten = apps.forget(
        Name::default_namespace(),
        AppName::literal("shop"),
        RevisionId(2),
        vec![blob.hash],
    );
    assert!(forgotten.await.expect("asked"));
    assert!(!sweep().await, "nobody has it");
}
