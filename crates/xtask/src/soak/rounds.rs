//! The soak of replays and redrives, round after round: events are published, delivered and replayed; others fail, become
//! dead letters and are redriven. Each job has to deliver all that it is asked for, whatever is killed meanwhile.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{
    PATIENCE,
    app::{BROKEN, HAPPENED},
    control::Control,
    publishers::{Publisher, Shared},
    work::UnderWay,
};

/// Keys of the events of a round.
const KEYS: usize = 20;
/// Events of each key in a round: with those of a redrive between, more than a replay looks at in one step.
const NUMBERS: usize = 15;
/// Between two looks at the server.
const PAUSE: Duration = Duration::from_millis(20);

/// Who does the rounds.
pub(super) struct Rounds {
    publisher: Publisher,
    control: Control,
    /// The sink fails events while this file is there.
    broken: PathBuf,
    /// How many rounds there were.
    count: usize,
    /// What was in the log when the last replay began.
    replayed: u64,
}

impl Rounds {
    pub(super) fn new(gateway: SocketAddr, control: Control, broken: PathBuf) -> Self {
        Self {
            publisher: Publisher::new(gateway),
            control,
            broken,
            count: 0,
            replayed: 0,
        }
    }

    /// Goes on until told to stop; all that had to be delivered.
    pub(super) fn run(mut self, shared: &Shared) -> anyhow::Result<Vec<String>> {
        let mut expected = Vec::new();
        while !shared.stops() {
            // Whatever a round waits for, the server works on.
            let _under_way = UnderWay::of(shared);
            expected.extend(self.replay(shared)?);
            expected.extend(self.redrive(shared)?);
            self.count += 1;
        }
        Ok(expected)
    }

    /// Events that are delivered, and then replayed: each once more, under the number of the replay.
    fn replay(&mut self, shared: &Shared) -> anyhow::Result<Vec<String>> {
        let ids = self.ids('r');
        self.publisher.publish(shared, "soak.happened", &ids)?;
        let last = last(shared, &ids)?;
        self.quiet(HAPPENED, last, 0)?;
        let ask = json!({"subscription": HAPPENED, "after": self.replayed});
        let job = self.job("/v1/replays", &ask)?;
        self.replayed = last;
        let number = &job["id"];
        let done = (job["done"].as_u64(), job["skipped"].as_u64());
        ensure!(
            done == (Some(ids.len() as u64), Some(0)),
            "a replay of {} ended with {job}",
            ids.len()
        );
        self.quiet(HAPPENED, last, 0)?;
        let again: Vec<String> = ids.iter().map(|id| format!("{id}@{number}")).collect();
        Ok(ids.into_iter().chain(again).collect())
    }

    /// Events that fail: the first of each key, and the others behind it, until they are redriven.
    fn redrive(&mut self, shared: &Shared) -> anyhow::Result<Vec<String>> {
        let ids = self.ids('b');
        fs::write(&self.broken, "")?;
        self.publisher.publish(shared, "soak.broken", &ids)?;
        let last = last(shared, &ids)?;
        self.quiet(BROKEN, last, ids.len() as u64)?;
        fs::remove_file(&self.broken)?;
        let job = self.job("/v1/dead-letters/redrive", &json!({"subscription": BROKEN}))?;
        ensure!(job["skipped"] == 0, "a redrive left something: {job}");
        self.quiet(BROKEN, last, 0)?;
        Ok(ids)
    }

    /// The ids of this round: numbers go on from round to round.
    fn ids(&self, letter: char) -> Vec<String> {
        let first = self.count * NUMBERS + 1;
        let numbers = first..first + NUMBERS;
        let of = |n: usize| (0..KEYS).map(move |key| format!("{letter}{key}-{n}"));
        numbers.flat_map(of).collect()
    }

    /// Asks for a job, once, though the server may be killed while it answers, and waits until it has ended.
    fn job(&mut self, path: &str, ask: &Value) -> anyhow::Result<Value> {
        let before = self.until(Self::newest_job)?;
        let begun = self.until(|rounds| {
            let asked = rounds.control.post(path, ask);
            // It may have begun all the same: then it is there when the next server answers.
            let newest = rounds.until(Self::newest_job)?;
            match asked {
                _ if newest > before => Ok(Some(newest)),
                Ok(answer) => anyhow::bail!("{path} began no job: {answer}"),
                Err(_) => Ok(None),
            }
        })?;
        self.until(|rounds| {
            let job = rounds.control.get(&format!("/v1/jobs/{begun}"));
            Ok(job.ok().filter(|job| !job["ended_at"].is_null()))
        })
    }

    fn newest_job(&mut self) -> anyhow::Result<Option<u64>> {
        let Ok(jobs) = self.control.get("/v1/jobs") else {
            return Ok(None);
        };
        let jobs = jobs["jobs"].as_array().context("a list of jobs")?;
        Ok(Some(
            jobs.first().and_then(|job| job["id"].as_u64()).unwrap_or(0),
        ))
    }

    /// Waits until a subscription has had all up to `last`, nothing waits, and `dead` are dead letters.
    fn quiet(&mut self, subscription: &str, last: u64, dead: u64) -> anyhow::Result<()> {
        self.until(|rounds| {
            let stands = rounds.control.stands(subscription).ok();
            let quiet = |stands: &super::control::Stands| {
                stands.waits == 0 && stands.dead == dead && stands.settled >= last
            };
            Ok(stands.filter(quiet).map(drop))
        })
        .with_context(|| format!("until {subscription} has had {last}, with {dead} dead letters"))
    }

    /// Asks again and again until there is an answer; a server that was killed has none.
    fn until<T>(
        &mut self,
        mut ask: impl FnMut(&mut Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        loop {
            if let Some(answer) = ask(self)? {
                return Ok(answer);
            }
            if start.elapsed() > PATIENCE {
                let stand = [HAPPENED, BROKEN].map(|name| self.control.stands(name));
                anyhow::bail!("the server does not come to it: {stand:?}");
            }
            thread::sleep(PAUSE);
        }
    }
}

fn last(shared: &Shared, ids: &[String]) -> anyhow::Result<u64> {
    let positions = shared.positions();
    let last = ids.iter().filter_map(|id| positions.get(id)).max();
    last.copied().context("events have positions")
}
