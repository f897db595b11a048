//! What of the settings a gateway takes over while it runs.

use super::Gateway;
use crate::config::Config;
use crate::server::tls;

/// The settings that are read again. All others need a restart. The files that `tls_cert` and
/// `tls_key` name are read again, too, whether or not the names have changed.
pub const RELOADABLE: [&str; 3] = ["tls_cert", "tls_key", "gateway.origins"];

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The new certificate is none; the old one stays.
    #[error(transparent)]
    Certificate(#[from] tls::Error),
    /// Whether TCP has TLS is decided when it is listened to.
    #[error("tls_cert and tls_key cannot be given or taken away without a restart")]
    Tls,
}

impl Gateway {
    /// Takes over what of a new configuration is [`RELOADABLE`]: for new connections, over both
    /// transports. On an error everything stays as it was.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        match (&config.certificate, self.cx.certificates.is_development()) {
            (Some(files), false) => self.cx.certificates.reload(files)?,
            (None, true) => {}
            _ => return Err(Error::Tls),
        }
        self.cx.origins.set(config.server.origins.clone());
        Ok(())
    }
}
