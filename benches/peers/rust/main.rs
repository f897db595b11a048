//! Two peers in Rust, the least that can be done and what is usually done:
//! `peer floor|tungstenite`, on 127.0.0.1 at the port in `PORT`.
//!
//! Both speak the generator's plain dialect: a room is a path, and a text frame goes to all who
//! are there, its author included. Neither keeps anything.

#![allow(missing_docs, reason = "a program, not a library")]

mod floor;
mod tungstenite;

use std::net::Ipv4Addr;

use tokio::net::TcpListener;
use tokio::task::LocalSet;

fn main() -> std::io::Result<()> {
    let which = std::env::args().nth(1).unwrap_or_default();
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok());
    let port: u16 = port.ok_or_else(|| std::io::Error::other("PORT is to be a port"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        match which.as_str() {
            "floor" => floor::serve(listener).await,
            "tungstenite" => tungstenite::serve(listener).await,
            _ => Err(std::io::Error::other("peer floor|tungstenite")),
        }
    })
}
