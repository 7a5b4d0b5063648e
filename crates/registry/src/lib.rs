//! OCI registries: where images are pulled from and pushed to (the distribution specification, version 1.1).
//!
//! A registry may be slow, broken or hostile. Every answer has a bound in size and time, redirects are few and never lead
//! from TLS to plain text, and credentials go to no other host. What comes is checked by [`wisp_image`], by digest.

mod auth;
mod client;
mod credentials;
mod reference;

pub use client::{Registry, Settings};
pub use credentials::Credentials;
pub use reference::{NotAReference, Reference};

/// Chooses what TLS computes with. Each program does it before it makes an HTTP client; again does no harm.
pub fn set_up_tls() {
    // An error says that it was done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
