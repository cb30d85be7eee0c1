//! What workloads keep under keys: buckets, entries, and how a write is made conditional. A bucket belongs to an app;
//! its workloads use it as far as their manifest says.

use serde::{Deserialize, Serialize};

use crate::{
    ByteSize,
    clock::Time,
    code,
    error::Error,
    name::{AppName, Name, Namespace},
};

/// The longest key, in bytes of UTF-8.
pub const MAX_KEY: usize = 1024;
/// Most keys that are read, written or deleted together.
pub const MAX_TOGETHER: usize = 256;
/// Most keys in one page of a list.
pub const MAX_PAGE: u32 = 1000;
/// The bucket that is meant where none is named.
pub const DEFAULT_BUCKET: &str = "default";

/// What a workload may do with a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read and write.
    #[default]
    Write,
    /// Read only.
    Read,
}

/// One bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// Its namespace.
    pub namespace: Namespace,
    /// The app whose it is.
    pub app: AppName,
    /// Its name in that app.
    pub name: Name,
}

/// Which write of a bucket made an entry what it is: ascending in the bucket, never used again. Its HTTP form is an
/// entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(pub u64);

/// What is under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: bytes::Bytes,
    /// What wrote it.
    pub revision: Revision,
}

/// What has to be there for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Anything or nothing.
    #[default]
    Any,
    /// Nothing.
    Absent,
    /// Something.
    Present,
    /// Exactly what this write made.
    Is(Revision),
}

impl Condition {
    /// Whether `found` is what has to be there.
    #[must_use]
    pub fn holds(self, found: Option<Revision>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => found.is_none(),
            Self::Present => found.is_some(),
            Self::Is(revision) => found == Some(revision),
        }
    }
}

/// One change of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Of which key.
    pub key: String,
    /// The new value; `None`: it is deleted.
    pub value: Option<bytes::Bytes>,
    /// Only if this is there.
    pub condition: Condition,
}

/// Which whole numbers a counter takes, as its caller reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// From `i64::MIN` to `i64::MAX`.
    Signed,
    /// From 0 to `u64::MAX`.
    Unsigned,
}

impl Numbers {
    /// Whether `number` is one of them.
    #[must_use]
    pub fn contain(self, number: i128) -> bool {
        match self {
            Self::Signed => i64::try_from(number).is_ok(),
            Self::Unsigned => u64::try_from(number).is_ok(),
        }
    }
}

/// Where a page of a list begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum After {
    /// With the first key.
    #[default]
    Start,
    /// After this key, in order of keys.
    Key(String),
    /// After the key with this number, in the order in which keys were first written.
    Number(u64),
}

/// One key of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// Its number in the order in which keys were first written.
    #[serde(skip)]
    pub number: u64,
    /// Bytes of its value.
    pub size: u64,
    /// What wrote it.
    pub revision: Revision,
    /// When.
    pub updated_at: Time,
}

/// What a bucket holds in total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BucketTotals {
    /// The app whose it is.
    pub app: AppName,
    /// Its name.
    pub bucket: Name,
    /// Keys.
    pub keys: u64,
    /// Bytes of all keys and values.
    pub bytes: ByteSize,
}

/// Checks a key: 1 to [`MAX_KEY`] bytes without control characters.
///
/// # Errors
/// `KV_BAD_KEY`, with what is wrong.
pub fn check_key(key: &str) -> Result<(), Error> {
    let wrong = |why: String| Err(Error::new(code::KV_BAD_KEY, why));
    if key.is_empty() {
        return wrong("a key cannot be empty".to_owned());
    }
    if key.len() > MAX_KEY {
        let long = key.len();
        return wrong(format!(
            "a key has at most {MAX_KEY} bytes; this one has {long}"
        ));
    }
    if key.chars().any(char::is_control) {
        return wrong("a key cannot hold control characters".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_bounds() {
        for good in ["a", "a/b c?d=ä", &"x".repeat(MAX_KEY)] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in ["", "a\0", "a\nb", &"x".repeat(MAX_KEY + 1)] {
            assert!(check_key(bad).is_err_and(|e| e.code == code::KV_BAD_KEY));
        }
    }

    #[test]
    fn conditions_compare_what_is_there() {
        let (one, two) = (Revision(1), Revision(2));
        for (condition, nothing, first, second) in [
            (Condition::Any, true, true, true),
            (Condition::Absent, true, false, false),
            (Condition::Present, false, true, true),
            (Condition::Is(one), false, true, false),
        ] {
            assert_eq!(condition.holds(None), nothing);
            assert_eq!(condition.holds(Some(one)), first);
            assert_eq!(condition.holds(Some(two)), second);
        }
    }

    #[test]
    fn counters_keep_to_what_their_callers_can_read() {
        assert!(Numbers::Signed.contain(i64::MIN.into()) && !Numbers::Signed.contain(1 << 63));
        assert!(Numbers::Unsigned.contain(u64::MAX.into()) && !Numbers::Unsigned.contain(-1));
    }
}
