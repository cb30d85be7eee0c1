//! Components of WASI 0.3 (`wasi:http/handler`), where the server's setting `wasi_preview3` allows them: an instance has
//! a task of its own, and may serve several requests at the same time.
//!
//! All of it is beside WASI 0.2: another engine, other compiled code, another way of a request. What both share is what
//! a workload may do: its memory and that of all guests, its share of places, its output, its way out through the mesh.
//! Invariants: a request fails by its own deadline whatever the others do; a trap fails those who share the instance, and
//! each is told whether it was its own; who left cannot be cut out of an instance, so that one takes nobody else.

mod attribution;
mod drive;
mod engine;
mod fate;
mod imports;
mod instance;
mod output;
mod reply;
mod request;
mod session;

use std::{future::poll_fn, sync::Arc};

use http::Response;
use model::{ColdStart, Error, Invocation};

pub(super) use self::{
    attribution::attribute,
    engine::Preview3,
    instance::{Instance, Shelf},
};
use super::{Pool, code::Code, run::Run};
use crate::{
    body::Body,
    call::{Input, Meter},
};

/// Lets an instance that has room serve the request, or a new one, up to the head of its response.
pub(super) async fn respond(
    pool: &Arc<Pool>,
    code: Arc<Code>,
    mut cold: ColdStart,
    (invocation, input): (Arc<Invocation>, Input),
    meter: &Arc<Meter>,
) -> Result<Response<Body>, Error> {
    let run = Run::new(pool, Arc::clone(&code), invocation, meter, &input);
    let mut session = match pool.preview3.board(&run) {
        Some(session) => session,
        None => {
            let place = pool.place(&run.invocation, &code, &mut cold).await?;
            // While this one waited for a place, another's may have got room.
            match pool.preview3.board(&run) {
                Some(session) => session,
                None => Instance::start(&run, place, cold)?,
            }
        }
    };
    session.send(request::request(&run, input)?);
    let head = poll_fn(|cx| session.poll_head(cx)).await?;
    reply::reply(head, session)
}
