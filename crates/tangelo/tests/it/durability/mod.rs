//! Accepted means durable: the server runs under strace, and no acknowledgement leaves before the sync that covers it.
//!
//! That the rules would notice is shown by leaving out one kind of sync at a time, with a library that is preloaded.

mod rules;
mod trace;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Method;
use rules::{Accepted, Missing, Run};
use tempfile::TempDir;
use testkit::{Client, SIGNED, Server, eventually};

use crate::TANGELO;

/// More than a page of the database and a frame's head, so that all of what is written there is seen.
const SEEN: &str = "4300";
const TRACED: &str = "trace=fdatasync,fsync,write,writev,pwrite64,pwritev,sendto,sendmsg,\
                      read,readv,recvfrom,recvmsg,rename,renameat,renameat2";
/// Clients at the same time, so that one sync covers several.
const CLIENTS: usize = 4;
/// Rounds of each client.
const ROUNDS: usize = 3;
/// Payloads larger than this are blobs.
const LARGE: usize = 20 << 10;

const MANIFEST: &str = "
workloads:
  later:
    as: function
    run: {lambda: {runtime: python3, handler: later.handler, code: code}}
    async: {backoff: 1s}
gateway:
  routes:
    - {path: /events, methods: [POST], to: events}
    - {path: /later, methods: [POST], to: later, async: true}
";

/// Why nothing can be shown here, if so.
fn unable() -> Option<&'static str> {
    let traced = Command::new("strace")
        .args(["-D", "-f", "-y", "-o", "/dev/null", "true"])
        .output();
    match traced {
        Err(_) => Some("strace is not here; `cargo xtask test` installs it"),
        Ok(output) if !output.status.success() => Some("nothing may be traced here"),
        Ok(_) => None,
    }
}

/// A server whose calls are written down.
struct Traced {
    server: Server,
    folder: TempDir,
}

impl Traced {
    /// Starts one whose syncs of paths that match `left_out` do nothing.
    fn start(left_out: Option<&str>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let calls = folder.path().join("calls");
        let mut strace: Vec<String> = ["strace", "-D", "-f", "-y", "-s", SEEN, "-e", TRACED]
            .map(str::to_owned)
            .into();
        strace.extend(["-o".to_owned(), calls.display().to_string()]);
        if let Some(pattern) = left_out {
            let library = no_sync(folder.path())?;
            for pair in [
                format!("LD_PRELOAD={}", library.display()),
                format!("NO_SYNC={pattern}"),
            ] {
                strace.extend(["-E".to_owned(), pair]);
            }
        }
        let server = Server::start_by(&strace, TANGELO, &[])?;
        Ok(Self { server, folder })
    }

    /// Stops it, and reads what it did.
    async fn ended(mut self) -> Result<Run> {
        let server = self.server.pid().to_string();
        self.server.stop()?;
        let path = self.folder.path().join("calls");
        let text = eventually("the trace is complete", || async {
            let text = std::fs::read_to_string(&path).ok()?;
            trace::has_ended(&text, &server).then_some(text)
        })
        .await;
        Ok(Run {
            calls: trace::parse(&text),
        })
    }
}

/// Builds the library that leaves syncs out.
fn no_sync(folder: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/durability/no_sync.c");
    let library = folder.join("no_sync.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .output()
        .context("cc builds it")?;
    let said = String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success(), "{said}");
    Ok(library)
}

/// Deploys once more, as an app whose name is the marker; its file is a blob.
fn deploy(server: &Server) -> Result<Accepted> {
    let (marker, blob) = ("deployed-marker", "deployed-blob");
    let code = format!("# {blob}\ndef handler(event, context):\n    return 'done'\n");
    let manifest = format!("app: {marker}\n{MANIFEST}");
    server.deploy(&[("tangelo.yaml", &manifest), ("code/later.py", &code)])?;
    Ok(Accepted {
        marker: format!("app: {marker}"),
        blob: Some(blob.to_owned()),
    })
}

/// One client: small and large events, requests to be done later, and AWS's invocations.
async fn publish(gateway: Client, aws: Client, client: usize) -> Result<Vec<Accepted>> {
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        for large in [false, true] {
            let name = |kind| format!("{kind}-{client}-{round}-{large}-");
            let filler = "x".repeat(if large { LARGE } else { 100 });
            let (event, later, invoke) = (name("event"), name("later"), name("invoke"));
            let head = [
                ("ce-specversion", "1.0"),
                ("ce-id", &event),
                ("ce-source", "/durability"),
                ("ce-type", "nobody.listens"),
                ("content-type", "text/plain"),
            ];
            let body = Bytes::from(format!("{event}{filler}"));
            let answers = [
                gateway.send(Method::POST, "/events", &head, body).await?,
                gateway
                    .send(
                        Method::POST,
                        &format!("/later?{later}"),
                        // The gateway reads the beginning of a connection in two pieces.
                        &[("x-marker", &later)],
                        Bytes::from(filler.clone()),
                    )
                    .await?,
                aws.send(
                    Method::POST,
                    "/2015-03-31/functions/later/invocations",
                    &[("x-amz-invocation-type", "Event"), SIGNED[0], SIGNED[1]],
                    Bytes::from(format!(
                        "{{\"marker\": \"{invoke}\", \"rest\": \"{filler}\"}}"
                    )),
                )
                .await?,
            ];
            for (answer, marker) in answers.iter().zip([event, later, invoke]) {
                ensure!(answer.status == 202, "{}: {}", answer.status, answer.text());
                let blob = large.then(|| marker.clone());
                all.push(Accepted { marker, blob });
            }
        }
    }
    Ok(all)
}

/// What was missing, and how often nothing was.
async fn missing(left_out: Option<&str>) -> Result<(Vec<(String, Missing)>, usize)> {
    let traced = Traced::start(left_out)?;
    let server = &traced.server;
    let mut all = vec![deploy(server)?];
    let clients = (0..CLIENTS)
        .map(|client| tokio::spawn(publish(server.gateway(), server.aws(), client)))
        .collect::<Vec<_>>();
    for client in clients {
        all.extend(client.await??);
    }
    let run = traced.ended().await?;
    let missing: Vec<_> = all
        .iter()
        .filter_map(|accepted| Some((accepted.marker.clone(), run.check(accepted).err()?)))
        .collect();
    let fine = all.len() - missing.len();
    Ok((missing, fine))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledgement_leaves_before_the_sync_that_covers_it() -> Result<()> {
    if let Some(why) = unable() {
        eprintln!("skipped: {why}");
        return Ok(());
    }
    let (missing, fine) = missing(None).await?;
    assert_eq!(missing, []);
    assert_eq!(fine, 1 + CLIENTS * ROUNDS * 6);
    Ok(())
}

/// Leaves out the syncs of paths that match `pattern`, and wants to be told so.
async fn noticed(pattern: &str, expected: Missing) -> Result<()> {
    if let Some(why) = unable() {
        eprintln!("skipped: {why}");
        return Ok(());
    }
    let (missing, _) = missing(Some(pattern)).await?;
    let others: Vec<_> = missing.iter().filter(|m| m.1 != expected).collect();
    assert!(others.is_empty(), "{others:?}");
    // All that needed it, and the deploy with them.
    let least = match expected {
        Missing::CommitSync => 1 + CLIENTS * ROUNDS * 6,
        _ => 1 + CLIENTS * ROUNDS * 3,
    };
    assert_eq!(missing.len(), least, "{missing:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_noticed_when_commits_are_not_synced() -> Result<()> {
    noticed("*/state.db*", Missing::CommitSync).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_noticed_when_blobs_are_not_synced() -> Result<()> {
    noticed("*/blobs/tmp/*", Missing::BlobSync).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_noticed_when_the_names_of_blobs_are_not_synced() -> Result<()> {
    noticed("*/blobs/??", Missing::NameSync).await
}
