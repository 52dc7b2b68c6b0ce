//! How far a fair split may be from its share: exact binomial tails, summed in logarithms. Called by the split tests.

/// The range that a count of `n` draws with probability `p` leaves with probability at most `alpha` (half on each side).
pub fn binomial_bounds(n: u64, p: f64, alpha: f64) -> (u64, u64) {
    let odds = (p / (1.0 - p)).ln();
    let mut log = n as f64 * (1.0 - p).ln();
    let mass: Vec<f64> = (0..=n)
        .map(|k| {
            let mass = log.exp();
            log += ((n - k) as f64 / (k + 1) as f64).ln() + odds;
            mass
        })
        .collect();
    (tail(mass.iter(), alpha / 2.0), n - tail(mass.iter().rev(), alpha / 2.0))
}

/// How many outcomes fit below the tail's probability.
fn tail<'a>(mass: impl Iterator<Item = &'a f64>, limit: f64) -> u64 {
    let mut sum = 0.0;
    let within = |mass: &&f64| {
        sum += **mass;
        sum <= limit
    };
    mass.take_while(within).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_a_fair_coin_are_the_known_ones() {
        // R: qbinom(0.025, 100, 0.5) = 40, qbinom(0.975, 100, 0.5) = 60.
        assert_eq!(binomial_bounds(100, 0.5, 0.05), (40, 60));
        assert_eq!(binomial_bounds(10, 0.5, 0.0), (0, 10));
    }

    #[test]
    fn twenty_thousand_draws_at_a_tenth_stay_within_five_sigma() {
        let (low, high) = binomial_bounds(20_000, 0.1, 1e-6);
        assert!(
            (1785..1800).contains(&low) && (2205..2220).contains(&high),
            "{low}..{high}"
        );
    }
}
