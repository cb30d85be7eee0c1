//! Signatures that botocore made, verified here, and every way to spoil them.

#![allow(missing_docs, reason = "a test binary exports nothing")]

mod sigv4;
