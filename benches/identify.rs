//! What each push pays before it is stored: reading the envelope, verifying the signature.

use divan::{Bencher, counter::BytesCount};
use laigu_router::{
    config::settings::{Signature, SignatureEncoding, SignatureScheme, SourceKind},
    domain::{HashKeys, Headers, Secret, Timestamp},
    vendors::{identify, signature::Verifier},
};
use std::hint::black_box;

const PUSH: &[u8] = include_bytes!("../tests/fixtures/laigu_cus_upsert.json");
const SESSION: &[u8] = include_bytes!("../tests/fixtures/easemob_session_closed.json");

fn main() {
    divan::main();
}

#[divan::bench]
fn laigu(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::of_slice(PUSH)).bench(|| {
        identify(SourceKind::Laigu, None, &Headers::default(), black_box(PUSH)).expect("the fixture is a push")
    });
}

#[divan::bench]
fn easemob(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::of_slice(SESSION)).bench(|| {
        identify(SourceKind::EasemobKefu, None, &Headers::default(), black_box(SESSION)).expect("the fixture is a push")
    });
}

/// The yardstick: a full tree of the same push.
#[divan::bench]
fn serde_json_tree(bencher: Bencher<'_, '_>) {
    bencher
        .counter(BytesCount::of_slice(PUSH))
        .bench(|| serde_json::from_slice::<serde_json::Value>(black_box(PUSH)).expect("the fixture is JSON"));
}

#[divan::bench]
fn verify_laigu(bencher: Bencher<'_, '_>) {
    let signature = Signature {
        scheme: SignatureScheme::Sha1Suffix,
        headers: vec!["laigu-signature".to_owned()],
        encoding: SignatureEncoding::Hex,
        prefix: String::new(),
    };
    let verifier = Verifier::new(&signature, &[Secret::new("secret".to_owned())]).expect("a secret and a header");
    let headers = verifier.sign(PUSH, "", Timestamp::EPOCH).into_iter().collect();
    bencher
        .counter(BytesCount::of_slice(PUSH))
        .bench(|| verifier.verify(&headers, black_box(PUSH), Timestamp::EPOCH).expect("it is signed"));
}

#[divan::bench]
fn hash_body(bencher: Bencher<'_, '_>) {
    let keys = HashKeys { first: 1, second: 2 };
    bencher.counter(BytesCount::of_slice(PUSH)).bench(|| keys.body(black_box(PUSH)));
}
