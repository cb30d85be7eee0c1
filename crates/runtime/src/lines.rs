//! Cutting what a process writes into lines. Pure.

/// The bytes of one stream that are not yet a whole line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    begun: Vec<u8>,
    /// Bytes of the current line beyond the limit, which are dropped.
    dropped: usize,
}

impl Lines {
    /// Takes more bytes; whole lines go to `out`. A line is kept up to `limit` bytes and then says what was cut.
    pub(crate) fn push(&mut self, bytes: &[u8], limit: usize, out: &mut Vec<String>) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&b| b == b'\n') {
            self.add(&rest[..end], limit);
            out.push(self.line());
            rest = &rest[end + 1..];
        }
        self.add(rest, limit);
    }

    /// Ends a line that was begun, if there is one.
    pub(crate) fn finish(&mut self) -> Option<String> {
        (!self.begun.is_empty()).then(|| self.line())
    }

    fn add(&mut self, bytes: &[u8], limit: usize) {
        let room = limit.saturating_sub(self.begun.len()).min(bytes.len());
        self.begun.extend_from_slice(&bytes[..room]);
        self.dropped += bytes.len() - room;
    }

    fn line(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.begun);
        let mut text = text.strip_suffix('\r').unwrap_or(&text).to_owned();
        if self.dropped > 0 {
            text.push_str(&format!(" … ({} bytes cut)", self.dropped));
        }
        self.begun.clear();
        self.dropped = 0;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], limit: usize, expected: &[&str]) {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece.as_bytes(), limit, &mut out);
        }
        out.extend(lines.finish());
        assert_eq!(out, expected);
    }

    #[test]
    fn lines_come_in_any_pieces() {
        check(&["a\nb", "c\n", "\n", "d"], 100, &["a", "bc", "", "d"]);
        check(&["dos\r\nnext\r\n"], 100, &["dos", "next"]);
        check(&[], 100, &[]);
    }

    #[test]
    fn long_lines_are_cut_and_say_so() {
        check(
            &["abcdef", "gh\nnext\n"],
            4,
            &["abcd … (4 bytes cut)", "next"],
        );
    }
}
