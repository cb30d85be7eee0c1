//! What others hang into the gateway: a table of path prefix → door, so that the AWS door and an app's health page are
//! reachable here without an arrow to their rooms.

use std::{future::Future, pin::Pin, sync::Arc};

use http::{Request, Response};
use platform::{Body, Caller};

/// Serves requests under a path prefix.
pub trait Door: Send + Sync + 'static {
    /// Answers `request`, its path as it came but without a mesh token. `caller` is who calls over the mesh; `None`
    /// for clients of the edge and on the mesh for requests without a token.
    fn serve(
        &self,
        caller: Option<Caller>,
        request: Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
}

/// Path prefixes and what serves them.
pub type Doors = Vec<(String, Arc<dyn Door>)>;

/// The door whose prefix `path` begins with, segment by segment.
pub(crate) fn find<'d>(doors: &'d Doors, path: &str) -> Option<&'d Arc<dyn Door>> {
    let opens = |prefix: &str| {
        let rest = path.strip_prefix(prefix.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    doors
        .iter()
        .find(|(prefix, _)| opens(prefix))
        .map(|(_, door)| door)
}
