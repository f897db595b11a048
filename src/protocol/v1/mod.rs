//! `dormouse.v1`: the frames, read ([`client`]) and written ([`server`]).

mod client;
mod request_id;
mod server;
#[cfg(test)]
mod tests;

pub use client::*;
pub use server::*;

/// The subprotocol's name.
pub const NAME: &str = "dormouse.v1";
