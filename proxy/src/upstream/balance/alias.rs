//! Draws by weight that take the same time whatever the number of endpoints: Walker's alias method, with the table made as
//! Vose does ("A Linear Algorithm For Generating Random Numbers With a Given Distribution", 1991). Called by `balance`.

/// Uniform in `0..bound`; `bound` is not 0.
pub(in crate::upstream) fn below(random: u64, bound: usize) -> usize {
    ((u128::from(random) * bound as u128) >> 64) as usize
}

/// Of every place: how likely it stays where it was drawn, and the place that is meant otherwise. 16 bytes an endpoint.
#[derive(Debug)]
pub(in crate::upstream) struct AliasTable {
    columns: Box<[Column]>,
}

#[derive(Debug, Clone, Copy)]
struct Column {
    /// Of 2^64.
    stays: u64,
    alias: u32,
}

impl AliasTable {
    /// `None` where the weights are equal: nothing but the number of places matters.
    pub fn of(weights: &[u32]) -> Option<Self> {
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return None;
        }
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        let mean = total / weights.len() as f64;
        let mut rest: Vec<f64> = weights.iter().map(|weight| f64::from(*weight) / mean).collect();
        let mut columns: Vec<_> = (0..weights.len() as u32)
            .map(|place| Column {
                stays: u64::MAX,
                alias: place,
            })
            .collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..rest.len()).partition(|place| rest[*place] < 1.0);
        while let (Some(less), Some(more)) = (small.pop(), large.last().copied()) {
            columns[less] = Column {
                stays: (rest[less] * 2f64.powi(64)) as u64,
                alias: more as u32,
            };
            rest[more] -= 1.0 - rest[less];
            if rest[more] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        Some(Self {
            columns: columns.into(),
        })
    }

    pub fn draw(&self, random: u64) -> usize {
        // The integer part is the column; the fraction, uniform as well, says whether it stays.
        let point = u128::from(random) * self.columns.len() as u128;
        let place = (point >> 64) as usize;
        match self.columns.get(place) {
            Some(column) if (point as u64) >= column.stays => column.alias as usize,
            _ => place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_drawn_as_often_as_its_weight_says() {
        let weights = [1, 2, 3, 10, 84];
        let table = AliasTable::of(&weights).unwrap();
        let mut counts = [0u32; 5];
        // Evenly spread numbers in place of random ones: the shares are exact but for the steps between them.
        const DRAWS: u64 = 1_000_000;
        for step in 0..DRAWS {
            counts[table.draw(step * (u64::MAX / DRAWS))] += 1;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            assert!(count.abs_diff(weight * 10_000) <= 10, "{counts:?}");
        }
    }

    #[test]
    fn extreme_weights_keep_their_shares_and_no_place_is_out_of_reach() {
        let table = AliasTable::of(&[u32::MAX, 1, 1]).unwrap();
        assert_eq!((table.draw(0), table.draw(u64::MAX / 2)), (0, 0));
        assert!(
            [0, 1, u64::MAX / 3, u64::MAX - 1, u64::MAX]
                .into_iter()
                .all(|random| table.draw(random) < 3)
        );
        assert!(AliasTable::of(&[]).is_none() && AliasTable::of(&[7, 7]).is_none());
    }
}
