//! Buckets: values by keys, conditions, counters, lists, limits, and what a crash leaves.

use std::collections::BTreeSet;

use bytes::Bytes;
use model::{
    ByteSize, Clock, Limits, Name,
    keyvalue::{After, Bucket, Change, Condition, Numbers, Revision},
};
use store::{
    Error, Options, Store,
    blobs::GRACE,
    kv::{Kv, Written},
};

use crate::fixture::{Nodes, START, space};

fn bucket(app: &'static str, name: &'static str) -> Bucket {
    Bucket {
        namespace: space(),
        app: Name::literal(app),
        name: Name::literal(name),
    }
}

fn change(key: &str, value: Option<&[u8]>, condition: Condition) -> Change {
    Change {
        key: key.to_owned(),
        value: value.map(Bytes::copy_from_slice),
        condition,
    }
}

async fn put(kv: &Kv, to: &Bucket, key: &str, value: &[u8]) -> Revision {
    let change = change(key, Some(value), Condition::Any);
    match kv.write(to, vec![change]).await.expect("writes")[..] {
        [Written::Put { revision, .. }] => revision,
        ref other => panic!("{other:?}"),
    }
}

async fn get(kv: &Kv, from: &Bucket, key: &str) -> Option<Bytes> {
    let entries = kv.get(from, vec![key.to_owned()]).await.expect("reads");
    entries.into_iter().next().flatten().map(|e| e.value)
}

/// Keys and bytes of a bucket, as limits count them.
async fn totals(kv: &Kv, of: &Bucket) -> (u64, u64) {
    let all = kv.buckets(&of.namespace, Some(of.app.clone())).await;
    let all = all.expect("reads");
    let one = all.iter().find(|one| one.bucket == of.name);
    one.map_or((0, 0), |one| (one.keys, one.bytes.0))
}

#[tokio::test]
async fn values_of_all_sizes_are_kept_apart_by_bucket_and_app() {
    for nodes in Nodes::each().await {
        let (a, b) = (nodes.a.kv(), nodes.b.kv());
        let carts = bucket("shop", "carts");
        for size in [0, 1, 16 << 10, 100_000] {
            let value = vec![b'v'; size];
            put(&a, &carts, "one", &value).await;
            assert_eq!(get(&b, &carts, "one").await.expect("is there"), value);
            assert_eq!(totals(&b, &carts).await, (1, size as u64 + 3));
        }
        put(&b, &bucket("other", "carts"), "one", b"theirs").await;
        put(&b, &bucket("shop", "prices"), "one", b"price").await;
        assert_eq!(
            get(&a, &carts, "one").await.expect("is there").len(),
            100_000
        );
        assert_eq!(
            get(&a, &bucket("other", "carts"), "one").await.as_deref(),
            Some(&b"theirs"[..])
        );
        let gone = a.write(&carts, vec![change("one", None, Condition::Any); 1]);
        assert_eq!(
            gone.await.expect("deletes"),
            [Written::Deleted { existed: true }]
        );
        let nothing = a.write(&carts, vec![change("one", None, Condition::Any)]);
        assert_eq!(
            nothing.await.expect("deletes"),
            [Written::Deleted { existed: false }]
        );
        assert_eq!(get(&b, &carts, "one").await, None);
        assert_eq!(totals(&b, &carts).await, (0, 0));
        nodes.ends().await;
    }
}

#[tokio::test]
async fn a_condition_holds_or_nothing_is_written() {
    for nodes in Nodes::each().await {
        let kv = nodes.a.kv();
        let carts = bucket("shop", "carts");
        let try_put = async |condition| {
            let written = kv.write(&carts, vec![change("k", Some(b"v"), condition)]);
            written.await.map(|w| w[0])
        };
        let fails = |result: store::Result<Written>| matches!(result, Err(Error::Condition(key)) if key == "k");
        assert!(fails(try_put(Condition::Present).await));
        assert!(fails(try_put(Condition::Is(Revision(1))).await));
        let Ok(Written::Put {
            revision: first,
            created: true,
        }) = try_put(Condition::Absent).await
        else {
            panic!("there was nothing");
        };
        assert!(fails(try_put(Condition::Absent).await));
        let Ok(Written::Put {
            revision: second,
            created: false,
        }) = try_put(Condition::Is(first)).await
        else {
            panic!("it is as it was");
        };
        assert!(second > first);
        assert!(fails(try_put(Condition::Is(first)).await));
        // Deleted and made again, it is not what it was: revisions are never used twice.
        let delete = vec![change("k", None, Condition::Is(second))];
        kv.write(&carts, delete).await.expect("deletes");
        let third = put(&kv, &carts, "k", b"v").await;
        assert!(third > second && fails(try_put(Condition::Is(second)).await));
        nodes.ends().await;
    }
}

#[tokio::test]
async fn several_changes_are_made_together_or_not_at_all() {
    for nodes in Nodes::each().await {
        let kv = nodes.a.kv();
        let carts = bucket("shop", "carts");
        put(&kv, &carts, "old", b"1").await;
        let refused = vec![
            change("new", Some(b"1"), Condition::Any),
            change("old", Some(b"2"), Condition::Absent),
        ];
        assert!(kv.write(&carts, refused).await.is_err());
        assert_eq!(get(&kv, &carts, "new").await, None);
        assert_eq!(totals(&kv, &carts).await, (1, 4));
        let twice = vec![
            change("new", Some(b"first"), Condition::Any),
            change("old", None, Condition::Any),
            change("new", Some(b"last"), Condition::Any),
        ];
        kv.write(&carts, twice).await.expect("writes");
        assert_eq!(get(&kv, &carts, "new").await.as_deref(), Some(&b"last"[..]));
        assert_eq!(get(&kv, &carts, "old").await, None);
        assert_eq!(totals(&kv, &carts).await, (1, 7));
        nodes.ends().await;
    }
}

#[tokio::test]
async fn counters_count_every_increment_once() {
    for nodes in Nodes::each().await {
        let carts = bucket("shop", "counts");
        let mut tasks = tokio::task::JoinSet::new();
        for at in 0..100 {
            let node = if at % 2 == 0 { &nodes.a } else { &nodes.b };
            let (kv, to) = (node.kv(), carts.clone());
            tasks.spawn(async move {
                let sum = kv.increment(&to, "n".to_owned(), 2, Numbers::Signed);
                sum.await.expect("counts").0
            });
        }
        let seen: BTreeSet<i128> = tasks.join_all().await.into_iter().collect();
        assert_eq!(seen.len(), 100, "each saw a number of its own");
        let kv = nodes.a.kv();
        assert_eq!(get(&kv, &carts, "n").await.as_deref(), Some(&b"200"[..]));
        let add =
            async |key: &str, by, numbers| kv.increment(&carts, key.to_owned(), by, numbers).await;
        assert_eq!(add("n", -201, Numbers::Signed).await.expect("counts").0, -1);
        assert!(add("n", 0, Numbers::Unsigned).await.is_err(), "-1 is none");
        let most = i128::from(u64::MAX);
        assert_eq!(
            add("u", most, Numbers::Unsigned).await.expect("fits").0,
            most
        );
        for (key, by, numbers) in [
            ("u", 1, Numbers::Unsigned),
            ("u", 0, Numbers::Signed),
            ("m", 1 << 63, Numbers::Signed),
        ] {
            let refused = add(key, by, numbers).await;
            assert!(
                matches!(refused, Err(Error::NotANumber { .. })),
                "{key} {by}"
            );
        }
        put(&kv, &carts, "text", b"many").await;
        put(&kv, &carts, "long", &[b'1'; 100_000]).await;
        for key in ["text", "long"] {
            assert!(matches!(
                add(key, 1, Numbers::Signed).await,
                Err(Error::NotANumber { .. })
            ));
        }
        nodes.ends().await;
    }
}

#[tokio::test]
async fn lists_come_in_pages_that_lose_nothing() {
    for nodes in Nodes::each().await {
        let kv = nodes.a.kv();
        let carts = bucket("shop", "carts");
        // Written backwards, so that the two orders differ.
        for at in (0..25).rev() {
            put(&kv, &carts, &format!("a/{at:02}"), b"x").await;
            put(&kv, &carts, &format!("b/{at:02}"), b"x").await;
        }
        for (prefix, by_number, many) in [
            ("", false, 50),
            ("b/", false, 25),
            ("", true, 50),
            ("a/", true, 25),
        ] {
            let (mut keys, mut after) = (Vec::new(), After::Start);
            if by_number {
                after = After::Number(0);
            }
            loop {
                let page = kv
                    .list(&carts, prefix.to_owned(), after, 7)
                    .await
                    .expect("reads");
                let Some(last) = page.last() else { break };
                after = match by_number {
                    true => After::Number(last.number),
                    false => After::Key(last.key.clone()),
                };
                keys.extend(page.into_iter().map(|one| one.key));
                // What is written again, and what goes behind the page, moves nothing.
                put(&kv, &carts, &keys[0], b"again").await;
            }
            let distinct: BTreeSet<_> = keys.iter().collect();
            assert_eq!(
                (keys.len(), distinct.len()),
                (many, many),
                "{prefix} {by_number}"
            );
            assert!(keys.iter().all(|key| key.starts_with(prefix)));
            assert!(by_number || keys.is_sorted());
        }
        nodes.ends().await;
    }
}

#[tokio::test]
async fn an_app_keeps_no_more_than_it_may() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let limits = Limits {
        keyvalue_value: ByteSize(1000),
        keyvalue_keys: 3,
        keyvalue_bytes: ByteSize(1200),
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..Options::new(dir.path(), Clock::virtual_at(START))
    };
    let store = Store::open(options).expect("opens");
    let kv = store.kv();
    let (carts, prices) = (bucket("shop", "carts"), bucket("shop", "prices"));
    let try_put = async |to: &Bucket, key: &str, size: usize| {
        let change = change(key, Some(&vec![0; size]), Condition::Any);
        kv.write(to, vec![change]).await
    };
    assert!(matches!(
        try_put(&carts, "a", 1001).await,
        Err(Error::TooLarge(_))
    ));
    try_put(&carts, "a", 1000).await.expect("fits");
    // Buckets of one app share what it may keep; another app has its own.
    assert!(matches!(
        try_put(&prices, "b", 200).await,
        Err(Error::Full { .. })
    ));
    try_put(&bucket("other", "carts"), "a", 1000)
        .await
        .expect("fits");
    try_put(&carts, "a", 10).await.expect("less always fits");
    try_put(&prices, "b", 10).await.expect("fits now");
    try_put(&prices, "c", 10).await.expect("is the third");
    let fourth = kv
        .increment(&carts, "d".to_owned(), 1, Numbers::Signed)
        .await;
    assert!(matches!(fourth, Err(Error::Full { .. })), "{fourth:?}");
    let gone = vec![change("b", None, Condition::Any)];
    kv.write(&prices, gone).await.expect("deletes");
    try_put(&carts, "d", 1).await.expect("is the third now");
}

#[tokio::test]
async fn large_values_leave_with_their_last_key() {
    let nodes = Nodes::one();
    let kv = nodes.a.kv();
    let carts = bucket("shop", "carts");
    let large = vec![b'l'; 100_000];
    put(&kv, &carts, "one", &large).await;
    put(&kv, &carts, "two", &large).await;
    put(&kv, &carts, "one", b"small").await;
    let sweep = async || {
        nodes.clock.advance(GRACE * 2);
        let mut removed = 0;
        for _ in 0..257 {
            removed += nodes.a.blobs().sweep().await.expect("sweeps");
        }
        removed
    };
    assert_eq!(sweep().await, 0, "the second key still has it");
    assert_eq!(get(&kv, &carts, "two").await.expect("is there"), large);
    let delete = vec![change("two", None, Condition::Any)];
    kv.write(&carts, delete).await.expect("deletes");
    assert_eq!(sweep().await, 1);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash() {
    let nodes = Nodes::one();
    let kv = nodes.a.kv();
    let carts = bucket("shop", "carts");
    put(&kv, &carts, "small", b"1").await;
    put(&kv, &carts, "large", &[b'l'; 50_000]).await;
    let count = kv.increment(&carts, "n".to_owned(), 41, Numbers::Signed);
    let (_, revision) = count.await.expect("counts");
    nodes.a.crash();
    let Nodes {
        a, b, dir, clock, ..
    } = nodes;
    drop((a, b, kv));
    // The writer thread ends by itself, soon after the last handle went.
    let store = loop {
        match Store::open(Options::new(dir.path(), clock.clone())) {
            Err(Error::Locked(_)) => tokio::task::yield_now().await,
            other => break other.expect("opens"),
        }
    };
    let kv = store.kv();
    assert_eq!(get(&kv, &carts, "small").await.as_deref(), Some(&b"1"[..]));
    assert_eq!(
        get(&kv, &carts, "large").await.map(|v| v.len()),
        Some(50_000)
    );
    let next = kv
        .increment(&carts, "n".to_owned(), 1, Numbers::Signed)
        .await;
    let (number, later) = next.expect("counts");
    assert_eq!((number, later > revision), (42, true));
}
