//! Differences: what lasts keeps its history, what changes is new, what is gone is forgotten.

use model::{AppName, Name};
use store::reconcile::Found;

use crate::fixture::Nodes;

fn found(key: &str, hash: &str) -> Found {
    Found {
        key: key.to_owned(),
        hash: hash.to_owned(),
        body: "{}".to_owned(),
    }
}

#[tokio::test]
async fn a_difference_is_handed_once_until_it_changes() {
    let nodes = Nodes::one();
    let (app, name) = (AppName::literal("shop"), Name::literal("stock"));
    let differences = nodes.a.differences();
    let sweep = async |rows: Vec<Found>| {
        let now = nodes.clock.now();
        differences
            .sweep(app.clone(), name.clone(), rows, now)
            .await
            .expect("stored")
    };
    let list = async || {
        differences
            .list(app.clone(), name.clone())
            .await
            .expect("read")
    };
    sweep(vec![found("a", "1"), found("b", "1")]).await;
    let first = list().await;
    assert!(first.iter().all(|one| one.handed.is_none()));
    let at = nodes.clock.now();
    for one in &first {
        let handed = differences.handed(app.clone(), name.clone(), &one.found, at, "i-1".into());
        handed.await.expect("stored");
    }
    nodes.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(
        sweep(vec![found("a", "1"), found("b", "2"), found("c", "1")]).await,
        0
    );
    let second = list().await;
    assert_eq!(second[0].handed, Some((at, "i-1".to_owned())));
    assert_eq!(second[0].found_at, first[0].found_at);
    assert_eq!((&second[1].handed, &second[2].handed), (&None, &None));
    assert_eq!(second[1].found_at, nodes.clock.now());
    // What was handed under its old content is not handed under the new one.
    let old = found("b", "1");
    let late = differences.handed(app.clone(), name.clone(), &old, at, "i-2".into());
    late.await.expect("stored");
    assert_eq!(list().await[1].handed, None);
    assert_eq!(sweep(vec![found("b", "2")]).await, 2);
    assert_eq!(list().await.len(), 1);
    differences
        .forget(app.clone(), name.clone())
        .await
        .expect("stored");
    assert_eq!(list().await, []);
}
