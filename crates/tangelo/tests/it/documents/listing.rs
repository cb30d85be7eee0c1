//! A listing of the second document as TypeScript again. The document lost the line breaks of its listings, so that each
//! comment runs on into the code behind it; a table says how long each comment is. Nothing but line breaks is added.
//!
//! The table has lengths and fingerprints and no text, because the text is not ours. Where the document was changed, no
//! fingerprint fits, and that is an error.

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

/// Where a listing is, and where its comments end.
pub(crate) struct Listing {
    /// How far the ruler before it counts.
    pub(crate) lines: usize,
    /// Its length in bytes: the next paragraph follows on the same line.
    pub(crate) bytes: usize,
    /// Each comment in order: its length in bytes and the beginning of its SHA-256.
    pub(crate) comments: &'static [(usize, u32)],
}

/// How services of the two kinds call each other directly.
pub(crate) const CALLS: Listing = Listing {
    lines: 90,
    bytes: 2369,
    comments: &[
        (51, 0xf4aa_2103),
        (77, 0xc3be_d517),
        (18, 0xffac_79de),
        (42, 0x5c91_eeb9),
        (39, 0x62ca_f65e),
        (56, 0x1656_7af0),
        (50, 0xfe1c_f316),
        (52, 0x7761_8713),
        (49, 0x156d_8130),
        (45, 0x3c21_fd7c),
        (14, 0x8f5a_fd01),
        (15, 0x2660_569e),
    ],
};

/// How one trace goes through both kinds.
pub(crate) const TRACING: Listing = Listing {
    lines: 50,
    bytes: 1325,
    comments: &[
        (43, 0x4265_35ff),
        (45, 0x13c2_0323),
        (32, 0x0955_4a14),
        (46, 0x604c_4f42),
        (33, 0x5f06_5ea8),
        (33, 0xbcbc_77cd),
        (35, 0xfa4d_b464),
        (33, 0xba00_dee0),
        (33, 0xb65e_463e),
        (33, 0x658f_0482),
        (56, 0x11f7_8429),
    ],
};

impl Listing {
    /// The listing with a line break after each comment.
    pub(crate) fn restore(&self, document: &str) -> Result<String> {
        let text = self.find(document)?;
        let mut restored = String::new();
        let mut rest = text;
        for (number, &(bytes, print)) in self.comments.iter().enumerate() {
            let start = next_comment(rest)
                .with_context(|| format!("comment {number} of the table is not there"))?;
            let found = rest.get(start..start + bytes);
            ensure!(
                found.is_some_and(|found| fingerprint(found) == print),
                "comment {number} is not the one that the table means"
            );
            let (before, after) = rest.split_at(start + bytes);
            restored.extend([before, "\n"]);
            rest = after;
        }
        ensure!(
            next_comment(rest).is_none(),
            "there are more comments than the table has"
        );
        restored.push_str(rest);
        ensure!(
            restored.replace('\n', "") == text,
            "more than line breaks was changed"
        );
        Ok(restored)
    }

    /// The line after the ruler, without the paragraph that follows on it.
    fn find<'d>(&self, document: &'d str) -> Result<&'d str> {
        let ruler: String = (1..=self.lines).map(|line| line.to_string()).collect();
        let mut lines = document.lines().skip_while(|line| *line != ruler).skip(1);
        let line = lines
            .next()
            .with_context(|| format!("no listing of {} lines", self.lines))?;
        line.get(..self.bytes)
            .context("the listing is shorter than the table says")
    }
}

fn fingerprint(text: &str) -> u32 {
    let hash: [u8; 32] = Sha256::digest(text).into();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// What the end of a stretch of code is.
enum Inside {
    /// `${` of a template, with the braces that were opened since.
    Hole(usize),
    Quotes(u8),
}

/// Where the next `//` is that begins a comment: not one in a string or a template. Knows no regular expressions.
fn next_comment(code: &str) -> Option<usize> {
    let bytes = code.as_bytes();
    let mut inside = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        let mut width = 1;
        match (inside.last_mut(), byte) {
            (Some(Inside::Quotes(_)), b'\\') => width = 2,
            (Some(Inside::Quotes(b'`')), b'$') if next == Some(b'{') => {
                inside.push(Inside::Hole(0));
                width = 2;
            }
            (Some(Inside::Quotes(quote)), byte) if *quote == byte => drop(inside.pop()),
            (Some(Inside::Quotes(_)), _) => {}
            (_, b'"' | b'\'' | b'`') => inside.push(Inside::Quotes(byte)),
            (_, b'/') if next == Some(b'/') => return Some(at),
            (Some(Inside::Hole(open)), b'{') => *open += 1,
            (Some(Inside::Hole(0)), b'}') => drop(inside.pop()),
            (Some(Inside::Hole(open)), b'}') => *open -= 1,
            _ => {}
        }
        at += width;
    }
    None
}

#[test]
fn comments_are_told_from_strings() {
    for (code, at) in [
        ("a // b", Some(2)),
        ("'//' // b", Some(5)),
        ("`//${f({}, `//`)}//` // b", Some(21)),
        ("'\\'//' + \"//\"", None),
    ] {
        assert_eq!(next_comment(code), at, "{code}");
    }
}

#[test]
fn another_text_than_the_tables_is_refused() {
    let listing = Listing {
        lines: 2,
        bytes: 9,
        comments: &[(4, 0)],
    };
    for document in ["", "12\na // b c d e", "12\nshort", "12\nwithout any"] {
        assert!(listing.restore(document).is_err(), "{document}");
    }
    let good = Listing {
        comments: &[(4, 0x5c6a_79e3)],
        ..listing
    };
    assert_eq!(
        good.restore("12\na // b cd and prose")
            .map_err(|e| e.to_string()),
        Ok("a // b\n cd".to_owned())
    );
}
