//! The body of a request, smaller.

use std::io::{self, Write as _};

use crate::config::Compression;

/// `body` compressed; the level is the fastest, since agents share their processor with what they do.
pub(super) fn compress(compression: Compression, body: Vec<u8>) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(body),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&body)?;
            encoder.finish()
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::bulk::compress(&body, 1),
        #[cfg(not(feature = "zstd"))]
        Compression::Zstd => Err(io::Error::new(io::ErrorKind::Unsupported, "built without zstd")),
    }
}

/// The name for `Content-Encoding` and `grpc-encoding`.
pub(super) fn encoding(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    }
}
