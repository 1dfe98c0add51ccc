//! `demo` with the brokers that the environment names.

use crate::{brokers::rabbitmq::Broker, kafka::support::Node, program::PATIENCE};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use std::process::{Command, Output, Stdio};

/// What `demo` says with these variables, and the number of its process.
fn demo(variables: &[(&str, &str)]) -> (Output, u32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laigu-router"));
    command.arg("demo").env_remove("AMQP_URL").env_remove("KAFKA_BROKERS").envs(variables.iter().copied());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    (child.wait_with_output().unwrap(), id)
}

/// The number before these words.
fn count(said: &str, words: &str) -> u32 {
    let line = said.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("no `{words}` in {said}"));
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Whatever went to `profiles` has its record beside it, or the word why there is none.
fn check_records(said: &str) {
    let (records, without) = (count(said, "(`ok`)"), count(said, "(`not_applicable`)"));
    assert_eq!(records + without, count(said, "out/profiles"), "{said}");
    assert!(records > 20 && without > 0, "{said}");
    let line = said.lines().find(|line| line.contains("calls of the API")).unwrap();
    let calls: u32 =
        line.split("fetched with ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap();
    assert!(calls > 0, "{said}");
}

fn topics(brokers: &str) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
    metadata.topics().iter().map(|topic| topic.name().to_owned()).collect()
}

#[test]
fn it_publishes_to_both_brokers_reads_everything_back_and_leaves_nothing_there() {
    let (rabbitmq, kafka) = (Broker::shared(), Node::shared());
    let url = rabbitmq.url();
    let (output, id) = demo(&[("AMQP_URL", &url), ("KAFKA_BROKERS", kafka.brokers())]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let filed = count(&said, "out/crm") + count(&said, "out/service");
    assert!(filed > 400, "{said}");
    for broker in ["rabbitmq", "kafka"] {
        assert_eq!(count(&said, &format!("read back from {broker}")), filed, "{said}");
    }
    check_records(&said);
    assert!(said.contains("customer.douyin") && said.contains("conversation.closed"), "{said}");
    assert!(!said.contains("guest"), "{said}");
    let own = format!("laigu-router-demo-{id}");
    assert!(said.contains(&own));
    assert!(!rabbitmq.ctl(&["list_exchanges", "-q"]).contains(&own));
    assert!(!topics(kafka.brokers()).contains(&own));
}

#[test]
fn it_needs_no_broker_and_holds_records_of_the_api_against_what_was_delivered() {
    let (output, _) = demo(&[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    check_records(&said);
    assert_eq!(
        count(&said, "out/crm") + count(&said, "out/service") + count(&said, "taken by no route"),
        584,
        "{said}"
    );
}

#[test]
fn a_broker_that_is_set_and_not_there_is_said_and_nothing_is_started() {
    for (variable, value, place) in [
        ("AMQP_URL", "amqp://user:hush-hush@127.0.0.1:1/%2f", "127.0.0.1:1"),
        ("AMQP_URL", "amqp:hush-hush", "AMQP_URL is not amqp://"),
        ("KAFKA_BROKERS", "127.0.0.1:1", "127.0.0.1:1"),
    ] {
        let (output, _) = demo(&[(variable, value)]);
        let (said, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(!output.status.success(), "{variable}");
        assert!(error.contains(variable) && error.contains(place), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!error.contains("hush-hush") && said.is_empty(), "{error}{said}");
    }
}
