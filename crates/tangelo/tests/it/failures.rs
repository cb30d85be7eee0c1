//! What goes wrong on the command line: every failure has a code, as text and as JSON.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{TANGELO, server};

/// What a command that failed said last on stderr, and its exit code.
fn failure(output: &Output) -> Result<(Value, Option<i32>)> {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = stderr
        .lines()
        .last()
        .with_context(|| format!("{output:?}"))?;
    let told = serde_json::from_str(line).with_context(|| stderr.clone())?;
    Ok((told, output.status.code()))
}

/// A code, the command, and what its failure says. `HERE` has a manifest with mistakes, `NOWHERE` is no folder, `%` stands for a space.
const CASES: &[(&str, &str, &str)] = &[
    ("TG0904", "publish x.made -d {bad", "--payload is not JSON"),
    (
        "TG0904",
        "publish x.made -d text",
        "wants quotes of its own",
    ),
    ("TG0904", "publish x.made --extension type=y", "`type`"),
    (
        "TG0905",
        "publish x.made -d @/no/such/file",
        "/no/such/file",
    ),
    ("TG0501", "publish x.made --time tomorrow", "RFC 3339"),
    (
        "TG0904",
        "events replay a/b/c --filter x",
        "--filter is not JSON",
    ),
    ("TG0904", "publish", "required"),
    ("TG0904", "usage --nonsense", "unexpected argument"),
    ("TG0210", "usage --app nope", "`nope`"),
    ("TG0211", "revisions no%pe", "no pe"),
    ("TG0905", "contracts lint NOWHERE", "tangelo init"),
    ("TG0905", "deploy NOWHERE", "tangelo init"),
    ("TG0101", "deploy HERE", "has mistakes"),
    ("TG0509", "init --event Order NOWHERE", "noun.verb-past"),
    ("TG0101", "init --event order.created HERE", "has mistakes"),
    ("TG0904", "init --name No NOWHERE", "--name No"),
    ("TG0904", "init HERE", "nothing was written"),
    (
        "TG0211",
        "dead-letters --code NOPE",
        "a code such as TG0201",
    ),
    ("TG0502", "dead-letters show 9", "9"),
    ("TG0504", "subscriptions show nope", "app/workload/name"),
    ("TG0504", "subscriptions pause a/b/c", "a/b/c"),
    (
        "TG0504",
        "events explain --subscription nope --id x",
        "app/workload/name",
    ),
    ("TG0540", "projections show nope", "app/workload/name"),
    (
        "TG0003",
        "traces 4bf92f3577b34da6a3ce929d0e0e4736",
        "is kept",
    ),
    ("TG0211", "traces x%y", "no trace id"),
    ("TG0209", "logs nope", "`nope`"),
    ("TG0213", "kv get nope k", "no bucket"),
    ("TG0904", "explain nope", "codes are such as"),
    ("TG0521", "events cancel 99", "99"),
];

#[tokio::test]
async fn every_failure_has_a_code_and_with_json_it_is_json() -> Result<()> {
    let server = server();
    let here = server.scratch();
    std::fs::create_dir_all(&here)?;
    let here = here.to_str().context("is UTF-8")?;
    std::fs::write(format!("{here}/tangelo.yaml"), "app: x\nworkload: {}\n")?;
    let nowhere = format!("{here}/nowhere");
    for (code, command, said) in CASES {
        let known = |word: &str| match word {
            "HERE" => here.to_owned(),
            "NOWHERE" => nowhere.clone(),
            word => word.replace('%', " "),
        };
        let words: Vec<String> = command.split(' ').map(known).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = server.cli(&[&["--json"], &words[..]].concat())?;
        let (told, exit) = failure(&output).with_context(|| (*command).to_owned())?;
        let as_said = told["code"] == *code && told.to_string().contains(said);
        ensure!(as_said && exit != Some(0), "{command}: {told}");
        ensure!(
            told["message"].is_string() && output.stdout.is_empty(),
            "{command}: {output:?}"
        );
    }
    // For people, with the code behind what is wrong; of arguments that are none the usage is told, too.
    let output = server.cli(&["usage", "--app", "nope"])?;
    assert_eq!(
        String::from_utf8(output.stderr)?,
        "error: no app `nope` is deployed: nothing is [TG0210]\n"
    );
    let output = server.cli(&["publish"])?;
    assert!(String::from_utf8(output.stderr)?.contains("Usage: tangelo publish"));
    let nobody = Command::new(TANGELO)
        .args(["--json", "--data", &nowhere, "ps"])
        .output()?;
    assert_eq!(failure(&nobody)?.0["code"], "TG0901");
    // The control API itself has no other answers.
    let control = server.control();
    let token = std::fs::read_to_string(server.data().join("operator.token"))?;
    let token = format!("Bearer {}", token.trim());
    let headers = [("authorization", token.as_str())];
    for (path, code) in [("/v1/nothing", "TG0201"), ("/v1/ps", "TG0202")] {
        let answer = control.send(http::Method::DELETE, path, &headers, bytes::Bytes::new());
        let answer = answer.await?;
        assert_eq!(answer.json()["code"], code, "{path}: {}", answer.text());
    }
    Ok(())
}
