//! One body type for requests and responses in all rooms, so that a body crosses them without being copied.
//!
//! The common cases are variants, not boxes: a proxied body costs no allocation.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection that it came from failed.
    #[error("the connection failed")]
    Connection(#[source] hyper::Error),
    /// It is larger than its limit.
    #[error("the body is larger than {0}")]
    TooLarge(model::ByteSize),
    /// Nothing came for longer than allowed.
    #[error("the body was idle for too long")]
    Idle,
    /// The workload failed in mid-body.
    #[error(transparent)]
    Workload(model::Error),
}

/// A body: nothing, bytes at hand, bytes from a connection, or anything that makes bytes.
#[derive(Default)]
pub enum Body {
    /// No bytes.
    #[default]
    Empty,
    /// All bytes at once; `None` after they were taken.
    Full(Option<Bytes>),
    /// From a connection.
    Incoming(hyper::body::Incoming),
    /// From anything else.
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body {
    /// A body of bytes at hand.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(Some(bytes))
        }
    }

    /// A body from anything that makes bytes.
    pub fn stream<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        Self::Stream(UnsyncBoxBody::new(body))
    }

    /// Reads it all, up to `limit`.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] beyond `limit`, or what the body itself fails with.
    pub async fn collect(mut self, limit: model::ByteSize) -> Result<Bytes, BodyError> {
        if let Self::Full(bytes) = &mut self {
            let bytes = bytes.take().unwrap_or_default();
            return if bytes.len() as u64 > limit.0 {
                Err(BodyError::TooLarge(limit))
            } else {
                Ok(bytes)
            };
        }
        let mut all = bytes::BytesMut::new();
        let mut first: Option<Bytes> = None;
        while let Some(frame) = http_body_util::BodyExt::frame(&mut self).await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            let so_far = first.as_ref().map_or(all.len(), Bytes::len);
            if (so_far + data.len()) as u64 > limit.0 {
                return Err(BodyError::TooLarge(limit));
            }
            match first.take() {
                None if all.is_empty() => first = Some(data),
                None => all.extend_from_slice(&data),
                Some(before) => {
                    all.extend_from_slice(&before);
                    all.extend_from_slice(&data);
                }
            }
        }
        Ok(first.unwrap_or_else(|| all.freeze()))
    }
}

impl From<hyper::body::Incoming> for Body {
    fn from(body: hyper::body::Incoming) -> Self {
        Self::Incoming(body)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Connection),
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Full(None) => true,
            Self::Full(Some(_)) => false,
            Self::Incoming(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Full(None) => SizeHint::with_exact(0),
            Self::Full(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn collecting_joins_chunks_and_keeps_the_limit() {
        let chunks = |n: usize| {
            let frames = (0..n).map(|_| Ok(Frame::data(Bytes::from_static(b"abc"))));
            Body::stream(StreamBody::new(futures_util::stream::iter(frames)))
        };
        let limit = model::ByteSize(7);
        assert_eq!(chunks(2).collect(limit).await.expect("fits"), "abcabc");
        assert!(matches!(
            chunks(3).collect(limit).await,
            Err(BodyError::TooLarge(_))
        ));
        assert!(matches!(
            Body::full("12345678").collect(limit).await,
            Err(BodyError::TooLarge(_))
        ));
        assert_eq!(Body::Empty.collect(limit).await.expect("fits"), "");
    }
}
