//! What encryption costs by itself: the same calls into ring that rustls makes for quinn and for
//! TLS, in a loop. A thousand keys take turns, as those of connections do; all else is warm, so this
//! is the least that it is.

use std::hint::black_box;
use std::time::Instant;

use ring::aead::quic::{AES_128, HeaderProtectionKey};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};

/// How often each is done.
const TIMES: u32 = 100_000;

/// How many keys take turns.
const KEYS: u32 = 1_000;

const HEADER: [u8; 13] = [7; 13];

fn keys(algorithm: &'static Algorithm) -> Vec<LessSafeKey> {
    let bytes = [7; 32];
    let key = |_| UnboundKey::new(algorithm, &bytes[..algorithm.key_len()]).unwrap();
    (0..KEYS).map(|number| LessSafeKey::new(key(number))).collect()
}

fn turn<T>(of: &[T], number: u32) -> &T {
    &of[(number % KEYS) as usize]
}

fn nonce(number: u32) -> Nonce {
    let mut nonce = [0; 12];
    nonce[8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Microseconds of one call, the best of five loops: another process may take the core.
fn best(mut call: impl FnMut(u32)) -> f64 {
    let once = |_| {
        let begun = Instant::now();
        (0..TIMES).for_each(&mut call);
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES)
    };
    (0..5).map(once).fold(f64::INFINITY, f64::min)
}

/// Seals so many bytes in place, as a TLS record or a QUIC packet is.
pub fn seal(algorithm: &'static Algorithm, bytes: usize) -> f64 {
    let (keys, mut payload) = (keys(algorithm), vec![7; bytes]);
    best(|number| {
        let key = turn(&keys, number);
        let tag = key.seal_in_place_separate_tag(nonce(number), Aad::from(&HEADER), &mut payload);
        black_box(tag.unwrap().as_ref());
    })
}

/// Opens as many. Whether a key opens or seals makes no difference to what is computed, but the
/// tag must be right, so it copies what was sealed each time.
pub fn open(algorithm: &'static Algorithm, bytes: usize) -> f64 {
    let (keys, mut sealed) = (keys(algorithm), vec![7; bytes]);
    keys[0].seal_in_place_append_tag(nonce(0), Aad::from(&HEADER), &mut sealed).unwrap();
    let mut packet = sealed.clone();
    best(|number| {
        packet.copy_from_slice(&sealed);
        let key = turn(&keys, number);
        black_box(key.open_in_place(nonce(0), Aad::from(&HEADER), &mut packet).unwrap());
    })
}

/// What hides a packet's number.
pub fn header() -> f64 {
    let key = |_| HeaderProtectionKey::new(&AES_128, &[7; 16]).unwrap();
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    let mut sample = [7; 16];
    best(|number| {
        sample[..4].copy_from_slice(&number.to_be_bytes());
        black_box(turn(&keys, number).new_mask(&sample).unwrap());
    })
}

/// The two ciphers that are used: browsers prefer the first, rustls' own clients the second.
pub const CIPHERS: [(&str, &Algorithm); 2] =
    [("AES-128-GCM", &AES_128_GCM), ("AES-256-GCM", &AES_256_GCM)];
