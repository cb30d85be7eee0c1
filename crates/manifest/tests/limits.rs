//! What `limits` takes, and how a mistake in it is told.

use manifest::{parse, render};
use model::Limits;

fn told(text: &str) -> String {
    let parsed = parse(text, "tangelo.yaml", &Limits::default());
    render(&parsed.diagnostics, text, "tangelo.yaml")
}

#[test]
fn limits_say_what_they_take() {
    insta::assert_snapshot!(told(
        "app: limited
workloads:
  it:
    as: service
    run: {process: {command: [./it]}}
    limits: {cpu: 0.5, processes: 64, files: 1024}
  other:
    as: service
    run: {process: {command: [./other]}}
    limits: {cpu: 500m, process: 64, files: 3}
  third:
    as: service
    run: {process: {command: [./third]}}
    limits: {cpu: 0.0005, processes: 0, files: [1]}
  fourth:
    as: service
    run: {process: {command: [./fourth]}}
    limits: 1
"
    ));
}
