//! As much of XML as Route 53 speaks: elements and text.

use std::fmt::Write as _;

/// An element: its children, or its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) children: Vec<Self>,
    /// Its own text, entities resolved.
    pub(super) text: String,
}

impl Element {
    /// The first child of that name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of that name.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim())
    }

    /// The children of the first child of that name.
    pub(super) fn list(&self, name: &str) -> &[Self] {
        self.child(name).map_or(&[], |child| &child.children)
    }
}

/// Reads a document; `None` if it is none, or nests deeper than any that is meant.
pub(super) fn parse(text: &str) -> Option<Element> {
    // What is open, outermost first; the first stands for the document.
    let mut open = vec![Element::default()];
    let mut rest = text.trim_start_matches('\u{feff}');
    while let Some(start) = rest.find('<') {
        let before = resolved(&rest[..start])?;
        open.last_mut()?.text.push_str(&before);
        rest = &rest[start + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = &comment[comment.find("-->")? + 3..];
            continue;
        }
        let end = rest.find('>')?;
        let (tag, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if tag.starts_with('?') {
            continue;
        }
        // Neither a document type, whose entities could be bombs, nor anything as rare.
        if tag.starts_with('!') {
            return None;
        }
        if let Some(name) = tag.strip_prefix('/') {
            let element = open.pop().filter(|element| element.name == local(name))?;
            open.last_mut()?.children.push(element);
            continue;
        }
        let name = local(tag.trim_end_matches('/'));
        let element = Element { name: name.to_owned(), ..Element::default() };
        if name.is_empty() || open.len() > DEEPEST {
            return None;
        }
        match tag.ends_with('/') {
            true => open.last_mut()?.children.push(element),
            false => open.push(element),
        }
    }
    let document = open.pop().filter(|_| open.is_empty() && rest.trim().is_empty())?;
    <[Element; 1]>::try_from(document.children).ok().map(|[root]| root)
}

/// The name of a tag without prefix and attributes.
fn local(tag: &str) -> &str {
    let name = tag.split_whitespace().next().unwrap_or_default();
    name.rsplit(':').next().unwrap_or_default()
}

/// A text with its entities resolved; `None` for entities that XML itself does not have.
fn resolved(text: &str) -> Option<String> {
    let mut parts = text.split('&');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (entity, rest) = part.split_once(';')?;
        let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let digits = entity.strip_prefix('#')?;
                digits.strip_prefix('x').map_or_else(|| number(digits, 10), |hex| number(hex, 16))?
            }
        });
        out.push_str(rest);
    }
    Some(out)
}

/// A text as it stands in a document.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Route 53 nests six deep.
const DEEPEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_name() {
        let text = "<?xml version=\"1.0\"?>\n<R xmlns=\"https://x/\"><!-- <a> --><L><V a=\"1\">&quot;a &amp; \
                    b&#33;&#x21;&quot;</V><V/></L><T>60</T></R>\n";
        let root = parse(text).unwrap();
        assert_eq!((root.name.as_str(), root.text_of("T")), ("R", Some("60")));
        let values: Vec<_> = root.list("L").iter().map(|value| value.text.as_str()).collect();
        assert_eq!(values, ["\"a & b!!\"", ""]);
        assert_eq!((root.child("X"), root.list("X").len()), (None, 0));
    }

    #[test]
    fn what_is_escaped_comes_back() {
        let text = "\"<a>\" & 'b'\u{7f}";
        assert_eq!(parse(&format!("<V>{}</V>", escaped(text))).unwrap().text, text);
    }

    #[test]
    fn what_is_no_document_is_none() {
        for bad in [
            "",
            "no",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a>&what;</a>",
            "<a>&#x110000;</a>",
            "<a>& </a>",
            "<!DOCTYPE a [<!ENTITY b \"c\">]><a/>",
            "<a/>tail",
            "<a",
            "<>",
            "<!-- ",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&"<a>".repeat(100_000)), None);
    }
}
