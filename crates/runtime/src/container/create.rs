//! What a container is made from: the workload's words as the engine's. Pure.

use std::collections::HashMap;

use bollard::service::{ContainerCreateBody, HostConfig, HostConfigLogConfig, ResourcesUlimits};
use rustix::process::Resource;

use super::LABEL;
use crate::launcher::{Enforcement, Limits};

/// One container to be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Its name at the engine.
    pub(crate) name: String,
    /// The image, by its id.
    pub(crate) image: String,
    /// Program and arguments; empty: the image's own.
    pub(crate) command: Vec<String>,
    /// The user it runs as, when not the image's.
    pub(crate) user: Option<String>,
    /// All of its environment beside the image's.
    pub(crate) env: Vec<(String, String)>,
    /// What is mounted into it: `source:target`, where the source is a volume's name or a folder.
    pub(crate) binds: Vec<String>,
    /// Whether its own file system can be written to.
    pub(crate) writable: bool,
    /// What it may take.
    pub(crate) limits: Limits,
    /// The server, app and workload that it is of.
    pub(crate) labels: Vec<(&'static str, String)>,
}

impl Plan {
    /// The labels that every container of this server has.
    pub(crate) fn labels(mark: &str, app: &str, workload: &str) -> Vec<(&'static str, String)> {
        vec![
            (LABEL, mark.to_owned()),
            ("dev.tangelo.app", app.to_owned()),
            ("dev.tangelo.workload", workload.to_owned()),
        ]
    }

    /// The names of the volumes that it mounts.
    pub(super) fn volumes(&self) -> impl Iterator<Item = &str> {
        let named = self.binds.iter().filter(|bind| !bind.starts_with('/'));
        named.filter_map(|bind| Some(bind.split_once(':')?.0))
    }

    /// The engine's words for it, with those limits that the engine can hold it to.
    pub(super) fn body(self, by: &Enforcement) -> ContainerCreateBody {
        let labels = self.labels.into_iter();
        let env = self.env.into_iter();
        ContainerCreateBody {
            image: Some(self.image),
            cmd: Some(self.command).filter(|command| !command.is_empty()),
            user: self.user,
            env: Some(env.map(|(name, value)| format!("{name}={value}")).collect()),
            labels: Some(labels.map(|(k, v)| (k.to_owned(), v)).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            host_config: Some(host(&self.limits, by, self.binds, self.writable)),
            ..ContainerCreateBody::default()
        }
    }
}

fn host(limits: &Limits, by: &Enforcement, binds: Vec<String>, writable: bool) -> HostConfig {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let memory = limits.memory.filter(|_| by.memory.is_some()).map(signed);
    let cpu = limits.cpu.filter(|_| by.cpu.is_some());
    let processes = limits.processes.filter(|_| by.processes.is_some());
    // As a process's: Docker would let no program run that was unpacked there.
    let tmpfs = HashMap::from([("/tmp".to_owned(), "exec".to_owned())]);
    HostConfig {
        // The same `$PORT` and mesh as for a process, at the machine's own loopback.
        network_mode: Some("host".to_owned()),
        memory,
        // No swap beyond it.
        memory_swap: memory,
        cpu_shares: by.cpu.map(|_| i64::from(limits.weight.shares())),
        // Not `nano_cpus`, of which Docker takes no more than the machine has: more is no limit, as with a process.
        cpu_period: cpu.map(|_| PERIOD),
        cpu_quota: cpu.map(|millis| i64::from(millis) * PERIOD / 1000),
        pids_limit: processes.map(i64::from),
        ulimits: Some(ulimits(limits)),
        binds: Some(binds).filter(|binds| !binds.is_empty()),
        readonly_rootfs: Some(!writable),
        tmpfs: Some(tmpfs).filter(|_| !writable),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        // What it writes is read as it is written, and kept by the server.
        log_config: Some(HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        }),
        ..HostConfig::default()
    }
}

/// Over how long a share of the CPUs is counted, in microseconds: the kernel's own default.
const PERIOD: i64 = 100_000;

/// As many process ids as every Linux has: Podman holds itself to those of the machine, and cannot give more than that.
const LEAST_PIDS: u64 = 32_768;

/// Said in full, because an engine's own defaults may be more than this server is allowed, and then nothing starts.
fn ulimits(limits: &Limits) -> Vec<ResourcesUlimits> {
    let allowed = |resource, wanted: u64| {
        let most = rustix::process::getrlimit(resource).maximum;
        let limit = most.map_or(wanted, |most| most.min(wanted));
        Some(i64::try_from(limit).unwrap_or(i64::MAX))
    };
    let all = [
        ("nofile", allowed(Resource::Nofile, limits.files)),
        ("nproc", allowed(Resource::Nproc, LEAST_PIDS)),
        ("core", Some(0)),
    ];
    all.map(|(name, limit)| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: limit,
        hard: limit,
    })
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::{Means, Weight};

    fn plan(writable: bool) -> Plan {
        Plan {
            name: "it".to_owned(),
            image: "sha256:1".to_owned(),
            command: Vec::new(),
            user: Some("1000".to_owned()),
            env: vec![("PORT".to_owned(), "80".to_owned())],
            binds: vec!["data:/data".to_owned(), "/srv/state:/srv/state".to_owned()],
            writable,
            limits: Limits {
                memory: Some(64 << 20),
                cpu: Some(500),
                processes: Some(20),
                files: 100,
                weight: Weight(600),
                reserved: Some(500),
            },
            labels: Plan::labels("m", "a", "w"),
        }
    }

    #[test]
    fn limits_are_asked_for_where_the_engine_can_hold_them() {
        let all = Enforcement {
            memory: Some(Means::CgroupV2),
            cpu: Some(Means::CgroupV2),
            processes: Some(Means::CgroupV2),
            ..Enforcement::default()
        };
        let host = |by: &Enforcement| plan(false).body(by).host_config.expect("there");
        let held = host(&all);
        assert_eq!(
            (
                held.memory,
                held.memory_swap,
                held.cpu_quota,
                held.pids_limit
            ),
            (Some(64 << 20), Some(64 << 20), Some(50_000), Some(20))
        );
        assert_eq!(held.cpu_shares, Some(6144));
        let free = host(&Enforcement::default());
        assert_eq!(
            (free.memory, free.cpu_quota, free.pids_limit),
            (None, None, None)
        );
        assert_eq!(free.ulimits.expect("there")[0].hard, Some(100));
    }

    #[test]
    fn the_root_is_read_only_unless_asked_and_the_image_s_command_is_kept() {
        assert_eq!(plan(false).volumes().collect::<Vec<_>>(), ["data"]);
        let body = plan(false).body(&Enforcement::default());
        assert_eq!(body.cmd, None);
        assert_eq!(body.labels.expect("there")[LABEL], "m");
        let host = body.host_config.expect("there");
        assert_eq!(host.readonly_rootfs, Some(true));
        assert!(host.tmpfs.expect("there").contains_key("/tmp"));
        let host = plan(true).body(&Enforcement::default()).host_config;
        let host = host.expect("there");
        assert_eq!((host.readonly_rootfs, host.tmpfs), (Some(false), None));
    }
}
