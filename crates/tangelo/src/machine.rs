//! Settings that name what of the machine the server uses: its control groups, and its container engine.

use std::path::PathBuf;

use clap::Args;
use runtime::{
    container::{usual_logins, usual_sockets},
    launcher::CGROUPS,
};

use crate::config::{Origin, Picker};

/// The flags.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct MachineFlags {
    /// Where control groups are mounted, for the limits of instances [default: /sys/fs/cgroup]
    #[arg(long, env = "TANGELO_CGROUPS", value_name = "DIR")]
    cgroups: Option<PathBuf>,
    /// The socket of Docker or Podman, for `run: {container: …}` [default: where they usually are]
    #[arg(long, env = "TANGELO_CONTAINERS", value_name = "SOCKET")]
    containers: Option<PathBuf>,
}

/// What holds.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// Where control groups are mounted.
    pub(crate) cgroups: PathBuf,
    /// Sockets at which a container engine may answer, in this order.
    pub(crate) containers: Vec<PathBuf>,
    /// Files in which there may be logins for registries, in this order.
    pub(crate) logins: Vec<PathBuf>,
}

impl Picker<'_> {
    pub(crate) fn machine(
        &mut self,
        flags: &MachineFlags,
        cgroups: Option<PathBuf>,
        containers: Option<PathBuf>,
    ) -> Machine {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let user = path("XDG_RUNTIME_DIR");
        let usual = || usual_sockets(user.as_deref());
        let mount = || vec![PathBuf::from(CGROUPS)];
        let cgroups = self.paths("cgroups", flags.cgroups.as_ref(), cgroups, mount);
        Machine {
            cgroups: cgroups.into_iter().next().unwrap_or_default(),
            containers: self.paths("containers", flags.containers.as_ref(), containers, usual),
            logins: usual_logins(
                path("REGISTRY_AUTH_FILE").as_deref(),
                path("DOCKER_CONFIG").as_deref(),
                user.as_deref(),
                path("HOME").as_deref(),
            ),
        }
    }

    fn paths(
        &mut self,
        setting: &'static str,
        flag: Option<&PathBuf>,
        file: Option<PathBuf>,
        default: impl FnOnce() -> Vec<PathBuf>,
    ) -> Vec<PathBuf> {
        let from = self.origin(flag.is_some(), file.is_some());
        let value = match flag.cloned().or(file) {
            Some(path) => vec![path],
            None => default(),
        };
        let shown: Vec<_> = value.iter().map(|p| p.display().to_string()).collect();
        self.origins.push(Origin {
            setting,
            value: shown.join(", "),
            from,
        });
        value
    }
}
