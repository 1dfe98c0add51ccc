//! The shipped `routes.yaml`, and one push by the README's own line.

use super::{
    marks::{Marks, same_event},
    wait_for_state,
};
use crate::{
    brokers::rabbitmq::Broker,
    crash::brokers::Topic,
    kafka::support::{Node, create_topic, delete_topic},
    program::{Home, PATIENCE, wait_for},
};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use std::{fs, process::Command};
use tokio::runtime::Runtime;

const README: &str = include_str!("../../../README.md");
/// The exchange and the topic of the file.
const NAME: &str = "crm.events";
const QUEUE: &str = "it-shipped";

/// The README's push, as someone would copy it, with another port.
fn line(port: u16) -> String {
    let from = README.find("BODY='{").expect("the README has a push");
    let line = &README[from..README[from..].find("\nsleep 1").expect("and looks at its result") + from];
    assert!(line.contains("127.0.0.1:8080/hooks/laigu/acme"), "{line}");
    line.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"))
}

fn body() -> String {
    let from = README.find("BODY='").expect("the README has a push") + "BODY='".len();
    README[from..].split('\'').next().unwrap().to_owned()
}

fn has_topic(brokers: &str) -> bool {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
    metadata.topics().iter().any(|topic| topic.name() == NAME)
}

#[test]
fn one_signed_push_by_the_readme_s_own_line_arrives_with_all_headers() {
    let (rabbitmq, node, runtime) = (Broker::shared(), Node::shared(), Runtime::new().unwrap());
    // Left by a run that was ended: what is read below must be this run's.
    if has_topic(node.brokers()) {
        runtime.block_on(delete_topic(node.brokers(), NAME));
        wait_for("the topic goes", PATIENCE, || (!has_topic(node.brokers())).then_some(()));
    }
    runtime.block_on(create_topic(node.brokers(), NAME, 1, &[]));
    let mut topic = Topic::new(node.brokers(), NAME, 1);

    let home = Home::new("", "");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/routes.yaml"), home.path("routes.yaml")).unwrap();
    let (listen, admin, url) =
        (format!("127.0.0.1:{}", home.hooks), format!("127.0.0.1:{}", home.admin), rabbitmq.url());
    let program = home.start_with(&[
        ("LISTEN", &listen),
        ("ADMIN_LISTEN", &admin),
        ("LAIGU_SECRET", "test_secret"),
        ("AMQP_URL", &url),
        ("KAFKA_BROKERS", node.brokers()),
    ]);
    for destination in ["crm", "lake", "archive"] {
        wait_for_state(&program, destination, "up");
    }
    // The exchange is there: the program has declared it.
    let client = runtime.block_on(rabbitmq.client());
    runtime.block_on(client.queue(QUEUE, NAME, "customer.#", &[]));

    let output = Command::new("sh").args(["-c", &line(home.hooks)]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("{\"status\":\"success\"}"), "{said}");

    let messages = runtime.block_on(client.drain(QUEUE, 1));
    let mut records = Vec::new();
    wait_for("a record", PATIENCE, || {
        records.extend(topic.look());
        (!records.is_empty()).then_some(())
    });
    assert_eq!((messages.len(), records.len()), (1, 1));
    assert_eq!(messages[0].routing_key, "customer.unknown");
    let marks = Marks {
        subject: "2ldmFOXB7aDMXHSs7upv5PMZsa0",
        vendor_id: "sub_b6bd473a003a99216d3f63cc329869b3_1726824224_9975",
    };
    marks.check_message(&messages[0], &body());
    marks.check_record(&records[0], &body());
    let id = same_event(&messages[0], &records[0]);
    program.wait_for("laigu_router_delivered_total", &["archive"], 1.0);
    let file = fs::read_dir(home.path("out")).unwrap().next().unwrap().unwrap().path();
    assert!(fs::read_to_string(file).unwrap().contains(&id));
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    runtime.block_on(async {
        delete_topic(node.brokers(), NAME).await;
        client.channel.queue_delete(QUEUE.into(), Default::default()).await.unwrap();
        client.delete_exchange(NAME).await;
    });
}
