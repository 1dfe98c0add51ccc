//! `compose.yaml`: no Docker here, so it is read, and what it mounts is held against what the program and RabbitMQ take.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{path::Path, process::Command};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn compose() -> Value {
    serde_saphyr::from_str(include_str!("../../compose.yaml")).expect("compose.yaml is YAML")
}

/// What a variable is without an environment: `${NAME:-default}` is its default.
fn default(value: &str) -> String {
    match value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        Some(inside) => inside.split_once(":-").expect("a default").1.to_owned(),
        None => value.to_owned(),
    }
}

#[test]
fn compose_brings_up_the_router_and_both_brokers_on_this_machine_alone() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    assert!(["router", "rabbitmq", "kafka"].iter().all(|name| services.contains_key(*name)));
    for (name, service) in services {
        let list = |key: &str| service[key].as_array().cloned().unwrap_or_default();
        for port in list("ports") {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} is open to others: {port}");
        }
        for volume in list("volumes") {
            let from = volume.as_str().unwrap().split(':').next().unwrap();
            let known = compose["volumes"].as_object().unwrap().contains_key(from);
            assert!(known || Path::new(ROOT).join(from).exists(), "{name} mounts {from}");
        }
        let image = service["image"].as_str().unwrap();
        assert!(name == "router" || image.split_once(':').is_some_and(|(_, tag)| tag != "latest"), "{image}");
    }
    let brokers = services["router"]["environment"]["KAFKA_BROKERS"].as_str().unwrap();
    let advertised = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].as_str().unwrap();
    assert!(advertised.split(',').any(|listener| listener == format!("PLAINTEXT://{brokers}")), "{advertised}");
}

#[test]
fn the_file_that_compose_mounts_is_good_and_its_user_is_the_one_that_rabbitmq_makes() {
    let compose = compose();
    let environment = compose["services"]["router"]["environment"].as_object().unwrap();
    let variables: Vec<_> = environment.iter().map(|(name, value)| (name, default(value.as_str().unwrap()))).collect();
    let file = Path::new(ROOT).join("packaging/compose/routes.yaml");
    let mut check = Command::new(env!("CARGO_BIN_EXE_laigu-router"));
    let output = check.arg("--config").arg(file).arg("check").env_clear().envs(variables).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    let definitions: Value =
        serde_json::from_str(include_str!("../../packaging/compose/rabbitmq-definitions.json")).unwrap();
    let user = &definitions["users"][0];
    let url = environment["AMQP_URL"].as_str().unwrap();
    let (name, password) = url.strip_prefix("amqp://").unwrap().split_once('@').unwrap().0.split_once(':').unwrap();
    assert_eq!(user["name"], name);
    // The hash is four bytes of salt, and what SHA-256 makes of them and the password.
    let hash = STANDARD.decode(user["password_hash"].as_str().unwrap()).unwrap();
    let (salt, digest) = hash.split_at(4);
    assert_eq!(Sha256::new().chain_update(salt).chain_update(password).finalize().as_slice(), digest);
    let bound = &definitions["bindings"][0];
    assert_eq!(
        (&bound["source"], &bound["destination"]),
        (&definitions["exchanges"][0]["name"], &definitions["queues"][0]["name"])
    );
}
