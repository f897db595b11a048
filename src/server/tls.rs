//! Certificates: the operator's own, or a development one that renews itself.
//!
//! With `tls_cert` and `tls_key` both transports show that certificate. Without, TCP is plain
//! (a loopback page, or a proxy in front) and QUIC, which cannot be plain, shows a self-signed
//! certificate ([`development`]) whose hash browsers are told at `/.well-known/dormouse`.
//!
//! - A running listener asks for its certificate at each handshake, so that a new one needs no
//!   restart and live connections keep the one they began with.
//! - Hashes are published only for the development certificate: a real one is checked the
//!   ordinary way.

pub mod development;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use development::Development;

/// The two files of an operator's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The PEM certificate chain, the gateway's own certificate first.
    pub cert: PathBuf,
    /// Its PEM private key.
    pub key: PathBuf,
}

/// Why there is no certificate. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there or not ours to read.
    #[error("cannot read {}; tls_cert and tls_key must name PEM files that this user may read", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("there is no {what} in {}; it must be PEM, with a line like -----BEGIN {}-----", .path.display(), .what.to_uppercase())]
    Nothing {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The two do not belong together, or the key is of an unknown kind.
    #[error("{} is not the key of {}; give the private key that the certificate was made for", .key.display(), .cert.display())]
    Mismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// No development certificate could be made.
    #[error("cannot make a development certificate")]
    Mint(#[source] rcgen::Error),
}

/// The certificate in use and how it is shown.
#[derive(Debug)]
pub struct Certificates {
    shown: Arc<Shown>,
    development: Option<RwLock<Development>>,
}

/// What handshakes are answered with from now on.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Certificates {
    /// The operator's own certificate.
    pub fn from_files(files: &Files) -> Result<Self, Error> {
        Ok(Self { shown: Shown::new(read_pair(files)?), development: None })
    }

    /// Reads the operator's certificate again, for all handshakes from now on. If that fails, the
    /// one before stays.
    pub fn reload(&self, files: &Files) -> Result<(), Error> {
        let pair = Arc::new(read_pair(files)?);
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    /// Whether this is the development certificate, and TCP plain.
    pub fn is_development(&self) -> bool {
        self.development.is_some()
    }

    /// A development certificate: the one kept in `dir`, or a new one for `names`.
    pub fn development(dir: &Path, names: Vec<String>, now: OffsetDateTime) -> Result<Self, Error> {
        let development = Development::open(dir, names, now)?;
        let shown = Shown::new(development.current().certified_key());
        Ok(Self { shown, development: Some(RwLock::new(development)) })
    }

    /// The SHA-256 hashes a browser may meet: none with a real certificate, one with a
    /// development one, two while the next is published and not yet in use.
    pub fn hashes(&self) -> Vec<[u8; 32]> {
        match &self.development {
            Some(development) => {
                development.read().unwrap_or_else(PoisonError::into_inner).hashes()
            }
            None => Vec::new(),
        }
    }

    /// Renews what is due at `now`; says whether anything changed.
    pub fn renew(&self, now: OffsetDateTime) -> Result<bool, Error> {
        let Some(development) = &self.development else { return Ok(false) };
        let mut development = development.write().unwrap_or_else(PoisonError::into_inner);
        let changed = development.renew(now)?;
        if changed {
            let pair = Arc::new(development.current().certified_key());
            *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
        }
        Ok(changed)
    }

    /// Renews what is due at `now`, and says so. A machine that slept, or whose clock was set, has a
    /// certificate that is over or not valid yet: it is replaced at once.
    pub fn keep_fresh(&self, now: OffsetDateTime) {
        match self.renew(now) {
            Ok(true) => tracing::info!("the development certificate was renewed"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the development certificate is ageing"),
        }
    }

    /// TLS for QUIC.
    pub fn quic_tls(&self) -> ServerConfig {
        self.tls(&[&rustls::version::TLS13], b"h3")
    }

    /// TLS for TCP; `None` when TCP is plain.
    pub fn tcp_tls(&self) -> Option<Arc<ServerConfig>> {
        let versions = &[&rustls::version::TLS13, &rustls::version::TLS12];
        let real = self.development.is_none();
        real.then(|| Arc::new(self.tls(versions, b"http/1.1")))
    }

    fn tls(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpn: &[u8],
    ) -> ServerConfig {
        let mut tls = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("ring has suites for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(self.shown.clone());
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls
    }
}

impl Shown {
    fn new(pair: CertifiedKey) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(pair))))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read_pair(files: &Files) -> Result<CertifiedKey, Error> {
    let chain = read_chain(&files.cert)?;
    let key = read_key(&files.key)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|source| Error::Mismatch {
        cert: files.cert.clone(),
        key: files.key.clone(),
        source,
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let nothing = || Error::Nothing { path: path.to_owned(), what: "certificate" };
    let text = read(path)?;
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(nothing)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let nothing = |_| Error::Nothing { path: path.to_owned(), what: "private key" };
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(nothing)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
