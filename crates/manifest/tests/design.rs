//! What good manifests become.

use std::time::Duration;

use manifest::{Parsed, Severity, parse, render};
use model::{App, Build, ByteSize, Limits, Name, RouteTarget, Run, Tier};
use serde_json::json;

/// The example of the design document with the function that its gateway names, and without `workflows`, which come later.
const SHOP: &str = include_str!("shop.yaml");

fn parsed(text: &str) -> Parsed {
    parse(text, "tangelo.yaml", &Limits::default())
}

#[track_caller]
fn app(text: &str) -> App {
    let parsed = parsed(text);
    let shown = render(&parsed.diagnostics, text, "tangelo.yaml");
    parsed.app.unwrap_or_else(|| panic!("{shown}"))
}

/// A manifest with one workload, given as YAML in flow style.
fn one(workload: &str) -> model::Workload {
    let app = app(&format!("app: one\nworkloads:\n  it: {workload}\n"));
    app.workloads[&Name::literal("it")].clone()
}

#[test]
fn the_shop_is_read() {
    let shop = app(SHOP);
    assert_eq!(shop.name.as_str(), "shop");
    assert_eq!(shop.workloads.len(), 5);
    let catalog = &shop.workloads[&Name::literal("catalog")];
    assert_eq!(catalog.tier, Tier::Service);
    assert_eq!(
        (
            catalog.scale.min,
            catalog.scale.max,
            catalog.scale.concurrency
        ),
        (1, 4, 100)
    );
    assert_eq!(catalog.health.as_deref(), Some("/healthz"));
    assert_eq!(catalog.owner.as_deref(), Some("storefront"));
    let auth = &shop.workloads[&Name::literal("auth")];
    assert_eq!(
        auth.build,
        Some(Build::Rust {
            package: "functions/auth".into()
        })
    );
    let confirm = &shop.workloads[&Name::literal("confirm")];
    assert_eq!(
        (confirm.timeout, confirm.memory),
        (Duration::from_secs(10), ByteSize::mib(128))
    );
    assert_eq!(confirm.secrets, ["SMTP_PASSWORD"]);
    assert_eq!(confirm.on[0].name.as_str(), "order-created");
    let filter = json!({"type": ["order.created"], "data": {"total": [{"numeric": [">", 0]}]}});
    assert_eq!(confirm.on[0].filter.0, filter);
    assert_eq!(shop.routes.len(), 4);
    assert_eq!(shop.routes[1].methods, ["POST"]);
    assert_eq!(shop.routes[1].before[0].workload.as_str(), "auth");
    assert_eq!(shop.routes[3].to, RouteTarget::Events);
}

#[test]
fn the_shop_has_no_complaints() {
    assert_eq!(parsed(SHOP).diagnostics, []);
}

#[test]
fn an_app_survives_json() {
    let shop = app(SHOP);
    let text = serde_json::to_string(&shop).expect("an app is data");
    assert_eq!(
        serde_json::from_str::<App>(&text).expect("it was one"),
        shop
    );
}

#[test]
fn everything_a_route_can_say() {
    let text = "
app: routes
workloads:
  auth: {as: function, run: {wasm: {component: a.wasm}}}
  work: {as: function, run: {wasm: {component: b.wasm}}, timeout: 1m}
gateway:
  routes:
    - host: '*.Example.com'
      path: /v1/{user}/files/*
      methods: [GET, POST]
      before: [{auth: {cache: 60s}}, auth]
      to: work
      rewrite: /files/{user}/*
      timeout: 5s
      max_body: 1MiB
      async: true
      callback: https://example.com/done
hosts: {your-ec2-instance-endpoint: work}
";
    let app = app(text);
    let route = &app.routes[0];
    assert_eq!(route.host.as_deref(), Some("*.example.com"));
    assert_eq!(route.before[0].cache, Some(Duration::from_secs(60)));
    assert_eq!(route.before[1].cache, None);
    assert_eq!(route.rewrite.as_deref(), Some("/files/{user}/*"));
    assert_eq!(
        (route.timeout, route.max_body),
        (Some(Duration::from_secs(5)), Some(ByteSize::mib(1)))
    );
    assert!(route.asynchronous);
    assert_eq!(route.callback.as_deref(), Some("https://example.com/done"));
    assert_eq!(app.hosts["your-ec2-instance-endpoint"].as_str(), "work");
}

#[test]
fn what_is_left_out_is_assumed() {
    let wasm = one("{as: function, run: {wasm: {component: a.wasm}}}");
    assert_eq!(
        (wasm.scale.min, wasm.scale.max, wasm.scale.concurrency),
        (0, 100, 64)
    );
    assert_eq!(
        (wasm.timeout, wasm.memory),
        (Duration::from_secs(30), ByteSize::mib(128))
    );
    let lambda = one("{as: function, run: {lambda: {runtime: nodejs, handler: a.b, code: x}}}");
    assert_eq!(
        (lambda.scale.concurrency, lambda.max_body),
        (1, ByteSize::mib(6))
    );
    let service = one("{as: service, run: {process: {command: [./a]}}}");
    assert_eq!((service.scale.min, service.scale.max), (1, 1));
    assert_eq!(
        (service.timeout, service.memory),
        (Duration::from_secs(60), ByteSize::mib(512))
    );
    let more = one("{as: service, run: {process: {command: [./a]}}, scale: {min: 3}}");
    assert_eq!((more.scale.min, more.scale.max), (3, 3));
}

#[test]
fn values_are_taken_as_they_are_written() {
    let process = one(
        "{as: service, run: {process: {command: [./serve, --port, 8080, --ratio, 1.10]}}, \
         env: {VERSION: 1.10, DEBUG: true, ON: on, ZIP: \"01234\", OCTAL: 0755, NONE: }}",
    );
    let Run::Process { command, .. } = &process.run else {
        panic!("a process")
    };
    assert_eq!(command, &["./serve", "--port", "8080", "--ratio", "1.10"]);
    let env: Vec<_> = process
        .env
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(
        env,
        [
            "DEBUG=true",
            "NONE=",
            "OCTAL=0755",
            "ON=on",
            "VERSION=1.10",
            "ZIP=01234"
        ]
    );
}

#[test]
fn subscriptions_take_shorthand_and_names() {
    let it = one(
        "{as: function, run: {wasm: {component: a.wasm}}, publishes: [order.*], on: [\
         {event: {type: order.created, data: {vip: true, note: null}}}, \
         {event: {type: [{prefix: order.}]}, name: all, retry: {attempts: 3, backoff: 10ms}, concurrency: 2}]}",
    );
    assert_eq!(it.on[0].name.as_str(), "order-created");
    assert_eq!(
        it.on[0].filter.0,
        json!({"type": ["order.created"], "data": {"vip": [true], "note": [null]}})
    );
    assert_eq!(it.on[1].name.as_str(), "all");
    assert_eq!(
        (it.on[1].retry.attempts, it.on[1].retry.backoff),
        (3, Duration::from_millis(10))
    );
    assert_eq!(it.on[1].concurrency, Some(2));
}

#[test]
fn hosts_outside_are_texts_or_maps() {
    let it = one(
        "{as: function, run: {wasm: {component: a.wasm}}, egress: [api.example.com, '*.Example.com:8443', \
         {host: 10.0.0.5, port: 5432}, '[::1]:80', '::1', localhost]}",
    );
    let hosts: Vec<_> = it
        .egress
        .iter()
        .map(|egress| (egress.host.as_str(), egress.port))
        .collect();
    let expected = [
        ("api.example.com", None),
        ("*.example.com", Some(8443)),
        ("10.0.0.5", Some(5432)),
        ("::1", Some(80)),
        ("::1", None),
        ("localhost", None),
    ];
    assert_eq!(hosts, expected);
}

#[test]
fn every_way_to_build() {
    let text = "
app: builds
workloads:
  a: {as: function, run: {wasm: {component: a.wasm}}, build: {js: {source: a.js}}}
  b: {as: function, run: {wasm: {component: b.wasm}}, build: {python: {source: b, module: app}}}
  c: {as: service, run: {process: {command: [./c]}}, build: {command: [go, build, -o, c], inputs: [src], output: c}}
  d: {as: service, run: {external: {url: 'https://example.com/base'}}, health: /up}
";
    let app = app(text);
    let build = |name: &'static str| app.workloads[&Name::literal(name)].build.clone();
    assert_eq!(
        build("a"),
        Some(Build::Js {
            source: "a.js".into()
        })
    );
    assert_eq!(
        build("b"),
        Some(Build::Python {
            source: "b".into(),
            module: "app".into()
        })
    );
    let go = ["go", "build", "-o", "c"].map(str::to_owned).to_vec();
    assert_eq!(
        build("c"),
        Some(Build::Command {
            command: go,
            inputs: vec!["src".into()],
            output: "c".into()
        })
    );
    let built: Vec<_> = parsed(text)
        .artifacts
        .into_iter()
        .map(|file| (file.path, file.built))
        .collect();
    assert_eq!(
        built,
        [
            ("a.wasm".into(), true),
            ("b.wasm".into(), true),
            ("./c".to_owned(), true)
        ]
    );
}

#[test]
fn anchors_and_merges_are_followed() {
    let text = "
app: anchors
workloads:
  a: &base {as: function, run: {wasm: {component: a.wasm}}, memory: 64MiB}
  b: {<<: *base, timeout: 5s}
";
    let app = app(text);
    let b = &app.workloads[&Name::literal("b")];
    assert_eq!(
        (b.memory, b.timeout),
        (ByteSize::mib(64), Duration::from_secs(5))
    );
}

#[test]
fn the_design_manifest_says_what_is_not_run_yet() {
    let text = format!("{SHOP}\nworkflows:\n  fulfil: {{definition: workflows/fulfil.asl.json}}\n");
    let parsed = parsed(&text);
    let messages: Vec<_> = parsed
        .diagnostics
        .iter()
        .map(|d| (d.severity, d.message.as_str()))
        .collect();
    assert_eq!(
        messages,
        [(
            Severity::Error,
            "`workflows` is not run by this version of Tangelo"
        )]
    );
    assert!(parsed.app.is_none());
}

#[test]
fn the_schema_is_as_published() {
    insta::assert_json_snapshot!(manifest::schema());
}

#[test]
fn the_reference_s_examples_are_manifests() {
    let reference = include_str!("../../../docs/manifest.md");
    let blocks: Vec<_> = reference
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 2);
    for block in blocks {
        let shown = render(&parsed(block).diagnostics, block, "docs/manifest.md");
        assert_eq!(shown, "");
    }
}
