//! Threads for work that nobody waits for: they have a lower claim to the processors than those of requests, and where these
//! have to wait for one, they rest between two pieces of work. The lower claim alone is not enough: a scheduler lets whoever
//! runs go on for some milliseconds, and a request wants its processor now.

use std::{
    cell::RefCell,
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use model::Clock;
use parking_lot::Mutex;

/// How much lower the claim is, as `nice` has it: a tenth of the weight of a thread of a request.
const NICE: i32 = 10;
/// How long a thread runs until it asks whether requests had to wait meanwhile, and how often that is found out, for each of
/// their threads.
const LOOK: Duration = Duration::from_millis(1);
/// They had to when their threads waited to run for more than this part of the time.
const CONTENDED: f64 = 0.15;
/// The most that a thread rests for the time that it ran: it takes a fifth of a processor then.
const MOST: f64 = 4.0;
/// How much more all rest each time that it is found that requests had to wait, and how much less when not: it comes to
/// where requests hardly wait, so that a server with few of them leaves nothing of the machine unused.
const MORE: f64 = 0.5;
const LESS: f64 = 0.25;
/// The longest rest: what the runtime has this thread do next waits with it.
const LONGEST: Duration = Duration::from_millis(5);
/// A shorter one is none: timers are not that exact.
const SHORTEST: Duration = Duration::from_micros(200);

/// Nanoseconds that the calling thread ran and that it waited to run, on Linux (`Documentation/scheduler/sched-stats.rst`).
const SCHEDSTAT: &str = "/proc/thread-self/schedstat";

/// The threads of requests of this process.
static REQUESTS: Mutex<Requests> = Mutex::new(Requests::new());

thread_local! {
    static CLAIM: RefCell<Option<Claim>> = const { RefCell::new(None) };
}

/// What a thread had of the processors when it was looked last.
struct Claim {
    /// Its `/proc/PID/task/TID/schedstat`: nanoseconds that it ran, and that it waited to run.
    file: File,
    ran: Duration,
    waited: Duration,
}

/// Threads that others must not keep waiting, and how much others rest for that.
struct Requests {
    threads: Vec<Claim>,
    /// When it was looked last.
    at: Option<Instant>,
    /// For the time that they run.
    rests: f64,
}

/// Makes this thread one of the background. Where the system refuses, its claim stays what it was; where it does not say how
/// long threads run, it does not rest.
pub fn step_back() {
    // On Linux this is of the thread alone.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICE);
    CLAIM.replace(Claim::of_this_thread());
}

/// Makes this thread, to its end, one of those that serve requests.
pub fn step_forward() {
    REQUESTS.lock().threads.extend(Claim::of_this_thread());
}

/// Whether the system says how long threads run.
#[must_use]
pub fn is_told() -> bool {
    Path::new(SCHEDSTAT).exists()
}

/// How long the threads that serve requests ran, all together; zero where the system does not say.
#[must_use]
pub fn time_serving() -> Duration {
    let requests = REQUESTS.lock();
    let ran = requests.threads.iter().filter_map(Claim::read);
    ran.map(|(ran, _)| ran).sum()
}

/// To be called between two pieces of work, with no lock held: rests when requests want the processor. Nothing on threads
/// that did not step back.
pub(crate) fn breathe() {
    let ran = CLAIM.with_borrow_mut(|claim| claim.as_mut().and_then(Claim::ran_long));
    let Some(ran) = ran else {
        return;
    };
    let rests = REQUESTS.lock().rests(Clock::system().monotonic());
    let rest = ran.mul_f64(rests).min(LONGEST);
    if rest >= SHORTEST {
        std::thread::sleep(rest);
    }
}

impl Claim {
    fn of_this_thread() -> Option<Self> {
        let mut claim = Self {
            file: File::open(SCHEDSTAT).ok()?,
            ran: Duration::ZERO,
            waited: Duration::ZERO,
        };
        claim.since()?;
        Some(claim)
    }

    /// How long it ran since this was asked last, if that was long.
    fn ran_long(&mut self) -> Option<Duration> {
        let (ran, _) = self.read()?;
        let runs = ran - self.ran;
        if runs < LOOK {
            return None;
        }
        self.ran = ran;
        Some(runs)
    }

    /// How long it ran and waited since this was asked last; `None`: it is no more.
    fn since(&mut self) -> Option<(Duration, Duration)> {
        let (ran, waited) = self.read()?;
        let since = (ran - self.ran, waited - self.waited);
        (self.ran, self.waited) = (ran, waited);
        Some(since)
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

impl Requests {
    const fn new() -> Self {
        Self {
            threads: Vec::new(),
            at: None,
            rests: 0.0,
        }
    }

    /// How long to rest for the time that one ran.
    fn rests(&mut self, now: Instant) -> f64 {
        let each = LOOK * u32::try_from(self.threads.len()).unwrap_or(u32::MAX);
        let since = self.at.map_or(each, |at| now.saturating_duration_since(at));
        if since < each {
            return self.rests;
        }
        self.at = Some(now);
        let (mut served, mut waited) = (0, Duration::ZERO);
        self.threads.retain_mut(|thread| {
            let Some((ran, waits)) = thread.since() else {
                return false;
            };
            served += u32::from(!ran.is_zero());
            waited += waits;
            true
        });
        self.rests = rests(self.rests, since * served, waited);
        self.rests
    }
}

/// How long to rest for the time that one runs, after threads that served something had so much time together and waited for
/// so much of it.
fn rests(before: f64, time: Duration, waited: Duration) -> f64 {
    let after = match waited > time.mul_f64(CONTENDED) {
        true => before + MORE,
        false => before - LESS,
    };
    after.clamp(0.0, MOST)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn background_rests_longer_where_requests_wait_and_works_on_where_they_do_not() {
        let [time, long, short] = [1000, 400, 100].map(Duration::from_micros);
        let after = |waits: &[Duration]| {
            waits
                .iter()
                .fold(0.0, |at, waited| rests(at, time, *waited))
        };
        assert!((after(&[long; 2]) - 1.0).abs() < f64::EPSILON);
        assert!((after(&[long; 100]) - MOST).abs() < f64::EPSILON);
        assert!((after(&[long, long, short]) - 0.75).abs() < f64::EPSILON);
        assert!(after(&[long, short, short, short]).abs() < f64::EPSILON);
        assert!(rests(0.0, Duration::ZERO, Duration::ZERO).abs() < f64::EPSILON);
    }

    #[test]
    fn a_thread_that_stepped_back_knows_how_long_it_runs() {
        let stepped = std::thread::spawn(|| {
            step_back();
            CLAIM.with_borrow(|claim| claim.as_ref().and_then(Claim::read))
        });
        let read = stepped.join().expect("it does not panic");
        assert_eq!(read.is_some(), is_told());
    }

    #[test]
    fn threads_of_requests_are_known_until_they_end() {
        if !is_told() {
            return;
        }
        let now = Clock::system().monotonic();
        let mut requests = Requests::new();
        let (claims, claimed) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _ = claims.send(Claim::of_this_thread());
            ends.recv()
        });
        requests.threads.extend(claimed.recv().expect("it runs"));
        requests.rests(now);
        assert_eq!(requests.threads.len(), 1);
        // Too early to look again.
        assert!(end.send(()).is_ok() && thread.join().is_ok());
        requests.rests(now);
        assert_eq!(requests.threads.len(), 1);
        requests.rests(now + LOOK);
        assert_eq!(requests.threads.len(), 0);
    }
}
