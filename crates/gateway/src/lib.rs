//! The data plane: HTTP from clients (`edge`) and HTTP between workloads (`mesh`).
//!
//! Finds the route, keeps the borders (limits, timeouts, headers), and hands every request to `platform::dispatch`
//! or to the mesh's policy. Knows no SQL, starts no workload and decides no permission.

mod answer;
pub mod authority;
pub mod door;
pub mod edge;
pub mod forwarded;
pub mod headers;
mod intake;
pub mod listener;
pub mod mesh;
mod outgoing;
mod refusal;
mod relay;
pub mod routes;
mod server;
pub mod tls;
mod trail;
mod upgrade;

pub use door::{Door, Doors};
pub use edge::Edge;
pub use listener::Listener;
pub use mesh::MeshDoor;
pub use server::{ConnectionLimits, framing};
