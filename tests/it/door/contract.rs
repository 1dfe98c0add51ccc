//! Each status of the delivery contract, as a sender sees it.

use super::support::{open, push_body, request, settings};

#[tokio::test]
async fn a_signed_push_is_stored_and_answered_with_200() {
    let door = open(&settings());
    let body = push_body(1);
    let reply = door.push(&body).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{reply:?}");
    let events = door.store.events.lock().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(&*events[0].body, &body[..]);
    assert_eq!(&*events[0].kind, "cus.upsert");
    assert_eq!(events[0].key.as_deref(), Some("t1"));
}

#[tokio::test]
async fn a_forged_or_unsigned_push_is_401_and_not_stored() {
    let door = open(&settings());
    let body = push_body(1);
    for headers in [&[][..], &[("Laigu-Sign", "3505dee0530011c2ec8c3aae44661976932172b8")]] {
        let reply = door.post("/hooks/laigu/acme", headers, &body).await;
        assert_eq!(reply.status, 401);
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    }
    assert_eq!(door.stored(), 0);
}

#[tokio::test]
async fn get_and_head_on_a_hook_url_are_200() {
    let door = open(&settings());
    assert_eq!(door.send(&request("GET", "/hooks/laigu/acme", &[], b"")).await.status, 200);
    assert_eq!(door.send(&request("HEAD", "/hooks/laigu", &[], b"")).await.status, 200);
}
