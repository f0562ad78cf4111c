//! Encoders for compression, with windows so small that many fit in memory.

use std::io::{self, Write as _};

use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;

use crate::tenant::Coding;

/// About the most memory that any of them uses, measured.
pub(super) const CODER_BYTES: u64 = 2 << 20;
/// 256 KiB: text on the web repeats within less.
const WINDOW_LOG: u32 = 18;
const BUFFER_BYTES: usize = 4096;
/// The levels with the best compression of text for their time.
const GZIP_LEVEL: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
const BROTLI_QUALITY: i32 = 4;

pub(super) enum Coder {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    /// Finished; these are the last bytes.
    Finished(Vec<u8>),
}

impl Coder {
    /// Returns nothing if there is no memory for an encoder.
    pub(super) fn new(coding: Coding) -> Option<Self> {
        match coding {
            Coding::Gzip => {
                Some(Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))))
            }
            Coding::Zstd => {
                let mut coder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).ok()?;
                coder.window_log(WINDOW_LOG).ok()?;
                Some(Self::Zstd(coder))
            }
            Coding::Brotli => {
                let params = BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    lgwin: i32::try_from(WINDOW_LOG).unwrap_or(i32::MAX),
                    ..BrotliEncoderParams::default()
                };
                let coder = brotli::CompressorWriter::with_params(Vec::new(), BUFFER_BYTES, &params);
                Some(Self::Brotli(Box::new(coder)))
            }
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(coder) => coder.write_all(bytes),
            Self::Zstd(coder) => coder.write_all(bytes),
            Self::Brotli(coder) => coder.write_all(bytes),
            Self::Finished(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Makes it output everything that it holds back.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(coder) => coder.flush(),
            Self::Zstd(coder) => coder.flush(),
            Self::Brotli(coder) => coder.flush(),
            Self::Finished(_) => Ok(()),
        }
    }

    /// Finishes the encoded stream.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let rest = match std::mem::replace(self, Self::Finished(Vec::new())) {
            Self::Gzip(coder) => coder.finish()?,
            Self::Zstd(coder) => coder.finish()?,
            Self::Brotli(coder) => coder.into_inner(),
            Self::Finished(rest) => rest,
        };
        *self = Self::Finished(rest);
        Ok(())
    }

    /// The output since the last call.
    pub(super) fn take(&mut self) -> Bytes {
        let out = match self {
            Self::Gzip(coder) => coder.get_mut(),
            Self::Zstd(coder) => coder.get_mut(),
            Self::Brotli(coder) => coder.get_mut(),
            Self::Finished(rest) => rest,
        };
        Bytes::from(std::mem::take(out))
    }
}
