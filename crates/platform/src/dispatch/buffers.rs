//! Memory for request bodies that must be whole before anything can be done with them: one budget in bytes for all of
//! them together. What would not fit is refused before it is read, and what grows over it is refused when it does.
//!
//! A body is charged as it comes, not as it announces itself: whoever announces much and sends nothing holds nothing.
//! What is for one workload takes three quarters of it at most, so that slow bodies for one leave room for all others.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use model::{ByteSize, Error, code};
use runtime::{Body, BodyError};

/// When to come back: buffered bodies are gone as soon as their work is done.
const COME_BACK: Duration = Duration::from_secs(1);

/// The budget. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Buffers(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    total: ByteSize,
    used: AtomicU64,
}

/// What the bodies for one workload hold of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Share(Arc<AtomicU64>);

/// What a body costs for each of its bytes, in halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Price(u64);

impl Price {
    /// It is kept as it came.
    pub(super) const KEPT: Self = Self(2);
    /// An event is made of it, in Base64 when it is no text: both are there at the same time.
    pub(super) const MADE_INTO_AN_EVENT: Self = Self(5);

    const fn of(self, bytes: u64) -> u64 {
        bytes.saturating_mul(self.0) / 2
    }
}

/// What one body holds of the budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    share: Option<Share>,
    bytes: AtomicU64,
}

impl Buffers {
    /// A budget of `total`.
    #[must_use]
    pub fn new(total: ByteSize) -> Self {
        Self(Arc::new(Budget {
            total,
            used: AtomicU64::new(0),
        }))
    }

    /// What is in use.
    #[must_use]
    pub fn used(&self) -> ByteSize {
        ByteSize(self.0.used.load(Relaxed))
    }

    /// Reads `body` whole, up to `limit`; what came holds its part of the budget until its last clone is dropped.
    ///
    /// # Errors
    /// As [`Body::collect`]; `BUFFERS_FULL` inside of it when there is no room.
    pub async fn collect(&self, body: Body, limit: ByteSize) -> Result<Bytes, BodyError> {
        if matches!(body, Body::Empty | Body::Full(_)) || body.size_hint().lower() > limit.0 {
            return body.collect(limit).await;
        }
        let watched = self.watch(body, Price::KEPT, None);
        let (body, held) = watched.map_err(BodyError::Workload)?;
        let bytes = body.collect(limit).await?;
        Ok(Bytes::from_owner(Kept { bytes, _held: held }))
    }

    /// The same of a request's body, with its end as the client is told of it; `what` begins that: `the value is`.
    ///
    /// # Errors
    /// `BODY_TOO_LARGE`, `BUFFERS_FULL` or `BAD_REQUEST`.
    pub(crate) async fn read(
        &self,
        body: Body,
        limit: ByteSize,
        what: &str,
    ) -> Result<Bytes, Error> {
        let read = self.collect(body, limit).await;
        read.map_err(|error| match error {
            BodyError::TooLarge(limit) => {
                let message = format!("{what} larger than {limit}");
                Error::new(code::BODY_TOO_LARGE, message)
            }
            BodyError::Workload(error) => error,
            other => Error::new(code::BAD_REQUEST, "the request's body broke off").context(other),
        })
    }

    /// What `bytes` that came whole hold while an event is made of them and stored.
    ///
    /// # Errors
    /// `BUFFERS_FULL` when there is no room.
    pub(crate) fn hold(&self, bytes: usize) -> Result<Charge, Error> {
        let held = self.nothing(None);
        held.add(Price::MADE_INTO_AN_EVENT.of(bytes as u64))?;
        Ok(held)
    }

    fn nothing(&self, share: Option<Share>) -> Charge {
        Charge {
            budget: Arc::clone(&self.0),
            share,
            bytes: AtomicU64::new(0),
        }
    }

    /// The same body, charged as it comes, to a workload's share where it is for one.
    ///
    /// # Errors
    /// `BUFFERS_FULL` when what it announces does not fit now: then nothing of it is read.
    pub(super) fn watch(
        &self,
        body: Body,
        price: Price,
        share: Option<&Share>,
    ) -> Result<(Body, Arc<Charge>), Error> {
        let announced = price.of(body.size_hint().lower().max(1));
        if self.0.used.load(Relaxed).saturating_add(announced) > self.0.total.0 {
            return Err(self.0.full());
        }
        let held = Arc::new(self.nothing(share.cloned()));
        if !held.fits(announced) {
            return Err(self.0.share_full());
        }
        let charged = Charged {
            inner: body,
            price,
            held: Arc::clone(&held),
        };
        Ok((Body::stream(charged), held))
    }
}

impl Budget {
    /// What the bodies for one workload may hold.
    const fn share(&self) -> ByteSize {
        ByteSize(self.total.0 / 4 * 3)
    }

    fn full(&self) -> Error {
        let message = format!(
            "the bodies of other requests take all the memory that there is for them ({})",
            self.total
        );
        Error::new(code::BUFFERS_FULL, message).retry_after(COME_BACK)
    }

    fn share_full(&self) -> Error {
        let message = format!(
            "the bodies of other requests to this workload take all the memory that there is for them ({})",
            self.share()
        );
        Error::new(code::BUFFERS_FULL, message).retry_after(COME_BACK)
    }
}

impl Charge {
    /// Whether the share has room for so many bytes more. One body alone may be larger than the share.
    fn fits(&self, bytes: u64) -> bool {
        self.share.as_ref().is_none_or(|share| {
            let used = share.0.load(Relaxed);
            used.saturating_add(bytes) <= self.budget.share().0 || used <= self.bytes.load(Relaxed)
        })
    }

    fn add(&self, bytes: u64) -> Result<(), Error> {
        if !self.fits(bytes) {
            return Err(self.budget.share_full());
        }
        let total = self.budget.total.0;
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= total);
        self.budget
            .used
            .fetch_update(Relaxed, Relaxed, fits)
            .map_err(|_| self.budget.full())?;
        if let Some(share) = &self.share {
            share.0.fetch_add(bytes, Relaxed);
        }
        self.bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let bytes = self.bytes.load(Relaxed);
        self.budget.used.fetch_sub(bytes, Relaxed);
        if let Some(share) = &self.share {
            share.0.fetch_sub(bytes, Relaxed);
        }
    }
}

/// Bytes that hold their part of the budget.
struct Kept {
    bytes: Bytes,
    _held: Arc<Charge>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body that is charged as it comes.
struct Charged {
    inner: Body,
    price: Price,
    held: Arc<Charge>,
}

impl http_body::Body for Charged {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
            if let Err(error) = this.held.add(this.price.of(bytes)) {
                return Poll::Ready(Some(Err(BodyError::Workload(error))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    const LIMIT: ByteSize = ByteSize(1000);

    fn stream(chunks: &[&'static str]) -> Body {
        let frames: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))))
            .collect();
        Body::stream(StreamBody::new(futures_util::stream::iter(frames)))
    }

    fn code_of(error: &BodyError) -> Option<model::Code> {
        match error {
            BodyError::Workload(error) => Some(error.code),
            _ => None,
        }
    }

    #[tokio::test]
    async fn bodies_hold_their_bytes_until_the_last_clone_is_gone() {
        let buffers = Buffers::new(ByteSize(10));
        let first = buffers
            .collect(stream(&["abc", "def"]), LIMIT)
            .await
            .expect("fits");
        assert_eq!((&first[..], buffers.used()), (&b"abcdef"[..], ByteSize(6)));
        let slice = first.slice(1..2);
        drop(first);
        let refused = buffers
            .collect(stream(&["abc", "def"]), LIMIT)
            .await
            .expect_err("is too much now");
        assert_eq!(code_of(&refused), Some(code::BUFFERS_FULL));
        assert_eq!(
            buffers.used(),
            ByteSize(6),
            "what was refused holds nothing"
        );
        drop(slice);
        assert_eq!(buffers.used(), ByteSize(0));
        let again = buffers.collect(stream(&["abc", "def"]), LIMIT).await;
        assert!(again.is_ok());
    }

    #[tokio::test]
    async fn what_announces_too_much_is_refused_unread_and_holds_nothing() {
        let buffers = Buffers::new(ByteSize(10));
        let (body, held) = buffers
            .watch(stream(&["abcd"]), Price::MADE_INTO_AN_EVENT, None)
            .expect("fits");
        assert_eq!(buffers.used(), ByteSize(0), "nothing has come yet");
        assert_eq!(body.collect(LIMIT).await.expect("comes"), "abcd");
        assert_eq!(
            buffers.used(),
            ByteSize(10),
            "what is made of it is charged"
        );
        let error = buffers.watch(stream(&["a"]), Price::KEPT, None).err();
        let error = error.expect("there is no room");
        assert_eq!(error.code, code::BUFFERS_FULL);
        assert_eq!(error.retry_after, Some(COME_BACK));
        drop(held);
        assert_eq!(buffers.used(), ByteSize(0));
    }

    #[tokio::test]
    async fn bodies_for_one_workload_leave_room_for_those_of_others() {
        let buffers = Buffers::new(ByteSize(8));
        let shares = [Share::default(), Share::default()];
        let read = async |share: usize, chunks: &[&'static str]| {
            let (body, held) = buffers.watch(stream(chunks), Price::KEPT, Some(&shares[share]))?;
            match body.collect(LIMIT).await {
                Ok(_) => Ok(held),
                Err(BodyError::Workload(error)) => Err(error),
                Err(other) => panic!("{other}"),
            }
        };
        let first = read(0, &["abc"]).await.expect("fits");
        let second = read(0, &["ab", "cd"])
            .await
            .expect_err("is more than its share");
        assert_eq!(second.code, code::BUFFERS_FULL);
        assert!(second.message.contains("to this workload"), "{second}");
        assert_eq!((buffers.used().0, shares[0].0.load(Relaxed)), (3, 3));
        let other = read(1, &["abcde"]).await.expect("has a share of its own");
        drop((first, other));
        assert_eq!(buffers.used(), ByteSize(0));
        assert!(shares.iter().all(|share| share.0.load(Relaxed) == 0));
        read(0, &["abcdefgh"])
            .await
            .expect("one alone may be larger");
    }
}
