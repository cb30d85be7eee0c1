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
    /// What events are ordered by is no path.
    #[error("the key of order of `{key}` {reason}")]
    BadOrder {
        /// Whose.
        key: model::SubscriptionKey,
        /// What is wrong with it.
        reason: String,
    },
    /// What a subscription hands over instead of its events cannot be read.
    #[error("the input of `{key}`: {reason}")]
    BadInput {
        /// Whose.
        key: model::SubscriptionKey,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such redrive or replay.
    #[error("there is no redrive or replay {0}")]
    NoSuchJob(u64),
    /// An earlier dead letter of the same key comes first.
    #[error(
        "dead letter {0} waits for an earlier one of its key (at position {1}): redrive or discard that first, or redrive all"
    )]
    EarlierFirst(u64, u64),
    /// There is no such projection, or no such generation of it.
    #[error("there is no {what} `{key}`: `tangelo projections` lists what there is")]
    NoSuchProjection {
        /// The projection or its generation.
        what: &'static str,
        /// Which.
        key: String,
    },
    /// A projection is not where it would have to be.
    #[error("{0}")]
    ProjectionConflict(String),
    /// A rebuild would miss what the log has lost.
    #[error(
        "`{key}` cannot be rebuilt as a whole: the log no longer has all events up to position {through}; say that a partial one will do"
    )]
    EventsGone {
        /// Which projection.
        key: model::SubscriptionKey,
        /// Up to where some are gone.
        through: u64,
    },
    /// There is no such subscription.
    #[error("there is no subscription `{0}`: `tangelo subscriptions` lists those that there are")]
    NoSuchSubscription(model::SubscriptionKey),
    /// It is delivered, and not pulled.
    #[error("`{0}` is not pulled: its manifest says where its events go")]
    NotPulled(model::SubscriptionKey),
}

impl From<Error> for model::Error {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Store(error) => error.into(),
            Error::NoSuchDeadLetter(_) => Self::new(code::NO_SUCH_DEAD_LETTER, text),
            Error::SubscriptionGone(_) | Error::NoSuchSubscription(_) => {
                Self::new(code::NO_SUCH_SUBSCRIPTION, text)
            }
            Error::NoSuchProjection { .. } => Self::new(code::NO_SUCH_PROJECTION, text),
            Error::ProjectionConflict(_) => Self::new(code::PROJECTION_CONFLICT, text),
            Error::EventsGone { .. } => Self::new(code::EVENTS_GONE, text),
            Error::NotPulled(_) => Self::new(code::NOT_PULLED, text),
            Error::NoSuchJob(_) => Self::new(code::NO_SUCH_JOB, text),
            Error::EarlierFirst(..) => Self::new(code::EARLIER_LETTER_FIRST, text),
            Error::BadFilter { .. } | Error::BadOrder { .. } | Error::BadInput { .. } => {
                Self::new(code::BAD_FILTER, text)
            }
        }
    }
}
