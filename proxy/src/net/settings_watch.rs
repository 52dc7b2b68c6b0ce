//! Reads along on an HTTP/2 connection to an endpoint, for how many streams the endpoint allows at once
//! (`SETTINGS_MAX_CONCURRENT_STREAMS`, RFC 9113, 6.5.2): the pool must know before it hands out one too many, and as soon
//! as there may be more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

const FRAME_HEAD_BYTES: usize = 9;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const SETTING_BYTES: usize = 6;

/// What the endpoint allows. Until it has said so, nothing.
#[derive(Debug, Default)]
pub struct StreamLimit {
    maximum: AtomicU32,
    changed: Notify,
}

impl StreamLimit {
    pub fn maximum(&self) -> u32 {
        self.maximum.load(Ordering::Acquire)
    }

    /// Returns when the endpoint's settings have arrived since this was last called.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn set(&self, maximum: u32) {
        self.maximum.store(maximum, Ordering::Release);
        self.changed.notify_one();
    }
}

#[derive(Debug)]
pub struct SettingsWatch<S> {
    stream: S,
    limit: Arc<StreamLimit>,
    /// The head of a frame, as far as it has been read.
    head: [u8; FRAME_HEAD_BYTES],
    head_length: usize,
    /// Left of the payload.
    payload_left: usize,
    /// The payload is of a SETTINGS frame; one setting, as far as it has been read.
    setting: Option<([u8; SETTING_BYTES], usize)>,
    /// Of the frame being read.
    told: Option<u32>,
}

impl<S> SettingsWatch<S> {
    pub fn new(stream: S) -> (Self, Arc<StreamLimit>) {
        let limit = Arc::<StreamLimit>::default();
        let watch = Self {
            stream,
            limit: Arc::clone(&limit),
            head: [0; FRAME_HEAD_BYTES],
            head_length: 0,
            payload_left: 0,
            setting: None,
            told: None,
        };
        (watch, limit)
    }

    fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let (payload, rest) = bytes.split_at(self.payload_left.min(bytes.len()));
                self.payload_left -= payload.len();
                self.see_payload(payload);
                bytes = rest;
            } else {
                let missing = FRAME_HEAD_BYTES - self.head_length;
                let (part, rest) = bytes.split_at(missing.min(bytes.len()));
                self.head[self.head_length..self.head_length + part.len()].copy_from_slice(part);
                self.head_length += part.len();
                bytes = rest;
                if self.head_length < FRAME_HEAD_BYTES {
                    return;
                }
                self.begin_frame();
            }
            if self.payload_left == 0 {
                self.end_frame();
            }
        }
    }

    fn begin_frame(&mut self) {
        self.head_length = 0;
        let [high, middle, low, kind, flags, ..] = self.head;
        self.payload_left = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.setting = (kind == SETTINGS && flags & ACK == 0).then_some(([0; SETTING_BYTES], 0));
        self.told = None;
    }

    fn see_payload(&mut self, payload: &[u8]) {
        let Some((setting, length)) = &mut self.setting else {
            return;
        };
        for byte in payload {
            setting[*length] = *byte;
            *length += 1;
            if *length == SETTING_BYTES {
                *length = 0;
                let [id_high, id_low, value @ ..] = *setting;
                if u16::from_be_bytes([id_high, id_low]) == MAX_CONCURRENT_STREAMS {
                    self.told = Some(u32::from_be_bytes(value));
                }
            }
        }
    }

    fn end_frame(&mut self) {
        if self.setting.take().is_none() {
            return;
        }
        match self.told.take() {
            Some(maximum) => self.limit.set(maximum),
            // The first settings without that one: there is no limit.
            None if self.limit.maximum() == 0 => self.limit.set(u32::MAX),
            None => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for SettingsWatch<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.see(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SettingsWatch<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
    }

    fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        frame(SETTINGS, 0, &payload)
    }

    fn limit_after(bytes: &[u8], chunk: usize) -> u32 {
        let (mut watch, limit) = SettingsWatch::new(());
        bytes.chunks(chunk).for_each(|chunk| watch.see(chunk));
        limit.maximum()
    }

    #[test]
    fn the_last_limit_said_counts_however_the_bytes_arrive() {
        let bytes = [
            settings(&[(4, 65_535), (MAX_CONCURRENT_STREAMS, 7)]),
            frame(SETTINGS, ACK, &[]),
            frame(0, 1, &[0, 3, 0, 0, 0, 9]),
            settings(&[(MAX_CONCURRENT_STREAMS, 10)]),
            settings(&[(1, 4096)]),
        ]
        .concat();
        for chunk in 1..bytes.len() {
            assert_eq!(limit_after(&bytes, chunk), 10, "in chunks of {chunk}");
        }
    }

    #[test]
    fn settings_that_do_not_say_it_mean_no_limit_and_before_them_there_is_nothing() {
        assert_eq!(limit_after(&settings(&[]), 64), u32::MAX);
        assert_eq!(limit_after(&settings(&[(1, 1)]), 64), u32::MAX);
        assert_eq!(limit_after(&frame(SETTINGS, ACK, &[]), 64), 0);
    }
}
