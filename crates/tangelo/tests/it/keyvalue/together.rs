//! Many at the same time, and the server killed between them: nothing that was acknowledged is lost or counted twice.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use anyhow::Result;
use testkit::{Client, eventually};

use super::{check, keeper, stage};

/// What clients know for certain.
#[derive(Default)]
struct Ledger {
    counted: AtomicU64,
    asked: AtomicU64,
}

/// One client, until the server is gone; gives back the keys that it was told are written.
async fn write(gateway: Client, name: String, ledger: Arc<Ledger>) -> Vec<String> {
    let mut written = Vec::new();
    loop {
        let round = written.len();
        let key = format!("{name}-{round}");
        let put = gateway
            .get(&format!("/keeper/second/set?carts,{key},{key}"))
            .await;
        match put {
            Ok(answer) if answer.text() == "set" => written.push(key),
            _ => return written,
        }
        ledger.asked.fetch_add(1, SeqCst);
        let sum = gateway.get("/keeper/second/increment?counts,n,1").await;
        match sum {
            Ok(answer) if answer.text().parse::<u64>().is_ok() => {
                ledger.counted.fetch_add(1, SeqCst)
            }
            _ => return written,
        };
    }
}

#[tokio::test]
async fn nothing_that_was_acknowledged_is_lost_by_a_kill() -> Result<()> {
    let mut server = stage()?;
    let ledger = Arc::new(Ledger::default());
    let mut keys = Vec::new();
    for kill in 0..3 {
        let before = ledger.counted.load(SeqCst);
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..8 {
            let name = format!("{kill}-{client}");
            clients.spawn(write(server.gateway(), name, Arc::clone(&ledger)));
        }
        eventually("a hundred are acknowledged", || async {
            (ledger.counted.load(SeqCst) >= before + 100).then_some(())
        })
        .await;
        server.kill()?;
        keys.extend(clients.join_all().await.into_iter().flatten());
        server.restart()?;
        let sum: u64 = keeper(&server, "second/increment?counts,n,0")
            .await?
            .parse()?;
        let (counted, asked) = (ledger.counted.load(SeqCst), ledger.asked.load(SeqCst));
        assert!(
            (counted..=asked).contains(&sum),
            "{counted} <= {sum} <= {asked}"
        );
    }
    for some in keys.chunks(100) {
        let found = keeper(&server, &format!("second/many?carts,{}", some.join(","))).await?;
        let expected: Vec<_> = some.iter().map(|key| format!("{key}={key}")).collect();
        assert_eq!(found, expected.join(" "));
    }
    Ok(())
}

#[tokio::test]
async fn counters_are_right_under_concurrency_from_everywhere() -> Result<()> {
    let server = stage()?;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..30 {
        let gateway = server.gateway();
        clients.spawn(async move {
            let path = match client % 3 {
                0 => "/keeper/second/increment?counts,calls,1",
                1 => "/keeper/first/increment?counts,calls,1",
                _ => "/count",
            };
            gateway.get(path).await.map(|answer| answer.text())
        });
    }
    let mut seen = BTreeSet::new();
    for sum in clients.join_all().await {
        seen.insert(sum?.parse::<u64>()?);
    }
    assert_eq!(seen, (1..=30).collect());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let gateway = server.gateway();
        clients.spawn(async move { gateway.get("/keeper/second/append?carts,log,x").await });
    }
    for done in clients.join_all().await {
        assert!(done?.text().starts_with("after "));
    }
    check(&server, &[("second/get?carts,log", "xxxxxxxxxx")]).await
}
