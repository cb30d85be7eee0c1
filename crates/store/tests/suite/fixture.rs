//! What the suites share: a temporary folder, one or two nodes on it, a virtual clock, small events.

use std::{collections::HashMap, sync::Arc, time::Duration};

use model::{
    Cause, Clock, Event, Namespace, Position, Subscription, SubscriptionKey, Time, TraceContext,
    event::EventData,
};
use parking_lot::Mutex;
use serde_json::json;
use store::{
    Options, Pending, Store, Urgency,
    log::{Cursor, Log, NewEvent, SubscriptionId, Switched},
    shards::Owned,
};

use crate::unplug::{Disk, OnDisk, everything_survives, vfs};

pub(crate) const START: Time = Time::from_millis(1_790_000_000_000);

/// One node, or two on one database; with one, `a` and `b` are the same.
pub(crate) struct Nodes {
    pub(crate) a: Store,
    pub(crate) b: Store,
    pub(crate) clock: Clock,
    pub(crate) dir: tempfile::TempDir,
    disk: Option<Arc<Disk>>,
}

impl Nodes {
    pub(crate) fn one() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let clock = Clock::virtual_at(START);
        let a = Store::open(Options::new(dir.path(), clock.clone())).expect("opens");
        let b = a.clone();
        Self {
            a,
            b,
            clock,
            dir,
            disk: None,
        }
    }

    /// `a` owns all shards.
    pub(crate) async fn two() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let clock = Clock::virtual_at(START);
        let open = |node: &str| {
            let options = Options {
                node: node.to_owned(),
                shared: true,
                ..Options::new(dir.path(), clock.clone())
            };
            Store::open(options).expect("opens")
        };
        let (a, b) = (open("a"), open("b"));
        let lease = Duration::from_secs(30);
        let owned = a.shards().acquire(lease).await.expect("acquires");
        assert_eq!(owned.len(), 256);
        Self {
            a,
            b,
            clock,
            dir,
            disk: None,
        }
    }

    /// One node on a disk that is unplugged in the end.
    fn on_a_disk() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (clock, disk) = (Clock::virtual_at(START), Disk::new());
        let options = Options {
            vfs: Some(vfs::register(Arc::clone(&disk))),
            files: Arc::new(OnDisk(Arc::clone(&disk))),
            ..Options::new(dir.path(), clock.clone())
        };
        let a = Store::open(options).expect("opens");
        let b = a.clone();
        Self {
            a,
            b,
            clock,
            dir,
            disk: Some(disk),
        }
    }

    pub(crate) async fn each() -> [Self; 3] {
        [Self::one(), Self::two().await, Self::on_a_disk()]
    }

    /// The end of a test of the suite: what it left survives the power.
    pub(crate) async fn ends(self) {
        let Self {
            a, b, dir, disk, ..
        } = self;
        drop(b);
        match disk {
            Some(disk) => everything_survives(a, &disk, dir.path()).await,
            None => a.close().await.expect("closes"),
        }
    }

    /// The right of `a` to write for a subscription.
    pub(crate) fn owner(&self, switched: &Switched) -> Owned {
        let shard = switched.began[0].shard;
        self.a.shards().owner(shard).expect("a owns all")
    }
}

pub(crate) fn space() -> Namespace {
    Namespace::default_namespace()
}

pub(crate) fn cause() -> Cause {
    Cause::first(Vec::new(), TraceContext::root(7))
}

pub(crate) fn event(id: impl ToString, bytes: usize) -> NewEvent {
    let event = Event {
        id: id.to_string(),
        source: "/tests".to_owned(),
        kind: "order.created".to_owned(),
        subject: None,
        time: None,
        content_type: None,
        schema: None,
        extensions: std::collections::BTreeMap::default(),
        data: EventData::Json(json!({"text": "x".repeat(bytes)})),
    };
    NewEvent::new(Arc::new(event), Arc::new(cause()))
}

pub(crate) fn key(text: &str) -> SubscriptionKey {
    text.parse().expect("is a key")
}

pub(crate) fn subscription(name: &str, kind: &str) -> Subscription {
    let name = model::Name::new(name).expect("is a name");
    Subscription::new(name, model::EventFilter(json!({"type": [kind]})))
}

/// One subscription `shop/w/s`.
pub(crate) async fn subscribe(store: &Store) -> Arc<Switched> {
    let wanted = [(key("shop/w/s"), subscription("s", "order.created"))].into();
    let app = model::Name::literal("shop");
    let switched = store.log().switch(&space(), &app, wanted).await;
    switched.expect("switches")
}

/// Where subscriptions stand, as a test says.
pub(crate) struct Cursors {
    log: Log,
    stand: Arc<Mutex<HashMap<SubscriptionId, Cursor>>>,
}

impl Cursors {
    pub(crate) fn of(log: &Log) -> Self {
        let stand: Arc<Mutex<HashMap<SubscriptionId, Cursor>>> = Arc::default();
        let known = Arc::clone(&stand);
        log.set_cursors(Arc::new(move |id| known.lock().get(&id).cloned()));
        let log = log.clone();
        Self { log, stand }
    }

    pub(crate) fn settle(&self, owned: Owned, cursor: Cursor) -> store::Result<Pending> {
        let id = cursor.subscription;
        self.stand.lock().insert(id, cursor);
        self.log.settle(owned, id)
    }

    pub(crate) fn note(&self, owned: Owned, cursor: Cursor, urgency: Urgency) {
        let id = cursor.subscription;
        self.stand.lock().insert(id, cursor);
        self.log.note(owned, id, urgency).expect("is open");
    }
}

pub(crate) fn cursor(id: SubscriptionId, through: u64, running: &[u64], idle: bool) -> Cursor {
    Cursor {
        subscription: id,
        through: Position(through),
        running: running.iter().copied().map(Position).collect(),
        passed: Vec::new(),
        idle,
    }
}
