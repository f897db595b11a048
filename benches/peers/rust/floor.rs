//! The floor: a message is framed once and written to each member's socket, one bare write each.
//! There are no queues and no patience: who does not take all of it at once is forgotten.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

type Room = Rc<RefCell<Vec<Rc<TcpStream>>>>;
type Rooms = Rc<RefCell<HashMap<String, Room>>>;

pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let rooms = Rooms::default();
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(member(Rc::new(stream), rooms.clone()));
    }
}

async fn member(stream: Rc<TcpStream>, rooms: Rooms) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut read = Vec::new();
    let room = {
        let head = loop {
            fill(&stream, &mut read).await?;
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = String::from_utf8(read.drain(..head).collect()).ok()?;
        let path = text.split(' ').nth(1)?;
        let name = "sec-websocket-key: ";
        let key = text.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
        let accept = derive_accept_key(key[name.len()..].trim().as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.try_write(answer.as_bytes()).ok()?;
        rooms.borrow_mut().entry(path.to_owned()).or_default().clone()
    };
    room.borrow_mut().push(stream.clone());
    loop {
        while let Some((text, length)) = frame(&read) {
            broadcast(&room, &text);
            read.drain(..length);
        }
        if read.is_empty() {
            read = Vec::new(); // an idle member holds no buffer
        }
        if fill(&stream, &mut read).await.is_none() {
            room.borrow_mut().retain(|member| !Rc::ptr_eq(member, &stream));
            return None;
        }
    }
}

/// Waits for more; nothing once it has ended.
async fn fill(stream: &TcpStream, read: &mut Vec<u8>) -> Option<()> {
    loop {
        stream.readable().await.ok()?;
        let mut buffer = [0; 4 * 1024];
        match stream.try_read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => {
                read.extend_from_slice(&buffer[..count]);
                return Some(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

/// The first frame, unmasked, and how long it was; small frames only.
fn frame(read: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (length, begin) = match read.get(1)? & 0x7f {
        126 => (usize::from(u16::from_be_bytes([*read.get(2)?, *read.get(3)?])), 4),
        length => (usize::from(length), 2),
    };
    let mask = read.get(begin..begin + 4)?;
    let body = read.get(begin + 4..begin + 4 + length)?;
    let text = body.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((text, begin + 4 + length))
}

fn broadcast(room: &Room, text: &[u8]) {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(length) if length < 126 => frame.push(length),
        _ => {
            frame.push(126);
            frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(text);
    let takes_it = |member: &Rc<TcpStream>| member.try_write(&frame).ok() == Some(frame.len());
    room.borrow_mut().retain(takes_it);
}
