//! Control groups: where this process may make some, and one for every instance, with its limits.
//!
//! Each controller is used where it is bound: in the unified hierarchy (cgroups(7), v2) or in one of its own (v1). The
//! mount is an argument; nothing outside of it is touched. A group is made before its instance and found again by its
//! name, which is the instance's mark, so that what a killed launcher left can be removed.

use std::{
    cell::Cell,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::Access;

use super::limits::{Enforcement, Limits, Means, Weight};

/// Where systems mount them.
pub const MOUNT: &str = "/sys/fs/cgroup";

/// What every group's name begins with.
const PREFIX: &str = "tangelo-";

/// The group of the server itself, where the unified hierarchy wants processes only at its leaves.
const SERVER: &str = "tangelo-server";

/// The period over which CPU is shared out, in microseconds: the kernel's own.
const PERIOD: u64 = 100_000;

/// What is limited by groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Memory,
    Cpu,
    Pids,
}

const ALL: [Controller; 3] = [Controller::Memory, Controller::Cpu, Controller::Pids];

/// Where groups of one controller are made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Home {
    controller: Controller,
    means: Means,
    folder: PathBuf,
}

/// The hierarchies in which groups can be made.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    homes: Vec<Home>,
    /// What was set last, and is most likely set next.
    latest: Cell<Option<Limits>>,
}

/// The group of one instance: its folder in each hierarchy.
#[derive(Debug)]
pub(super) struct Group {
    folders: Vec<(Means, PathBuf)>,
    /// Files of it that were opened before anybody waits for what is written to them.
    open: Vec<(PathBuf, File)>,
}

impl Controller {
    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

impl Cgroups {
    /// What is bound below `mount` for this process, as `/proc/self/cgroup` places it. Changes nothing.
    pub(crate) fn find(mount: &Path) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::find_as(mount, &own)
    }

    fn find_as(mount: &Path, own: &str) -> Self {
        let unified = unified(mount, own);
        let bound = unified.as_deref().map(controllers).unwrap_or_default();
        let home = |controller: Controller| {
            let name = controller.name();
            let v2 = unified.clone().filter(|_| bound.iter().any(|b| b == name));
            let (means, folder) = match v2 {
                Some(folder) => (Means::CgroupV2, folder),
                None => (Means::CgroupV1, legacy(mount, own, name)?),
            };
            Some(Home {
                controller,
                means,
                folder,
            })
        };
        Self {
            homes: ALL.into_iter().filter_map(home).collect(),
            latest: Cell::default(),
        }
    }

    /// Keeps those hierarchies in which a group with limits can be made and entered, which is tried: by this process,
    /// that goes back to where it was. `server` is moved along where the hierarchy wants that.
    pub(super) fn keep_usable(mut self, mark: &str, server: u32) -> Self {
        let unified = self.homes.iter().find(|h| h.means == Means::CgroupV2);
        if let Some(folder) = unified.map(|home| home.folder.clone()) {
            let names: Vec<_> = self.of(Means::CgroupV2).map(Controller::name).collect();
            if delegate(&folder, &names, server).is_err() {
                self.homes.retain(|home| home.means != Means::CgroupV2);
            }
        }
        self.homes.retain(|home| try_out(home, mark).is_ok());
        self
    }

    /// Keeps those hierarchies that look as if groups could be made in them. Changes nothing, so it can be wrong.
    pub(super) fn keep_writable(mut self) -> Self {
        self.homes
            .retain(|home| rustix::fs::access(&home.folder, Access::WRITE_OK).is_ok());
        self
    }

    fn of(&self, means: Means) -> impl Iterator<Item = Controller> {
        let homes = self.homes.iter().filter(move |home| home.means == means);
        homes.map(|home| home.controller)
    }

    /// By which means each limit is enforced; what groups do not do is left to the caller.
    pub(crate) fn enforcement(&self) -> Enforcement {
        let by = |controller| {
            let home = self.homes.iter().find(|h| h.controller == controller);
            home.map(|home| home.means)
        };
        Enforcement {
            memory: by(Controller::Memory),
            cpu: by(Controller::Cpu),
            processes: by(Controller::Pids),
            ..Enforcement::default()
        }
    }

    /// The folders in which groups are made, for those who come later to remove what is left.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<_> = self.homes.iter().map(|h| h.folder.clone()).collect();
        folders.sort();
        folders.dedup();
        folders
    }

    /// Whether there is no hierarchy.
    pub(super) const fn is_empty(&self) -> bool {
        self.homes.is_empty()
    }

    /// Whether groups limit anything of it.
    pub(super) fn hold(&self, limits: &Limits) -> bool {
        self.homes
            .iter()
            .any(|home| settings(home, limits).is_some())
    }

    /// A group without limits in every hierarchy, for [`Cgroups::limit`] to set them; `None` where there is no hierarchy. To open one
    /// of the kernel's files takes longer than to write to it: those that were written to last are open already.
    pub(super) fn make(&self, mark: &str) -> io::Result<Option<Group>> {
        let mut group = Group {
            folders: Vec::new(),
            open: Vec::new(),
        };
        for home in &self.homes {
            let folder = home.folder.join(format!("{PREFIX}{mark}"));
            if let Err(error) = group.add(home.means, &folder) {
                group.remove();
                return Err(of_group(&folder, &error));
            }
        }
        if let Some(limits) = self.latest.get() {
            for (folder, (needed, wanted)) in self.settings(&group, &limits) {
                let files = needed.iter().chain(&wanted);
                let files = files.map(|(file, _)| folder.join(file));
                let open = files.filter_map(|file| open(&file).ok().map(|open| (file, open)));
                group.open.extend(open);
            }
        }
        Ok(Some(group).filter(|group| !group.folders.is_empty()))
    }

    /// Sets the limits of a group that was made without.
    pub(super) fn limit(&self, group: &Group, limits: &Limits) -> io::Result<()> {
        self.latest.set(Some(*limits));
        for (folder, settings) in self.settings(group, limits) {
            group
                .apply(&folder, &settings)
                .map_err(|error| of_group(&folder, &error))?;
        }
        Ok(())
    }

    /// What is to be set where.
    fn settings(&self, group: &Group, limits: &Limits) -> Vec<(PathBuf, Settings)> {
        let folder = |home: &Home| {
            let mut folders = group.folders.iter().map(|(_, folder)| folder);
            folders.find(|folder| folder.parent() == Some(&home.folder))
        };
        let of = |home| Some((folder(home)?.clone(), settings(home, limits)?));
        self.homes.iter().filter_map(of).collect()
    }
}

/// A file of a group and what it is set to; the second are files that not every kernel has.
type Settings = (Vec<(&'static str, String)>, Vec<(&'static str, String)>);

fn settings(home: &Home, limits: &Limits) -> Option<Settings> {
    let v2 = home.means == Means::CgroupV2;
    Some(match home.controller {
        Controller::Memory => {
            let bytes = limits.memory?.to_string();
            // Swap would only make the same limit slower. All processes end together: what is left of an instance
            // that lost one of them serves nobody.
            if v2 {
                let more = vec![
                    ("memory.swap.max", "0".to_owned()),
                    ("memory.oom.group", "1".to_owned()),
                ];
                (vec![("memory.max", bytes)], more)
            } else {
                let more = vec![("memory.memsw.limit_in_bytes", bytes.clone())];
                (vec![("memory.limit_in_bytes", bytes)], more)
            }
        }
        Controller::Cpu => cpu_settings(v2, limits)?,
        Controller::Pids => (
            vec![("pids.max", limits.processes?.to_string())],
            Vec::new(),
        ),
    })
}

/// The part of the CPU, and the most of it; nothing when both are what they are anyway.
fn cpu_settings(v2: bool, limits: &Limits) -> Option<Settings> {
    let mut needed = Vec::new();
    if limits.weight != Weight::SERVICE {
        needed.push(match v2 {
            true => ("cpu.weight", limits.weight.0.to_string()),
            false => ("cpu.shares", limits.weight.shares().to_string()),
        });
    }
    if let Some(millis) = limits.cpu {
        let quota = u64::from(millis) * PERIOD / 1000;
        if v2 {
            needed.push(("cpu.max", format!("{quota} {PERIOD}")));
        } else {
            needed.push(("cpu.cfs_period_us", PERIOD.to_string()));
            needed.push(("cpu.cfs_quota_us", quota.to_string()));
        }
    }
    (!needed.is_empty()).then(|| (needed, Vec::new()))
}

fn of_group(folder: &Path, error: &io::Error) -> io::Error {
    let text = format!("its control group {}: {error}", folder.display());
    io::Error::new(error.kind(), text)
}

impl Group {
    fn add(&mut self, means: Means, folder: &Path) -> io::Result<()> {
        if self.folders.iter().all(|(_, known)| known != folder) {
            make_folder(folder)?;
            self.folders.push((means, folder.to_owned()));
        }
        Ok(())
    }

    fn apply(&self, folder: &Path, (needed, wanted): &Settings) -> io::Result<()> {
        for (file, value) in needed {
            self.set(&folder.join(file), value)?;
        }
        for (file, value) in wanted {
            let _ = self.set(&folder.join(file), value);
        }
        Ok(())
    }

    fn set(&self, file: &Path, value: &str) -> io::Result<()> {
        match self.open.iter().find(|(known, _)| known == file) {
            Some((_, open)) => (&*open).write_all(value.as_bytes()),
            None => set(file, value),
        }
    }

    /// Its limits are set.
    pub(super) fn close(&mut self) {
        self.open.clear();
    }

    /// Files that place whoever writes `0` to them into the group.
    pub(super) fn doors(&self) -> io::Result<Vec<OwnedFd>> {
        let doors = self.folders.iter().map(|(_, folder)| door(folder));
        doors.map(|door| door.map(OwnedFd::from)).collect()
    }

    /// Places a process, with all of its threads, into the group.
    pub(super) fn place(&self, pid: i32) -> io::Result<()> {
        let mut doors = self.folders.iter().map(|(_, folder)| door(folder));
        doors.try_for_each(|door| door?.write_all(pid.to_string().as_bytes()))
    }

    /// Whether the kernel ended a process of it for want of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        ["memory.events", "memory.oom_control"].iter().any(|file| {
            let texts = self.folders.iter();
            let mut texts =
                texts.filter_map(|(_, folder)| fs::read_to_string(folder.join(file)).ok());
            texts.any(|text| value_of(&text, "oom_kill").is_some_and(|kills| kills > 0))
        })
    }

    /// Its processes, also those that left their session and their environment behind.
    pub(super) fn processes(&self) -> Vec<i32> {
        let lists = self.folders.first().map(|(_, folder)| members(folder));
        lists.unwrap_or_default()
    }

    /// Removes what is empty of it; what is not stays in it, for the next time. Returns whether nothing is left.
    pub(super) fn remove(&mut self) -> bool {
        self.folders.retain(|(_, folder)| !remove(folder));
        self.folders.is_empty()
    }
}

/// Removes the groups that a launcher, whose marks begin with `launcher`, left below `folders`.
pub(super) fn sweep(folders: &[PathBuf], launcher: &str) {
    let prefix = format!("{PREFIX}{launcher}.");
    for folder in folders {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                remove(&entry.path());
            }
        }
    }
}

/// Processes in the groups that a launcher left below `folders`.
pub(super) fn left_behind(folders: &[PathBuf], launcher: &str) -> Vec<i32> {
    let prefix = format!("{PREFIX}{launcher}.");
    let groups = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.filter_map(Result::ok))
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    groups.flat_map(|entry| members(&entry.path())).collect()
}

fn members(folder: &Path) -> Vec<i32> {
    let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether it is gone: the kernel removes a group that has no process.
fn remove(folder: &Path) -> bool {
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn set(file: &Path, value: &str) -> io::Result<()> {
    open(file)?.write_all(value.as_bytes())
}

fn door(folder: &Path) -> io::Result<File> {
    open(&folder.join("cgroup.procs"))
}

/// The kernel makes a group's files and refuses others; in a folder that only stands for a mount they are made here.
fn open(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).open(file)
}

fn value_of(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// This process's group in the unified hierarchy, where there is one with controllers.
fn unified(mount: &Path, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let root = [mount.to_owned(), mount.join("unified")];
    let root = root
        .into_iter()
        .find(|root| root.join("cgroup.controllers").is_file())?;
    Some(inside(root, path)).filter(|folder| !controllers(folder).is_empty())
}

/// This process's group in the hierarchy of a controller of its own.
fn legacy(mount: &Path, own: &str, controller: &str) -> Option<PathBuf> {
    let (names, path) = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        let is_it = names.split(',').any(|name| name == controller);
        is_it.then_some((names, path))
    })?;
    let roots = [mount.join(controller), mount.join(names)];
    let root = roots
        .into_iter()
        .find(|root| root.join("cgroup.procs").is_file())?;
    Some(inside(root, path))
}

/// The folder of `path`; the root itself where a container sees only its own part of the tree.
fn inside(root: PathBuf, path: &str) -> PathBuf {
    let folder = root.join(path.trim_start_matches('/'));
    if folder.join("cgroup.procs").is_file() {
        return folder;
    }
    root
}

fn controllers(folder: &Path) -> Vec<String> {
    let list = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    let known = |name: &&str| ALL.iter().any(|c| c.name() == *name);
    list.split_ascii_whitespace()
        .filter(known)
        .map(str::to_owned)
        .collect()
}

/// Lets groups below `folder` have the controllers. A group that has processes of its own may not pass them on (the
/// rule of "no internal processes"), so the server goes to a leaf first; who else is there keeps this from working.
fn delegate(folder: &Path, names: &[&str], server: u32) -> io::Result<()> {
    let wanted: Vec<String> = names.iter().map(|name| format!("+{name}")).collect();
    let control = folder.join("cgroup.subtree_control");
    if set(&control, &wanted.join(" ")).is_ok() {
        return Ok(());
    }
    let leaf = folder.join(SERVER);
    make_folder(&leaf)?;
    let own = std::process::id();
    let both = [server, own].map(|pid| pid.to_string());
    for pid in &both {
        set(&leaf.join("cgroup.procs"), pid)?;
    }
    set(&control, &wanted.join(" ")).inspect_err(|_| {
        for pid in &both {
            let _ = set(&folder.join("cgroup.procs"), pid);
        }
        remove(&leaf);
    })
}

/// Whether a group can be made in `home`, limited, entered, left and removed.
fn try_out(home: &Home, mark: &str) -> io::Result<()> {
    let limits = Limits {
        memory: Some(1 << 30),
        cpu: Some(1000),
        processes: Some(1000),
        ..Limits::default()
    };
    let settings = settings(home, &limits).ok_or(io::ErrorKind::InvalidInput)?;
    let folder = home.folder.join(format!("{PREFIX}{mark}"));
    let mut group = Group {
        folders: Vec::new(),
        open: Vec::new(),
    };
    let tried = group.add(home.means, &folder).and_then(|()| {
        group.apply(&folder, &settings)?;
        // Where the server was moved to a leaf, this process is there too.
        let leaf = home.folder.join(SERVER);
        let leaf = members(&leaf)
            .contains(&(std::process::id().cast_signed()))
            .then_some(leaf);
        let back = door(leaf.as_deref().unwrap_or(&home.folder))?;
        door(&folder)?.write_all(b"0")?;
        (&back).write_all(b"0")
    });
    group.remove();
    tried
}

#[cfg(test)]
#[path = "cgroups_tests.rs"]
mod tests;
