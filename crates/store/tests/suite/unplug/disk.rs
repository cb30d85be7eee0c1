//! What of a folder is durable: bytes that were fsynced, names whose folder was. Real files hold what a process sees;
//! this holds what is left when the power goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

/// A disk.
pub(crate) struct Disk(Mutex<State>);

#[derive(Default)]
struct State {
    unplugged: bool,
    full: bool,
    files: Vec<Content>,
    /// Names as a process sees them.
    names: BTreeMap<PathBuf, FileNumber>,
    /// Names that survive.
    durable: BTreeMap<PathBuf, FileNumber>,
    folders: BTreeSet<PathBuf>,
    durable_folders: BTreeSet<PathBuf>,
}

/// Which file, whatever its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileNumber(usize);

#[derive(Default)]
struct Content {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Content {
    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Truncate(size) => self.durable.resize(size, 0),
                Change::Write(at, bytes) => {
                    let end = at + bytes.len();
                    if self.durable.len() < end {
                        self.durable.resize(end, 0);
                    }
                    self.durable[at..end].copy_from_slice(&bytes);
                }
            }
        }
    }
}

impl Disk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// From now on every change fails, and nothing more becomes durable.
    pub(crate) fn unplug(&self) {
        self.0.lock().unplugged = true;
    }

    /// Whether there is no room for what is written to SQLite's files.
    pub(crate) fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.lock().full
    }

    /// Fails when unplugged.
    pub(crate) fn power(&self) -> io::Result<()> {
        if self.0.lock().unplugged {
            return Err(io::Error::other("the disk is unplugged"));
        }
        Ok(())
    }

    /// The file of this name; one that was there before the disk knew it is durable as it is.
    pub(crate) fn file(&self, path: &Path, existed: bool) -> FileNumber {
        let mut state = self.0.lock();
        if let Some(number) = state.names.get(path) {
            return *number;
        }
        let number = FileNumber(state.files.len());
        let durable = if existed {
            std::fs::read(path).expect("is there")
        } else {
            Vec::new()
        };
        state.files.push(Content {
            durable,
            pending: Vec::new(),
        });
        state.names.insert(path.to_owned(), number);
        if existed {
            state.durable.insert(path.to_owned(), number);
        }
        number
    }

    pub(crate) fn write(&self, file: FileNumber, at: usize, bytes: &[u8]) {
        let change = Change::Write(at, bytes.to_vec());
        self.0.lock().files[file.0].pending.push(change);
    }

    pub(crate) fn append(&self, file: FileNumber, bytes: &[u8]) {
        let mut state = self.0.lock();
        let content = &mut state.files[file.0];
        let end = |change: &Change| match change {
            Change::Write(at, bytes) => at + bytes.len(),
            Change::Truncate(size) => *size,
        };
        let at = content.pending.last().map_or(content.durable.len(), end);
        content.pending.push(Change::Write(at, bytes.to_vec()));
    }

    pub(crate) fn truncate(&self, file: FileNumber, size: usize) {
        self.0.lock().files[file.0]
            .pending
            .push(Change::Truncate(size));
    }

    /// The bytes of a file are durable.
    pub(crate) fn sync(&self, file: FileNumber) {
        let mut state = self.0.lock();
        if !state.unplugged {
            state.files[file.0].sync();
        }
    }

    /// The names in a folder are durable.
    pub(crate) fn sync_folder(&self, folder: &Path) {
        let mut state = self.0.lock();
        if state.unplugged {
            return;
        }
        let inside = |path: &Path| path.parent() == Some(folder);
        let State {
            names,
            durable,
            folders,
            durable_folders,
            ..
        } = &mut *state;
        durable.retain(|path, _| !inside(path));
        let now = names.iter().filter(|(path, _)| inside(path));
        durable.extend(now.map(|(path, number)| (path.clone(), *number)));
        let now = folders.iter().filter(|path| inside(path));
        durable_folders.extend(now.cloned());
    }

    pub(crate) fn folder(&self, path: &Path) {
        self.0.lock().folders.insert(path.to_owned());
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) {
        let mut state = self.0.lock();
        if let Some(number) = state.names.remove(from) {
            state.names.insert(to.to_owned(), number);
        }
    }

    pub(crate) fn remove(&self, path: &Path) {
        self.0.lock().names.remove(path);
    }

    /// Makes the real folder what is left of it. Only after everything that had it open is closed.
    pub(crate) fn restore(&self) {
        let state = self.0.lock();
        assert!(state.unplugged, "the power is still on");
        for path in state.names.keys() {
            remove_if_there(path);
        }
        for folder in state.folders.difference(&state.durable_folders) {
            std::fs::remove_dir_all(folder).expect("was made");
        }
        for (path, number) in &state.durable {
            let whole = path.parent().is_some_and(Path::is_dir);
            if whole {
                std::fs::write(path, &state.files[number.0].durable).expect("writes");
            }
        }
    }
}

fn remove_if_there(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            panic!("{}: {error}", path.display())
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_synced_is_left() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        let disk = Disk::new();
        for name in ["synced", "unnamed", "unsynced", "moved"] {
            std::fs::write(path(name), "new").expect("writes");
            let file = disk.file(&path(name), false);
            disk.write(file, 0, b"old");
            if name != "unsynced" {
                disk.sync(file);
            }
            if name != "unnamed" {
                disk.sync_folder(dir.path());
            }
            disk.write(file, 0, b"new");
        }
        disk.remove(&path("unnamed"));
        disk.sync_folder(dir.path());
        std::fs::rename(path("moved"), path("there")).expect("renames");
        disk.rename(&path("moved"), &path("there"));
        disk.unplug();
        disk.sync_folder(dir.path());
        assert!(disk.power().is_err());
        disk.restore();
        let read = |name: &str| std::fs::read_to_string(path(name)).ok();
        assert_eq!(read("synced").as_deref(), Some("old"));
        assert_eq!(read("unsynced").as_deref(), Some(""));
        assert_eq!(
            (read("moved").as_deref(), read("there")),
            (Some("old"), None)
        );
    }
}
