//! `[daemon] listen`.
