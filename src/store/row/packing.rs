//! zstd, with its contexts kept.
//!
//! Making one takes longer than packing or unpacking a chunk with it, which shows when ten
//! thousand rooms fall asleep at once. A few are kept for whoever comes next, and no more: one
//! has some hundred KiB, and many threads may read at the same time.

use std::io;
use std::sync::{Mutex, PoisonError};

use zstd::bulk::{Compressor, Decompressor};

/// zstd's level: higher ones gain 2 % and cost thrice the time.
const LEVEL: i32 = 1;

/// The most contexts of either kind that are kept while nobody uses them.
const KEPT: usize = 4;

static PACKERS: Mutex<Vec<Compressor<'static>>> = Mutex::new(Vec::new());
static UNPACKERS: Mutex<Vec<Decompressor<'static>>> = Mutex::new(Vec::new());

/// Packs bytes.
pub fn pack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    with(&PACKERS, || Compressor::new(LEVEL), |packer| packer.compress(bytes))
}

/// Unpacks them, into `most` bytes at most.
pub fn unpack(packed: &[u8], most: usize) -> io::Result<Vec<u8>> {
    with(&UNPACKERS, Decompressor::new, |unpacker| unpacker.decompress(packed, most))
}

fn with<T, R>(
    kept: &Mutex<Vec<T>>,
    make: impl FnOnce() -> io::Result<T>,
    work: impl FnOnce(&mut T) -> io::Result<R>,
) -> io::Result<R> {
    let lock = || kept.lock().unwrap_or_else(PoisonError::into_inner);
    let one = lock().pop(); // not within the next line: it would hold the lock while making one
    let mut context = one.map_or_else(make, Ok)?;
    let done = work(&mut context)?; // one that failed is not used again
    let mut kept = lock();
    if kept.len() < KEPT {
        kept.push(context);
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_that_was_used_packs_the_same_and_a_failure_spoils_none() {
        let texts: Vec<Vec<u8>> =
            (0..50_u8).map(|n| [n, 7, n].repeat(1 + 40 * n as usize)).collect();
        let fresh = |text: &[u8]| zstd::bulk::compress(text, LEVEL).unwrap();
        for text in &texts {
            let packed = pack(text).unwrap();
            assert_eq!(packed, fresh(text));
            unpack(b"not packed", 100).unwrap_err();
            unpack(&packed, text.len() - 1).unwrap_err();
            assert_eq!(&unpack(&packed, text.len()).unwrap(), text);
        }
    }

    #[test]
    fn only_a_few_contexts_are_kept() {
        let kept = Mutex::new(Vec::new());
        fn nested(kept: &Mutex<Vec<u8>>, depth: u8) -> io::Result<u8> {
            with(kept, || Ok(depth), |_| if depth == 0 { Ok(0) } else { nested(kept, depth - 1) })
        }
        nested(&kept, 20).unwrap();
        assert_eq!(kept.lock().unwrap().len(), KEPT);
    }
}
