//! Events for those outside of the platform.

mod alone;
mod receiver;
mod webhooks;
mod wrongs;
