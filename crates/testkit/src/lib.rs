//! A real server in a temporary folder on port 0, and clients for it. For tests only.
//!
//! Tests talk to the platform as its users do: over HTTP and by the command line. Nothing is mocked, and the server is
//! the binary that ships, so that a test can kill it with -9 and start it again on the same folder.

mod client;
mod containers;
mod guests;
mod postgres;
mod server;

use std::{future::Future, path::PathBuf, time::Duration};

pub use client::{Answer, Client};
pub use containers::{ContainerEngine, EngineKind, ImageFiles};
pub use guests::{component, guest};
pub use postgres::Postgres;
pub use server::{Addresses, Server, interrupt};

/// The headers of a tool that signs for AWS with whatever key it has: the AWS door takes any key that it did not make.
pub const SIGNED: [(&str, &str); 2] = [
    ("x-amz-date", "20261121T120000Z"),
    (
        "authorization",
        "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/lambda/aws4_request, SignedHeaders=host;x-amz-date, \
         Signature=0000000000000000000000000000000000000000000000000000000000000000",
    ),
];

/// How long a test waits for something to become true before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `look` again and again until it gives something, and fails the test with `what` after a minute.
///
/// # Panics
/// When it does not become true.
#[allow(
    clippy::disallowed_methods,
    reason = "a test waits for another process in real time"
)]
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let begun = tokio::time::Instant::now();
    let mut next_look = tokio::time::interval(Duration::from_millis(10));
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain: {what}"
        );
        next_look.tick().await;
    }
}

/// The folder of documents and recorded cases outside of the repository, when it is there: `TANGELO_MATERIAL`,
/// else `../shared` beside the workspace. The one place that reads it.
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads TANGELO_MATERIAL"
)]
pub fn material() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var("TANGELO_MATERIAL").map_or_else(|_| beside(), PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// Holds every case of `fuzz/corpus/TARGET` to its law.
///
/// # Panics
/// When one breaks it, or when the corpus is not there.
pub fn replay(target: &str, law: fn(&[u8])) {
    let corpora = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let cases = std::fs::read_dir(corpora.join(target)).expect("a corpus");
    let mut count = 0;
    for case in cases {
        let case = case.expect("a case").path();
        law(&std::fs::read(case).expect("a case"));
        count += 1;
    }
    assert!(count > 5, "the corpus of {target} is there");
}

/// Where `cargo xtask test` installs what the tests of a crate run against (`crates/ROOM/tests/clients`).
///
/// # Panics
/// When nothing was installed there: a test that has nothing to run shows nothing.
#[must_use]
pub fn tools(room: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test is a file");
    // Cargo marks its target folder, wherever that is.
    let target = test
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .expect("a test lies in the target folder");
    let tools = target.join("tools").join(room);
    assert!(
        tools.is_dir(),
        "{} is not there: `cargo xtask test` installs it",
        tools.display()
    );
    tools
}
