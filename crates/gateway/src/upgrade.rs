//! Joining the two sides of an upgraded connection: the client's and the workload's, byte for byte, until one closes.

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use platform::{Upgrade, dispatch::Held};

use crate::{headers, relay::relay, server::Link, trail::Trail};

/// The client's side, when its request asks for a WebSocket.
pub(crate) fn of_client(request: &mut Request<Incoming>) -> Option<OnUpgrade> {
    headers::is_websocket(request.headers()).then(|| hyper::upgrade::on(request))
}

/// Whether a workload agreed to switch protocols.
pub(crate) fn is_switching<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// The workload's side, out of its answer.
pub(crate) fn of_workload<B>(response: &mut Response<B>) -> Option<(OnUpgrade, Option<Held>)> {
    let upgrade = response.extensions_mut().remove::<Upgrade>()?;
    let side = upgrade.0.lock().take()?;
    Some((side, response.extensions_mut().remove::<Held>()))
}

/// Joins both sides in the background. The invocation and the span last as long as the connection, a draining server waits
/// for it, and it counts as one of its client's.
pub(crate) fn join(
    client: OnUpgrade,
    workload: (OnUpgrade, Option<Held>),
    trail: Option<Box<Trail>>,
    link: Link,
) {
    let (workload, held) = workload;
    tokio::spawn(async move {
        let joined = async {
            let (client, workload) = tokio::try_join!(client, workload)?;
            let (mut client, mut workload) = (TokioIo::new(client), TokioIo::new(workload));
            relay(&mut client, &mut workload).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        };
        // A peer that resets its connection has closed it, too: every WebSocket ends in one way or the other.
        if let Err(error) = joined.await {
            tracing::debug!(%error, "an upgraded connection ended");
        }
        if let Some(trail) = trail {
            trail.end();
        }
        drop((held, link));
    });
}
