//! When the server is killed: in turns at a random moment, and at one of the named ones that random ones hardly hit.

use std::time::Duration;

/// How one kill comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kill {
    /// From outside, so long after it is known to have work.
    After(Duration),
    /// The server ends itself: inside a group commit, or after one and before anybody was answered.
    Commit(String),
    /// From outside, and once more by itself while it recovers from that.
    Recovery(Duration, String),
}

/// The kills that follow from a seed: the same on every machine.
pub(super) struct Kills {
    /// Whether rows of an outbox are relayed: there is one moment more.
    relays: bool,
    random: u64,
    count: u32,
    named: u32,
}

impl Kills {
    pub(super) fn new(seed: u64, relays: bool) -> Self {
        Self {
            relays,
            random: seed.max(1),
            count: 0,
            named: 0,
        }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Kill {
        self.count += 1;
        if self.count % 2 == 1 {
            return Kill::After(self.pause());
        }
        self.named += 1;
        match self.named % 3 {
            1 if self.relays => Kill::Commit(self.passes("relayed")),
            1 => Kill::Commit(self.passes("commit")),
            2 => Kill::Commit(self.passes("committed")),
            _ => {
                // The store passes one such moment, each subscription another.
                let pass = 1 + self.below(2);
                Kill::Recovery(self.pause(), format!("recovery:{pass}"))
            }
        }
    }

    /// So many passes of a moment that work is acknowledged before. Of rows the app acknowledges one at a time, while the
    /// server commits for several things: what came in, how far it is, what was delivered.
    fn passes(&mut self, moment: &str) -> String {
        let least = if self.relays && moment == "committed" {
            450
        } else {
            150
        };
        format!("{moment}:{}", least + self.below(150))
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
        let mut kills = Kills::new(7, false);
        let six: Vec<Kill> = (0..6).map(|_| kills.next()).collect();
        assert!(
            six.iter()
                .step_by(2)
                .all(|kill| matches!(kill, Kill::After(_)))
        );
        assert!(matches!(&six[1], Kill::Commit(at) if at.starts_with("commit:")));
        assert!(matches!(&six[3], Kill::Commit(at) if at.starts_with("committed:")));
        assert!(matches!(&six[5], Kill::Recovery(_, at) if at.starts_with("recovery:")));
        let mut rows = Kills::new(7, true);
        let second = (rows.next(), rows.next()).1;
        assert!(matches!(second, Kill::Commit(at) if at.starts_with("relayed:")));
        let mut again = Kills::new(7, false);
        assert_eq!(six, (0..6).map(|_| again.next()).collect::<Vec<_>>());
    }
}
