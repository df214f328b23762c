//! Texts made to fit.

/// The text, of `limit` bytes at most, with `…` where something is missing.
pub(super) fn cut(text: &str, limit: usize) -> String {
    const MARK: char = '…';
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit.saturating_sub(MARK.len_utf8()));
    format!("{}{MARK}", &text[..end])
}

/// The first whole lines of a text, of `limit` bytes at most, with a last one that says how many are missing.
pub(super) fn excerpt(text: &str, limit: usize) -> String {
    // For the line about the others.
    const RESERVE: usize = 60;
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(RESERVE);
    let mut kept = String::new();
    let mut lines = text.lines();
    let mut missing = lines.clone().count();
    for line in lines.by_ref() {
        if kept.len() + line.len() + 1 > room {
            break;
        }
        kept.push_str(line);
        kept.push('\n');
        missing -= 1;
    }
    if kept.is_empty() {
        kept = cut(text.lines().next().unwrap_or_default(), room) + "\n";
    }
    format!("{kept}… {missing} more lines do not fit here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_says_so_and_fits() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "lo…");
        assert_eq!(cut("ééé", 5), "é…");
        assert_eq!(excerpt("a\nb", 3), "a\nb");
        let text = "a line of text\n".repeat(100);
        for limit in [80, 100, 500, 1499] {
            let shown = excerpt(&text, limit);
            assert!(shown.len() <= limit, "{limit}: {}", shown.len());
            let (kept, last) = shown.rsplit_once('\n').unwrap();
            let missing = 100 - kept.lines().count();
            assert_eq!(last, format!("… {missing} more lines do not fit here"));
        }
        assert!(excerpt(&"x".repeat(10_000), 100).len() <= 100);
    }
}
