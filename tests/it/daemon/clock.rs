//! Clocks that jump.
