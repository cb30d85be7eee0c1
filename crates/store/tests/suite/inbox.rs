//! The inbox: one is first, whatever comes at the same time.

use std::time::Duration;

use model::Name;
use store::inbox::{Claim, InboxKey, Seen};

use crate::fixture::Nodes;

fn key(text: &str) -> InboxKey {
    InboxKey {
        app: Name::literal("shop"),
        workload: Name::literal("w"),
        key: text.to_owned(),
    }
}

fn claim(delivery: &str, attempt: u32) -> Option<Claim> {
    let delivery = delivery.to_owned();
    Some(Claim { delivery, attempt })
}

#[tokio::test]
async fn one_of_many_at_once_is_first() {
    for nodes in Nodes::each().await {
        let takes = (0..200).map(|nth| {
            let store = if nth % 2 == 0 { &nodes.a } else { &nodes.b };
            let inbox = store.inbox();
            tokio::spawn(async move { inbox.take(key("k"), None, None).await.expect("answers") })
        });
        let takes: Vec<_> = takes.collect();
        let mut first = 0;
        for take in takes {
            first += u32::from(take.await.expect("ends").first);
        }
        assert_eq!(first, 1);
        let mut other = key("k");
        other.workload = Name::literal("other");
        let inbox = nodes.a.inbox();
        assert!(inbox.take(other, None, None).await.expect("answers").first);
        assert!(inbox.forget(key("k")).await.expect("forgets"));
        assert!(
            inbox
                .take(key("k"), None, None)
                .await
                .expect("answers")
                .first
        );
        nodes.ends().await;
    }
}

#[tokio::test]
async fn a_later_attempt_takes_again_what_its_earlier_one_took() {
    for nodes in Nodes::each().await {
        let inbox = nodes.a.inbox();
        let take = async |delivery, attempt| {
            let seen = inbox.take(key("k"), None, claim(delivery, attempt)).await;
            seen.expect("answers").first
        };
        assert!(take("d", 1).await);
        assert!(!take("d", 1).await, "the same attempt asked before");
        assert!(!take("e", 1).await, "another delivery is a duplicate");
        assert!(!take("e", 2).await);
        assert!(take("d", 2).await, "the first attempt did not finish");
        assert!(!take("d", 1).await, "an attempt that was given up");
        nodes.ends().await;
    }
}

#[tokio::test]
async fn only_higher_versions_are_new() {
    for nodes in Nodes::each().await {
        let inbox = nodes.a.inbox();
        let mut applied = Vec::new();
        for version in [3, 1, 2, 5, 5, 4, 6] {
            let seen = inbox.take(key("v"), Some(version), None).await;
            let seen = seen.expect("answers");
            if seen.first {
                applied.push(version);
            }
            assert_eq!(seen.version, applied.last().copied());
        }
        assert_eq!(applied, [3, 5, 6]);
        let found = inbox.get(key("v")).await.expect("reads");
        assert!(matches!(
            found,
            Some(Seen {
                first: false,
                version: Some(6),
                ..
            })
        ));
        nodes.ends().await;
    }
}

#[tokio::test]
async fn keys_are_forgotten_after_a_week_and_versions_later() {
    let nodes = Nodes::one();
    let inbox = nodes.a.inbox();
    inbox.take(key("k"), None, None).await.expect("answers");
    inbox.take(key("v"), Some(1), None).await.expect("answers");
    assert_eq!(inbox.purge().await.expect("purges"), 0);
    nodes.clock.advance(Duration::from_secs(8 * 86_400));
    assert_eq!(inbox.purge().await.expect("purges"), 1);
    assert!(inbox.get(key("k")).await.expect("reads").is_none());
    assert!(inbox.get(key("v")).await.expect("reads").is_some());
    nodes.clock.advance(Duration::from_secs(90 * 86_400));
    assert_eq!(inbox.purge().await.expect("purges"), 1);
    nodes.ends().await;
}
