//! Threads for work that nobody waits for: they have a lower claim to the processors than those of requests, and where they
//! have to wait for one, they rest between two pieces of work. The lower claim alone is not enough: a scheduler lets whoever
//! runs go on for some milliseconds, and a request wants its processor now.

use std::{cell::RefCell, fs::File, os::unix::fs::FileExt, time::Duration};

/// How much lower the claim is, as `nice` has it: a tenth of the weight of a thread of a request.
const NICE: i32 = 10;
/// How long a thread runs until it asks whether others wanted its processor meanwhile.
const LOOK: Duration = Duration::from_millis(1);
/// How long it rests for the time that it ran, where others wanted its processor for as long as it ran: then it takes a
/// fifth of one at most.
const REST: f64 = 4.0;
/// The longest rest: what the runtime has this thread do next waits with it.
const LONGEST: Duration = Duration::from_millis(5);
/// A shorter one is none: timers are not that exact.
const SHORTEST: Duration = Duration::from_micros(200);

thread_local! {
    static CLAIM: RefCell<Option<Claim>> = const { RefCell::new(None) };
}

/// What a thread had of the processors when it looked last.
struct Claim {
    /// Its `/proc/PID/task/TID/schedstat`: nanoseconds that it ran, and that it waited to run.
    file: File,
    ran: Duration,
    waited: Duration,
}

/// Makes this thread one of those. Where the system refuses or does not say how long threads wait, its claim stays what it
/// was, or it does not rest.
pub fn step_back() {
    // On Linux this is of the thread alone.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICE);
    let Ok(file) = File::open("/proc/thread-self/schedstat") else {
        return;
    };
    let claim = Claim {
        file,
        ran: Duration::ZERO,
        waited: Duration::ZERO,
    };
    CLAIM.replace(Some(claim));
}

/// To be called between two pieces of work, with no lock held: rests when others want the processor. Nothing on threads
/// that did not step back.
pub(crate) fn breathe() {
    let rest = CLAIM.with_borrow_mut(|claim| claim.as_mut().and_then(Claim::look));
    if let Some(rest) = rest {
        std::thread::sleep(rest);
    }
}

impl Claim {
    /// How long to rest, if at all.
    fn look(&mut self) -> Option<Duration> {
        let (ran, waited) = self.read()?;
        let (runs, waits) = (ran - self.ran, waited - self.waited);
        if runs < LOOK {
            return None;
        }
        (self.ran, self.waited) = (ran, waited);
        Some(rest(runs, waits)).filter(|rest| *rest >= SHORTEST)
    }

    fn read(&self) -> Option<(Duration, Duration)> {
        let mut text = [0; 64];
        let length = self.file.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..length]).ok()?;
        let mut fields = text.split_whitespace().map(|field| field.parse().ok());
        let mut next = || fields.next().flatten().map(Duration::from_nanos);
        Some((next()?, next()?))
    }
}

/// The rest of a thread that ran so long, and waited so long to run. One that hardly waits hardly rests: a server whose
/// requests take little of the machine leaves nothing of it unused.
fn rest(ran: Duration, waited: Duration) -> Duration {
    let contended = waited
        .div_duration_f64(ran.max(Duration::from_nanos(1)))
        .min(1.0);
    ran.mul_f64(REST * contended * contended).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_processor_rests_and_who_hardly_waits_does_not() {
        let rest = |ran, waited| rest(Duration::from_micros(ran), Duration::from_micros(waited));
        assert_eq!(rest(1000, 0), Duration::ZERO);
        assert_eq!(rest(0, 1000), Duration::ZERO);
        assert_eq!(rest(1000, 100), Duration::from_micros(40));
        assert_eq!(rest(1000, 1000), Duration::from_millis(4));
        assert_eq!(rest(1000, 50_000), Duration::from_millis(4));
        assert_eq!(rest(9000, 9000), LONGEST);
    }

    #[test]
    fn a_thread_that_stepped_back_knows_how_long_it_runs() {
        let stepped = std::thread::spawn(|| {
            step_back();
            CLAIM.with_borrow(|claim| claim.as_ref().and_then(Claim::read))
        });
        let read = stepped.join().expect("it does not panic");
        let kernel_says = std::path::Path::new("/proc/thread-self/schedstat").exists();
        assert_eq!(read.is_some(), kernel_says);
    }
}
