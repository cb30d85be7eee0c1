//! Open-loop load: requests are sent when they are due, whether or not earlier ones were answered, as many clients do
//! that know nothing of each other.
//!
//! How long an answer took is counted from when its request was due: a server that falls behind is not spared the time
//! that its clients waited for it before they could ask.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, ensure};

use crate::http::{Client, Request};

/// Enough for a client, of which there are hundreds.
const STACK: usize = 256 << 10;

/// What is sent where, and how often.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) path: &'static str,
    /// Requests each second; infinite: as soon as the one before was answered.
    pub(super) rate: f64,
    pub(super) time: Duration,
    /// Connections at most. With fewer than there are requests under way, it is not open any more.
    pub(super) clients: usize,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Outcome {
    /// Milliseconds of what was answered with 200, in order.
    millis: Vec<f64>,
    /// Answered with 429 or 503.
    pub(super) refused: usize,
    /// How long it took altogether.
    seconds: f64,
}

/// Puts it on.
///
/// # Errors
/// When a request got no answer, or one that is neither served nor refused.
pub(super) fn put(load: &Load) -> anyhow::Result<Outcome> {
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let client = |_| {
        let (load, next) = (load.clone(), Arc::clone(&next));
        thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || ask(&load, start, &next))
    };
    let clients: Vec<_> = (0..load.clients).map(client).collect::<Result<_, _>>()?;
    let mut all = Outcome::default();
    for client in clients {
        let one = client.join().map_err(|_| anyhow!("a client panicked"))??;
        all.millis.extend(one.millis);
        all.refused += one.refused;
    }
    all.seconds = start.elapsed().as_secs_f64();
    all.millis.sort_by(f64::total_cmp);
    Ok(all)
}

fn ask(load: &Load, start: Instant, next: &AtomicU64) -> anyhow::Result<Outcome> {
    let mut client = Client::new(load.address);
    let mut outcome = Outcome::default();
    loop {
        #[allow(
            clippy::cast_precision_loss,
            reason = "requests of a benchmark are far below 2^53"
        )]
        let number = next.fetch_add(1, Relaxed) as f64;
        let due = if load.rate.is_finite() {
            start + Duration::from_secs_f64(number / load.rate)
        } else {
            Instant::now()
        };
        if due > start + load.time {
            return Ok(outcome);
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let answer = client.send(&Request::get(load.path))?;
        match answer.status {
            200 => outcome.millis.push(due.elapsed().as_secs_f64() * 1000.0),
            429 | 503 => outcome.refused += 1,
            other => ensure!(false, "{} was answered with {other}", load.path),
        }
    }
}

impl Outcome {
    /// Served each second.
    pub(super) fn per_second(&self) -> f64 {
        #[allow(
            clippy::cast_precision_loss,
            reason = "requests of a benchmark are far below 2^53"
        )]
        let served = self.millis.len() as f64;
        served / self.seconds
    }

    /// Milliseconds within which this share of what was served was answered.
    pub(super) fn within(&self, share: f64) -> f64 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index of a list"
        )]
        let at = (self.millis.len() as f64 * share) as usize;
        self.millis
            .get(at.min(self.millis.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn shares_are_of_what_was_served() {
        let outcome = Outcome {
            millis: (1..=100).map(f64::from).collect(),
            seconds: 2.0,
            ..Outcome::default()
        };
        assert!((outcome.per_second() - 50.0).abs() < 1e-9);
        assert!((outcome.within(0.5) - 51.0).abs() < 1e-9);
        assert!((outcome.within(0.99) - 100.0).abs() < 1e-9);
        assert!(Outcome::default().within(0.5).is_nan());
    }
}
