//! Reads along what a client sends on a QUIC stream (RFC 9114 §7.1): h3 keeps every frame but DATA whole before it looks at
//! it, however long it says it is, and passes over unknown ones without end.
//!
//! Limit: a frame that is kept is as long as a head may be; of frames that carry nothing a stream has few.

/// The most frames on one stream that are no DATA, and the most DATA frames that are empty.
const FRAMES_MAX: u32 = 64;
const DATA: u64 = 0;

/// Why a stream is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    #[error("a frame of {0} bytes")]
    Long(u64),
    #[error("too many frames that carry nothing")]
    Frames,
    #[error("too many bytes on a stream that is for control")]
    Control,
}

/// What may come on a stream.
#[derive(Debug)]
pub(super) enum Bound {
    /// Of a request.
    Request(Frames),
    /// Of control, or for what nobody knows: so many bytes more.
    Control(u64),
}

impl Bound {
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<(), Excess> {
        match self {
            Self::Request(frames) => frames.pass(bytes),
            Self::Control(left) => {
                *left = left.checked_sub(bytes.len() as u64).ok_or(Excess::Control)?;
                Ok(())
            }
        }
    }
}

/// Where in a request's stream we are.
#[derive(Debug)]
pub(super) struct Frames {
    length_max: u64,
    /// Bytes of the payload that we are in.
    skip: u64,
    kind: Option<u64>,
    number: Varint,
    count: u32,
}

impl Frames {
    pub(super) fn new(length_max: u64) -> Self {
        Self { length_max, skip: 0, kind: None, number: Varint::default(), count: 0 }
    }

    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), Excess> {
        loop {
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            bytes = bytes.get(usize::try_from(skipped).unwrap_or(usize::MAX)..).unwrap_or_default();
            let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            let Some(number) = self.number.push(*first) else { continue };
            let Some(kind) = self.kind.take() else {
                self.kind = Some(number);
                continue;
            };
            self.skip = number;
            if kind == DATA && number > 0 {
                continue;
            }
            self.count += 1;
            if self.count > FRAMES_MAX {
                return Err(Excess::Frames);
            }
            if number > self.length_max {
                return Err(Excess::Long(number));
            }
        }
    }
}

/// A number of variable length (RFC 9000 §16), byte by byte.
#[derive(Debug, Default)]
struct Varint {
    value: u64,
    left: u32,
}

impl Varint {
    fn push(&mut self, byte: u8) -> Option<u64> {
        if self.left == 0 {
            (self.value, self.left) = (u64::from(byte & 0x3f), 1 << (byte >> 6));
        } else {
            self.value = self.value << 8 | u64::from(byte);
        }
        self.left -= 1;
        (self.left == 0).then_some(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(pieces: &[&[u8]]) -> Result<(), Excess> {
        let mut bound = Bound::Request(Frames::new(1000));
        pieces.iter().try_for_each(|piece| bound.pass(piece))
    }

    #[test]
    fn data_may_be_long_and_nothing_else() {
        // HEADERS of 3 bytes, then DATA of 2^30 - 1.
        let head = [1, 3, 9, 9, 9, 0, 0xbf, 0xff, 0xff, 0xff];
        assert_eq!(pass(&[&head]), Ok(()));
        let single: Vec<&[u8]> = head.chunks(1).collect();
        assert_eq!(pass(&single), Ok(()));
        assert_eq!(pass(&[&[1, 0x43, 0xe8]]), Ok(()), "1000 bytes");
        assert_eq!(pass(&[&[1, 0x43, 0xe9]]), Err(Excess::Long(1001)));
        assert_eq!(pass(&[&[0x40, 0x21, 0x43, 0xe9]]), Err(Excess::Long(1001)), "one that nobody knows");
        let long = [1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(pass(&[&long]), Err(Excess::Long((1 << 62) - 1)));
    }

    #[test]
    fn frames_that_carry_nothing_are_few() {
        assert_eq!(pass(&[&[0, 0].repeat(64)]), Ok(()));
        assert_eq!(pass(&[&[0, 0].repeat(65)]), Err(Excess::Frames));
        assert_eq!(pass(&[&[0x21, 1, 7].repeat(65)]), Err(Excess::Frames));
        assert_eq!(pass(&[&[0, 1, 7].repeat(6500)]), Ok(()));
    }

    #[test]
    fn control_ends_at_its_bytes() {
        let mut bound = Bound::Control(10);
        assert_eq!(bound.pass(&[0; 10]), Ok(()));
        assert_eq!(bound.pass(&[0]), Err(Excess::Control));
    }
}
