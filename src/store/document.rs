//! JSON with a checksum, so that a damaged file is never taken for an old or an empty one.
//!
//! A document is `{"format":1,"checksum":"…","data":…}` and a newline, in exactly these bytes
//! around the data; the checksum is the SHA-256 of the bytes of the data.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::{Damage, LoadError};

/// The newest format this program reads and the one it writes.
const FORMAT: u32 = 1;

/// A value as the bytes of a document.
pub(super) fn encode<T: Serialize>(value: &T) -> Zeroizing<Vec<u8>> {
    // Credentials have 1 KiB: a buffer that grew would leave copies of them behind.
    let mut data = Zeroizing::new(Vec::with_capacity(16 << 10));
    serde_json::to_writer(&mut *data, value)
        .expect("what the store holds has text keys and no failing serializers");
    let head = format!("{START}{FORMAT}{CHECKSUM}{}{DATA}", hex(&Sha256::digest(&*data)));
    let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + data.len() + END.len()));
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(&data);
    bytes.extend_from_slice(END.as_bytes());
    bytes
}

/// The value of a document.
pub(super) fn decode<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, LoadError> {
    serde_json::from_slice(data(path, bytes)?)
        .map_err(|source| LoadError::WrongContent { path: path.to_owned(), source })
}

/// The bytes of a document's data, if they are what was written.
pub(super) fn data<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], LoadError> {
    let damaged = |damage| LoadError::Damaged { path: path.to_owned(), damage };
    if bytes.is_empty() {
        return Err(damaged(Damage::Empty));
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(damaged(Damage::Zeros));
    }
    let rest = bytes.strip_prefix(START.as_bytes()).ok_or_else(|| damaged(Damage::NoDocument))?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let format: u32 = std::str::from_utf8(&rest[..digits])
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| damaged(Damage::NoDocument))?;
    if format > FORMAT {
        return Err(LoadError::Newer { path: path.to_owned(), format });
    }
    let (sum, rest) = rest[digits..]
        .strip_prefix(CHECKSUM.as_bytes())
        .and_then(|rest| rest.split_at_checked(64))
        .filter(|_| format == FORMAT)
        .ok_or_else(|| damaged(Damage::NoDocument))?;
    let rest = rest.strip_prefix(DATA.as_bytes()).ok_or_else(|| damaged(Damage::NoDocument))?;
    let data = rest.strip_suffix(END.as_bytes()).ok_or_else(|| damaged(Damage::Truncated))?;
    if hex(&Sha256::digest(data)).as_bytes() != sum {
        return Err(damaged(Damage::Checksum));
    }
    Ok(data)
}

/// Bytes in lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

const START: &str = "{\"format\":";
const CHECKSUM: &str = ",\"checksum\":\"";
const DATA: &str = "\",\"data\":";
const END: &str = "}\n";
