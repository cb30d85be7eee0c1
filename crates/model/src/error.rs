//! The one error that crosses rooms: a category, a stable code with a page under `docs/errors/`, a message for
//! the user and a context for the operator. Turned into HTTP, AWS or CLI shape in one place each, at the edge.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::code::Code;

/// What kind of thing went wrong: decides the HTTP status and whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// The request is wrong and will be wrong again.
    Invalid,
    /// Nobody proved who they are.
    Unauthenticated,
    /// They did, and may not.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It exists, but not for this method.
    MethodNotAllowed,
    /// It contradicts what is there.
    Conflict,
    /// A condition that the request itself sets does not hold.
    Precondition,
    /// It comes in a form that is not read here.
    MediaType,
    /// It is larger than a limit.
    TooLarge,
    /// Slow down: too many, for now.
    Throttled,
    /// Nobody can serve this now.
    Unavailable,
    /// It took longer than its deadline.
    Timeout,
    /// The workload answered wrongly, crashed or trapped.
    WorkloadFailed,
    /// Tangelo does not do this.
    Unsupported,
    /// Tangelo is at fault.
    Internal,
}

impl Category {
    /// The HTTP status of this category (RFC 9110).
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::Precondition => 412,
            Self::TooLarge => 413,
            Self::MediaType => 415,
            Self::Throttled => 429,
            Self::Internal => 500,
            Self::Unsupported => 501,
            Self::WorkloadFailed => 502,
            Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// An error that may reach a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Its kind.
    pub category: Category,
    /// Its stable code.
    pub code: Code,
    /// For the user: what, where, and what to do instead. Lower case, no full stop.
    pub message: String,
    /// For the operator only: never sent to a client of the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// When trying again may help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
}

impl Error {
    /// An error with the category that its code stands for.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            category: code.category(),
            code,
            message: message.into(),
            context: None,
            retry_after: None,
        }
    }

    /// The same with something for the operator to read.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.context = Some(context.to_string());
        self
    }

    /// The same with a time after which to try again.
    #[must_use]
    pub const fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// A fault of Tangelo itself; the message that users see says no more than that.
    #[must_use]
    pub fn internal(context: impl fmt::Display) -> Self {
        Self::new(
            crate::code::INTERNAL,
            "an internal fault; the server's log has the details",
        )
        .context(context)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl std::error::Error for Error {}
