//! What is asked of the operating system besides the two files: a test can say no.

use std::fs::File;
use std::io;
use std::path::Path;

/// The calls.
pub trait System: Send + Sync + 'static {
    /// Makes the names in a directory durable: a new file's own fsync does not.
    fn sync(&self, directory: &Path) -> io::Result<()>;

    /// Lets the system forget what it holds of a file in memory. After a failed fsync that shows
    /// what never reached the disk; what is read from then on has.
    fn forget(&self, file: &Path);

    /// The bytes that may still be written in a directory; `None` where nobody can tell.
    fn free(&self, directory: &Path) -> Option<u64>;
}

/// The one we run on.
pub struct Ours;

impl System for Ours {
    fn sync(&self, directory: &Path) -> io::Result<()> {
        #[cfg(unix)]
        File::open(directory)?.sync_all()?;
        #[cfg(not(unix))]
        let _ = directory;
        Ok(())
    }

    fn forget(&self, file: &Path) {
        #[cfg(target_os = "linux")]
        if let Ok(file) = File::open(file)
            && let Err(error) = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
        {
            tracing::warn!(%error, "the page cache cannot be dropped");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = file;
    }

    fn free(&self, directory: &Path) -> Option<u64> {
        let disk = rustix::fs::statvfs(directory).ok()?;
        disk.f_bavail.checked_mul(disk.f_frsize)
    }
}
