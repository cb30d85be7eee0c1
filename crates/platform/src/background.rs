//! Threads for work that nobody waits for: they have a lower claim to the processors than those of requests, and where they
//! have to wait for one, they rest between two pieces of work. The lower claim alone is not enough: a scheduler lets whoever
//! runs go on for some milliseconds, and a request wants its processor now.

use std::{cell::RefCell, fs::File, os::unix::fs::FileExt, time::Duration};

/// How much lower the claim is, as `nice` has it: a tenth of the weight of a thread of a request.
const NICE: i32 = 10;
/// How long a thread runs until it asks whether others wanted its processor meanwhile.
const LOOK: Duration = Duration::from_millis(1);
/// Others wanted it when this thread waited to run for more than this part of the time that it ran.
const CONTENDED: f64 = 0.15;
/// The most that a thread rests for the time that it ran: it takes a fifth of a processor then.
const MOST: f64 = 4.0;
/// How much more it rests each time that it finds others waiting, and how much less when it finds none: it comes to rest
/// where it hardly keeps others waiting, so that a server with few requests leaves nothing of the machine unused.
const MORE: f64 = 0.5;
const LESS: f64 = 0.25;
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
    /// How long it rests for the time that it ran.
    rests: f64,
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
        rests: 0.0,
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
        self.rests = rests(self.rests, runs, waits);
        let rest = runs.mul_f64(self.rests).min(LONGEST);
        (rest >= SHORTEST).then_some(rest)
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

/// How long a thread rests for the time that it runs, after it ran so long and waited so long to run.
fn rests(before: f64, ran: Duration, waited: Duration) -> f64 {
    let after = match waited > ran.mul_f64(CONTENDED) {
        true => before + MORE,
        false => before - LESS,
    };
    after.clamp(0.0, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_others_waiting_rests_longer_and_who_finds_none_works_on() {
        let [ran, long, short] = [1000, 400, 100].map(Duration::from_micros);
        let after =
            |waits: &[Duration]| waits.iter().fold(0.0, |at, waited| rests(at, ran, *waited));
        assert!((after(&[long; 2]) - 1.0).abs() < f64::EPSILON);
        assert!((after(&[long; 100]) - MOST).abs() < f64::EPSILON);
        assert!((after(&[long, long, short]) - 0.75).abs() < f64::EPSILON);
        assert!(after(&[long, short, short, short]).abs() < f64::EPSILON);
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
