//! What must have happened before an acknowledgement leaves, and where it did not.

use super::trace::Call;

const SYNCS: [&str; 2] = ["fsync", "fdatasync"];
const WRITES: [&str; 4] = ["write", "writev", "pwrite64", "pwritev"];
const READS: [&str; 4] = ["read", "readv", "recvfrom", "recvmsg"];
const SENDS: [&str; 4] = ["write", "writev", "sendto", "sendmsg"];
const RENAMES: [&str; 3] = ["rename", "renameat", "renameat2"];

/// Something that was acknowledged. Its marker is in the request, and nowhere else.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) marker: String,
    /// In the beginning of what goes into a blob, when the payload is one.
    pub(super) blob: Option<String>,
}

/// What is missing before an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Missing {
    /// The trace has no such request, or no answer to it: the test is wrong.
    Trace,
    /// Nothing of it was written to the log of the database.
    Commit,
    /// The commit was not synced.
    CommitSync,
    /// Nothing of it was written to a blob that got its name.
    Blob,
    /// The blob was not synced before it got its name.
    BlobSync,
    /// The name was not synced before the commit.
    NameSync,
}

/// The files and sockets of one run.
pub(super) struct Run {
    pub(super) calls: Vec<Call>,
}

/// A blob that got its name.
struct Blob<'a> {
    /// Its file before that.
    file: &'a str,
    rename: &'a Call,
    folder: String,
    hash: Vec<u8>,
}

impl Run {
    /// What was missing when the acknowledgement of `accepted` left.
    pub(super) fn check(&self, accepted: &Accepted) -> Result<(), Missing> {
        let marker = accepted.marker.as_str();
        let reply = self.reply(marker).ok_or(Missing::Trace)?;
        let blob = match &accepted.blob {
            None => None,
            Some(content) => Some(self.blob(content).ok_or(Missing::Blob)?),
        };
        // A row has what was accepted, or the hash of it.
        let of_it = |call: &&Call| {
            call.says(marker) || blob.as_ref().is_some_and(|blob| call.has(&blob.hash))
        };
        let commit = self
            .on("/state.db-wal", &WRITES)
            .filter(|call| call.ended < reply)
            .find(of_it)
            .ok_or(Missing::Commit)?;
        if !self.synced("/state.db-wal", commit.ended, reply) {
            return Err(Missing::CommitSync);
        }
        blob.map_or(Ok(()), |blob| self.check_blob(&blob, commit.began))
    }

    /// The blob and its name are durable before the line `commit`.
    fn check_blob(&self, blob: &Blob<'_>, commit: usize) -> Result<(), Missing> {
        let writes = self.on(blob.file, &WRITES);
        let written = writes.map(|write| write.ended).max().ok_or(Missing::Blob)?;
        if !self.synced(blob.file, written, blob.rename.began) {
            return Err(Missing::BlobSync);
        }
        if !self.synced(&blob.folder, blob.rename.ended, commit) {
            return Err(Missing::NameSync);
        }
        Ok(())
    }

    /// Whether a sync of the file whose path ends so began and ended between two lines.
    fn synced(&self, path: &str, after: usize, before: usize) -> bool {
        self.on(path, &SYNCS)
            .any(|sync| sync.began > after && sync.ended < before)
    }

    /// The blob whose beginning has `content` in it.
    fn blob(&self, content: &str) -> Option<Blob<'_>> {
        let mut writes = self.calls.iter().filter(|call| call.is(&WRITES));
        let first = writes.find(|call| call.on().contains("/blobs/tmp/") && call.says(content))?;
        let file = first.on();
        let mut renames = self.calls.iter().filter(|call| call.is(&RENAMES));
        renames.find_map(|rename| {
            let paths = rename.strings();
            let [from, to] = &paths[..] else { return None };
            if from != file.as_bytes() {
                return None;
            }
            let (folder, name) = std::str::from_utf8(to).ok()?.rsplit_once('/')?;
            let byte = |at: usize| u8::from_str_radix(name.get(at..at + 2)?, 16).ok();
            let hash = (0..name.len())
                .step_by(2)
                .map(byte)
                .collect::<Option<_>>()?;
            Some(Blob {
                file,
                rename,
                folder: folder.to_owned(),
                hash,
            })
        })
    }

    /// The line at which the first byte of the answer to the request with `marker` leaves, on the socket on which the
    /// request came.
    fn reply(&self, marker: &str) -> Option<usize> {
        let sockets = || self.calls.iter().filter(|c| c.on().starts_with("socket:"));
        let reads = sockets().filter(|call| call.is(&READS) && call.says(marker));
        // By its end: whoever gets it later may have waited for it since before.
        let request = reads.min_by_key(|call| call.ended)?;
        let reply = sockets().find(|call| {
            call.is(&SENDS) && call.began > request.ended && call.on() == request.on()
        })?;
        reply.says("\"HTTP/1.1 20").then_some(reply.began)
    }

    /// The calls of `names` on the file whose path ends so.
    fn on<'a>(&'a self, path: &'a str, names: &'a [&str]) -> impl Iterator<Item = &'a Call> {
        let on_it = move |call: &&Call| call.is(names) && call.on().ends_with(path);
        self.calls.iter().filter(on_it)
    }
}
