//! The container engine of the machine: which one answers, what it cannot hold containers to, and whether it could pull.

use std::path::{Path, PathBuf};

use runtime::container::{self, Engine, Facts};

use super::{Finding, State};

const WHAT: &str = "container engine";
const WITHOUT: &str = "`run: {container: …}` (TG0413)";

/// What an engine was found to be.
struct Looked {
    facts: Facts,
    /// What stops it from pulling.
    pull: Result<(), String>,
}

pub(super) fn look(data: &Path, sockets: &[PathBuf]) -> Finding {
    let engine = Engine::new(container::Options {
        sockets: sockets.to_vec(),
        logins: Vec::new(),
        data: data.to_owned(),
    });
    match ask(&engine) {
        Ok(looked) => told(&looked),
        Err(error) => Finding::missing(
            WHAT,
            error.context.unwrap_or(error.message),
            WITHOUT,
            "start Docker or Podman (`podman system service`), or name its socket with --containers",
        ),
    }
}

fn told(looked: &Looked) -> Finding {
    let Facts {
        name,
        socket,
        enforcement: by,
        rootless,
        cgroups,
        cgroup_driver,
    } = &looked.facts;
    let who = if *rootless { "rootless" } else { "as root" };
    let groups = match cgroups {
        Some(version) if cgroup_driver.is_empty() => format!("cgroup v{version}"),
        Some(version) => format!("cgroup v{version} ({cgroup_driver})"),
        None => "no control groups".to_owned(),
    };
    let mut found = format!("{name} at {}, {who}, {groups}", socket.display());
    let all = [
        ("memory", by.memory),
        ("cpu", by.cpu),
        ("processes", by.processes),
    ];
    let unheld = all.iter().filter(|(_, by)| by.is_none());
    let unheld: Vec<&str> = unheld.map(|(what, _)| *what).collect();
    let mut todo = Vec::new();
    if unheld.is_empty() {
        found.push_str("; it holds containers to all limits");
    } else {
        found.push_str(&format!("; it cannot limit {}", unheld.join(", ")));
        todo.push(
            "run the engine as root, or give its user the controllers (Delegate= in systemd)",
        );
    }
    match &looked.pull {
        Ok(()) => found.push_str("; it can pull, where a registry can be reached"),
        Err(why) => {
            found.push_str(&format!("; it cannot pull: {why}"));
            todo.push("mend what keeps it from pulling (for Podman /etc/containers/policy.json and registries.conf), or bring images yourself with `pull: never`");
        }
    }
    if todo.is_empty() {
        return Finding::good(WHAT, found, WITHOUT);
    }
    Finding {
        state: State::Note,
        todo: todo.join("; "),
        ..Finding::good(WHAT, found, WITHOUT)
    }
}

/// On a thread of its own: the findings are gathered without waiting, inside of a runtime that may not wait for another.
fn ask(engine: &Engine) -> Result<Looked, model::Error> {
    let look = || {
        let waiting = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        waiting.map_err(model::Error::internal)?.block_on(async {
            let facts = engine.look().await?;
            let pull = engine.can_pull().await;
            Ok(Looked { facts, pull })
        })
    };
    let looked = std::thread::scope(|scope| scope.spawn(look).join());
    looked.unwrap_or_else(|_| Err(model::Error::internal("the engine could not be asked")))
}

#[cfg(test)]
mod tests {
    use runtime::launcher::{Enforcement, Means};

    use super::*;

    fn looked(memory: Option<Means>, pull: Result<(), String>) -> Looked {
        let by = Some(Means::CgroupV2);
        Looked {
            facts: Facts {
                name: "Podman Engine 4.3.1".to_owned(),
                socket: "/run/podman.sock".into(),
                enforcement: Enforcement {
                    memory,
                    cpu: by,
                    processes: by,
                    ..Enforcement::default()
                },
                rootless: memory.is_none(),
                cgroups: Some(2),
                cgroup_driver: "systemd".to_owned(),
            },
            pull,
        }
    }

    #[test]
    fn an_engine_is_told_with_what_it_cannot_do() {
        let good = told(&looked(Some(Means::CgroupV2), Ok(())));
        assert_eq!(good.state, State::Ok);
        let expected = "Podman Engine 4.3.1 at /run/podman.sock, as root, cgroup v2 (systemd); it holds containers to all limits; \
                        it can pull, where a registry can be reached";
        assert_eq!(good.found, expected);
        let why = "open /etc/containers/policy.json: no such file or directory";
        let bad = told(&looked(None, Err(why.to_owned())));
        assert_eq!(bad.state, State::Note);
        for part in ["rootless", "it cannot limit memory;", why] {
            assert!(bad.found.contains(part), "{}", bad.found);
        }
        assert!(
            bad.todo.contains("Delegate=") && bad.todo.contains("policy.json"),
            "{}",
            bad.todo
        );
    }
}
