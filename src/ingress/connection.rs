//! One connection from its first byte to its last.
//!
//! hyper reads and writes; around it stand the guard (`guard.rs`) and the pulse (`pulse.rs`). A connection that is
//! refused by them is told so in a last answer, unless an earlier answer is still on its way: then any bytes of ours
//! would be taken for a part of it. Before a connection that still owes us bytes is closed, they are read and thrown
//! away for a moment: closing at once would reset it, and the sender might never see the answer.

use super::{
    guard::{HeadLimits, Offence},
    problem::{Problem, Refusal},
    pulse::{Phase, Pulse, Pulses},
    serve::Answers,
    wire::Wire,
};
use crate::config::settings::Limits;
use http::{HeaderValue, Request, Response, header};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, future::poll_fn, net::SocketAddr, pin::pin, sync::Arc, task::Poll, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long a connection that is closed may go on sending what nobody reads.
const LINGER: Duration = Duration::from_secs(1);

/// How many bytes it may send meanwhile.
const LINGER_BYTES_MAX: usize = 4 << 20;

/// hyper's own bound on what it buffers, above the guard's: hyper wants at least 8 KiB, and bodies come in such
/// pieces.
const BUFFER_BYTES_MIN: usize = 64 << 10;

/// hyper parses this many header lines without allocating.
const HEADERS_INLINE: usize = 100;

/// Answers of unknown length, or longer than this, may take as long as their reader keeps reading.
const ANSWER_BYTES_WHOLE: u64 = 64 << 10;

/// How hyper came to an end.
enum Ending {
    /// All said, or the other side is gone.
    Done,
    /// hyper could not parse the request; it has said so.
    Unparsable,
    Overdue,
}

/// Serves one connection to its end.
pub(super) async fn serve<I, A>(io: I, peer: SocketAddr, limits: &Limits, pulses: &Arc<Pulses>, answers: &A)
where
    I: AsyncRead + AsyncWrite + Unpin + Send,
    A: Answers,
{
    let pulse = pulses.open(limits.header_timeout, limits.idle_timeout);
    let head = usize::try_from(limits.headers).unwrap_or(usize::MAX);
    let mut wire = Wire::new(io, HeadLimits { bytes: head, lines: limits.header_count }, &pulse);
    let ending = {
        let service = service_fn(|request| answer(request, peer, pulses, &pulse, answers));
        let mut builder = http1::Builder::new();
        // The pulse has all deadlines. hyper's own would also end a quiet connection, and costs a timer a request.
        builder.header_read_timeout(None);
        // A sender that closes its half after the request still wants the answer.
        builder.half_close(true);
        builder.max_buf_size(head.max(BUFFER_BYTES_MIN));
        if limits.header_count > HEADERS_INLINE {
            builder.max_headers(limits.header_count);
        }
        let mut connection = pin!(builder.serve_connection(TokioIo::new(&mut wire), service));
        poll_fn(|context| {
            if pulse.nudged(context.waker()) && pulses.is_overdue(&pulse) {
                return Poll::Ready(Ending::Overdue);
            }
            connection.as_mut().poll(context).map(|result| match result {
                Err(error) if error.is_parse() => Ending::Unparsable,
                Ok(()) | Err(_) => Ending::Done,
            })
        })
        .await
    };
    close(&mut wire, &ending, &pulse, answers).await;
}

async fn answer<A: Answers>(
    request: Request<Incoming>,
    peer: SocketAddr,
    pulses: &Pulses,
    pulse: &Pulse,
    answers: &A,
) -> Result<Response<A::Body>, Infallible> {
    pulse.begin();
    let mut response = answers.answer(peer, request).await;
    if pulse.is_last() || pulses.is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let whole = response.body().size_hint().upper().is_some_and(|bytes| bytes <= ANSWER_BYTES_WHOLE);
    pulse.answered(!whole);
    Ok(response)
}

/// Says why, if it may, and closes.
async fn close<I, A>(wire: &mut Wire<'_, I>, ending: &Ending, pulse: &Pulse, answers: &A)
where
    I: AsyncRead + AsyncWrite + Unpin,
    A: Answers,
{
    let problem = match (wire.offence, ending) {
        (Some(Offence::Malformed), _) => Some(Problem::Http),
        (Some(Offence::HeadTooLarge), _) => Some(Problem::HeadTooLarge),
        (None, Ending::Overdue) if pulse.phase() == Phase::Head => Some(Problem::Slow),
        (None, Ending::Unparsable) => {
            answers.refused(Problem::Http);
            None
        }
        (None, Ending::Overdue | Ending::Done) => None,
    };
    if let Some(problem) = problem {
        answers.refused(problem);
        if pulse.phase() != Phase::Busy && !pulse.is_streaming() {
            let _ = tokio::time::timeout(LINGER, wire.io.write_all(&last_words(problem))).await;
        }
    }
    let owed = wire.guard.in_request() || wire.offence.is_some() || matches!(ending, Ending::Unparsable);
    if owed && !wire.ended {
        let _ = tokio::time::timeout(LINGER, linger(&mut wire.io)).await;
    } else {
        let _ = tokio::time::timeout(LINGER, wire.io.shutdown()).await;
    }
}

async fn linger<I: AsyncRead + AsyncWrite + Unpin>(io: &mut I) -> std::io::Result<()> {
    io.shutdown().await?;
    let mut left = LINGER_BYTES_MAX;
    let mut buffer = vec![0; 16 << 10];
    while left > 0 {
        match io.read(&mut buffer).await? {
            0 => return Ok(()),
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// A problem as bytes, for when hyper is out of the way.
fn last_words(problem: Problem) -> Vec<u8> {
    let response = Refusal::from(problem).closing().response();
    let body = problem.body();
    format!(
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        response.status(),
        body.len(),
    )
    .into_bytes()
}
