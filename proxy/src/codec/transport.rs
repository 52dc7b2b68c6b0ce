//! What HTTP/1 and passing bytes on need of a connection besides its bytes.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::task::{Context, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest};
use tokio::net::TcpStream;

use super::prefixed::Prefixed;

pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {
    /// Has the other side closed, behind whatever it sent that was not read yet? No, where that cannot be known.
    fn is_closed_by_peer(&self) -> bool {
        false
    }

    /// Asked of the kernel itself: is it open, with nothing to be read? Yes, where that cannot be known.
    fn is_silent(&self) -> bool {
        true
    }

    /// Has the other side aborted the connection? No, where that cannot be known without reading or writing. May wake
    /// the task when it does.
    fn is_reset(&mut self, _: &mut Context<'_>) -> bool {
        false
    }

    /// Dropping it resets the connection from now on, where that is possible: the other side cannot take it for an end.
    fn reset_when_dropped(&self) {}
}

/// A connection in the middle of something. Dropped as it is, and with it what was being done, the connection is reset;
/// whoever has finished forgets this (`mem::forget`: it holds nothing).
#[derive(Debug)]
pub struct Unfinished<'s, S: Transport + ?Sized>(pub &'s mut S);

impl<S: Transport + ?Sized> Drop for Unfinished<'_, S> {
    fn drop(&mut self) {
        self.0.reset_when_dropped();
    }
}

impl Transport for TcpStream {
    fn is_closed_by_peer(&self) -> bool {
        // Every interest is told of a closed read side; this one, unlike reading, of nothing else that is usual.
        let closed = pin!(self.ready(Interest::PRIORITY));
        closed.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn is_silent(&self) -> bool {
        let peeked = SockRef::from(self).peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    fn is_reset(&mut self, _: &mut Context<'_>) -> bool {
        !matches!(self.take_error(), Ok(None))
    }

    fn reset_when_dropped(&self) {
        if let Err(error) = self.set_zero_linger() {
            tracing::debug!(%error, "the connection cannot be reset");
        }
    }
}

impl Transport for DuplexStream {}

impl<T: Transport> Transport for Prefixed<T> {
    fn is_closed_by_peer(&self) -> bool {
        self.get_ref().is_closed_by_peer()
    }

    fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        self.get_mut().is_reset(cx)
    }

    fn reset_when_dropped(&self) {
        self.get_ref().reset_when_dropped();
    }
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn is_closed_by_peer(&self) -> bool {
        (**self).is_closed_by_peer()
    }

    fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        (**self).is_reset(cx)
    }

    fn reset_when_dropped(&self) {
        (**self).reset_when_dropped();
    }
}
