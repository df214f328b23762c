//! Other people's parsers read what is rendered.
