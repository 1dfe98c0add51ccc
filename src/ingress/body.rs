//! Reads a request's body whole, within its limits.

use super::problem::Problem;
use bytes::Bytes;
use hyper::body::{Body, Frame};
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    time::Duration,
};

/// Room made at once for a body of declared length; a sender that lies about more gets no memory for it.
const BYTES_AT_ONCE: u64 = 64 << 10;

/// Reads the body: at most `bytes_max` bytes, within `time`.
///
/// The bytes are copied out of hyper's buffer: an event lives long, and would keep all of the buffer alive.
///
/// # Errors
/// [`Problem::BodyTooLarge`] as soon as the limit is passed, [`Problem::Slow`], [`Problem::Http`] when it breaks off.
pub(super) async fn read<B>(body: B, bytes_max: u64, time: Duration) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
{
    // Most bodies have come with the head. `timeout` polls the reading first, and starts no timer if it is done.
    tokio::time::timeout(time, collect(body, bytes_max)).await.unwrap_or(Err(Problem::Slow))
}

async fn collect<B: Body<Data = Bytes>>(body: B, bytes_max: u64) -> Result<Bytes, Problem> {
    let mut body = pin!(body);
    let declared = body.size_hint().lower();
    if declared > bytes_max {
        return Err(Problem::BodyTooLarge);
    }
    let mut whole = Vec::new();
    while let Some(frame) = next(body.as_mut()).await {
        let Ok(data) = frame.map_err(|_| Problem::Http)?.into_data() else { continue };
        if (whole.len() + data.len()) as u64 > bytes_max {
            return Err(Problem::BodyTooLarge);
        }
        if whole.capacity() == 0 {
            let room = declared.min(BYTES_AT_ONCE).max(data.len() as u64);
            whole.reserve_exact(usize::try_from(room).unwrap_or_default());
        }
        whole.extend_from_slice(&data);
    }
    Ok(Bytes::from(whole))
}

async fn next<B: Body>(mut body: Pin<&mut B>) -> Option<Result<Frame<B::Data>, B::Error>> {
    poll_fn(|context| body.as_mut().poll_frame(context)).await
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::ingress::problem::Problem;
    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use std::{convert::Infallible, io, time::Duration};

    const TIME: Duration = Duration::from_secs(1);

    fn pieces(pieces: &[&'static str]) -> Vec<Result<Frame<Bytes>, Infallible>> {
        pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).collect()
    }

    #[tokio::test]
    async fn pieces_are_joined_up_to_the_limit() {
        let body = || StreamBody::new(stream::iter(pieces(&["ab", "", "cde"])));
        assert_eq!(read(body(), 5, TIME).await, Ok(Bytes::from("abcde")));
        assert_eq!(read(body(), 4, TIME).await, Err(Problem::BodyTooLarge));
        assert_eq!(read(Full::new(Bytes::from("abcde")), 4, TIME).await, Err(Problem::BodyTooLarge));
        assert_eq!(read(Full::new(Bytes::new()), 4, TIME).await, Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let broken = stream::iter([Ok(Frame::data(Bytes::from("a"))), Err(io::Error::other("reset"))]);
        assert_eq!(read(StreamBody::new(broken), 5, TIME).await, Err(Problem::Http));
    }
}
