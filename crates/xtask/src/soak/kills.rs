//! When the server is killed: in turns at a random moment, and at one of the named ones that random ones hardly hit.

use std::time::Duration;

/// How one kill comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kill {
    /// From outside, so long after it is known to have work.
    After(Duration),
    /// The server ends itself at a named moment of its work.
    Moment(String),
    /// From outside, and once more by itself while it recovers from that.
    Recovery(Duration, String),
}

/// A named moment, and at which of its passes a server ends: after at least so many, and fewer than so many more. Before that
/// pass enough work must be acknowledged.
pub(super) type Named = (&'static str, u64, u64);

/// The name of what happens while a server recovers, before it has any work.
const RECOVERY: &str = "recovery";

/// The kills that follow from a seed: the same on every machine.
pub(super) struct Kills {
    moments: &'static [Named],
    random: u64,
    count: usize,
}

impl Kills {
    pub(super) fn new(seed: u64, moments: &'static [Named]) -> Self {
        Self {
            moments,
            random: seed.max(1),
            count: 0,
        }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Kill {
        self.count += 1;
        if self.count % 2 == 1 {
            return Kill::After(self.pause());
        }
        let (name, least, spread) = self.moments[(self.count / 2 - 1) % self.moments.len()];
        let moment = format!("{name}:{}", least + self.below(spread));
        match name {
            RECOVERY => Kill::Recovery(self.pause(), moment),
            _ => Kill::Moment(moment),
        }
    }

    fn pause(&mut self) -> Duration {
        Duration::from_micros(1_000 + self.below(400_000))
    }

    /// Xorshift.
    fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_are_random_and_the_named_ones_come_in_turn() {
        const MOMENTS: &[Named] = &[("commit", 150, 150), ("step", 7, 4), ("recovery", 1, 2)];
        let mut kills = Kills::new(7, MOMENTS);
        let eight: Vec<Kill> = (0..8).map(|_| kills.next()).collect();
        assert!(
            eight
                .iter()
                .step_by(2)
                .all(|kill| matches!(kill, Kill::After(_)))
        );
        assert!(matches!(&eight[1], Kill::Moment(at) if at.starts_with("commit:")));
        let steps = ["step:7", "step:8", "step:9", "step:10"];
        assert!(matches!(&eight[3], Kill::Moment(at) if steps.contains(&at.as_str())));
        assert!(matches!(&eight[5], Kill::Recovery(_, at) if at.starts_with("recovery:")));
        assert!(matches!(&eight[7], Kill::Moment(at) if at.starts_with("commit:")));
        let mut again = Kills::new(7, MOMENTS);
        assert_eq!(eight, (0..8).map(|_| again.next()).collect::<Vec<_>>());
    }
}
