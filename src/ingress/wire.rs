//! A connection's bytes on their way to and from hyper: the guard reads along, the pulse is kept.

use super::{
    guard::{Guard, HeadLimits, Offence},
    pulse::Pulse,
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) struct Wire<'a, I> {
    pub(super) io: I,
    pub(super) guard: Guard,
    /// What the guard found; nothing is read any more.
    pub(super) offence: Option<Offence>,
    /// Whether the other side has said its last.
    pub(super) ended: bool,
    pulse: &'a Pulse,
}

impl<'a, I> Wire<'a, I> {
    pub(super) const fn new(io: I, limits: HeadLimits, pulse: &'a Pulse) -> Self {
        Self { io, guard: Guard::new(limits), offence: None, ended: false, pulse }
    }

    /// Notes what was sent, if anything was.
    fn sent(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(1..))) {
            self.pulse.sent();
        }
        result
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Wire<'_, I> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut wire.io).poll_read(context, buffer))?;
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() {
            wire.ended = true;
            return Poll::Ready(Ok(()));
        }
        if let Err(offence) = wire.guard.feed(fresh) {
            wire.offence = Some(offence);
            return Poll::Ready(Err(io::Error::other("the framing is refused")));
        }
        wire.pulse.received(wire.guard.in_head(), wire.guard.is_last());
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Wire<'_, I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(context, bytes);
        self.sent(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.sent(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Only flushes: hyper takes a failed read between two requests for an end, and there may be last words to say.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }
}
