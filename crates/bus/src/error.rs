//! What the bus fails with.

use model::code;

/// What the bus's verbs fail with.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// There is no such dead letter.
    #[error("there is no dead letter {0}")]
    NoSuchDeadLetter(u64),
    /// The subscription of a dead letter is no more.
    #[error(
        "the subscription of dead letter {0} is no more: deploy its app again, or discard the letter"
    )]
    SubscriptionGone(u64),
    /// A filter does not compile.
    #[error("the filter of `{key}` is no pattern: {reason}")]
    BadFilter {
        /// Whose.
        key: model::SubscriptionKey,
        /// Why, and where in it.
        reason: String,
    },
}

impl From<Error> for model::Error {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Store(error) => error.into(),
            Error::NoSuchDeadLetter(_) => Self::new(code::NO_SUCH_DEAD_LETTER, text),
            Error::SubscriptionGone(_) => Self::new(code::NO_SUCH_SUBSCRIPTION, text),
            Error::BadFilter { .. } => Self::new(code::BAD_FILTER, text),
        }
    }
}
