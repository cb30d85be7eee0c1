//! Huge pages: they save a busy server about a twentieth of its CPU, and cost an idle one 17 MiB that it does not use. So a
//! server begins without them, and has them from when its gateway works for the first time.

use std::time::Duration;

use model::Clock;

/// How often it is looked whether the server is busy.
const LOOK: Duration = Duration::from_millis(250);

/// It is when the gateway's threads together worked for this part of the time.
const BUSY: f64 = 0.25;

/// Does without huge pages for now; `false` where it was told to, or there are none, and that stays as it is. To be called
/// when the launcher runs: what a process does without, those that it starts do without.
#[cfg(target_os = "linux")]
pub(crate) fn begin_small() -> bool {
    use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};
    let offered = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    // Where nobody would find out that it is busy, it has them from the beginning.
    let may = platform::background::is_told()
        && offered.is_ok_and(|modes| !modes.contains("[never]"))
        && transparent_huge_pages_are_disabled().is_ok_and(|disabled| !disabled);
    may && disable_transparent_huge_pages(true).is_ok()
}

/// There are none.
#[cfg(not(target_os = "linux"))]
pub(crate) const fn begin_small() -> bool {
    false
}

/// Waits until the server is busy, and has huge pages from then on.
pub(crate) async fn grow(clock: Clock) {
    let mut before = platform::background::time_serving();
    loop {
        clock.sleep(LOOK).await;
        let now = platform::background::time_serving();
        if now.saturating_sub(before) > LOOK.mul_f64(BUSY) {
            break;
        }
        before = now;
    }
    #[cfg(target_os = "linux")]
    if rustix::thread::disable_transparent_huge_pages(false).is_ok() {
        // What it has now, and what came to that until it had all that its work takes.
        for settles in [Duration::ZERO, SETTLES] {
            clock.sleep(settles).await;
            let joined = tokio::task::spawn_blocking(join_all).await;
            tracing::debug!(?joined, "busy: huge pages from here on");
        }
    }
}

/// After so long a server that became busy has about the memory that it works with.
#[cfg(target_os = "linux")]
const SETTLES: Duration = Duration::from_secs(2);

/// Joins the pages that there are already: the kernel would come to them by itself, some time. Says how many huge ones there
/// are of it.
#[cfg(target_os = "linux")]
fn join_all() -> std::io::Result<usize> {
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    let areas = areas(&maps);
    // One by one: where nothing is, which is nearly everywhere, the kernel would not go on to the next.
    let places = areas
        .iter()
        .flat_map(|(start, end)| (*start..*end).step_by(HUGE));
    Ok(places.filter(|start| join(*start)).count())
}

/// Bytes of a huge page on x86-64; where they are of another size nothing is joined.
#[cfg(target_os = "linux")]
const HUGE: usize = 2 << 20;

/// Where memory is that huge pages were wanted for (`hg` among its flags; proc_pid_smaps(5)).
#[cfg(target_os = "linux")]
fn areas(smaps: &str) -> Vec<(usize, usize)> {
    let mut areas = Vec::new();
    let mut area = None;
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            areas.extend(area.filter(|_| flags.split(' ').any(|flag| flag == "hg")));
        } else if let Some((range, _)) = line.split_once(' ')
            && let Some((start, end)) = range.split_once('-')
        {
            let number = |text| usize::from_str_radix(text, 16).ok();
            area = number(start).zip(number(end));
        }
    }
    areas
}

/// Joins what pages there are from `start` on into a huge one, where there are any (Linux 6.1 and later).
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "there is no safe way to say madvise(2)")]
fn join(start: usize) -> bool {
    // SAFETY: what the memory holds stays the same; where there is none any more, the call fails.
    unsafe { libc::madvise(start as *mut libc::c_void, HUGE, COLLAPSE) == 0 }
}

/// `MADV_COLLAPSE`.
#[cfg(target_os = "linux")]
const COLLAPSE: libc::c_int = 25;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_huge_pages_were_wanted_for_is_found() {
        let smaps = "\
20000000000-20040000000 rw-p 00000000 00:00 0
Size:            1048576 kB
AnonHugePages:     20480 kB
VmFlags: rd wr mr mw me ac hg
5610d8f2a000-5610dc303000 r-xp 00dae000 fe:00 6053981                    /usr/bin/a hg
Rss:               19008 kB
VmFlags: rd ex mr mw me
";
        assert_eq!(areas(smaps), [(0x200_0000_0000, 0x200_4000_0000)]);
        assert_eq!(areas("nonsense - here\nVmFlags: hg"), []);
    }

    #[tokio::test]
    async fn pages_are_joined_and_keep_what_they_hold() {
        let held = vec![7_u8; 8 << 20];
        assert!(join_all().is_ok());
        assert!(held.iter().all(|byte| *byte == 7));
    }
}
