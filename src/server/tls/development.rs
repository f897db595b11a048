//! The self-signed certificate that lets a browser open WebTransport to a machine without one.
//!
//! Browsers accept it by its SHA-256 hash alone (`serverCertificateHashes`), on conditions:
//! ECDSA, X.509v3, at most fourteen days from its first moment to its last. So it is renewed
//! often, and a page that was told yesterday's hash must still get in:
//!
//! ```text
//!  minted                                 published      in use             expires
//!  old ──────────────────────────────────────────────────┤ (2 days to spare)  ╳
//!                                      new ├─────────────┼───────────────────────────▶
//!                                           both hashes
//! ```
//!
//! - What is in use is always one of the published hashes, and was published a day before.
//! - A certificate and its key lie in one file, replaced by renaming: never half a pair.
//! - The files are a convenience. When they cannot be written the certificate is good all the
//!   same; only the next start makes another.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime};

use super::Error;

/// From first moment to last. A day under the browsers' limit, so that nobody's way of
/// counting the last second matters.
const LIFETIME: Duration = Duration::days(13);
/// How far the first moment is set back, for clients whose clocks are slow.
const BACK_DATING: Duration = Duration::hours(1);
/// How long before its end a certificate's successor is made and published.
const PUBLISH_NEXT: Duration = Duration::days(3);
/// How long the successor is published before it is used.
const OVERLAP: Duration = Duration::days(1);
/// With no more than this left a certificate is replaced at once, like one not valid yet.
const LAST_DAY: Duration = Duration::days(1);

const CURRENT: &str = "development.pem";
const NEXT: &str = "development-next.pem";

/// A certificate with its key.
#[derive(Debug)]
pub struct Pair {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    /// Both as PEM, as they lie in the file.
    pem: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// The certificate in use, and the next when that is known.
#[derive(Debug)]
pub struct Development {
    dir: PathBuf,
    names: Vec<String>,
    current: Pair,
    next: Option<Pair>,
}

impl Development {
    /// Takes up the certificates kept in `dir`, as far as they are worth it, or makes one.
    pub fn open(dir: &Path, names: Vec<String>, now: OffsetDateTime) -> Result<Self, Error> {
        let kept = |file| Pair::read(&dir.join(file)).filter(|pair| pair.is_good(now));
        let (current, next) = match (kept(CURRENT), kept(NEXT)) {
            (Some(current), next) => (current, next),
            (None, Some(next)) => (next, None),
            (None, None) => (Pair::mint(&names, now)?, None),
        };
        let mut development = Self { dir: dir.to_owned(), names, current, next };
        development.renew(now)?;
        development.keep();
        Ok(development)
    }

    /// The certificate in use.
    pub fn current(&self) -> &Pair {
        &self.current
    }

    /// The hashes of everything in use or soon to be.
    pub fn hashes(&self) -> Vec<[u8; 32]> {
        std::iter::once(&self.current).chain(&self.next).map(Pair::hash).collect()
    }

    /// Publishes and puts to use what is due; says whether anything changed.
    pub fn renew(&mut self, now: OffsetDateTime) -> Result<bool, Error> {
        let is_over = !self.current.is_good(now);
        if !is_over && self.current.left(now) > PUBLISH_NEXT {
            return Ok(false);
        }
        match self.next.take().filter(|next| next.is_good(now)) {
            Some(next) if is_over || next.age(now) >= OVERLAP => self.current = next,
            Some(next) => {
                self.next = Some(next);
                return Ok(false);
            }
            None if is_over => self.current = Pair::mint(&self.names, now)?,
            None => self.next = Some(Pair::mint(&self.names, now)?),
        }
        self.keep();
        Ok(true)
    }

    fn keep(&self) {
        let kept = self.current.write(&self.dir, CURRENT).and_then(|()| match &self.next {
            Some(next) => next.write(&self.dir, NEXT),
            None => match fs::remove_file(self.dir.join(NEXT)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        });
        if let Err(error) = kept {
            let dir = self.dir.display();
            tracing::warn!(%dir, %error, "the development certificate cannot be kept on disk");
        }
    }
}

impl Pair {
    fn mint(names: &[String], now: OffsetDateTime) -> Result<Self, Error> {
        let mut params = CertificateParams::new(names).map_err(Error::Mint)?;
        params.not_before = now - BACK_DATING;
        params.not_after = params.not_before + LIFETIME;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Dormouse development");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Mint)?;
        let certificate = params.self_signed(&key).map_err(Error::Mint)?;
        let pem = certificate.pem() + &key.serialize_pem();
        Ok(Self::parse(pem).expect("what rcgen wrote is a certificate and its key"))
    }

    /// The pair in a file. A file that holds anything else is none, and is replaced.
    fn read(path: &Path) -> Option<Self> {
        Self::parse(fs::read_to_string(path).ok()?)
    }

    fn parse(pem: String) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, read) = x509_parser::parse_x509_certificate(&certificate).ok()?;
        let not_before = read.validity().not_before.to_datetime();
        let not_after = read.validity().not_after.to_datetime();
        CertifiedKey::from_der(vec![certificate.clone()], key.clone_key(), &super::provider())
            .ok()?;
        Some(Self { certificate, key, pem, not_before, not_after })
    }

    /// Whether it can be shown: valid, and not in its last day. The clock may have been set back
    /// since it was made.
    fn is_good(&self, now: OffsetDateTime) -> bool {
        self.not_before <= now && self.left(now) > LAST_DAY
    }

    fn left(&self, now: OffsetDateTime) -> Duration {
        self.not_after - now
    }

    fn age(&self, now: OffsetDateTime) -> Duration {
        now - (self.not_before + BACK_DATING)
    }

    /// Writes the pair where only this user can read it, all or nothing.
    fn write(&self, dir: &Path, file: &str) -> io::Result<()> {
        if fs::read_to_string(dir.join(file)).is_ok_and(|kept| kept == self.pem) {
            return Ok(());
        }
        fs::create_dir_all(dir)?;
        let fresh = dir.join(format!("writing-{}-{file}", std::process::id()));
        let _ = fs::remove_file(&fresh); // left by a process of this number that was killed
        let mut open = fs::OpenOptions::new();
        let mut out = open.write(true).create_new(true).mode(0o600).open(&fresh)?;
        out.write_all(self.pem.as_bytes())?;
        fs::rename(&fresh, dir.join(file))
    }

    /// As rustls wants it.
    pub fn certified_key(&self) -> CertifiedKey {
        let chain = vec![self.certificate.clone()];
        CertifiedKey::from_der(chain, self.key.clone_key(), &super::provider())
            .expect("the pair was checked when it was read or made")
    }

    fn hash(&self) -> [u8; 32] {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.certificate);
        digest.as_ref().try_into().expect("SHA-256 is 32 bytes")
    }
}
