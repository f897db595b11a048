use super::*;
use std::os::unix::fs::PermissionsExt as _;
use time::Duration;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-10-01 12:00 UTC);

fn names() -> Vec<String> {
    vec!["localhost".into(), "127.0.0.1".into(), "::1".into()]
}

fn development(dir: &Path, now: OffsetDateTime) -> Certificates {
    Certificates::development(dir, names(), now).unwrap()
}

/// The hash of what a handshake is answered with now.
fn shown(certificates: &Certificates) -> [u8; 32] {
    let pair = certificates.shown.0.read().unwrap().clone();
    ring::digest::digest(&ring::digest::SHA256, &pair.cert[0]).as_ref().try_into().unwrap()
}

#[test]
fn a_development_certificate_is_what_browsers_accept_by_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = development(dir.path(), NOW);
    let der = certificates.shown.0.read().unwrap().cert[0].clone();
    let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();

    let (first, last) = (cert.validity().not_before, cert.validity().not_after);
    assert!(last.to_datetime() - first.to_datetime() <= Duration::days(14));
    assert_eq!(first.to_datetime(), NOW - Duration::hours(1));
    assert_eq!(cert.version(), x509_parser::x509::X509Version::V3);
    let curve = cert.public_key().algorithm.parameters.as_ref().unwrap().as_oid().unwrap();
    assert_eq!(curve.to_id_string(), "1.2.840.10045.3.1.7", "P-256");
    let sans = cert.subject_alternative_name().unwrap().unwrap();
    assert_eq!(sans.value.general_names.len(), 3);
    assert_eq!(certificates.hashes(), [shown(&certificates)]);
}

#[test]
fn a_restart_uses_the_kept_certificate_until_its_last_day() {
    let dir = tempfile::tempdir().unwrap();
    let first = shown(&development(dir.path(), NOW));

    let later = NOW + Duration::days(11);
    assert_eq!(shown(&development(dir.path(), later)), first);
    let last_day = NOW + Duration::days(12);
    assert_ne!(shown(&development(dir.path(), last_day)), first);
}

#[test]
fn the_key_is_for_this_user_only() {
    let dir = tempfile::tempdir().unwrap();
    development(dir.path(), NOW);
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

/// The life of a process that runs for months, its clock in our hands: whoever fetched the
/// hashes up to a day ago still gets in, and nobody meets a certificate that has ended.
#[test]
fn renewal_never_shows_what_was_not_published_a_day_before() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = development(dir.path(), NOW);
    let mut seen = vec![shown(&certificates)];
    let mut published = std::collections::VecDeque::from([certificates.hashes()]);
    let mut overlaps = 0;

    for hour in 1..24 * 60 {
        let now = NOW + Duration::hours(hour);
        certificates.renew(now).unwrap();
        let shown = shown(&certificates);
        if published.len() == 24 {
            published.pop_front();
        }
        published.push_back(certificates.hashes());
        assert!(published.iter().all(|hashes| hashes.contains(&shown)), "hour {hour}");
        overlaps += usize::from(certificates.hashes().len() == 2);
        let pair = certificates.shown.0.read().unwrap().clone();
        let (_, cert) = x509_parser::parse_x509_certificate(&pair.cert[0]).unwrap();
        assert!(cert.validity().not_after.to_datetime() - now > Duration::days(1));
        if seen.last() != Some(&shown) {
            seen.push(shown);
        }
    }
    assert!(seen.len() >= 5, "{} certificates in 60 days", seen.len());
    assert!(overlaps >= 24 * (seen.len() - 1), "both hashes for a day, each time");
}

#[test]
fn a_restart_during_the_overlap_keeps_both_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = development(dir.path(), NOW);
    let overlap = NOW + Duration::days(10) + Duration::hours(1);
    assert!(certificates.renew(overlap).unwrap());
    assert_eq!(certificates.hashes().len(), 2);
    assert_eq!(development(dir.path(), overlap).hashes(), certificates.hashes());

    assert!(certificates.renew(overlap + Duration::days(1)).unwrap());
    assert_eq!(certificates.hashes().len(), 1);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_machine_that_slept_past_the_end_wakes_with_a_new_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = development(dir.path(), NOW);
    let first = shown(&certificates);
    assert!(certificates.renew(NOW + Duration::days(10)).unwrap(), "the next is published");
    assert!(certificates.renew(NOW + Duration::days(90)).unwrap());
    assert_ne!(shown(&certificates), first);
    assert!(!certificates.renew(NOW + Duration::days(91)).unwrap());
}

/// The clock was ten days ahead, and is set right: the certificates of then are not valid yet, nor
/// are those that a start finds.
#[test]
fn a_clock_that_is_set_back_has_a_certificate_that_is_valid_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let ahead = NOW + Duration::days(10);
    let certificates = development(dir.path(), ahead);
    let kept = shown(&development(dir.path(), ahead));
    assert_eq!(shown(&certificates), kept);
    assert_ne!(shown(&development(dir.path(), NOW)), kept, "a start finds it not valid yet");
    assert!(certificates.renew(NOW).unwrap());
    let valid = shown(&certificates);
    assert_ne!(valid, kept);
    assert_eq!(certificates.hashes(), [valid]);
    assert!(!certificates.renew(NOW + Duration::minutes(1)).unwrap(), "once");
    assert!(!certificates.renew(NOW - Duration::minutes(30)).unwrap(), "it is dated back");
}

#[test]
fn a_damaged_file_or_an_unwritable_folder_does_not_stop_a_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("development.pem"), "not PEM").unwrap();
    let made = shown(&development(dir.path(), NOW));
    assert_eq!(shown(&development(dir.path(), NOW)), made, "the damaged file was replaced");

    let file = dir.path().join("a file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(development(&file, NOW).hashes().len(), 1);
}

#[test]
fn an_operators_certificate_is_shown_on_both_transports_and_has_no_hash() {
    let dir = tempfile::tempdir().unwrap();
    let files = real(dir.path());
    let certificates = Certificates::from_files(&files).unwrap();
    assert!(certificates.hashes().is_empty());
    assert_eq!(certificates.quic_tls().alpn_protocols, [b"h3"]);
    assert_eq!(certificates.tcp_tls().unwrap().alpn_protocols, [b"http/1.1"]);
    assert!(development(dir.path(), NOW).tcp_tls().is_none());
}

#[test]
fn a_certificate_that_cannot_be_used_is_one_clear_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let good = real(dir.path());
    let say = |cert: &Path, key: &Path| {
        let files = Files { cert: cert.into(), key: key.into() };
        Certificates::from_files(&files).unwrap_err().to_string()
    };
    let missing = dir.path().join("missing.pem");
    assert!(say(&missing, &good.key).starts_with(&format!("cannot read {}", missing.display())));
    let no_key = say(&good.cert, &good.cert);
    assert!(
        no_key.contains("no private key in") && no_key.contains("PRIVATE KEY-----"),
        "{no_key}"
    );
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let other = real(&other);
    let mismatch = say(&good.cert, &other.key);
    assert!(mismatch.contains("is not the key of"), "{mismatch}");
}

/// A client that was told the hashes during the overlap gets in before the change and after
/// it, with no restart between; one that knows other hashes never does.
#[tokio::test]
async fn a_renewed_certificate_is_met_by_the_next_handshake() {
    use wtransport::{ClientConfig, Endpoint, ServerConfig, tls::Sha256Digest};
    let dir = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let certificates = development(dir.path(), now - Duration::days(11));
    assert!(certificates.renew(now).unwrap());
    let told = certificates.hashes();
    assert_eq!(told.len(), 2);

    let config = ServerConfig::builder()
        .with_bind_address("127.0.0.1:0".parse().unwrap())
        .with_custom_tls(certificates.quic_tls())
        .build();
    let server = Endpoint::server(config).unwrap();
    let url = format!("https://127.0.0.1:{}/", server.local_addr().unwrap().port());
    let serving = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let Ok(request) = server.accept().await.await else { continue };
            open.push(request.accept().await);
        }
    });
    let gets_in = async |hashes: &[[u8; 32]]| {
        let hashes = hashes.iter().copied().map(Sha256Digest::new);
        let config = ClientConfig::builder().with_bind_default();
        let config = config.with_server_certificate_hashes(hashes).build();
        Endpoint::client(config).unwrap().connect(&url).await.is_ok()
    };

    assert!(gets_in(&told).await);
    assert!(!gets_in(&told[1..]).await, "the next is not yet in use");
    assert!(certificates.renew(now + Duration::days(1)).unwrap());
    assert!(gets_in(&told).await);
    assert!(!gets_in(&told[..1]).await, "the old one is no longer in use");
    serving.abort();
}

fn real(dir: &Path) -> Files {
    let pair = rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
    let files = Files { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    std::fs::write(&files.cert, pair.cert.pem()).unwrap();
    std::fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
    files
}
