//! Which instances a launcher started, in a file that outlives it, and the sweep that reads it at the next start.
//!
//! Lines are appended as instances come and go and are never synced: the file is for a killed process, not for lost
//! power; after a boot nothing of it is alive. A process is told from a later one of the same id by its start time.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{cgroups, os};

const FORMAT: &str = "tangelo-instances-1";

/// The largest file that is read: far more than compaction lets it grow.
const MAX_BYTES: u64 = 16 << 20;

/// Lines beyond those of live instances before the file is written anew.
const SLACK: usize = 512;

/// Rounds of killing before the sweep gives up; each takes at most 100 ms.
const ROUNDS: usize = 100;

/// A process: its id, and when it started, in a unit of the system's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: i32,
    pub(super) start: u64,
}

impl Identity {
    pub(super) fn of(pid: i32) -> Option<Self> {
        os::start_time(pid).map(|start| Self { pid, start })
    }
}

/// What a record file says.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    boot: String,
    launcher: Identity,
    /// Folders in which it makes control groups.
    groups: Vec<PathBuf>,
    instances: BTreeMap<i32, u64>,
}

/// The record that a launcher writes.
pub(super) struct Record {
    path: PathBuf,
    file: File,
    content: Content,
    lines: usize,
}

impl Record {
    /// Begins an empty record at `path`, replacing what is there.
    pub(super) fn create(
        path: &Path,
        launcher: Identity,
        groups: Vec<PathBuf>,
    ) -> io::Result<Self> {
        let content = Content {
            boot: os::boot_id(),
            launcher,
            groups,
            instances: BTreeMap::new(),
        };
        let file = content.write(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            content,
            lines: 0,
        })
    }

    pub(super) fn add(&mut self, instance: Identity) -> io::Result<()> {
        self.content.instances.insert(instance.pid, instance.start);
        self.append(&format!("+{} {}\n", instance.pid, instance.start))
    }

    pub(super) fn remove(&mut self, pid: i32) -> io::Result<()> {
        self.content.instances.remove(&pid);
        self.append(&format!("-{pid}\n"))
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        self.lines += 1;
        if self.lines > self.content.instances.len() + SLACK {
            self.file = self.content.write(&self.path)?;
            self.lines = self.content.instances.len();
            return Ok(());
        }
        self.file.write_all(line.as_bytes())
    }
}

impl Content {
    fn write(&self, path: &Path) -> io::Result<File> {
        let mut text = format!(
            "{FORMAT} {} {} {}\n",
            self.boot, self.launcher.pid, self.launcher.start
        );
        for folder in &self.groups {
            text += &format!("@{}\n", folder.display());
        }
        for (pid, start) in &self.instances {
            text += &format!("+{pid} {start}\n");
        }
        let next = path.with_extension("next");
        std::fs::write(&next, text)?;
        std::fs::rename(&next, path)?;
        OpenOptions::new().append(true).open(path)
    }

    /// `None` when it is not a record: a launcher writes its first line whole or not at all.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let head: Vec<&str> = lines.next()?.split(' ').collect();
        let [FORMAT, boot, pid, start] = head[..] else {
            return None;
        };
        let launcher = Identity {
            pid: pid.parse().ok()?,
            start: start.parse().ok()?,
        };
        let (mut instances, mut groups) = (BTreeMap::new(), Vec::new());
        // A line cut short by a kill does not parse; the mark in the environment finds that instance.
        for line in lines {
            if let Some(pid) = line.strip_prefix('-') {
                pid.parse().ok().and_then(|pid: i32| instances.remove(&pid));
            } else if let Some(identity) = line.strip_prefix('+').and_then(parse_identity) {
                instances.insert(identity.pid, identity.start);
            } else if let Some(folder) = line.strip_prefix('@') {
                groups.push(PathBuf::from(folder));
            }
        }
        Some(Self {
            boot: boot.to_owned(),
            launcher,
            groups,
            instances,
        })
    }

    fn owns(&self, process: &os::Process) -> bool {
        if self.instances.get(&process.pid) == Some(&process.start) {
            return true;
        }
        // A session keeps its number reserved while it has members, so it is still the instance's, unless a new
        // process has that number.
        let in_session = self.instances.get(&process.session).is_some_and(|&start| {
            process.start >= start
                && os::start_time(process.session).is_none_or(|leader| leader == start)
        });
        in_session || os::mark_of(process.pid).is_some_and(|mark| self.launcher.made(&mark))
    }
}

impl Identity {
    /// The mark of this launcher's instance `id`.
    pub(super) fn mark(self, id: u64) -> String {
        format!("{}.{id}", self.stem())
    }

    /// What the group of its `number`th spare is known by: no instance's mark, and found by the same beginning.
    pub(super) fn mark_of_spare(self, number: u64) -> String {
        format!("{}.spare-{number}", self.stem())
    }

    /// The same of its `number`th fork.
    pub(super) fn mark_of_fork(self, number: u64) -> String {
        format!("{}.fork-{number}", self.stem())
    }

    /// The number of the instance that a mark names, when this launcher made the mark.
    pub(super) fn instance_of(self, mark: &str) -> Option<u64> {
        let (launcher, id) = mark.split_once('.')?;
        let id = id.parse().ok()?;
        (launcher == self.stem()).then_some(id)
    }

    /// What the marks of this launcher begin with.
    fn stem(self) -> String {
        format!("{}-{}", self.pid, self.start)
    }

    fn made(self, mark: &str) -> bool {
        self.instance_of(mark).is_some()
    }
}

fn parse_identity(text: &str) -> Option<Identity> {
    let (pid, start) = text.split_once(' ')?;
    Some(Identity {
        pid: pid.parse().ok()?,
        start: start.parse().ok()?,
    })
}

/// Kills what the launcher of an earlier server left alive, and waits until it is gone, so that its ports and files
/// are free. Call it before anything listens, and only while holding the data folder's lock: the launcher that the
/// record names is killed too. Returns how many processes were killed.
///
/// # Errors
/// When the record cannot be read or removed, or when something of it does not die within ten seconds.
pub fn sweep(record: &Path) -> io::Result<usize> {
    let Some(text) = read(record)? else {
        return Ok(0);
    };
    let mut killed = 0;
    if let Some(content) = Content::parse(&text).filter(|content| content.boot == os::boot_id()) {
        os::kill(content.launcher, Duration::from_secs(5));
        killed = kill_all(&content)?;
        cgroups::sweep(&content.groups, &content.launcher.stem());
    }
    std::fs::remove_file(record)?;
    Ok(killed)
}

fn kill_all(content: &Content) -> io::Result<usize> {
    let mut killed = 0;
    for _ in 0..ROUNDS {
        let grouped = cgroups::left_behind(&content.groups, &content.launcher.stem());
        let found: Vec<os::Process> = os::processes()
            .into_iter()
            .filter(|process| grouped.contains(&process.pid) || content.owns(process))
            .collect();
        if found.is_empty() {
            return Ok(killed);
        }
        for process in found {
            let identity = Identity {
                pid: process.pid,
                start: process.start,
            };
            killed += usize::from(os::kill(identity, Duration::from_millis(100)));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "processes of an earlier server do not end",
    ))
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAUNCHER: Identity = Identity { pid: 10, start: 99 };

    #[test]
    fn what_was_added_and_not_removed_is_read_back_also_after_compaction() {
        let folder = std::env::temp_dir().join(format!("tangelo-record-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("instances");
        let mut record = Record::create(&path, LAUNCHER, vec!["/a b".into()]).expect("written");
        for pid in 1..2000 {
            record.add(Identity { pid, start: 5 }).expect("written");
            if pid % 100 != 0 {
                record.remove(pid).expect("written");
            }
        }
        let text = read(&path).expect("readable").expect("there");
        assert!(text.lines().count() < 600, "{}", text.lines().count());
        let content = Content::parse(&text).expect("a record");
        assert_eq!(content, record.content);
        assert_eq!(content.instances.len(), 19);
        assert_eq!(content.groups, [PathBuf::from("/a b")]);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn what_is_cut_short_or_foreign_is_no_instance() {
        let text = format!("{FORMAT} b 10 99\n+7 5\n+8 6\n-8\n+9 ");
        let content = Content::parse(&text).expect("a record");
        assert_eq!(content.instances, BTreeMap::from([(7, 5)]));
        assert_eq!(Content::parse("something else"), None);
        assert_eq!(Content::parse(""), None);
    }

    #[test]
    fn marks_name_their_launcher_and_instance() {
        assert_eq!(LAUNCHER.instance_of(&LAUNCHER.mark(7)), Some(7));
        assert_eq!(LAUNCHER.instance_of("11-99.7"), None);
        assert_eq!(LAUNCHER.instance_of("10-99"), None);
    }

    #[test]
    fn a_record_of_another_boot_is_only_removed() {
        let folder = std::env::temp_dir().join(format!("tangelo-boot-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("instances");
        let me = Identity::of(i32::try_from(std::process::id()).expect("small")).expect("alive");
        let text = format!("{FORMAT} other-boot 1 1\n+{} {}\n", me.pid, me.start);
        std::fs::write(&path, text).expect("written");
        assert_eq!(sweep(&path).expect("swept"), 0);
        assert!(!path.exists());
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
