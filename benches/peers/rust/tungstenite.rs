//! What a careful programmer writes first: tokio-tungstenite with small buffers, a task and a
//! bounded queue for each member, and whatever is queued in one write.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Sender, channel};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Messages that wait for one member; who is further behind misses some.
const QUEUE: usize = 1_024;

const BUFFER: usize = 4 * 1024;

type Room = Rc<RefCell<Vec<Sender<Utf8Bytes>>>>;
type Rooms = Rc<RefCell<HashMap<String, Room>>>;

pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let rooms = Rooms::default();
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(member(stream, rooms.clone()));
    }
}

async fn member(stream: TcpStream, rooms: Rooms) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the library's own type, and there is no error")]
    let note = |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER);
    let socket = accept_hdr_async_with_config(stream, note, Some(config)).await.ok()?;
    let (mut sink, mut stream) = socket.split();
    let room = rooms.borrow_mut().entry(path).or_default().clone();
    let (sender, mut queue) = channel(QUEUE);
    room.borrow_mut().push(sender);
    loop {
        tokio::select! {
            heard = stream.next() => match heard?.ok()? {
                Message::Text(text) => {
                    // Who is gone is forgotten on the way.
                    room.borrow_mut().retain(|member| {
                        !member.is_closed() && { let _ = member.try_send(text.clone()); true }
                    });
                }
                Message::Close(_) => return None,
                _ => {}
            },
            text = queue.recv() => {
                let mut next = text;
                while let Some(text) = next {
                    sink.feed(Message::Text(text)).await.ok()?;
                    next = queue.try_recv().ok();
                }
                sink.flush().await.ok()?;
            }
        }
    }
}
