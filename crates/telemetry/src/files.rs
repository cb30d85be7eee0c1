//! The folder of `telemetry-<n>.db` files: one is written, the others are complete, and retention deletes the
//! oldest. A file that fails is left behind and a new one begun, so that damage costs one file at most.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use model::{ByteSize, Time};
use store::telemetry::{Block, File, FileError};

use crate::error::Error;

/// The folder.
pub(crate) struct Files {
    dir: PathBuf,
    limits: Limits,
    current: Option<Current>,
    /// Complete files, the oldest first.
    complete: Vec<Complete>,
    /// The number of the next file.
    next: u64,
}

/// When a file is full, and when it is old.
#[derive(Debug, Clone, Copy)]
struct Limits {
    retention: Duration,
    total: u64,
    file: u64,
    age: Duration,
}

struct Current {
    file: File,
    number: u64,
    began: Time,
    size: u64,
}

struct Complete {
    number: u64,
    last: Time,
    size: u64,
}

impl Files {
    /// Opens the folder; goes on with its newest file when that can be written.
    pub(crate) fn open(
        dir: PathBuf,
        retention: Duration,
        total: ByteSize,
        now: Time,
    ) -> Result<Self, Error> {
        let numbers = list(&dir).map_err(|source| Error::Folder {
            path: dir.clone(),
            source,
        })?;
        let mut files = Self {
            limits: Limits::of(retention, total.0),
            current: None,
            complete: Vec::new(),
            next: numbers.last().map_or(1, |n| n + 1),
            dir,
        };
        for number in numbers {
            files.find(number, now);
        }
        files.go_on(now);
        files.ensure(now)?;
        files.prune(now);
        Ok(files)
    }

    /// Notes a file of an earlier start. What cannot be read is kept until it is old: it may be a newer Tangelo's.
    fn find(&mut self, number: u64, now: Time) {
        let path = self.path(number);
        let last = File::read(&path).and_then(|file| file.last());
        if let Err(error) = &last {
            tracing::warn!(path = %path.display(), %error, "a telemetry file cannot be read");
        }
        let last = last.ok().flatten().unwrap_or(now);
        let size = size_of_file(&path);
        self.complete.push(Complete { number, last, size });
    }

    /// Appends to the newest file of an earlier start if it is neither full nor damaged.
    fn go_on(&mut self, now: Time) {
        let Some(newest) = self.complete.last() else {
            return;
        };
        let (number, last, size) = (newest.number, newest.last, newest.size);
        if size >= self.limits.file || now.since(last) >= self.limits.age {
            return;
        }
        if let Ok(file) = File::append_to(&self.path(number)) {
            self.complete.pop();
            self.current = Some(Current {
                file,
                number,
                began: last,
                size,
            });
        }
    }

    /// Appends blocks; afterwards closes the file if it is full and deletes what is too old or too much.
    pub(crate) fn write(&mut self, blocks: &[Block], now: Time) -> Result<(), FileError> {
        let current = self.ensure(now)?;
        let written = current.file.append(blocks);
        if written.is_ok() {
            current.size = current.file.size().unwrap_or(current.size);
        }
        self.turn(written.is_err(), now);
        self.prune(now);
        written
    }

    fn ensure(&mut self, now: Time) -> Result<&mut Current, FileError> {
        if self.current.is_none() {
            let number = self.next;
            let file = File::append_to(&self.path(number))?;
            self.next += 1;
            self.current = Some(Current {
                file,
                number,
                began: now,
                size: 0,
            });
        }
        Ok(self.current.as_mut().expect("made above when absent"))
    }

    fn turn(&mut self, failed: bool, now: Time) {
        let limits = self.limits;
        let full = |c: &mut Current| c.size >= limits.file || now.since(c.began) >= limits.age;
        let Some(done) = self.current.take_if(|current| failed || full(current)) else {
            return;
        };
        if let Err(error) = done.file.seal() {
            tracing::debug!(%error, "a telemetry file keeps its journal");
        }
        self.complete.push(Complete {
            number: done.number,
            last: now,
            size: done.size,
        });
    }

    /// Deletes complete files that are older than the retention, and the oldest while all are too large.
    pub(crate) fn prune(&mut self, now: Time) {
        let current = self.current.as_ref().map_or(0, |c| c.size);
        let mut total: u64 = current + self.complete.iter().map(|c| c.size).sum::<u64>();
        let limits = self.limits;
        let doomed: Vec<Complete> = self
            .complete
            .extract_if(.., |file| {
                let old = now.since(file.last) >= limits.retention;
                let gone = old || total > limits.total;
                total -= if gone { file.size } else { 0 };
                gone
            })
            .collect();
        for file in doomed {
            remove(&self.path(file.number));
        }
    }

    /// All files, the newest first.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let current = self.current.iter().map(|c| c.number);
        let complete = self.complete.iter().rev().map(|c| c.number);
        current.chain(complete).map(|n| self.path(n)).collect()
    }

    /// How many files, and how many bytes.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let current = self.current.as_ref().map_or(0, |c| c.size);
        let bytes = current + self.complete.iter().map(|c| c.size).sum::<u64>();
        let files = self.complete.len() + usize::from(self.current.is_some());
        (files as u64, bytes)
    }

    /// Moves the journal into the file: the platform stops.
    pub(crate) fn close(&mut self) {
        if let Some(current) = self.current.take() {
            let _ = current.file.seal();
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("telemetry-{number}.db"))
    }
}

impl Limits {
    /// About sixteen files, each of a size that is pleasant to delete.
    fn of(retention: Duration, total: u64) -> Self {
        Self {
            retention,
            total,
            file: (total / 16).clamp(256 << 10, 64 << 20),
            age: (retention / 8).clamp(Duration::from_secs(60), Duration::from_secs(86_400)),
        }
    }
}

/// The numbers of the files in `dir`, in order; makes the folder when it is not there.
fn list(dir: &Path) -> io::Result<Vec<u64>> {
    fs::create_dir_all(dir)?;
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| {
            let middle = name.strip_prefix("telemetry-")?.strip_suffix(".db")?;
            middle.parse().ok()
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn size_of_file(path: &Path) -> u64 {
    let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
    size(path) + size(&beside(path, "-wal"))
}

fn remove(path: &Path) {
    for path in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "an old telemetry file stays");
            }
            _ => {}
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use store::telemetry::BlockIndex;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: u64) -> Time {
        Time::from_millis(1_000_000_000) + HOUR * u32::try_from(hours).expect("small")
    }

    fn block(time: Time, bytes: usize) -> Block {
        Block {
            first: time,
            last: time,
            bytes: vec![0; bytes],
            index: BlockIndex::Logs(vec![1]),
        }
    }

    fn open(dir: &Path, total: u64, now: Time) -> Files {
        Files::open(dir.to_owned(), 8 * HOUR, ByteSize(total), now).expect("opens")
    }

    #[test]
    fn retention_deletes_whole_files() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut files = open(dir.path(), 1 << 30, at(0));
        for hour in 0..20 {
            files
                .write(&[block(at(hour), 10)], at(hour))
                .expect("writes");
        }
        let numbers = list(dir.path()).expect("lists");
        assert!(numbers.len() <= 10, "{numbers:?}");
        assert!(!numbers.contains(&1) && !files.paths().is_empty());
        assert_eq!(files.paths().len(), numbers.len());
        assert_eq!(
            fs::read_dir(dir.path())
                .expect("lists")
                .filter(|e| {
                    let name = e.as_ref().expect("entry").file_name();
                    name.to_string_lossy().starts_with("telemetry-1.")
                })
                .count(),
            0
        );
    }

    #[test]
    fn the_total_size_is_bounded() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut files = open(dir.path(), 4 << 20, at(0));
        for _ in 0..100 {
            files
                .write(&[block(at(0), 100 << 10)], at(0))
                .expect("writes");
            assert!(files.totals().1 <= (4 << 20) + (512 << 10));
        }
        assert!(files.totals().0 > 4);
    }

    #[test]
    fn a_restart_goes_on_with_the_newest_file_until_it_is_old() {
        let dir = tempfile::tempdir().expect("temp dir");
        open(dir.path(), 1 << 30, at(0))
            .write(&[block(at(0), 1)], at(0))
            .expect("writes");
        open(dir.path(), 1 << 30, at(0))
            .write(&[block(at(0), 1)], at(0))
            .expect("writes");
        assert_eq!(list(dir.path()).expect("lists"), [1]);
        let files = open(dir.path(), 1 << 30, at(2));
        assert_eq!(files.paths().len(), 2);
        assert_eq!(list(dir.path()).expect("lists"), [1, 2]);
    }

    #[test]
    fn a_damaged_file_is_gone_around() {
        let dir = tempfile::tempdir().expect("temp dir");
        fs::write(dir.path().join("telemetry-7.db"), vec![9; 10_000]).expect("writes");
        let mut files = open(dir.path(), 1 << 30, at(0));
        files
            .write(&[block(at(0), 1)], at(0))
            .expect("writes to a new one");
        assert_eq!(list(dir.path()).expect("lists"), [7, 8]);
    }
}
