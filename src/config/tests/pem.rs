//! Certificates and keys are looked into while the file is read.

use super::{certified, read};

/// Reads a file with this section more; what is wrong with it.
fn told(section: &str, files: &[(&str, &str)]) -> Vec<String> {
    let text = format!(
        "version: 1\n{section}\nsources: {{ laigu: {{ type: laigu, tenants: {{ acme: {{ secret: \
         0123456789abcdef0123456789abcdef }} }} }} }}\nroutes: []\n"
    );
    match read(&text, &[], files) {
        Ok(_) => Vec::new(),
        Err(mistakes) => {
            let one =
                |one: &super::super::diagnostic::Diagnostic| format!("{} | {}", &text[one.span.clone()], one.message);
            mistakes.list.iter().map(one).collect()
        }
    }
}

const SERVER: &str = "server: { tls: { cert_file: c, key_file: k } }\ndestinations: { out: { type: file, path: o } }";
const RABBITMQ: &str = "destinations: { out: { type: rabbitmq, url: amqps://a, exchange: { name: x }, cert_file: c, \
                        key_file: k } }";
const KAFKA: &str = "destinations: { out: { type: kafka, brokers: a, topic: t, security: { protocol: SSL, cert_file: c, \
                     key_file: k } } }";

#[test]
fn a_key_is_of_its_certificate_and_both_are_there() {
    let ([cert, key], [other, _]) = (certified(), certified());
    let chain = format!("{cert}{other}");
    let wrong_way = format!("{other}{cert}");
    for section in [SERVER, RABBITMQ, KAFKA] {
        let told = |cert: &str, key: &str| told(section, &[("/etc/lr/c", cert), ("/etc/lr/k", key)]);
        let nothing: [&str; 0] = [];
        assert_eq!(told(&cert, &key), nothing, "{section}");
        assert_eq!(told(&chain, &key), nothing, "{section}");
        assert_eq!(told(&key, &key), ["c | there is no certificate in `cert_file`"], "{section}");
        assert_eq!(told(&cert, &cert), ["k | there is no private key in `key_file`"], "{section}");
        let both = ["c | there is no certificate in `cert_file`", "k | there is no private key in `key_file`"];
        assert_eq!(told("", "-----BEGIN PRIVATE KEY-----\n"), both, "{section}");
        for cert in [&other, &wrong_way] {
            let found = told(cert, &key);
            // librdkafka knows kinds of keys that we cannot compare.
            assert_eq!(found.len(), usize::from(section != KAFKA), "{section}: {found:?}");
            assert!(
                found.iter().all(|line| line.starts_with("k | `key_file` is no key for `cert_file`: ")),
                "{found:?}"
            );
        }
    }
}
