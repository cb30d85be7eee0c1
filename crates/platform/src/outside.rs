//! Those outside who take part in the bus of an app with a key: they publish, and come for events.
//!
//! What a key opens is in the manifest of the app; its value is a secret of the server. Without a good one nobody learns
//! which apps and subscriptions there are.

use std::{sync::Arc, time::Duration};

use access::bearer;
use bus::{Delivery, Settled};
use http::{HeaderMap, Request, Response};
use model::{AccessKey, AppName, Error, Name, Run, SubscriptionKey, TraceContext, Usage, code};
use runtime::Body;
use serde::Deserialize;
use serde_json::{Value, json};
use telemetry::UsageKey;

use crate::{
    Platform,
    apps::LiveApp,
    events::Origin,
    keys::Uses,
    leases::{Leases, Lent},
    loops,
};

/// Most events in one answer.
const MOST: usize = 1_000;
/// Unless asked for otherwise.
const SOME: usize = 10;
/// How many are taken at once; after each of these it is looked whether the answer is long enough.
const CHUNK: usize = 16;
/// Most bytes of events in one answer, by a chunk.
const BYTES: usize = 4 << 20;
/// The longest that an answer is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest lease.
const LONGEST_LEASE: Duration = Duration::from_secs(12 * 3600);

/// What is known of those outside while the server runs.
#[derive(Default)]
pub(crate) struct Outsiders {
    pub(crate) leases: Leases,
    pub(crate) uses: Uses,
}

/// Somebody with a good key.
pub struct Outsider {
    app: Arc<LiveApp>,
    name: Name,
}

/// How events are asked for.
#[derive(Debug, Default)]
pub struct PullAsk {
    /// At most so many.
    pub max: Option<usize>,
    /// How long to wait when there is none.
    pub wait: Duration,
    /// How long to have them, unless the manifest's time will do.
    pub lease: Option<Duration>,
}

/// What became of events, or is to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseAsk {
    /// Which.
    pub leases: Vec<String>,
    /// When they failed: not to be tried again before that.
    #[serde(default)]
    pub after: Option<String>,
    /// When they failed: never to be tried again.
    #[serde(default)]
    pub dead: bool,
    /// Why they failed.
    #[serde(default)]
    pub reason: Option<String>,
    /// Until when, from now, they are to be had.
    #[serde(default)]
    pub lease: Option<String>,
}

/// What is to become of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEnd {
    /// They are done.
    Ack,
    /// They failed.
    Nack,
    /// They are worked on for longer.
    Extend,
}

impl Platform {
    /// Who presents the key in `headers` to `app`.
    ///
    /// # Errors
    /// `BAD_KEY`, whatever is wrong.
    pub fn outsider(&self, app: &str, headers: &HeaderMap) -> Result<Outsider, Error> {
        let bad = || {
            let message = "no good key: send one of the app's as `Authorization: Bearer …`";
            Error::new(code::BAD_KEY, message)
        };
        let token = bearer::presented(headers).ok_or_else(bad)?;
        let app = self.apps().find(app).map_err(|_| bad())?;
        let secrets = &self.deployer().secrets;
        let mut keys = app.app.keys.iter();
        let found = keys.find(|(_, key)| bearer::is_one_of(secrets, &key.secrets, token));
        let name = found.map(|(name, _)| name.clone()).ok_or_else(bad)?;
        self.uses().note(&app.name, &name, self.clock().now());
        Ok(Outsider { app, name })
    }

    /// Publishes what a request carries, as far as the key lets it.
    ///
    /// # Errors
    /// As [`crate::events::Events::publish_http`].
    pub async fn publish_outside(
        &self,
        outsider: &Outsider,
        trace: TraceContext,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let origin = outsider.publishes(trace)?;
        self.events().publish_http(origin, request).await
    }

    /// Hands out events of a subscription.
    ///
    /// # Errors
    /// `KEY_FORBIDS`, or what the bus fails with.
    pub async fn pull(
        &self,
        outsider: &Outsider,
        subscription: &str,
        ask: PullAsk,
    ) -> Result<Value, Error> {
        let (key, own_lease) = outsider.may_pull(subscription)?;
        let most = ask.max.unwrap_or(SOME).clamp(1, MOST);
        let lease = ask.lease.unwrap_or(own_lease).min(LONGEST_LEASE);
        let mut until = self.clock().now() + ask.wait.min(LONGEST_WAIT);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < most && bytes < BYTES {
            let wanted = (most - rows.len()).min(CHUNK);
            let taken = self.bus().pull(&key, wanted, until).await?;
            let end = taken.len() < wanted;
            for delivery in taken {
                match self.handed(&delivery) {
                    Ok(handed) => {
                        let row = self.lend(delivery, handed, lease);
                        bytes += row.to_string().len();
                        rows.push(row);
                    }
                    // Nobody will ever get it.
                    Err(error) => self.bus().settle(delivery, Settled::Dead(error)).await?,
                }
            }
            if end {
                break;
            }
            until = self.clock().now();
        }
        Ok(json!({ "events": rows }))
    }

    /// What is handed out, and what it is called.
    ///
    /// # Errors
    /// `PAYLOAD_TOO_LARGE` when the subscription's `input` makes too much of the event.
    fn handed(&self, delivery: &Delivery) -> Result<(&'static str, Value), Error> {
        if delivery.input.is_none() {
            return Ok(("event", delivery.event.to_json()));
        }
        let text = loops::transformed(delivery, self.limits())?;
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(("input", value))
    }

    fn lend(&self, delivery: Delivery, (name, what): (&str, Value), lease: Duration) -> Value {
        let (id, now) = (self.ids().random(), self.clock().now());
        let until = now + lease;
        let span = loops::dwell(self, &delivery.key.app, &delivery);
        let mut row = json!({
            "lease": format!("{id:032x}"),
            "until": until.rfc3339(),
            "attempt": delivery.attempt,
            "key": &*delivery.idempotency_key,
            "traceparent": delivery.cause.trace.traceparent(span),
        });
        row[name] = what;
        let lent = Lent {
            delivery,
            since: now,
            bytes: row.to_string().len() as u64,
        };
        self.leases().lend(id, lent, until);
        row
    }

    /// Says what became of events that were handed out, or keeps them for longer. `gone` lists those whose lease had
    /// ended, which come again or did already.
    ///
    /// # Errors
    /// `KEY_FORBIDS`, `BAD_REQUEST`, or what the bus fails with.
    pub async fn end_leases(
        &self,
        outsider: &Outsider,
        subscription: &str,
        end: LeaseEnd,
        ask: LeaseAsk,
    ) -> Result<Value, Error> {
        let (key, own_lease) = outsider.may_pull(subscription)?;
        let lease = ask.lease.as_deref().map(duration).transpose()?;
        let settled = settled(end, &ask)?;
        let (now, mut done, mut gone) = (self.clock().now(), Vec::new(), Vec::new());
        let mut settling = Vec::new();
        for text in ask.leases {
            let id = u128::from_str_radix(&text, 16).unwrap_or_default();
            let known = match &settled {
                None => {
                    let until = now + lease.unwrap_or(own_lease).min(LONGEST_LEASE);
                    self.leases().extend(id, &key, now, until)
                }
                Some(settled) => {
                    let lent = self.leases().take(id, &key, now);
                    let known = lent.is_some();
                    settling.extend(lent.map(|lent| {
                        self.returned(&lent, matches!(settled, Settled::Done));
                        self.bus().settle(lent.delivery, settled.clone())
                    }));
                    known
                }
            };
            if known { &mut done } else { &mut gone }.push(text);
        }
        for settled in futures_util::future::join_all(settling).await {
            settled?;
        }
        Ok(json!({ "done": done, "gone": gone }))
    }
}

impl Platform {
    /// Counts what was handed out and came back, or did not, as an invocation that took as long as it was away.
    pub(crate) fn returned(&self, lent: &Lent, ok: bool) {
        let key = &lent.delivery.key;
        let tier = self.apps().find(key.app.as_str()).ok().and_then(|app| {
            let workload = app.app.workloads.get(&key.workload)?;
            Some(workload.tier)
        });
        let Some(tier) = tier else {
            return;
        };
        let key = UsageKey::new(key.app.clone(), key.workload.clone(), tier, "event");
        let usage = Usage {
            wall: self.clock().now().since(lent.since),
            bytes_out: lent.bytes,
            ..Usage::default()
        };
        self.telemetry().usage(&key, &usage, ok);
    }
}

impl Outsider {
    /// Who publishes with the key, on a trace.
    ///
    /// # Errors
    /// `INTERNAL`, if the key is gone.
    pub fn publishes(&self, trace: TraceContext) -> Result<Origin, Error> {
        Ok(Origin::Key {
            app: self.app.name.clone(),
            name: self.name.clone(),
            publishes: self.key()?.publishes.clone(),
            trace,
        })
    }

    /// The app whose key it is.
    #[must_use]
    pub fn app(&self) -> &AppName {
        &self.app.name
    }

    fn key(&self) -> Result<&AccessKey, Error> {
        let key = self.app.app.keys.get(&self.name);
        key.ok_or_else(|| Error::internal("a key that was found is gone"))
    }

    /// The subscription that is meant, and its lease.
    fn may_pull(&self, subscription: &str) -> Result<(SubscriptionKey, Duration), Error> {
        let name = self
            .key()?
            .pulls
            .iter()
            .find(|name| name.as_str() == subscription);
        let workload = name.and_then(|name| self.app.app.workloads.get(name));
        let found = workload.and_then(|workload| match &workload.run {
            Run::Pull(pull) => Some((workload, workload.on.first()?, pull.lease)),
            _ => None,
        });
        let (workload, on, lease) = found.ok_or_else(|| {
            let (key, app) = (&self.name, &self.app.name);
            let message = format!(
                "the key `{key}` of `{app}` does not open `{subscription}`: add it to the key's `pulls`"
            );
            Error::new(code::KEY_FORBIDS, message)
        })?;
        let key = SubscriptionKey {
            app: self.app.name.clone(),
            workload: workload.name.clone(),
            name: on.name.clone(),
        };
        Ok((key, lease))
    }
}

/// What the bus is told; `None`: nothing yet.
fn settled(end: LeaseEnd, ask: &LeaseAsk) -> Result<Option<Settled>, Error> {
    let failure = ask.after.is_some() || ask.dead || ask.reason.is_some();
    if (failure && end != LeaseEnd::Nack) || (ask.lease.is_some() && end != LeaseEnd::Extend) {
        let message = "`after`, `dead` and `reason` are for `nack`, `lease` for `extend`";
        return Err(Error::new(code::BAD_REQUEST, message));
    }
    let settled = match end {
        LeaseEnd::Extend => return Ok(None),
        LeaseEnd::Ack => Settled::Done,
        LeaseEnd::Nack => {
            let reason = ask
                .reason
                .as_deref()
                .unwrap_or("whoever pulled it could not take it");
            let mut error = Error::new(
                code::NOT_TAKEN,
                reason.chars().take(1000).collect::<String>(),
            );
            error.retry_after = ask.after.as_deref().map(duration).transpose()?;
            match ask.dead {
                true => Settled::Dead(error),
                false => Settled::Retry(error),
            }
        }
    };
    Ok(Some(settled))
}

/// `30s`, `5m`.
///
/// # Errors
/// `BAD_REQUEST`.
pub fn duration(text: &str) -> Result<Duration, Error> {
    model::parse_duration(text).map_err(|e| Error::new(code::BAD_REQUEST, e.to_string()))
}
