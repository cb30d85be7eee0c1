//! CPU seconds of a process and all that it started, from `/proc`: user and system time, and what was left by
//! children that ended and were waited for.

use std::{collections::BTreeMap, fs};

use anyhow::Context;

/// Linux counts in hundredths of a second in `/proc`, whatever the kernel's own tick is.
const TICKS: f64 = 100.0;

struct Stat {
    parent: u32,
    ticks: u64,
}

/// CPU seconds so far of `root` and its descendants.
///
/// # Errors
/// When `root` is gone, since then its time is too.
pub(super) fn seconds(root: u32) -> anyhow::Result<f64> {
    let all = processes();
    let own = all
        .get(&root)
        .with_context(|| format!("process {root} is gone"))?;
    let mut ticks = own.ticks;
    let mut family = vec![root];
    while let Some(parent) = family.pop() {
        for (pid, stat) in all.iter().filter(|(_, stat)| stat.parent == parent) {
            ticks += stat.ticks;
            family.push(*pid);
        }
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "ticks of a benchmark are far below 2^53"
    )]
    Ok(ticks as f64 / TICKS)
}

/// A child of `parent` that runs a program of this name.
pub(super) fn child_named(parent: u32, name: &str) -> Option<u32> {
    let is_it = |pid: &u32| {
        let said = fs::read_to_string(format!("/proc/{pid}/comm"));
        said.is_ok_and(|said| said.trim_end() == name)
    };
    let all = processes();
    let mut children = all.iter().filter(|(_, stat)| stat.parent == parent);
    children.find_map(|(pid, _)| is_it(pid).then_some(*pid))
}

fn processes() -> BTreeMap<u32, Stat> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((
                pid,
                parse(&fs::read_to_string(entry.path().join("stat")).ok()?)?,
            ))
        })
        .collect()
}

/// proc(5): after the name in parentheses, field 4 is the parent, 14 to 17 are the times.
fn parse(stat: &str) -> Option<Stat> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: number(4)?.try_into().ok()?,
        ticks: number(14)? + number(15)? + number(16)? + number(17)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_may_hold_anything() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 5";
        let stat = parse(text).expect("a line of /proc");
        assert_eq!((stat.parent, stat.ticks), (1, 100));
    }
}
