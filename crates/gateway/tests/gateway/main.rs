//! The gateway as its clients see it: raw sockets in front, a real platform behind, and an upstream of the test's own
//! as an `external` workload.

mod before;
mod conversation;
mod frames;
mod house;
mod http2;
mod limits;
mod mesh;
mod publishers;
mod requests;
mod routes;
mod smuggling;
mod splitting;
mod streams;
mod tls;
mod traces;
mod truncated;
mod upstream;
mod work;
