//! What blobs are written through. Two implementations: the disk, and the tests' layer which forgets what was not
//! fsynced when it is unplugged.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

/// The writes, renames and removals of the blob store. Nothing is durable before its sync: bytes before
/// [`Writing::sync`], names before [`Layer::sync_folder`].
pub trait Layer: Send + Sync {
    /// Makes a folder; one that is there already is fine.
    ///
    /// # Errors
    /// Those of the disk.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a new file for writing.
    ///
    /// # Errors
    /// Those of the disk; also when it is there already.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Writing>>;
    /// Gives a file another name, replacing what has it.
    ///
    /// # Errors
    /// Those of the disk.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// Those of the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// Those of the disk.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub trait Writing: Send {
    /// Appends.
    ///
    /// # Errors
    /// Those of the disk.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    ///
    /// # Errors
    /// Those of the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// The disk.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

impl Layer for Disk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Writing>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

impl Writing for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
