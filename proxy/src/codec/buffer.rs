//! Read and write buffers, lent while there is something in them: an idle connection holds none.
//!
//! Each worker keeps a few for the next who needs one, so that a steady load allocates nothing.

use std::cell::RefCell;

/// Enough for nearly every head, and for a small message whole.
pub(super) const SMALL_BYTES: usize = 16 * 1024;
/// For bodies that keep filling a small one: fewer system calls.
pub(super) const LARGE_BYTES: usize = 64 * 1024;

/// How many of each a worker keeps: 2 MiB and 512 KiB.
const KEPT_SMALL: usize = 32;
const KEPT_LARGE: usize = 8;
const KEPT_OUTPUT: usize = 32;
/// An output buffer that grew larger is not kept.
const KEPT_OUTPUT_BYTES: usize = 32 * 1024;

thread_local! {
    static SMALL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static LARGE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What was read and not yet used.
#[derive(Debug, Default)]
pub(super) struct Input {
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Input {
    pub fn holding(bytes: &[u8]) -> Self {
        let mut input = Self::default();
        if !bytes.is_empty() {
            let mut buffer = take(bytes.len());
            buffer[..bytes.len()].copy_from_slice(bytes);
            input.end = bytes.len();
            input.buffer = Some(buffer);
        }
        input
    }

    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer[self.start..self.end])
    }

    /// Of the buffer.
    pub fn capacity(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.len())
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.end {
            self.release();
        }
    }

    /// Where to read to: what is there is moved to the front when the room behind it is used up, and grows up to
    /// `maximum` when it fills a buffer. `None`: full.
    pub fn room(&mut self, maximum: usize, large: bool) -> Option<&mut [u8]> {
        let buffer = self
            .buffer
            .get_or_insert_with(|| take(if large { LARGE_BYTES } else { SMALL_BYTES }));
        if self.end == buffer.len() {
            if self.start > 0 {
                buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else if self.end < maximum {
                let mut larger = take(self.end + 1);
                larger[..self.end].copy_from_slice(&buffer[..self.end]);
                give_back(std::mem::replace(buffer, larger));
            } else {
                return None;
            }
        }
        Some(&mut buffer[self.end..])
    }

    /// `count` bytes were read to `room`.
    pub fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Gives an unused buffer back.
    pub fn release(&mut self) {
        (self.start, self.end) = (0, 0);
        if let Some(buffer) = self.buffer.take() {
            give_back(buffer);
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.release();
    }
}

/// A buffer of at least `wanted` bytes.
fn take(wanted: usize) -> Box<[u8]> {
    let (free, size) = match wanted {
        0..=SMALL_BYTES => (&SMALL, SMALL_BYTES),
        _ => (&LARGE, LARGE_BYTES),
    };
    let kept = if wanted <= size {
        free.with_borrow_mut(Vec::pop)
    } else {
        None
    };
    kept.unwrap_or_else(|| vec![0; size.max(wanted)].into_boxed_slice())
}

fn give_back(buffer: Box<[u8]>) {
    let (free, kept) = match buffer.len() {
        SMALL_BYTES => (&SMALL, KEPT_SMALL),
        LARGE_BYTES => (&LARGE, KEPT_LARGE),
        _ => return,
    };
    // A thread that is ending has no more use for it.
    let _ = free.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < kept {
            free.push(buffer);
        }
    });
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    written: usize,
}

impl Output {
    /// To append to.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = OUTPUT
                .with_borrow_mut(Vec::pop)
                .unwrap_or_else(|| Vec::with_capacity(4096));
        }
        &mut self.bytes
    }

    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    pub fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// `count` bytes of `pending` were written.
    pub fn advance(&mut self, count: usize) {
        self.written += count;
        if self.is_empty() {
            self.release();
        }
    }

    pub fn release(&mut self) {
        self.written = 0;
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() == 0 || bytes.capacity() > KEPT_OUTPUT_BYTES {
            return;
        }
        bytes.clear();
        let _ = OUTPUT.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT_OUTPUT {
                free.push(bytes);
            }
        });
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_buffer_makes_room_by_moving_then_by_growing_then_not_at_all() {
        let mut input = Input::default();
        let room = input.room(LARGE_BYTES, false).expect("room");
        room.fill(7);
        let count = room.len();
        input.filled(count);
        input.consume(100);
        assert_eq!(input.room(LARGE_BYTES, false).map(|room| room.len()), Some(100));
        input.filled(100);
        assert_eq!(
            input.room(LARGE_BYTES, false).map(|room| room.len()),
            Some(LARGE_BYTES - SMALL_BYTES)
        );
        input.filled(LARGE_BYTES - SMALL_BYTES);
        assert!(input.room(LARGE_BYTES, false).is_none());
        assert_eq!(input.bytes().len(), LARGE_BYTES);
        assert!(input.bytes()[..SMALL_BYTES - 100].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_is_used_up_holds_no_buffer() {
        let mut input = Input::holding(b"abc");
        input.consume(3);
        assert!(input.buffer.is_none() && input.is_empty() && input.bytes().is_empty());
        let mut output = Output::default();
        output.bytes_mut().extend_from_slice(b"abc");
        output.advance(2);
        assert_eq!(output.pending(), b"c");
        output.advance(1);
        assert!(output.is_empty() && output.bytes.capacity() == 0);
    }
}
