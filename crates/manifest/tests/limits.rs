//! What `limits` and `container` take, and how mistakes in them are told.

use manifest::{parse, render};
use model::{Limits, Run};

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
        ports: {metrics: METRICS_PORT, admin-api: }
        login: {user: robot, password: REGISTRY_PASSWORD}
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
        login: {user: a:b, password: hunter-2}
  ports:
    as: service
    run:
      container:
        image: it:1
        ports: {Metrics: A, one: PORT, two: 80, three: SAME, four: SAME, five: '$X'}
    env: {SAME: x}
  empty:
    as: service
    run: {container: {command: []}}
"
    ));
}

#[test]
fn probes_say_what_they_take() {
    insta::assert_snapshot!(told(
        "app: asked
workloads:
  short: {as: service, run: {process: {command: [./it]}}, health: /healthz}
  long:
    as: service
    run: {process: {command: [./it]}}
    health:
      startup: {path: /started, interval: 200ms, failures: 600, grace: 5s}
      liveness: {timeout: 3s}
      readiness: /ready
  wrong:
    as: service
    run: {process: {command: [./it]}}
    health:
      start: /started
      liveness: {path: alive, interval: 1ms, failures: 0, period: 3s}
      readiness: [/ready]
  empty: {as: service, run: {process: {command: [./it]}}, health: {}}
  list: {as: service, run: {process: {command: [./it]}}, health: [/healthz]}
  elsewhere: {as: service, run: {external: {url: 'http://x'}}, health: {readiness: /ready}}
"
    ));
}

#[test]
fn scales_say_what_they_follow() {
    insta::assert_snapshot!(told(
        "app: scaled
workloads:
  function: {as: function, run: {container: {image: 'it:1'}}, scale: {max: 9, on: {concurrency: 80%}, down: 30s}}
  service: {as: service, run: {process: {command: [./it]}}, scale: {max: 9, on: {cpu: 70%}, up: 30s}}
  worker: {as: service, run: {process: {command: [./it]}}, scale: {min: 0, max: 9, on: {backlog: 100, cpu: 150%}}, on: [{event: {source: [/x]}}]}
  idle: {as: service, run: {process: {command: [./it]}}, scale: {on: {backlog: 100}}}
  wrong:
    as: service
    run: {process: {command: [./it]}}
    scale: {on: {cpu: 70, concurrency: 120%, backlog: 0, queue: 3}, up: fast, down: 0s}
  plain: {as: service, run: {process: {command: [./it]}}, scale: {on: cpu}}
  empty: {as: service, run: {process: {command: [./it]}}, scale: {on: {}}}
  wasm: {as: function, run: {wasm: {component: a.wasm}}, scale: {on: {cpu: 70%}, down: 1m}}
"
    ));
}

#[test]
fn probes_and_windows_are_read_with_what_is_assumed() {
    let text = "app: read
workloads:
  long:
    as: service
    run: {process: {command: [./it]}}
    health: {startup: {path: /s, failures: 600, grace: 5s}, liveness: {timeout: 3s}, readiness: /ready}
    scale: {max: 9, on: {cpu: 70%, backlog: 100}, down: 30s, idle: 1m}
    on: [{event: {source: [/x]}}]
  short: {as: service, run: {process: {command: [./it]}}, health: /healthz}
";
    let app = parse(text, "tangelo.yaml", &Limits::default()).app;
    let app = app.expect("no mistakes");
    let probes = app.workloads["long"].asked();
    let second = std::time::Duration::from_secs(1);
    let startup = probes.startup.expect("said");
    assert_eq!(startup.window(), second * 65);
    let liveness = probes.liveness.expect("said");
    assert_eq!((liveness.path, liveness.timeout), (None, second * 3));
    let readiness = probes.readiness.expect("said");
    assert_eq!(
        (readiness.path.as_deref(), readiness.failures),
        (Some("/ready"), 1)
    );
    let scale = app.workloads["long"].scale;
    assert_eq!((scale.on.cpu, scale.on.backlog), (Some(70), Some(100)));
    assert_eq!((scale.up, scale.down), (second * 10, Some(second * 30)));
    let short = &app.workloads["short"];
    assert_eq!(short.asked(), model::Probes::of_path("/healthz"));
    let stored = serde_json::to_value(short).expect("JSON");
    assert!(stored.get("probes").is_none() && stored["scale"].get("up").is_none());
    assert_eq!(stored["health"], "/healthz", "as revisions before have it");
}

#[test]
fn what_is_reserved_is_within_the_limits() {
    let one = |rest: &str| {
        let text = format!(
            "app: reserved\nworkloads:\n  it: {{as: service, run: {{process: {{command: [./it]}}}}, {rest}}}\n"
        );
        let parsed = parse(&text, "tangelo.yaml", &Limits::default());
        let told = render(&parsed.diagnostics, &text, "tangelo.yaml");
        (
            parsed.app.map(|app| app.workloads["it"].limits.reserved),
            told,
        )
    };
    assert_eq!(
        one("reserve: {cpu: 0.5}, limits: {cpu: 1}").0,
        Some(Some(500))
    );
    for (rest, words) in [
        (
            "reserve: {cpu: 2}, limits: {cpu: 1}",
            "more CPU is reserved than `limits` allows",
        ),
        ("reserve: 0.5", "expected a map with `cpu`"),
        ("reserve: {}", "`cpu` is missing"),
        ("reserve: {memory: 1}", "unknown key `memory`"),
        ("reserve: {cpu: 0.5, cpus: 1}", "did you mean `cpu`?"),
    ] {
        let (app, told) = one(rest);
        assert!(app.is_none() && told.contains(words), "{rest}: {told}");
    }
}

#[test]
fn ports_are_told_by_variables_and_a_login_by_the_name_of_a_secret() {
    let read = |more: &str| {
        let text = format!(
            "app: a\nworkloads:\n  it: {{as: service, run: {{container: {{image: 'it:1', {more}}}}}}}\n"
        );
        let parsed = parse(&text, "tangelo.yaml", &Limits::default());
        let app = parsed
            .app
            .unwrap_or_else(|| panic!("{:?}", parsed.diagnostics));
        let Run::Container { ports, login, .. } = app.workloads["it"].run.clone() else {
            panic!("is a container");
        };
        let ports = ports
            .into_iter()
            .map(|(name, variable)| format!("{name} {variable}"));
        (ports.collect::<Vec<_>>(), login)
    };
    let (ports, login) = read("ports: [metrics, admin-api]");
    assert_eq!(ports, ["admin-api PORT_ADMIN_API", "metrics PORT_METRICS"]);
    assert_eq!(login, None);
    let (ports, login) =
        read("ports: {metrics: METRICS_PORT, amqp: }, login: {user: robot, password: PW}");
    assert_eq!(ports, ["amqp PORT_AMQP", "metrics METRICS_PORT"]);
    let login = login.expect("is there");
    assert_eq!(
        (login.user.as_str(), login.password.as_str()),
        ("robot", "PW")
    );
}
