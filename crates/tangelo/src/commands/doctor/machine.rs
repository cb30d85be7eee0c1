//! The machine below the server: its data folder, disk, ports, kernel, limits and clock.

use std::{
    fs::{File, TryLockError},
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Result;
use model::{ByteSize, Clock, Time};
use runtime::launcher::{self, CGROUPS, Means};
use rustix::{
    fs::Access,
    process::{PidfdFlags, Resource},
};

use super::{Finding, State, engine};
use crate::{client, config::Config};

/// Free disk below which it is said.
const LITTLE_DISK: ByteSize = ByteSize::mib(1024);
/// Open files below which it is said: a connection through the gateway takes two.
const FEW_FILES: u64 = 8192;
/// Bytes of a Unix socket's path, on every system.
const LONGEST_SOCKET: usize = 100;
/// How far the clock may be behind the newest thing that it has seen.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

pub(super) fn look(data: &Path, config: &Result<Config>) -> Vec<Finding> {
    let mut findings = vec![settings(config), folder(data), socket(data), disk(data)];
    findings.push(file_system(data));
    if let Ok(config) = config {
        findings.extend(ports(data, config));
    }
    findings.extend([
        kernel(),
        address_space(),
        open_files(),
        limits(
            config
                .as_ref()
                .map_or_else(|_| Path::new(CGROUPS), |c| &c.machine.cgroups),
        ),
        clock(data),
    ]);
    if let Ok(config) = config {
        findings.push(engine::look(data, &config.machine.containers));
    }
    findings
}

fn settings(config: &Result<Config>) -> Finding {
    let (what, without) = ("settings", "`tangelo serve` and `tangelo up`");
    match config {
        Ok(_) => Finding::good(what, "can be read", without),
        Err(error) => Finding::missing(
            what,
            format!("{error:#}"),
            without,
            "mend the flag, variable or file that is named",
        )
        .broken(),
    }
}

/// The folder itself, or what is there of the way to it.
fn there(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = path.ancestors().find(|folder| folder.exists());
    found.unwrap_or_else(|| Path::new("/")).to_owned()
}

fn folder(data: &Path) -> Finding {
    let (what, without) = ("data folder", "everything: state, code and logs live there");
    let place = there(data);
    let wrong = |found: String| {
        Finding::missing(
            what,
            found,
            without,
            "name a folder that this user may write with --data or TANGELO_DATA",
        )
        .broken()
    };
    if !place.is_dir() {
        return wrong(format!("{} is no folder", place.display()));
    }
    if let Err(error) = rustix::fs::access(&place, Access::WRITE_OK | Access::EXEC_OK) {
        return wrong(format!("{}: {error}", place.display()));
    }
    let state = match (data.is_dir(), is_served(data)) {
        (_, true) => "a server runs on it",
        (true, false) => "writable",
        (false, false) => "not there yet; the first start makes it",
    };
    Finding::good(what, format!("{}: {state}", data.display()), without)
}

/// Whether a server holds the folder.
pub(super) fn is_served(data: &Path) -> bool {
    let lock = File::options().write(true).open(data.join("lock"));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn socket(data: &Path) -> Finding {
    let (what, without) = ("control socket", "the command line against this server");
    let path = client::socket(data);
    let length = path.as_os_str().len();
    let found = format!("{length} bytes of path");
    if length <= LONGEST_SOCKET {
        return Finding::good(what, found, without);
    }
    let todo = "choose a data folder with a shorter path";
    Finding::missing(what, found, without, todo).broken()
}

fn disk(data: &Path) -> Finding {
    let (what, without) = (
        "disk space",
        "publishing and deploying: a full disk refuses both",
    );
    let place = there(data);
    match rustix::fs::statvfs(&place) {
        Err(error) => Finding::missing(what, error.to_string(), without, "look at the disk"),
        Ok(disk) => {
            let free = ByteSize(disk.f_bavail.saturating_mul(disk.f_frsize));
            let found = format!("{} MiB free at {}", free.0 >> 20, place.display());
            if free.0 >= LITTLE_DISK.0 {
                Finding::good(what, found, without)
            } else {
                let todo = "free some space, or set `telemetry_bytes` and `retention` lower";
                Finding::missing(what, found, without, todo)
            }
        }
    }
}

/// SQLite's write-ahead log needs memory that processes share, and locks that hold: network file systems have neither.
#[cfg(target_os = "linux")]
fn file_system(data: &Path) -> Finding {
    const REMOTE: [(u32, &str); 5] = [
        (0x6969, "NFS"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x00c3_6400, "Ceph"),
        (0x0102_1997, "9P"),
    ];
    let (what, without) = (
        "file system",
        "a database that survives: the lock and the log of SQLite need a local disk",
    );
    let kind = rustix::fs::statfs(there(data)).map(|found| found.f_type);
    // The numbers are 32 bits wide, whatever the system's type for them is.
    let magic = kind.map_or(0, |kind| (kind & 0xffff_ffff) as u32);
    match REMOTE.iter().find(|(number, _)| *number == magic) {
        Some((_, name)) => {
            let todo = "choose a data folder on a local disk";
            Finding::missing(what, *name, without, todo)
        }
        None => Finding::good(what, "local", without),
    }
}

#[cfg(not(target_os = "linux"))]
fn file_system(_data: &Path) -> Finding {
    Finding::good("file system", "not looked at on this system", "")
}

fn ports(data: &Path, config: &Config) -> Vec<Finding> {
    let served = is_served(data);
    let doors = [
        ("gateway port", config.gateway, "--gateway"),
        ("control port", config.control, "--control"),
        ("aws port", config.aws, "--aws"),
        ("mesh port", config.mesh, "--mesh"),
        ("otlp port", config.otlp_in, "--otlp-in"),
    ];
    doors
        .map(|(what, address, flag)| port(what, address, flag, served))
        .into()
}

fn port(what: &'static str, address: SocketAddr, flag: &str, served: bool) -> Finding {
    let without = "`tangelo serve` and `tangelo up`: every port must be free";
    match TcpListener::bind(address) {
        Ok(_) if address.port() == 0 => Finding::good(what, "any free one", without),
        Ok(_) => Finding::good(what, format!("{address} is free"), without),
        Err(error) if served && error.kind() == io::ErrorKind::AddrInUse => Finding::good(
            what,
            format!("{address}: in use, and a server runs here"),
            without,
        ),
        Err(error) => Finding::missing(
            what,
            format!("{address}: {error}"),
            without,
            format!("end what listens there, or choose another with {flag}"),
        )
        .broken(),
    }
}

#[cfg(target_os = "linux")]
fn kernel() -> Finding {
    let (what, without) = (
        "kernel",
        "ending what a killed server left behind without hitting another process",
    );
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let me = rustix::process::getpid();
    let lacks = [
        ("/proc", Path::new("/proc/self/stat").exists()),
        (
            "boot id",
            Path::new("/proc/sys/kernel/random/boot_id").exists(),
        ),
        (
            "pidfd",
            rustix::process::pidfd_open(me, PidfdFlags::empty()).is_ok(),
        ),
    ];
    let lacks: Vec<&str> = lacks.iter().filter(|l| !l.1).map(|l| l.0).collect();
    if lacks.is_empty() {
        return Finding::good(what, format!("Linux {release}"), without);
    }
    let found = format!("Linux {release} without {}", lacks.join(", "));
    let todo = "use Linux 5.3 or newer with /proc mounted";
    Finding::missing(what, found, without, todo)
}

#[cfg(not(target_os = "linux"))]
fn kernel() -> Finding {
    let found = "not Linux: for development; workloads are not isolated";
    Finding::good("kernel", found, "isolation of workloads")
}

/// Wasm memories are reserved, not used: gigabytes of addresses for each.
fn address_space() -> Finding {
    let (what, without) = (
        "address space",
        "`run: {wasm: …}`: memories are reserved as addresses",
    );
    let limit = rustix::process::getrlimit(Resource::As).current;
    let strict = std::fs::read_to_string("/proc/sys/vm/overcommit_memory");
    if let Some(limit) = limit {
        let found = format!("limited to {} MiB", limit >> 20);
        return Finding::missing(what, found, without, "lift the limit (ulimit -v unlimited)");
    }
    if strict.is_ok_and(|mode| mode.trim() == "2") {
        let found = "the kernel counts reserved memory as used";
        let todo = "set vm.overcommit_memory to 0 or 1";
        return Finding::missing(what, found, without, todo);
    }
    Finding::good(what, "unlimited", without)
}

fn open_files() -> Finding {
    let (what, without) = (
        "open files",
        "many connections at a time: each through the gateway takes two",
    );
    match rustix::process::getrlimit(Resource::Nofile).maximum {
        None => Finding::good(what, "unlimited", without),
        Some(most) if most >= FEW_FILES => Finding::good(what, format!("{most}"), without),
        Some(most) => Finding::missing(
            what,
            format!("at most {most}"),
            without,
            "raise the hard limit (ulimit -Hn, or LimitNOFILE= of the service)",
        ),
    }
}

/// What instances could be held to, as far as that shows without trying.
fn limits(mount: &Path) -> Finding {
    let (what, without) = (
        "limits",
        "`memory` and `limits` of handlers and processes, for all processes of an instance together",
    );
    let by = launcher::look(mount);
    let all = [
        ("memory", by.memory),
        ("cpu", by.cpu),
        ("processes", by.processes),
    ];
    let said = all.map(|(what, by)| match by {
        Some(by) => format!("{what} by {by}"),
        None => format!("{what} not limited"),
    });
    let found = said.join(", ");
    let groups = |by| matches!(by, Some(Means::CgroupV1 | Means::CgroupV2));
    if all.iter().all(|(_, by)| groups(*by)) {
        return Finding::good(what, found, without);
    }
    Finding {
        state: State::Note,
        todo: "give the server control groups of its own (Delegate=yes in its unit of systemd)"
            .to_owned(),
        ..Finding::good(what, found, without)
    }
}

/// Against the newest thing that is known to have been: this program, and what the data folder was last written.
fn clock(data: &Path) -> Finding {
    let (what, without) = (
        "clock",
        "certificates, tokens with an expiry, retention and the order of traces",
    );
    let now = Clock::system().now();
    let changed = |path: PathBuf| {
        let modified = std::fs::metadata(path)
            .and_then(|file| file.modified())
            .ok()?;
        let since = modified.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok().map(Time::from_millis)
    };
    let seen = [std::env::current_exe().ok(), Some(data.join("state.db"))];
    let newest = seen.into_iter().flatten().filter_map(changed).max();
    match newest {
        Some(newest) if now + CLOCK_SLACK < newest => Finding::missing(
            what,
            format!(
                "{}, but files here were written at {}",
                now.rfc3339(),
                newest.rfc3339()
            ),
            without,
            "set the clock (timedatectl set-ntp true)",
        ),
        _ => Finding::good(what, now.rfc3339(), without),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_below_a_file_is_no_data_folder_and_one_that_is_not_there_yet_is() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let file = place.path().join("file");
        std::fs::write(&file, "").expect("written");
        assert_eq!(folder(&file.join("data")).state, State::Broken);
        assert_eq!(folder(&place.path().join("a/b")).state, State::Ok);
        assert!(!place.path().join("a").exists(), "nothing is made");
    }

    #[test]
    fn a_taken_port_is_broken_unless_our_own_server_has_it() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("is bound");
        let finding = port("gateway port", address, "--gateway", false);
        assert_eq!(finding.state, State::Broken);
        assert!(finding.todo.contains("--gateway"), "{finding:?}");
        assert_eq!(
            port("gateway port", address, "--gateway", true).state,
            State::Ok
        );
        drop(taken);
        assert_eq!(
            port("gateway port", address, "--gateway", false).state,
            State::Ok
        );
    }

    #[test]
    fn a_clock_behind_what_was_written_is_said() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let file = File::create(data.path().join("state.db")).expect("made");
        assert_eq!(clock(data.path()).state, State::Ok);
        let later = UNIX_EPOCH + Duration::from_secs(40_000_000_000);
        file.set_modified(later).expect("set");
        assert_eq!(clock(data.path()).state, State::Missing);
    }

    #[test]
    fn without_control_groups_limits_are_no_reason_to_say_ok() {
        let empty = tempfile::tempdir().expect("a temporary folder");
        let finding = limits(empty.path());
        assert_eq!(finding.state, State::Note);
        let cpu = if cfg!(target_os = "linux") {
            "cpu by affinity"
        } else {
            "cpu not limited"
        };
        assert!(finding.found.contains(cpu), "{finding:?}");
        assert!(!finding.todo.is_empty());
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_said() {
        let long = PathBuf::from("/tmp").join("x".repeat(LONGEST_SOCKET));
        assert_eq!(socket(&long).state, State::Broken);
        assert_eq!(socket(Path::new("/tmp/data")).state, State::Ok);
    }
}
