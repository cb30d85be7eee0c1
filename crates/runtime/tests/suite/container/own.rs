//! An engine of a test's own with the image `test:1`, and the runtime's handle on it.

use std::path::{Path, PathBuf};

use runtime::container::{self, Engine};
use tempfile::TempDir;
use testkit::{ContainerEngine, EngineKind, ImageFiles};

use crate::{stage::Stage, support::Fixture};

/// What the image runs: busybox's web server, with what it is asked for as scripts.
const START: &str = r#"
if [ "$1" = --eat ]; then
    /bin/busybox httpd -p 127.0.0.1:$PORT -h /www
    while [ ! -e /tmp/eat ]; do /bin/busybox sleep 0.05; done
    exec /bin/busybox dd if=/dev/zero of=/dev/null bs=300M count=1
fi
[ -n "$METRICS_PORT" ] && /bin/busybox httpd -p 127.0.0.1:$METRICS_PORT -h /www
echo "listens on $PORT"
echo "to stderr" >&2
exec /bin/busybox httpd -f -p 127.0.0.1:$PORT -h /www
"#;

const SCRIPTS: [(&str, &str); 6] = [
    (
        "env",
        "/bin/busybox env; echo pid=$PPID; echo user=$(/bin/busybox id -u); echo group=$(/bin/busybox id -g); echo open=$(ulimit -n)",
    ),
    ("groups", "/bin/busybox cat /proc/self/cgroup"),
    (
        "write",
        "/bin/busybox touch /www/here || echo read-only; /bin/busybox cp /bin/sh /tmp/sh && /tmp/sh -c 'echo tmp'; echo kept >> /data/kept; /bin/busybox cat /data/kept",
    ),
    (
        "eat",
        "/bin/busybox touch /tmp/eat; /bin/busybox sleep 30; echo survived",
    ),
    (
        "hold",
        "while [ ! -e $TANGELO_STATE_DIR/go ]; do /bin/busybox usleep 20000; done; printf 'Content-Type: text/plain\\r\\n\\r\\nheld\\n'",
    ),
    (
        "state",
        "echo line >> $TANGELO_STATE_DIR/lines; /bin/busybox cat $TANGELO_STATE_DIR/lines",
    ),
];

/// `None` where it cannot run, which is said.
pub(super) async fn start(kind: EngineKind) -> Option<ContainerEngine> {
    start_in(kind, TempDir::new().expect("a folder")).await
}

/// As [`start`], with what is in this folder already.
pub(super) async fn start_in(kind: EngineKind, folder: TempDir) -> Option<ContainerEngine> {
    let script = |(name, script): (&'static str, &str)| {
        let head = "printf 'Content-Type: text/plain\\r\\n\\r\\n'\nexec 2>&1\n";
        // An answer that has begun and has no length would be whole wherever it ends.
        let late = matches!(name, "eat" | "hold");
        let head = if late { "" } else { head };
        (name, format!("{head}{script}"))
    };
    let files = ImageFiles {
        start: START,
        scripts: SCRIPTS.map(script).into(),
    };
    ContainerEngine::start(kind, folder, "test:1", &files).await
}

/// What a server on the folder `data` has of it, which asks another socket first.
pub(super) fn handle(own: &ContainerEngine, data: &Path) -> Engine {
    Engine::new(container::Options {
        sockets: vec![PathBuf::from("/nowhere.sock"), own.socket()],
        logins: Vec::new(),
        data: data.to_owned(),
    })
}

/// A stage whose containers run there.
pub(super) fn stage(own: &ContainerEngine) -> Stage {
    let fixture = Fixture::new();
    let engine = handle(own, fixture.folder.path());
    Stage::with(fixture, engine)
}
