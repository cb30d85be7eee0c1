//! What `limits` and `container` take, and how mistakes in them are told.

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

#[test]
fn containers_say_what_they_take() {
    insta::assert_snapshot!(told(
        "app: boxed
workloads:
  sound:
    as: service
    run:
      container:
        image: registry.example.com:5000/shop/catalog@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        command: [/catalog, --verbose]
        user: 1000
        volumes: {data: /var/lib/catalog}
        pull: never
        writable: true
    health: /healthz
    limits: {cpu: 2}
  function:
    as: function
    run: {container: {image: 'thumbnails:1'}}
  wrong:
    as: service
    run:
      container:
        image: https://example.com/image
        ports: [80]
        user: a b
        volumes: {Data: relative, logs: /var/../log, one: /same, two: /same}
        pull: sometimes
  empty:
    as: service
    run: {container: {command: []}}
"
    ));
}
