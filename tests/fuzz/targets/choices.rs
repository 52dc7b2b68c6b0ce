//! Bytes read as choices, so that whoever varies the bytes varies what is chosen. Called by `decision`.

/// Once the bytes are used up, every choice is the first.
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    pub fn used_up(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound.max(1)
    }

    pub fn once_in(&mut self, times: u8) -> bool {
        // Not what is chosen when there is nothing left.
        self.below(times) == times - 1
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    /// Of few letters, so that texts share starts.
    pub fn text(&mut self, longest: u8) -> String {
        let length = self.below(longest + 1);
        (0..length)
            .map(|_| self.of(&['a', 'b', '/', 'a', 'b', '/', 'A', 'é', '1', '-']))
            .collect()
    }
}
