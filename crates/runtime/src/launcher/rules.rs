//! What a new process is held to before it becomes its program, beside what control groups hold.

use std::io;

use rustix::process::{Resource, Rlimit};

use super::{
    cgroups::Cgroups,
    limits::{Enforcement, Limits, Means, Weight, whole_cpus},
    os, spawn,
};

/// Everything that has to be looked up or allocated for it: [`Rules::enter`] runs between fork and exec.
pub(super) struct Rules {
    files: Rlimit,
    data: Option<Rlimit>,
    processes: Option<Rlimit>,
    cpus: Option<os::CpuSet>,
    /// Added to its nice value, where no group gives it its part of the CPU.
    nice: i32,
    /// Whether it must not wait for the turns of others: CPU is kept for it.
    reserved: bool,
}

impl Rules {
    /// For the instance number `id`.
    pub(super) fn new(id: u64, limits: &Limits, by: &Enforcement) -> Self {
        let memory = limits.memory.filter(|_| by.memory == Some(Means::Rlimit));
        let processes = limits
            .processes
            .filter(|_| by.processes == Some(Means::Rlimit));
        let cpu = limits.cpu.filter(|_| by.cpu == Some(Means::Affinity));
        Self {
            files: at_most(Resource::Nofile, limits.files),
            data: memory.map(|bytes| at_most(Resource::Data, bytes)),
            // The system counts all that the user runs, so what runs already is allowed for.
            processes: processes
                .map(|more| at_most(Resource::Nproc, os::tasks_of_user() + u64::from(more))),
            cpus: cpu.and_then(|millis| os::some_cpus(whole_cpus(millis), id)),
            nice: match by.cpu {
                Some(Means::CgroupV1 | Means::CgroupV2) => 0,
                _ if limits.weight.0 < Weight::SERVICE.0 => NICE,
                _ => 0,
            },
            reserved: limits.reserved.is_some(),
        }
    }

    /// Makes the calling process obey. Allocates nothing.
    pub(super) fn enter(&self) -> io::Result<()> {
        // Some systems allow less than they say: then what is allowed stays.
        let _ = rustix::process::setrlimit(Resource::Nofile, self.files);
        rustix::process::setrlimit(Resource::Core, NO_CORE)?;
        if let Some(data) = self.data {
            rustix::process::setrlimit(Resource::Data, data)?;
        }
        if let Some(processes) = self.processes {
            rustix::process::setrlimit(Resource::Nproc, processes)?;
        }
        if let Some(cpus) = &self.cpus {
            os::run_on(cpus)?;
        }
        if self.nice > 0 {
            // Nobody is refused to be nicer; where it has no effect, nothing is lost.
            let _ = rustix::process::nice(self.nice);
        }
        // The launcher's own are short.
        spawn::take_turns(self.reserved);
        Ok(())
    }
}

#[cfg(target_os = "linux")]
impl Rules {
    /// Makes another process, that runs already and is in its group, obey.
    pub(super) fn impose(&self, pid: rustix::process::Pid) -> io::Result<()> {
        let limit = |resource, limit| rustix::process::prlimit(Some(pid), resource, limit);
        let _ = limit(Resource::Nofile, self.files);
        limit(Resource::Core, NO_CORE)?;
        if let Some(data) = self.data {
            limit(Resource::Data, data)?;
        }
        if let Some(processes) = self.processes {
            limit(Resource::Nproc, processes)?;
        }
        if self.nice > 0 {
            // It may have inherited it of the process that it was made from: then this changes nothing.
            let own = rustix::process::getpriority_process(None)?;
            let _ = rustix::process::setpriority_process(Some(pid), own + self.nice);
        }
        match &self.cpus {
            Some(cpus) => Ok(os::all_run_on(pid, cpus)?),
            None => Ok(()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Rules {
    /// Needs Linux.
    pub(super) fn impose(&self, _pid: rustix::process::Pid) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A part of the CPU that is about a fifth of what others have (each step is a tenth: sched(7)).
const NICE: i32 = 7;

/// By which means limits are enforced: groups where they can, else what each process can be held to by itself.
pub(super) fn enforcement(groups: &Cgroups) -> Enforcement {
    let by = groups.enforcement();
    let linux = cfg!(target_os = "linux");
    // Root is above this one, and elsewhere than on Linux memory is not held to its limit.
    let may_count = linux && !rustix::process::geteuid().is_root();
    let rlimit = |can: bool| can.then_some(Means::Rlimit);
    Enforcement {
        memory: by.memory.or_else(|| rlimit(linux)),
        cpu: by.cpu.or_else(|| linux.then_some(Means::Affinity)),
        processes: by.processes.or_else(|| rlimit(may_count)),
        files: rlimit(true),
        cpus: os::cpus(),
    }
}

const NO_CORE: Rlimit = Rlimit {
    current: Some(0),
    maximum: Some(0),
};

/// A limit of `wanted`, or of what the server itself is allowed.
fn at_most(resource: Resource, wanted: u64) -> Rlimit {
    let allowed = rustix::process::getrlimit(resource).maximum;
    let limit = Some(allowed.map_or(wanted, |allowed| allowed.min(wanted)));
    Rlimit {
        current: limit,
        maximum: limit,
    }
}
