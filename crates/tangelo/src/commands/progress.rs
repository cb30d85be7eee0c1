//! What a deploy that takes its time is at, on stderr: a line whenever that changes.

use std::{pin::pin, time::Duration};

use model::WorkloadName;
use platform::deploy::{Phase, UnderWay};

use crate::client::Client;

/// What is over within this time needs no words.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is asked what a deploy is at.
const EVERY: Duration = Duration::from_millis(250);

/// Workloads that are named in one line.
const NAMED: usize = 8;

/// Waits for `deploy` of `app`, saying what it waits for.
#[allow(
    clippy::disallowed_methods,
    reason = "waits for a server, which lives in real time"
)]
pub(super) async fn show<T>(client: &Client, app: &str, deploy: impl Future<Output = T>) -> T {
    let mut deploy = pin!(deploy);
    let mut said = String::new();
    let mut pause = PATIENCE;
    loop {
        if let Ok(done) = tokio::time::timeout(pause, &mut deploy).await {
            return done;
        }
        pause = EVERY;
        let Ok(list) = client.get::<Vec<UnderWay>>("/v1/deploys").await else {
            continue;
        };
        let now = list.iter().find(|one| one.app.as_str() == app).map(words);
        if let Some(now) = now.filter(|now| *now != said) {
            anstream::eprintln!("{now}");
            said = now;
        }
    }
}

/// What is said of it.
fn words(deploy: &UnderWay) -> String {
    let app = &deploy.app;
    match deploy.phase {
        Phase::Queued => format!("{app}: waits for another deploy of it to end"),
        Phase::Unpacking => format!("{app}: its files are unpacked"),
        Phase::Starting if deploy.waits_for.is_empty() => format!("{app}: everything is up"),
        Phase::Starting => {
            let names: Vec<_> = deploy.waits_for.iter().map(WorkloadName::as_str).collect();
            format!("{app}: {} not ready yet", are(&names))
        }
    }
}

/// `a is`, `a and b are`.
fn are(names: &[&str]) -> String {
    match names {
        [name] => format!("{name} is"),
        _ if names.len() > NAMED => {
            let rest = names.len() - NAMED;
            format!("{} and {rest} more are", names[..NAMED].join(", "))
        }
        [names @ .., last] => format!("{} and {last} are", names.join(", ")),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use model::AppName;

    use super::*;

    #[test]
    fn it_is_said_for_whom_it_waits() {
        let name = |name: &str| WorkloadName::new(name).expect("good");
        let deploy = |phase, waits_for| UnderWay {
            app: AppName::new("shop").expect("good"),
            phase,
            waits_for,
        };
        let told = words(&deploy(
            Phase::Starting,
            vec![name("a"), name("b"), name("c")],
        ));
        assert_eq!(told, "shop: a, b and c are not ready yet");
        let many = (0..12).map(|n| name(&format!("w{n}"))).collect();
        let told = words(&deploy(Phase::Starting, many));
        assert_eq!(
            told,
            "shop: w0, w1, w2, w3, w4, w5, w6, w7 and 4 more are not ready yet"
        );
        let told = words(&deploy(Phase::Starting, vec![name("a")]));
        assert_eq!(told, "shop: a is not ready yet");
        let told = words(&deploy(Phase::Queued, vec![]));
        assert_eq!(told, "shop: waits for another deploy of it to end");
    }
}
