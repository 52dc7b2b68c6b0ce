//! Tests of what heads say about upgrades.
