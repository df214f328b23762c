//! The data of an installation, piece by piece: forty hosts that are slow to take a hundred certificates must not cost
//! the memory of four thousand.

use std::borrow::Borrow;
use std::fmt::Write;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Bundle;
use crate::model::desired::{MadeFile, Part};

/// The data come in blocks of so many bytes: what takes them must not read a byte more.
const BLOCK: usize = 4096;
/// What is made at a time, unless one bundle has more: what goes into one packet.
const PIECE: usize = 32 * 1024;
/// A checksum in hex, and what separates it from the next.
const SUM: usize = 65;
/// What is sent of each bundle, in this order.
const SENT: [Part; 3] = [Part::Privkey, Part::Cert, Part::Chain];
/// The files that there always are, each of one part.
const USUAL: &[Part] = &Part::ALL;
/// The last line.
const END: &[u8] = b"end\n";

/// What is to come of the data of an installation: of each bundle the checksums of its files, the key, the leaf, the
/// other certificates; then empty lines and `end`, up to a full block.
pub(super) struct Payload<'a> {
    /// Those that the host has besides the usual ones.
    files: &'a [MadeFile],
    bundles: Vec<&'a Bundle>,
    /// How many of them are made.
    made: usize,
    /// Bytes to come.
    left: usize,
}

impl<'a> Payload<'a> {
    /// All of it.
    pub(super) fn of<B: Borrow<Bundle>>(files: &'a [MadeFile], bundles: &'a [B]) -> Self {
        let mut this =
            Self { files, bundles: bundles.iter().map(Borrow::borrow).collect(), made: 0, left: 0 };
        let bytes: usize = this.bundles.iter().map(|bundle| this.size_of(bundle)).sum();
        this.left = (bytes + END.len()).next_multiple_of(BLOCK);
        this
    }

    /// How many bundles there are.
    pub(super) fn count(&self) -> usize {
        self.bundles.len()
    }

    /// How many bytes are to come.
    pub(super) fn size(&self) -> usize {
        self.left
    }

    /// The lines before the data: what each bundle is, and how many blocks there are.
    pub(super) fn announcement(&self) -> String {
        let mut lines = String::new();
        for bundle in &self.bundles {
            let force = if bundle.force { "force" } else { "-" };
            let [keys, leaves, chains] =
                [&bundle.privkey, &bundle.cert, &bundle.chain].map(|text| text.lines().count());
            let (name, version) = (&bundle.certificate, bundle.directory_name());
            let _ = writeln!(lines, "{name} {version} {force} {keys} {leaves} {chains}");
        }
        let _ = writeln!(lines, "{}", self.left / BLOCK);
        lines
    }

    /// What each file is made of.
    fn files(&self) -> impl Iterator<Item = &[Part]> {
        USUAL.chunks(1).chain(self.files.iter().map(|file| &file.parts[..]))
    }

    fn size_of(&self, bundle: &Bundle) -> usize {
        let texts = SENT.iter().flat_map(|part| pieces(bundle, *part));
        self.files().count() * SUM + texts.map(str::len).sum::<usize>()
    }

    fn write(&self, bundle: &Bundle, to: &mut Vec<u8>) {
        let sums: Vec<String> = self.files().map(|parts| hex_sum(bundle, parts)).collect();
        to.extend_from_slice(sums.join(" ").as_bytes());
        to.push(b'\n');
        for part in SENT {
            pieces(bundle, part).for_each(|piece| to.extend_from_slice(piece.as_bytes()));
        }
    }
}

impl Iterator for Payload<'_> {
    type Item = Zeroizing<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut until, mut size) = (self.made, 0);
        for bundle in &self.bundles[self.made..] {
            let more = self.size_of(bundle);
            if size > 0 && size + more > PIECE {
                break;
            }
            (until, size) = (until + 1, size + more);
        }
        if size == 0 {
            size = self.left;
        }
        if size == 0 {
            return None;
        }
        // All the room at once: a buffer that grows leaves copies of keys behind.
        let mut piece = Zeroizing::new(Vec::with_capacity(size));
        for bundle in &self.bundles[self.made..until] {
            self.write(bundle, &mut piece);
        }
        if self.made == until {
            piece.resize(size - END.len(), b'\n');
            piece.extend_from_slice(END);
        }
        (self.made, self.left) = (until, self.left - size);
        Some(piece)
    }
}

/// What a part of a bundle consists of, each piece with a line end: what the host reads are lines.
fn pieces(bundle: &Bundle, part: Part) -> impl Iterator<Item = &str> {
    let texts: &[&str] = match part {
        Part::Privkey => &[&bundle.privkey],
        Part::Cert => &[&bundle.cert],
        Part::Chain => &[&bundle.chain],
        Part::Fullchain => &[&bundle.cert, &bundle.chain],
    };
    let texts = texts.to_vec();
    texts.into_iter().flat_map(|text| {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        [text, end]
    })
}

/// The SHA-256 of a file that has these parts.
pub(super) fn hex_sum(bundle: &Bundle, parts: &[Part]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        pieces(bundle, *part).for_each(|piece| hash.update(piece.as_bytes()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::{Fingerprint, VersionNumber};

    fn bundle(name: &str, size: usize) -> Bundle {
        Bundle {
            certificate: name.parse().unwrap(),
            version: VersionNumber::FIRST,
            fingerprint: Fingerprint::of(name.as_bytes()),
            force: false,
            privkey: Zeroizing::new("key\n".to_owned()),
            cert: "c".repeat(size),
            chain: String::new(),
        }
    }

    #[test]
    fn pieces_are_small_whatever_there_is_in_all_and_end_with_a_full_block() {
        let file = MadeFile { name: "all.pem".to_owned(), parts: Part::ALL.to_vec() };
        for (count, size) in [(0, 0), (1, 10), (1, 3 * PIECE), (40, 3000), (1000, 100)] {
            let bundles: Vec<Bundle> = (0..count).map(|n| bundle(&format!("n{n}.org"), size)).collect();
            let payload = Payload::of(std::slice::from_ref(&file), &bundles);
            let (announced, blocks) = (payload.size(), payload.announcement());
            let pieces: Vec<_> = payload.collect();
            let most = PIECE.max(size + 1000);
            for piece in &pieces {
                assert!(piece.len() <= most, "{} of {most}", piece.len());
                assert_eq!(piece.capacity(), piece.len(), "it never had to move");
            }
            let whole = pieces.iter().map(|piece| piece.as_slice()).collect::<Vec<_>>().concat();
            assert_eq!((whole.len(), whole.len() % BLOCK), (announced, 0));
            assert!(whole.ends_with(b"\nend\n") || count == 0);
            assert_eq!(blocks.lines().last().unwrap(), (announced / BLOCK).to_string());
            let keys = String::from_utf8(whole).unwrap().lines().filter(|line| *line == "key").count();
            assert_eq!(keys, count);
        }
    }
}
