//! The launcher: one small single-threaded process that starts, watches and kills instances.
//!
//! The server never forks its own large threaded self. It starts this process first (`tangelo __launcher`) and talks
//! to it over a socket pair; file descriptors come back over the socket. When the socket closes, for whatever reason,
//! the launcher kills all it started, descendants included. [`sweep`] does the same for a launcher that was itself
//! killed, from its record file and from the mark that every instance has in its environment.

mod cgroups;
mod child;
mod client;
mod command;
mod forks;
mod frame;
mod limits;
mod link;
#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "other.rs")]
pub(crate) mod os;
mod outgoing;
pub(crate) mod peer;
mod record;
mod rules;
mod serve;
mod spares;
mod spawn;
mod template;

pub use cgroups::MOUNT as CGROUPS;
pub use child::Child;
pub use client::Launcher;
pub use command::{Command, Error, Exit, Signal};
pub use limits::{Enforced, Enforcement, Limits, Means, Weight};
pub use peer::{Ends, Holder};
pub use record::sweep;
pub use serve::main;
pub use template::Template;

/// By which means a launcher would enforce limits where control groups are mounted at `mount`, as far as that shows
/// without trying.
#[must_use]
pub fn look(mount: &std::path::Path) -> Enforcement {
    rules::enforcement(&cgroups::Cgroups::find(mount).keep_writable())
}

/// Has the calling thread, and those that it starts, get a CPU soon when there is something to do for them, whatever
/// computes meanwhile; how much of it they get stays the same. To be called by the server when its launcher runs, and
/// before it has other threads. Linux 6.12 and later; elsewhere it changes nothing.
pub fn answer_soon() {
    spawn::take_turns(true);
}

/// The hidden argument under which the server's executable becomes the launcher.
pub const ARGUMENT: &str = "__launcher";

/// The variable that a launcher process carries, and nothing that it starts: whoever wants to start a launcher and
/// finds it is a program that should have become one.
const INSIDE: &str = "TANGELO_INSIDE_LAUNCHER";

/// The variable that every instance and its descendants carry: which launcher started it, and as which instance.
pub(crate) const MARK: &str = "TANGELO_LAUNCHER";
