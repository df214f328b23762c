//! The names at the start of a known-hosts line.

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::HostPatterns;
use sha1::Sha1;

/// Whether a line with these patterns is about this name, which is in lower case.
pub(super) fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
            .is_ok_and(|mac| mac.chain_update(name).verify_slice(hash).is_ok()),
        HostPatterns::Patterns(patterns) => {
            let mut found = false;
            for pattern in patterns {
                match pattern.strip_prefix('!') {
                    Some(not) if glob(not.to_ascii_lowercase().as_bytes(), name.as_bytes()) => return false,
                    Some(_) => {}
                    None => found |= glob(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()),
                }
            }
            found
        }
    }
}

/// `*` stands for anything, `?` for one character. Linear but for the last `*`, so no pattern can stall it.
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::{HostPatterns, glob, matches};

    #[test]
    fn patterns_match_as_in_ssh() {
        for (pattern, text, matched) in [
            ("edge", "edge", true),
            ("edge", "edge1", false),
            ("*", "", true),
            ("*.example.org", "a.b.example.org", true),
            ("*.example.org", "example.org", false),
            ("[10.0.?.*]:22??", "[10.0.1.17]:2222", true),
            ("[10.0.?.*]:22??", "[10.0.11.17]:2222", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), matched, "{pattern} {text}");
        }
        // Exponential in a naive matcher.
        assert!(!glob("*a".repeat(500).as_bytes(), "a".repeat(499).as_bytes()));
        let patterns = |text: &str| text.parse::<HostPatterns>().unwrap();
        assert!(matches(&patterns("x,Edge,!core"), "edge"));
        assert!(!matches(&patterns("!edge,*"), "edge"), "a negation wins, wherever it stands");
        assert!(!matches(&patterns("!core"), "edge"), "and does not match the rest by itself");
    }
}
