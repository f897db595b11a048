//! A file that can be written without being changed.
//!
//! redb has no way to look at a file that never writes: what a crash left is repaired when it is
//! opened, and what is damaged when it is verified. Here these writes stay in memory, so that
//! looking at a damaged store cannot make it worse.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;

use redb::StorageBackend;

use super::lock;

const BLOCK: u64 = 4096;

/// A file, and what was written over it.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    /// How long the file seems to be.
    len: u64,
    /// How much of the real one still shows.
    shown: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    /// Opens a file, and keeps everybody else from writing it; `None` if somebody does.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let len = file.metadata()?.len();
        let written = Mutex::new(Written { len, shown: len, blocks: BTreeMap::new() });
        Ok(Some(Self { file, written }))
    }

    /// A block as it is now.
    fn block(&self, written: &Written, number: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = written.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK as usize];
        let at = number * BLOCK;
        let there = written.shown.saturating_sub(at).min(BLOCK) as usize;
        self.file.read_exact_at(&mut block[..there], at)?;
        Ok(block)
    }
}

/// The parts of blocks that `len` bytes from `offset` on are: block, begin in it, length.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + len as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        let (number, begin) = (at / BLOCK, at % BLOCK);
        let some = (BLOCK - begin).min(end - at);
        at += some;
        (some > 0).then_some((number, begin as usize, some as usize))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.written).len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = lock(&self.written);
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = out;
        for (number, begin, some) in parts(offset, rest.len()) {
            let block = self.block(&written, number)?;
            let (part, after) = rest.split_at_mut(some);
            part.copy_from_slice(&block[begin..begin + some]);
            rest = after;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = lock(&self.written);
        if len < written.len {
            // The end of the last block reads as nothing, should the file grow again.
            let (last, begin) = (len / BLOCK, (len % BLOCK) as usize);
            let mut block = self.block(&written, last)?;
            block[begin..].fill(0);
            written.blocks.split_off(&last);
            written.blocks.insert(last, block);
        }
        written.len = len;
        written.shown = written.shown.min(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = lock(&self.written);
        let mut rest = data;
        for (number, begin, some) in parts(offset, data.len()) {
            let mut block = self.block(&written, number)?;
            let (part, after) = rest.split_at(some);
            block[begin..begin + some].copy_from_slice(part);
            written.blocks.insert(number, block);
            rest = after;
        }
        written.len = written.len.max(offset + data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is done to it, it reads like a file, and the file is as it was.
        #[test]
        fn it_is_a_file_that_does_not_change(
            begin in 0_usize..20_000,
            steps in proptest::collection::vec((any::<bool>(), 0_u64..30_000, 1_usize..9_000), 1..12),
        ) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let before = (0..begin).map(|at| at as u8 | 1).collect::<Vec<_>>();
            std::fs::write(file.path(), &before).unwrap();
            let overlay = Overlay::open(file.path()).unwrap().unwrap();
            prop_assert!(Overlay::open(file.path()).unwrap().is_none());
            let mut model = before.clone();
            for (writes, at, len) in steps {
                if writes {
                    let end = at as usize + len;
                    model.resize(model.len().max(end), 0);
                    model[at as usize..end].fill(len as u8);
                    overlay.write(at, &vec![len as u8; len]).unwrap();
                } else {
                    model.resize(at as usize, 0);
                    overlay.set_len(at).unwrap();
                }
                let mut read = vec![9; model.len()];
                overlay.read(0, &mut read).unwrap();
                prop_assert_eq!(&read, &model);
                prop_assert_eq!(overlay.len().unwrap(), model.len() as u64);
                prop_assert!(overlay.read(1, &mut read).is_err() || read.is_empty());
            }
            prop_assert_eq!(std::fs::read(file.path()).unwrap(), before);
        }
    }
}
