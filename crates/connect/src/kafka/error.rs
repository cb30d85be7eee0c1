//! What a cluster fails with.

use model::code;
use rskafka::client::error::{Error as Fault, ProtocolError};

/// What a cluster fails with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No broker answers, or not as it must.
    #[error("Kafka does not answer: {0}")]
    Unreachable(String),
    /// It does not believe who this is, or does not let it do what it must.
    #[error("Kafka does not let Tangelo in: {0}")]
    Forbidden(String),
    /// The file of certificates cannot be used.
    #[error("the certificates of the bridge cannot be used: {0}")]
    Certificates(String),
    /// There is no such topic.
    #[error("the cluster has no topic `{0}`")]
    NoSuchTopic(String),
    /// What was to be read is not there any more, or not yet.
    #[error("the offset to read on at is not in the topic any more")]
    OutOfRange,
    /// A record is larger than the topic takes.
    #[error("a record is larger than the topic takes")]
    TooLarge,
}

impl From<Error> for model::Error {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Unreachable(_) | Error::OutOfRange => Self::new(code::BROKER_UNREACHABLE, text),
            Error::Forbidden(_) | Error::Certificates(_) => Self::new(code::BROKER_FORBIDS, text),
            Error::NoSuchTopic(_) => Self::new(code::NO_SUCH_TOPIC, text),
            Error::TooLarge => Self::new(code::RECORD_REFUSED, text),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let text = last(&fault);
        if let Fault::ServerError { protocol_error, .. } = &fault {
            return match protocol_error {
                ProtocolError::OffsetOutOfRange => Self::OutOfRange,
                ProtocolError::MessageTooLarge | ProtocolError::RecordListTooLarge => {
                    Self::TooLarge
                }
                ProtocolError::TopicAuthorizationFailed
                | ProtocolError::ClusterAuthorizationFailed => Self::Forbidden(text),
                _ => Self::Unreachable(text),
            };
        }
        // The client hands on what a login failed with as text only, behind "all retries failed".
        match text.contains("Sasl handshake failed") || text.contains("sasl mechanism") {
            true => Self::Forbidden(text),
            false => Self::Unreachable(text),
        }
    }
}

/// What it came to in the end: the client says several times before that it tried again.
fn last(fault: &Fault) -> String {
    let text = fault.to_string();
    let last = text.rsplit("Source: ").next().unwrap_or_default();
    last.chars().take(500).collect()
}
