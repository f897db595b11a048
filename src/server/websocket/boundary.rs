//! Where in a client's WebSocket stream the bytes so far end.
//!
//! Between two messages tungstenite knows nothing that it could not be told anew, and so need
//! not be there; but it does not say when that is. This follows the headers of frames (RFC 6455,
//! 5.2) and nothing else: what is wrong with them is tungstenite's to find.

/// The longest header: two bytes, a length of eight, a mask of four.
const HEADER_BYTES: usize = 14;

/// Follows a stream from its first byte on.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    header: [u8; HEADER_BYTES],
    /// Bytes of a header that is not complete.
    read: usize,
    /// Bytes of a payload that have not come.
    left: u64,
    /// Whether more fragments of a message must follow.
    continues: bool,
}

impl Boundary {
    /// Whether the bytes so far are whole messages.
    pub(super) fn is_between_messages(&self) -> bool {
        self.read == 0 && self.left == 0 && !self.continues
    }

    /// So much more has come.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            self.header[self.read] = bytes[0];
            self.read += 1;
            bytes = &bytes[1..];
            if self.read == self.needs() {
                self.begin_payload();
            }
        }
    }

    /// How long the header is, as far as what was read of it says.
    fn needs(&self) -> usize {
        if self.read < 2 {
            return 2;
        }
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + self.extended() + mask
    }

    /// Bytes of the length behind the first two.
    fn extended(&self) -> usize {
        match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn begin_payload(&mut self) {
        let [first, second, rest @ ..] = &self.header;
        self.left = match self.extended() {
            0 => u64::from(second & 0x7f),
            bytes => rest[..bytes].iter().fold(0, |left, &byte| left << 8 | u64::from(byte)),
        };
        // Control frames come between fragments and belong to none.
        let is_control = first & 0x08 != 0;
        if !is_control {
            self.continues = first & 0x80 == 0;
        }
        self.read = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a stream is between messages: at these numbers of bytes.
    fn between(stream: &[u8]) -> Vec<usize> {
        let mut boundary = Boundary::default();
        let mut at = Vec::new();
        for (index, byte) in stream.iter().enumerate() {
            boundary.pass(&[*byte]);
            if boundary.is_between_messages() {
                at.push(index + 1);
            }
        }
        let mut whole = Boundary::default();
        whole.pass(stream);
        assert_eq!(whole.is_between_messages(), at.last() == Some(&stream.len()));
        at
    }

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match payload {
            0..126 => frame.push(0x80 | payload as u8),
            126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.extend(vec![0xff; payload]);
        frame
    }

    #[test]
    fn frames_of_every_length_end_where_their_headers_say() {
        for payload in [0, 1, 125, 126, 65_535, 65_536, 70_000] {
            let stream = [frame(0x81, payload), frame(0x82, 2)].concat();
            assert_eq!(between(&stream), [stream.len() - 8, stream.len()]);
        }
    }

    #[test]
    fn a_message_in_fragments_ends_with_the_last_whatever_comes_between() {
        let stream =
            [frame(0x01, 5), frame(0x89, 3), frame(0x00, 200), frame(0x8a, 0), frame(0x80, 1)];
        let stream = stream.concat();
        assert_eq!(between(&stream), [stream.len()]);
        let close = [stream.clone(), frame(0x88, 2)].concat();
        assert_eq!(between(&close), [stream.len(), close.len()]);
    }

    #[test]
    fn an_unmasked_frame_and_an_absurd_length_are_followed_too() {
        assert_eq!(between(&[0x81, 1, b'x', 0x81, 0]), [3, 5]);
        let mut boundary = Boundary::default();
        boundary.pass(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        boundary.pass(&[0; 100]);
        assert!(!boundary.is_between_messages());
    }
}
