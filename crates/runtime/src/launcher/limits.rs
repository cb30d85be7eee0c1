//! What one instance may take, by which means of this machine that is enforced, and what is left open.

use std::fmt;

use model::Tier;
use serde::{Deserialize, Serialize};

/// What one instance may take; `None`: as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory of all its processes together.
    pub memory: Option<u64>,
    /// Thousandths of a CPU.
    pub cpu: Option<u32>,
    /// Processes and threads at the same time.
    pub processes: Option<u32>,
    /// Files that each of its processes may have open; cut to what the server itself may have.
    pub files: u64,
    /// Its part of the CPU when there is not enough for all, against the others'.
    pub weight: Weight,
    /// Thousandths of a CPU that this weight stands for, where they were asked for.
    pub reserved: Option<u32>,
}

/// A part of the CPU against the others', 1 to 10000 (the kernel's own range, cgroups(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight(pub u32);

impl Weight {
    /// That of a service, and of every other process of the machine.
    pub const SERVICE: Self = Self(100);
    /// That of a function: a batch of them leaves a service most of the CPU.
    pub const FUNCTION: Self = Self(20);
    /// How much more a whole reserved CPU weighs: as much as fifty functions.
    const CPU: u32 = 1_000;

    /// Of an instance of `tier` for which `reserved` thousandths of a CPU are kept.
    #[must_use]
    pub fn of(tier: Tier, reserved: Option<u32>) -> Self {
        let Self(own) = match tier {
            Tier::Service => Self::SERVICE,
            Tier::Function | Tier::Job => Self::FUNCTION,
        };
        let more = u64::from(reserved.unwrap_or(0)) * u64::from(Self::CPU) / 1000;
        let weight = u64::from(own).saturating_add(more).min(10_000);
        Self(u32::try_from(weight).unwrap_or(10_000))
    }

    /// The same as the shares of cgroups v1, where 1024 is usual.
    #[must_use]
    pub fn shares(self) -> u32 {
        (self.0 * 1024 / Self::SERVICE.0).max(2)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: None,
            cpu: None,
            processes: None,
            files: 65_536,
            weight: Weight::SERVICE,
            reserved: None,
        }
    }
}

impl Limits {
    /// The limits of a workload's instances.
    #[must_use]
    pub fn of(workload: &model::Workload) -> Self {
        let given = workload.limits;
        Self {
            memory: Some(workload.memory.0),
            cpu: given.cpu,
            processes: given.processes,
            files: given.files.map_or_else(|| Self::default().files, u64::from),
            weight: Weight::of(workload.tier, given.reserved),
            reserved: given.reserved,
        }
    }
}

/// How a limit is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Means {
    /// The unified hierarchy: over all processes of the instance.
    #[serde(rename = "cgroup v2")]
    CgroupV2,
    /// The controller's own hierarchy: over all processes of the instance.
    #[serde(rename = "cgroup v1")]
    CgroupV1,
    /// A limit of each process by itself.
    #[serde(rename = "rlimit")]
    Rlimit,
    /// The processes run on some CPUs only.
    #[serde(rename = "affinity")]
    Affinity,
}

/// The means of this machine, by what they limit; `None`: nothing can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Enforcement {
    /// Memory.
    pub memory: Option<Means>,
    /// CPU.
    pub cpu: Option<Means>,
    /// Processes and threads.
    pub processes: Option<Means>,
    /// Open files.
    pub files: Option<Means>,
    /// CPUs that the server may use.
    pub cpus: u32,
}

/// One limit of a workload's instances as it holds on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Enforced {
    /// `memory`, `cpu`, `processes`, `reserved cpu` or `files`.
    pub what: &'static str,
    /// How much, as people write it.
    pub limit: String,
    /// How; `None`: it is asked for and not enforced.
    pub by: Option<Means>,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CgroupV2 => "cgroup v2",
            Self::CgroupV1 => "cgroup v1",
            Self::Rlimit => "rlimit",
            Self::Affinity => "affinity",
        })
    }
}

impl Enforcement {
    /// What of `limits` holds here, and what does not.
    #[must_use]
    pub fn of(&self, limits: &Limits) -> Vec<Enforced> {
        let mut all = Vec::new();
        let mut add = |what, limit, by| all.push(Enforced { what, limit, by });
        if let Some(bytes) = limits.memory {
            let limit = model::ByteSize(bytes).to_string();
            add("memory", limit, self.memory);
        }
        if let Some(millis) = limits.cpu {
            let (limit, by) = self.of_cpu(millis);
            add("cpu", limit, by);
        }
        if let Some(most) = limits.processes {
            add("processes", most.to_string(), self.processes);
        }
        if let Some(millis) = limits.reserved {
            let grouped = |by: &Means| matches!(by, Means::CgroupV1 | Means::CgroupV2);
            let limit = (f64::from(millis) / 1000.0).to_string();
            add("reserved cpu", limit, self.cpu.filter(grouped));
        }
        add("files", limits.files.to_string(), self.files);
        all
    }

    /// Whole CPUs are all that affinity can give, and on a machine with no more than those it limits nothing.
    fn of_cpu(&self, millis: u32) -> (String, Option<Means>) {
        let exact = (f64::from(millis) / 1000.0).to_string();
        match self.cpu {
            Some(Means::Affinity) => match whole_cpus(millis) {
                most if most < self.cpus => (most.to_string(), self.cpu),
                _ => (exact, None),
            },
            by => (exact, by),
        }
    }
}

/// CPUs that are enough for so many thousandths.
pub(super) const fn whole_cpus(millis: u32) -> u32 {
    let whole = millis.div_ceil(1000);
    if whole == 0 { 1 } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enforcement(cpu: Means, cpus: u32) -> Enforcement {
        Enforcement {
            memory: Some(Means::CgroupV1),
            cpu: Some(cpu),
            processes: None,
            files: Some(Means::Rlimit),
            cpus,
        }
    }

    fn said(enforcement: Enforcement, limits: Limits) -> String {
        let say = |e: Enforced| format!("{} {} {:?}", e.what, e.limit, e.by);
        let all = enforcement.of(&limits).into_iter().map(say);
        all.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_is_not_asked_for_is_not_said_and_what_cannot_be_is() {
        let limits = Limits {
            memory: Some(128 << 20),
            cpu: Some(1500),
            processes: Some(64),
            files: 100,
            reserved: Some(500),
            ..Limits::default()
        };
        assert_eq!(
            said(enforcement(Means::CgroupV2, 2), limits),
            "memory 128MiB Some(CgroupV1); cpu 1.5 Some(CgroupV2); processes 64 None; reserved cpu 0.5 Some(CgroupV2); files 100 Some(Rlimit)"
        );
        let apart = said(enforcement(Means::Affinity, 2), limits);
        assert!(apart.contains("reserved cpu 0.5 None"), "{apart}");
        assert_eq!(
            said(enforcement(Means::CgroupV2, 2), Limits::default()),
            "files 65536 Some(Rlimit)"
        );
    }

    #[test]
    fn what_is_reserved_outweighs_many_functions_and_stays_in_the_kernel_s_range() {
        let weight = |tier, reserved| Weight::of(tier, reserved);
        assert_eq!(weight(Tier::Function, None), Weight::FUNCTION);
        assert_eq!(weight(Tier::Service, Some(500)), Weight(600));
        assert_eq!(weight(Tier::Service, Some(u32::MAX)), Weight(10_000));
        assert_eq!((Weight::SERVICE.shares(), Weight(0).shares()), (1024, 2));
    }

    #[test]
    fn affinity_gives_whole_cpus_and_is_nothing_where_there_are_no_more() {
        let limits = Limits {
            cpu: Some(500),
            files: 9,
            ..Limits::default()
        };
        let means = Means::Affinity;
        assert!(said(enforcement(means, 2), limits).starts_with("cpu 1 Some(Affinity)"));
        assert!(said(enforcement(means, 1), limits).starts_with("cpu 0.5 None"));
    }
}
