//! SASL_SSL and client certificates, under a CA of our own.

use super::{
    lane::Lane,
    support::{Node, attempt, create_topic, fresh_topic, security, settings},
};
use laigu_router::{
    config::settings::{Kafka, KafkaSecurity, PemFile, Tls},
    destinations::{Outcome, kafka::Timing},
    domain::{Secret, StopReason},
};
use std::time::Duration;

fn sasl(node: &Node, topic: &str, mechanism: &str, password: &str) -> Kafka {
    let security = KafkaSecurity {
        mechanism: Some(mechanism.into()),
        username: Some(node.get("KAFKA_SASL_USERNAME").into()),
        password: Some(Secret::new(password.into())),
        ..security("SASL_SSL", Some(node.get("KAFKA_CA_FILE")))
    };
    Kafka { security: Some(security), ..settings(node.get("KAFKA_SASL_BROKERS"), topic) }
}

async fn delivers(settings: &Kafka) {
    let mut lane = Lane::start(settings, 16, Timing::default());
    lane.until_up().await;
    let outcome = &lane.publish(vec![attempt(1, None, "{}")]).await[&1];
    assert!(matches!(outcome, Outcome::Taken { .. }), "{outcome:?}");
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mechanism_proves_who_we_are_over_tls() {
    let (node, topic) = (Node::shared(), fresh_topic());
    create_topic(node.brokers(), &topic, 1, &[]).await;
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] {
        delivers(&sasl(&node, &topic, mechanism, node.get("KAFKA_SASL_PASSWORD"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_opens_a_listener_that_asks_for_one() {
    let (node, topic) = (Node::shared(), fresh_topic());
    create_topic(node.brokers(), &topic, 1, &[]).await;
    let pair = Tls {
        cert_file: PemFile::new(node.get("KAFKA_CLIENT_CERT_FILE"), b""),
        key_file: PemFile::new(node.get("KAFKA_CLIENT_KEY_FILE"), b""),
    };
    let security = KafkaSecurity { client_cert: Some(pair), ..security("SSL", Some(node.get("KAFKA_CA_FILE"))) };
    delivers(&Kafka { security: Some(security), ..settings(node.get("KAFKA_SSL_BROKERS"), &topic) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_misconfigured_and_is_not_repeated_to_anyone() {
    let node = Node::shared();
    for mechanism in ["SCRAM-SHA-256", "PLAIN"] {
        let timing = Timing { open: Duration::from_secs(2), ..Timing::default() };
        let mut lane = Lane::start(&sasl(&node, "t", mechanism, "not-the-password"), 16, timing);
        let words = lane.until_stopped(StopReason::Misconfigured).await;
        assert!(words.contains("uthentication") && !words.contains("not-the-password"), "{words}");
        lane.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_is_refused() {
    let node = Node::shared();
    let mut settings = sasl(&node, "t", "PLAIN", node.get("KAFKA_SASL_PASSWORD"));
    settings.security.as_mut().unwrap().ca_file = None;
    let timing = Timing { open: Duration::from_secs(2), ..Timing::default() };
    let mut lane = Lane::start(&settings, 16, timing);
    let words = lane.until_stopped(StopReason::Misconfigured).await;
    assert!(words.contains("certificate"), "{words}");
    lane.end().await;
}
