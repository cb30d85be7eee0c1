//! What the instances of one version used since that was last asked: totals in, differences out. Pure.

use std::time::Duration;

use model::{InstanceUsage, Time};
use runtime::PoolStats;

/// What was counted so far.
#[derive(Debug, Default)]
pub(super) struct Metered {
    counted: InstanceUsage,
    /// Bytes times microseconds that are no whole byte-second yet.
    rest: u128,
    at: Option<Time>,
}

impl Metered {
    /// What was used since the last time, by those that are there and by those that are not any more.
    pub(super) fn since_last(&mut self, now: Time, stats: &PoolStats) -> InstanceUsage {
        let there = stats.instances.iter().filter(|i| i.pid.is_some());
        let (mut lived, mut cpu) = (stats.ended.lived_us, stats.ended.cpu_us);
        let mut memory = 0;
        for instance in there {
            let age = u64::try_from(now.since(instance.since).as_micros());
            lived = lived.saturating_add(age.unwrap_or(u64::MAX));
            cpu = cpu.saturating_add(instance.cpu_us);
            memory += u128::from(instance.memory);
        }
        let (lived, cpu) = (Duration::from_micros(lived), Duration::from_micros(cpu));
        let passed = self.at.map_or(Duration::ZERO, |at| now.since(at));
        self.rest += memory * passed.as_micros();
        let byte_seconds = u64::try_from(self.rest / 1_000_000).unwrap_or(u64::MAX);
        self.rest %= 1_000_000;
        let used = InstanceUsage {
            lived: lived.saturating_sub(self.counted.lived),
            cpu: cpu.saturating_sub(self.counted.cpu),
            byte_seconds,
        };
        // What is seen of a process can only be less than it was when the clock was set back, or a child of it is gone.
        self.counted.lived = self.counted.lived.max(lived);
        self.counted.cpu = self.counted.cpu.max(cpu);
        self.at = Some(now);
        used
    }
}

#[cfg(test)]
mod tests {
    use model::InstanceId;
    use runtime::{Ended, InstanceStat, InstanceState};

    use super::*;

    fn stats(there: &[(u64, u64, u64)], lived_us: u64, cpu_us: u64) -> PoolStats {
        let one = |&(since, memory, cpu_us): &(u64, u64, u64)| InstanceStat {
            instance: "00000000-0000-0000-0000-000000000007"
                .parse::<InstanceId>()
                .expect("an id"),
            state: InstanceState::Idle,
            pid: Some(7),
            since: Time(since),
            in_flight: 0,
            memory,
            cpu_us,
            problem: None,
            ports: std::collections::BTreeMap::new(),
        };
        PoolStats {
            instances: there.iter().map(one).collect(),
            ended: Ended {
                instances: 0,
                lived_us,
                cpu_us,
            },
            ..PoolStats::default()
        }
    }

    #[test]
    fn nothing_is_counted_twice_or_lost_when_an_instance_ends_between_two_looks() {
        let second = 1_000_000;
        let mut metered = Metered::default();
        let mut all = InstanceUsage::default();
        let mut look = |at: u64, stats: PoolStats| {
            let used = metered.since_last(Time(at * second), &stats);
            all.lived += used.lived;
            all.cpu += used.cpu;
            all.byte_seconds += used.byte_seconds;
            all
        };
        look(2, stats(&[(second, 1000, 100)], 0, 0));
        look(
            4,
            stats(&[(second, 1000, 300), (3 * second, 500, 50)], 0, 0),
        );
        // The first has ended after three seconds and a half; a third came and went unseen.
        let all = look(6, stats(&[(3 * second, 500, 60)], 3_700_000, 420));
        assert_eq!(all.lived, Duration::from_micros(6_700_000));
        assert_eq!(all.cpu, Duration::from_micros(480));
        assert_eq!(all.byte_seconds, 2 * 1500 + 2 * 500);
    }
}
