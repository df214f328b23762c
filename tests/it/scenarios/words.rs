//! The words of a step, and what they mean: names, times, ages.

use certfleet::model::desired::KeyType;
use certfleet::model::problem::Retry;
use certfleet::model::state::Failure;
use jiff::{SignedDuration, Timestamp};

use crate::facts;

/// The words of one step, taken one after the other.
pub(super) struct Words<'a> {
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.split_whitespace().rev().collect() }
    }

    pub(super) fn peek(&self) -> Option<&'a str> {
        self.rest.last().copied()
    }

    pub(super) fn next(&mut self) -> Result<&'a str, String> {
        self.rest.pop().ok_or_else(|| "something is missing at the end".to_owned())
    }

    pub(super) fn eat(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        if found {
            self.rest.pop();
        }
        found
    }

    pub(super) fn expect(&mut self, word: &str) -> Result<(), String> {
        let found = self.next()?;
        if found == word { Ok(()) } else { Err(format!("`{word}` expected in place of `{found}`")) }
    }

    pub(super) fn end(&self) -> Result<(), String> {
        self.peek().map_or(Ok(()), |word| Err(format!("`{word}` is too much")))
    }

    pub(super) fn parse_text<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        word: &str,
    ) -> Result<T, String> {
        word.parse().map_err(|error| format!("`{word}`: {error}"))
    }

    pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self) -> Result<T, String> {
        let word = self.next()?;
        self.parse_text(word)
    }

    /// Names up to the next word of the grammar.
    pub(super) fn list<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self) -> Result<Vec<T>, String> {
        const KEYWORDS: [&str; 10] = [
            "domains",
            "hosts",
            "canary",
            "batch",
            "issuer",
            "key",
            "verify",
            "renew-before",
            "untrusted",
            "from",
        ];
        let mut list = Vec::new();
        while self.peek().is_some_and(|word| !KEYWORDS.contains(&word)) {
            list.push(self.parse()?);
        }
        Ok(list)
    }

    pub(super) fn key(&mut self) -> Result<KeyType, String> {
        match self.next()? {
            "ecdsa-p256" => Ok(KeyType::EcdsaP256),
            "ecdsa-p384" => Ok(KeyType::EcdsaP384),
            "rsa-2048" => Ok(KeyType::Rsa2048),
            other => Err(format!("no key type `{other}`")),
        }
    }

    pub(super) fn age(&mut self) -> Result<SignedDuration, String> {
        let word = self.next()?;
        let age = |unit: char, minutes: i64| {
            word.strip_suffix(unit)?.parse().ok().map(|count: i64| SignedDuration::from_mins(count * minutes))
        };
        age('d', 24 * 60)
            .or_else(|| age('h', 60))
            .or_else(|| age('m', 1))
            .ok_or_else(|| format!("`{word}` is no age"))
    }

    pub(super) fn time(&mut self, now: Timestamp) -> Result<Timestamp, String> {
        match self.peek() {
            Some("now") => self.next().map(|_| now),
            Some("in") => {
                self.next()?;
                Ok(now + self.age()?)
            }
            Some(day) if day.contains('-') => {
                self.next()?;
                let clock = self.next()?;
                format!("{day}T{clock}:00Z").parse().map_err(|error| format!("`{day} {clock}`: {error}"))
            }
            _ => {
                let age = self.age()?;
                self.expect("ago")?;
                Ok(now - age)
            }
        }
    }

    pub(super) fn failure(
        &mut self,
        code: &str,
        revision: String,
        now: Timestamp,
    ) -> Result<Failure, String> {
        self.expect("failed")?;
        let count = self.parse()?;
        self.expect("times")?;
        self.expect("last")?;
        let last = self.time(now)?;
        let retry = if self.eat("retry") {
            Retry::NotBefore(self.time(now)?)
        } else if self.eat("until") {
            self.expect("changed")?;
            Retry::AfterChange
        } else {
            Retry::Backoff
        };
        Ok(Failure { count, first: last, last, problem: facts::problem(code, retry), revision })
    }
}
