//! A switch while those who are asked before a route's target still think: the request finishes on its own revision.

use anyhow::Result;
use testkit::eventually;

use super::{Stage, alive, load};

fn manifest(version: u8, gates: &str) -> String {
    let workload = |name: &str, version: u8, run: &str| {
        format!(
            "  {name}: {{{run}, env: {{VERSION: '{version}', GATES: '{gates}'}}, timeout: 60s}}\n"
        )
    };
    let service = "as: service, run: {process: {command: [python3, code/app.py], files: [code]}}";
    let function =
        "as: function, run: {lambda: {runtime: python3, handler: app.handler, code: code}}";
    let workloads = [
        workload("slow", 1, service),
        workload("quick", version, function),
        workload("service", version, service),
        workload("function", version, function),
        workload("bystander", version, service),
    ];
    format!(
        "
app: guarded
workloads:
{}
gateway:
  routes:
    - {{path: /service/*, before: [slow, quick], to: service}}
    - {{path: /function/*, before: [slow], to: function}}
    - {{path: /bystander, to: bystander}}
",
        workloads.concat()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_asked_first_may_take_longer_than_a_switch() -> Result<()> {
    let stage = Stage::new()?;
    let gates = stage.gate("").display().to_string();
    let deploy = |version| {
        let text = manifest(version, &gates);
        stage.server.deploy(&[("tangelo.yaml", &text)])
    };
    deploy(1)?;
    let held = [
        stage.hold("/service/held", "service").await,
        stage.hold("/function/held", "function").await,
    ];
    let bystander = stage.processes("bystander")?;
    deploy(2)?;
    assert_eq!(stage.version("/bystander").await?, "2");
    eventually("what nobody uses any more has ended", || async {
        (!bystander.iter().any(alive)).then_some(())
    })
    .await;
    stage.open("service")?;
    stage.open("function")?;
    for held in held {
        let answer = held.await??;
        assert_eq!(load::version(&answer).as_deref(), Some("1"), "{answer}");
    }
    Ok(())
}
