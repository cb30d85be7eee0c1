//! Events for those outside of the platform.

mod alone;
mod messages;
mod receiver;
mod webhooks;
mod wrongs;
