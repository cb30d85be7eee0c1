//! The data plane: HTTP from clients (`edge`) and HTTP between workloads (`mesh`).
//!
//! Finds the route, keeps the borders (limits, timeouts, headers), and hands every request to `platform::dispatch`
//! or to the mesh's policy. Knows no SQL, starts no workload and decides no permission.

pub mod authority;
pub mod forwarded;
pub mod headers;
pub mod routes;
