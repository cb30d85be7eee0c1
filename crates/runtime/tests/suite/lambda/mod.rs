//! Lambda handlers, as real processes: under the shipped bootstraps, and under AWS's own clients.

mod clients;
mod extensions;
mod instances;
mod node;
mod payloads;
mod platform;
mod protocol;
mod python;
mod several;
mod stream;
mod templates;
