//! The handle that everything records to and asks, and the thread behind it.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::Duration,
};

use model::{AppName, Clock, InstanceUsage, Tier, TraceId, Usage, WorkloadName};
use parking_lot::{Condvar, Mutex, RwLock};
use prometheus_client::registry::Registry;
use tokio::sync::broadcast;

use crate::{
    assembler::Segment,
    buffer::SpanBuffer,
    early::{Early, Gate, Root},
    error::Error,
    files::Files,
    follow::{BEHIND, Follow},
    ledger::Ledger,
    log::LogRecord,
    metrics,
    options::Options,
    otlp::export::Exporter,
    query::{LogQuery, Trace, TraceQuery, TraceSummary},
    recorder::{Recorder, Stats},
    refusals::Refusals,
    ring::{Level, Ring},
    search::Search,
    span::Span,
    usage::{Counters, INSTANCE, UsageFilter, UsageKey, UsageRow},
};

/// How often the thread looks at the rings.
const ROUND: Duration = Duration::from_millis(100);

/// Rounds between two flushes of spans, lines and usage: a second.
const FLUSH: u32 = 10;

/// Traces, logs, metrics and usage of one platform. Cheap to clone.
///
/// [`Telemetry::span`], [`Telemetry::log`] and [`Telemetry::usage`] never wait and may be called anywhere. What
/// asks (`traces`, `trace`, `logs`, `follow`, `usage_report`) reads files: call it on a thread that may block.
#[derive(Clone)]
pub struct Telemetry(Arc<Handle>);

struct Shared {
    clock: Clock,
    ring: Ring,
    early: Arc<Early>,
    counters: Counters,
    recorder: Mutex<Recorder>,
    ledger: Mutex<Ledger>,
    live: RwLock<Option<broadcast::Sender<Arc<LogRecord>>>>,
    exporter: Option<Exporter>,
    refusals: Refusals,
    wake: Wake,
}

/// What the thread waits on.
#[derive(Default)]
struct Wake {
    state: Mutex<Signal>,
    condition: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Signal {
    #[default]
    Nothing,
    Look,
    Stop,
}

/// Ends the thread when it goes.
struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Telemetry {
    /// Opens the folder and starts the thread. Blocks on the disk.
    ///
    /// # Errors
    /// [`Error`] when the folder, a file in it, a thread or the collector's address is not usable.
    pub fn open(options: Options) -> Result<Self, Error> {
        let now = options.clock.now();
        let files = Files::open(options.dir, options.retention, options.max_bytes, now)?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let memory = options.sampling.memory.as_usize();
        let early = Arc::new(Early::new(options.sampling.per_route, cores));
        let shared = Arc::new(Shared {
            ring: Ring::new(cores, memory / 2),
            counters: Counters::new(cores),
            recorder: Mutex::new(Recorder::new(files, options.sampling, Arc::clone(&early))),
            early,
            ledger: Mutex::new(Ledger::new(options.ledger, now)),
            live: RwLock::new(Some(broadcast::Sender::new(BEHIND))),
            exporter: options
                .otlp
                .map(|otlp| Exporter::start(otlp, &options.clock))
                .transpose()?,
            refusals: Refusals::default(),
            wake: Wake::default(),
            clock: options.clock,
        });
        let thread = thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.run()
            })
            .map_err(Error::Thread)?;
        Ok(Self(Arc::new(Handle {
            shared,
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Records a span. Never waits; a full ring drops and counts it.
    pub fn span(&self, span: Span) {
        let shared = &self.0.shared;
        shared.early.record(span.trace, &shared.clock);
        if shared.ring.span(span) == Level::High {
            shared.wake.signal(Signal::Look);
        }
    }

    /// Ends a trace as far as it is this server's: records its local root, which `make` makes, and the spans that `buffer`
    /// has of it. Where `gate` says that so ordinary a trace is dropped, nothing is made.
    pub fn root(
        &self,
        gate: Option<&Gate>,
        buffer: &SpanBuffer,
        root: Root,
        make: impl FnOnce() -> Span,
    ) {
        let early = &self.0.shared.early;
        let drops = |gate: &Gate| !root.failed && gate.drops(early, root);
        if buffer.end(|| gate.is_some_and(drops)) {
            self.span(make());
        }
    }

    /// What decides early about ordinary traces of the route of this name (`http.route`).
    #[must_use]
    pub fn gate(&self, route: &str) -> Arc<Gate> {
        self.0.shared.early.gate(route)
    }

    /// Records a line. Never waits; a full ring drops and counts it, followers see it all the same.
    pub fn log(&self, record: LogRecord) {
        let record = Arc::new(record);
        if let Some(live) = &*self.0.shared.live.read()
            && live.receiver_count() > 0
        {
            // The last follower may have gone since: that is no error.
            let _ = live.send(Arc::clone(&record));
        }
        if self.0.shared.ring.log(record) == Level::High {
            self.0.shared.wake.signal(Signal::Look);
        }
    }

    /// Counts an invocation that ended. Every one counts, whatever becomes of its trace.
    pub fn usage(&self, key: &UsageKey, usage: &Usage, ok: bool) {
        self.0.shared.counters.record(key, usage, ok);
    }

    /// Counts what the instances of a workload used since that was last counted.
    pub fn instances(
        &self,
        app: &AppName,
        workload: &WorkloadName,
        tier: Tier,
        used: &InstanceUsage,
    ) {
        let key = UsageKey::new(app.clone(), workload.clone(), tier, INSTANCE);
        self.0.shared.counters.record_instances(&key, used);
    }

    /// The latest traces that match. One is listed as soon as a local root of it has ended.
    #[must_use]
    pub fn traces(&self, query: TraceQuery) -> Vec<TraceSummary> {
        let (search, undecided) = self
            .0
            .shared
            .settled(|recorder| (Search::open(&recorder.paths()), recorder.undecided()));
        search.traces(&query, &undecided)
    }

    /// A trace with its lines, as far as it is known; `None` when nothing is.
    #[must_use]
    pub fn trace(&self, id: TraceId) -> Option<Trace> {
        let (search, mut spans) = self
            .0
            .shared
            .settled(|recorder| (Search::open(&recorder.paths()), recorder.undecided_of(id)));
        spans.extend(search.spans(id));
        let query = LogQuery {
            trace: Some(id),
            limit: 10_000,
            ..LogQuery::default()
        };
        let logs = search.logs(&query);
        (!spans.is_empty() || !logs.is_empty()).then(|| Trace::new(id, spans, logs))
    }

    /// The latest lines that match, in the order in which they were written.
    #[must_use]
    pub fn logs(&self, query: LogQuery) -> Vec<LogRecord> {
        let search = self
            .0
            .shared
            .settled(|recorder| Search::open(&recorder.paths()));
        search.logs(&query)
    }

    /// The latest lines that match (`query.limit` of them, possibly none), and then each as it is written.
    #[must_use]
    pub fn follow(&self, query: LogQuery) -> Follow {
        let live = match &*self.0.shared.live.read() {
            Some(live) => live.subscribe(),
            None => broadcast::channel(1).1,
        };
        let history = self.logs(query.clone());
        Follow::new(query, history, live)
    }

    /// Where it is counted what was refused.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.0.shared.refusals
    }

    /// What was used, by workload, earlier starts of the server included.
    #[must_use]
    pub fn usage_report(&self, filter: UsageFilter) -> Vec<UsageRow> {
        self.0.shared.count();
        self.0.shared.ledger.lock().report(&filter)
    }

    /// All counters in the text format of Prometheus (OpenMetrics 1.0). `extra` registers what others count.
    #[must_use]
    pub fn metrics_text(&self, extra: impl FnOnce(&mut Registry)) -> String {
        self.0.shared.count();
        let totals = self.0.shared.ledger.lock().totals();
        metrics::text(totals, self.stats(), self.refusals(), extra)
    }

    /// What was recorded, kept and lost since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.0.shared;
        let exporter = shared.exporter.as_ref().map(Exporter::counts);
        let (exported, export_lost) = exporter.unwrap_or_default();
        Stats {
            spans_lost: shared.ring.spans_lost.load(Relaxed),
            logs_lost: shared.ring.logs_lost.load(Relaxed),
            usage_folded: shared.counters.folded.load(Relaxed),
            exported,
            export_lost,
            ..shared.recorder.lock().stats()
        }
    }

    /// Writes all that is recorded so far; usage too. Blocks on the disk.
    pub fn flush(&self) {
        self.0.shared.settled(|_| ());
        self.0.shared.count();
        self.0.shared.store_usage();
    }

    /// Decides about what is under way, writes everything, and ends the thread. Later records are lost.
    pub async fn close(&self) {
        self.0.shared.wake.signal(Signal::Stop);
        let thread = self.0.thread.lock().take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
            if !matches!(joined, Ok(true)) {
                tracing::error!("the telemetry thread panicked");
            }
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut rounds = 0;
        while self.wake.wait(ROUND) != Signal::Stop {
            rounds += 1;
            let flush = rounds % FLUSH == 0;
            let mut recorder = self.recorder.lock();
            self.collect(&mut recorder);
            if flush || recorder.is_full() {
                recorder.flush(self.clock.now());
            }
            drop(recorder);
            if flush {
                self.count();
                self.store_usage();
            }
        }
        self.stop();
    }

    fn stop(&self) {
        self.settled(|recorder| {
            self.export(&recorder.finish(self.clock.now()));
            recorder.flush(self.clock.now());
            recorder.close();
        });
        self.count();
        self.store_usage();
        self.live.write().take();
        if let Some(exporter) = &self.exporter {
            exporter.stop();
        }
    }

    fn collect(&self, recorder: &mut Recorder) {
        let kept = recorder.collect(&self.ring, self.clock.now());
        self.export(&kept);
    }

    fn export(&self, kept: &[Arc<Segment>]) {
        if let Some(exporter) = &self.exporter {
            kept.iter().for_each(|segment| exporter.offer(segment));
        }
    }

    /// Decides and writes all that can be, then looks. Two rounds: roots are judged one round after they were seen.
    fn settled<T>(&self, look: impl FnOnce(&mut Recorder) -> T) -> T {
        let mut recorder = self.recorder.lock();
        self.collect(&mut recorder);
        self.collect(&mut recorder);
        recorder.flush(self.clock.now());
        look(&mut recorder)
    }

    /// Moves what the cores counted into the ledger.
    fn count(&self) {
        let mut ledger = self.ledger.lock();
        ledger.add(self.counters.drain(), self.clock.now());
    }

    /// Tells the store what was used.
    fn store_usage(&self) {
        let mut ledger = self.ledger.lock();
        let Some((store, rows)) = ledger.to_store() else {
            return;
        };
        match store.usage().put_blocking(rows) {
            Ok(()) => ledger.stored(),
            Err(error) => tracing::debug!(%error, "usage waits for the store"),
        }
    }
}

impl Wake {
    fn signal(&self, signal: Signal) {
        let mut state = self.state.lock();
        if *state != Signal::Stop {
            *state = signal;
        }
        self.condition.notify_one();
    }

    fn wait(&self, longest: Duration) -> Signal {
        let mut state = self.state.lock();
        if *state == Signal::Nothing {
            self.condition.wait_for(&mut state, longest);
        }
        let signal = *state;
        if signal == Signal::Look {
            *state = Signal::Nothing;
        }
        signal
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.wake.signal(Signal::Stop);
    }
}
