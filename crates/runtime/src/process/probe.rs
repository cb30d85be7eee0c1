//! Asking an instance whether it serves.

use std::{sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use http::{HeaderValue, Request, header};
use model::{Clock, Probe};
use tokio::net::TcpStream;

use super::ports::Port;
use crate::{
    body::Body,
    call::Meter,
    upstream::{Terms, Upstream},
};

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
        match self.upstream.send(request, terms, ()).await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(format!("`{path}` answers {}", response.status().as_u16())),
            Err(failed) => Err(failed.error.message),
        }
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
