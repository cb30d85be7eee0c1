//! Resident memory of a process, from `/proc`, in MiB.

use std::fs;

use anyhow::Context;

/// What is resident now.
pub(super) fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    line(pid, "VmRSS:")
}

/// The most that ever was.
pub(super) fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    line(pid, "VmHWM:")
}

fn line(pid: u32, name: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib: f64 = line
        .and_then(|rest| rest.split_whitespace().next())
        .context("the system says how much is resident")?
        .parse()?;
    Ok(kib / 1024.0)
}
