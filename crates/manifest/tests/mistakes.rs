//! What wrong manifests are told, as people see it.

use manifest::{Severity, parse, render};
use model::Limits;

/// The diagnostics of a manifest, rendered.
fn told(text: &str) -> String {
    let parsed = parse(text, "tangelo.yaml", &Limits::default());
    assert_eq!(parsed.app.is_none(), parsed.has_errors());
    render(&parsed.diagnostics, text, "tangelo.yaml")
}

/// The messages about one workload `it`, given as YAML in flow style.
fn messages(workload: &str) -> Vec<String> {
    let text = format!(
        "app: one\nworkloads:\n  other: {{as: service, run: {{process: {{command: [./a]}}}}}}\n  it: {workload}\n"
    );
    let parsed = parse(&text, "tangelo.yaml", &Limits::default());
    parsed.diagnostics.into_iter().map(|d| d.message).collect()
}

#[track_caller]
fn check(workload: &str, expected: &str) {
    let told = messages(workload);
    assert!(
        told.iter().any(|message| message.contains(expected)),
        "{workload}: {told:#?}"
    );
}

/// As [`check`], for a route given in flow style.
#[track_caller]
fn check_route(route: &str, expected: &str) {
    let text = format!(
        "app: one\nworkloads:\n  it: {{as: function, run: {{wasm: {{component: a.wasm}}}}}}\ngateway:\n  routes:\n    - {route}\n"
    );
    let told = told(&text);
    assert!(told.contains(expected), "{told}");
}

const WASM: &str = "as: function, run: {wasm: {component: a.wasm}}";

#[test]
fn several_mistakes_are_told_together() {
    insta::assert_snapshot!(told(
        "app: Shop
workloads:
  catalog:
    as: servce
    run: {process: {command: []}}
    helth: /healthz
    scale: {min: 5, max: 2, concurrency: 0}
    timeout: 10
  auth:
    as: function
    run: {lambda: {runtime: python, handler: handler, code: ../auth}}
    calls: [catalogue, orders]
    memory: 128Mb
gateway:
  routes:
    - {path: api/catalog, to: catlog}
    - {path: /api/*, methods: [get], to: catalog, before: [auht]}
hosts: {old-host: nobody}
"
    ));
}

#[test]
fn warnings_point_at_what_is_likely_not_meant() {
    let text = "app: warned
workloads:
  front:
    as: function
    run: {wasm: {component: a.wasm}}
    timeout: 20s
    calls: [store]
    on:
      - event: {type: order.craeted}
  store:
    as: service
    run: {process: {command: [./store]}}
    timeout: 20s
    calls: [price]
    publishes: [order.created]
  price:
    as: function
    run: {wasm: {component: b.wasm}}
    calls: [stock]
    timeout: 10s
  stock:
    as: service
    run: {process: {command: [./stock]}}
    timeout: 2s
    calls: [loop]
  loop:
    as: service
    run: {process: {command: [./loop]}}
    timeout: 1s
    calls: [stock]
";
    let parsed = parse(text, "tangelo.yaml", &Limits::default());
    assert!(parsed.app.is_some());
    assert!(
        parsed
            .diagnostics
            .iter()
            .all(|d| d.severity == Severity::Warning)
    );
    insta::assert_snapshot!(told(text));
}

#[test]
fn syntax_errors_show_their_line() {
    insta::assert_snapshot!(told("app: shop\nworkloads:\n  a: {as: function\n  b: x\n"));
}

#[test]
fn duplicate_keys_do_not_hide_the_rest() {
    insta::assert_snapshot!(told(
        "app: shop
workloads:
  a:
    as: function
    as: service
    run: {wasm: {component: a.wasm}}
  a:
    as: function
    rum: {wasm: {component: a.wasm}}
"
    ));
}

#[test]
fn a_bad_pattern_points_into_itself() {
    insta::assert_snapshot!(told(
        "app: shop
workloads:
  a:
    as: function
    run: {wasm: {component: a.wasm}}
    on:
      - event: {type: {prefix: order.}}
      - event: {type: [{prefx: order.}]}
      - event: {type: [a], data: {total: [{numeric: [0]}]}}
"
    ));
}

#[test]
fn empty_and_other_texts() {
    for text in [
        "",
        "  \n# only a comment\n",
        "[]",
        "just a text",
        "null",
        "- a\n- b\n",
    ] {
        let told = told(text);
        assert!(told.starts_with("error[TG0101]"), "{text:?}: {told}");
    }
}

#[test]
fn workloads() {
    check("{}", "`as` is missing");
    check("{}", "`run` is missing");
    check(
        "{as: job, run: {wasm: {component: a.wasm}}}",
        "`job` is not run by this version",
    );
    check(
        "{as: service, run: {lambda: {runtime: nodejs, handler: a.b, code: c}}}",
        "a `lambda` workload is a function",
    );
    check(
        "{as: function, run: {lambda: {runtime: nodejs, handler: a.b, code: c, payload: restt}}}",
        "`restt` is not known here",
    );
    check(
        "{as: function, run: {external: {url: 'http://x'}}}",
        "an `external` workload is a service",
    );
    check(
        "{as: service, run: {external: {url: 'ftp://x'}}}",
        "is not an URL",
    );
    check(
        "{as: service, run: {external: {url: 'http://x'}}, memory: 1GiB}",
        "`memory` means nothing here",
    );
    check(
        "{as: function, run: {wasm: {component: /abs.wasm}}}",
        "is absolute",
    );
    check(
        "{as: function, run: {wasm: {component: a/../../b.wasm}}}",
        "leaves the folder",
    );
    check(
        "{as: function, run: {wasm: {component: a.wasm}, process: {command: [x]}}}",
        "expected exactly one of",
    );
    check(
        "{as: service, run: {process: {command: ['']}}}",
        "the command is empty",
    );
    check(
        "{as: service, run: {process: {command: ./serve}}}",
        "expected a list of a program",
    );
    check(
        "{as: service, run: {process: {command: [bin/serve]}}}",
        "neither a program of the machine",
    );
    check(
        &format!("{{{WASM}, health: /up}}"),
        "`health` means nothing here",
    );
    check(&format!("{{{WASM}, timeout: 0s}}"), "out of range");
    check(&format!("{{{WASM}, memory: 0}}"), "out of range");
    check(&format!("{{{WASM}, max_body: 0}}"), "out of range");
    check(&format!("{{{WASM}, scale: {{max: 0}}}}"), "out of range");
    check(
        &format!("{{{WASM}, limits: {{cpu: 1}}}}"),
        "`limits` means nothing here",
    );
    check(
        "{as: service, run: {external: {url: 'http://x'}}, limits: {cpu: 1}}",
        "`limits` means nothing here",
    );
    check(&format!("{{{WASM}, scale: {{min: -1}}}}"), "out of range");
    check(
        &format!("{{{WASM}, env: {{1X: a}}}}"),
        "not the name of a variable",
    );
    check(
        &format!("{{{WASM}, env: {{TANGELO_X: a}}}}"),
        "is set by Tangelo",
    );
    check(
        &format!("{{{WASM}, env: {{A: x}}, secrets: [A]}}"),
        "is in `env` already",
    );
    check(&format!("{{{WASM}, calls: [a/b/c]}}"), "is not a workload");
    check(
        &format!("{{{WASM}, calls: [othre]}}"),
        "there is no workload `othre`",
    );
    check(
        &format!("{{{WASM}, publishes: ['a*b']}}"),
        "has a `*` before its end",
    );
    check(
        &format!("{{{WASM}, egress: ['http://x']}}"),
        "is not a host",
    );
    check(
        &format!("{{{WASM}, state: [table]}}"),
        "`table` is not known here",
    );
    check(&format!("{{{WASM}, owner: 7}}"), "found a number");
}

#[test]
fn instances_are_used_again_within_bounds() {
    let reuse = |what: &str| {
        format!("{{as: function, run: {{wasm: {{component: a.wasm, reuse: {what}}}}}}}")
    };
    assert_eq!(
        messages(&reuse("{requests: 5, idle: 1m, concurrent: 1}")),
        [""; 0]
    );
    assert_eq!(messages(&reuse("{}")), [""; 0]);
    check(&reuse("{requests: 0}"), "0 is out of range");
    check(&reuse("{idle: 1ms}"), "`1ms` is out of range");
    // Whether the component can do that is known when it is deployed: only those of WASI 0.3 can.
    assert_eq!(messages(&reuse("{concurrent: 100}")), [""; 0]);
    check(&reuse("{concurrent: 1001}"), "1001 is out of range");
    check(
        &reuse("{requests: 5, concurrent: 6}"),
        "an instance cannot serve more requests at once than it serves in all",
    );
    check(&reuse("{request: 2}"), "unknown key `request`");
    check(&reuse("yes"), "expected a map");
}

#[test]
fn a_command_that_is_one_text_is_shown_as_the_list_it_was_meant_to_be() {
    let told = |command: &str| {
        told(&format!(
            "app: a\nworkloads:\n  it: {{as: service, run: {{process: {{command: {command}}}}}}}\n"
        ))
    };
    let text = told("python3 ./svc.py");
    assert!(text.contains("`[python3, ./svc.py]`"), "{text}");
    let one = told("['python3 ./svc.py --port 1']");
    assert!(
        one.contains("`[python3, ./svc.py, --port, 1]`") && !one.contains("./python3"),
        "{one}"
    );
    let quoted = told("'sh -c a*b'");
    assert!(quoted.contains(r#"`[sh, "-c", "a*b"]`"#), "{quoted}");
}

#[test]
fn what_is_not_run_yet_is_not_offered() {
    let tier = told("app: a\nworkloads: {it: {as: server, run: {wasm: {component: a.wasm}}}}\n");
    assert!(tier.contains("expected `function` or `service`"), "{tier}");
    let run = told("app: a\nworkloads: {it: {as: service, run: {prcess: {command: [a]}}}}\n");
    assert!(run.contains("or `container`"), "{run}");
    let top = told("app: a\nworkloads: {}\nfoo: 1\n");
    assert!(
        top.contains("the keys here are `app`, `workloads`, "),
        "{top}"
    );
    assert!(!top.contains("workflows"), "{top}");
    let schema = manifest::schema().to_string();
    assert!(!schema.contains("workflows"), "refused, but permitted");
}

#[test]
fn slips_in_the_attributes_of_a_pattern_are_warned_of() {
    for (event, meant) in [
        ("{typ: [order.created]}", "did you mean `type`?"),
        ("{typ: [order.created]}", "publishes `order.created`"),
        ("{detail-type: [a], detail: {}}", "did you mean `data`?"),
        ("{type: [a], Source: [b]}", "did you mean `source`?"),
        ("{type: [a], my-tenant: [b]}", "`my-tenant` is no attribute"),
    ] {
        let text = format!(
            "app: a\nworkloads:\n  it:\n    {}\n    on: [{{event: {event}}}]\n",
            "as: function\n    run: {wasm: {component: a.wasm}}"
        );
        assert!(told(&text).contains(meant), "{event}: {}", told(&text));
    }
    let fine = "{publishes: [a], as: function, run: {wasm: {component: a.wasm}}, on: [{event: {type: [a], tenant: [b]}}]}";
    assert_eq!(messages(fine), [""; 0], "extensions have any name");
}

#[test]
fn handlers_name_the_modules_that_must_be_there() {
    let files = |runtime: &str, rest: &str| {
        let text = format!(
            "app: a\nworkloads:\n  it: {{as: function, run: {{lambda: {{runtime: {runtime}, code: c, {rest}\n"
        );
        let parsed = parse(&text, "tangelo.yaml", &Limits::default());
        assert!(parsed.app.is_some(), "{:?}", parsed.diagnostics);
        parsed.handlers.into_iter().next().map(|handler| {
            assert_eq!(handler.span(&text).slice(&text), handler.handler);
            handler.files
        })
    };
    let has = |files: Option<Vec<String>>, file: &str| {
        let files = files.expect("is looked for");
        assert!(files.iter().any(|f| f == file), "{files:?}");
    };
    has(files("python3", "handler: ap.handler}}}"), "ap.py");
    has(files("python3", "handler: a/b.handler}}}"), "a/b.py");
    has(
        files("python3", "handler: a.b.handler}}}"),
        "a/b/__init__.py",
    );
    has(files("nodejs", "handler: a/b.c.handler}}}"), "a/b.mjs");
    has(files("nodejs", "handler: b.handler}}}"), "b.cjs");
    assert_eq!(files("provided", "handler: any.thing}}}"), None);
    let elsewhere = "handler: ap.handler}}, env: {PYTHONPATH: /opt}}";
    assert_eq!(files("python3", elsewhere), None);
}

#[test]
fn builds_and_subscriptions() {
    check(
        "{as: service, run: {process: {command: [./a]}}, build: {rust: {package: a}}}",
        "which `process` does not run",
    );
    check(
        &format!("{{{WASM}, build: {{command: [], inputs: [a], output: b}}}}"),
        "the command is empty",
    );
    check(
        &format!("{{{WASM}, build: {{command: [make], output: b}}}}"),
        "`inputs` is missing",
    );
    check(
        &format!("{{{WASM}, build: {{rust: {{package: a}}, command: [make]}}}}"),
        "two ways to build",
    );
    check(
        &format!("{{{WASM}, build: {{rsut: {{package: a}}}}}}"),
        "unknown key `rsut`",
    );
    check(
        &format!("{{{WASM}, on: [{{schedule: rate(5)}}]}}"),
        "`schedule` is not run by this version",
    );
    check(
        &format!("{{{WASM}, on: [{{event: {{}}}}]}}"),
        "at least one field",
    );
    check(
        &format!("{{{WASM}, on: [{{event: {{type: a}}}}, {{event: {{type: a, id: b}}}}]}}"),
        "two subscriptions are named `a`",
    );
    check(
        &format!("{{{WASM}, on: [{{event: {{type: a}}, retry: {{attempts: 0}}}}]}}"),
        "out of range",
    );
    check(
        &format!(
            "{{{WASM}, on: [{{event: {{type: a}}, retry: {{backoff: 2s, max_backoff: 1s}}}}]}}"
        ),
        "shorter than `backoff`",
    );
}

#[test]
fn routes() {
    check_route("{to: it}", "`path` is missing");
    check_route("{path: /a}", "`to` is missing");
    check_route("{path: a, to: it}", "does not begin with `/`");
    check_route("{path: /a//b, to: it}", "has an empty segment");
    check_route("{path: '/a?b', to: it}", "has a query");
    check_route("{path: '/*/b', to: it}", "has a `*` before its end");
    check_route("{path: '/a*', to: it}", "is not a whole segment");
    check_route("{path: '/{a}/{a}', to: it}", "has the parameter `a` twice");
    check_route("{path: '/x{a}', to: it}", "not a whole segment");
    check_route(
        "{path: '/{user}', rewrite: '/{usr}', to: it}",
        "did you mean `user`?",
    );
    check_route("{path: /a, rewrite: /b/*, to: it}", "but the path has none");
    check_route("{path: /a, to: it, methods: []}", "no methods");
    check_route(
        "{path: /a, to: it, methods: [post]}",
        "did you mean `POST`?",
    );
    check_route(
        "{path: /a, to: it, methods: POST}",
        "write it as a list: `[POST]`",
    );
    check_route(
        "{path: /a, to: it, callback: 'http://x'}",
        "is for asynchronous routes",
    );
    check_route(
        "{path: /a, to: events, async: true}",
        "means nothing on a route to `events`",
    );
    check_route(
        "{path: /a, to: it, before: [events]}",
        "the bus cannot stand before a route",
    );
    check_route(
        "{path: /a, to: it, before: [{it: {cache: 1s}, x: {}}]}",
        "one workload in each entry",
    );
    check_route(
        "{path: /a, to: it, timeout: 1h}",
        "is cut off after 30.00s already",
    );
    check_route(
        "{path: '/{a}', to: it}\n    - {path: '/{b}', to: it, methods: [GET]}\n    - {path: '/{c}', to: it}",
        "is routed twice",
    );
    check_route(
        "{path: /a, to: it, methods: [GET]}\n    - {path: /a, to: it, methods: [POST, GET]}",
        "is routed twice for GET",
    );
    check_route("{path: /a, to: it, host: 'http://x'}", "is not a host name");
}

#[test]
fn names() {
    let reserved =
        told("app: a\nworkloads:\n  events: {as: function, run: {wasm: {component: a.wasm}}}\n");
    assert!(
        reserved.contains("`events` cannot name a workload"),
        "{reserved}"
    );
    let prefix =
        told("app: a\nworkloads:\n  tangelo-x: {as: function, run: {wasm: {component: a.wasm}}}\n");
    assert!(prefix.contains("would clash"), "{prefix}");
    assert!(told("app: aws\nworkloads: {}\n").contains("`aws` is the app"));
    assert!(told("app: 1\nworkloads: {}\n").contains("put it in quotes"));
}
