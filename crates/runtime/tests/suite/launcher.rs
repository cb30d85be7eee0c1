//! The launcher leaves nothing behind, whoever is killed, and starts exactly what it was asked to.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
};

use runtime::launcher::{self, Child, Command, Error, Launcher, Means, Signal};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use crate::support::{Fixture, LAUNCHER, alive, children, eventually, group, kill, parent};

/// A service that leaves descendants in its group, in a session of their own, and orphaned: prints their ids.
const FAMILY: &str = "
echo $$
sleep 1000 & echo $!
setsid sleep 1001 & echo $!
(setsid sh -c 'sleep 1002 & echo $!; wait' &)
wait";

fn shell(script: &str) -> Command {
    Command::new("sh", "/").arg("-c").arg(script).env(
        "PATH",
        std::env::var_os("PATH").expect("set").to_string_lossy(),
    )
}

async fn output(launcher: &Launcher, command: Command) -> (String, launcher::Exit) {
    let mut child = launcher.spawn(command).await.expect("started");
    let mut text = String::new();
    let mut stdout = child.stdout.take().expect("not taken");
    stdout.read_to_string(&mut text).await.expect("text");
    (text, child.exited().await)
}

/// The ids that [`FAMILY`] prints.
async fn family(child: &mut Child) -> Vec<u32> {
    let mut lines = tokio::io::BufReader::new(child.stdout.take().expect("not taken")).lines();
    let mut pids = Vec::new();
    while pids.len() < 4 {
        let line = lines.next_line().await.expect("text").expect("four lines");
        pids.push(line.parse().expect("a number"));
    }
    assert!(pids.iter().all(|&pid| alive(pid)), "{pids:?}");
    pids
}

async fn all_gone(pids: Vec<u32>) {
    eventually("every process is gone", || {
        !pids.iter().any(|&pid| alive(pid))
    })
    .await;
}

#[tokio::test]
async fn a_program_gets_what_was_asked_and_nothing_else() {
    let fixture = Fixture::new();
    let path = fixture.folder.path().canonicalize().expect("there");
    let command = Command::new("/usr/bin/env", &path).env("GREETING", "hello world");
    let (text, exit) = output(&fixture.launcher, command).await;
    let (mark, others): (Vec<&str>, Vec<&str>) = text
        .lines()
        .partition(|line| line.starts_with("TANGELO_LAUNCHER="));
    assert_eq!((mark.len(), others), (1, vec!["GREETING=hello world"]));
    assert!(exit.success());

    let mut script = shell("pwd; ulimit -c; cat; ps -o pid=,pgid=,sid= -p $$; exit 3");
    script.cwd.clone_from(&path);
    let (text, exit) = output(&fixture.launcher, script).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], [path.to_str().expect("text"), "0"]);
    let ids: Vec<&str> = lines[2].split_whitespace().collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(exit.code, Some(3));
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let fixture = Fixture::new();
    let launcher = &fixture.launcher;
    let missing = launcher.spawn(Command::new("./missing", "/")).await;
    assert!(matches!(missing.err(), Some(Error::NotFound(name)) if name == "./missing"));
    let folder = launcher.spawn(Command::new("/", "/")).await;
    assert!(matches!(folder.err(), Some(Error::Refused { .. })));
    let large = "x".repeat(5 << 20);
    let large = launcher.spawn(Command::new("true", "/").arg(large)).await;
    assert!(matches!(large.err(), Some(Error::Refused { .. })));
    let (text, _) = output(launcher, shell("echo still here")).await;
    assert_eq!(text, "still here\n");
}

/// With limits, where groups hold them, a program is begun by a process that is in its group already: the first ones
/// wait for that, the next find one that was made ahead.
#[tokio::test]
async fn a_program_with_limits_gets_the_same_and_fails_the_same() {
    let fixture = Fixture::new();
    let launcher = &fixture.launcher;
    let held = |mut command: Command| {
        command.limits.memory = Some(64 << 20);
        command
    };
    let own = launcher.spawn(shell("echo $PPID; sleep 1000")).await;
    let mut own = own.expect("started");
    let stdout = own.stdout.take().expect("not taken");
    let said = tokio::io::BufReader::new(stdout).lines().next_line().await;
    let process: u32 = said
        .expect("text")
        .expect("a line")
        .parse()
        .expect("a number");
    let spares = || {
        let mut all = children(process);
        all.retain(|pid| *pid != own.pid);
        all
    };
    for _ in 0..6 {
        let command = held(Command::new("/usr/bin/env", "/").env("GREETING", "hello world"));
        let (text, exit) = output(launcher, command).await;
        let (mark, others): (Vec<&str>, Vec<&str>) = text
            .lines()
            .partition(|line| line.starts_with("TANGELO_LAUNCHER="));
        assert_eq!((mark.len(), others), (1, vec!["GREETING=hello world"]));
        assert!(exit.success());
        let script = held(shell(
            "cat; ulimit -c; ps -o pid=,pgid=,sid= -p $$; ls /proc/self/fd | wc -w; exit 3",
        ));
        let (text, exit) = output(launcher, script).await;
        let lines: Vec<&str> = text.lines().collect();
        let ids: Vec<&str> = lines[1].split_whitespace().collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        // The three standard ones, and the folder that `ls` reads.
        assert_eq!((lines[0], lines[2], exit.code), ("0", "4", Some(3)));
        let missing = launcher.spawn(held(Command::new("./missing", "/"))).await;
        assert!(matches!(missing.err(), Some(Error::NotFound(name)) if name == "./missing"));
        let folder = launcher.spawn(held(Command::new("/", "/"))).await;
        assert!(matches!(folder.err(), Some(Error::Refused { .. })));
        if launcher.enforcement().memory != Some(Means::Rlimit) {
            eventually("spares are made ahead", || spares().len() >= 2).await;
        }
    }
    // One that is ended by somebody else is no loss.
    let killed = spares();
    for spare in &killed {
        kill("-KILL", *spare);
    }
    let is_noticed = || spares().iter().all(|pid| !killed.contains(pid));
    eventually("the launcher has waited for them", is_noticed).await;
    let (text, _) = output(launcher, held(shell("echo still here"))).await;
    assert_eq!(text, "still here\n");
}

/// The program of this test is the test itself, once more: it starts a launcher from wherever it is, as a program does
/// that links the crate and forgot the hidden argument.
#[test]
fn a_program_that_does_not_know_the_hidden_argument_starts_itself_once() {
    if let Some(folder) = std::env::var_os("FORGETFUL") {
        forget(Path::new(&folder));
        return;
    }
    let folder = tempfile::TempDir::new().expect("a folder");
    let test = std::env::current_exe().expect("a test has a path");
    let name = "launcher::a_program_that_does_not_know_the_hidden_argument_starts_itself_once";
    let script = format!(
        "#!/bin/sh\nFORGETFUL={} exec {} --exact {name}\n",
        folder.path().display(),
        test.display()
    );
    let program = folder.path().join("program");
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("set");
    let error = forget(folder.path());
    assert!(error.contains("did not become a launcher"), "{error}");
    let errors = std::fs::read_to_string(folder.path().join("errors")).expect("written");
    let errors: Vec<&str> = errors.lines().collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors[0].contains("was started as a launcher"),
        "{errors:?}"
    );
}

/// Starts the program in `folder` as a launcher, and notes what that came to.
fn forget(folder: &Path) -> String {
    let note = |file: &str, text: &str| {
        let mut notes = std::fs::OpenOptions::new();
        let notes = notes.create(true).append(true).open(folder.join(file));
        writeln!(notes.expect("opened"), "{text}").expect("written");
    };
    note("starts", "");
    let starts = std::fs::read_to_string(folder.join("starts")).expect("written");
    assert!(starts.len() < 5, "it starts itself again and again");
    let started = Launcher::start(&folder.join("program"), &folder.join("instances"));
    let error = started.err().expect("it is no launcher").to_string();
    note("errors", &error);
    error
}

#[tokio::test]
async fn a_signal_reaches_the_group_and_its_end_is_told() {
    let fixture = Fixture::new();
    let mut child = fixture
        .launcher
        .spawn(shell(
            "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done",
        ))
        .await
        .expect("started");
    let mut lines = tokio::io::BufReader::new(child.stdout.take().expect("not taken")).lines();
    lines.next_line().await.expect("text").expect("up");
    assert_eq!(child.exit(), None);
    child.signal_group(Signal::Term);
    assert_eq!(child.exited().await.code, Some(7));
    let other = fixture
        .launcher
        .spawn(shell("sleep 1000"))
        .await
        .expect("started");
    other.signal_group(Signal::Kill);
    assert_eq!(other.exited().await.signal, Some(9));
}

#[tokio::test]
async fn dropping_an_instance_ends_all_of_its_family() {
    let fixture = Fixture::new();
    let mut bystander = fixture
        .launcher
        .spawn(shell(FAMILY))
        .await
        .expect("started");
    let others = family(&mut bystander).await;
    let mut child = fixture
        .launcher
        .spawn(shell(FAMILY))
        .await
        .expect("started");
    let pids = family(&mut child).await;
    drop(child);
    all_gone(pids).await;
    assert!(others.iter().all(|&pid| alive(pid)), "only its own family");
}

#[tokio::test]
async fn what_an_ended_instance_leaves_behind_is_ended() {
    let fixture = Fixture::new();
    let script = FAMILY.replace("\nwait", "\nread -r x < /dev/null; sleep 0.2; exit 0");
    let mut child = fixture
        .launcher
        .spawn(shell(&script))
        .await
        .expect("started");
    let mut text = String::new();
    let mut stdout = child.stdout.take().expect("not taken");
    stdout.read_to_string(&mut text).await.expect("text");
    let pids: Vec<u32> = text
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert_eq!(pids.len(), 4);
    assert_eq!(child.exited().await.code, Some(0));
    all_gone(pids).await;
}

#[tokio::test]
async fn stopping_waits_until_nothing_is_left() {
    let fixture = Fixture::new();
    let mut child = fixture
        .launcher
        .spawn(shell(FAMILY))
        .await
        .expect("started");
    let pids = family(&mut child).await;
    let launcher = parent(child.pid);
    fixture.launcher.stop().await;
    assert!(!alive(launcher) && !pids.iter().any(|&pid| alive(pid)));
    assert_eq!(child.exited().await.signal, Some(9));
    let late = fixture.launcher.spawn(shell("true")).await;
    assert!(matches!(late.err(), Some(Error::Stopped)));
}

#[tokio::test]
async fn the_launcher_outlives_the_signals_that_end_a_session() {
    let fixture = Fixture::new();
    let child = fixture
        .launcher
        .spawn(shell("sleep 1000"))
        .await
        .expect("started");
    for signal in ["-TERM", "-INT", "-HUP"] {
        kill(signal, parent(child.pid));
    }
    let (text, _) = output(&fixture.launcher, shell("echo still here")).await;
    assert_eq!(text, "still here\n");
    assert!(alive(child.pid));
}

#[tokio::test]
async fn a_killed_launcher_takes_its_instances_along_and_another_takes_over() {
    let fixture = Fixture::new();
    let mut child = fixture
        .launcher
        .spawn(shell(FAMILY))
        .await
        .expect("started");
    let pids = family(&mut child).await;
    kill("-KILL", parent(child.pid));
    assert_eq!(child.exited().await.signal, Some(9));
    let (text, _) = output(&fixture.launcher, shell("echo again")).await;
    assert_eq!(text, "again\n");
    assert!(
        !pids.iter().any(|&pid| alive(pid)),
        "swept before the new launcher began"
    );
}

#[tokio::test]
async fn after_a_kill_of_the_server_nothing_is_left() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (server, pids) = server(&folder.path().join("instances"));
    kill("-KILL", server);
    all_gone(pids).await;
}

#[tokio::test]
async fn after_a_kill_of_server_and_launcher_the_sweep_finds_the_rest() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let record = folder.path().join("instances");
    let (server, pids) = server(&record);
    let launcher = parent(pids[0]);
    let group = group(pids[0], "memory");
    kill("-KILL", launcher);
    kill("-KILL", server);
    let swept = tokio::task::spawn_blocking({
        let record = record.clone();
        move || launcher::sweep(&record)
    });
    assert!(swept.await.expect("no panic").expect("swept") > 0);
    assert!(
        !pids.iter().any(|&pid| alive(pid)),
        "the sweep waits for them"
    );
    assert!(!record.exists());
    assert!(
        group.is_none_or(|group| !group.exists()),
        "its group is gone"
    );
    assert_eq!(launcher::sweep(&record).expect("nothing to do"), 0);
}

#[tokio::test]
async fn many_starts_at_once_each_get_their_own_pipes() {
    let fixture = Fixture::new();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..60 {
        let launcher = fixture.launcher.clone();
        tasks.spawn(async move { (n, output(&launcher, shell(&format!("echo {n}"))).await) });
    }
    while let Some(done) = tasks.join_next().await {
        let (n, (text, exit)) = done.expect("no panic");
        assert_eq!((text, exit.code), (format!("{n}\n"), Some(0)));
    }
}

/// A server of another make (Python) that starts [`FAMILY`] through the launcher: its id, and the family's.
fn server(record: &Path) -> (u32, Vec<u32>) {
    let script = r#"
import json, os, socket, struct, subprocess, sys, time
launcher, record, script = sys.argv[1:]
ours, theirs = socket.socketpair()
subprocess.Popen([launcher, "__launcher", record], stdin=theirs)
theirs.close()
command = {"program": "sh", "args": ["-c", script], "env": [["PATH", os.environ["PATH"]]], "cwd": "/", "limits": {"memory": 1 << 28, "files": 100}}
frame = json.dumps({"spawn": {"id": 1, "command": command}}).encode()
ours.sendall(struct.pack("<I", len(frame)) + frame)
fds = []
while not fds:
    _, fds, _, _ = socket.recv_fds(ours, 65536, 8)
with os.fdopen(fds[0]) as lines:
    for line in lines:
        print(line.strip(), flush=True)
"#;
    let mut server = std::process::Command::new("python3")
        .args(["-c", script, LAUNCHER])
        .arg(record)
        .arg(FAMILY)
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let lines = BufReader::new(server.stdout.take().expect("piped")).lines();
    let pids = lines
        .take(4)
        .map(|line| line.expect("text").parse().expect("a number"))
        .collect();
    let pid = server.id();
    std::thread::spawn(move || server.wait());
    (pid, pids)
}
