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
