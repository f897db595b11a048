//! The doors from outside: real listeners on ports of their own, bytes written by hand.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod http;
mod life;
mod operator;
mod support;
