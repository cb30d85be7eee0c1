//! A timer for deadlines that follow one another, such as those of the requests on one connection.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use model::Clock;

/// A timer that is moved only when it goes off, or is to go off earlier. Where each deadline is later than the one before,
/// as with requests that may take equally long, a deadline costs no timer: setting one and taking it away for every request
/// takes longer than asking whether this one went off.
pub(super) struct Alarm {
    clock: Clock,
    /// When it goes off, on the monotonic clock, and what it goes off by.
    set: Option<(Instant, Sleep)>,
}

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Alarm {
    /// One that is not set.
    pub(super) const fn new(clock: Clock) -> Self {
        Self { clock, set: None }
    }

    /// Ready when `due` has passed; until then, the task is woken at some time before, or then.
    pub(super) fn poll(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (at, sleep) = match &mut self.set {
                Some((at, sleep)) if *at <= due => (*at, sleep),
                set => {
                    let clock = self.clock.clone();
                    let left = due.saturating_duration_since(clock.monotonic());
                    let sleep: Sleep = Box::pin(async move { clock.sleep(left).await });
                    (due, &mut set.insert((due, sleep)).1)
                }
            };
            ready!(sleep.as_mut().poll(cx));
            self.set = None;
            if at == due {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{task::Waker, time::Duration};

    use model::Time;

    use super::*;

    #[test]
    fn it_goes_off_at_the_last_deadline_and_is_moved_only_then() {
        const SECOND: Duration = Duration::from_secs(1);
        let clock = Clock::virtual_at(Time::from_millis(1_000));
        let start = clock.monotonic();
        let mut alarm = Alarm::new(clock.clone());
        let mut poll = |at: u32| {
            let mut cx = Context::from_waker(Waker::noop());
            let due = alarm.poll(start + SECOND * at, &mut cx).is_ready();
            let set = alarm.set.as_ref().map(|(at, _)| (*at - start).as_secs());
            (due, set)
        };
        assert_eq!(poll(10), (false, Some(10)));
        assert_eq!(
            poll(20),
            (false, Some(10)),
            "a later deadline costs nothing"
        );
        assert_eq!(poll(30), (false, Some(10)));
        clock.advance(SECOND * 11);
        assert_eq!(poll(30), (false, Some(30)), "it went off, and is moved");
        assert_eq!(poll(21), (false, Some(21)), "an earlier one moves it");
        clock.advance(SECOND * 10);
        assert_eq!(poll(21), (true, None));
        assert_eq!(poll(30), (false, Some(30)));
        clock.advance(SECOND * 9);
        assert_eq!(poll(30), (true, None));
    }
}
