//! What running code asks of a bucket, and what it gets: a closed set, so that whoever hosts an interface for it says
//! the same to the platform.

use model::keyvalue::{After, Change, Entry, Listed, Numbers, Revision};

/// What is asked of one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Whether it may be used at all. Answered with [`Answer::Done`].
    Open,
    /// What is under each of these keys. Answered with [`Answer::Entries`].
    Get(Vec<String>),
    /// What is known of this key without its value. Answered with [`Answer::Known`].
    Look(String),
    /// These changes, all or none. Answered with [`Answer::Done`] when they are on disk.
    Write(Vec<Change>),
    /// The sum of a counter and a number. Answered with [`Answer::Number`] when it is on disk.
    Increment(String, i128, Numbers),
    /// A page of keys. Answered with [`Answer::Keys`].
    List(After),
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is so.
    Done,
    /// One for each key, in their order.
    Entries(Vec<Option<Entry>>),
    /// What the key was written by; `None`: there is nothing.
    Known(Option<Revision>),
    /// What is there now.
    Number(i128),
    /// At most [`model::keyvalue::MAX_PAGE`] keys; fewer: there are no more.
    Keys(Vec<Listed>),
}
