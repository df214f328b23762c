//! Beside a timer and a person.
