//! Frames over a WebSocket: JSON as text, the rest as binary.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::header::{RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use hyper::http::HeaderValue;
use std::time::Duration;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::io::Io;
use super::{Heard, Lost, Raw, Transport, Wire};
use crate::client::Error;
use crate::client::address::Address;

type Socket = WebSocketStream<Box<dyn Io>>;

pub(crate) struct Sender(SplitSink<Socket, Message>);

pub(crate) struct Receiver(SplitStream<Socket>);

/// The longest frame that is read, as on WebTransport.
const LONGEST: usize = 16 << 20;

pub(super) async fn open(address: &Address, io: Box<dyn Io>) -> Result<Wire, Error> {
    let stranger = |why: String| Error::Stranger { gateway: address.authority(), why };
    let mut request =
        address.websocket().into_client_request().map_err(|error| stranger(error.to_string()))?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("dormouse.v1"));
    let config =
        WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
    let opened = client_async_with_config(request, io, Some(config)).await;
    let (socket, _) = opened.map_err(|error| match error {
        tungstenite::Error::Http(response) => {
            let after = response.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok());
            Error::Refused {
                gateway: address.authority(),
                status: response.status().as_u16(),
                retry_after: after.and_then(|it| it.parse().ok()).map(Duration::from_secs),
            }
        }
        tungstenite::Error::Io(error) => {
            Error::Unreachable { gateway: address.authority(), source: error.into() }
        }
        error => stranger(error.to_string()),
    })?;
    let (sender, receiver) = socket.split();
    Ok(Wire {
        transport: Transport::WebSocket,
        sender: super::Sender::WebSocket(Sender(sender)),
        receiver: super::Receiver::WebSocket(Receiver(receiver)),
    })
}

impl Sender {
    pub async fn send(&mut self, frame: Raw) -> Result<(), Lost> {
        let message = match frame {
            Raw::Json(json) => {
                Message::Text(json.try_into().map_err(|_| super::super::framing::Broken::Frame)?)
            }
            Raw::Binary { header, data } => Message::Binary(Raw::binary_body(&header, &data)),
        };
        self.0.send(message).await.map_err(broken)
    }

    pub async fn end(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "ended".into() };
        let _ = self.0.send(Message::Close(Some(frame))).await; // whoever is gone is gone
    }
}

impl Receiver {
    pub async fn next(&mut self) -> Result<Heard, Lost> {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => Ok(Heard::Frame(Raw::Json(Bytes::from(text)))),
            Some(Ok(Message::Binary(body))) => Ok(Heard::Frame(Raw::binary(body)?)),
            Some(Ok(Message::Close(frame))) => {
                let said =
                    frame.map(|it| format!("closed with {} {}", u16::from(it.code), it.reason));
                Err(Lost::Broken(said.unwrap_or_else(|| "closed without a word".to_owned())))
            }
            Some(Ok(_)) => Ok(Heard::Alive),
            Some(Err(error)) => Err(broken(error)),
            None => Err(Lost::Broken("it ended".to_owned())),
        }
    }
}

fn broken(error: tungstenite::Error) -> Lost {
    Lost::Broken(error.to_string())
}
