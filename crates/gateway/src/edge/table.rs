//! The routes of every live app as one table of entries that need no further lookup: target, limits, timeout and
//! what is asked before are resolved when the table is made.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use http::Method;
use model::{AppName, ByteSize, Limits, Route, RouteTarget};
use parking_lot::Mutex;
use platform::{
    Platform,
    apps::{Live, LiveApp},
    dispatch::Callee,
};
use tokio::sync::watch;

use crate::{
    routes::{BadPattern, Entry, Pattern, Rewrite, Table},
    trail::Routed,
};

/// A batch of events may be as large as this many of the largest.
const EVENTS_PER_BODY: u64 = 16;

/// A route, ready to serve.
pub(crate) struct Serving {
    /// Its app.
    pub(crate) app: AppName,
    /// The route as the manifest has it.
    pub(crate) route: Route,
    /// Its path, for traces and triggers.
    pub(crate) path: Arc<str>,
    /// Both, for the spans of its requests.
    pub(crate) routed: Arc<Routed>,
    /// Who answers.
    pub(crate) target: Answerer,
    /// Who is asked first, and how long what they say holds.
    pub(crate) before: Vec<(Arc<Callee>, Option<Duration>)>,
    /// The path that the workload sees.
    pub(crate) rewrite: Option<Rewrite>,
    /// The largest body.
    pub(crate) max_body: ByteSize,
    /// How long the answer may take.
    pub(crate) timeout: Duration,
}

/// Who answers a route.
#[derive(Clone)]
pub(crate) enum Answerer {
    /// A workload.
    Workload(Arc<Callee>),
    /// The bus.
    Events,
}

/// A route that is not served as its manifest asks, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The app whose route it is.
    pub app: AppName,
    /// The route's path.
    pub path: String,
    /// What is wrong, in words.
    pub message: String,
}

/// The table of one moment.
pub(crate) struct Compiled {
    /// The table.
    pub(crate) table: Table<Arc<Serving>>,
    /// What it does not serve.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Tells whether there is something newer.
    seen: watch::Receiver<u64>,
}

/// The table that follows the apps.
pub(crate) struct Routes {
    current: ArcSwap<Compiled>,
    rebuilding: Mutex<()>,
}

impl Routes {
    pub(crate) fn new(platform: &Platform) -> Self {
        Self {
            current: ArcSwap::from_pointee(compile(platform)),
            rebuilding: Mutex::new(()),
        }
    }

    /// The table of what is live now: a request that begins after a switch was acknowledged sees it.
    pub(crate) fn now(&self, platform: &Platform) -> Guard<Arc<Compiled>> {
        let current = self.current.load();
        if !current.is_stale() {
            return current;
        }
        drop(current);
        self.rebuild(platform);
        self.current.load()
    }

    fn rebuild(&self, platform: &Platform) {
        let _one_at_a_time = self.rebuilding.lock();
        if self.current.load().is_stale() {
            self.current.store(Arc::new(compile(platform)));
        }
    }
}

impl Compiled {
    fn is_stale(&self) -> bool {
        self.seen.has_changed().unwrap_or(false)
    }
}

/// Makes the table. The receiver is taken first: a switch in between is then seen as newer.
fn compile(platform: &Platform) -> Compiled {
    let seen = platform.apps().changed();
    let live = platform.apps().live();
    let (table, diagnostics) = table_of(&live, platform.limits());
    for diagnostic in &diagnostics {
        let Diagnostic { app, path, message } = diagnostic;
        tracing::warn!(%app, path, "a route is not served: {message}");
    }
    Compiled {
        table,
        diagnostics,
        seen,
    }
}

fn table_of(live: &Live, limits: &Limits) -> (Table<Arc<Serving>>, Vec<Diagnostic>) {
    let (mut entries, mut diagnostics) = (Vec::new(), Vec::new());
    for app in &live.apps {
        for route in &app.app.routes {
            match entry(app, route, limits) {
                Ok(entry) => entries.push(entry),
                Err(message) => {
                    diagnostics.push(Diagnostic {
                        app: app.name.clone(),
                        path: route.path.clone(),
                        message,
                    });
                }
            }
        }
    }
    let values: Vec<_> = entries
        .iter()
        .map(|entry| Arc::clone(&entry.value))
        .collect();
    let (table, duplicates) = Table::build(entries);
    diagnostics.extend(duplicates.into_iter().map(|duplicate| {
        let (late, first) = (&values[duplicate.entry], &values[duplicate.first]);
        let method = duplicate
            .method
            .map_or_else(String::new, |method| format!("{method} "));
        let message = format!(
            "app `{}` has {method}`{}` already and keeps it",
            first.app, first.route.path
        );
        Diagnostic {
            app: late.app.clone(),
            path: late.route.path.clone(),
            message,
        }
    }));
    (table, diagnostics)
}

fn entry(app: &LiveApp, route: &Route, limits: &Limits) -> Result<Entry<Arc<Serving>>, String> {
    let callee = |name| app.callee(name).map_err(|error| error.message);
    let target = match &route.to {
        RouteTarget::Workload(name) => Answerer::Workload(callee(name.as_str())?),
        RouteTarget::Events => Answerer::Events,
    };
    let pattern = Pattern::new(&route.path).map_err(|BadPattern(why)| why.to_owned())?;
    let rewrite = route
        .rewrite
        .as_deref()
        .map(|text| Rewrite::new(text, &pattern))
        .transpose();
    let before = route
        .before
        .iter()
        .map(|b| Ok((callee(b.workload.as_str())?, b.cache)));
    let methods = route.methods.iter().map(|m| {
        m.parse::<Method>()
            .map_err(|_| format!("`{m}` is no method"))
    });
    let own_timeout = match &target {
        Answerer::Workload(callee) => callee.workload.timeout,
        Answerer::Events => limits.body_idle,
    };
    let path: Arc<str> = Arc::from(route.path.as_str());
    let serving = Serving {
        app: app.name.clone(),
        routed: Arc::new(Routed::new(app.name.clone(), Arc::clone(&path))),
        path,
        before: before.collect::<Result<_, String>>()?,
        rewrite: rewrite.map_err(|BadPattern(why)| why.to_owned())?,
        max_body: max_body(route, &target, limits),
        timeout: route.timeout.unwrap_or(own_timeout).min(own_timeout),
        target,
        route: route.clone(),
    };
    Ok(Entry {
        host: route.host.clone(),
        pattern,
        methods: methods.collect::<Result<_, String>>()?,
        value: Arc::new(serving),
    })
}

/// The smallest limit that holds for bodies of `route`. What is stored has a smaller one unless the route says otherwise.
fn max_body(route: &Route, target: &Answerer, limits: &Limits) -> ByteSize {
    let own = match target {
        Answerer::Workload(callee) => callee.workload.max_body,
        Answerer::Events => ByteSize(limits.event.0.saturating_mul(EVENTS_PER_BODY)),
    };
    let usual = if route.asynchronous {
        limits.async_payload
    } else {
        limits.request_body
    };
    route
        .max_body
        .unwrap_or(usual)
        .min(own)
        .min(limits.request_body)
}
