//! When a look at the folder is acted on: once it was seen twice in a row, so that a save or a checkout in progress never
//! is. Pure; called by `folder` with each digest it sees.

/// How the last content that was acted on stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    InForce,
    /// Nothing in force is from it. What else is stored can be the reason, so another revision is another chance.
    Refused {
        revision: u64,
    },
    /// The store could not be written, say: every look is another chance.
    Failed,
}

/// Remembers the content that was acted on and the one that may be next.
#[derive(Debug, Default)]
pub(super) struct Steady {
    acted: Option<(u128, Standing)>,
    next: Option<u128>,
}

impl Steady {
    /// Whether the content that was just seen is to be acted on now.
    pub(super) fn is_due(&mut self, digest: u128, revision: u64) -> bool {
        if let Some((acted, standing)) = self.acted
            && acted == digest
        {
            self.next = None;
            return match standing {
                Standing::InForce => false,
                Standing::Refused { revision: then } => then != revision,
                Standing::Failed => true,
            };
        }
        self.next.replace(digest) == Some(digest)
    }

    /// It was acted on.
    pub(super) fn acted(&mut self, digest: u128, standing: Standing) {
        self.acted = Some((digest, standing));
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u128 = 1;
    const B: u128 = 2;

    fn in_force(digest: u128) -> Steady {
        let mut steady = Steady::default();
        steady.acted(digest, Standing::InForce);
        steady
    }

    #[test]
    fn a_change_is_due_when_it_is_seen_twice_in_a_row() {
        let mut steady = in_force(A);
        assert!(!steady.is_due(A, 1));
        assert!(!steady.is_due(B, 1));
        assert!(steady.is_due(B, 1));
    }

    #[test]
    fn what_is_different_at_every_look_or_goes_back_is_never_due() {
        let mut steady = in_force(A);
        for digest in 10..100 {
            assert!(!steady.is_due(digest, 1));
        }
        for _ in 0..10 {
            assert!(!steady.is_due(B, 1));
            assert!(!steady.is_due(A, 1));
        }
    }

    #[test]
    fn what_was_refused_is_due_again_only_at_another_revision() {
        let mut steady = in_force(A);
        steady.acted(B, Standing::Refused { revision: 4 });
        assert!(!steady.is_due(B, 4));
        assert!(steady.is_due(B, 5));
    }

    #[test]
    fn what_failed_is_due_at_every_look() {
        let mut steady = in_force(A);
        steady.acted(B, Standing::Failed);
        assert!(steady.is_due(B, 4));
        assert!(steady.is_due(B, 4));
    }
}
