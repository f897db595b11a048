//! A WebSocket as a link.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::upgrade::Upgraded;

use super::Context;
use crate::protocol::{Profile, RoomName};
use crate::session::Entered;

/// Serves one WebSocket until it ends.
pub async fn serve(
    _cx: Arc<Context>,
    _io: Upgraded,
    _room: RoomName,
    _profile: Profile,
    _peer: SocketAddr,
    _entered: Entered,
) {
}
