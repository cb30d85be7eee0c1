//! Durations counted in buckets: 16 for each doubling of microseconds, so that a quantile is right within 3 %
//! and two histograms add up exactly.

use std::time::Duration;

/// Buckets per doubling; below this many microseconds each has its own.
const STEPS: u64 = 16;

/// Doublings counted apart; 2^37 µs are 38 hours, and longer counts as that.
const DOUBLINGS: usize = 33;

const BUCKETS: usize = (DOUBLINGS + 1) * STEPS as usize;

/// The first byte of an encoded histogram.
const FORMAT: u8 = 1;

/// How many durations fell into which bucket.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: Box::new([0; BUCKETS]),
            count: 0,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)] += 1;
        self.count += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
    }

    /// The duration that a share `q` of all is not longer than; zero when there are none.
    pub(crate) fn quantile(&self, q: f64) -> Duration {
        self.bucket_at(q)
            .map_or(Duration::ZERO, |index| Duration::from_micros(middle(index)))
    }

    /// The shortest duration that is certainly longer than a share `q` of all; zero when there are none.
    pub(crate) fn beyond(&self, q: f64) -> Duration {
        self.bucket_at(q).map_or(Duration::ZERO, |index| {
            Duration::from_micros(start(index + 1))
        })
    }

    fn bucket_at(&self, q: f64) -> Option<usize> {
        let wanted = (self.count as f64 * q).ceil().max(1.0);
        let mut seen = 0.0;
        self.buckets.iter().position(|count| {
            seen += *count as f64;
            seen >= wanted
        })
    }

    /// How many were at most `bound` long, as far as the buckets can tell.
    pub(crate) fn at_most(&self, bound: Duration) -> u64 {
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        let up_to = self.buckets.iter().enumerate();
        up_to
            .take_while(|(index, _)| middle(*index) <= micros)
            .map(|(_, count)| count)
            .sum()
    }

    /// A format byte, then pairs of (gap to the bucket, count) for buckets that are not empty.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        let mut next = 0;
        for (index, &count) in self.buckets.iter().enumerate().filter(|(_, c)| **c > 0) {
            crate::codec::put_varint(&mut out, (index - next) as u64);
            crate::codec::put_varint(&mut out, count);
            next = index + 1;
        }
        out
    }

    /// Reads what [`Histogram::encode`] wrote; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&FORMAT, rest) = bytes.split_first()? else {
            return None;
        };
        let mut reader = crate::codec::Reader::new(rest);
        let mut histogram = Self::default();
        let mut next: usize = 0;
        while !reader.is_empty() {
            let index = next.checked_add(usize::try_from(reader.varint()?).ok()?)?;
            let count = reader.varint()?;
            *histogram.buckets.get_mut(index)? = count;
            histogram.count = histogram.count.checked_add(count)?;
            next = index + 1;
        }
        Some(histogram)
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return usize::try_from(micros).unwrap_or(0);
    }
    let doubling = (63 - micros.leading_zeros() - 4) as usize;
    let step = usize::try_from((micros >> doubling) & (STEPS - 1)).unwrap_or(0);
    ((doubling + 1) * STEPS as usize + step).min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(index: usize) -> u64 {
    start(index) + (start(index + 1) - start(index)) / 2
}

/// Where a bucket begins, in microseconds.
fn start(index: usize) -> u64 {
    let (doubling, step) = (index as u64 / STEPS, index as u64 % STEPS);
    if doubling == 0 {
        return step;
    }
    (STEPS + step) << (doubling - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_are_within_three_percent() {
        let mut histogram = Histogram::default();
        (1..=10_000).for_each(|micros| histogram.record(Duration::from_micros(micros)));
        for (q, expected) in [(0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let found = histogram.quantile(q).as_micros() as f64;
            assert!((found / expected - 1.0).abs() < 0.035, "{q}: {found}");
        }
        assert_eq!(histogram.at_most(Duration::from_micros(10)), 10);
        assert_eq!(histogram.at_most(Duration::MAX), 10_000);
        assert_eq!(Histogram::default().quantile(0.99), Duration::ZERO);
        let mut same = Histogram::default();
        (0..1_000).for_each(|_| same.record(Duration::from_millis(10)));
        assert!(same.beyond(0.99) > Duration::from_millis(10));
        assert!(same.beyond(0.99) < Duration::from_micros(10_700));
    }

    #[test]
    fn broken_bytes_are_no_histogram() {
        for bad in [
            &[][..],
            &[2],
            &[1, 0],
            &[1, 255, 255, 255, 1, 1],
            &[1, 0x80],
        ] {
            assert!(Histogram::decode(bad).is_none(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn encoding_round_trips_and_adding_is_exact(a: Vec<u64>, b: Vec<u64>) {
            let of = |values: &[u64]| {
                let mut histogram = Histogram::default();
                values.iter().for_each(|v| histogram.record(Duration::from_micros(*v)));
                histogram
            };
            let both: Vec<u64> = a.iter().chain(&b).copied().collect();
            let mut sum = of(&a);
            sum.add(&of(&b));
            prop_assert!(sum == of(&both));
            prop_assert!(Histogram::decode(&sum.encode()) == Some(sum));
        }

        #[test]
        fn every_duration_lies_in_its_bucket(micros in 0u64..1 << 37) {
            let middle = middle(bucket(micros)) as f64;
            prop_assert!((middle - micros as f64).abs() <= micros as f64 / 32.0 + 0.5);
        }
    }
}
