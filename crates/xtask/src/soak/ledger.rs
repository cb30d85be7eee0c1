//! What arrived, as the sink wrote it down: a line for each delivery.

/// One delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'l> {
    /// Where its line begins, in bytes.
    pub(super) at: usize,
    /// What was delivered: an event's id, with `@` and the number of a replay where it was one's.
    pub(super) item: &'l str,
    /// Its idempotency key.
    pub(super) key: &'l str,
    /// The process that got it.
    pub(super) process: &'l str,
    /// Whether that took it, rather than failed it.
    pub(super) taken: bool,
}

impl<'l> Line<'l> {
    /// Whose order it is in (its key, and its replay), and its number there.
    pub(super) fn sequence(&self) -> Option<(String, u64)> {
        sequence(self.item)
    }

    fn read(at: usize, text: &'l str) -> Option<Self> {
        let mut words = text.split(' ');
        Some(Self {
            at,
            item: words.next()?,
            key: words.next()?,
            process: words.next()?,
            taken: words.next()? == "taken",
        })
    }
}

/// Of `KEY-NUMBER` or `KEY-NUMBER@REPLAY`: the key with the replay, and the number.
pub(super) fn sequence(item: &str) -> Option<(String, u64)> {
    let (id, replay) = item.split_once('@').unwrap_or((item, ""));
    let (key, number) = id.rsplit_once('-')?;
    Some((format!("{key}@{replay}"), number.parse().ok()?))
}

/// The id of what was delivered, whether in a replay or not.
pub(super) fn id(item: &str) -> &str {
    item.split_once('@').map_or(item, |(id, _)| id)
}

/// The lines of a part of a ledger that begins at `from`. The last one may be half: it is being written.
pub(super) fn lines(part: &str, from: usize) -> impl Iterator<Item = Line<'_>> {
    let mut at = from;
    part.split_inclusive('\n').filter_map(move |line| {
        let begins = at;
        at += line.len();
        Line::read(begins, line.strip_suffix('\n')?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_know_where_they_begin_and_half_ones_are_left_out() {
        let read: Vec<_> = lines("a-1 k1 7 taken\na-2@3 k2 7 failed\na-3 k3 7", 100).collect();
        let said: Vec<_> = read.iter().map(|l| (l.at, l.item, l.taken)).collect();
        assert_eq!(said, [(100, "a-1", true), (115, "a-2@3", false)]);
        assert_eq!(read[0].sequence(), Some(("a@".to_owned(), 1)));
        assert_eq!(read[1].sequence(), Some(("a@3".to_owned(), 2)));
        assert_eq!(id(read[1].item), "a-2");
    }
}
