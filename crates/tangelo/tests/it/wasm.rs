//! Wasm components as operators meet them: large ones deployed under traffic, ones that call themselves, and what their pool
//! says.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
};

use anyhow::{Context, Result};
use http::StatusCode;
use testkit::{Client, eventually};

use crate::server;

fn manifest(version: u32) -> String {
    format!(
        "
app: large
workloads:
  guest:
    as: function
    run: {{wasm: {{component: guest.wasm}}}}
    env: {{VERSION: '{version}'}}
    calls: [guest]
gateway: {{routes: [{{path: /*, to: guest}}]}}
"
    )
}

/// `number` as unsigned LEB128, as Wasm's binary format has it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

/// A function of 1000 instructions that are no constant: `seed` makes each one different from all others.
fn function(seed: usize) -> Vec<u8> {
    const OPERATIONS: [u8; 4] = [0x6a, 0x73, 0x6c, 0x77];
    let mut body = vec![0, 0x20, 0];
    for at in 0..500_usize {
        body.push(0x41);
        // The high bits of a signed LEB128 are its sign: kept clear.
        body.extend(leb(((seed * 500 + at) % 0x0fff_ffff) | 0x0100_0000));
        body.push(OPERATIONS[at % 4]);
    }
    body.push(0x0b);
    [leb(body.len()), body].concat()
}

/// The component with one more core module in it: `code` bytes of functions and `data` bytes of data.
fn padded(mut component: Vec<u8>, code: usize, data: usize) -> Vec<u8> {
    let count = code / function(0).len();
    let functions: Vec<u8> = (0..count).flat_map(function).collect();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 1, 0x7f, 1, 0x7f]),
        section(3, &[leb(count), vec![0; count]].concat()),
        section(10, &[leb(count), functions].concat()),
        section(11, &[vec![1, 1], leb(data), vec![0xa5; data]].concat()),
    ];
    component.extend(section(1, &module.concat()));
    component
}

/// What clients were answered.
#[derive(Default)]
struct Seen {
    old: AtomicU32,
    new: AtomicU32,
}

async fn ask(gateway: &Client, seen: &Seen) -> Result<()> {
    let answer = gateway.get("/environment").await?;
    let text = answer.text();
    anyhow::ensure!(answer.status == StatusCode::OK, "{}: {text}", answer.status);
    let new = text.contains("VERSION=2\n");
    let count = if new { &seen.new } else { &seen.old };
    count.fetch_add(1, SeqCst);
    Ok(())
}

/// Every request of the traffic is answered, by the old version while the new one is compiled, and by the new one
/// afterwards.
#[tokio::test]
async fn a_component_of_20_mb_is_deployed_while_its_predecessor_answers() -> Result<()> {
    let server = Arc::new(server());
    let folder = server.scratch();
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("guest.wasm"), testkit::guest())?;
    server.deploy(&[("tangelo.yaml", &manifest(1))])?;
    let large = padded(testkit::guest(), 4 << 20, 16 << 20);
    assert!(large.len() > 20_000_000, "{}", large.len());
    fs::write(folder.join("guest.wasm"), large)?;
    let (seen, live) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (gateway, seen, live) = (server.gateway(), Arc::clone(&seen), Arc::clone(&live));
        clients.spawn(async move {
            while !live.load(SeqCst) {
                ask(&gateway, &seen).await?;
            }
            anyhow::Ok(())
        });
    }
    eventually("traffic", || async {
        (seen.old.load(SeqCst) > 10).then_some(())
    })
    .await;
    let before = seen.old.load(SeqCst);
    let deploying = Arc::clone(&server);
    let deploy =
        tokio::task::spawn_blocking(move || deploying.deploy(&[("tangelo.yaml", &manifest(2))]));
    deploy.await.context("the deploy panicked")??;
    let during = seen.old.load(SeqCst) - before;
    assert!(during > 20, "{during} requests were answered meanwhile");
    eventually("the new version", || async {
        (seen.new.load(SeqCst) > 10).then_some(())
    })
    .await;
    live.store(true, SeqCst);
    for client in clients.join_all().await {
        client?;
    }
    Ok(())
}

/// A guest that calls itself for ever is refused the seventeenth call, and the others go on.
#[tokio::test]
async fn a_guest_that_calls_itself_is_stopped() -> Result<()> {
    let server = server();
    let folder = server.scratch();
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("guest.wasm"), testkit::guest())?;
    server.deploy(&[("tangelo.yaml", &manifest(1))])?;
    let gateway = server.gateway();
    let (loops, hello) = tokio::join!(
        gateway.get("/call-itself?http://guest.internal"),
        gateway.get("/hello"),
    );
    assert_eq!(hello?.text(), "hello\n");
    let told = loops?.text();
    let depth = told.matches("200 ").count();
    assert!(
        told.contains("TG0302") && (14..=16).contains(&depth),
        "{depth}: {told}"
    );
    let idle = || async {
        let ps = server.json(&["ps"]).ok()?;
        (ps["wasm"]["places"]["used"] == 0 && ps["workloads"][0]["in_flight"] == 0).then_some(())
    };
    eventually("nothing is left of it", idle).await;
    Ok(())
}

#[tokio::test]
async fn the_pool_is_shown() -> Result<()> {
    let server = server();
    let pool = &server.json(&["ps"])?["wasm"];
    for kind in [
        "places",
        "components",
        "core_instances",
        "memories",
        "tables",
        "stacks",
    ] {
        let (used, most) = (&pool[kind]["used"], pool[kind]["most"].as_u64());
        assert_eq!(used, 0, "{kind}");
        assert!(most.is_some_and(|most| most >= 16), "{kind}: {pool}");
    }
    let table = String::from_utf8(server.cli(&["ps", "--pool"])?.stdout)?;
    assert!(table.contains("core instances"), "{table}");
    let metrics = server.control().get("/metrics").await?.text();
    for line in [
        "tangelo_wasm_pool_used{kind=\"memories\"} 0",
        "tangelo_wasm_pool_most{kind=\"stacks\"} ",
        "tangelo_wasm_resident_unused_bytes ",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    Ok(())
}
