//! Tests of worlds.
