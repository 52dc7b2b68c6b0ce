//! `Upgrade: h2c` (RFC 7540, 3.2), as curl asks for it.
