//! A directory that is there for as long as its house.

use std::fs::{DirBuilder, remove_dir_all};
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many names are tried.
const TRIES: usize = 1_000;

/// The directory.
pub struct Place(PathBuf);

impl Place {
    /// Makes one among those of the system for what is temporary. Nobody else may look into it.
    pub fn make() -> Result<Self, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        for _ in 0..TRIES {
            let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(format!("dormouse-{process}-{number}"));
            match builder.create(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {} // of an earlier process
                made => return made.map(|()| Self(path)),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.0); // what is left is the system's to clean up
    }
}
