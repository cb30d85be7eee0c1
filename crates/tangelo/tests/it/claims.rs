//! Whose claim to the processors is lower: work that nobody waits for takes what is left, and what it starts takes no less
//! than what a request starts.

use std::fs;

use anyhow::{Context, Result};
use http::Method;
use serde_json::json;
use testkit::{Server, eventually};

use crate::server;

const MANIFEST: &str = "
app: claims
workloads:
  hears:
    as: function
    run: {lambda: {runtime: python3, handler: app.hears, code: code}}
    env: {INTO: 'FOLDER/nice'}
    on: [{event: {type: [thing.happened]}}]
gateway:
  routes:
    - {path: /events, methods: [POST], to: events}
";

const HANDLER: &str = r#"
import os
def hears(event, context):
    with open(os.environ["INTO"], "a") as file:
        file.write(f"{os.nice(0)}\n")
"#;

/// The `nice` of a thread, out of its `stat`: the 19th field, of which the second may hold spaces.
fn nice(stat: &str) -> Result<i32> {
    let fields = stat.rsplit(')').next().context("a name in brackets")?;
    Ok(fields
        .split_whitespace()
        .nth(16)
        .context("a field")?
        .parse()?)
}

/// The `nice` of the server's threads of a name.
fn of_threads(server: &Server, name: &str) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{}/task", server.pid()))? {
        let folder = thread?.path();
        if fs::read_to_string(folder.join("comm"))?.trim() == name {
            found.push(nice(&fs::read_to_string(folder.join("stat"))?)?);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn what_nobody_waits_for_has_a_lower_claim_and_what_it_starts_has_not() -> Result<()> {
    let server = server();
    let folder = server.scratch();
    let manifest = MANIFEST.replace("FOLDER", &folder.to_string_lossy());
    server.deploy(&[("tangelo.yaml", &manifest), ("code/app.py", HANDLER)])?;
    let own = nice(&fs::read_to_string(format!("/proc/{}/stat", server.pid()))?)?;
    let (control, background) = (
        of_threads(&server, "control")?,
        of_threads(&server, "background")?,
    );
    assert!(
        !control.is_empty() && control.iter().all(|nice| *nice == own),
        "{control:?}"
    );
    let lower = (own + 10).min(19);
    assert!(
        !background.is_empty() && background.iter().all(|nice| *nice == lower),
        "{background:?}"
    );
    let event =
        json!({"specversion": "1.0", "id": "1", "source": "/test", "type": "thing.happened"});
    let kind = [("content-type", "application/cloudevents+json")];
    let answer = server
        .gateway()
        .send(Method::POST, "/events", &kind, event.to_string().into())
        .await?;
    assert!(answer.status.is_success(), "{}", answer.text());
    let said = eventually("the event to arrive", || async {
        fs::read_to_string(folder.join("nice"))
            .ok()
            .filter(|text| text.ends_with('\n'))
    });
    assert_eq!(said.await.trim(), own.to_string());
    Ok(())
}
