//! What is typed, or comes through a pipe: line by line, from a thread, for reading stdin blocks.

use std::io::{self, BufRead, Read as _};

use tokio::sync::mpsc;

/// The longest line; the gateway's own limit is lower and is told by name.
const LONGEST: u64 = 1 << 20;

/// Lines that were read and not yet taken.
const WAITING: usize = 16;

/// The lines of stdin, until it ends.
pub(super) fn of_stdin() -> mpsc::Receiver<io::Result<String>> {
    let (lines, taken) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        while let Some(line) = next(&mut stdin) {
            let is_last = line.is_err();
            if lines.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    taken
}

fn next(from: &mut impl BufRead) -> Option<io::Result<String>> {
    let mut line = Vec::new();
    match from.take(LONGEST).read_until(b'\n', &mut line) {
        Ok(0) => return None,
        Ok(_) => {}
        Err(error) => return Some(Err(error)),
    }
    if line.len() as u64 == LONGEST && !line.ends_with(b"\n") {
        return Some(Err(io::Error::other("a line is longer than a megabyte")));
    }
    let text = String::from_utf8_lossy(&line);
    Some(Ok(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_they_should_and_do_not_grow_for_ever() {
        let mut input = &b"one\r\n\ntwo \xff"[..];
        let all: Vec<_> = std::iter::from_fn(|| next(&mut input)).map(Result::unwrap).collect();
        assert_eq!(all, ["one", "", "two \u{fffd}"]);
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        assert!(next(&mut endless).unwrap().is_err());
    }
}
