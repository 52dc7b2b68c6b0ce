//! Envoy's response flags: why a request ended as it did, in the letters that runbooks and dashboards already know.
//!
//! Set along the request path, shown in the `response_flags` label, the access log and `x-tsunagi-response-flags`.
//! The letters are those of Envoy's access-log documentation (`%RESPONSE_FLAGS%`).

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of response flags. Cheap to copy; empty for a request that nothing happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Flags(u32);

/// Bit position is the index here: the order in which a set is written ("URX,UF").
const LETTERS: [&str; 27] = [
    "URX", "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "NC", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "SI",
    "IH", "DPE", "UPE", "UMSDR", "DT", "OM", "DF", "DR", "DO",
];

impl Flags {
    pub const NONE: Flags = Flags(0);
    /// Retry or connect attempts are used up.
    pub const URX: Flags = Flags(1);
    /// The local health check failed.
    pub const LH: Flags = Flags(1 << 1);
    /// No healthy endpoint.
    pub const UH: Flags = Flags(1 << 2);
    /// The upstream request timed out.
    pub const UT: Flags = Flags(1 << 3);
    /// Reset by this proxy.
    pub const LR: Flags = Flags(1 << 4);
    /// Reset by the upstream.
    pub const UR: Flags = Flags(1 << 5);
    /// The connection to the upstream failed.
    pub const UF: Flags = Flags(1 << 6);
    /// The upstream closed the connection.
    pub const UC: Flags = Flags(1 << 7);
    /// A limit of the connection pool is reached (overflow).
    pub const UO: Flags = Flags(1 << 8);
    /// No route.
    pub const NR: Flags = Flags(1 << 9);
    /// The route's cluster does not exist.
    pub const NC: Flags = Flags(1 << 10);
    /// A delay was injected.
    pub const DI: Flags = Flags(1 << 11);
    /// A fault was injected.
    pub const FI: Flags = Flags(1 << 12);
    /// Rate limited here.
    pub const RL: Flags = Flags(1 << 13);
    /// Refused by external authorisation.
    pub const UAEX: Flags = Flags(1 << 14);
    /// The rate-limit service failed.
    pub const RLSE: Flags = Flags(1 << 15);
    /// The downstream closed the connection.
    pub const DC: Flags = Flags(1 << 16);
    /// The stream was idle for too long.
    pub const SI: Flags = Flags(1 << 17);
    /// A header of the request was refused.
    pub const IH: Flags = Flags(1 << 18);
    /// The downstream broke its protocol.
    pub const DPE: Flags = Flags(1 << 19);
    /// The upstream broke its protocol.
    pub const UPE: Flags = Flags(1 << 20);
    /// The stream lasted longer than it may.
    pub const UMSDR: Flags = Flags(1 << 21);
    /// The connection lasted longer than it may.
    pub const DT: Flags = Flags(1 << 22);
    /// Refused under overload of this proxy.
    pub const OM: Flags = Flags(1 << 23);
    /// The name could not be resolved.
    pub const DF: Flags = Flags(1 << 24);
    /// Reset by the downstream.
    pub const DR: Flags = Flags(1 << 25);
    /// Dropped by a drop-overload policy.
    pub const DO: Flags = Flags(1 << 26);

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every flag of `other` is set here.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn union(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub fn insert(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    pub fn remove(&mut self, other: Flags) {
        self.0 &= !other.0;
    }
}

impl BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        self.union(other)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.insert(other);
    }
}

/// `URX,UF`; empty for none (the access log writes `-` there).
impl fmt::Display for Flags {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (bit, letters) in LETTERS.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(out, "{separator}{letters}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combined_flags_are_written_with_the_exhausted_retry_first() {
        assert_eq!((Flags::UF | Flags::URX).to_string(), "URX,UF");
        assert_eq!(Flags::NONE.to_string(), "");
    }

    #[test]
    fn every_flag_has_its_own_letters() {
        let named = [
            (Flags::NR, "NR"),
            (Flags::NC, "NC"),
            (Flags::UH, "UH"),
            (Flags::UF, "UF"),
            (Flags::UO, "UO"),
            (Flags::UT, "UT"),
            (Flags::UC, "UC"),
            (Flags::UR, "UR"),
            (Flags::URX, "URX"),
            (Flags::DC, "DC"),
            (Flags::LR, "LR"),
            (Flags::LH, "LH"),
            (Flags::DPE, "DPE"),
            (Flags::UPE, "UPE"),
            (Flags::DI, "DI"),
            (Flags::FI, "FI"),
            (Flags::RL, "RL"),
            (Flags::UAEX, "UAEX"),
            (Flags::RLSE, "RLSE"),
            (Flags::SI, "SI"),
            (Flags::IH, "IH"),
            (Flags::UMSDR, "UMSDR"),
            (Flags::DT, "DT"),
            (Flags::OM, "OM"),
            (Flags::DF, "DF"),
            (Flags::DR, "DR"),
            (Flags::DO, "DO"),
        ];
        for (flag, letters) in named {
            assert_eq!(flag.to_string(), letters);
        }
        assert_eq!(named.len(), LETTERS.len());
    }

    #[test]
    fn a_set_contains_what_was_put_in_and_nothing_else() {
        let mut flags = Flags::NONE;
        flags |= Flags::UO;
        assert!(flags.contains(Flags::UO) && !flags.contains(Flags::UF) && !flags.contains(Flags::UO | Flags::UF));
        flags.remove(Flags::UO);
        assert!(flags.is_empty());
    }
}
