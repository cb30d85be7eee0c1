//! Publishing over a WebSocket: one connection, many events under way, each acknowledged by itself once it is durable.

mod handshake;
mod line;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{Response, request::Parts};
use hyper::upgrade::OnUpgrade;
use model::{AppName, ByteSize, Error, code};
use parking_lot::Mutex;
use platform::{
    Body, Platform,
    events::{Publisher, Who},
};

use crate::{server::Link, trail::Trail, upgrade};

/// Connections that publish so at the same time.
pub const MOST: usize = 1024;
/// Those of one app: however many come to it, others find a place.
const OF_ONE_APP: usize = MOST / 2;
/// What each of them holds beside events: buffers to read into and to write from.
pub const BUFFERS: ByteSize = ByteSize((line::BUFFER + line::UNSENT) as u64);
/// When one who finds no place may come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// How many publish so, by app.
#[derive(Clone, Default)]
pub(super) struct Publishers(Arc<Mutex<BTreeMap<AppName, usize>>>);

/// The place of one, until it is dropped.
struct Place {
    of: Publishers,
    app: AppName,
}

/// In the head of an answer that switches protocols: who publishes, and their place.
#[derive(Clone)]
pub(super) struct Admitted {
    publisher: Arc<Publisher>,
    place: Arc<Place>,
}

impl Publishers {
    /// Answers the handshake in `head` with `app`; `who` says from then on who publishes.
    ///
    /// # Errors
    /// `BAD_REQUEST` when it is none, `SERVER_FULL` when there is no place.
    pub(super) fn admit(
        &self,
        platform: &Platform,
        head: &Parts,
        app: &AppName,
        who: Who,
    ) -> Result<Response<Body>, Error> {
        let mut response = handshake::answer(head)?;
        if !upgrade::is_switching(&response) {
            return Ok(response);
        }
        let place = self.take(app)?;
        response.extensions_mut().insert(Admitted {
            publisher: Arc::new(Publisher::new(platform.events().clone(), who)),
            place: Arc::new(place),
        });
        Ok(response)
    }

    fn take(&self, app: &AppName) -> Result<Place, Error> {
        let mut places = self.0.lock();
        let (all, own) = (places.values().sum::<usize>(), places.get(app));
        let full = match own.is_some_and(|own| *own >= OF_ONE_APP) {
            true => Some(format!("{OF_ONE_APP} connections to `{app}`")),
            false => (all >= MOST).then(|| format!("{MOST} connections")),
        };
        if let Some(full) = full {
            let message = format!("{full} publish by messages already");
            return Err(Error::new(code::SERVER_FULL, message).retry_after(COME_BACK));
        }
        *places.entry(app.clone()).or_default() += 1;
        Ok(Place {
            of: self.clone(),
            app: app.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.of.0.lock();
        if let Some(own) = places.get_mut(&self.app) {
            *own -= 1;
        }
        places.retain(|_, own| *own > 0);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_app_leaves_half_of_the_places_to_others() {
        let publishers = Publishers::default();
        let [one, other, third] = ["one", "other", "third"].map(AppName::literal);
        let take = |app: &AppName, count: usize| -> Vec<_> {
            let places = (0..count).map(|_| publishers.take(app));
            places.collect::<Result<_, _>>().expect("there are places")
        };
        let refused = |app: &AppName| publishers.take(app).err().map(|error| error.message);
        let mut held = take(&one, OF_ONE_APP);
        assert!(refused(&one).is_some_and(|why| why.contains("512 connections to `one`")));
        let _held = take(&other, OF_ONE_APP);
        assert!(refused(&third).is_some_and(|why| why.contains("1024 connections")));
        held.pop();
        let _third = take(&third, 1);
        assert!(refused(&one).is_some());
        drop(held);
        drop(take(&one, OF_ONE_APP - 1));
        assert_eq!(publishers.0.lock().len(), 2, "who has none is forgotten");
    }
}
