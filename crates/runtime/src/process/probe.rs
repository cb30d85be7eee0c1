//! Asking an instance whether it serves.

use std::{sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use http::{HeaderValue, Request, header};
use model::{ByteSize, Clock, Probe};
use tokio::net::TcpStream;

use super::ports::Port;
use crate::{
    body::Body,
    call::Meter,
    upstream::{Terms, Upstream},
};

/// The most that is read of what an instance says of its health.
const SAID: ByteSize = ByteSize::kib(64);

/// Who is asked.
pub(super) struct Asked<'a> {
    pub(super) clock: &'a Clock,
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) port: &'a Port,
}

impl Asked<'_> {
    /// Asks once. The error says what came instead.
    pub(super) async fn ask(&self, probe: &Probe) -> Result<(), String> {
        match &probe.path {
            Some(path) => self.ask_path(path, probe.timeout).await,
            None => self.ask_port(probe.timeout).await,
        }
    }

    async fn ask_path(&self, path: &str, patience: Duration) -> Result<(), String> {
        let request = Request::get(path)
            .header(
                header::USER_AGENT,
                HeaderValue::from_static("tangelo-health"),
            )
            .body(Body::Empty)
            .map_err(|error| error.to_string())?;
        let terms = Terms {
            deadline: self.clock.monotonic() + patience,
            body_idle: patience,
            meter: Arc::new(Meter::default()),
            repeated: false,
        };
        let response = self.upstream.send(Box::new(request), terms, ()).await;
        let (head, body) = response
            .map_err(|failed| failed.error.message)?
            .into_parts();
        self.hear_out(body, patience).await;
        match head.status.is_success() {
            true => Ok(()),
            false => Err(format!("`{path}` answers {}", head.status.as_u16())),
        }
    }

    /// Reads what an instance says beside its status, and keeps the connection: who is cut off in mid-answer takes that for
    /// an error of its client, and writes it to its log.
    async fn hear_out(&self, body: Body, patience: Duration) {
        let heard = std::pin::pin!(body.collect(SAID));
        let timer = std::pin::pin!(self.clock.sleep(patience));
        select(heard, timer).await;
    }

    async fn ask_port(&self, patience: Duration) -> Result<(), String> {
        let connecting = std::pin::pin!(TcpStream::connect(self.port.address()));
        let timer = std::pin::pin!(self.clock.sleep(patience));
        match select(connecting, timer).await {
            Either::Left((Ok(_), _)) => Ok(()),
            Either::Left((Err(error), _)) => Err(format!("no connection to its port: {error}")),
            Either::Right(_) => Err("its port does not accept".to_owned()),
        }
    }
}
