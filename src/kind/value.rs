//! The values that keys of certs.toml have.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;

use jiff::SignedDuration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Context, Remedy, absolute, quoted};
use crate::model::desired::Margin;

/// A value as it stands in the file.
pub struct Item<'a> {
    /// The key it belongs to.
    pub key: Cow<'a, str>,
    /// Its place.
    pub at: Range<usize>,
    /// What it is.
    pub value: DeValue<'a>,
    /// Where mistakes go.
    pub context: &'a Context<'a>,
    in_list: bool,
}

/// Why a text is not taken, and what to write in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: String,
    /// What to do.
    pub remedy: Remedy,
}

impl Refusal {
    /// A refusal with a hint.
    pub fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { why: why.into(), remedy: Remedy::Hint(hint.into()) }
    }
}

impl<'a> Item<'a> {
    /// The value of `key`.
    pub fn new(key: impl Into<Cow<'a, str>>, value: Spanned<DeValue<'a>>, context: &'a Context<'a>) -> Self {
        Self { key: key.into(), at: value.span(), value: value.into_inner(), context, in_list: false }
    }

    /// Records that the value is of the wrong type.
    pub fn mismatch<T>(&self, expected: &str, example: &str) -> Option<T> {
        let subject =
            if self.in_list { format!("each of `{}`", self.key) } else { format!("`{}`", self.key) };
        let found = match self.value.type_str() {
            found @ ("integer" | "array") => format!("an {found}"),
            found => format!("a {found}"),
        };
        let hint =
            if self.in_list { format!("as {example}") } else { format!("as in `{} = {example}`", self.key) };
        self.context.mistake(
            self.at.clone(),
            format!("{subject} must be {expected}, not {found}"),
            Remedy::Hint(hint),
        );
        None
    }

    /// Records that the value, shown as `text`, is not taken.
    pub fn refuse<T>(&self, text: &str, refusal: Refusal) -> Option<T> {
        let verb = if self.in_list { "contain" } else { "be" };
        self.context.mistake(
            self.at.clone(),
            format!("`{}` cannot {verb} {text}: {}", self.key, refusal.why),
            refusal.remedy,
        );
        None
    }

    /// A text that `parse` makes into something.
    pub fn parsed<T>(self, example: &str, parse: impl FnOnce(&str) -> Result<T, Refusal>) -> Option<T> {
        let DeValue::String(text) = &self.value else { return self.mismatch("a string", example) };
        match parse(text) {
            Ok(value) => Some(value),
            Err(refusal) => self.refuse(&quoted(text), refusal),
        }
    }

    /// The elements of a list.
    pub fn items(self, example: &str) -> Option<Vec<Self>> {
        match self.value {
            DeValue::Array(list) => Some(
                list.into_iter()
                    .map(|value| Self { in_list: true, ..Self::new(self.key.clone(), value, self.context) })
                    .collect(),
            ),
            DeValue::String(ref text) => {
                let example = format!("[{}]", quoted(text));
                self.mismatch("a list", &example)
            }
            _ => self.mismatch("a list", &format!("[{example}]")),
        }
    }

    /// The entries of a table.
    pub fn table(self) -> Option<DeTable<'a>> {
        match self.value {
            DeValue::Table(table) => Some(table),
            _ => self.mismatch("a table", "{ … }"),
        }
    }

    fn integer(&self) -> Option<i64> {
        let DeValue::Integer(number) = &self.value else { return None };
        // What does not fit is far outside every range that is asked for.
        Some(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX))
    }
}

/// What a key can have as its value.
pub trait Value: Sized {
    /// Reads the value, or records what is wrong with it.
    fn read(item: Item<'_>) -> Option<Self>;
}

impl<T: Value> Value for Spanned<T> {
    fn read(item: Item<'_>) -> Option<Self> {
        let at = item.at.clone();
        T::read(item).map(|value| Self::new(at, value))
    }
}

/// A list; elements that are wrong are recorded and left out.
impl<T: Value> Value for Vec<T> {
    fn read(item: Item<'_>) -> Option<Self> {
        Some(item.items("\"…\"")?.into_iter().filter_map(T::read).collect())
    }
}

/// A value, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMore<T>(pub Vec<T>);

impl<T: Value> Value for OneOrMore<T> {
    fn read(item: Item<'_>) -> Option<Self> {
        match &item.value {
            DeValue::Array(list) if list.is_empty() => {
                item.refuse("empty", Refusal::new("then nothing is asked for", "remove the key or name one"))
            }
            DeValue::Array(_) => Vec::read(item).map(Self),
            _ => T::read(item).map(|value| Self(vec![value])),
        }
    }
}

impl Value for bool {
    fn read(item: Item<'_>) -> Option<Self> {
        match item.value {
            DeValue::Boolean(flag) => Some(flag),
            _ => item.mismatch("true or false", "true"),
        }
    }
}

impl Value for String {
    fn read(item: Item<'_>) -> Option<Self> {
        match item.value {
            DeValue::String(text) => Some(text.into_owned()),
            _ => item.mismatch("a string", "\"…\""),
        }
    }
}

/// A port.
impl Value for u16 {
    fn read(item: Item<'_>) -> Option<Self> {
        let Some(number) = item.integer() else { return item.mismatch("a whole number", "22") };
        match Self::try_from(number) {
            Ok(port) if port > 0 => Some(port),
            _ => item
                .refuse(&number.to_string(), Refusal::new("ports go from 1 to 65535", "as in `port = 22`")),
        }
    }
}

impl Value for PathBuf {
    fn read(item: Item<'_>) -> Option<Self> {
        let base = item.context.base();
        item.parsed("\"/etc/certfleet/…\"", |text| absolute(base, text))
    }
}

impl Value for SignedDuration {
    fn read(item: Item<'_>) -> Option<Self> {
        if item.integer().is_some() {
            return item.mismatch("a duration with its unit", "\"30d\"");
        }
        item.parsed("\"30d\"", duration)
    }
}

impl Value for Margin {
    fn read(item: Item<'_>) -> Option<Self> {
        if matches!(item.value, DeValue::Integer(_) | DeValue::Float(_)) {
            return item.mismatch("a duration or a fraction of the life", "\"30d\"` or `\"33%\"");
        }
        item.parsed("\"30d\"", |text| match text.strip_suffix('%') {
            Some(number) => percent(number).map(Self::Fraction),
            None => match duration(text)? {
                time if time.is_zero() => {
                    Err(Refusal::new("a certificate is renewed before its end", "as in \"30d\" or \"33%\""))
                }
                time => Ok(Self::Time(time)),
            },
        })
    }
}

/// Reads a duration such as `30d`, `12h`, `1d12h`; never negative.
pub fn duration(text: &str) -> Result<SignedDuration, Refusal> {
    const UNITS: [(char, i64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
    const EXAMPLES: &str = "as in \"30d\", \"12h\", \"15m\", \"90s\", \"1w\" or \"1d12h\"";
    let refuse = |why: &str| Refusal::new(why, EXAMPLES);
    if text.starts_with('-') {
        return Err(refuse("a duration is not negative"));
    }
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        return Err(refuse("its unit is missing"));
    }
    let mut rest = text;
    let mut units = &UNITS[..];
    let mut seconds = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next();
        let place = unit.and_then(|unit| units.iter().position(|(letter, _)| *letter == unit));
        let (Some(place), false) = (place, number.is_empty()) else {
            return Err(refuse("it is not a duration"));
        };
        seconds = number
            .parse::<i64>()
            .ok()
            .and_then(|number| number.checked_mul(units[place].1))
            .and_then(|part| seconds.checked_add(part))
            // Whoever writes more means something else; and sums with dates stay in range.
            .filter(|seconds| *seconds <= 100 * 365 * 86_400)
            .ok_or_else(|| refuse("it is longer than 100 years"))?;
        units = &units[place + 1..];
        rest = &tail[1..];
    }
    if text.is_empty() {
        return Err(refuse("it is empty"));
    }
    Ok(SignedDuration::from_secs(seconds))
}

fn percent(number: &str) -> Result<f64, Refusal> {
    let refusal = || Refusal::new("a fraction is above 0% and below 100%", "as in \"33%\"");
    let plain_digits = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let percent: f64 = number.parse().ok().filter(|_| plain_digits).ok_or_else(refusal)?;
    if percent > 0.0 && percent < 100.0 { Ok(percent / 100.0) } else { Err(refusal()) }
}

/// Reads an IP address with a port, `port` where none is written; IPv6 with a port in brackets.
pub fn address(text: &str, port: u16) -> Result<SocketAddr, Refusal> {
    let read = match text.parse::<SocketAddr>() {
        Ok(address) => Some(address),
        Err(_) => {
            let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
            bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port))
        }
    };
    let hint = format!("as in \"192.0.2.1:{port}\" or \"[2001:db8::1]:{port}\"");
    match read {
        Some(address) if address.port() == 0 => Err(Refusal::new("port 0 is no port", hint)),
        Some(address) => Ok(address),
        None => Err(Refusal::new("it is not an IP address", hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, seconds) in [
            ("30d", 2_592_000),
            ("12h", 43_200),
            ("15m", 900),
            ("90s", 90),
            ("1w", 604_800),
            ("1d12h", 129_600),
        ] {
            assert_eq!(duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        for bad in [
            "",
            "30",
            "-1d",
            "1.5d",
            "d",
            "1h1d",
            "1d1d",
            "1d 12h",
            "30 d",
            "1M",
            "1y",
            "nan",
            "inf",
            "1d12",
            "99999999999999999999d",
            "9999999w",
            "１d",
            "1µ",
            "\0",
        ] {
            assert!(duration(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn fractions_are_between_the_ends() {
        assert_eq!(percent("33"), Ok(0.33));
        assert_eq!(percent("0.5"), Ok(0.005));
        for bad in ["", "0", "100", "-5", "nan", "inf", "1e1", "+3", "3 ", "1.2.3"] {
            assert!(percent(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn addresses_have_a_port() {
        assert_eq!(address("192.0.2.1", 53).unwrap().to_string(), "192.0.2.1:53");
        assert_eq!(address("192.0.2.1:5353", 53).unwrap().to_string(), "192.0.2.1:5353");
        assert_eq!(address("2001:db8::1", 53).unwrap().to_string(), "[2001:db8::1]:53");
        assert_eq!(address("[2001:db8::1]", 53).unwrap().to_string(), "[2001:db8::1]:53");
        assert_eq!(address("[2001:db8::1]:54", 53).unwrap().to_string(), "[2001:db8::1]:54");
        for bad in ["", "ns1.example.org", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.256", ":53", "[::1"] {
            assert!(address(bad, 53).is_err(), "{bad:?} was taken");
        }
    }
}
