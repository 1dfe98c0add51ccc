//! Raw bytes on the wire: limits, pipelining, truncation, smuggling.

use super::support::{Running, SECRET, laigu_sign, open, push_body, read_reply, read_to_end, request, settings};
use laigu_router::ingress::problem::Problem;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// A signed push of this number to `/hooks/laigu/acme`, with more header lines.
fn signed_push(number: usize, more: &[(&str, &str)]) -> Vec<u8> {
    let body = push_body(number);
    let signed = laigu_sign(&body, SECRET);
    let headers: Vec<_> = [("Laigu-Sign", signed.as_str())].into_iter().chain(more.iter().copied()).collect();
    request("POST", "/hooks/laigu/acme", &headers, &body)
}

fn chunked_push(body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let signed = laigu_sign(body, SECRET);
    let head = format!("POST /hooks/laigu/acme HTTP/1.1\r\nLaigu-Sign: {signed}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut bytes = head.into_bytes();
    for chunk in body.chunks(chunk_bytes) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Sends bytes and gives the statuses of all answers until the connection ends.
async fn statuses(door: &Running, bytes: &[u8]) -> Vec<u16> {
    let mut stream = door.connect().await;
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let answers = read_to_end(&mut stream).await;
    let text = String::from_utf8_lossy(&answers).into_owned();
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

#[tokio::test]
async fn the_limit_of_a_body_is_inclusive_however_it_is_framed() {
    let mut settings = settings();
    settings.server.limits.body = 1_000;
    let door = open(&settings);
    for (size, status) in [(999, 200), (1_000, 200), (1_001, 413), (100_000, 413)] {
        let body = vec![b'x'; size];
        let reply = door.push(&body).await;
        assert_eq!(reply.status, status, "{size} declared");
        assert_eq!(door.send(&chunked_push(&body, 100)).await.status, status, "{size} chunked");
    }
    assert_eq!((door.stored(), door.rejected(Problem::BodyTooLarge)), (4, 4));
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_refused_long_before_its_end() {
    let door = open(&settings());
    // Declared: refused by the head alone.
    let mut stream = door.connect().await;
    stream.write_all(b"POST /hooks/laigu HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n").await.unwrap();
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 413);
    // Chunked without end: refused as soon as the limit is passed, or soon after.
    let mut stream = door.connect().await;
    stream.write_all(b"POST /hooks/laigu HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
    let mut reply = None;
    for _ in 0..64 {
        let _ = stream.write_all(&chunk).await;
        if let Ok(found) = timeout(Duration::from_millis(20), read_reply(&mut stream)).await {
            reply = found;
            break;
        }
    }
    assert_eq!(reply.map(|reply| reply.status), Some(413));
}

#[tokio::test]
async fn a_sender_sees_the_413_although_it_goes_on_sending() {
    let door = open(&settings());
    let reply = door.push(&vec![b'x'; 3 << 20]).await;
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
}

#[tokio::test]
async fn the_limits_of_a_head_are_inclusive_and_beyond_them_is_431() {
    let door = open(&settings());
    let base = signed_push(1, &[("X-Pad", "")]);
    let head_bytes = base.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    for (pad, status) in [(32_768 - head_bytes, 200), (32_769 - head_bytes, 431), (420 << 10, 431)] {
        let reply = door.send(&signed_push(1, &[("X-Pad", &"x".repeat(pad))])).await;
        assert_eq!(reply.status, status, "{pad}");
    }
    // Host, Content-Length and Laigu-Sign are three of 64.
    for (more, status) in [(61, 200), (62, 431), (10_000, 431)] {
        let reply = door.send(&signed_push(1, &vec![("X", "1"); more])).await;
        assert_eq!(reply.status, status, "{more} more lines");
    }
}

#[tokio::test]
async fn a_limit_above_what_hyper_takes_by_itself_is_kept_too() {
    let mut settings = settings();
    settings.server.limits.header_count = 200;
    settings.server.limits.headers = 128 << 10;
    let door = open(&settings);
    for (more, status) in [(197, 200), (198, 431)] {
        assert_eq!(door.send(&signed_push(1, &vec![("X", "1"); more])).await.status, status);
    }
    assert_eq!(door.send(&signed_push(1, &[("X-Pad", &"x".repeat(100 << 10))])).await.status, 200);
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_by_one_in_order() {
    let door = open(&settings());
    let mut bytes: Vec<u8> = (0..50).flat_map(|number| signed_push(number, &[])).collect();
    bytes.extend(request("POST", "/hooks/nobody", &[], b""));
    bytes.extend(signed_push(50, &[("Connection", "close")]));
    let mut expected = vec![200; 50];
    expected.extend([404, 200]);
    assert_eq!(statuses(&door, &bytes).await, expected);
    let keys: Vec<_> = door.store.events.lock().unwrap().iter().map(|event| event.key.clone()).collect();
    let in_order: Vec<_> = (0..51).map(|number| Some(format!("t{number}").into_boxed_str())).collect();
    assert_eq!(keys, in_order);
}

#[tokio::test]
async fn a_chunked_push_is_taken_and_ends_its_connection() {
    let door = open(&settings());
    let bytes = [chunked_push(&push_body(1), 7), signed_push(2, &[])].concat();
    assert_eq!(statuses(&door, &bytes).await, [200]);
    assert_eq!(door.stored(), 1);
}

#[tokio::test]
async fn a_push_that_is_cut_anywhere_is_not_stored() {
    let door = open(&settings());
    let whole = signed_push(1, &[]);
    for end in 0..whole.len() {
        let mut stream = door.connect().await;
        stream.write_all(&whole[..end]).await.unwrap();
        stream.shutdown().await.unwrap();
        read_to_end(&mut stream).await;
    }
    let chunked = chunked_push(&push_body(1), 50);
    for end in 0..chunked.len() {
        let mut stream = door.connect().await;
        stream.write_all(&chunked[..end]).await.unwrap();
        drop(stream);
    }
    assert_eq!(statuses(&door, &signed_push(2, &[])).await, [200]);
    assert_eq!(door.stored(), 1);
}

#[tokio::test]
async fn a_push_that_comes_byte_by_byte_is_taken() {
    let door = open(&settings());
    let mut stream = door.connect().await;
    stream.set_nodelay(true).unwrap();
    for byte in signed_push(1, &[]) {
        stream.write_u8(byte).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_sender_that_closes_its_half_still_gets_the_answer() {
    let door = open(&settings());
    assert_eq!(statuses(&door, &signed_push(1, &[])).await, [200]);
    assert_eq!(door.stored(), 1);
}

#[tokio::test]
async fn expect_continue_is_answered_before_the_body_is_sent_and_refused_before_it_is_asked_for() {
    let door = open(&settings());
    let push = signed_push(1, &[("Expect", "100-continue")]);
    let head_bytes = push.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let mut stream = door.connect().await;
    stream.write_all(&push[..head_bytes]).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 100);
    stream.write_all(&push[head_bytes..]).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 200);
    let mut stream = door.connect().await;
    let refused = b"POST /hooks/nobody HTTP/1.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(refused).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 404);
}

#[tokio::test]
async fn framing_that_could_be_read_in_two_ways_is_400_and_the_end() {
    let door = open(&settings());
    let smuggled = String::from_utf8(signed_push(9, &[])).unwrap();
    let mut corpus = Vec::new();
    for headers in [
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
        "Content-Length: 0, 5\r\n\r\n",
        "Content-Length: +0\r\n\r\n",
        "Content-Length: 0x0\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Content-Length : 0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\n",
        "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "X: a\n\r\n",
        "X: a\r\n\n",
        "X: a\rTransfer-Encoding: chunked\r\n\r\n",
        "X: a\0b\r\n\r\n",
        "no colon\r\n\r\n",
    ] {
        corpus.push(format!("POST /hooks/laigu HTTP/1.1\r\n{headers}{smuggled}"));
    }
    for line in
        ["POST /hooks/laigu HTTP/1.1\n", "POST  /hooks/laigu HTTP/1.1\r\n", "POST /hooks/laigu HTTP/9.9\r\n", "\0\r\n"]
    {
        corpus.push(format!("{line}Host: h\r\n\r\n{smuggled}"));
    }
    corpus.push(format!("POST /hooks/laigu HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"));
    for bytes in &corpus {
        assert_eq!(statuses(&door, bytes.as_bytes()).await, [400], "{bytes:?}");
    }
    assert_eq!(door.stored(), 0);
    assert_eq!(door.rejected(Problem::Http), corpus.len() as u64);
}

#[tokio::test]
async fn a_broken_chunk_is_400_and_nothing_after_it_is_read() {
    let door = open(&settings());
    let smuggled = signed_push(9, &[]);
    for chunks in ["5\r\nabc\r\n0\r\n\r\n", "x\r\n", "-1\r\n", "1\nx\n0\n\n", "ffffffffffffffffff\r\n", "1\r\nxy\r\n"] {
        let head = "POST /hooks/laigu HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let bytes = [head.as_bytes(), chunks.as_bytes(), &smuggled].concat();
        let statuses = statuses(&door, &bytes).await;
        assert!(statuses.len() <= 1 && statuses.iter().all(|status| *status == 400), "{chunks:?} {statuses:?}");
    }
    assert_eq!(door.stored(), 0);
}

#[tokio::test]
async fn the_host_and_the_form_of_the_url_make_no_difference() {
    let door = open(&settings());
    let push = String::from_utf8(signed_push(1, &[])).unwrap();
    for (from, to) in [
        ("Host: h\r\n", ""),
        ("Host: h", "Host: evil.example"),
        ("POST /hooks", "POST http://evil.example/hooks"),
        ("Host: h", "X-HTTP-Method-Override: DELETE"),
        ("/acme HTTP", "/acme?a=b&source=x HTTP"),
    ] {
        assert_eq!(door.send(push.replace(from, to).as_bytes()).await.status, 200, "{to}");
    }
}

#[tokio::test]
async fn garbage_gets_no_event_in_and_does_no_harm() {
    let door = open(&settings());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..200 {
        let bytes: Vec<u8> = (0..(round * 13) % 700)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            })
            .collect();
        let mut stream = door.connect().await;
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    }
    assert_eq!(door.stored(), 0);
    assert_eq!(door.push(&push_body(1)).await.status, 200);
}
