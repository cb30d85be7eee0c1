//! Cold starts that are no boots: forks of a Python template, and Node processes that wait for an identity.

use std::collections::BTreeSet;

use model::app::LambdaTemplate;
use runtime::{Input, lambda::TemplateStats};
use serde_json::{Value, json};

use super::platform::{self, Lambda, Options};
use crate::support::{LAUNCHER, alive, children, eventually, kill};

/// Says what it is, or ends.
const PYTHON: &str = "
import ctypes, os, random, resource, sys, time
born = time.time_ns()
print('imported', flush=True)
def handler(event, context):
    if event == 'exit': os._exit(7)
    if event == 'child': os.system('sleep 1000 >/dev/null 2>&1 &')
    print('handled', flush=True)
    death = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(death))
    block = open('/proc/self/environ', 'rb').read().decode().split('\\0')
    return {
        'pid': os.getpid(), 'parent': os.getppid(), 'session': os.getsid(0), 'death': death.value,
        'env': dict(os.environ), 'block': dict(v.split('=', 1) for v in block if v),
        'cwd': os.getcwd(), 'random': random.random(), 'born': born,
        'fds': sorted(os.readlink('/proc/self/fd/' + fd) for fd in os.listdir('/proc/self/fd') if int(fd) < 3),
        'sockets': sum(os.path.exists('/proc/self/fd/' + fd) is False for fd in os.listdir('/proc/self/fd')),
        'open': len(os.listdir('/proc/self/fd')), 'core': resource.getrlimit(resource.RLIMIT_CORE),
        'files': resource.getrlimit(resource.RLIMIT_NOFILE)[0], 'argv': sys.argv, 'path': sys.path[:2],
        'stack': context.aws_request_id != '', 'group': open('/proc/self/cgroup').read(),
    }
";

const NODE: &str = "
const fs = require('node:fs');
console.log('imported');
exports.handler = async (event) => {
  if (event === 'exit') process.exit(7);
  console.log('handled');
  const block = fs.readFileSync('/proc/self/environ', 'utf8').split('\\0').filter((v) => v);
  return {
    pid: process.pid, parent: process.ppid, env: { ...process.env }, cwd: process.cwd(), argv: process.argv.length,
    block: Object.fromEntries(block.map((v) => [v.slice(0, v.indexOf('=')), v.slice(v.indexOf('=') + 1)])),
    fds: ['0', '1', '2'].map((fd) => fs.readlinkSync('/proc/self/fd/' + fd)), group: fs.readFileSync('/proc/self/cgroup', 'utf8'),
    found: require('found').yes,
  };
};
";

/// What the next call says, and whether its start came of a template.
async fn say(lambda: &Lambda, payload: &str) -> (Value, bool) {
    let payload = json!(payload).to_string();
    let ran = lambda.input(Input::Payload(payload.into())).await;
    let cold = ran.meter.cold();
    let response = ran.response.expect("an answer");
    (
        platform::json(response).await,
        cold.is_some_and(|cold| cold.template),
    )
}

/// Ends the only instance, once a template is ready.
async fn end_instance(lambda: &Lambda) {
    eventually("a template is ready", || ready(lambda) > 0).await;
    let (error, _) = say(lambda, "exit").await;
    assert_eq!(error["errorType"], "Runtime.ExitError", "{error}");
    let text = error["errorMessage"].as_str().expect("a text");
    assert!(text.ends_with("Runtime exited with error: exit status 7"));
    lambda.until_instances(0).await;
}

fn stats(lambda: &Lambda) -> TemplateStats {
    lambda.templates.stats()
}

fn ready(lambda: &Lambda) -> usize {
    stats(lambda).ready
}

/// What holds of every instance, wherever it came from.
fn check_identity(said: &Value, first: &Value) {
    for name in [
        "AWS_LAMBDA_RUNTIME_API",
        "TMPDIR",
        "AWS_LAMBDA_LOG_STREAM_NAME",
    ] {
        assert_ne!(said["env"][name], first["env"][name], "{name}");
    }
    let names = |said: &Value| -> BTreeSet<String> {
        let env = said["env"].as_object().expect("an object");
        env.keys().cloned().collect()
    };
    assert_eq!(names(said), names(first));
    // What the system shows of it is its own: by that, its key and its launcher are known.
    for name in [
        "TANGELO_LAUNCHER",
        "AWS_ENDPOINT_URL",
        "AWS_LAMBDA_RUNTIME_API",
    ] {
        assert_eq!(said["block"][name], said["env"][name], "{name}");
    }
    assert_ne!(
        said["env"]["TANGELO_LAUNCHER"],
        first["env"]["TANGELO_LAUNCHER"]
    );
    assert_eq!(said["cwd"], first["cwd"]);
    assert_eq!(said["argv"], first["argv"]);
    assert_eq!(said["parent"], first["parent"], "the launcher owns it");
    let pipes = said["fds"].as_array().expect("a list");
    let nulls = pipes.iter().filter(|fd| **fd == "/dev/null").count();
    let pipes = pipes.iter().filter(|fd| fd.to_string().contains("pipe:"));
    assert_eq!((nulls, pipes.count()), (1, 2), "{said}");
    // A group of its own, where there are groups.
    let groups = |said: &Value| said["group"].as_str().expect("a text").to_owned();
    if groups(first).contains("/tangelo-") {
        assert!(groups(said).contains("/tangelo-"), "{said}");
        assert_ne!(groups(said), groups(first));
    }
}

#[tokio::test]
async fn a_python_instance_is_a_fork_with_a_life_of_its_own() {
    let lambda = Options::python(PYTHON).start();
    let (first, from_template) = say(&lambda, "who").await;
    assert!(!from_template, "nobody had called it");
    end_instance(&lambda).await;
    let (fork, from_template) = say(&lambda, "who").await;
    assert!(from_template, "{:?}", lambda.notes());
    check_identity(&fork, &first);
    for key in ["core", "files", "path", "death", "open"] {
        assert_eq!(fork[key], first[key], "{key}");
    }
    assert_eq!(
        (&fork["session"], &fork["death"]),
        (&fork["pid"], &json!(9))
    );
    assert_ne!(fork["random"], first["random"]);
    assert_ne!(
        fork["born"], first["born"],
        "each imports its handler itself"
    );
    // What it starts ends with it.
    let (_, _) = say(&lambda, "child").await;
    end_instance(&lambda).await;
    let (second, from_template) = say(&lambda, "who").await;
    assert!(from_template);
    check_identity(&second, &fork);
    assert_ne!(second["random"], fork["random"]);
    let lines = lambda.lines();
    let handled = lines.iter().filter(|line| line.text == "handled");
    assert!(handled.clone().all(|line| line.invocation.is_some()));
    assert_eq!(handled.count(), 4);
    let stats = stats(&lambda);
    assert_eq!(
        (stats.ready, stats.made, stats.used, stats.missed),
        (1, 1, 2, 1)
    );
    assert!(stats.memory > 1 << 20 && stats.cpu_us > 0);
    assert!(
        lambda
            .notes()
            .iter()
            .any(|note| note.contains("of a warm template"))
    );
}

#[tokio::test]
async fn a_waiting_node_process_becomes_the_instance() {
    let lambda = Options::node("main.js", NODE)
        .file("node_modules/found/index.js", "exports.yes = true;")
        .start();
    let (first, from_template) = say(&lambda, "who").await;
    assert!(!from_template);
    for _ in 0..2 {
        end_instance(&lambda).await;
        let (next, from_template) = say(&lambda, "who").await;
        assert!(from_template, "{:?}", lambda.notes());
        check_identity(&next, &first);
        assert_eq!(next["found"], true);
    }
    eventually("each that is used up is made again", || ready(&lambda) == 1).await;
    assert_eq!(stats(&lambda).used, 2);
    let lines = lambda.lines();
    assert_eq!(
        lines.iter().filter(|line| line.text == "handled").count(),
        3
    );
}

/// Whether a process is a template, or a fork that was made ahead: that one shows the same arguments, and came later.
fn is_template(pid: u32) -> bool {
    let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
    arguments.is_ok_and(|arguments| arguments.contains("template"))
}

#[tokio::test]
async fn forks_end_with_the_launcher_and_not_with_their_template() {
    let lambda = Options::python(PYTHON).start();
    let (first, _) = say(&lambda, "who").await;
    end_instance(&lambda).await;
    let (fork, from_template) = say(&lambda, "who").await;
    assert!(from_template);
    let pid = |said: &Value, key: &str| {
        u32::try_from(said[key].as_u64().expect("a number")).expect("small")
    };
    let launcher = pid(&first, "parent");
    let template = children(launcher)
        .into_iter()
        .find(|child| is_template(*child) && *child != pid(&fork, "pid"))
        .expect("the template is its child, too");
    kill("-KILL", template);
    eventually("the template ends", || !alive(template)).await;
    let (again, _) = say(&lambda, "who").await;
    assert_eq!(again["pid"], fork["pid"], "what it made goes on");
    let exe = std::fs::read_link(format!("/proc/{launcher}/exe")).expect("it runs");
    assert_eq!(exe, std::path::Path::new(LAUNCHER));
    kill("-KILL", launcher);
    eventually("the fork ends with the launcher", || {
        !alive(pid(&fork, "pid"))
    })
    .await;
    lambda.until_instances(0).await;
    let (last, from_template) = say(&lambda, "who").await;
    assert!(!from_template, "what is gone is not asked");
    assert_ne!(last["parent"], first["parent"]);
}

#[tokio::test]
async fn a_handler_that_bears_it_is_imported_once() {
    let lambda = Options::python(PYTHON)
        .change(with(LambdaTemplate::Handler))
        .start();
    let (first, _) = say(&lambda, "who").await;
    end_instance(&lambda).await;
    let (one, from_template) = say(&lambda, "who").await;
    assert!(from_template, "{:?}", lambda.notes());
    check_identity(&one, &first);
    end_instance(&lambda).await;
    let (two, _) = say(&lambda, "who").await;
    assert_eq!(
        one["born"], two["born"],
        "the module was imported in the template"
    );
    assert_ne!(
        one["random"], two["random"],
        "and yet each has chances of its own"
    );
    assert_ne!(one["env"]["TMPDIR"], two["env"]["TMPDIR"]);
}

#[tokio::test]
async fn a_handler_that_does_not_bear_it_boots_and_the_log_says_why() {
    for (source, why) in [
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
            "threads",
        ),
        ("import socket\nkept = socket.socket()", "connections"),
        (
            "import os\nif 'AWS_LAMBDA_RUNTIME_API' not in os.environ: raise ValueError('no instance')",
            "no instance",
        ),
    ] {
        let source = format!(
            "{source}\nimport os\ndef handler(event, context):\n    if event == 'exit': os._exit(7)\n    return os.getpid()"
        );
        let lambda = Options::python(&source)
            .change(with(LambdaTemplate::Handler))
            .start();
        let (first, _) = say(&lambda, "who").await;
        let notes = || {
            lambda
                .notes()
                .into_iter()
                .find(|note| note.contains("no warm template"))
        };
        eventually("the log says why", || {
            notes().is_some_and(|note| note.contains(why))
        })
        .await;
        let (_, _) = say(&lambda, "exit").await;
        let (second, from_template) = say(&lambda, "who").await;
        assert!(!from_template && first != second);
        assert_eq!((ready(&lambda), stats(&lambda).missed), (0, 2));
    }
}

#[tokio::test]
async fn no_template_without_leave_without_room_or_for_what_nobody_calls() {
    let off = Options::python(PYTHON)
        .change(with(LambdaTemplate::Off))
        .start();
    let (_, _) = say(&off, "who").await;
    assert_eq!(stats(&off), TemplateStats::default());
    let mut options = Options::python(PYTHON).change(|w| w.scale.min = 1);
    options.limits.templates = model::ByteSize::kib(64);
    let lambda = options.start();
    lambda.pool.warm().await.expect("it starts");
    assert_eq!(stats(&lambda).made, 0, "it was not called");
    for _ in 0..2 {
        let (_, _) = say(&lambda, "exit").await;
        let (_, from_template) = say(&lambda, "who").await;
        assert!(!from_template, "what takes more than all may is not kept");
    }
    assert_eq!(ready(&lambda), 0);
}

/// Acceptance row E7. The budget is what an instance may take to start (10 s); who waits for it is told how long each
/// phase took.
#[tokio::test]
async fn after_hours_of_idleness_the_cold_start_is_within_its_budget_and_labelled() {
    let clock = model::Clock::virtual_at(model::Time(1_000_000_000_000));
    let found = ("node_modules/found/index.js", "exports.yes = true;");
    for options in [Options::python(PYTHON), Options::node("main.js", NODE)] {
        let lambda = options.file(found.0, found.1).clock(&clock).start();
        let (first, _) = say(&lambda, "who").await;
        eventually("a template is ready", || ready(&lambda) == 1).await;
        clock.advance(std::time::Duration::from_secs(6 * 3600));
        // Nothing is left of it that costs anything, and nobody was told.
        lambda.until_instances(0).await;
        eventually("no template waits", || ready(&lambda) == 0).await;
        assert!(!alive(
            u32::try_from(first["pid"].as_u64().expect("a number")).expect("small")
        ));
        let payload = Input::Payload("\"who\"".into());
        let ran = lambda.input(payload).await;
        let cold = ran.meter.cold().expect("it is called a cold start");
        assert!(ran.response.is_ok());
        // On a clock that stands still no phase takes time, so that none of the hours is counted as one.
        assert!(cold.total() <= INIT && !cold.template, "{cold:?}");
        let (_, again) = say(&lambda, "who").await;
        assert!(!again, "the next is none");
    }
}

/// What an instance may take from its start to its first question.
const INIT: std::time::Duration = std::time::Duration::from_secs(10);

#[tokio::test]
async fn a_template_that_nobody_uses_is_ended() {
    let clock = model::Clock::virtual_at(model::Time(1_000_000_000_000));
    let lambda = Options::python(PYTHON).clock(&clock).start();
    let (_, _) = say(&lambda, "who").await;
    eventually("a template is ready", || ready(&lambda) == 1).await;
    clock.advance(std::time::Duration::from_secs(3500));
    assert_eq!(ready(&lambda), 1);
    clock.advance(std::time::Duration::from_secs(200));
    eventually("it is ended", || ready(&lambda) == 0).await;
}

const fn with(template: LambdaTemplate) -> fn(&mut model::Workload) {
    const fn set<const T: u8>(workload: &mut model::Workload) {
        if let model::Run::Lambda { template, .. } = &mut workload.run {
            *template = match T {
                0 => LambdaTemplate::Off,
                _ => LambdaTemplate::Handler,
            };
        }
    }
    match template {
        LambdaTemplate::Off => set::<0>,
        LambdaTemplate::Runtime | LambdaTemplate::Handler => set::<1>,
    }
}

/// Where no control group gives an instance its part of the CPU, its nice value does: that of its workload, and not of the template.
#[tokio::test]
async fn a_fork_is_as_nice_as_its_workload_wherever_it_came_from() {
    let nice = "
import os
def handler(event, context):
    if event == 'exit': os._exit(7)
    return os.getpriority(os.PRIO_PROCESS, 0)
";
    let own = i64::from(rustix::process::getpriority_process(None).expect("is known"));
    let service: fn(&mut model::Workload) = |w| w.tier = model::Tier::Service;
    for (change, nicer) in [(None, 7), (Some(service), 0)] {
        let mut options = Options::python(nice).without_groups();
        options.change = change.unwrap_or(options.change);
        let lambda = options.start();
        // 19 is as nice as a process gets.
        let expected = json!((own + nicer).min(19));
        let (booted, from_template) = say(&lambda, "how").await;
        assert!(!from_template);
        assert_eq!(booted, expected, "booted");
        end_instance(&lambda).await;
        let (forked, from_template) = say(&lambda, "how").await;
        assert!(from_template, "{:?}", lambda.notes());
        assert_eq!(forked, expected, "forked");
    }
}
