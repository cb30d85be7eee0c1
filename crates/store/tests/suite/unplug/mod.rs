//! A disk that forgets, when it is unplugged, every write, rename and removal that was not fsynced; a SQLite VFS and a
//! layer of the blob store that write to it; and what must be there afterwards.

mod acknowledged;
pub(crate) mod disk;
mod full;
mod layer;
pub(crate) mod vfs;

pub(crate) use acknowledged::everything_survives;
pub(crate) use disk::Disk;
pub(crate) use layer::OnDisk;
