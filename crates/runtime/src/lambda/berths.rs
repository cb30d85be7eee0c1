//! Berths: what an instance has before it has a process, a temporary folder and a port for the Runtime API. Some wait, made
//! while nobody waited for them: where little goes on, a folder and a port take a quarter of a millisecond.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    sync::Arc,
};

use model::InstanceId;
use parking_lot::Mutex;

use super::start::scratch_folder;
use crate::pool::Context;

/// How many wait, once one was taken.
const WAITING: usize = 4;

/// An id, a folder of that name, which is empty, and a port, where nobody answers yet.
pub(crate) struct Berth {
    pub(crate) id: InstanceId,
    pub(crate) folder: PathBuf,
    /// It does not block.
    pub(crate) listener: TcpListener,
}

/// Those that wait. Their folders are removed with those of instances, when the next server starts.
#[derive(Clone, Default)]
pub struct Berths(Arc<Mutex<Vec<Berth>>>);

impl Berths {
    /// One that waits, or a new one.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn take(context: &Context) -> io::Result<Berth> {
        let waiting = context.berths.0.lock().pop();
        match waiting.filter(|berth| berth.folder.is_dir()) {
            Some(berth) => Ok(berth),
            None => make(context),
        }
    }

    /// Makes what is missing of those that should wait. Blocks.
    pub(crate) fn refill(context: &Context) {
        let waiting = &context.berths.0;
        while waiting.lock().len() < WAITING {
            match make(context) {
                Ok(berth) => waiting.lock().push(berth),
                // Whoever takes the next one is told why.
                Err(_) => return,
            }
        }
    }
}

fn make(context: &Context) -> io::Result<Berth> {
    let id = context.ids.instance(&context.clock);
    let folder = scratch_folder(&context.cache).join(id.to_string());
    fs::create_dir_all(&folder)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok(Berth {
        id,
        folder,
        listener,
    })
}
