//! Whether two versions of a contract may stand beside each other: shown for all events, or refuted by one.

use std::{fmt, str::FromStr};

use serde_json::Value;

use crate::{
    contract::{Contract, Violation},
    proof::prove,
    witness::candidates,
};

/// What versions of a contract promise each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Whoever reads the later version can read events of the earlier ones.
    #[default]
    Backward,
    /// Whoever reads an earlier version can read events of the later ones.
    Forward,
    /// Both.
    Full,
    /// Nothing.
    None,
}

impl Mode {
    /// In which directions events must pass.
    #[must_use]
    pub const fn directions(self) -> &'static [Direction] {
        match self {
            Self::Backward => &[Direction::Backward],
            Self::Forward => &[Direction::Forward],
            Self::Full => &[Direction::Backward, Direction::Forward],
            Self::None => &[],
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "backward" => Ok(Self::Backward),
            "forward" => Ok(Self::Forward),
            "full" => Ok(Self::Full),
            "none" => Ok(Self::None),
            _ => Err(format!(
                "`{text}` is no mode: expected `backward`, `forward`, `full` or `none`"
            )),
        }
    }
}

/// Whose events are read by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Events of the earlier version, read with the later one.
    Backward,
    /// Events of the later version, read with the earlier one.
    Forward,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backward => "backward",
            Self::Forward => "forward",
        })
    }
}

/// Whether every event that is written can be read.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Every event: shown.
    Compatible,
    /// Not this one, which one version allows and the other refuses.
    Incompatible {
        /// The data of the event.
        witness: Value,
        /// What the reading version says of it.
        violations: Vec<Violation>,
    },
    /// Neither shown nor refuted.
    Undecided {
        /// Where in the schema it stops, as a path of properties.
        place: String,
        /// The keyword that could not be compared.
        keyword: String,
    },
}

/// Whether events pass between two versions in one direction.
#[must_use]
pub fn compare(earlier: &Contract, later: &Contract, direction: Direction) -> Verdict {
    let (written, read) = match direction {
        Direction::Backward => (earlier, later),
        Direction::Forward => (later, earlier),
    };
    let doubt = match prove(&written.bundle, &read.bundle) {
        Ok(()) => return Verdict::Compatible,
        Err(doubt) => doubt,
    };
    let breaks = |value: &Value| written.allows(value) && !read.allows(value);
    match candidates(&written.bundle, &read.bundle)
        .into_iter()
        .find(breaks)
    {
        Some(witness) => Verdict::Incompatible {
            violations: read.violations(&witness),
            witness,
        },
        None => Verdict::Undecided {
            place: doubt.place,
            keyword: doubt.keyword,
        },
    }
}
