//! Publishing over a WebSocket: one connection, many events under way, each acknowledged by itself once it is durable.

mod handshake;
mod line;

use std::{sync::Arc, time::Duration};

use http::{Response, request::Parts};
use hyper::upgrade::OnUpgrade;
use model::{ByteSize, Error, code};
use platform::{
    Body, Platform,
    events::{Publisher, Who},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{server::Link, trail::Trail, upgrade};

/// Connections that publish so at the same time.
pub const MOST: usize = 1024;
/// What each of them holds beside events: buffers to read into and to write from.
pub const BUFFERS: ByteSize = ByteSize((line::BUFFER + line::UNSENT) as u64);
/// When one who finds no place may come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// The places of those who publish so.
pub(super) struct Publishers(Arc<Semaphore>);

/// In the head of an answer that switches protocols: who publishes, and their place.
#[derive(Clone)]
pub(super) struct Admitted {
    publisher: Arc<Publisher>,
    place: Arc<OwnedSemaphorePermit>,
}

impl Default for Publishers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl Publishers {
    /// Answers the handshake in `head`; `who` says from then on who publishes.
    ///
    /// # Errors
    /// `BAD_REQUEST` when it is none, `SERVER_FULL` when there is no place.
    pub(super) fn admit(
        &self,
        platform: &Platform,
        head: &Parts,
        who: Who,
    ) -> Result<Response<Body>, Error> {
        let mut response = handshake::answer(head)?;
        if !upgrade::is_switching(&response) {
            return Ok(response);
        }
        let place = Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let message = format!("{MOST} connections publish by messages already");
            Error::new(code::SERVER_FULL, message).retry_after(COME_BACK)
        })?;
        response.extensions_mut().insert(Admitted {
            publisher: Arc::new(Publisher::new(platform.events().clone(), who)),
            place: Arc::new(place),
        });
        Ok(response)
    }
}

/// Serves one who was admitted, in the background, to the connection's end: it counts as one of its client's, and a
/// draining server waits until what was sent is answered.
pub(super) fn serve(
    platform: Platform,
    admitted: Admitted,
    client: OnUpgrade,
    mut trail: Box<Trail>,
    link: Link,
) {
    tokio::spawn(async move {
        let Admitted { publisher, place } = admitted;
        let ended = match client.await {
            Ok(client) => line::run(client, publisher, &platform, &link).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection that published broke off");
            trail.error = Some(format!("the connection broke off: {error}"));
        }
        trail.end();
        drop((place, link));
    });
}
