//! Where the rows of a reconciliation come from: a statement on a database of the app, what a workload answers, or what the
//! keeper of a projection answers of its live generation.
//!
//! A projection lags behind by nature. Its rows are asked for last, once it has had every event that the log had when the other
//! side had been read: what it lacks then is a difference, and nothing that it just has not had.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, Request};
use model::{
    Class, Error, Name, Position, Principal, SubscriptionKey, Trigger, code,
    reconcile::{Reconciliation, Source},
};
use runtime::{Body, Input};
use serde_json::{Map, Value};

use crate::{Platform, apps::LiveApp, projections};

/// Tells the keeper of a projection which generation is asked for.
const GENERATION: HeaderName = HeaderName::from_static("x-tangelo-generation");
/// How long a projection may take to have what the log has, before a sweep gives up.
const CATCH_UP: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(50);

type Rows = Vec<Map<String, Value>>;

impl Platform {
    /// The rows of both sides; a projection's after the other's.
    pub(super) async fn sides(
        &self,
        live: &Arc<LiveApp>,
        what: &Reconciliation,
    ) -> Result<(Rows, Rows), Error> {
        // Boxed: what asks a database or a workload holds much over its waits.
        let left = Box::pin(self.rows(live, &what.left));
        let right = Box::pin(self.rows(live, &what.right));
        if matches!(what.right, Source::Projection { .. }) {
            let left = left.await?;
            return Ok((left, right.await?));
        }
        if matches!(what.left, Source::Projection { .. }) {
            let right = right.await?;
            return Ok((left.await?, right));
        }
        tokio::try_join!(left, right)
    }

    async fn rows(&self, live: &Arc<LiveApp>, source: &Source) -> Result<Rows, Error> {
        match source {
            Source::Query { database, sql } => {
                let found = live.app.databases.get(database).ok_or_else(|| {
                    Error::new(
                        code::NO_SUCH_DATABASE,
                        format!("there is no database `{database}`"),
                    )
                })?;
                let address = self.address(&live.name, found)?;
                Ok(connect::query(&address, sql).await?)
            }
            Source::Workload { name, path } => self.ask(live, name, path, None).await,
            Source::Projection {
                workload,
                name,
                path,
            } => {
                let key = SubscriptionKey {
                    app: live.name.clone(),
                    workload: workload.clone(),
                    name: name.clone(),
                };
                let generation = self.caught_up(&key).await?;
                self.ask(live, workload, path, Some(generation)).await
            }
        }
    }

    /// The live generation of a projection, once it has had everything that the log has now.
    async fn caught_up(&self, key: &SubscriptionKey) -> Result<u32, Error> {
        let log = self.store().log();
        let extent = log.extent(&Name::default_namespace()).await?;
        let head = extent.map_or_else(Position::default, |extent| extent.head);
        let until = self.clock().monotonic() + CATCH_UP;
        loop {
            let projection = projections::one(self.bus(), key).await?;
            let mut generations = projection.generations.into_iter();
            let live = generations.find(|one| one.generation == projection.live);
            if live.as_ref().is_some_and(|live| live.position >= head) {
                return Ok(projection.live);
            }
            if self.clock().monotonic() >= until {
                let lag = match live.as_ref().map_or(0, |live| live.lag_events) {
                    1 => "1 event".to_owned(),
                    lag => format!("{lag} events"),
                };
                let why = live.and_then(|live| live.waiting_on);
                let why = why.map_or_else(String::new, |why| format!(" ({why})"));
                let message = format!(
                    "projection `{key}` is behind by {lag}{why}, and nothing was compared: what it has not had is no difference"
                );
                return Err(Error::new(code::RECONCILIATION_FAILED, message));
            }
            self.clock().sleep(LOOK).await;
        }
    }

    /// What a workload answers: a JSON array of objects.
    async fn ask(
        &self,
        live: &Arc<LiveApp>,
        name: &Name,
        path: &str,
        generation: Option<u32>,
    ) -> Result<Rows, Error> {
        let callee = live.callee(name.as_str())?;
        let failed = |why: String| {
            let message = format!("`{name}` does not answer {path} with rows: {why}");
            Error::new(code::RECONCILIATION_FAILED, message)
        };
        let mut request = Request::get(path)
            .header(http::header::HOST, format!("{name}.internal"))
            .header(http::header::ACCEPT, "application/json")
            .body(Body::full(Bytes::new()))
            .map_err(|e| failed(e.to_string()))?;
        if let Some(generation) = generation {
            let headers = request.headers_mut();
            headers.insert(GENERATION, generation.into());
        }
        let class = Class::Background;
        let principals = vec![Principal::Operator];
        let invocation = self.invocation(
            &callee,
            Trigger::Direct,
            class,
            principals,
            self.new_trace(),
        );
        let permit = self
            .dispatch()
            .admit(&callee, class)
            .map_err(|refused| refused.0)?;
        let answer = (self.dispatch()).invoke(permit, invocation, Input::http(request));
        let (head, body) = answer.await?.into_parts();
        let limit = model::ByteSize::mib(64);
        let body = body
            .collect(limit)
            .await
            .map_err(|e| failed(e.to_string()))?;
        if !head.status.is_success() {
            return Err(failed(format!("it answered {}", head.status.as_u16())));
        }
        serde_json::from_slice(&body)
            .map_err(|e| failed(format!("expected a JSON array of objects: {e}")))
    }
}
