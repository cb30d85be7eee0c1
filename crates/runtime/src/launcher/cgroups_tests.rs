//! Groups in folders that stand for a mount: where they are made, what is written into them, what of them is swept.

use super::*;

/// A machine with both kinds, as container hosts have it: memory in a hierarchy of its own, the rest unified.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new() -> Self {
        Self(tempfile::TempDir::new().expect("a folder"))
    }

    fn group(&self, path: &str, controllers: &str) -> PathBuf {
        let folder = self.0.path().join(path);
        fs::create_dir_all(&folder).expect("made");
        fs::write(folder.join("cgroup.procs"), "").expect("written");
        if !controllers.is_empty() {
            fs::write(folder.join("cgroup.controllers"), controllers).expect("written");
        }
        folder
    }

    fn find(&self, own: &str) -> Vec<(Controller, Means, PathBuf)> {
        let found = Cgroups::find_as(self.0.path(), own).homes.into_iter();
        found.map(|h| (h.controller, h.means, h.folder)).collect()
    }
}

const LIMITS: Limits = Limits {
    memory: Some(64 << 20),
    cpu: Some(1500),
    processes: Some(20),
    files: 100,
    weight: Weight(20),
    reserved: None,
};

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap_or_else(|error| error.to_string())
}

#[test]
fn controllers_are_used_where_they_are_bound() {
    let mount = Mount::new();
    let root = mount.group("memory", "");
    let memory = mount.group("memory/box/1", "");
    let unified = mount.group("unified/service", "cpuset cpu io pids");
    mount.group("unified", "cpuset cpu io pids memory");
    let own = "9:name=systemd:/\n4:memory:/box/1\n0::/service\n";
    use Controller::{Cpu, Memory, Pids};
    assert_eq!(
        mount.find(own),
        [
            (Memory, Means::CgroupV1, memory),
            (Cpu, Means::CgroupV2, unified.clone()),
            (Pids, Means::CgroupV2, unified),
        ]
    );
    // A container sees its own part of the tree at the root.
    let found = mount.find("4:memory:/elsewhere\n");
    assert_eq!(found, [(Memory, Means::CgroupV1, root)]);
    assert_eq!(mount.find(""), []);
    assert_eq!(Mount::new().find(own), []);
}

#[test]
fn hierarchies_that_are_mounted_together_and_a_mount_of_the_unified_one_are_found() {
    let mount = Mount::new();
    let both = mount.group("cpu,cpuacct", "");
    let found = mount.find("3:cpu,cpuacct:/\n0::/\n");
    assert_eq!(found, [(Controller::Cpu, Means::CgroupV1, both)]);
    let mount = Mount::new();
    let own = mount.group("system.slice/tangelo.service", "memory pids");
    mount.group("", "memory pids cpu");
    let found = mount.find("0::/system.slice/tangelo.service\n");
    let expected = [Controller::Memory, Controller::Pids];
    assert_eq!(
        found,
        expected.map(|controller| (controller, Means::CgroupV2, own.clone()))
    );
}

#[test]
fn an_instance_gets_one_group_with_its_limits_in_the_unified_hierarchy() {
    let mount = Mount::new();
    let own = mount.group("", "memory cpu pids");
    let groups = Cgroups::find_as(mount.0.path(), "0::/\n").keep_usable("1-1.0", 1);
    assert_eq!(read(&own, "cgroup.subtree_control"), "+memory +cpu +pids");
    let enforcement = groups.enforcement();
    assert_eq!(enforcement.memory, Some(Means::CgroupV2));
    assert!(groups.hold(&LIMITS));
    let group = groups.make("1-1.7").expect("made").expect("some");
    groups.limit(&group, &LIMITS).expect("set");
    let folder = own.join("tangelo-1-1.7");
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("cpu.max", "150000 100000"),
        ("cpu.weight", "20"),
        ("pids.max", "20"),
    ] {
        assert_eq!(read(&folder, file), value, "{file}");
    }
    let doors = group.doors().expect("open");
    assert_eq!(doors.len(), 1);
    assert!(!group.ran_out_of_memory());
    fs::write(folder.join("memory.events"), "low 0\noom 3\noom_kill 1\n").expect("written");
    assert!(group.ran_out_of_memory());
    assert!(!groups.hold(&Limits::default()), "nothing is limited");
}

#[test]
fn an_instance_gets_a_group_in_each_hierarchy_of_its_own() {
    let mount = Mount::new();
    let [memory, cpu, pids] = ["memory", "cpu", "pids"].map(|name| mount.group(name, ""));
    let own = "3:memory:/\n2:cpu:/\n1:pids:/\n";
    let groups = Cgroups::find_as(mount.0.path(), own).keep_usable("1-1.0", 1);
    assert!(groups.hold(&LIMITS));
    let group = groups.make("1-1.7").expect("made").expect("some");
    groups.limit(&group, &LIMITS).expect("set");
    for (hierarchy, file, value) in [
        (&memory, "memory.limit_in_bytes", "67108864"),
        (&memory, "memory.memsw.limit_in_bytes", "67108864"),
        (&cpu, "cpu.cfs_period_us", "100000"),
        (&cpu, "cpu.cfs_quota_us", "150000"),
        (&cpu, "cpu.shares", "204"),
        (&pids, "pids.max", "20"),
    ] {
        assert_eq!(
            read(&hierarchy.join("tangelo-1-1.7"), file),
            value,
            "{file}"
        );
    }
    assert_eq!(group.doors().expect("open").len(), 3);
    let only_memory = Limits {
        memory: Some(1 << 20),
        ..Limits::default()
    };
    let group = groups.make("1-1.8").expect("made").expect("some");
    groups.limit(&group, &only_memory).expect("set");
    assert_eq!(
        read(&memory.join("tangelo-1-1.8"), "memory.limit_in_bytes"),
        "1048576"
    );
    // Opened, since the one before had it, and not written to.
    assert_eq!(read(&cpu.join("tangelo-1-1.8"), "cpu.shares"), "");
}

#[test]
fn a_hierarchy_in_which_nothing_can_be_made_is_not_used() {
    let mount = Mount::new();
    let pids = mount.group("pids", "");
    mount.group("memory", "");
    // Its group is there already, and is no folder.
    fs::write(pids.join("tangelo-1-1.0"), "").expect("written");
    let groups = Cgroups::find_as(mount.0.path(), "3:memory:/\n1:pids:/\n");
    let enforcement = groups.keep_usable("1-1.0", 1).enforcement();
    assert_eq!(
        (enforcement.memory, enforcement.processes),
        (Some(Means::CgroupV1), None)
    );
}

#[test]
fn only_what_a_launcher_left_is_swept() {
    let mount = Mount::new();
    let own = mount.group("", "");
    for name in [
        "tangelo-10-99.1",
        "tangelo-10-99.2",
        "tangelo-10-991.1",
        "other",
    ] {
        fs::create_dir(own.join(name)).expect("made");
    }
    fs::write(own.join("tangelo-10-99.2/cgroup.procs"), "12\n13\n").expect("written");
    let folders = [own.clone(), own.join("missing")];
    assert_eq!(left_behind(&folders, "10-99"), [12, 13]);
    fs::remove_file(own.join("tangelo-10-99.2/cgroup.procs")).expect("removed");
    sweep(&folders, "10-99");
    let left = |name: &str| own.join(name).exists();
    assert!(!left("tangelo-10-99.1") && !left("tangelo-10-99.2"));
    assert!(left("tangelo-10-991.1") && left("other"));
}
