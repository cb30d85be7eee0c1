//! What operators ask of the whole platform: uploads, readiness, subscriptions, dead letters.

use std::sync::atomic::Ordering::Relaxed;

use bus::DeadLetter;
use model::{BlobHash, ByteSize, Error, Position, SubscriptionKey, code};
use runtime::Body;
use serde_json::{Value, json};

use crate::Platform;

/// Largest single file of an upload.
const LARGEST_FILE: ByteSize = ByteSize::mib(512);
/// What is shown of what was done to a subscription.
const SHOWN_AUDIT: u32 = 20;

impl Platform {
    /// Those of `hashes` that an upload would have to bring.
    ///
    /// # Errors
    /// When there are unreasonably many.
    pub async fn missing_blobs(&self, hashes: Vec<BlobHash>) -> Result<Vec<BlobHash>, Error> {
        if hashes.len() > 100_000 {
            return Err(Error::new(
                code::PAYLOAD_TOO_LARGE,
                "an app may have at most 100,000 files",
            ));
        }
        let blobs = self.store().blobs();
        let missing = move || {
            hashes
                .into_iter()
                .filter(|hash| !blobs.contains(hash))
                .collect()
        };
        tokio::task::spawn_blocking(missing)
            .await
            .map_err(Error::internal)
    }

    /// Takes one file, durably.
    ///
    /// # Errors
    /// `UPLOAD_MISSING` when its bytes are not those of `hash`, `PAYLOAD_TOO_LARGE`, or what the store fails with.
    pub async fn upload_blob(&self, hash: BlobHash, mut body: Body) -> Result<(), Error> {
        let mut writer = self.store().blobs().writer(LARGEST_FILE).await?;
        while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
            let frame = frame
                .map_err(|e| Error::new(code::BAD_REQUEST, "the upload broke off").context(e))?;
            if let Ok(data) = frame.into_data() {
                writer.write(data).await?;
            }
        }
        let blob = writer.finish().await?;
        if blob.hash == hash {
            return Ok(());
        }
        let message = format!("the uploaded bytes have hash {}, not {hash}", blob.hash);
        Err(Error::new(code::UPLOAD_MISSING, message))
    }

    /// From now on the platform says that it is not ready, so that nobody sends it more while it ends.
    pub fn begin_draining(&self) {
        self.0.draining.store(true, Relaxed);
    }

    /// Whether the platform can take work: it is not ending, and the store answers.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<(), Error> {
        if self.0.draining.load(Relaxed) {
            return Err(Error::new(code::SHUTTING_DOWN, "the server is stopping"));
        }
        self.store().flush().await.map_err(Error::from)
    }

    /// Every subscription, how far behind it is, and what it waits for.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<bus::SubscriptionStats> {
        self.bus().stats()
    }

    /// The event at a position of the log.
    ///
    /// # Errors
    /// `NO_SUCH_EVENT`, or what the store fails with.
    pub async fn event_at(&self, at: Position) -> Result<Value, Error> {
        let namespace = model::Name::default_namespace();
        let found = self.bus().event_at(&namespace, at).await?;
        let missing = || format!("the log has no event at position {}", at.0);
        found.map(shown).ok_or_else(|| no_event(missing()))
    }

    /// The newest event with an id, of `source` when that is given, among the newest 100,000.
    ///
    /// # Errors
    /// `NO_SUCH_EVENT`, or what the store fails with.
    pub async fn find_event(&self, id: &str, source: Option<&str>) -> Result<Value, Error> {
        let namespace = model::Name::default_namespace();
        let found = self.bus().find_event(&namespace, id, source).await?;
        let missing = || format!("none of the newest 100,000 events has the id `{id}`");
        found.map(shown).ok_or_else(|| no_event(missing()))
    }

    /// The pattern of a subscription that lives: `app/workload/name`.
    ///
    /// # Errors
    /// `NO_SUCH_SUBSCRIPTION`, or what the store fails with.
    pub async fn filter_of(&self, subscription: &str) -> Result<Value, Error> {
        let key = key(subscription)?;
        let namespace = model::Name::default_namespace();
        let found = self.bus().filter_of(&namespace, &key).await?;
        let missing = || {
            let message = format!("there is no subscription {key}: see `tangelo subscriptions`");
            Error::new(code::NO_SUCH_SUBSCRIPTION, message)
        };
        found.map(|filter| filter.0).ok_or_else(missing)
    }

    /// One subscription: what it asks for, how far it is, what operators did to it.
    ///
    /// # Errors
    /// `NO_SUCH_SUBSCRIPTION`, or what the store fails with.
    pub async fn subscription(&self, subscription: &str) -> Result<Value, Error> {
        let key = key(subscription)?;
        let stats = self.bus().stats();
        let stats = stats.into_iter().find(|stats| stats.subscription == key);
        let stats = stats.ok_or_else(|| bus::Error::NoSuchSubscription(key.clone()))?;
        let log = self.store().log();
        let ranges = log.subscriptions().await?.into_iter();
        let ranges: Vec<Value> = ranges
            .filter(|(stored, _)| stored.key == key)
            .map(|(stored, _)| json!({"after": stored.begin, "through": stored.end, "asks": stored.spec}))
            .collect();
        let audit = log.audit(Some(key.to_string()), SHOWN_AUDIT).await?;
        Ok(
            json!({"subscription": key.to_string(), "stands": stats, "ranges": ranges, "audit": audit}),
        )
    }

    /// Takes nothing more of a subscription until it is resumed.
    ///
    /// # Errors
    /// `NO_SUCH_SUBSCRIPTION`, or what the store fails with.
    pub async fn pause(
        &self,
        subscription: &str,
        by: &str,
        reason: Option<&str>,
    ) -> Result<bus::Paused, Error> {
        let reason = reason.map(|reason| reason.chars().take(1000).collect::<String>());
        let key = key(subscription)?;
        Ok(self.bus().pause(&key, by, reason.as_deref()).await?)
    }

    /// Lets a paused subscription go on; whether it was paused.
    ///
    /// # Errors
    /// `NO_SUCH_SUBSCRIPTION`, or what the store fails with.
    pub async fn resume(&self, subscription: &str, by: &str) -> Result<bool, Error> {
        Ok(self.bus().resume(&key(subscription)?, by).await?)
    }

    /// Dead letters, oldest first.
    ///
    /// # Errors
    /// When a name is none, or the store cannot be read.
    pub async fn dead_letters(
        &self,
        app: Option<&str>,
        subscription: Option<&str>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, Error> {
        let filter = bus::DeadLetterFilter {
            app: app.map(name).transpose()?,
            subscription: subscription.map(key).transpose()?,
        };
        self.bus()
            .dead_letters(filter, limit)
            .await
            .map_err(Error::from)
    }

    /// One dead letter.
    ///
    /// # Errors
    /// `NO_SUCH_DEAD_LETTER`.
    pub async fn dead_letter(&self, id: u64) -> Result<DeadLetter, Error> {
        let found = self.bus().dead_letter(id).await.map_err(Error::from)?;
        found.ok_or_else(|| {
            Error::new(
                code::NO_SUCH_DEAD_LETTER,
                format!("there is no dead letter {id}"),
            )
        })
    }

    /// Delivers a dead letter again, with attempts anew and the same idempotency key.
    ///
    /// # Errors
    /// `NO_SUCH_DEAD_LETTER`.
    pub async fn redrive(&self, id: u64) -> Result<(), Error> {
        self.bus().redrive(id).await.map_err(Error::from)
    }

    /// Delivers all dead letters of a filter again; how many they were.
    ///
    /// # Errors
    /// When a name is none, or the store fails.
    pub async fn redrive_all(
        &self,
        app: Option<&str>,
        subscription: Option<&str>,
    ) -> Result<u64, Error> {
        let filter = bus::DeadLetterFilter {
            app: app.map(name).transpose()?,
            subscription: subscription.map(key).transpose()?,
        };
        self.bus().redrive_all(filter).await.map_err(Error::from)
    }

    /// Throws a dead letter away.
    ///
    /// # Errors
    /// `NO_SUCH_DEAD_LETTER`.
    pub async fn discard_dead_letter(&self, id: u64) -> Result<(), Error> {
        self.bus().discard(id).await.map_err(Error::from)
    }
}

fn shown(logged: bus::Logged) -> Value {
    json!({"position": logged.position, "event": logged.event.to_json()})
}

fn no_event(message: String) -> Error {
    Error::new(code::NO_SUCH_EVENT, message)
}

fn name(text: &str) -> Result<model::Name, Error> {
    model::Name::new(text).map_err(|e| Error::new(code::BAD_REQUEST, e.to_string()))
}

fn key(text: &str) -> Result<SubscriptionKey, Error> {
    text.parse()
        .map_err(|e: String| Error::new(code::NO_SUCH_SUBSCRIPTION, e))
}
