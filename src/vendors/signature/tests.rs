//! Published vectors, and every way of not being verified.

use super::{SignatureError, Unverified, Verifier};
use crate::{
    config::settings::{Signature, SignatureEncoding as Encoding, SignatureScheme as Scheme},
    domain::{Secret, Timestamp},
};
use http::{HeaderMap, HeaderName, HeaderValue};

const BODY: &[u8] = include_bytes!("../../../tests/fixtures/laigu_signed.json");
const SHA1: &str = "3505dee0530011c2ec8c3aae44661976932172b8";
const NOW: Timestamp = Timestamp::from_millis(1_649_367_553_000);

fn signature(scheme: Scheme, headers: &[&str], encoding: Encoding, prefix: &str) -> Signature {
    let headers = headers.iter().map(|name| (*name).to_owned()).collect();
    Signature { scheme, headers, encoding, prefix: prefix.to_owned() }
}

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().map(|text| Secret::new((*text).to_owned())).collect()
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn laigu(texts: &[&str]) -> Verifier {
    let names = ["meiqia-signature", "laigu-signature", "laigu-sign", "meiqia-sign"];
    Verifier::new(&signature(Scheme::Sha1Suffix, &names, Encoding::Hex, ""), &secrets(texts)).unwrap()
}

#[test]
fn laigu_signs_body_then_secret_in_any_of_its_headers() {
    let verifier = laigu(&["test_secret"]);
    for name in ["meiqia-signature", "laigu-signature", "laigu-sign", "meiqia-sign"] {
        for digest in [SHA1.to_owned(), SHA1.to_uppercase(), format!(" {SHA1} ")] {
            assert_eq!(verifier.verify(&headers(&[(name, &digest)]), BODY, NOW), Ok(()), "{name} {digest}");
        }
    }
    // The other order, and HMAC: what similar vendors do.
    for digest in ["d1097499d5dfae0f70a06e8862982fb93ce67ffa", "bd8f678d45dc21c572e8bd8bd1f5fd3c5b81aed0"] {
        let wrong = verifier.verify(&headers(&[("laigu-sign", digest)]), BODY, NOW);
        assert_eq!(wrong, Err(Unverified::Wrong));
    }
}

#[test]
fn every_header_that_is_present_must_match() {
    let verifier = laigu(&["test_secret"]);
    let zeros = "0".repeat(40);
    for (lines, expected) in [
        (vec![], Err(Unverified::Missing)),
        (vec![("x-other", SHA1)], Err(Unverified::Missing)),
        (vec![("laigu-sign", SHA1), ("meiqia-sign", SHA1)], Ok(())),
        (vec![("laigu-sign", SHA1), ("meiqia-sign", &*zeros)], Err(Unverified::Wrong)),
        (vec![("meiqia-sign", &*zeros), ("laigu-sign", SHA1)], Err(Unverified::Wrong)),
        (vec![("laigu-sign", SHA1), ("meiqia-sign", "")], Err(Unverified::Wrong)),
        (vec![("laigu-sign", SHA1), ("laigu-sign", SHA1)], Err(Unverified::Wrong)),
        (vec![("laigu-sign", "")], Err(Unverified::Wrong)),
        (vec![("laigu-sign", &SHA1[..39])], Err(Unverified::Wrong)),
        (vec![("laigu-sign", &SHA1[..38])], Err(Unverified::Wrong)),
        (vec![("laigu-sign", &*[SHA1, "00"].concat())], Err(Unverified::Wrong)),
        (vec![("laigu-sign", &*"z".repeat(40))], Err(Unverified::Wrong)),
        (vec![("laigu-sign", &*"0".repeat(4000))], Err(Unverified::Wrong)),
    ] {
        assert_eq!(verifier.verify(&headers(&lines), BODY, NOW), expected, "{lines:?}");
    }
}

#[test]
fn while_rotating_each_header_may_match_another_live_secret() {
    let old = laigu(&["old"]).sign(BODY, "", NOW).remove(0).1;
    let new = laigu(&["new"]).sign(BODY, "", NOW).remove(0).1;
    let both = headers(&[("laigu-sign", old.to_str().unwrap()), ("meiqia-sign", new.to_str().unwrap())]);
    assert_eq!(laigu(&["new", "old"]).verify(&both, BODY, NOW), Ok(()));
    assert_eq!(laigu(&["new"]).verify(&both, BODY, NOW), Err(Unverified::Wrong));
}

#[test]
fn one_changed_bit_of_the_body_is_noticed() {
    let verifier = laigu(&["test_secret"]);
    let good = headers(&[("laigu-sign", SHA1)]);
    for at in 0..BODY.len() {
        let mut body = BODY.to_vec();
        body[at] ^= 1;
        assert_eq!(verifier.verify(&good, &body, NOW), Err(Unverified::Wrong), "{at}");
    }
    let longer = [BODY, b" "].concat();
    assert_eq!(verifier.verify(&good, &longer, NOW), Err(Unverified::Wrong));
}

/// The key of the RFCs' second vectors.
const RFC_KEY: &str = "Jefe";
const RFC_TEXT: &[u8] = b"what do ya want for nothing?";

#[test]
fn hmac_matches_rfc_2202_and_rfc_4231() {
    let sha1 = "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79";
    let sha256 = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let base64 = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=";
    for (scheme, encoding, prefix, value) in [
        (Scheme::HmacSha1, Encoding::Hex, "", sha1.to_owned()),
        (Scheme::HmacSha1, Encoding::Hex, "sha1=", format!("sha1={sha1}")),
        (Scheme::HmacSha256, Encoding::Hex, "", sha256.to_owned()),
        (Scheme::HmacSha256, Encoding::Hex, "sha256=", format!("sha256={}", sha256.to_uppercase())),
        (Scheme::HmacSha256, Encoding::Base64, "", base64.to_owned()),
        (Scheme::HmacSha256, Encoding::Base64, "", base64.trim_end_matches('=').to_owned()),
    ] {
        let rule = signature(scheme, &["x-signature"], encoding, prefix);
        let verifier = Verifier::new(&rule, &secrets(&[RFC_KEY])).unwrap();
        assert_eq!(verifier.verify(&headers(&[("x-signature", &value)]), RFC_TEXT, NOW), Ok(()), "{value}");
        let bare = value.trim_start_matches(prefix).to_owned();
        let without = verifier.verify(&headers(&[("x-signature", &bare)]), RFC_TEXT, NOW);
        assert_eq!(without.is_ok(), prefix.is_empty());
    }
}

#[test]
fn meiqia_sign_is_base64_of_hex_in_any_flavour() {
    let rule = signature(Scheme::MeiqiaSign, &["authorization"], Encoding::Base64, "");
    let verifier = Verifier::new(&rule, &secrets(&["test_secret"])).unwrap();
    let padded = "meiqia_sign:YmQ4ZjY3OGQ0NWRjMjFjNTcyZThiZDhiZDFmNWZkM2M1YjgxYWVkMA==";
    for value in [padded, padded.trim_end_matches('=')] {
        assert_eq!(verifier.verify(&headers(&[("authorization", value)]), BODY, NOW), Ok(()));
    }
    let wrong = ["Bearer x", "meiqia_sign:", "meiqia_sign:!!", &padded["meiqia_sign:".len()..]];
    for value in wrong {
        let result = verifier.verify(&headers(&[("authorization", value)]), BODY, NOW);
        assert_eq!(result, Err(Unverified::Wrong), "{value}");
    }
    let made = verifier.sign(BODY, "", NOW);
    assert_eq!(made, [(HeaderName::from_static("authorization"), HeaderValue::from_static(padded))]);
}

const WHSEC: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const WEBHOOK_BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
const WEBHOOK_ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
const WEBHOOK_SIGNATURE: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

/// The vendor's own: <https://github.com/Meiqia/MeiqiaSDK-Push-Signature-Example>, `sample.txt`.
const MEIQIA_KEY: &str = "$2a$12$skg8Mk3UJ3ylnmciryxCQ.IyjKTqi2ujRYwH0ak/BMXYiFBacZbx6";
const MEIQIA_VECTORS: [(&str, &str); 5] = [
    ("美洽，在线客服软件的漂亮之选", "YTgyMmFkMDY5OWJjYzI1ODRkNjBhNzAyMTdlY2M4YjU2NDNiYjhkZA=="),
    ("NOTICE: 美洽，在线客服软件的漂亮之选", "OGU4NGJhYTZlZGU4NDJkNmJjMzg0OTY1ZTkyMDk0ODQ3MTVmMjBmNg=="),
    ("👏 美洽，在线客服软件的漂亮之选 👏", "NzgwYzM4ZGUwNGNmNWM3NmQ3N2NkOTJkZGEwYzg0ZjkxMTY0YzU3OQ=="),
    ("NOTICE: 👏 美洽，在线客服软件的漂亮之选 👏", "ZmM1YjE2MmFhOTJjNWE0NWNkMjAyZDY2YWNmZWRhOGVkY2QxMTA0ZQ=="),
    // An offline push as the vendor prints it: its quotes within quotes are no JSON, and it verifies all the same.
    (
        r##"{"clientId":"12vc86d41d1611e69e6f029346effd31","content":"test","contentType":"text","customizedData":"{"name":"#4","avatar":"https://app.meiqia.com/api/static/client-avatar/11-01.png"}","deviceOS":"Android","deviceToken":"d2433d6ad2861515e24316ddcbdg05eea23d","fromName":"美洽","messageId":"111","messageTime":"2016-01-01T00:00:00.622580"}"##,
        "NDkwZjJjODgzYWVhYTI1ZGRjMmVjYTk0Y2I1MTQwMDBjODVjZjkzNQ==",
    ),
];

#[test]
fn the_vendors_five_published_signatures_of_offline_pushes_verify() {
    let signature = signature(Scheme::MeiqiaSign, &["authorization"], Encoding::Base64, "meiqia_sign:");
    let verifier = Verifier::new(&signature, &secrets(&[MEIQIA_KEY])).unwrap();
    for (body, digest) in MEIQIA_VECTORS {
        let line = format!("meiqia_sign:{digest}");
        let verify = |body: &str| verifier.verify(&headers(&[("authorization", &line)]), body.as_bytes(), NOW);
        assert_eq!(verify(body), Ok(()), "{body}");
        assert_eq!(verify(&format!("{body} ")), Err(Unverified::Wrong), "{body}");
    }
}

fn standard(texts: &[&str]) -> Result<Verifier, SignatureError> {
    let rule = signature(Scheme::StandardWebhooks, &["webhook-signature"], Encoding::Base64, "");
    Verifier::new(&rule, &secrets(texts))
}

#[test]
fn standard_webhooks_matches_the_vector_of_its_libraries() {
    let verifier = standard(&[WHSEC]).unwrap();
    let check = |id: &str, time: &str, value: &str, now_millis: i64| {
        let lines = [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", value)];
        verifier.verify(&headers(&lines), WEBHOOK_BODY, Timestamp::from_millis(now_millis)).is_ok()
    };
    let (id, time, now) = (WEBHOOK_ID, "1649367553", NOW.as_millis());
    assert!(check(id, time, WEBHOOK_SIGNATURE, now));
    let several = format!("v1,AAAA v2,zzzz {WEBHOOK_SIGNATURE}");
    assert!(check(id, time, &several, now));
    assert!(check(id, time, WEBHOOK_SIGNATURE, now + 300_000));
    assert!(check(id, time, WEBHOOK_SIGNATURE, now - 300_000));
    assert!(!check(id, time, WEBHOOK_SIGNATURE, now + 300_001));
    assert!(!check(id, time, WEBHOOK_SIGNATURE, now - 300_001));
    assert!(!check("msg_other", time, WEBHOOK_SIGNATURE, now));
    assert!(!check(id, "1649367554", WEBHOOK_SIGNATURE, now));
    assert!(!check(id, "soon", WEBHOOK_SIGNATURE, now));
    assert!(!check(id, time, &WEBHOOK_SIGNATURE.replace("v1", "v2"), now));
    assert!(!check(id, time, "", now));
    assert!(!check("", time, WEBHOOK_SIGNATURE, now));
    let made = verifier.sign(WEBHOOK_BODY, WEBHOOK_ID, NOW);
    assert_eq!(made.last().map(|(_, value)| value.to_str().unwrap()), Some(WEBHOOK_SIGNATURE));
}

#[test]
fn a_repeated_standard_webhooks_header_is_wrong() {
    let verifier = standard(&[WHSEC]).unwrap();
    let once =
        [("webhook-id", WEBHOOK_ID), ("webhook-timestamp", "1649367553"), ("webhook-signature", WEBHOOK_SIGNATURE)];
    for repeated in once {
        let lines: Vec<_> = once.into_iter().chain([repeated]).collect();
        assert_eq!(verifier.verify(&headers(&lines), WEBHOOK_BODY, NOW), Err(Unverified::Wrong), "{repeated:?}");
    }
}

#[test]
fn a_token_is_compared_whole() {
    let rule = signature(Scheme::Token, &["authorization"], Encoding::Hex, "Bearer ");
    let verifier = Verifier::new(&rule, &secrets(&["abc", "def"])).unwrap();
    for (value, expected) in [
        ("Bearer abc", Ok(())),
        ("Bearer def", Ok(())),
        ("Bearer ab", Err(Unverified::Wrong)),
        ("Bearer abcd", Err(Unverified::Wrong)),
        ("Bearer ", Err(Unverified::Wrong)),
        ("abc", Err(Unverified::Wrong)),
    ] {
        assert_eq!(verifier.verify(&headers(&[("authorization", value)]), BODY, NOW), expected, "{value}");
    }
}

#[test]
fn what_could_never_verify_cannot_be_made() {
    let rule = signature(Scheme::Sha1Suffix, &["laigu-sign"], Encoding::Hex, "");
    assert_eq!(Verifier::new(&rule, &[]).unwrap_err(), SignatureError::NoSecret);
    assert_eq!(Verifier::new(&rule, &secrets(&["a", ""])).unwrap_err(), SignatureError::NoSecret);
    let bad = signature(Scheme::Sha1Suffix, &["lai gu"], Encoding::Hex, "");
    assert_eq!(Verifier::new(&bad, &secrets(&["a"])).unwrap_err(), SignatureError::Header("lai gu".to_owned()));
    let none = signature(Scheme::HmacSha256, &[], Encoding::Hex, "");
    assert_eq!(Verifier::new(&none, &secrets(&["a"])).unwrap_err(), SignatureError::NoHeader);
    assert_eq!(standard(&["whsec_???"]).unwrap_err(), SignatureError::NotBase64);
    assert_eq!(standard(&["whsec_"]).unwrap_err(), SignatureError::NotBase64);
    let unsigned = signature(Scheme::None, &[], Encoding::Hex, "");
    assert!(!Verifier::new(&unsigned, &[]).unwrap().signs());
}
