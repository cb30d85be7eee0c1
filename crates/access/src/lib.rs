//! Who acts and what they may: identities of instances, signatures, secrets. No I/O and no policy of the platform.

pub mod bearer;
pub mod instance_keys;
pub mod mesh_tokens;
pub mod redact;
pub mod secrets;
pub mod sigv4;

pub use instance_keys::{InstanceKeys, KeyPair};
pub use mesh_tokens::MeshTokens;
pub use secrets::Secrets;
