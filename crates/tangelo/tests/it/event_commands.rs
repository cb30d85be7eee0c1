//! `tangelo events` and `tangelo dead-letters` as people at a terminal use them: the log followed while others publish, a
//! replay called off, and some of the dead letters thrown away.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::server;

/// A consumer that takes nothing.
const HANDLER: (&str, &str) = (
    "functions/broken.py",
    "
def handler(event, context):
    raise ValueError('cannot take ' + event['detail-type'])
",
);

/// An app whose only workload fails with whatever it asks for.
fn app(name: &str) -> String {
    format!(
        "
app: {name}
workloads:
  broken:
    as: function
    run: {{lambda: {{runtime: python3, handler: broken.handler, code: functions}}}}
    on:
      - event: {{type: [order.lost]}}
        name: lost
        retry: {{attempts: 1}}
      - event: {{type: [order.gone]}}
        name: gone
        retry: {{attempts: 1}}
"
    )
}

fn deployed(apps: &[&str]) -> Result<Server> {
    let server = server();
    for name in apps {
        server.deploy(&[("tangelo.yaml", &app(name)), HANDLER])?;
    }
    Ok(server)
}

/// What a command wrote to stdout, for people; it ended well.
fn said(server: &Server, arguments: &[&str]) -> Result<String> {
    let output = server.cli(arguments)?;
    let wrong = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tangelo {arguments:?}: {wrong}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A `tail` that goes on, which ends with the test.
struct Tail(Child);

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines of a `tail`, as they come.
fn follow(
    server: &Server,
    more: &[&str],
) -> Result<(Tail, tokio::sync::mpsc::UnboundedReceiver<Value>)> {
    let arguments = [&["--json", "events", "tail", "--follow"], more].concat();
    let child = server.command(&arguments).stdout(Stdio::piped()).spawn()?;
    let mut tail = Tail(child);
    let stdout = tail.0.stdout.take().context("stdout is piped")?;
    let (sender, lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok((tail, lines))
}

async fn next(lines: &mut tokio::sync::mpsc::UnboundedReceiver<Value>) -> Result<Value> {
    let line = tokio::time::timeout(Duration::from_secs(60), lines.recv()).await?;
    line.context("the tail ended")
}

#[tokio::test]
async fn a_tail_shows_what_others_publish_meanwhile() -> Result<()> {
    let server = server();
    let publish = ["events", "publish", "order.seen", "--source", "/t"];
    server.json(&[&publish[..], &["--id", "before"]].concat())?;
    let (mut tail, mut lines) = follow(&server, &[])?;
    assert_eq!(next(&mut lines).await?["event"]["id"], "before");
    let of_type = ["--type", "order.other", "--after", "0", "-n", "1"];
    let (mut other, mut others) = follow(&server, &of_type)?;
    // `events publish` is `publish`: it says what it published, with every attribute.
    let more = [
        "--id",
        "1",
        "--subject",
        "o-1",
        "--time",
        "2026-01-02T03:04:05Z",
        "--dataschema",
        "/contracts/order.seen/1",
        "--extension",
        "tenant=acme",
        "-d",
        r#"{"total": 5}"#,
    ];
    let words = said(&server, &[&publish[..], &more].concat())?;
    assert!(words.starts_with("1 is in the log at position "), "{words}");
    let words = said(&server, &[&publish[..], &more].concat())?;
    assert!(words.ends_with("(it was there already)\n"), "{words}");
    let event = next(&mut lines).await?["event"].take();
    let expected = json!({
        "specversion": "1.0", "id": "1", "source": "/t", "type": "order.seen", "subject": "o-1", "time": "2026-01-02T03:04:05.000000Z",
        "dataschema": "/contracts/order.seen/1", "tenant": "acme", "data": {"total": 5},
    });
    for (name, value) in expected.as_object().into_iter().flatten() {
        assert_eq!(&event[name], value, "{name} of {event}");
    }
    server.json(&["events", "publish", "order.other", "--id", "2"])?;
    assert_eq!(next(&mut lines).await?["event"]["id"], "2");
    assert_eq!(next(&mut others).await?["event"]["id"], "2");
    assert!(other.0.wait()?.success(), "it was asked for one");
    assert!(others.recv().await.is_none());
    assert!(tail.0.try_wait()?.is_none(), "this one goes on");
    let output = server.cli(&["events", "publish", "order.seen", "-d", "{not json"])?;
    let wrong = String::from_utf8(output.stderr)?;
    assert!(
        !output.status.success() && wrong.contains("--payload"),
        "{wrong}"
    );
    Ok(())
}

#[tokio::test]
async fn a_replay_is_called_off_from_the_command_line() -> Result<()> {
    let server = deployed(&["one"])?;
    for id in ["1", "2", "3"] {
        server.json(&["publish", "order.lost", "--id", id])?;
    }
    letters(&server, 3).await;
    let key = "one/broken/lost";
    let words = said(&server, &["events", "replay", key, "--dry-run"])?;
    assert_eq!(words, "3 events would be delivered again\n");
    let job = server.json(&["events", "replay", key, "--rate", "1/h"])?["job"].to_string();
    let of = |jobs: &Value| jobs["jobs"][0].clone();
    assert!(of(&server.json(&["events", "jobs"])?)["ended_at"].is_null());
    let words = said(&server, &["events", "cancel", &job])?;
    assert_eq!(words, format!("job {job} ends where it is\n"));
    let ended = of(&server.json(&["events", "jobs"])?);
    assert_eq!(ended["cancelled"], true, "{ended}");
    assert!(said(&server, &["events", "jobs"])?.contains("cancelled"));
    assert_eq!(
        said(&server, &["events", "cancel", &job])?,
        format!("job {job} had ended\n")
    );
    let output = server.cli(&["events", "cancel", "99"])?;
    let wrong = String::from_utf8(output.stderr)?;
    assert!(!output.status.success() && wrong.contains("99"), "{wrong}");
    Ok(())
}

/// The dead letters, when there are so many.
async fn letters(server: &Server, count: usize) -> Vec<Value> {
    eventually("the dead letters", || async {
        let letters = server.json(&["dead-letters"]).ok()?;
        let letters = letters["dead_letters"].as_array()?;
        (letters.len() == count).then(|| letters.clone())
    })
    .await
}

/// Whose dead letters a filter finds, and of which type.
fn found(server: &Server, filter: &[&str]) -> Result<Vec<(String, String)>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let answer = server.json(&[&["dead-letters"], filter].concat())?;
    let rows = answer["dead_letters"].as_array().into_iter().flatten();
    let mut rows: Vec<_> = rows
        .map(|row| (text(&row["subscription"]), text(&row["type"])))
        .collect();
    rows.sort();
    Ok(rows)
}

#[tokio::test]
async fn dead_letters_are_found_and_thrown_away_by_app_type_and_subscription() -> Result<()> {
    let mut server = deployed(&["one", "two"])?;
    for kind in ["order.lost", "order.gone", "order.lost"] {
        server.json(&["publish", kind])?;
    }
    let all = letters(&server, 6).await;
    let row = |key: &str, kind: &str| (key.to_owned(), kind.to_owned());
    assert_eq!(
        found(&server, &["--app", "one", "--type", "order.gone"])?,
        [row("one/broken/gone", "order.gone")]
    );
    let two = ["--subscription", "two/broken/lost"];
    assert_eq!(
        found(&server, &two)?,
        [
            row("two/broken/lost", "order.lost"),
            row("two/broken/lost", "order.lost")
        ]
    );
    assert_eq!(found(&server, &["-n", "4"])?.len(), 4);
    assert!(
        found(
            &server,
            &["--app", "two", "--subscription", "one/broken/lost"]
        )?
        .is_empty()
    );
    assert!(found(&server, &["--code", "TG0520"])?.is_empty());
    // One by its number, then some, then what is left; each is on the record.
    let mut all = all.iter();
    let one = all.find(|letter| letter["subscription"] == "one/broken/lost");
    let id = one.context("is there")?["id"].to_string();
    let discard = ["dead-letters", "discard"];
    assert_eq!(
        said(&server, &[&discard[..], &[&id]].concat())?,
        "1 dead letter thrown away\n"
    );
    let output = server.cli(&[&discard[..], &[&id]].concat())?;
    assert!(String::from_utf8_lossy(&output.stderr).contains("TG0502"));
    let output = server.cli(&discard)?;
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("--all"),
        "one or all is to be said"
    );
    assert_eq!(
        said(&server, &[&discard[..], &["--all"], &two].concat())?,
        "2 dead letters thrown away\n"
    );
    server.kill()?;
    server.restart()?;
    assert_eq!(found(&server, &[])?.len(), 3);
    assert_eq!(found(&server, &two)?, []);
    let shown = server.json(&["subscriptions", "show", "two/broken/lost"])?;
    assert_eq!(
        shown.to_string().matches(r#""discard""#).count(),
        2,
        "{shown}"
    );
    assert_eq!(
        said(&server, &[&discard[..], &["--all"]].concat())?,
        "3 dead letters thrown away\n"
    );
    assert_eq!(said(&server, &["dead-letters"])?, "no dead letters\n");
    Ok(())
}
