//! The layer of the blob store that writes to a disk that can be unplugged.

use std::{io, path::Path, sync::Arc};

use store::blobs::files::{Disk as Real, Layer, Writing};

use super::disk::{Disk, FileNumber};

/// Writes really, and tells the disk.
pub(crate) struct OnDisk(pub(crate) Arc<Disk>);

struct File {
    real: Box<dyn Writing>,
    number: FileNumber,
    disk: Arc<Disk>,
}

impl Layer for OnDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.0.power()?;
        let new = !path.is_dir();
        Real.create_folder(path)?;
        if new {
            self.0.folder(path);
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Writing>> {
        self.0.power()?;
        Ok(Box::new(File {
            real: Real.create(path)?,
            number: self.0.file(path, false),
            disk: Arc::clone(&self.0),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.power()?;
        Real.rename(from, to)?;
        self.0.rename(from, to);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.0.power()?;
        Real.sync_folder(path)?;
        self.0.sync_folder(path);
        self.0.power()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.power()?;
        Real.remove(path)?;
        self.0.remove(path);
        Ok(())
    }
}

impl Writing for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.power()?;
        self.real.write(bytes)?;
        self.disk.append(self.number, bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.power()?;
        self.real.sync()?;
        self.disk.sync(self.number);
        // A sync during which the power went was not acknowledged.
        self.disk.power()
    }
}
